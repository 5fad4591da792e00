"""Schedules. Dagster does not catch up on missed ticks, so each tick requests all missing partitions of its look-back.

A partition is complete if its asset was materialised after the partition's end. So the running week is requested at
each tick, and once more after its end. Days of features, days of item analysis and weeks of KPIs are also requested
again if their verdicts have changed since. A job without partitions runs once per tick, started by its schedule or by a
timer.

The decisions are pure functions; the schedules only fetch and pack. `stale_months` requests months whose verdicts have
changed.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from irt_assets.common.job_names import ITEM_ANALYSIS_DAILY, same_job
from irt_assets.common.partitions import Month, day_bounds, spans
from irt_assets.common.run_progress import RANGE_TAGS, materialized_since, partitions_under_way
from irt_assets.kpis.weekly import window_of_week
from irt_assets.responses.verdict_states import WindowOf, changed_partitions
from jobs.plans import PLANS, Plan
from resources.dagster_compat import NOT_FINISHED_STATUSES, UnresolvedAssetJobDefinition
from resources.postgres.database import Database, one_value
from resources.settings import Settings

Job = UnresolvedAssetJobDefinition | dg.JobDefinition
VERDICT_WINDOWS: dict[str, WindowOf] = {
    "features_topic_daily": day_bounds,
    "weekly_kpi": window_of_week,
    ITEM_ANALYSIS_DAILY: day_bounds,
}
"""Assets whose partitions are requested again if a verdict has changed in their window, with that window."""


def find_missing(
    instance: dg.DagsterInstance, database: Database, plan: Plan, tick: datetime, first_month: str
) -> tuple[list[str], list[str]]:
    """The partitions that are due at a tick, and the partitions to request; both oldest first.

    A partition is requested if it is due and missing, or if its verdicts have changed since it was made, unless a run
    for it is under way. The running partition of a plan with `if_new` is missing if answers with a choice have come
    since it was made.
    """
    due, asset = plan.partitions_due(tick, first_month), dg.AssetKey(plan.asset)
    changed = find_changed(database, plan, first_month)
    since = {key: plan.period.bounds(key)[1] for key in due}
    if plan.if_new and (running := plan.period.key_of(tick)) in since:
        del since[running]
        if newest := newest_choice(database, *plan.period.bounds(running)):
            since[running] = newest
    unmade = [key for key, at in since.items() if not materialized_since(instance, asset, key, at)]
    return due, sorted({*changed, *unmade} - partitions_under_way(instance, plan.job, [plan.asset]))


def newest_choice(database: Database, start: datetime, end: datetime) -> datetime | None:
    """Time at which the last answer of [start, end) with a choice was written. Returns None without such answers."""
    query = """SELECT max(recorded_at) FROM response_log
               WHERE completed_at >= %s AND completed_at < %s AND response <> ''"""
    with database.connect() as connection:
        newest: datetime | None = one_value(connection, query, (start, end))
    return newest


def find_changed(database: Database, plan: Plan, first_month: str) -> list[str]:
    """The partitions of a plan's asset whose verdicts have changed since they were made, oldest first."""
    if plan.asset not in VERDICT_WINDOWS:
        return []
    changed = database.call(changed_partitions, plan.asset, VERDICT_WINDOWS[plan.asset])
    begin = Month(first_month).start
    return [key for key in changed if plan.period.bounds(key)[1] > begin]


def build_requests(due: Collection[str], keys: Collection[str]) -> list[dg.RunRequest]:
    """Run requests for `keys`: one per partition in `due`, and one per range of consecutive other partitions."""
    # Dagster compares run keys only within a tick, so a partition that failed is requested again at the next tick.
    earlier = [
        dg.RunRequest(run_key=first, partition_key=first)
        if first == last
        else dg.RunRequest(run_key=f"{first}…{last}", tags=dict(zip(RANGE_TAGS, (first, last), strict=True)))
        for first, last in spans(key for key in keys if key not in due)
    ]
    return earlier + [dg.RunRequest(run_key=key, partition_key=key) for key in keys if key in due]


def has_run_since(instance: dg.DagsterInstance, plan: Plan, tick: datetime) -> bool:
    """Whether a run of a job has been requested since a tick and has succeeded or is not finished."""
    statuses = [*NOT_FINISHED_STATUSES, dg.DagsterRunStatus.SUCCESS]
    return any(
        instance.get_runs_count(dg.RunsFilter(job_name=name, statuses=statuses, created_after=tick))
        for name in same_job(plan.job)
    )


def build_schedules(
    jobs: Mapping[str, Job], settings: Settings, plans: Sequence[Plan] = PLANS
) -> list[dg.ScheduleDefinition]:
    """One schedule per plan, switched on or off according to IRT_SCHEDULES."""
    running = settings.irt_schedules == "running"
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return [_build(plan, jobs[plan.job], settings.irt_first_month, status) for plan in plans]


def _build(plan: Plan, job: Job, first_month: str, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    options: dict[str, Any] = {
        "name": plan.name,
        "job": job,
        "cron_schedule": plan.cron,
        "execution_timezone": plan.zone,
        "description": plan.description
        + (" Requests partitions again if their verdicts have changed since." if plan.asset in VERDICT_WINDOWS else ""),
        "default_status": status,
    }

    @dg.schedule(**options)
    def schedule(
        context: dg.ScheduleEvaluationContext, database: dg.ResourceParam[Database]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        if not plan.asset:
            ran = has_run_since(context.instance, plan, tick)
            return dg.SkipReason("a timer or a person has started it since") if ran else [dg.RunRequest()]
        due, requested = find_missing(context.instance, database, plan, tick, first_month)
        if not requested:
            return dg.SkipReason(f"no partition is missing of {', '.join(due) or 'the look-back'}")
        return build_requests(due, requested)

    return schedule
