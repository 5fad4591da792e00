"""Read the evidence from which `month_classification` determines the state of each month and scale.

A month is green if the latest evaluation of every set gate passed, its inputs have not changed since, and its
publication step has run. The dot that Dagster shows on a checked asset stays green when a check fails, so it is not
used.
"""

from collections.abc import Iterable
from datetime import datetime

import dagster as dg
import psycopg

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import Month, month_of
from irt_assets.common.run_progress import partitions_under_way
from irt_assets.gates.gates import SET_GATES, SetGate
from irt_assets.gates.month_classification import (
    MONTHLY_ASSETS,
    GateStatus,
    MonthState,
    Newer,
    classify_month,
    first_newer,
)
from irt_assets.ledger.fits import changed_scored_items, settings_difference
from irt_assets.ledger.month_state import LatestAttempt, find_reference, fit_in_use, latest_attempt, latest_failure
from irt_assets.ledger.origin_fit import origin_windows
from irt_assets.ledger.overview import decisions_since
from irt_assets.ledger.steps import Step, steps
from irt_assets.responses.closed_months import scales_of_month
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.open_months import scales_with_changed_verdicts
from irt_assets.responses.snapshot import Snapshot, current_snapshot, settings_differ, snapshot_of
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scales.scored_models import ModelInBank, models_in_bank
from irt_psychometrics import PsychometricsError
from resources.cluster.relational import lake
from resources.dagster_compat import AssetCheckExecutionRecord, PartitionKeyFilter
from resources.dagster_schema import rows_of
from resources.postgres.database import Database, first_column


def month_states(database: Database, instance: dg.DagsterInstance, months: Iterable[str]) -> list[MonthState]:
    """The state of every given month on every scale."""
    months = list(months)
    running = unsettled_months(instance)
    with database.connect() as connection:
        known = read_scales(connection)
        all_steps = {scale_id: steps(connection, scale_id) for scale_id in known}
        in_bank = {
            scale_id: models_in_bank(connection, scale_id) if scale.scored else {} for scale_id, scale in known.items()
        }
        decided = decisions_since(connection, months)
        answered, windows = _months_with_answers(connection, months), origin_windows(connection)
        other_verdicts = scales_with_changed_verdicts(connection, months)
        closed_with = {
            (closing.month, closing.scale_id): closing.snapshot_hash for closing in read_closed(connection, months)
        }
        found = []
        for month in months:
            scales = scales_of_month(connection, month)
            current = current_snapshot(connection, month)
            gates = gate_statuses(instance, month) if current else {}
            for scale_id, scale in scales.items():
                snapshot, file = current, closed_with.get((month, scale_id))
                if file and current and file != current.snapshot_hash:
                    snapshot = snapshot_of(connection, month, file)
                has_other_answers, has_answers = scale_id in other_verdicts.get(month, ()), month in answered
                if snapshot and not has_other_answers:
                    has_answers = snapshot.has_attempts(scale_id)
                changed = None
                if snapshot:
                    changed = _newer(
                        connection,
                        snapshot,
                        scale,
                        all_steps[scale_id].get(month),
                        in_bank[scale_id],
                        has_other_answers=has_other_answers,
                        decided=decided.get((month, scale_id)),
                    )
                found.append(
                    classify_month(
                        month,
                        scale_id,
                        {name: by_scale.get(scale_id, by_scale[""]) for name, by_scale in gates.items()},
                        all_steps[scale_id].get(month),
                        changed,
                        month in running,
                        "none" if not has_answers else "scored" if snapshot else "unscored",
                        _failure(connection, month, snapshot, scale) if snapshot else None,
                        _drift_begins(month, windows.get(scale_id)),
                    )
                )
    return found


def _months_with_answers(connection: psycopg.Connection, months: list[str]) -> set[str]:
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
            (months, [start for start, _ in bounds], [stop for _, stop in bounds]),
        )
    )


def _drift_begins(month: str, window: tuple[datetime, datetime] | None) -> str | None:
    """The first month after the origin window. Returns None if the month is not within the window."""
    start, end = Month(month).bounds
    return month_of(window[1]) if window and window[0] <= start and end <= window[1] else None


