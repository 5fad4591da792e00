"""Whether a month of a scale is green: the one place that says so.

Green: the latest evaluation of every set gate passed, nothing the month was computed from has changed
since, and its publication step has run. Dagster's own dot on a checked asset stays green when its
check fails, so nothing may judge by it. What does not belong here: the gates themselves (`gates`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import dagster as dg
import psycopg

from irt_assets.calibration.evidence import NOT_JUDGED
from irt_assets.calibration.gates import SET_GATES, SetGate
from irt_assets.calibration.misfit import find_reference
from irt_assets.calibration.placing import no_origin
from irt_assets.job_names import MONTHLY_JOB
from irt_assets.ledger.anchors import anchor_hash
from irt_assets.ledger.fits import made_otherwise
from irt_assets.ledger.month_state import fit_in_use, latest_attempt, latest_failure
from irt_assets.ledger.steps import Step, steps
from irt_assets.partitions import month_bounds
from irt_assets.responses.data_versions import data_version
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.snapshot import Snapshot, current_snapshot, differs
from irt_assets.responses.window import encoding_of
from irt_assets.run_progress import under_way
from resources.dagster_compat import AssetCheckExecutionRecord, PartitionKeyFilter
from resources.dagster_schema import rows_of
from resources.database import Database
from resources.relational import lake

DECIDED = "decided, to be made again"
NO_ANSWERS = "no answers"
MONTHLY_ASSETS = ("scored_responses", "item_calibration", "linked_item_parameters", "published_item_parameters")


class State(StrEnum):
    """State of a month of a scale, worst first. One that was red is stale once a person has decided what to change."""

    RED = "red"
    STALE = "stale"
    PENDING = "pending"
    RUNNING = "running"
    MISSING = "missing"
    GREEN = "green"


@dataclass(frozen=True)
class MonthState:
    """What state a month of a scale is in, why, and what to do about it. `asset`: the one at which the month stands."""

    month: str
    scale_id: str
    state: State
    why: str
    asset: str = MONTHLY_ASSETS[-1]

    @property
    def is_empty(self) -> bool:
        """Whether the month has no answers, and so nothing to be made from."""
        return self.why == NO_ANSWERS


@dataclass(frozen=True)
class GateStatus:
    """The latest evaluation of a set gate: None where it was never evaluated or its run was killed. `asked`: whether a
    run ever set out to evaluate it."""

    passed: bool | None
    why: str
    asset: str = MONTHLY_ASSETS[-1]
    asked: bool = True


@dataclass(frozen=True)
class Newer:
    """What is newer than a month's numbers, the asset to be made again first, and whether a person decided so."""

    why: str
    asset: str
    decided: bool = False


def classify_month(
    month: str,
    scale_id: str,
    gates: dict[str, GateStatus],
    step: Step | None,
    changed: Newer | None,
    running: bool,
    has_snapshot: bool,
    failure: str | None = None,
    has_answers: bool = True,
) -> MonthState:
    """The state of a month of a scale from its evidence.

    `changed` says what is newer than the month's numbers, `failure` why it could not be fitted or linked.
    """

    def state(value: State, why: str, asset: str = MONTHLY_ASSETS[-1]) -> MonthState:
        return MonthState(month, scale_id, value, why, asset)

    if running:
        return state(State.RUNNING, "a run of the month is queued or under way")
    if not has_snapshot:
        why = f"never materialised: `irt calibrate --month {month}`" if has_answers else NO_ANSWERS
        return state(State.MISSING, why, MONTHLY_ASSETS[0])
    if changed and changed.decided:  # what held the month may no longer do so
        return state(State.STALE, f"{DECIDED}: {changed.why}", changed.asset)
    if step is not None:
        gates = _of_its_time(gates)
    failed = {name: status for name, status in gates.items() if status.passed is False}
    if failed:
        failures = {name: status.why for name, status in failed.items() if not status.why.startswith(NOT_JUDGED)}
        return state(State.RED, "; ".join(f"{name}: {why}" for name, why in failures.items()), _first(failed))
    unknown = {name: status for name, status in gates.items() if status.passed is None}
    if unknown and step is None and failure is None and not any(status.asked for status in unknown.values()):
        why = f"its answers are scored and nothing was fitted: `irt calibrate --month {month}`"
        return state(State.MISSING, why, _first(unknown))
    if unknown:
        why = failure or "a run ended early, materialise the month again"
        return state(State.RED, f"{why} (not evaluated: {', '.join(unknown)})", _first(unknown))
    if changed:
        return state(State.STALE, f"{changed.why}: materialise the month again", changed.asset)
    if step is None:
        return state(State.RED, "its publication step has not run: materialise published_item_parameters")
    if step.state == "pending":
        return state(State.PENDING, step.why)
    if step.state == "held":
        return state(State.RED, step.why)
    return state(State.GREEN, step.why)


