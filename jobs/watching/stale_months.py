"""The sensor that requests open months again after their answers got other verdicts, at most once a night.

It compares only the stored states of verdicts, which costs one small query. A month that is stale for any other reason
(see `gates.month_classification`) waits for a person.
"""

from datetime import UTC, datetime

import dagster as dg

from irt_assets.common.job_names import JUDGE_JOB, JUDGED, MONTHLY_JOB
from irt_assets.common.partitions import day_of
from irt_assets.common.run_progress import partitions_under_way
from irt_assets.gates.month_status import unsettled_months
from irt_assets.intake.pulling.pull_state import first_pull_under_way
from irt_assets.responses.open_months import scales_with_changed_verdicts
from jobs.schedules import Job
from resources.dagster_compat import NOT_FINISHED_STATUSES
from resources.postgres.database import Database
from resources.settings import Settings


def build_stale_sensor(jobs: dict[str, Job], settings: Settings) -> dg.SensorDefinition:
    """The sensor. It is off if IRT_SCHEDULES is `stopped`, and on if CronJobs replace the schedules."""
    stopped = settings.irt_schedules == "stopped"

    @dg.sensor(
        name="stale_months",
        description="Requests open months again if their verdicts have changed since they were computed, once a night "
        "after the answers have been judged.",
        jobs=[jobs[MONTHLY_JOB]],
        minimum_interval_seconds=120,
        default_status=dg.DefaultSensorStatus.STOPPED if stopped else dg.DefaultSensorStatus.RUNNING,
    )
    def stale_months(
        context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
    ) -> list[dg.RunRequest] | dg.SkipReason:
        with database.connect() as connection:
            if first_pull_under_way(connection):
                return dg.SkipReason("a first pull is under way: the months that it concerns are requested after it")
            changed = scales_with_changed_verdicts(connection)
        months = {month for month in changed if month >= settings.irt_first_month}
        if months and is_judging(context.instance):
            return dg.SkipReason("answers are being judged")
        if months:
            months -= unsettled_months(context.instance)
        if not months:
            return dg.SkipReason("the verdicts of no open month have changed since it was computed")
        night = day_of(datetime.now(UTC))
        # Dagster accepts a run key once: a month that failed is requested again the next night.
        return [
            dg.RunRequest(run_key=f"{month} {night}", job_name=MONTHLY_JOB, partition_key=month)
            for month in sorted(months)
        ]

    return stale_months


def is_judging(instance: dg.DagsterInstance) -> bool:
    """Whether the night's judging, or a run or backfill of judged days, is queued or under way."""
    unfinished = dg.RunsFilter(job_name=JUDGE_JOB, statuses=NOT_FINISHED_STATUSES)
    return instance.get_runs_count(unfinished) > 0 or bool(partitions_under_way(instance, JUDGE_JOB, [JUDGED]))
