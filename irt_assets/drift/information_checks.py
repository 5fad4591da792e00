"""Checks of a month's information: items that lost a fifth, and the test. Both warn, neither holds a month.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

import dagster as dg

from irt_assets.common.dated import partition_check
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import by_scale
from irt_assets.drift.checks import Named, items_result, settled_items
from irt_assets.drift.information import THE_TEST
from irt_assets.drift.unjudged import unjudged
from resources.dagster_schema import HOW_TO_FIX
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

OF_ITEMS = (
    "Open `flagged items` of test_information: an item that keeps less than four fifths of its published information "
    "is scored as if it measured more. Calibrate it again on recent answers, or retire it; the plot shows what the "
    "set in force keeps without it."
)
OF_TEST = (
    "Open `plot: information` of test_information: standard errors are larger there than the published parameters say. "
    "If single items are flagged, decide on these; if none is, the month's learners or its linking differ: look "
    "at `linking history` of linked_item_parameters, and add items for that θ."
)


def build_information_checks(months: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    return [_of_items(months), _of_test(months)]


def _of_items(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @partition_check(
        asset="test_information",
        name="no_item_lost_information",
        description="No item has lost a fifth of its published information beyond doubt. It holds nothing.",
        partitions_def=months,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.AssetCheckResult:
        with classify_failures(), database.connect() as connection:
            silent = unjudged(connection, store, context.partition_key, "test_information")
            rows = connection.execute(
                """SELECT scale_id, item_id, (details->>'ratio')::float FROM test_information
                   WHERE month = %s AND flagged AND item_id <> %s ORDER BY 3, 1, 2""",
                (context.partition_key, THE_TEST),
            ).fetchall()
            known = settled_items(connection, context.partition_key)
        found = [Named(scale, item, f"keeps {ratio:.0%}", known.get((scale, item), "")) for scale, item, ratio in rows]
        return items_result(found, "no item lost a fifth of its information", OF_ITEMS, silent=silent)

    return check


def _of_test(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @partition_check(
        asset="test_information",
        name="the_test_kept_its_information",
        description="The compared items together keep four fifths of their published information everywhere in the "
        "middle 95 % of the population. Months in which that flag cannot be trusted pass. It holds nothing.",
        partitions_def=months,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.AssetCheckResult:
        with classify_failures(), database.connect() as connection:
            silent = unjudged(connection, store, context.partition_key, "test_information")
            rows = connection.execute(
                """SELECT scale_id, flagged AND (details->>'trusted')::bool, details FROM test_information
                   WHERE month = %s AND item_id = %s ORDER BY 1""",
                (context.partition_key, THE_TEST),
            ).fetchall()
        lost = [scale for scale, flagged, _ in rows if flagged]
        unknown = by_scale(silent)
        description = "; ".join([*unknown, *(f"{scale}: {_kept(details)}" for scale, _, details in rows)])
        return dg.AssetCheckResult(
            passed=not lost and not unknown,
            severity=dg.AssetCheckSeverity.WARN,
            description=description or "no scale has a test to judge",
            metadata={
                **{
                    f"kept at θ = {worst['theta']:+.1f} ({scale})": dg.MetadataValue.float(worst["ratio"])
                    for scale, _, details in rows
                    if (worst := details["worst"]) is not None
                },
                **({HOW_TO_FIX: OF_TEST if lost else "; ".join(unknown)} if lost or unknown else {}),
            },
        )

    return check


def _kept(details: dict) -> str:
    worst = details["worst"]
    if worst is None:
        return str(details["why"])
    kept = f"it keeps at least {worst['ratio']:.0%} (θ = {worst['theta']:+.1f})"
    return f"{kept}; {details['caution']}" if details["caution"] else kept
