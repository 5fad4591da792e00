"""The asset `lake`: the log as Spark reads it; it is there where IRT_ATTEMPTS names a lake."""

import dagster as dg

from irt_assets.common.job_names import LAKE
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import some_of
from irt_assets.spark.lake import export_days
from resources.cluster.lake import lake_that_we_write
from resources.postgres.database import Database
from resources.settings import Settings

OWNERS = ["team:psychometrics"]
DAYS_SHOWN = 5


def build_lake_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """None without a lake: a table of Spark's catalogue is written by others."""
    place = lake_that_we_write(settings)
    if place is None:
        return []

    # Before the log is observed: days in a lake have the versions of its manifests.
    @dg.asset(
        name=LAKE,
        group_name="responses",
        description="The days of the log that are over, as Parquet for Spark. It writes those that the lake does not "
        "hold as the database does: the new ones, and those with late answers.",
        kinds={"parquet", "postgres"},
        owners=OWNERS,
        op_tags={"dagster/priority": "1"},
    )
    def lake(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        with classify_failures():
            done = export_days(database, place)
        for why in done.refused:
            context.log.warning("left as it was: %s", why)
        return dg.MaterializeResult(
            metadata={
                "lake": place.name,
                "days written": some_of(done.written, DAYS_SHOWN) or "none",
                "days that were there": len(done.skipped),
                "days left as they were": "; ".join(done.refused[:DAYS_SHOWN]) or "none",
                "dagster/row_count": done.rows,
                "bytes": done.bytes,
            }
        )

    return [lake]
