"""The asset of what came in: taking what waits in the inbox, and what each source brought, by day of arrival."""

from datetime import datetime
from typing import Any

import dagster as dg
import psycopg

from irt_assets.common.partitions import day_bounds
from irt_assets.common.retries import classify_failures
from irt_assets.responses.importing.inbox import take_waiting
from resources.dagster_schema import column_schema, rows_shown
from resources.files.inbox_files import inbox_of
from resources.postgres.database import Database
from resources.tables import intake

INTAKE = "attempts_intake"
COUNTS = ("read", "accepted", "corrected", "duplicates", "rejected")
MOST_SHOWN = 500


def build_intake_asset(days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """`attempts_intake`; `days`: with the running one."""

    @dg.asset(
        name=INTAKE,
        group_name="responses",
        partitions_def=days,
        description="What came in, by day of arrival: files, and posts by who posted. Takes first what waits in the "
        "inbox (IRT_INBOX), of whatever day.",
        kinds={"postgres"},
        owners=["team:psychometrics"],
        metadata={"dagster/column_schema": column_schema(intake)},
    )
    def attempts_intake(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        settings, taken = database.settings, []
        inbox = inbox_of(settings)
        with classify_failures():
            if inbox is not None:
                month, done = settings.irt_first_month, settings.irt_inbox_done
                for one in take_waiting(database, inbox, first_month=month, done=done):
                    report = one.report
                    said = f"{report.read:,} rows read, {report.accepted:,} accepted, {report.duplicates:,} duplicates"
                    context.log.info(f"{one.path}: {one.what}: {one.why or f'{said}, rejected: {report.reasons}'}")
                    taken.append((one.path, one.what, one.why))
            with database.connect() as connection:
                came = _of_day(connection, *day_bounds(context.partition_key))
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(int(row[3]) for row in came),
                "sources": rows_shown(("source", "kind", *COUNTS), came[:MOST_SHOWN]),
                "files of the inbox, in this run": rows_shown(("file", "what", "why"), taken[:MOST_SHOWN]),
            }
        )

    return attempts_intake


def _of_day(connection: psycopg.Connection, start: datetime, end: datetime) -> list[tuple[Any, ...]]:
    """Each source of a day, its kind and its counts; the one that brought most comes first."""
    return connection.execute(
        """SELECT source, kind, sum(read)::bigint, sum(accepted)::bigint, sum(corrected)::bigint,
             sum(duplicates)::bigint, sum(read - accepted - corrected - duplicates)::bigint
           FROM intake WHERE arrived_at >= %s AND arrived_at < %s GROUP BY 1, 2 ORDER BY 3 DESC, 1""",
        (start, end),
    ).fetchall()
