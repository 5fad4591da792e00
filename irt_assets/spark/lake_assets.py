"""The asset `lake`: the log as Spark reads it. It exists if IRT_ATTEMPTS names a lake."""

import dagster as dg

from irt_assets.common.job_names import JUDGED, LAKE
from irt_assets.common.metadata import Metadata
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import some_of
from irt_assets.spark.lake import export_days
from resources.cluster.lake import SCHEMA, Lake, lake_to_write
from resources.postgres.database import Database
from resources.settings import Settings

DAYS_SHOWN = 5


def build_lake_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The asset, if IRT_ATTEMPTS names a lake."""
    target = lake_to_write(settings)
    if target is None:
        return []

    @dg.asset(
        name=LAKE,
        deps=[JUDGED],
        description="One row per attempt of the completed days, with its verdict, as Parquet for Spark. A run writes "
        "the days that differ from the database; so does the job judge_attempts.",
        kinds={"parquet", "postgres"},
        metadata={
            "dagster/column_schema": dg.TableSchema([dg.TableColumn(field.name, str(field.type)) for field in SCHEMA])
        },
    )
    def lake(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        with classify_failures():
            return dg.MaterializeResult(metadata=_export(context, database, target))

    return [lake]


def write_judged_days(context: dg.OpExecutionContext, database: Database) -> None:
    """Write the days that are over to the lake, if IRT_ATTEMPTS names one, and report it as a materialisation."""
    target = lake_to_write(database.settings)
    if target is not None:
        with classify_failures():
            context.log_event(dg.AssetMaterialization(LAKE, metadata=_export(context, database, target)))


def _export(context: dg.AssetExecutionContext | dg.OpExecutionContext, database: Database, target: Lake) -> Metadata:
    done = export_days(database, target)
    for why in done.refused:
        context.log.warning("not changed: %s", why)
    return {
        "lake": dg.MetadataValue.text(target.name),
        "days written": dg.MetadataValue.text(some_of(done.written, DAYS_SHOWN) or "none"),
        "days that were there": dg.MetadataValue.int(len(done.skipped)),
        "days left as they were": dg.MetadataValue.text("; ".join(done.refused[:DAYS_SHOWN]) or "none"),
        "dagster/row_count": dg.MetadataValue.int(done.rows),
        "bytes": dg.MetadataValue.int(done.bytes),
    }
