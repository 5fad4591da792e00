"""Assets of the intake: the bank, the log, and the counts of each source by day of arrival."""

import dagster as dg

from irt_assets.common.partitions import day_bounds
from irt_assets.common.retries import classify_failures
from irt_assets.intake.inbox import import_waiting_files
from resources.dagster_schema import row_table, stored_in
from resources.files.inbox_files import inbox_of
from resources.postgres.database import Database
from resources.tables import intake, question, response_log

INTAKE = "attempts_intake"
INBOX_FILE = "irt/inbox_file"
"""Tag of a run: the file of the inbox that it imports."""
COUNTS = ("read", "accepted", "corrected", "duplicates", "refused")
MAX_SHOWN = 500
COUNTS_OF_DAY = """
    SELECT source, kind, sum(read)::bigint, sum(accepted)::bigint, sum(corrected)::bigint, sum(duplicates)::bigint,
      sum(read - accepted - corrected - duplicates)::bigint
    FROM intake WHERE arrived_at >= %s AND arrived_at < %s GROUP BY 1, 2 ORDER BY 3 DESC, 1
"""


def build_external_assets(days: dg.DailyPartitionsDefinition) -> list[dg.AssetSpec]:
    """`question_bank`, and `attempts` by day of the answer."""
    return [
        dg.AssetSpec(
            "question_bank",
            description="One row per item of the bank: its scale, its topic, and whether it is an anchor. An external "
            "asset, which imports and pulls write.",
            metadata=stored_in(question),
        ),
        dg.AssetSpec(
            "attempts",
            # Answers may arrive on any later day.
            deps=[dg.AssetDep(INTAKE, partition_mapping=dg.AllPartitionMapping())],
            description="One row per attempt: who answered which item, when, and how. An external asset, which "
            "imports, the inbox, posts and pulls write.",
            partitions_def=days,
            metadata=stored_in(response_log),
        ),
    ]


def build_intake_asset(days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """`attempts_intake`. `days`: the partitions, which include the current day."""

    @dg.asset(
        name=INTAKE,
        partitions_def=days,
        description="One row per arrival of the day (a file, a pull, or a minute of posts): how many of its rows "
        "were new, corrected, known or refused. A run first imports the waiting files of the inbox.",
        metadata=stored_in(intake),
    )
    def attempts_intake(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        inbox, files = inbox_of(database.settings), []
        with classify_failures():
            for outcome in import_waiting_files(database, inbox, context.run.tags.get(INBOX_FILE)) if inbox else ():
                context.log.info(f"{outcome.path}: {outcome.result}. {outcome.why or outcome.report.counts}")
                files.append((outcome.path, outcome.result, outcome.why or outcome.report.counts))
            with database.connect() as connection:
                arrivals = connection.execute(COUNTS_OF_DAY, day_bounds(context.partition_key)).fetchall()
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(row[3] for row in arrivals),
                "refused": sum(row[6] for row in arrivals),
                "sources": row_table(("source", "kind", *COUNTS), arrivals[:MAX_SHOWN]),
                "files of the inbox, in this run": row_table(("file", "what", "why"), files[:MAX_SHOWN]),
            }
        )

    return attempts_intake
