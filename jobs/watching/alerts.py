"""Decisions on alerts about Dagster's runs, checks and schedules: when an alert is opened and when it is over.

Each decision depends only on the present state of the instance, so reading an event twice changes nothing.
What does not belong here: cursors (see `alert_sensors`), the outbox, violated invariants.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg
import psycopg

from irt_assets.common.dashboard_pages import month_page
from irt_assets.common.job_names import (
    INVARIANT_REPORT,
    INVENTORY,
    LAKE_EQUALS_LOG,
    NEW_ITEMS_MOVE_ON,
    documents_name,
    job_of,
)
from irt_assets.common.retries import failed_because_held, step_failure_reason
from irt_assets.common.run_progress import PARTITION_TAG, RANGE_TAGS, is_requested_again, materialized_since
from irt_assets.decisions.proposals import settled_items
from irt_assets.gates.gates import SET_GATES, SetGate, hold_reasons
from irt_assets.gates.month_status import gate_statuses
from irt_assets.invariants.open_violations import BACKUP_AGE, LastBackup
from irt_assets.ledger.decisions import has_other_key
from irt_assets.ledger.month_verdicts import MonthVerdict, read_verdicts
from jobs.plans import GRACE, Plan
from jobs.watching.lateness import Lateness
from resources.alerts.outbox import Alert, Severity
from resources.dagster_compat import (
    AssetCheckExecutionRecordStatus,
    InstigatorState,
    InstigatorType,
    PartitionKeyFilter,
    TickStatus,
)
from resources.dagster_schema import HOW_TO_FIX, ITEMS, KNOWN_FROM, LEARNERS, rows_of

MONTH = re.compile(r"\d{4}-\d{2}")
MIN_FAILED_TICKS = 3
MAX_REASON_LENGTH = 300
HELD, MONTH_CHECKS, SCHEDULES, SENSORS, BACKUP = "held ", "checks ", "schedule ", "sensor ", "backup"
"""Beginnings of alerts' keys."""
GATES = {dg.AssetCheckKey(dg.AssetKey(gate.asset), gate.name) for gate in SET_GATES}
ITEM_CHECKS = {
    **dict.fromkeys(("keys_are_right", "items_were_estimated", "items_pass_their_gates", "items_treat_groups_alike")),
    **dict.fromkeys(("no_item_drifted_far", "no_item_drifted", "no_item_lost_information"), settled_items),
}
"""The checks that fail only because of the items in their table. The value, if any, is the function that lists the
partition's items on which decisions have been made."""
MAX_RUNS = 5
"""Number of runs searched for a check's last result: the newest runs may have planned it without evaluating it."""
UI_JOB = "__ASSET_JOB"
MAX_RUNTIME_MESSAGE = "exceeding maximum runtime"
"""Part of the daemon's message when it stops a run; the message differs if a person cancels the run."""
DEFAULT_FIX = "Open the check and read its result; when the cause is fixed, launch the partition again."


# -- runs --------------------------------------------------------------------------------------------


def run_partition(run: dg.DagsterRun) -> str:
    """The partition of a run; `FIRST…LAST` if the run is over a range, or empty if it has no partition."""
    first, last = (run.tags.get(tag) for tag in RANGE_TAGS)
    return run.tags.get(PARTITION_TAG) or (f"{first}…{last}" if first and last else "")


def run_name(run: dg.DagsterRun) -> str:
    """The run's job, or its assets joined by `+` if it was launched for chosen assets."""
    if not run.job_name.startswith(UI_JOB):
        return job_of(run.job_name)
    return "+".join(sorted(key.to_user_string() for key in run.asset_selection or ()))


def run_prefix(run: dg.DagsterRun) -> str:
    return job_prefix(run_name(run), run_partition(run))


def job_prefix(job: str, partition: str) -> str:
    """Beginning of the keys of alerts about a job and a partition; the id of the failed run follows the bar."""
    return f"run {documents_name(job)} {partition}|"


def run_alert(
    connection: psycopg.Connection, instance: dg.DagsterInstance, run: dg.DagsterRun, dashboard_url: str | None
) -> Alert | None:
    """The alert about a run that failed or took too long. For a month, it links to the dashboard if it has an address.

    Returns None if the run failed because the month is held: the alert about its gates covers that.
    """
    steps = _events(instance, run, dg.DagsterEventType.STEP_FAILURE)
    if (
        steps
        and all(failed_because_held(event.step_failure_data) for event in steps)
        and held_alert(connection, run_partition(run), dashboard_url) is not None
    ):
        return None
    instruction = "read the failed step"
    if took_too_long(instance, run):
        reason, instruction = "it took longer than it may, so it was stopped", "see which step took so long"
    elif steps:
        reason = step_failure_reason(steps[0].step_failure_data)
    else:
        reason = " ".join(event.message or "" for event in _events(instance, run, dg.DagsterEventType.RUN_FAILURE))
    return Alert(
        key=f"{run_prefix(run)}{run.run_id}",
        severity="error",
        what=f"the run of {run_name(run)} failed: {_shorten(reason)}",
        fix=f"Open the run and {instruction}; when its cause is gone, launch the partition again."
        + _decision_hint(run_partition(run), dashboard_url),
        partition=run_partition(run),
        kind="steps",
        subjects=tuple(event.step_key or "" for event in steps),
        link=f"/runs/{run.run_id}",
    )


