"""The steps of a month, scale by scale: fit it, link it, take it to the ledger.

A scale that fails does not hold the others: what went wrong is kept and returned beside what went right.
What does not belong here: Dagster (see `assets`) and the gates (see `gates`).
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from irt_assets.calibration import fits
from irt_assets.calibration.origin import anchor_hash, read_anchors
from irt_assets.calibration.publication import Step, settle
from irt_assets.calibration.request import fit_statistics
from irt_assets.engines import Calibrator
from irt_assets.partitions import month_bounds
from irt_assets.psychometrics.anchor_diagnosis import diagnose
from irt_assets.psychometrics.errors import LinkingError, PsychometricsError
from irt_assets.psychometrics.linking import AnchorSet, Linking, link, transform
from irt_assets.psychometrics.models import Calibration
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.snapshot import current_snapshot, read_snapshot
from irt_assets.responses.window import scored_responses_of
from resources.database import Database, advisory_lock
from resources.failures import PermanentFailure
from resources.object_store import ObjectStore


@dataclass(frozen=True)
class FitOutcome:
    """A scale's fit, or the reason why there is none."""

    scale_id: str
    fit_id: str
    calibration: Calibration | None
    error: str | None
    seconds: float


@dataclass(frozen=True)
class LinkOutcome:
    """A scale's fit on the bank's scale, or the reason why it is not there; the linking as far as it came."""

    scale_id: str
    raw: Calibration | None
    linked: Calibration | None
    linking: Linking | None
    anchors: AnchorSet | None
    error: str | None


def fit_month(
    database: Database, store: ObjectStore, month: str, engine: Calibrator, run_id: str | None
) -> list[FitOutcome]:
    """Fit every scale's scored responses of the month and stage the fits.

    Raises PermanentFailure where no scale could be fitted; the reasons are staged all the same.
    """
    with database.connect() as connection:
        snapshot = current_snapshot(connection, month)
        scales = read_scales(connection)
    if snapshot is None:
        raise PermanentFailure(f"{month} has no snapshot: materialise scored_responses of {month} first")
    table = read_snapshot(store, snapshot)
    results: list[tuple[Scale, Calibration | PsychometricsError, dict[str, Any], float]] = []
    for scale in scales.values():
        responses, _ = scored_responses_of(table, scale.scale_id)
        spec: dict[str, Any] = {"model": scale.model, "eligibility": scale.rules.changed()}
        began = time.perf_counter()
        outcome: Calibration | PsychometricsError
        try:
            if responses.n_responses == 0:
                counts = snapshot.counts.get(scale.scale_id, {})
                raise PsychometricsError(_nothing_scored(scale, month, counts))
            outcome = engine.calibrate(responses, model=scale.model, data_hash=snapshot.data_hash)
            spec |= fit_statistics(responses, outcome)
        except PsychometricsError as error:
            outcome = error
        results.append((scale, outcome, spec, time.perf_counter() - began))
    outcomes = []
    with database.connect() as connection:
        advisory_lock(connection, "item_calibration", month)
        for scale, outcome, spec, seconds in results:
            fit_id = fits.stage(connection, snapshot, scale.scale_id, engine.name, outcome, spec, run_id)
            if isinstance(outcome, PsychometricsError):
                outcomes.append(FitOutcome(scale.scale_id, fit_id, None, str(outcome), seconds))
            else:
                outcomes.append(FitOutcome(scale.scale_id, fit_id, outcome, None, seconds))
    _require_one([o.error for o in outcomes], [o.scale_id for o in outcomes], month, "fitted")
    return outcomes


def link_month(database: Database, month: str, run_id: str | None) -> list[LinkOutcome]:
    """Put the month's latest fit of every scale on the bank's scale.

    Raises PermanentFailure where no scale could be linked; the reasons are kept beside the staged fits.
    """
    outcomes = []
    with database.connect() as connection:
        advisory_lock(connection, "linked_item_parameters", month)
        for scale in read_scales(connection).values():
            outcomes.append(_link_scale(connection, scale, month, run_id))
    _require_one([o.error for o in outcomes], [o.scale_id for o in outcomes], month, "linked", outcomes)
    return outcomes


class UnlinkedMonthError(PermanentFailure):
    """No scale of the month could be linked; `outcomes` say how far each came."""

    def __init__(self, message: str, outcomes: list[LinkOutcome]) -> None:
        super().__init__(message)
        self.outcomes = outcomes


