"""The asset that proposes how abilities move. Thin: see `movement_proposal`."""

import dagster as dg

from irt_assets.blocks import Paragraph
from irt_assets.common.metadata import md
from irt_assets.common.retries import classify_failures
from irt_assets.decisions.movement_proposal import proposal_lines, propose_automatic_movements
from irt_assets.engines.spec import LIGHT_POOL
from resources import tables
from resources.dagster_schema import stored_in
from resources.postgres.database import Database


def build_movement_asset(months: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`ability_movement`, which proposes how the abilities of scales with `auto` move, and changes nothing."""

    @dg.asset(
        partitions_def=months,
        deps=["abilities"],
        description="One row per scale: how abilities move, estimated from the 52 weeks that end with the month. A "
        "proposal for scales with the rule `ability_variance=auto`; a person decides.",
        kinds={"numba", "postgres"},
        pool=LIGHT_POOL,
        op_tags={"dagster/priority": "-1"},
        metadata=stored_in(tables.movement_proposal),
    )
    def ability_movement(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        with classify_failures():
            found = propose_automatic_movements(database, context.partition_key)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": dg.MetadataValue.int(len(found)),
                **{
                    f"proposal: {proposal.scale_id}": md(*map(Paragraph, proposal_lines(proposal)))
                    for proposal in found
                },
            }
        )

    return ability_movement
