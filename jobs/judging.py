"""The first job of the night: it judges the days that have changed, then closes months.

It has no partitions, because Dagster cannot request only the days that have changed. The job compares the whole
look-back, so the next night also judges the days of a missed night. Months close in the same run, because a month
closes only if it was made from this night's verdicts.
"""

from datetime import UTC, datetime

import dagster as dg

from irt_assets.common.job_names import JUDGE_JOB
from irt_assets.common.retries import classify_failures
from irt_assets.decisions.closing import close_months
from irt_assets.intake.arrivals import delete_old_rejects
from irt_assets.intake.corrections import remove_duplicate_rows
from irt_assets.responses.judged_assets import judge_look_back
from irt_assets.responses.snapshot import settle_states
from irt_assets.spark.lake_assets import write_judged_days
from resources.postgres.database import Database
from resources.postgres.log_months import make_months_ahead


def tend_log(database: Database) -> int:
    """Create the log's partitions of the next months, and delete old rejected rows and duplicate answers.

    Returns the number of ids that had duplicates.
    """
    with classify_failures(), database.connect() as connection:
        make_months_ahead(connection, datetime.now(UTC))
        delete_old_rejects(connection)
        return remove_duplicate_rows(connection)


def build_judge_job(tags: dict[str, str]) -> dg.JobDefinition:
    """The job. Each day that it judges becomes a materialisation of `judged_attempts`."""

    @dg.op(name="judge_days_that_differ", out=dg.Out(dg.Nothing))
    def judge_days_that_differ(context: dg.OpExecutionContext, database: dg.ResourceParam[Database]) -> None:
        if doubles := tend_log(database):
            context.log.warning(
                f"{doubles:,} ids were in the log with two times: attempt_correction lists the deleted answers"
            )
        with classify_failures():
            judged = judge_look_back(context, database)
        context.log.info(f"judged {len(judged)} days: {sum(day.written for day in judged):,} verdicts written")
        write_judged_days(context, database)

    @dg.op(name="close_months", ins={"judged": dg.In(dg.Nothing)})
    def close_months_of_night(context: dg.OpExecutionContext, database: dg.ResourceParam[Database]) -> None:
        with classify_failures():
            settle_states(database)
            for closed in close_months(database, datetime.now(UTC)):
                context.log.info(f"{closed.month} has closed for scale {closed.scale_id}")

    @dg.job(
        name=JUDGE_JOB,
        executor_def=dg.in_process_executor,
        tags=tags,
        description="Judges the days of the look-back that have not been judged yet, or whose answers, accounts, items "
        "or rules have changed since. On the 1st it first computes the items' response times in the month before. Then "
        "it writes complete days to the lake, if there is one, closes the months that may close, and counts the "
        "changes to closed months.",
    )
    def judge_job() -> None:
        close_months_of_night(judge_days_that_differ())

    return judge_job
