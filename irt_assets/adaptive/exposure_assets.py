"""The asset of item exposure. Its rows are counted in `exposure`."""

from datetime import date

import dagster as dg

from irt_assets.adaptive.exposure import count_exposure
from irt_assets.common.retries import classify_failures
from resources import tables
from resources.dagster_schema import column_schema
from resources.postgres import warehouse
from resources.postgres.database import Database

ITEM_EXPOSURE = "item_exposure"


def build_exposure_asset(days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Return `item_exposure`. One run may count a range of days."""

    @dg.asset(
        name=ITEM_EXPOSURE,
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=["attempts"],
        description="One row per version of an adaptive test, interval of θ and item: the day's sessions in which the "
        "item was eligible, and given. The exposure of items in later sessions is limited by these numbers.",
        metadata={"dagster/column_schema": column_schema(tables.item_exposure)},
    )
    def item_exposure(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        window = context.partition_time_window
        with classify_failures(), database.connect() as connection:
            found = count_exposure(connection, window.start, window.end)
            for day in context.partition_keys:
                own = found[found["day"] == date.fromisoformat(day)]
                warehouse.replace(connection, tables.item_exposure, {"day": date.fromisoformat(day)}, own)
                context.add_asset_metadata({"dagster/row_count": len(own)}, partition_key=day)
        return dg.MaterializeResult()

    return item_exposure
