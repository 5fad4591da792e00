"""The evidence on which a month of a scale is judged, the verdict of a gate, and helpers that several gates use."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.gates.coverage import Bank, read_bank
from irt_assets.ledger.fit_spec import LinkingConstants, SetStatistics
from irt_assets.ledger.fits import (
    LinkedFit,
    StagedFit,
    latest_staged,
    linked_fit,
    read_group_shift,
    settings_difference,
)
from irt_assets.ledger.group_shift import GroupShift
from irt_assets.ledger.linked_windows import released_constants
from irt_assets.ledger.publications import items_published_by
from irt_assets.ledger.steps import items_held_before
from irt_assets.responses.snapshot import Snapshot, snapshot_for_scale, snapshot_problem
from irt_assets.scales.scale import Scale, accepted_subjects
from irt_assets.scales.scale_decisions import Subject
from irt_psychometrics import Calibration
from irt_psychometrics.linking import MonthConstants
from resources.files.object_store import ObjectStore

NO_SNAPSHOT = "no snapshot of the month has been taken"


@dataclass(frozen=True)
class GateResult:
    """Result of a gate: whether it passed, and why, in a sentence."""

    passed: bool
    why: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All facts about one month of one scale on which it is judged.

    Attributes:
        group_shift: movement of the anchors as a group.
        demanded: latest attempts of the other engines that the scale demands.
        in_force: items with published parameters at the month's start.
        bank: the scale's items at the month's start.
        accepted: subjects that a person has accepted for the scale.
        earlier: linking constants of earlier months whose publication step is done.
        held_before: items that the last of these months held back, with that month.
    """

    month: str
    scale: Scale
    snapshot: Snapshot | None = None
    snapshot_problem: str | None = None
    staged: StagedFit | None = None
    calibration: Calibration | None = None
    linked: LinkedFit | None = None
    group_shift: GroupShift | None = None
    demanded: Mapping[str, StagedFit | None] = field(default_factory=dict)
    in_force: frozenset[str] = frozenset()
    bank: Bank = field(default_factory=Bank)
    accepted: frozenset[Subject] = frozenset()
    earlier: tuple[MonthConstants, ...] = ()
    held_before: Mapping[str, str] = field(default_factory=dict)

    @property
    def on_the_scale(self) -> LinkedFit | None:
        """The linked fit. Returns None if it is not the month's latest fit."""
        if self.linked is None or self.staged is None or self.linked.fit_id != self.staged.fit_id:
            return None
        return self.linked

    @property
    def constants(self) -> LinkingConstants | None:
        """Linking constants of the month's latest fit, linked or not, or None if they were not computed."""
        if self.staged is None:
            return None
        return self.on_the_scale.constants if self.on_the_scale else self.staged.spec.linking_constants

    @property
    def statistics(self) -> SetStatistics | None:
        """Fit statistics of the set. Returns None if the month's fit did not converge."""
        return self.staged.spec.statistics if self.staged else None


def load_evidence(
    connection: psycopg.Connection, month: str, scale: Scale, store: ObjectStore | None = None
) -> Evidence:
    """Read the evidence on a month. `scale` has the settings that apply to the month's window.

    If a `store` is given, the month's file is read to compare its hash, unless this process has already read the file
    in its present state. Without a store, the evidence reports the file as not read.
    """
    scale_id, start = scale.scale_id, Month(month).start
    snapshot = snapshot_for_scale(connection, month, scale_id)
    problem: str | None = NO_SNAPSHOT
    if snapshot:
        problem = snapshot_problem(store, snapshot) if store else "the stored file has not been read"
    staged = latest_staged(connection, month, scale_id, scale.engine)
    linked = linked_fit(connection, scale_id, "monthly", start, scale.engine)
    return Evidence(
        month=month,
        scale=scale,
        snapshot=snapshot,
        snapshot_problem=problem,
        staged=staged,
        calibration=staged.decode() if staged else None,
        linked=linked,
        group_shift=read_group_shift(connection, linked.fit_id) if linked else None,
        demanded={
            engine: latest_staged(connection, month, scale_id, engine)
            for engine in scale.rules.publication.demands
            if engine != scale.engine
        },
        in_force=items_published_by(connection, scale_id, start),
        bank=read_bank(connection, scale_id, start),
        accepted=accepted_subjects(connection, scale_id, start),
        earlier=released_constants(connection, month, scale_id, scale.engine),
        held_before=items_held_before(connection, scale_id, month),
    )


def apply_new_misfit_rule(evidence: Evidence, found: GateResult) -> GateResult:
    """Turn a failed verdict into a passed one with a warning if the scale's rule new_misfit is "warn"."""
    if found.passed or evidence.scale.rules.publication.new_misfit == "hold":
        return found
    return GateResult(True, f"the scale does not hold a month for it (new_misfit=warn); {found.why}", found.details)


def current_fit(evidence: Evidence) -> Calibration | GateResult:
    """The fit of the month's current snapshot, or a failed verdict with the reason why it does not exist."""
    staged = evidence.staged
    if staged is None:
        return GateResult(False, "the month has not been fitted: materialise item_calibration")
    if evidence.snapshot is None or staged.snapshot_hash != evidence.snapshot.snapshot_hash:
        return GateResult(False, "the fit is of an earlier snapshot of the month: materialise item_calibration")
    if other := settings_difference(staged.spec, evidence.scale):
        return GateResult(False, f"{other}: materialise item_calibration")
    if evidence.calibration is None:
        return GateResult(False, staged.error or "the fit failed")
    return evidence.calibration


def needs_fit(judge: Callable[[Evidence], GateResult]) -> Callable[[Evidence], GateResult]:
    """Decorate a gate so that it fails with the reason if the month's current snapshot has no fit."""

    @functools.wraps(judge)
    def judge_if_fitted(evidence: Evidence) -> GateResult:
        fit = current_fit(evidence)
        return fit if isinstance(fit, GateResult) else judge(evidence)

    return judge_if_fitted
