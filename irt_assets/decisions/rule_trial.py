"""Try different rules or anchors of a scale on a month: its steps run in a transaction that is rolled back.

`scales.scale` changes the rules.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from irt_assets.calibration.group_shift import measure_scale
from irt_assets.calibration.month import FitInputs, link_scale, read_month
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity, some_of
from irt_assets.decisions.anchor_versions import AnchorChange, freeze
from irt_assets.engines import Calibrator
from irt_assets.gates.advisory_checks import ADVISORY_CHECKS
from irt_assets.gates.agreement import read_agreement
from irt_assets.gates.evidence import GateResult, load_evidence
from irt_assets.gates.gates import SET_GATES, item_problems
from irt_assets.ledger.closings import reopen_months
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.responses.closed_months import scales_of_month
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.facts import lookback_start
from irt_assets.responses.proposed_window import propose_snapshot
from irt_assets.responses.snapshot import current_snapshot, lock_month, snapshot_for_scale
from irt_assets.responses.verdicts import days_without_verdicts, judge_day
from irt_assets.scales.scale import RuleChange, Scale, preview_rules, read_scales, write_rules
from irt_psychometrics import ItemParameters, PsychometricsError
from irt_psychometrics.items import ItemRow
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore, ObjectStore
from resources.postgres.database import Database, advisory_lock, database_settings

REPEATED_STEPS = {
    "eligibility": "its answers were judged, fitted and linked again",
    "fit": "it was fitted and linked again",
    "linking": "its stored fit was linked again",
    "publication": "its stored fit was judged again",
    "warnings": "its stored fit was judged again",
}
"""Clauses about the steps that a trial repeats, by the first stage with a changed rule."""


@dataclass(frozen=True)
class TrialResult:
    """The results of a month of a scale.

    Attributes:
        verdicts: results of the set gates and of the advisory checks, by name.
        held: items that an item gate holds back, with the reasons.
        items: the linked parameters, by item; empty if the month is not linked.
        constants: the linking constants, or None if the month is not linked.
    """

    verdicts: dict[str, GateResult]
    held: dict[str, list[str]]
    items: dict[str, ItemRow]
    constants: LinkingConstants | None

    @property
    def may_publish(self) -> bool:
        return all(self.verdicts[gate.name].passed for gate in SET_GATES)

    @property
    def outcome_in_words(self) -> str:
        """A clause that says whether the month would be green, and which gates would hold it."""
        if self.may_publish:
            return f"would be green: all {len(SET_GATES)} set gates pass"
        failed = {gate.name: self.verdicts[gate.name] for gate in SET_GATES if not self.verdicts[gate.name].passed}
        return "would be red: " + "; ".join(f"{name}: {verdict.why}" for name, verdict in failed.items())


@dataclass(frozen=True)
class RuleTrial:
    """A month judged by a scale's rules and by changed rules. Nothing is stored.

    Attributes:
        month: the month.
        change: the change of rules.
        stage: the first stage with a changed rule, a key of `REPEATED_STEPS`.
        before, after: the results by the scale's rules, and by the changed rules.
        seconds: time that the repeated steps took, in seconds.
    """

    month: str
    change: RuleChange
    stage: str
    before: TrialResult
    after: TrialResult
    seconds: float

    @property
    def lines(self) -> Iterator[str]:
        """The comparison, line by line."""
        yield self.change.sentence
        yield f"{self.month}: {REPEATED_STEPS[self.stage]} in {self.seconds:.1f} s; nothing is stored"
        before, after = self.before, self.after
        yield f"set gates: {_count_passed(before)} → {_count_passed(after)}"
        for name, verdict in after.verdicts.items():
            earlier = before.verdicts[name]
            if (earlier.passed, earlier.why) != (verdict.passed, verdict.why):
                yield f"  {name}: {_verdict_in_words(earlier)} → {_verdict_in_words(verdict)}: {verdict.why}"
        yield f"items held back: {len(before.held)} → {len(after.held)}"
        for since, items in (
            ("newly", after.held.keys() - before.held.keys()),
            ("no longer", before.held.keys() - after.held.keys()),
        ):
            if items:
                yield f"  {since}: {some_of(sorted(items), 10)}"
        if (before.items, before.constants) == (after.items, after.constants):
            yield "parameters and linking stay as they are"
            return
        yield f"items fitted: {len(before.items)} → {len(after.items)}"
        for name in ("slope", "intercept"):
            if before.constants and after.constants:
                yield f"{name}: {getattr(before.constants, name):.4f} → {getattr(after.constants, name):.4f}"
        both = sorted(before.items.keys() & after.items.keys())
        if both:
            old, new = (ItemParameters.from_rows(both, map(trial.items.get, both)) for trial in (before, after))
            moved = np.array([new.a - old.a, new.b - old.b])
            farthest = int(np.abs(moved[1]).argmax())
            rms = np.sqrt((moved**2).mean(axis=1))
            yield (
                f"{quantity(len(both), 'item')} in both: a differs by {rms[0]:.4f} and b by {rms[1]:.4f} (root mean "
                f"square); b of {both[farthest]} most, by {moved[1, farthest]:+.4f}"
            )


def _count_passed(judged: TrialResult) -> str:
    return f"{sum(judged.verdicts[gate.name].passed for gate in SET_GATES)} of {len(SET_GATES)} pass"


def _verdict_in_words(verdict: GateResult) -> str:
    return "passes" if verdict.passed else "fails"


def try_rules(
    database: Database,
    store: ObjectStore,
    month: str,
    scale_id: str,
    settings: Mapping[str, Any],
    build: Callable[[str], Calibrator],
) -> RuleTrial:
    """Judge a month by a scale's rules, and by these rules with `settings` changed.

    Other runs of the month wait until the trial ends.

    Parameters
    ----------
    database, store
        The database, and the store of snapshots.
    month, scale_id
        The month and the scale.
    settings
        Rules to change, by name.
    build
        Function that returns an engine by its name.

    Returns
    -------
    RuleTrial
        The results with both sets of rules.

    Raises
    ------
    PermanentFailure
        If the month has no snapshot. Errors of `preview_rules` are raised, too.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        database.connect() as connection,
        connection.transaction(force_rollback=True),
    ):
        if current_snapshot(connection, month) is None:
            raise PermanentFailure(f"{month} has no snapshot: `irt calibrate --month {month}` first")
        change = preview_rules(connection, scale_id, settings)
        before = _judge(connection, store, month, scale_id)
        began, files = time.perf_counter(), store
        stage = next((candidate for candidate in change.stages if candidate != "answers"), "warnings")
        write_rules(connection, scale_id, change.after.rules)
        if stage == "eligibility":
            reopen_months(connection, read_closed(connection, [month]), by="trial", reason="a rule is tried")
            files = FolderStore(Path(folder))
            lock_month(connection, month)
            propose_snapshot(connection, files, month)
        scale = scales_of_month(connection, month)[scale_id]
        if stage in ("eligibility", "fit"):
            _fit(connection, files, store, month, scale, build)
        if stage in ("eligibility", "fit", "linking"):
            _link(connection, scale, month)
        after = _judge(connection, files, month, scale_id)
        return RuleTrial(month, change, stage, before, after, time.perf_counter() - began)


