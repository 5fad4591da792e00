"""The check that a lake has the same answers as PostgreSQL. It exists if IRT_ATTEMPTS names a lake."""

import dagster as dg

from irt_assets.common.job_names import INVARIANT_REPORT, LAKE_EQUALS_LOG
from irt_assets.common.retries import classify_failures
from irt_assets.spark.lake import compare_days
from resources.cluster.lake import EXPORT, Lake, lake_to_write
from resources.dagster_schema import HOW_TO_FIX
from resources.postgres.database import Database
from resources.settings import Settings

ROWS_SHOWN = 10
FIX = f"Export the days again: {EXPORT}. If the lake has more answers than the database, find out which is right."


def build_lake_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """The check, or an empty list if IRT_ATTEMPTS is not set."""
    lake = lake_to_write(settings)
    return [] if lake is None else [_lake_check(lake)]


def _lake_check(lake: Lake) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=INVARIANT_REPORT,
        name=LAKE_EQUALS_LOG,
        description=f"For every day of the last 366, the lake has the same answers as the database. To fix it: {FIX}",
    )
    def lake_equals_log(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        with classify_failures(), database.connect() as connection:
            connection.read_only = True
            found = compare_days(connection, lake)
        named = "; ".join(str(day) for day in found[:ROWS_SHOWN])
        more = f"; and {len(found) - ROWS_SHOWN:,} days more" if len(found) > ROWS_SHOWN else ""
        return dg.AssetCheckResult(
            passed=not found,
            description=f"{named}{more}" if found else f"{lake.name} has the answers of the last 366 days",
            metadata={HOW_TO_FIX: FIX},
        )

    return lake_equals_log
