"""The check of a month's DIF. It warns and holds nothing; what could not be tested is reported and is not a failure.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

import dagster as dg

from irt_assets.common.dated import partition_check
from irt_assets.common.retries import classify_failures
from irt_assets.drift.checks import items_said
from resources.dagster_schema import HOW_TO_FIX, ITEMS, rows_shown
from resources.postgres.database import Database

WHAT_TO_DO = (
    "Have each item under `items with DIF` of dif_analysis read by somebody who knows both groups: a translation, a "
    "context, or a subject that only one of them was taught. Edit out of the text what the item measures besides "
    "ability, or retire the item; an anchor that differs leaves the anchors by a decision."
)


def build_dif_check(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @partition_check(
        asset="dif_analysis",
        name="items_treat_groups_alike",
        description="No item is much harder for one group than for another of equal ability: by the Wald test with "
        "wABC above 0.10, or, where that was not possible, class C of Mantel-Haenszel. It holds nothing.",
        partitions_def=months,
    )
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        with classify_failures(), database.connect() as connection:
            large = connection.execute(
                """SELECT scale_id, item_id, attribute, focal_group, ets_class FROM dif_analysis
                   WHERE month = %s AND details->'large' = 'true'
                   ORDER BY (details->'wald'->>'wabc')::float8 DESC NULLS LAST, 1, 2, 3, 4""",
                (context.partition_key,),
            ).fetchall()
            attributes = connection.execute(
                """SELECT scale_id, attribute, details->>'why_not' FROM dif_analysis
                   WHERE month = %s AND item_id = '' ORDER BY 1, 2""",
                (context.partition_key,),
            ).fetchall()
        by_scale: dict[str, dict[str, list[str]]] = {}
        for scale, item, attribute, group, ets_class in large:
            where = f"{attribute} {group}" + (f", class {ets_class}" if ets_class else "")
            by_scale.setdefault(scale, {}).setdefault(item, []).append(where)
        items = [
            f"{scale}: {item} ({'; '.join(where)})" for scale, of in by_scale.items() for item, where in of.items()
        ]
        not_tested = {f"{scale}: {attribute}": why for scale, attribute, why in attributes if why}
        description = items_said(items, "no item has large DIF")
        if len(not_tested) == len(attributes):
            description = "nothing was tested"
        return dg.AssetCheckResult(
            passed=not items,
            severity=dg.AssetCheckSeverity.WARN,
            description=description + (f"; not tested: {', '.join(not_tested)}" if not_tested else ""),
            metadata={
                ITEMS: rows_shown(
                    ("scale", "item", "differs for"),
                    [(scale, item, "; ".join(where)) for scale, of in by_scale.items() for item, where in of.items()],
                ),
                "not tested": rows_shown(("scale: attribute", "why"), list(not_tested.items())),
                **({HOW_TO_FIX: WHAT_TO_DO} if items else {}),
            },
        )

    return check
