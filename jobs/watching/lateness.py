"""The only decision on which jobs are late. Alerts, `irt status`, the dashboard and the exporter use it.

Light to import, for the exporter. The text of an alert is in `alerts`, the times of jobs are in `plans`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
from dagster import deserialize_value

from irt_assets.common.job_names import job_of
from jobs.plans import Plan, last_due
from resources.dagster_compat import InstigatorState, ScheduleInstigatorData
from resources.dagster_tables import (
    last_successes,
    latest_materialisations,
    run_if_dagster_exists,
    schedules,
    unfinished_jobs,
)
from resources.postgres.database import one_value


@dataclass(frozen=True)
class PlanRecord:
    """The stored facts about a plan.

    Attributes:
        begun: time at which the first scale was initialised; nothing was due before it.
        made: time of the last materialisation of each partition.
        succeeded: end of the job's last successful run.
        is_running: whether a run of the job has not ended.
        is_on: whether the schedule is switched on.
        switched_on: time at which somebody switched the schedule on, or None if it has always been on.
    """

    begun: datetime | None = None
    made: Mapping[str, datetime] = field(default_factory=dict)
    succeeded: datetime | None = None
    is_running: bool = False
    is_on: bool = False
    switched_on: datetime | None = None


@dataclass(frozen=True)
class Lateness:
    """The missing result of a job.

    Attributes:
        tick: time from which the result was due.
        partition: the missing partition; empty if the job has no partitions.
        of_schedule: whether the job's schedule was on at that time and still is.
    """

    tick: datetime
    partition: str
    of_schedule: bool


def lateness(plan: Plan, record: PlanRecord, now: datetime, first_month: str) -> Lateness | None:
    """The missing result of a job, whoever starts the job. Returns None if it is in time."""
    tick = last_due(plan, now, is_running=record.is_running)
    newest = plan.newest_due(tick, first_month)
    if newest is None and plan.asset:
        return None
    partition, due = newest or ("", tick)
    made = record.made.get(partition) if plan.asset else record.succeeded
    if record.begun is None or record.begun > due or (made is not None and made >= due):
        return None
    return Lateness(tick, partition, record.is_on and (record.switched_on is None or record.switched_on <= tick))


def read_lateness(
    connection: psycopg.Connection, plans: Sequence[Plan], first_month: str, now: datetime
) -> dict[Plan, Lateness]:
    """The late plans. Reads Dagster's tables, which are missing until Dagster has run once."""
    bodies = run_if_dagster_exists(connection, schedules) or []
    states = {state.instigator_name: state for state in (deserialize_value(body, InstigatorState) for body in bodies)}
    running = {job_of(job) for job in run_if_dagster_exists(connection, unfinished_jobs) or ()}
    ended = run_if_dagster_exists(connection, last_successes) or {}
    succeeded = {job_of(job): datetime.fromtimestamp(end, UTC) for job, end in ended.items()}
    newest = {plan: plan.newest_due(last_due(plan, now, is_running=plan.job in running), first_month) for plan in plans}
    partitions = [(plan.asset, due[0]) for plan, due in newest.items() if due is not None]
    made = run_if_dagster_exists(connection, lambda here: latest_materialisations(here, partitions)) or {}
    begun = one_value(connection, "SELECT min(initialised_at) FROM calibration_scale")
    late_plans = {}
    for plan in plans:
        state = states.get(plan.name)
        record = PlanRecord(
            begun=begun,
            made={partition: at for (asset, partition), at in made.items() if asset == plan.asset},
            succeeded=succeeded.get(plan.job),
            is_running=plan.job in running,
            is_on=state is not None and state.is_running,
            switched_on=_switch_time(state),
        )
        late = lateness(plan, record, now, first_month)
        if late is not None:
            late_plans[plan] = late
    return late_plans


def _switch_time(state: InstigatorState | None) -> datetime | None:
    """Time at which somebody switched a schedule on. Returns None if it has always been on."""
    data = state.instigator_data if state else None
    start = data.start_timestamp if isinstance(data, ScheduleInstigatorData) else None
    return datetime.fromtimestamp(start, UTC) if start else None
