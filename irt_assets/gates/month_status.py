"""The state of each month and scale, from the verdict on it and from later changes.

No gate is evaluated here: their results are in `ledger.month_verdicts`. Dagster only tells which months are running.
The dot that it shows on a checked asset stays green when a check fails. `month_classification` classifies the evidence.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import dagster as dg
import psycopg

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import Month, month_of
from irt_assets.common.run_progress import partitions_under_way
from irt_assets.gates.gates import SET_GATES, gate_rules
from irt_assets.gates.month_classification import (
    MONTHLY_ASSETS,
    SCORED,
    GateStatus,
    MonthEvidence,
    MonthState,
    Newer,
    classify_month,
    first_newer,
)
from irt_assets.ledger.fits import changed_scored_items, settings_difference
from irt_assets.ledger.month_state import (
    FitInUse,
    LatestAttempt,
    MonthAndEngine,
    find_reference_window,
    fits_in_use,
    latest_attempt,
    latest_attempts,
)
from irt_assets.ledger.month_verdicts import NOTHING_JUDGED, MonthVerdict, read_verdicts
from irt_assets.ledger.origin_fit import origin_windows
from irt_assets.ledger.overview import decisions_since
from irt_assets.responses.closed_months import scales_of_months
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.open_months import scales_with_changed_verdicts
from irt_assets.responses.snapshot import Snapshot, current_snapshots, settings_differ, snapshots_by_hash
from irt_assets.scales.scale import Scale
from irt_assets.scales.scored_models import ModelInBank, models_in_bank
from irt_psychometrics import PsychometricsError
from resources.cluster.relational import lake
from resources.postgres.database import Database, first_column


def month_states(database: Database, instance: dg.DagsterInstance, months: Iterable[str]) -> list[MonthState]:
    """Determine the state of every given month on every scale, with the runs that are under way."""
    running = unsettled_months(instance)
    with database.connect() as connection:
        return ledger_states(connection, [*months], running)


def ledger_states(
    connection: psycopg.Connection, months: Collection[str], running: Collection[str] = ()
) -> list[MonthState]:
    """Determine the state of every given month on every scale, from the tables alone.

    The number of queries does not depend on the number of months, except for months that are their own reference for
    misfit, and months whose answers have changed since they closed for some of their scales. `running`: months with a
    run that is queued or under way.
    """
    facts = _Facts.read(connection, months)
    return [
        facts.state(connection, month, scale, is_running=month in running)
        for month, scales in facts.scales.items()
        for scale in scales.values()
    ]


def gate_statuses(verdict: MonthVerdict) -> dict[str, GateStatus]:
    """List the results of the set gates by name. A gate that was not judged has the reason why not."""
    is_old = verdict.step is not None and not verdict.gates
    why = "an earlier release judged it and kept no results: materialise the month again" if is_old else "not evaluated"
    return {
        gate.name: GateStatus(judged.passed, judged.why, gate.asset)
        if (judged := verdict.gates.get(gate.name))
        else GateStatus(None, why, gate.asset)
        for gate in SET_GATES
    }


@dataclass(frozen=True)
class _Facts:
    """The rows from which the states of some months follow.

    Attributes:
        scales: the scales as they apply to each month, by month and id.
        snapshots, verdicts: by month and scale.
        attempts, linked: the latest attempts and the fits in use, by month, scale and engine.
        in_bank: the models that the bank names for items of scored scales, by scale.
        decided: decisions since the month was judged, in words, by month and scale.
        other_verdicts: the scales on which the verdicts on a month's answers have changed, by month.
        answered: the months with answers in the log, among months whose snapshot does not tell it.
        origins: start and end of each scale's origin window.
    """

    scales: Mapping[str, Mapping[str, Scale]]
    snapshots: Mapping[tuple[str, str], Snapshot | None]
    verdicts: Mapping[tuple[str, str], MonthVerdict]
    attempts: Mapping[MonthAndEngine, LatestAttempt]
    linked: Mapping[MonthAndEngine, FitInUse]
    in_bank: Mapping[str, dict[str, ModelInBank]]
    decided: Mapping[tuple[str, str], str]
    other_verdicts: Mapping[str, set[str]]
    answered: Collection[str]
    origins: Mapping[str, tuple[datetime, datetime]]

    @classmethod
    def read(cls, connection: psycopg.Connection, months: Collection[str]) -> Self:
        scales = scales_of_months(connection, months)
        scored = {scale_id for of_month in scales.values() for scale_id, scale in of_month.items() if scale.scored}
        snapshots, other_verdicts = _snapshots(connection, scales), scales_with_changed_verdicts(connection, months)
        not_scored = {
            month for (month, _), snapshot in snapshots.items() if snapshot is None or month in other_verdicts
        }
        return cls(
            scales=scales,
            snapshots=snapshots,
            verdicts=read_verdicts(connection, months),
            attempts=latest_attempts(connection, months),
            linked=fits_in_use(connection, months),
            in_bank={scale_id: models_in_bank(connection, scale_id) for scale_id in scored},
            decided=decisions_since(connection, [*months]),
            other_verdicts=other_verdicts,
            answered=_months_with_answers(connection, not_scored) if not_scored else (),
            origins=origin_windows(connection),
        )

    def state(self, connection: psycopg.Connection, month: str, scale: Scale, *, is_running: bool) -> MonthState:
        scale_id = scale.scale_id
        snapshot = self.snapshots[month, scale_id]
        verdict = self.verdicts.get((month, scale_id), NOTHING_JUDGED)
        has_answers = month in self.answered
        if snapshot and scale_id not in self.other_verdicts.get(month, ()):
            has_answers = snapshot.has_attempts(scale_id)
        failure = self._failure(month, scale, snapshot) if snapshot else None
        return classify_month(
            month,
            scale_id,
            MonthEvidence(
                gates=self._gates(month, scale, verdict, failure),
                step=verdict.step,
                changed=self._newer(connection, month, scale, snapshot) if snapshot else None,
                running=is_running,
                answers="none" if not has_answers else "scored" if snapshot else "unscored",
                was_fitted=self._attempt(month, scale) is not None,
                failure=failure,
                drift_begins=_drift_begins(month, self.origins.get(scale_id)),
            ),
        )

    def _attempt(self, month: str, scale: Scale) -> LatestAttempt | None:
        return self.attempts.get(MonthAndEngine(month, scale.scale_id, scale.engine))

    def _failure(self, month: str, scale: Scale, snapshot: Snapshot) -> str | None:
        """Why the month could not be fitted or linked. A missing origin comes first, as more answers would not help."""
        if not scale.initialised:
            return str(no_origin_error(scale, month))
        staged = self._attempt(month, scale)
        return staged.error if staged and staged.snapshot_hash == snapshot.snapshot_hash else None

    def _gates(self, month: str, scale: Scale, verdict: MonthVerdict, failure: str | None) -> dict[str, GateStatus]:
        """Select the results that count: only results of the latest attempt if it failed, otherwise all results.

        A gate without a result is one that nobody has evaluated yet, unless the month has reached its publication step:
        then it is newer than the month's results.
        """
        staged = self._attempt(month, scale)
        found = {}
        for name, status in gate_statuses(verdict).items():
            judged = verdict.gates.get(name)
            if judged and failure and staged and judged.asset != SCORED and judged.fit_id != staged.fit_id:
                found[name] = GateStatus(None, "not evaluated", judged.asset)
            elif judged or failure or verdict.step is None:
                found[name] = status
        return found

    def _newer(self, connection: psycopg.Connection, month: str, scale: Scale, snapshot: Snapshot) -> Newer | None:
        """Find why the month of the scale is stale, by `QUESTIONS`."""
        scale_id = scale.scale_id
        verdict = self.verdicts.get((month, scale_id), NOTHING_JUDGED)
        staged, linked = self._attempt(month, scale), self.linked.get(MonthAndEngine(month, scale_id, scale.engine))
        has_other_answers = scale_id in self.other_verdicts.get(month, ())
        found: dict[str, str | None] = {
            "other_answers": "its answers have changed since" if has_other_answers else None,
            "other_anchors": self.decided.get((month, scale_id)),
            "other_limits": _other_limits(verdict, scale),
        }
        if settings_differ(snapshot.rules.get(scale_id, {}), scale.rules, "eligibility"):
            found["other_eligibility"] = "the scale's settings have changed since"
        if staged is not None:
            found |= _why_fit_again(connection, staged, snapshot, scale, self.in_bank.get(scale_id, {}))
        if linked is not None:
            if staged is not None and linked.fit_id != staged.fit_id:
                found["fitted_alone"] = "it was fitted again, but not linked since"
            if settings_differ(linked.rules, scale.rules, "linking"):
                found["other_linking"] = "the scale's settings have changed since it was linked"
            if verdict.step is not None and verdict.step.fit_id != linked.fit_id:
                found["linked_alone"] = "it was linked again, but its publication step has not run since"
        for engine in scale.rules.publication.demands:
            fit, on_scale = (of.get(MonthAndEngine(month, scale_id, engine)) for of in (self.attempts, self.linked))
            if engine != scale.engine and fit is not None and (on_scale is None or on_scale.fit_id != fit.fit_id):
                found.setdefault("fitted_alone", f"it was fitted again by {engine}, but not linked since")
        return first_newer(found)


def _snapshots(
    connection: psycopg.Connection, scales: Mapping[str, Mapping[str, Scale]]
) -> dict[tuple[str, str], Snapshot | None]:
    """Read the snapshot of each month and scale: the one with which the month closed, or the current one."""
    current = current_snapshots(connection)
    closed_with = {(each.month, each.scale_id): each.snapshot_hash for each in read_closed(connection, scales)}
    of_closing = snapshots_by_hash(connection, {*closed_with.values()})
    return {
        (month, scale_id): of_closing.get((month, file))
        if (file := closed_with.get((month, scale_id))) and month in current
        else current.get(month)
        for month, of_month in scales.items()
        for scale_id in of_month
    }


def _months_with_answers(connection: psycopg.Connection, months: Collection[str]) -> set[str]:
    """The months with at least one answer in the log. Returns all months if the log is in a lake, which is not
    queried."""
    if lake(connection) is not None:
        return {*months}
    bounds = [Month(month).bounds for month in months]
    return set(
        first_column(
            connection,
            """SELECT month FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS asked (month, start, stop)
           WHERE EXISTS (SELECT FROM attempt WHERE completed_at >= start AND completed_at < stop)""",
            ([*months], [start for start, _ in bounds], [stop for _, stop in bounds]),
        )
    )


def _drift_begins(month: str, window: tuple[datetime, datetime] | None) -> str | None:
    """The first month after the origin window. Returns None if the month is not within the window."""
    start, end = Month(month).bounds
    return month_of(window[1]) if window and window[0] <= start and end <= window[1] else None


def _other_limits(verdict: MonthVerdict, scale: Scale) -> str | None:
    """Name the rules of the scale that gates read and that have changed since the gates were judged."""
    changed: set[str] = set()
    rules = scale.rules.non_defaults()
    for gate in SET_GATES:
        if gate.name in verdict.gates:
            before, now = verdict.gates[gate.name].rules, gate_rules(gate, rules)
            changed |= {rule for rule in {*before, *now} if before.get(rule) != now.get(rule)}
    return f"{', '.join(sorted(changed))} changed since the gates were judged" if changed else None


def unsettled_months(instance: dg.DagsterInstance, *, besides_run: str | None = None) -> set[str]:
    """Months that are running, queued, or waiting in a requested backfill."""
    return partitions_under_way(instance, MONTHLY_JOB, MONTHLY_ASSETS, besides_run=besides_run)


def is_fitted(connection: psycopg.Connection, snapshot: Snapshot, scale: Scale) -> bool:
    """Whether the scale's engine fitted the snapshot, and no rule, model or reference has changed since."""
    staged = latest_attempt(connection, snapshot.month, scale.scale_id, scale.engine)
    if staged is None or staged.error:
        return False
    in_bank = models_in_bank(connection, scale.scale_id) if scale.scored else {}
    return not any(_why_fit_again(connection, staged, snapshot, scale, in_bank).values())