def _of_its_time(gates: dict[str, GateStatus]) -> dict[str, GateStatus]:
    """The gates without those that did not exist when a month was judged: only others of their asset were evaluated."""
    judged = {status.asset for status in gates.values() if status.asked}
    return {name: status for name, status in gates.items() if status.asked or status.asset not in judged}


def _first(gates: dict[str, GateStatus]) -> str:
    return next(iter(gates.values())).asset


def month_states(database: Database, instance: dg.DagsterInstance, months: Iterable[str]) -> list[MonthState]:
    """The state of every given month on every scale."""
    months = list(months)
    running = unsettled_months(instance)
    with database.connect() as connection:
        all_steps = {scale_id: steps(connection, scale_id) for scale_id in read_scales(connection)}
        found = []
        for month in months:
            scales = read_scales(connection, month_bounds(month)[0])
            anchors = {s.scale_id: anchor_hash(connection, s.scale_id, s.anchor_version) for s in scales.values()}
            snapshot = current_snapshot(connection, month)
            changed = _changes(connection, month, snapshot, scales, all_steps, anchors) if snapshot else {}
            connection.commit()  # keeps the hash that was computed, whatever happens to the next
            gates = gate_statuses(instance, month) if snapshot else {}
            has_answers = snapshot is not None or _has_answers(connection, month)
            for scale_id in scales:
                found.append(
                    classify_month(
                        month,
                        scale_id,
                        {name: by_scale.get(scale_id, by_scale[""]) for name, by_scale in gates.items()},
                        all_steps[scale_id].get(month),
                        changed.get(scale_id),
                        month in running,
                        snapshot is not None,
                        _failure(connection, month, snapshot, scales[scale_id]) if snapshot else None,
                        has_answers,
                    )
                )
    return found


def _has_answers(connection: psycopg.Connection, month: str) -> bool:
    """Whether the log has an answer of the month; True where the log is in a lake, which is not asked."""
    if lake() is not None:
        return True
    answers = "SELECT EXISTS (SELECT FROM attempt WHERE completed_at >= %s AND completed_at < %s)"
    return connection.execute(answers, month_bounds(month)).fetchone() == (True,)


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
    if record is None:
        return {"": GateStatus(None, "not evaluated", gate.asset, asked=False)}
    evaluation = record.evaluation
    if not isinstance(evaluation, dg.AssetCheckEvaluation):  # only planned: its run goes on, or was killed
        return {"": GateStatus(None, "not evaluated", gate.asset)}
    shown = evaluation.metadata["scales"]
    by_scale = shown.value if isinstance(shown, dg.JsonMetadataValue) else None  # of a version before this one
    if not isinstance(by_scale, dict):
        by_scale = {row["scale"]: row for row in rows_of(evaluation.metadata, "scales")}
    known = {scale: GateStatus(entry["passed"], entry["why"], gate.asset) for scale, entry in by_scale.items()}
    return known | {"": GateStatus(None, "the scale was not judged", gate.asset)}


def unsettled_months(instance: dg.DagsterInstance, *, besides_run: str | None = None) -> set[str]:
    """Months that are running, queued, or still to come in a requested backfill."""
    return under_way(instance, MONTHLY_JOB, MONTHLY_ASSETS, besides_run=besides_run)


def _changes(
    connection: psycopg.Connection,
    month: str,
    snapshot: Snapshot,
    scales: dict[str, Scale],
    all_steps: dict[str, dict[str, Step]],
    anchors: dict[str, str | None],
) -> dict[str, Newer]:
    """What is newer than the numbers made from it, by scale: the answers, the rules, a step without the next."""
    scored, fitted, linked_parameters, published = MONTHLY_ASSETS
    if data_version(connection, month, scales, encoding_of(snapshot.data_hash)) != snapshot.data_hash:
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
        elif staged and staged.is_reference and (earlier := find_reference(connection, scale, month)):
            changed[scale_id] = Newer(f"its misfit was judged before {earlier.name} was fitted", fitted)
        elif staged is not None and linked is not None and linked.fit_id != staged.fit_id:
            changed[scale_id] = Newer("it was fitted again and not linked since", linked_parameters)
        elif linked is not None and linked.anchor_hash != anchors[scale_id]:
            changed[scale_id] = Newer("the anchor set has changed since", linked_parameters, decided=True)
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