def _failure(connection: psycopg.Connection, month: str, snapshot: Snapshot, scale: Scale) -> str | None:
    """Why the month could not be fitted or linked. A missing origin comes first, as more answers would not help."""
    return latest_failure(connection, snapshot, scale) if scale.initialised else str(no_origin_error(scale, month))


def gate_statuses(instance: dg.DagsterInstance, month: str) -> dict[str, dict[str, GateStatus]]:
    """The latest evaluation of every set gate for a month, by gate and scale. The key '' has the status of scales that
    the evaluation does not name."""
    keys = {gate.name: dg.AssetCheckKey(dg.AssetKey(gate.asset), gate.name) for gate in SET_GATES}
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        list(keys.values()), partition_filter=PartitionKeyFilter(key=month)
    )
    return {gate.name: _status(gate, records.get(keys[gate.name])) for gate in SET_GATES}


def latest_evaluations(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey], month: str
) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation | None]:
    """The latest evaluation of each check for a month, or None if a check was never evaluated."""
    keys = list(keys)
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        keys, partition_filter=PartitionKeyFilter(key=month)
    )
    latest = {key: record.evaluation if (record := records.get(key)) else None for key in keys}
    return {key: found if isinstance(found, dg.AssetCheckEvaluation) else None for key, found in latest.items()}


def _status(gate: SetGate, record: AssetCheckExecutionRecord | None) -> dict[str, GateStatus]:
    evaluation = record.evaluation if record else None
    if not isinstance(evaluation, dg.AssetCheckEvaluation):  # its run is still in progress, or was killed
        return {"": GateStatus(None, "not evaluated", gate.asset, planned=record is not None)}
    rows = rows_of(evaluation.metadata, "scales")
    known = {row["scale"]: GateStatus(row["passed"], row["why"], gate.asset) for row in rows}
    return known | {"": GateStatus(None, "the scale was not judged", gate.asset)}


def unsettled_months(instance: dg.DagsterInstance, *, besides_run: str | None = None) -> set[str]:
    """Months that are running, queued, or waiting in a requested backfill."""
    return partitions_under_way(instance, MONTHLY_JOB, MONTHLY_ASSETS, besides_run=besides_run)


def _newer(
    connection: psycopg.Connection,
    snapshot: Snapshot,
    scale: Scale,
    step: Step | None,
    in_bank: dict[str, ModelInBank],
    *,
    has_other_answers: bool,
    decided: str | None,
) -> Newer | None:
    """Why the month of the scale is stale, by `QUESTIONS`. decided: see `decisions_since`."""
    month, scale_id = snapshot.month, scale.scale_id
    staged = latest_attempt(connection, month, scale_id, scale.engine)
    linked = fit_in_use(connection, month, scale_id, scale.engine)
    found: dict[str, str | None] = {
        "other_answers": "its answers have changed since" if has_other_answers else None,
        "other_anchors": decided,
    }
    if settings_differ(snapshot.rules.get(scale_id, {}), scale.rules, "eligibility"):
        found["other_eligibility"] = "the scale's settings have changed since"
    if staged is not None:
        found |= _why_fit_again(connection, staged, snapshot, scale, in_bank)
    if linked is not None:
        if staged is not None and linked.fit_id != staged.fit_id:
            found["fitted_alone"] = "it was fitted again, but not linked since"
        if settings_differ(linked.rules, scale.rules, "linking"):
            found["other_linking"] = "the scale's settings have changed since it was linked"
        if step is not None and step.fit_id != linked.fit_id:
            found["linked_alone"] = "it was linked again, but its publication step has not run since"
    for engine in scale.rules.publication.demands:
        fit, on_scale = (find(connection, month, scale_id, engine) for find in (latest_attempt, fit_in_use))
        if engine != scale.engine and fit is not None and (on_scale is None or on_scale.fit_id != fit.fit_id):
            found.setdefault("fitted_alone", f"it was fitted again by {engine}, but not linked since")
    return first_newer(found)


def is_fitted(connection: psycopg.Connection, snapshot: Snapshot, scale: Scale) -> bool:
    """Whether the scale's engine fitted the snapshot, and no rule, model or reference has changed since."""
    staged = latest_attempt(connection, snapshot.month, scale.scale_id, scale.engine)
    if staged is None or latest_failure(connection, snapshot, scale):
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
    if staged.is_reference and (earlier := find_reference(connection, scale, snapshot.month)):
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
