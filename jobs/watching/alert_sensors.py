"""Sensors that open and resolve alerts, and the sensor that delivers them.

They read events from a cursor on, with a small overlap, because ids and times may be committed out of order. They
decide by the present state (see `alerts`), so reading an event twice changes nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from irt_assets.common.job_names import NIGHTLY_JOB
from irt_assets.common.run_progress import runs_to_repeat, was_repeated
from irt_assets.intake.silence import alert_on_silence
from irt_assets.invariants.history import resolve_alerts_of_checks
from irt_assets.invariants.open_violations import last_backup
from jobs.plans import Plan
from jobs.watching import alerts
from jobs.watching.lateness import read_lateness
from resources.alerts.outbox import Alert, open_alert, open_keys, resolve_alert, settle_alerts
from resources.alerts.watchdog import request_watchdog
from resources.dagster_compat import FINISHED_STATUSES, InstigatorType
from resources.postgres.database import Database
from resources.settings import Settings

MAX_EVENTS = 500
OVERLAP_IDS = 100
OVERLAP = timedelta(minutes=1)
FIRST_LOOK_BACK = timedelta(days=1)


def build_alert_sensors(plans: Sequence[Plan], settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors for failed runs, failed or missing checks and late jobs, and the sensor that delivers alerts."""
    return [alerts_of_runs, alerts_of_checks, _schedules(plans, settings.irt_first_month), alert_delivery]


