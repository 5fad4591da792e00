"""Schedules. Dagster does not catch up on missed ticks, so each asks for every missing partition of its look-back.

A partition is made when its asset was materialised after the partition's end. So a week that was computed while it ran
is asked for again, at each tick until it is over and once more after it. A job without partitions runs once for a
tick, by its schedule or by a timer that is on beside it.

The decisions are pure functions; the schedules only fetch and pack. What does not belong here: late answers (see
`late_sensor`).
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from irt_assets.common.job_names import same_job
from irt_assets.common.run_progress import materialized_since, under_way
from jobs.plans import PLANS, Plan
from resources.dagster_compat import NOT_FINISHED_STATUSES, UnresolvedAssetJobDefinition
from resources.settings import Settings

Job = UnresolvedAssetJobDefinition | dg.JobDefinition


def unmade_partitions(wanted: Sequence[str], made: Collection[str], under_way: Collection[str]) -> list[str]:
    """The partitions that should exist, do not, and are not under way."""
    return [key for key in wanted if key not in made and key not in under_way]


def missing(instance: dg.DagsterInstance, plan: Plan, tick: datetime, first_month: str) -> tuple[list[str], list[str]]:
    """The partitions that should be there after a tick, and those of them to be asked for."""
    wanted, asset = plan.partitions_due(tick, first_month), dg.AssetKey(plan.asset)
    made = {key for key in wanted if materialized_since(instance, asset, key, plan.period.bounds(key)[1])}
    return wanted, unmade_partitions(wanted, made, under_way(instance, plan.job, [plan.asset]))


def ran_since(instance: dg.DagsterInstance, plan: Plan, tick: datetime) -> bool:
    """Whether a run of a job was asked for since a tick, and has succeeded or may still."""
    statuses = [*NOT_FINISHED_STATUSES, dg.DagsterRunStatus.SUCCESS]
    return any(
        instance.get_runs_count(dg.RunsFilter(job_name=name, statuses=statuses, created_after=tick))
        for name in same_job(plan.job)
    )


def build_schedules(
    jobs: Mapping[str, Job], settings: Settings, plans: Sequence[Plan] = PLANS
) -> list[dg.ScheduleDefinition]:
    """A schedule for each plan, switched on or off as the settings say."""
    running = settings.irt_schedules == "running"
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return [_build(plan, jobs[plan.job], settings.irt_first_month, status) for plan in plans]


def _build(plan: Plan, job: Job, first_month: str, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    how: dict[str, Any] = {
        "name": plan.name,
        "job": job,
        "cron_schedule": plan.cron,
        "execution_timezone": plan.zone,
        "description": plan.description,
        "default_status": status,
    }

    @dg.schedule(**how)
    def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        if not plan.asset:
            ran = ran_since(context.instance, plan, tick)
            return dg.SkipReason("a timer or a person started it since") if ran else [dg.RunRequest()]
        wanted, asked = missing(context.instance, plan, tick, first_month)
        if not asked:
            return dg.SkipReason(f"nothing is missing of {', '.join(wanted) or 'the look-back'}")
        # Dagster compares run keys within a tick: what failed is asked for again at the next.
        return [dg.RunRequest(run_key=key, partition_key=key) for key in asked]

    return schedule
