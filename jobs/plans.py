"""The times of each job, and the partitions that are due at a tick of its schedule.

Light to import, for the exporter. `schedules` finds the partitions that exist already, `lateness` the late plans.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from irt_assets.common.job_names import (
    INVARIANT_REPORT,
    ITEM_ANALYSIS_DAILY,
    ITEM_ANALYSIS_JOB,
    JUDGE_JOB,
    KPI_JOB,
    LEARNER_REPORT,
    LEARNER_REPORT_JOB,
    MONTHLY_JOB,
    NIGHTLY,
    NIGHTLY_JOB,
    PRUNE_JOB,
    documents_name,
    job_of,
)
from irt_assets.common.partitions import DAYS, MONTHS, WEEKS, Month, Period
from resources.dagster_compat import schedule_execution_time_iterator
from resources.failures import PermanentFailure

GRACE = timedelta(hours=1)
"""Time after a tick until a daily job is late. A result that is not late is thus at most 25 hours old."""
RUNNING_GRACE = timedelta(hours=25)
"""Time after a tick until a weekly or monthly job is late, or a daily job that is running."""


@dataclass(frozen=True)
class Plan:
    """The times of a job, and the partitions that a tick checks.

    Attributes:
        cron: the times in cron's notation, in `zone`.
        asset: the asset that the job materialises for each partition; empty for a job without partitions.
        look_back: number of completed partitions that a tick checks.
        running: whether a tick also checks the current partition.
        if_new: whether a tick checks the current partition only if answers with a choice have come since it was made.
            It is never late then.
    """

    job: str
    cron: str
    asset: str = ""
    period: Period = DAYS
    look_back: int = 0
    running: bool = False
    if_new: bool = False
    zone: str = "UTC"

    @property
    def documents_name(self) -> str:
        return documents_name(self.job)

    @property
    def name(self) -> str:
        return f"{self.documents_name}_schedule"

    @property
    def description(self) -> str:
        if not self.asset:
            return "Runs the job."
        last = f"last {self.period.name}" if self.look_back == 1 else f"last {self.look_back} {self.period.name}s"
        running = f", and the running {self.period.name}" if self.running else ""
        return f"Completes the {last}{running}{' if answers with a choice have come' if self.if_new else ''}."

    def partitions_due(self, tick: datetime, first_month: str) -> list[str]:
        """The partitions that are due at a tick, oldest first. Partitions that end before the first month are not."""
        keys = self.period.last_keys(tick, self.look_back)
        if self.running:
            keys.append(self.period.key_of(tick))
        begin = Month(first_month).start
        return [key for key in keys if self.period.bounds(key)[1] > begin]

    def newest_due(self, tick: datetime, first_month: str) -> tuple[str, datetime] | None:
        """The newest partition that is due at a tick, and the time from which a materialisation counts.

        Returns None if there is no such partition.
        """
        due = replace(self, running=self.running and not self.if_new).partitions_due(tick, first_month)
        newest = due[-1:] if self.asset else []
        return (newest[0], min(self.period.bounds(newest[0])[1], tick)) if newest else None

    @property
    def is_daily(self) -> bool:
        """Whether the result is due every day. A month's result is not, although its schedule ticks daily."""
        return self.cron.endswith(" * * *") and self.period is not MONTHS


PLANS = (
    Plan(JUDGE_JOB, "30 0 * * *"),
    # After the judging of the night, and every hour of an exam day.
    Plan(ITEM_ANALYSIS_JOB, "50 * * * *", ITEM_ANALYSIS_DAILY, DAYS, 3, running=True, if_new=True),
    Plan("aggregate_features_daily", "15 1 * * *", "features_topic_daily", DAYS, 14),
    Plan(KPI_JOB, "10 2 * * *", "weekly_kpi", WEEKS, 8, running=True),
    # A month that was fitted and is red waits for a person; a month without a fit is requested again the next day.
    Plan(MONTHLY_JOB, "0 2 * * *", "item_calibration", MONTHS, 3),
    # A window of 30 days hardly differs from the next day's window: after a longer gap, older nights add nothing.
    Plan(NIGHTLY_JOB, "0 3 * * *", NIGHTLY, DAYS, 3),
    # A report on a week more than a month ago is of no use.
    Plan(LEARNER_REPORT_JOB, "0 4 * * 1", LEARNER_REPORT, WEEKS, 4),
    Plan("detect_inactivity", "0 5 * * *", "inactivity", DAYS, 14),
    Plan("inventory", "0 6 * * *"),
    Plan(PRUNE_JOB, "30 6 * * *"),
    # A report describes the present: one made later for a missed day would describe today.
    Plan("invariants", "0 2 * * *", INVARIANT_REPORT, DAYS, 1, zone="America/New_York"),
)
"""All schedules, at the times that the documents require."""


def find_plan(job: str) -> Plan:
    """The schedule of a job, by any of its names. Raises PermanentFailure if it has no schedule."""
    for plan in PLANS:
        if plan.job == job_of(job):
            return plan
    raise PermanentFailure(
        f"the job {job} has no schedule; these jobs have one: {', '.join(plan.job for plan in PLANS)}"
    )


def last_due(plan: Plan, now: datetime, *, is_running: bool = False) -> datetime:
    """The newest tick of a job whose result is due by now, however the job is started."""
    return last_tick_before(now - (GRACE if plan.is_daily and not is_running else RUNNING_GRACE), plan)


def last_tick_before(time: datetime, plan: Plan) -> datetime:
    ticks = schedule_execution_time_iterator(time.timestamp(), plan.cron, plan.zone, ascending=False)
    return next(ticks).astimezone(UTC)
