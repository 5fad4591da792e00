"""Assets of the ways in: the log (observed), and what each source brought by day of arrival."""

from datetime import UTC, datetime

import dagster as dg

from irt_assets.common.partitions import day_bounds, day_of
from irt_assets.common.retries import classify_failures
from irt_assets.intake.arrivals import forget_old_rejects
from irt_assets.intake.corrections import keep_one_of_each
from irt_assets.intake.inbox import take_waiting
from irt_assets.responses.observe import day_versions
from resources.dagster_schema import column_schema, rows_shown
from resources.files.inbox_files import inbox_of
from resources.postgres.database import Database
from resources.postgres.log_months import make_months_ahead
from resources.tables import intake, response_log

INTAKE = "attempts_intake"
INBOX_FILE = "irt/inbox_file"
"""Tag of a run: which file it takes."""
COUNTS = ("read", "accepted", "corrected", "duplicates", "refused")
MOST_SHOWN = 500
OF_DAY = """
    SELECT source, kind, sum(read)::bigint, sum(accepted)::bigint, sum(corrected)::bigint, sum(duplicates)::bigint,
      sum(read - accepted - corrected - duplicates)::bigint
    FROM intake WHERE arrived_at >= %s AND arrived_at < %s GROUP BY 1, 2 ORDER BY 3 DESC, 1
"""


def build_log_asset(days: dg.DailyPartitionsDefinition) -> dg.SourceAsset:
    """`attempts`, observed by day."""

    @dg.observable_source_asset(
        name="attempts",
        group_name="responses",
        description="The log of answers, observed per day through the attempt view. Before that its next months get "
        "partitions, and of answers with one id one is kept.",
        partitions_def=days,
        metadata={"dagster/column_schema": column_schema(response_log)},
        tags={"dagster/kind/postgres": ""},
    )
    def attempts(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.DataVersionsByPartition:
        now = datetime.now(UTC)
        with classify_failures(), database.connect() as connection:
            make_months_ahead(connection, now)
            forget_old_rejects(connection)
            if n := keep_one_of_each(connection):
                context.log.warning(f"{n:,} ids stood in the log at two times: see attempt_correction for what went")
        with classify_failures(), database.connect() as connection:
            return dg.DataVersionsByPartition(day_versions(connection, days.start, day_bounds(day_of(now))[0]))

    return attempts


def build_intake_asset(days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """`attempts_intake`; `days`: with the running one."""

    @dg.asset(
        name=INTAKE,
        group_name="responses",
        partitions_def=days,
        description="What came in, by day of arrival: files, pulls, and posts by who posted. Takes first the file "
        "of the inbox (IRT_INBOX) that its sensor names, or all that wait.",
        kinds={"postgres"},
        owners=["team:psychometrics"],
        metadata={"dagster/column_schema": column_schema(intake)},
    )
    def attempts_intake(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        inbox, files = inbox_of(database.settings), []
        with classify_failures():
            for one in take_waiting(database, inbox, context.run.tags.get(INBOX_FILE)) if inbox else ():
                context.log.info(f"{one.path}: {one.what}. {one.why or one.report.counts}")
                files.append((one.path, one.what, one.why or one.report.counts))
            with database.connect() as connection:
                came = connection.execute(OF_DAY, day_bounds(context.partition_key)).fetchall()
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(row[3] for row in came),
                "sources": rows_shown(("source", "kind", *COUNTS), came[:MOST_SHOWN]),
                "files of the inbox, in this run": rows_shown(("file", "what", "why"), files[:MOST_SHOWN]),
            }
        )

    return attempts_intake
