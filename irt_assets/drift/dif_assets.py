"""The asset `dif_analysis`: a month's items between groups of learners.

Thin: the steps are in `dif_month`. Dagster reads the annotations of the decorated functions, so this module does not
postpone them.
"""

import dagster as dg

from irt_assets.blocks import Figure
from irt_assets.common.metadata import md
from irt_assets.common.retries import classify_failures
from irt_assets.drift import dif_page
from irt_assets.drift.assets import of_a_month
from irt_assets.drift.dif_month import dif_of_month
from irt_assets.drift.plots import differences_plot
from resources import tables
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database


def build_dif_asset(
    months: dg.PartitionsDefinition, follows_a_month: dg.AutomationCondition, threads: int | None
) -> dg.AssetsDefinition:
    """`follows_a_month`: the condition that requests a month. `threads`: for the groups' fits; None for all."""

    @dg.asset(
        **of_a_month(months, follows_a_month, tables.dif_analysis),
        description="Which items function differently for groups of learners of equal ability (DIF): a Wald test "
        "between groups fitted separately, plus Mantel-Haenszel and logistic regression within forms, for each of the "
        "scale's attributes.",
    )
    def dif_analysis(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            found = dif_of_month(database, store, context.partition_key, threads)
        plots = {
            f"plot: DIF ({scale}, {whole['attribute']})": md(Figure(drawn, alt="DIF"))
            for scale, rows in found.items()
            for whole, items in dif_page.by_attribute(rows)
            if (drawn := differences_plot(whole, items))
        }
        return dg.MaterializeResult(
            metadata={
                "DIF": "; ".join(dif_page.sentence(scale, rows) for scale, rows in found.items()),
                "items with DIF": md(*dif_page.items_blocks(found)),
                "groups": md(dif_page.groups_table(found)),
                **plots,
                "dagster/row_count": sum(map(len, found.values())),
            }
        )

    return dif_analysis
