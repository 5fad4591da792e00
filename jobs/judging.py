"""The job that judges the answers of the days that are over, before all others of the day.

It has no partitions, because a job cannot request those days alone that differ: to find them it looks at the whole
look-back once, in its only step, and a night that was missed is judged in the next.
"""

import dagster as dg

from irt_assets.common.job_names import JUDGE_JOB
from irt_assets.common.retries import classify_failures
from irt_assets.responses.judged_assets import judge_look_back
from irt_assets.spark.lake_assets import write_judged_days
from resources.postgres.database import Database


def build_judge_job(tags: dict[str, str]) -> dg.JobDefinition:
    """The job; each day that it judges is a materialisation of `judged_attempts`."""

    @dg.op(name="judge_days_that_differ")
    def judge_days_that_differ(context: dg.OpExecutionContext, database: dg.ResourceParam[Database]) -> None:
        with classify_failures():
            judged = judge_look_back(context, database)
        context.log.info(f"judged {len(judged)} days: {sum(day.written for day in judged):,} verdicts written")
        write_judged_days(context, database)

    @dg.job(
        name=JUDGE_JOB,
        executor_def=dg.in_process_executor,
        tags=tags,
        description="Judges the days of the look-back that are not judged yet, or whose answers, accounts, items or "
        "rules have changed since; on the 1st it first takes the items' response times of the month before. Then it "
        "writes the days that are over to the lake, if there is one.",
    )
    def judge_job() -> None:
        judge_days_that_differ()

    return judge_job