@dg.sensor(
    name="alerts_of_runs",
    description="Opens an alert about a run that failed or took too long, and resolves it when its results exist.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alerts_of_runs(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SkipReason:
    now, instance = datetime.now(UTC), context.instance
    since = datetime.fromisoformat(context.cursor) if context.cursor else now - FIRST_LOOK_BACK
    since = min(since, now)  # if the clock was set back, runs that end now are dated before the cursor
    ended = instance.get_run_records(
        dg.RunsFilter(statuses=FINISHED_STATUSES, updated_after=since - OVERLAP),
        order_by="update_timestamp",
        ascending=True,
    )
    repeated = {record.storage_id for record in runs_to_repeat(instance)}
    undecided = [record for record in ended if record.storage_id in repeated]
    opened = resolved = 0
    with database.connect() as connection:
        for run in (record.dagster_run for record in ended if record not in undecided):
            if was_repeated(instance, run):
                continue  # the result of its repetition counts
            if run.status is dg.DagsterRunStatus.CANCELED and not alerts.took_too_long(instance, run):
                continue  # the person who cancelled it knows
            if run.status is dg.DagsterRunStatus.SUCCESS:
                for alert in alerts.skipped_check_alerts(instance, run):
                    opened += open_alert(connection, alert)
            elif not open_keys(connection, alerts.run_prefix(run)) and not alerts.run_is_over(instance, run):
                new_alert = alerts.run_alert(connection, instance, run, database.settings.dashboard_url)
                opened += new_alert is not None and open_alert(connection, new_alert)
        for key in open_keys(connection, "run "):
            failed = instance.get_run_by_id(key.rpartition("|")[2])
            if failed is None or alerts.run_is_over(instance, failed):
                resolved += resolve_alert(connection, key)
    new = (record.dagster_run for record in ended if record.update_timestamp.astimezone(UTC) > since)
    if any(run.job_name == NIGHTLY_JOB and run.status is dg.DagsterRunStatus.SUCCESS for run in new):
        request_watchdog(database.settings)
    latest = max([since, *(record.update_timestamp.astimezone(UTC) for record in ended)])
    context.update_cursor(min([latest, *(r.update_timestamp.astimezone(UTC) for r in undecided)]).isoformat())
    return dg.SkipReason(f"{len(ended)} runs ended, {opened} alerts opened, {resolved} resolved")


@dg.sensor(
    name="alerts_of_checks",
    description="Opens an alert about a failed asset check, or a single one about all gates that hold a month, and "
    "resolves it when they pass.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alerts_of_checks(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SkipReason:
    cursor = int(context.cursor or 0)
    records = context.instance.get_event_records(
        dg.EventRecordsFilter(
            event_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=max(0, cursor - OVERLAP_IDS)
        ),
        limit=MAX_EVENTS,
        ascending=True,
    )
    evaluated = [record.event_log_entry.get_dagster_event().asset_check_evaluation_data for record in records]
    months = {event.partition or "" for event in evaluated if event.asset_check_key in alerts.GATES}
    assert context.repository_def is not None
    checks = {key for key in context.repository_def.asset_graph.asset_check_keys if not alerts.has_other_alert(key)}
    partitions = {event.partition or "" for event in evaluated if event.asset_check_key in checks}
    opened = resolved = 0
    with database.connect() as connection:
        for month in sorted(months):
            alert = alerts.held_alert(connection, month, database.settings.dashboard_url)
            if alert is not None:
                opened += open_alert(connection, alert)
                resolved += resolve_alerts_of_checks(connection, month)
            elif alerts.gates_pass(connection, month):
                resolved += resolve_alert(connection, alerts.HELD + month)
        before = open_keys(connection, "check")
        partitions |= {key.rpartition(" ")[2] for key in before}  # a decision may have settled them
        found = alerts.alerts_by_check(connection, context.instance, checks, partitions) if partitions else {}
        for partition, alert_of in sorted(found.items()):
            failed = {key: alert for key, alert in alert_of.items() if alert is not None}
            wanted = [*failed.values()]
            if failed and alerts.MONTH.fullmatch(partition):
                wanted = [alerts.month_alert(partition, failed, database.settings.dashboard_url)]
            opened += sum(open_alert(connection, alert) for alert in wanted)
            over = before.keys() & {
                alerts.MONTH_CHECKS + partition,
                *(alerts.check_key(key, partition) for key in alert_of),
            } - {alert.key for alert in wanted}
            resolved += sum(resolve_alert(connection, key) for key in over)
    context.update_cursor(str(max([cursor, *(record.storage_id for record in records)])))
    return dg.SkipReason(f"{len(evaluated)} checks evaluated, {opened} alerts opened, {resolved} resolved")


def _schedules(plans: Sequence[Plan], first_month: str) -> dg.SensorDefinition:
    @dg.sensor(
        name="alerts_of_schedules",
        description="Opens an alert about a schedule that is switched on and whose job is late, a sensor that always "
        "fails, a late backup, or a silent source of answers, and resolves it when the problem is over.",
        minimum_interval_seconds=600,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def alerts_of_schedules(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SkipReason:
        now = datetime.now(UTC)
        with database.connect() as connection:
            late_plans = read_lateness(connection, plans, first_month, now)
            of_schedules = {plan: lateness for plan, lateness in late_plans.items() if lateness.of_schedule}
            opened = [
                alerts.schedule_alert(plan, lateness)
                for plan, lateness in of_schedules.items()
                # the alert about a failed run contains more
                if not open_keys(connection, alerts.job_prefix(plan.job, lateness.partition))
            ]
            settle_alerts(connection, alerts.SCHEDULES, opened)
            settle_alerts(connection, alerts.SENSORS, _sensor_alerts(context.instance, now))
            backup = alerts.backup_alert(last_backup(connection), now)
            settle_alerts(connection, alerts.BACKUP, [backup] if backup else [])
            names = [plan.name for plan in of_schedules] + ["backup"] * (backup is not None)
            names += alert_on_silence(connection, database.settings)
        return dg.SkipReason(f"late: {', '.join(names)}" if names else "every schedule that is switched on is in time")

    return alerts_of_schedules


def _sensor_alerts(instance: dg.DagsterInstance, now: datetime) -> list[Alert]:
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    sensor_alerts = (alerts.sensor_alert(instance, state, now) for state in states if state.is_running)
    return [alert for alert in sensor_alerts if alert is not None]


@dg.sensor(
    name="alert_delivery",
    description="Sends the messages in the outbox, on each channel separately, and tries again until they arrive.",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alert_delivery(database: dg.ResourceParam[Database]) -> dg.SkipReason:
    from resources.alerts.notifier import deliver  # takes 0.1 s to import, which runs need not spend

    arrived = deliver(database)
    return dg.SkipReason(", ".join(f"{n} to {name}" for name, n in arrived.items()) or "no channel is configured")