def _fit(
    connection: psycopg.Connection,
    files: ObjectStore,
    store: ObjectStore,
    month: str,
    scale: Scale,
    build: Callable[[str], Calibrator],
) -> None:
    """Fit the month's current snapshot, which is in `files`, and stage the fit or its error."""
    start = Month(month).start
    for day in days_without_verdicts(connection, lookback_start(start, {scale.scale_id: scale}), start):
        judge_day(connection, day)
    snapshot = snapshot_for_scale(connection, month, scale.scale_id)
    assert snapshot is not None
    table = read_month(database_settings(connection), files, snapshot)
    inputs = FitInputs.from_database(connection, files, scale, snapshot, table)
    explained = (PsychometricsError, PermanentFailure)
    attempt = inputs.fit(scale.engine, lambda: build(scale.engine), explained, store)
    advisory_lock(connection, "item_calibration", month)
    attempt.stage(connection, None)


def _link(connection: psycopg.Connection, scale: Scale, month: str) -> None:
    """Link the month's fits of a scale and measure the anchors' shift. If linking fails, the gates report it."""
    advisory_lock(connection, "linked_item_parameters", month)
    with contextlib.suppress(PermanentFailure):
        own, *_ = link_scale(connection, scale, month, None)
        if own.error is None:
            measure_scale(connection, read_scales(connection, Month(month).start)[scale.scale_id], month)


def try_anchors(database: Database, store: ObjectStore, change: AnchorChange) -> dict[str, str]:
    """Test whether the months that an anchor change makes stale would be green after it.

    The stored fit of each month is linked again and judged. Other runs of these months wait until the trial ends.
    Returns a clause for each month, oldest first.
    """
    found = {}
    with database.connect() as connection, connection.transaction(force_rollback=True):
        freeze(connection, change)
        for month in change.stale:
            try:
                _link(connection, scales_of_month(connection, month)[change.scale_id], month)
                found[month] = _judge(connection, store, month, change.scale_id).outcome_in_words
            except PermanentFailure as failure:
                found[month] = f"cannot be judged: {failure}"
    return found


def _judge(connection: psycopg.Connection, store: ObjectStore, month: str, scale_id: str) -> TrialResult:
    scale = scales_of_month(connection, month)[scale_id]
    evidence = load_evidence(connection, month, scale, store)
    verdicts = {gate.name: gate.judge(evidence) for gate in (*SET_GATES, *ADVISORY_CHECKS)}
    agreement = read_agreement(connection, month, scale)
    verdicts["engines_agree"] = GateResult(agreement.agrees, agreement.sentence)
    fit = evidence.on_the_scale
    problems = {item: item_problems(fitted, scale.rules) for item, fitted in fit.items.items()} if fit else {}
    return TrialResult(
        verdicts,
        {item: found for item, found in problems.items() if found},
        fit.values if fit else {},
        fit.constants if fit else None,
    )