def _why_fit_again(
    connection: psycopg.Connection,
    staged: LatestAttempt,
    snapshot: Snapshot,
    scale: Scale,
    in_bank: dict[str, ModelInBank],
) -> dict[str, str | None]:
    """Answers to the `QUESTIONS` that require a new fit of the month."""
    found = {"other_model": _other_model(staged, scale, in_bank)}
    if staged.snapshot_hash != snapshot.snapshot_hash:
        found["scored_alone"] = "its answers were judged again, but not fitted since"
    if staged.is_reference and (earlier := find_reference_window(connection, scale, snapshot.month)):
        found["other_reference"] = f"its misfit was judged before {earlier.name} was fitted"
    return found


def _other_model(staged: LatestAttempt, scale: Scale, in_bank: dict[str, ModelInBank]) -> str | None:
    if settings_differ(staged.rules, scale.rules, "eligibility", "fit"):
        return "the scale's settings have changed since it was fitted"
    if other := settings_difference(staged.made_with, scale):
        return f"the scale's model has changed since it was fitted: {other}"
    other = changed_scored_items(staged.made_with, scale, in_bank)
    return other and f"the bank names other models or blocks of items since it was fitted: {other}"


def no_origin_error(scale: Scale, window: str) -> PsychometricsError:
    """The error for a window that cannot be linked because its scale was never initialised, with both remedies."""
    return PsychometricsError(
        f"scale {scale.scale_id} has no origin, so {window} cannot be placed on it. Either give the bank's anchors "
        f"parameters and run `irt scale init --scale {scale.scale_id}`, or declare a window its origin: "
        f"`irt scale init --scale {scale.scale_id} --origin {window}`"
    )
