"""What a month's state is judged by: the evidence of every month and scale, read for `month_judged`.

Green: the latest evaluation of every set gate passed, nothing the month was computed from has changed
since, and its publication step has run. Dagster's own dot on a checked asset stays green when its
check fails, so nothing may judge by it. What does not belong here: the judgement (see `month_judged`) and the gates
themselves (see `gates`).
"""

from collections.abc import Iterable
from datetime import datetime

import dagster as dg
import psycopg

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import Month, month_of
from irt_assets.common.run_progress import under_way
from irt_assets.gates.gates import SET_GATES, SetGate
from irt_assets.gates.month_judged import (
    MONTHLY_ASSETS,
    GateStatus,
    MonthState,
    Newer,
    classify_month,
)
from irt_assets.ledger.fits import made_otherwise, scored_otherwise
from irt_assets.ledger.month_state import find_reference, fit_in_use, latest_attempt, latest_failure
from irt_assets.ledger.origin_fit import origin_windows
from irt_assets.ledger.overview import decided_since
from irt_assets.ledger.steps import Step, steps
from irt_assets.psychometrics.linking.placement import LinkingError
from irt_assets.responses.data_versions import data_version
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.scored_models import ModelInBank, models_in_bank
from irt_assets.responses.snapshot import Snapshot, current_snapshot, differs
from resources.cluster.relational import lake
from resources.dagster_compat import AssetCheckExecutionRecord, PartitionKeyFilter
from resources.dagster_schema import rows_of
from resources.postgres.database import Database, first_column


def month_states(
    database: Database, instance: dg.DagsterInstance, months: Iterable[str], *, read_again: bool = False
) -> list[MonthState]:
    """The state of every given month on every scale. `read_again`: see `data_version`."""
    months = list(months)
    running = unsettled_months(instance)
    with database.connect() as connection:
        known = read_scales(connection)
        all_steps = {scale_id: steps(connection, scale_id) for scale_id in known}
        in_bank = {
            scale_id: models_in_bank(connection, scale_id) if one.scored else {} for scale_id, one in known.items()
        }
        decided = decided_since(connection, months)
        answered, windows = _with_answers(connection, months), origin_windows(connection)
        found = []
        for month in months:
            scales = read_scales(connection, Month(month).start)
            snapshot = current_snapshot(connection, month)
            changed = {}
            if snapshot:
                now = data_version(connection, month, scales, read_again=read_again)
                changed = _changes(connection, month, snapshot, now, scales, all_steps, decided, in_bank)
            connection.commit()  # keeps the hash that was computed, whatever happens to the next
            gates = gate_statuses(instance, month) if snapshot else {}
            for scale_id, scale in scales.items():
                found.append(
                    classify_month(
                        month,
                        scale_id,
                        {name: by_scale.get(scale_id, by_scale[""]) for name, by_scale in gates.items()},
                        all_steps[scale_id].get(month),
                        changed.get(scale_id),
                        month in running,
                        snapshot is not None,
                        _failure(connection, month, snapshot, scale) if snapshot else None,
                        month in answered,
                        _drift_begins(month, windows.get(scale_id)),
                    )
                )
    return found


def _with_answers(connection: psycopg.Connection, months: list[str]) -> set[str]:
    """The months of which the log has an answer; all of them where the log is in a lake, which is not asked."""
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
    """The first month after an origin window in which the month lies; None where it lies in none."""
    start, end = Month(month).bounds
    return month_of(window[1]) if window and window[0] <= start and end <= window[1] else None


def _failure(connection: psycopg.Connection, month: str, snapshot: Snapshot, scale: Scale) -> str | None:
    """Why the month could not be fitted or linked. Without an origin, more answers would not help it."""
    return latest_failure(connection, snapshot, scale) if scale.initialised else str(no_origin(scale, month))


def gate_statuses(instance: dg.DagsterInstance, month: str) -> dict[str, dict[str, GateStatus]]:
    """The latest evaluation of every set gate for a month, by gate and scale; under '' what holds for a scale that the
    evaluation does not name."""
    keys = {gate.name: dg.AssetCheckKey(dg.AssetKey(gate.asset), gate.name) for gate in SET_GATES}
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        list(keys.values()), partition_filter=PartitionKeyFilter(key=month)
    )
    return {gate.name: _status(gate, records.get(keys[gate.name])) for gate in SET_GATES}


def latest_evaluations(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey], month: str
) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation | None]:
    """The last evaluation of each check for a month; None for a check that was never evaluated."""
    keys = list(keys)
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        keys, partition_filter=PartitionKeyFilter(key=month)
    )
    latest = {key: record.evaluation if (record := records.get(key)) else None for key in keys}
    return {key: one if isinstance(one, dg.AssetCheckEvaluation) else None for key, one in latest.items()}


