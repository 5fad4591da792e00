"""The asset `abilities`. Abilities are computed in `batch`."""

import dagster as dg

from irt_assets.abilities.batch import measure
from irt_assets.abilities.blocks import ability_metadata
from irt_assets.common.job_names import JUDGED
from irt_assets.common.partitions import existing_partitions
from irt_assets.common.retries import classify_failures
from irt_assets.engines.spec import LIGHT_POOL
from resources import tables
from resources.cluster.relational import application
from resources.dagster_schema import stored_in
from resources.postgres.database import Database


def build_ability_asset(months: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset `abilities` of the months."""

    @dg.asset(
        partitions_def=months,
        deps=["published_item_parameters", existing_partitions(JUDGED, before=11)],
        description="One row per learner and scale: θ and its standard error (EAP against the scale's population) at "
        "the end of the month, from the answers to published items in the 365 days before.",
        pool=LIGHT_POOL,
        metadata=stored_in(tables.mirt_ability),
    )
    def abilities(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        with classify_failures():
            measured = measure(database, context.partition_key, context.run.run_id)
        return dg.MaterializeResult(
            metadata=ability_metadata(measured)
            | application(database.settings)
            | {"dagster/row_count": dg.MetadataValue.int(sum(len(m.theta) for m in measured))}
        )

    return abilities