def took_too_long(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the daemon stopped a run at its `dagster/max_runtime`. Such a run ends as failed or as cancelled."""
    events = _events(instance, run, dg.DagsterEventType.RUN_CANCELING)
    return any(MAX_RUNTIME_MESSAGE in (event.message or "") for event in events)


def run_is_over(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a failed run needs no attention any more.

    That is so if a repetition succeeded, or if everything that the run planned has been materialised and evaluated.
    """
    record = instance.get_run_record_by_id(run.run_id)
    if record is None or is_requested_again(instance, record, dg.DagsterRunStatus.SUCCESS):
        return True
    start = record.start_time or record.create_timestamp.timestamp()
    failed = {entry.step_key for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)}

    def since(event: dg.DagsterEvent) -> float:
        """Time from which the event's result counts: results of a step that failed later do not."""
        return (record.end_time or start) if event.step_key in failed else start

    assets = _events(instance, run, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    checks = _events(instance, run, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)
    return (
        bool(assets)
        and all(_is_materialized(instance, event, since(event)) for event in assets)
        and all(_is_evaluated(instance, event, run_partition(run), since(event)) for event in checks)
    )


def _events(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
    return [entry.get_dagster_event() for entry in instance.all_logs(run.run_id, of_type=kind)]


def _is_materialized(instance: dg.DagsterInstance, planned: dg.DagsterEvent, since: float) -> bool:
    assert planned.asset_key is not None
    return materialized_since(instance, planned.asset_key, planned.partition, datetime.fromtimestamp(since, UTC))


def _is_evaluated(instance: dg.DagsterInstance, planned: dg.DagsterEvent, partition: str, since: float) -> bool:
    """Whether the check was evaluated since a time, for the run's partition or without a partition.

    The plan of a check without partitions is stored under the run's partition, too.
    """
    key = planned.asset_check_planned_data.asset_check_key
    for kept_under in (partition or None, None):
        records = instance.event_log_storage.get_asset_check_execution_history(
            key, limit=1, partition_filter=PartitionKeyFilter(key=kept_under)
        )
        event = records[0].event if records and isinstance(records[0].evaluation, dg.AssetCheckEvaluation) else None
        if event is not None and event.timestamp >= since:
            return True
    return False


def skipped_check_alerts(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[Alert]:
    """Checks that a successful run planned but skipped, and that have not been evaluated since."""
    evaluated = {
        event.asset_check_evaluation_data.asset_check_key
        for event in _events(instance, run, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    }
    for event in _events(instance, run, dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED):
        key, partition = event.asset_check_planned_data.asset_check_key, run_partition(run)
        if key not in evaluated and latest_evaluation(instance, key, partition) is None:
            yield _check_alert(key, partition, "error", "it was planned but never evaluated", ())


# -- checks ------------------------------------------------------------------------------------------


def check_key(key: dg.AssetCheckKey, partition: str) -> str:
    return f"check {key.asset_key.to_user_string()} {key.name} {partition}"


def latest_evaluation(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, partition: str, *, among: int = 1
) -> dg.AssetCheckEvaluation | None:
    """Find the last evaluation of a check among its newest runs.

    Returns None if none of these runs has evaluated the check.
    """
    records = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=among, partition_filter=PartitionKeyFilter(key=partition or None)
    )
    return next((found for record in records if isinstance(found := record.evaluation, dg.AssetCheckEvaluation)), None)


def alerts_by_check(
    connection: psycopg.Connection,
    instance: dg.DagsterInstance,
    checks: Collection[dg.AssetCheckKey],
    partitions: Collection[str],
) -> dict[str, dict[dg.AssetCheckKey, Alert | None]]:
    """Build the alerts that evaluated checks need now, by partition. Checks of the asset that was made first lead.

    The value is None if the check passes or is settled. A result counts until the check is evaluated again.
    """
    alert_of: dict[str, dict[dg.AssetCheckKey, Alert | None]] = {partition: {} for partition in partitions}
    for info in sorted(
        instance.event_log_storage.get_asset_check_partition_info(sorted(checks)),
        key=lambda info: info.latest_target_materialization_storage_id or 0,
    ):
        key, partition = info.check_key, info.partition_key or ""
        if partition in alert_of and info.latest_execution_status is AssetCheckExecutionRecordStatus.SUCCEEDED:
            alert_of[partition][key] = None
        elif partition in alert_of and (evaluation := latest_evaluation(instance, key, partition, among=MAX_RUNS)):
            alert_of[partition][key] = check_alert(connection, evaluation)
    return alert_of


def month_alert(month: str, failed: Mapping[dg.AssetCheckKey, Alert], dashboard_url: str | None) -> Alert:
    """Bundle the alerts about a month's failed checks. An error comes first, and then the check of the first asset."""
    first, *others = sorted(failed.values(), key=lambda alert: alert.severity)
    return replace(
        first,
        key=MONTH_CHECKS + month,
        what=first.what.rstrip(".") + f"; other failed checks: {len(others)}" * bool(others),
        fix=first.fix + _decision_hint(month, dashboard_url),
        kind="checks",
        subjects=[
            f"{key.name}: {item}" if item else key.name
            for key, alert in failed.items()
            for item in (alert.kind == "items" and alert.subjects) or [""]
        ],
    )


def held_alert(connection: psycopg.Connection, month: str, dashboard_url: str | None) -> Alert | None:
    """The single alert about a held month, however many gates fail. Returns None if no gate fails."""
    verdicts = read_verdicts(connection, [month])
    failed = {gate: sentences for gate in SET_GATES if (sentences := [*_failures_of(gate, verdicts)])}
    if not failed:
        return None
    first = next(iter(failed))
    reasons = {gate.name: "; ".join(sentences) for gate, sentences in failed.items()}
    return Alert(
        key=HELD + month,
        severity="error",
        what=f"{month} is held: {_shorten(hold_reasons(reasons))}",
        fix=first.fix + _decision_hint(month, dashboard_url),
        partition=month,
        kind="gates",
        subjects=tuple(reasons),
        link=_link(dg.AssetCheckKey(dg.AssetKey(first.asset), first.name)),
    )


def _failures_of(gate: SetGate, verdicts: Mapping[tuple[str, str], MonthVerdict]) -> Iterator[str]:
    """Yield why the gate fails on each scale on which it fails, with the scale if the month was judged on several."""
    for (_, scale_id), verdict in verdicts.items():
        judged = verdict.gates.get(gate.name)
        if judged and not judged.passed:
            yield judged.why if len(verdicts) == 1 else f"{scale_id}: {judged.why}"


def _decision_hint(partition: str, dashboard_url: str | None) -> str:
    """A sentence on where to decide on a month; empty if the partition is not a month."""
    if not MONTH.fullmatch(partition):
        return ""
    location = month_page(dashboard_url, partition) if dashboard_url else f"`irt release list --month {partition}`"
    return f" Open decisions: {location}"


def gates_pass(connection: psycopg.Connection, month: str) -> bool:
    """Whether every set gate of the month was judged and passed on every scale."""
    statuses = [gate_statuses(verdict).values() for verdict in read_verdicts(connection, [month]).values()]
    return bool(statuses) and all(status.passed for of_scale in statuses for status in of_scale)


def check_alert(connection: psycopg.Connection, evaluation: dg.AssetCheckEvaluation) -> Alert | None:
    """Return the alert about a failed evaluation.

    Returns None for set gates, which `held_alert` covers, and if somebody has since decided on all items of the check.

    The text goes to chats, so it does not repeat the description of a check on learners, which names them.
    """
    # Items that were reported before are left out.
    named = [row for row in rows_of(evaluation.metadata, ITEMS) if not row.get(KNOWN_FROM)]
    rows = _without_decision(connection, evaluation, named)
    if evaluation.passed or evaluation.asset_check_key in GATES or (named and not rows):
        return None
    items = tuple(row["item"] for row in rows if row.get("item"))
    learners = tuple(row["learners"] for row in rows_of(evaluation.metadata, LEARNERS))
    reason = _reason(evaluation, evaluation.partition or "")
    return _check_alert(
        evaluation.asset_check_key,
        evaluation.partition or "",
        "error" if evaluation.severity is dg.AssetCheckSeverity.ERROR else "warning",
        "the result in the UI lists the learners" if learners else reason,
        learners or items,
        str(evaluation.metadata[HOW_TO_FIX].value) if HOW_TO_FIX in evaluation.metadata else DEFAULT_FIX,
        kind="learners" if learners else "items",
    )


def _without_decision(
    connection: psycopg.Connection, evaluation: dg.AssetCheckEvaluation, rows: list[dict[str, str]]
) -> list[dict[str, str]]:
    """Select the rows of items that still need a decision.

    A changed key settles all that was found with the old one, until the check is evaluated with the new key.
    """
    name, target = evaluation.asset_check_key.name, evaluation.target_materialization_data
    if name not in ITEM_CHECKS or target is None:
        return rows
    settled = find(connection, evaluation.partition or "") if (find := ITEM_CHECKS[name]) else {}
    return [
        row
        for row in rows
        if (row["scale"], row["item"]) not in settled
        and not has_other_key(connection, row["item"], datetime.fromtimestamp(target.timestamp, UTC))
    ]


def _check_alert(
    key: dg.AssetCheckKey,
    partition: str,
    severity: Severity,
    reason: str,
    subjects: tuple[str, ...],
    fix: str = DEFAULT_FIX,
    kind: str = "items",
) -> Alert:
    asset = key.asset_key.to_user_string()
    return Alert(
        key=check_key(key, partition),
        severity=severity,
        what=f"the check {key.name} of {asset} failed: {_shorten(reason)}",
        fix=fix,
        partition=partition,
        kind=kind if subjects else "",
        subjects=subjects,
        link=_link(key),
    )


def _link(key: dg.AssetCheckKey) -> str:
    return f"/assets/{key.asset_key.to_user_string()}?view=checks&checkDetail={key.name}"


def _reason(evaluation: dg.AssetCheckEvaluation, partition: str) -> str:
    """The description without its leading partition, which the alert names anyway."""
    reason = evaluation.description or "it gave no reason"
    return reason.removeprefix(f"{partition}: ") if partition else reason


# -- schedules ---------------------------------------------------------------------------------------


def schedule_states(instance: dg.DagsterInstance) -> dict[str, InstigatorState]:
    """The state of every schedule that somebody switched or that has ticked, by name."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    return {state.instigator_name: state for state in states}


def schedule_alert(plan: Plan, late: Lateness) -> Alert:
    """The alert about a schedule that is on and whose job is late."""
    result = f"{plan.asset} of {late.partition}" if late.partition else f"a successful run of {plan.job}"
    return Alert(
        key=f"{SCHEDULES}{plan.name}",
        severity="error",
        what=f"{result} was due at {late.tick:%Y-%m-%d %H:%M} UTC and is missing",
        fix=f"See in `irt status` whether {plan.name} ticked and how its runs ended; then launch {plan.job} for the"
        " missing partition.",
        partition=late.partition,
        kind="jobs",
        subjects=(plan.job,),
        link=f"/automation?search={plan.name}",
    )


# -- sensors -----------------------------------------------------------------------------------------


def sensor_alert(instance: dg.DagsterInstance, state: InstigatorState, now: datetime) -> Alert | None:
    """The alert about a sensor whose evaluations of the last hour, at least three, all failed; otherwise None."""
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=(now - GRACE).timestamp())
    ended = [tick for tick in ticks if tick.status is not TickStatus.STARTED]
    if len(ended) < MIN_FAILED_TICKS or any(tick.status is not TickStatus.FAILURE for tick in ended):
        return None
    error = ended[0].error
    reason = _shorten(error.message if error else "it gave no reason")
    return Alert(
        key=f"{SENSORS}{state.instigator_name}",
        severity="error",
        what=f"{state.instigator_name} fails at every evaluation: {reason}",
        fix="Open the sensor and read its last tick; its runs and alerts follow once it works again.",
        link=f"/automation?search={state.instigator_name}",
    )


# -- backups -----------------------------------------------------------------------------------------


def backup_alert(last: LastBackup | None, now: datetime) -> Alert | None:
    """The alert about a late backup. Returns None if the backup is not late, or if there has never been one."""
    if last is None or now - last.made_at <= BACKUP_AGE:
        return None
    return Alert(
        key=BACKUP,
        severity="error",
        what=f"the last backup is of {last.made_at:%Y-%m-%d %H:%M} UTC",
        fix="See why its timer or CronJob failed, or does not run; `irt backup` makes one now.",
        link="/deployment",
    )


def _shorten(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= MAX_REASON_LENGTH else f"{line[:MAX_REASON_LENGTH]}…"


def has_other_alert(key: dg.AssetCheckKey) -> bool:
    """Return whether other alerts report a check's failures: those on invariants, the inventory and new items."""
    of_invariant = key.asset_key == dg.AssetKey(INVARIANT_REPORT) and key.name != LAKE_EQUALS_LOG
    return of_invariant or key.name in (INVENTORY, NEW_ITEMS_MOVE_ON)