def _status(gate: SetGate, record: AssetCheckExecutionRecord | None) -> dict[str, GateStatus]:
    evaluation = record.evaluation if record else None
    if not isinstance(evaluation, dg.AssetCheckEvaluation):  # if only planned, its run goes on, or was killed
        return {"": GateStatus(None, "not evaluated", gate.asset, asked=record is not None)}
    shown = rows_of(evaluation.metadata, "scales")
    known = {row["scale"]: GateStatus(row["passed"], row["why"], gate.asset) for row in shown}
    return known | {"": GateStatus(None, "the scale was not judged", gate.asset)}


def unsettled_months(instance: dg.DagsterInstance, *, besides_run: str | None = None) -> set[str]:
    """Months that are running, queued, or still to come in a requested backfill."""
    return under_way(instance, MONTHLY_JOB, MONTHLY_ASSETS, besides_run=besides_run)


def _changes(
    connection: psycopg.Connection,
    month: str,
    snapshot: Snapshot,
    hash_now: str,
    scales: dict[str, Scale],
    all_steps: dict[str, dict[str, Step]],
    decided: dict[tuple[str, str], str],
    in_bank: dict[str, dict[str, ModelInBank]],
) -> dict[str, Newer]:
    """What is newer than the numbers made from it, by scale: the answers, the rules, a step without the next."""
    scored, fitted, linked_parameters, published = MONTHLY_ASSETS
    if hash_now != snapshot.data_hash:
        return dict.fromkeys(scales, Newer("its answers have changed since", scored))
    changed = {}
    for scale_id, scale in scales.items():
        staged = latest_attempt(connection, month, scale_id, scale.engine)
        linked = fit_in_use(connection, month, scale_id, scale.engine)
        step = all_steps[scale_id].get(month)
        demanded = [engine for engine in scale.rules.publication.demands if engine != scale.engine]
        if differs(snapshot.rules.get(scale_id, {}), scale.rules, "eligibility"):
            changed[scale_id] = Newer("the scale's settings have changed since", scored, decided=True)
        elif staged is not None and staged.snapshot_hash != snapshot.snapshot_hash:
            changed[scale_id] = Newer("its answers were judged again and not fitted since", fitted)
        elif staged is not None and differs(staged.rules, scale.rules, "eligibility", "fit"):
            changed[scale_id] = Newer("the scale's settings have changed since it was fitted", fitted, decided=True)
        elif staged is not None and (other := made_otherwise(staged.made_with, scale)):
            why = f"the scale's model has changed since it was fitted: {other}"
            changed[scale_id] = Newer(why, fitted, decided=True)
        elif staged is not None and (other := scored_otherwise(staged.made_with, scale, in_bank[scale_id])):
            why = f"the bank names other models or blocks of items since it was fitted: {other}"
            changed[scale_id] = Newer(why, fitted, decided=True)
        elif staged and staged.is_reference and (earlier := find_reference(connection, scale, month)):
            changed[scale_id] = Newer(f"its misfit was judged before {earlier.name} was fitted", fitted)
        elif staged is not None and linked is not None and linked.fit_id != staged.fit_id:
            changed[scale_id] = Newer("it was fitted again and not linked since", linked_parameters)
        elif (month, scale_id) in decided:
            changed[scale_id] = Newer(decided[month, scale_id], linked_parameters, decided=True)
        elif linked is not None and differs(linked.rules, scale.rules, "linking"):
            why = "the scale's settings have changed since it was linked"
            changed[scale_id] = Newer(why, linked_parameters, decided=True)
        elif linked is not None and step is not None and step.fit_id != linked.fit_id:
            changed[scale_id] = Newer("it was linked again and not taken to the ledger since", published)
        else:
            for engine in demanded:
                fit, on_scale = (find(connection, month, scale_id, engine) for find in (latest_attempt, fit_in_use))
                if fit is not None and (on_scale is None or on_scale.fit_id != fit.fit_id):
                    changed[scale_id] = Newer(
                        f"it was fitted again by {engine} and not linked since", linked_parameters
                    )
    return changed


def no_origin(scale: Scale, window: str) -> LinkingError:
    """Why nothing can be placed on a scale that was never initialised, and both ways out."""
    return LinkingError(
        f"scale {scale.scale_id} has no origin, so {window} cannot be placed on it. Either give the bank's anchors "
        f"parameters and run `irt scale init --scale {scale.scale_id}`, or declare a window its origin: "
        f"`irt scale init --scale {scale.scale_id} --origin {window}`"
    )
