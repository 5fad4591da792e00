"""The assets `adaptive_simulation` and `item_exposure`, and the check of the policies' promises.

Tests are simulated in `simulations`, and exposure is counted in `exposure`.
"""

from datetime import date

import dagster as dg

from irt_assets.adaptive.exposure import count_exposure
from irt_assets.adaptive.simulations import (
    broken_promises,
    make_month,
    precision,
    read_simulations,
)
from irt_assets.adaptive.versions import versions_in_force
from irt_assets.common.metadata import md
from irt_assets.common.partition_checks import CheckInput, partition_check
from irt_assets.common.partitions import Month
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import some_of
from irt_assets.engines.spec import LIGHT_POOL
from resources import tables
from resources.dagster_schema import HOW_TO_FIX, ITEMS, row_table, stored_in
from resources.postgres import warehouse
from resources.postgres.database import Database

SIMULATION, ITEM_EXPOSURE = "adaptive_simulation", "item_exposure"
MAX_NAMED = 10


def build_simulation_asset(months: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`adaptive_simulation` of the months."""

    @dg.asset(
        name=SIMULATION,
        partitions_def=months,
        deps=["published_item_parameters", "abilities"],
        description="One row per adaptive test in force at the month's end: its precision, length, exposure and "
        "content, simulated with the set in force then and the month's abilities.",
        metadata=stored_in(tables.adaptive_simulation),
        pool=LIGHT_POOL,
    )
    def adaptive_simulation(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        with classify_failures(), database.connect() as connection:
            made = make_month(connection, context.partition_key, context.run.run_id)
        plots = {f"precision ({own.test_id})": md(precision(own.summary)) for own in made if "why" not in own.summary}
        names = "rmse", "mean_se", "length", "max_exposure", "pass_rate", "why"
        tests = [(own.scale_id, own.test_id, own.version, *map(own.summary.get, names)) for own in made]
        table = row_table(("scale", "test", "version", *names), tests)
        return dg.MaterializeResult(metadata={"tests": table, **plots, "dagster/row_count": len(made)})

    return adaptive_simulation


def build_exposure_asset(days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`item_exposure` of the days. One run may count a range of days."""

    @dg.asset(
        name=ITEM_EXPOSURE,
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=["attempts"],
        description="One row per version of an adaptive test, interval of θ and item: the day's sessions in which the "
        "item was eligible, and given. The exposure of items in later sessions is limited by these numbers.",
        metadata=stored_in(tables.item_exposure),
    )
    def item_exposure(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> None:
        window = context.partition_time_window
        with classify_failures(), database.connect() as connection:
            found = count_exposure(connection, window.start, window.end)
            for day in map(date.fromisoformat, context.partition_keys):
                own = found[found["day"] == day]
                warehouse.replace(connection, tables.item_exposure, {"day": day}, own)
                context.add_asset_metadata({"dagster/row_count": len(own)}, partition_key=str(day))

    return item_exposure


def build_promises_check(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """`adaptive_promises_kept` of the months."""
    return partition_check(
        months,
        SIMULATION,
        "adaptive_promises_kept",
        "With the set in force at the month's end, the simulated tests reach their standard error, exposure stays "
        "within its limit, and the content and the error rates of decisions are met.",
        _judge,
    )


def _judge(look: CheckInput) -> dg.AssetCheckResult:
    versions = versions_in_force(look.connection, Month(look.partition).end)
    broken = [
        (each.scale_id, each.test_id, why)
        for each in read_simulations(look.connection, month=look.partition)
        if each.test_id in versions
        for why in broken_promises(versions[each.test_id].policy, each.summary)
    ]
    named = [f"test {test}: {why}" for _, test, why in broken]
    return dg.AssetCheckResult(
        passed=not broken,
        severity=dg.AssetCheckSeverity.WARN,
        description=some_of(named, MAX_NAMED, between="; ") or "the promises of all adaptive tests are kept",
        metadata={
            ITEMS: row_table(("scale", "test", "why"), broken),
            **({HOW_TO_FIX: "Change the bank, or the policy by `irt tests set`."} if broken else {}),
        },
    )
