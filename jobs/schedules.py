"""Schedules. Dagster does not catch up on missed ticks, so each asks for every missing partition of its look-back.

A partition is made when its asset was materialised after the partition's end. So a week that was computed while it ran
is asked for again, at each tick until it is over and once more after it.

The decisions are pure functions; the schedules only fetch and pack. What does not belong here: late answers (see
`late_sensor`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from irt_assets.calibration.green import MONTHLY_JOB
from irt_assets.calibration.nightly_assets import NIGHTLY, NIGHTLY_JOB
from irt_assets.invariants.history import REPORT
from irt_assets.partitions import DAYS, MONTHS, WEEKS, Period, month_bounds
from irt_assets.reports.learner_assets import LEARNER_REPORT, LEARNER_REPORT_JOB
from irt_assets.underway import made_since, under_way
from jobs.prune import PRUNE_JOB
from resources.settings import Settings

Job = UnresolvedAssetJobDefinition | dg.JobDefinition


@dataclass(frozen=True)
class Plan:
    """When a job runs, and what a tick asks for.

    Attributes:
        asset: whose materialisation makes a partition; empty for a job without partitions.
        look_back: how many partitions that are over a tick looks at; `running`: and the one that is not.
    """

    job: str
    cron: str
    asset: str = ""
    period: Period = DAYS
    look_back: int = 0
    running: bool = False
    zone: str = "UTC"

    @property
    def name(self) -> str:
        return f"{self.job}_schedule"

    @property
    def description(self) -> str:
        if not self.asset:
            return "Runs the job."
        last = f"last {self.period.name}" if self.look_back == 1 else f"last {self.look_back} {self.period.name}s"
        return f"Asks for what is missing of the {last}{', and for the running one' if self.running else ''}."

    def wanted(self, tick: datetime, first_month: str) -> list[str]:
        """The partitions that should be there after a tick, oldest first, none that ends before the first month."""
        keys = self.period.back(tick, self.look_back)
        if self.running:
            keys.append(self.period.key_of(tick))
        begin = month_bounds(first_month)[0]
        return [key for key in keys if self.period.bounds(key)[1] > begin]


PLANS = (
    Plan("observe_bank", "30 0 * * *"),
    Plan("observe_attempts", "30 0 * * *"),
    Plan("aggregate_features_daily", "15 1 * * *", "features_topic_daily", DAYS, 14),
    Plan("compute_daily_kpis", "10 2 * * *", "weekly_kpi", WEEKS, 8, running=True),
    # What was fitted and judged red waits for a person; what never got as far is asked for again.
    Plan(MONTHLY_JOB, "0 2 1 * *", "item_calibration", MONTHS, 3),
    # A window of 30 days hardly differs from the next day's: after a longer gap the older nights say nothing new.
    Plan(NIGHTLY_JOB, "0 3 * * *", NIGHTLY, DAYS, 3),
    # Nobody waits for what a learner did more than a month ago.
    Plan(LEARNER_REPORT_JOB, "0 4 * * 1", LEARNER_REPORT, WEEKS, 4),
    Plan("detect_inactivity", "0 5 * * *", "inactivity", DAYS, 14),
    Plan("inventory", "0 6 * * *"),
    Plan(PRUNE_JOB, "30 6 * * *"),
    # A report looks at the present: one for a day that went by without would say of that day what is so today.
    Plan("invariants", "0 2 * * *", REPORT, DAYS, 1, zone="America/New_York"),
)
"""Every schedule, at the times of the documents."""


def to_ask(wanted: Sequence[str], made: Collection[str], under_way: Collection[str]) -> list[str]:
    """What of the partitions that should be there is neither there nor on its way."""
    return [key for key in wanted if key not in made and key not in under_way]


def made(instance: dg.DagsterInstance, plan: Plan, partitions: Sequence[str]) -> set[str]:
    """Which of the partitions were made after their end; none that is not over."""
    asset = dg.AssetKey(plan.asset)
    return {key for key in partitions if made_since(instance, asset, key, plan.period.bounds(key)[1])}


def missing(instance: dg.DagsterInstance, plan: Plan, tick: datetime, first_month: str) -> tuple[list[str], list[str]]:
    """The partitions that should be there after a tick, and those of them to be asked for."""
    wanted = plan.wanted(tick, first_month)
    return wanted, to_ask(wanted, made(instance, plan, wanted), under_way(instance, plan.job, [plan.asset]))


def build_schedules(
    jobs: Mapping[str, Job], settings: Settings, plans: Sequence[Plan] = PLANS
) -> list[dg.ScheduleDefinition]:
    """A schedule for each plan, switched on or off as the settings say."""
    status = dg.DefaultScheduleStatus[settings.irt_schedules.upper()]
    return [_build(plan, jobs[plan.job], settings.irt_first_month, status) for plan in plans]


def _build(plan: Plan, job: Job, first_month: str, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    if not plan.asset:
        return dg.ScheduleDefinition(
            name=plan.name,
            job=job,
            cron_schedule=plan.cron,
            execution_timezone=plan.zone,
            description=plan.description,
            default_status=status,
        )

    @dg.schedule(
        name=plan.name,
        job=job,
        cron_schedule=plan.cron,
        execution_timezone=plan.zone,
        description=plan.description,
        default_status=status,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        tick = context.scheduled_execution_time.astimezone(UTC)
        wanted, asked = missing(context.instance, plan, tick, first_month)
        if not asked:
            return dg.SkipReason(f"nothing is missing of {', '.join(wanted) or 'the look-back'}")
        # Dagster compares run keys within a tick: what failed is asked for again at the next.
        return [dg.RunRequest(run_key=key, partition_key=key) for key in asked]

    return schedule
