"""Checks of a month's drift: high severity is an error, medium a warning. Neither holds a month. And how every check of
the room names its items.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dagster as dg

from irt_assets.calibration.checks import TO_MEND_IT
from irt_assets.calibration.publication import in_force
from irt_assets.drift.unestimated import items_gone
from irt_assets.partitions import month_bounds
from irt_assets.responses.scales import read_scales
from irt_assets.retries import failures_told_apart
from resources.database import Database

WHAT_TO_DO = {
    "high": "Look at each item under `top flagged items` of item_drift: a leaked item is retired, a wrong key is "
    "corrected in question.meta, a drifted one is calibrated again on answers after the change. Its published value "
    "stays until somebody decides.",
    "medium": "Watch these items; where one is flagged again next month, treat it as a high one.",
}
GONE = (
    "Import the item again with `irt import questions FILE` where it was lost; where it was taken out on purpose, its "
    "published value only stays in the ledger, and nothing is left to do."
)
NAMED = 10


def build_drift_checks(months: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    return [
        _check("no_item_drifted_far", "high", dg.AssetCheckSeverity.ERROR, months),
        _check("no_item_drifted", "medium", dg.AssetCheckSeverity.WARN, months),
        _published_items_are_in_the_bank(months),
    ]


def _check(
    name: str, level: Literal["high", "medium"], severity: dg.AssetCheckSeverity, months: dg.PartitionsDefinition
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset="item_drift",
        name=name,
        description=f"No item changed against the published set with {level} severity. It holds nothing.",
        partitions_def=months,
    )
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        with failures_told_apart(), database.connect() as connection:
            rows = connection.execute(
                """SELECT scale_id, item_id,
                          coalesce(details->'change'->>'kind',
                                   CASE WHEN details ? 'proportion_correct' THEN 'by proportion correct' END)
                   FROM item_drift
                   WHERE month = %s AND severity = %s ORDER BY wabc DESC, scale_id, item_id""",
                (context.partition_key, level),
            ).fetchall()
        by_scale: dict[str, dict[str, str | None]] = {}
        for scale, item, kind in rows:
            by_scale.setdefault(scale, {})[item] = kind
        named = [f"{item} ({kind})" if kind else item for _, item, kind in rows]
        return items_result(named, by_scale, f"no item of {level} severity", WHAT_TO_DO[level], severity=severity)

    return check


def _published_items_are_in_the_bank(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset="item_drift",
        name="published_items_are_in_the_bank",
        description="Every item in force when the month began is still in the bank, on its scale. It holds nothing.",
        partitions_def=months,
    )
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        start = month_bounds(context.partition_key)[0]
        with failures_told_apart(), database.connect() as connection:
            gone = {
                scale_id: items_gone(connection, scale_id, list(in_force(connection, scale_id, start).items))
                for scale_id in read_scales(connection)
            }
        named = [f"{item} ({why})" for items in gone.values() for item, why in items.items()]
        return items_result(named, gone, "all are in the bank", GONE)

    return check


def items_result(
    named: Sequence[str],
    by_scale: Mapping[str, Any],
    fine: str,
    fix: str,
    *,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
) -> dg.AssetCheckResult:
    """Fails where any item is `named`: it says which, has all of them by scale, and what to do."""
    return dg.AssetCheckResult(
        passed=not named,
        severity=severity,
        description=items_said(named, fine),
        metadata={"all": dg.MetadataValue.json(by_scale), **({TO_MEND_IT: fix} if named else {})},
    )


def items_said(named: Sequence[str], fine: str) -> str:
    """How many, the first ten, and how many more; `fine` where there is none."""
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f"{len(named)} items: {', '.join(named[:NAMED])}{more}" if named else fine
