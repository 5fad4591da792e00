"""The asset `form_score_tables`, and the check that released tables hold. Tables are made in `form_tables`."""

import dagster as dg

from irt_assets.common.metadata import md
from irt_assets.common.partition_checks import CheckInput, partition_check
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import some_of
from irt_assets.engines.spec import LIGHT_POOL
from irt_assets.responses.closed_months import scales_of_month
from irt_assets.scales.scale import read_scales
from irt_assets.scores.form_tables import make_month, tables_overview
from irt_assets.scores.releases import moved_tables
from resources import tables
from resources.dagster_schema import HOW_TO_FIX, ITEMS, row_table, stored_in
from resources.postgres.database import Database

SCORE_TABLES = "form_score_tables"
TABLES_HOLD = "released_tables_hold"
MAX_NAMED = 10


def build_score_asset(months: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`form_score_tables` of the months."""

    @dg.asset(
        name=SCORE_TABLES,
        partitions_def=months,
        deps=["item_analysis", "published_item_parameters"],
        description="One row per fixed form of scales with reported scores: the score table by the values published at "
        "the month's end. A person releases it.",
        metadata=stored_in(tables.score_table),
        pool=LIGHT_POOL,
    )
    def form_score_tables(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        made, without = [], []
        with classify_failures(), database.connect() as connection:
            for scale_id, scale in scales_of_month(connection, context.partition_key).items():
                if scale.initialised and scale.rules.scores.score_slope and scale.rules.scores.score_by != "theta":
                    found, reasons = make_month(connection, scale, context.partition_key, context.run.run_id)
                    made += found
                    without += [(scale_id, form_id, why) for form_id, why in reasons.items()]
        return dg.MaterializeResult(
            metadata={
                "tables": md(tables_overview(made)),
                "forms without a table": row_table(("scale", "form", "why"), without),
                "dagster/row_count": len(made),
            }
        )

    return form_score_tables


def build_score_check(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """`released_tables_hold` of the months."""
    return partition_check(
        months,
        SCORE_TABLES,
        TABLES_HOLD,
        "No raw score of a form moves from its released table by more than `max_score_shift`, and the "
        "same raw scores pass. The released table stays in force until a person releases another one.",
        _judge,
    )


def _judge(look: CheckInput) -> dg.AssetCheckResult:
    moved = [
        (scale_id, new.form_id, released.table_id, new.table_id, why)
        for scale_id, scale in read_scales(look.connection).items()
        for released, new, why in moved_tables(look.connection, scale, look.partition)
    ]
    named = [f"{form}: {why}" for _, form, *_, why in moved]
    fixes = [f"`irt scores release {form} --scale {scale} --dry-run`" for scale, form, *_ in moved]
    return dg.AssetCheckResult(
        passed=not moved,
        severity=dg.AssetCheckSeverity.WARN,
        description=some_of(named, MAX_NAMED, between="; ") if moved else "released tables hold",
        metadata={
            ITEMS: row_table(("scale", "form", "released", "new", "why"), moved),
            **({HOW_TO_FIX: "Look at the changes, then decide: " + some_of(fixes, MAX_NAMED)} if moved else {}),
        },
    )