def publish_month(
    database: Database, store: ObjectStore, month: str, unsettled: Collection[str], run_id: str | None
) -> dict[str, dict[str, Step]]:
    """Take the month to the ledger of every scale; the steps taken, by scale and month."""
    with database.connect() as connection:
        return {
            scale.scale_id: settle(connection, store, scale, month, unsettled, run_id)
            for scale in read_scales(connection).values()
        }


def _link_scale(connection: psycopg.Connection, scale: Scale, month: str, run_id: str | None) -> LinkOutcome:
    staged = fits.latest_staged(connection, month, scale.scale_id, scale.engine)
    raw = staged.decoded() if staged else None
    if staged is None or raw is None:
        error = (
            staged.error if staged else f"{month} has no fit of scale {scale.scale_id}: materialise item_calibration"
        )
        return LinkOutcome(scale.scale_id, None, None, None, None, error)
    staged = fits.never_linked(connection, staged, run_id)
    anchors = read_anchors(connection, scale.scale_id, scale.anchor_version)
    if anchors is None:
        unlinked = LinkingError(
            f"scale {scale.scale_id} has no origin, so {month} cannot be placed on it. Either give the bank's anchors "
            f"parameters and run `irt scale init --scale {scale.scale_id}`, or declare a window its origin: "
            f"`irt scale init --scale {scale.scale_id} --origin {month}`"
        )
        fits.record_failed_linking(connection, staged, unlinked, None)
        return LinkOutcome(scale.scale_id, raw, None, None, None, str(unlinked))
    topics: dict[str, str | None] = dict(
        connection.execute("SELECT item_id, topic_id FROM question WHERE scale_id = %s", (scale.scale_id,)).fetchall()
    )
    try:
        linking = link(raw, anchors, rules=scale.rules, bank_topics=[topics.get(i) for i in raw.item_ids])
    except LinkingError as error:
        partial = _diagnosed(error.linking, raw, anchors, scale) if error.linking else None
        fits.record_failed_linking(connection, staged, error, partial.as_constants() if partial else None)
        message = f"{month} cannot be placed on scale {scale.scale_id}: {error}"
        return LinkOutcome(scale.scale_id, raw, None, partial, anchors, message)
    if not linking.agrees(scale.rules.anchor_q_alpha):
        linking = _diagnosed(linking, raw, anchors, scale)
    linked = transform(raw, linking)
    digest = anchor_hash(connection, scale.scale_id, scale.anchor_version)
    assert digest is not None
    fits.publish_linked(
        connection,
        staged.fit_id,
        raw,
        linked,
        linking,
        kind="monthly",
        scale_id=scale.scale_id,
        window=month_bounds(month),
        snapshot_hash=staged.snapshot_hash,
        anchor_hash=digest,
        spec=staged.spec,
        fitted_at=staged.fitted_at,
        fit_code_version=staged.code_version,
        run_id=run_id,
    )
    return LinkOutcome(scale.scale_id, raw, linked, linking, anchors, None)


def _diagnosed(linking: Linking, raw: Calibration, anchors: AnchorSet, scale: Scale) -> Linking:
    """The linking with the names of the anchors that moved; its constants stay as they are."""
    diagnosis = diagnose(raw, anchors, scale.rules)
    return replace(linking, suspects=diagnosis.as_constants(), diagnosis=diagnosis.sentence)


def _nothing_scored(scale: Scale, month: str, counts: dict[str, int]) -> str:
    left_out = ", ".join(f"{reason} {n:,}" for reason, n in counts.items() if n and reason != "scored")
    return (
        f"{month} has no scored response on scale {scale.scale_id} ({left_out or 'no attempts'}). Where items have too "
        f"few responses, a smaller minimum admits them: `irt calibrate --month {month} --set min_responses=…`"
    )


def _require_one(
    errors: list[str | None],
    scales: list[str],
    month: str,
    what: str,
    outcomes: list[LinkOutcome] | None = None,
) -> None:
    if not scales:
        raise PermanentFailure("the bank has no items: `irt import questions FILE`")
    if any(error is None for error in errors):
        return
    said = [str(error) for error in errors]
    message = (
        (said[0] if month in said[0] else f"{month}: {said[0]}")
        if len(said) == 1
        else f"no scale of {month} could be {what}: "
        + "; ".join(f"{scale}: {error}" for scale, error in zip(scales, said, strict=True))
    )
    raise UnlinkedMonthError(message, outcomes) if outcomes is not None else PermanentFailure(message)
