"""The asset `group_abilities`, and the check that no group changed. Rows are computed in `group_month`."""

import dagster as dg

from irt_assets.abilities.group_month import groups_of_month
from irt_assets.abilities.group_page import changed_groups, describe_change, groups_table, read_groups, undescribed
from irt_assets.common.metadata import md
from irt_assets.common.partition_checks import CheckInput, partition_check
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import some_of
from irt_assets.engines.spec import LIGHT_POOL
from irt_assets.scales.scale import read_scales
from resources import tables
from resources.dagster_schema import HOW_TO_FIX, ITEMS, row_table, stored_in
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

GROUP_ABILITIES = "group_abilities"
NO_GROUP_CHANGED = "no_group_changed"
REMEDY = (
    "Ask whether other learners of the group came, or whether teaching changed; compare the shares of forms, countries "
    "and tiers, and the month's drift and DIF. If nothing explains it, look at the items that the group answered."
)
MAX_NAMED = 10


def build_group_asset(months: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset `group_abilities` of the months."""

    @dg.asset(
        name=GROUP_ABILITIES,
        partitions_def=months,
        deps=["scored_responses", "abilities"],
        description="One row per attribute and group of learners: mean, SD and percentiles of ability, share above the "
        "pass mark and changes, with errors. Learners' θ and scores never use attributes.",
        metadata=stored_in(tables.group_ability),
        pool=LIGHT_POOL,
    )
    def group_abilities(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            found = groups_of_month(database, store, context.partition_key)
        return dg.MaterializeResult(
            metadata={
                "groups": md(groups_table(found)),
                "not described": row_table(("scale", "attribute", "group", "why"), undescribed(found)),
                "dagster/row_count": sum(map(len, found.values())),
            }
        )

    return group_abilities


def build_group_check(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """`no_group_changed` of the months."""
    return partition_check(
        months,
        GROUP_ABILITIES,
        NO_GROUP_CHANGED,
        "The mean ability of no group changed since the month before by more than its error explains and by more than "
        "`max_group_shift`. It does not hold the month.",
        _judge,
    )


def _judge(look: CheckInput) -> dg.AssetCheckResult:
    changed = []
    for scale_id, scale in read_scales(look.connection).items():
        for row in changed_groups(read_groups(look.connection, scale_id, look.partition), scale):
            changed.append((scale_id, row["attribute"], row["group_name"], describe_change(row)))
    named = [f"{scale}: {attribute} {group} {change}" for scale, attribute, group, change in changed]
    return dg.AssetCheckResult(
        passed=not changed,
        severity=dg.AssetCheckSeverity.WARN,
        description=some_of(named, MAX_NAMED, between="; ") if changed else "no group changed",
        metadata={
            ITEMS: row_table(("scale", "attribute", "group", "change"), changed),
            **({HOW_TO_FIX: REMEDY} if changed else {}),
        },
    )
