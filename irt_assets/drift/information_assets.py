"""The asset `test_information`: how precisely items and test measure θ, what they lost since publication, what retiring
costs.

Thin: the steps are in `information`. Dagster reads the annotations of the decorated functions, so this module does not
postpone them.
"""

import dagster as dg

from irt_assets.blocks import Figure, Table, table
from irt_assets.common.metadata import Shown, metadata
from irt_assets.common.retries import classify_failures
from irt_assets.drift import plots
from irt_assets.drift.assets import of_a_month
from irt_assets.drift.information import MonthInformation, ScaleInformation, information_of_month, item_rows, not_judged
from resources import tables
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

ITEMS_SHOWN = 10


def build_information_asset(
    months: dg.PartitionsDefinition, follows_a_month: dg.AutomationCondition
) -> dg.AssetsDefinition:
    """`follows_a_month`: the condition that requests a month's information."""

    @dg.asset(
        **of_a_month(months, follows_a_month, tables.test_information),
        description="Information of the items and the test over θ, as published and as the month has it; which items "
        "lost a fifth of it, and what the set in force keeps without those that did or drifted far.",
    )
    def test_information(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            judged = information_of_month(database, store, context.partition_key)
        found = {one.scale_id: one.found for one in judged if one.found is not None}
        n_rows = sum(1 + len(one.items.item_ids) for one in found.values())
        shown = metadata(
            {
                "information": "; ".join(sentence(one) for one in judged),
                "flagged items": flagged_table(found),
                "dagster/row_count": dg.MetadataValue.int(n_rows),
                "caution": "; ".join(f"{scale}: {one.caution}" for scale, one in found.items() if one.caution),
            }
        )
        for scale, one in found.items():
            shown |= metadata(_shown(one), scale)
        return dg.MaterializeResult(metadata=shown)

    return test_information


def sentence(judged: ScaleInformation) -> str:
    """A scale's month in a sentence."""
    found = judged.found
    if found is None:
        return f"{judged.scale_id}: {judged.why}"
    lost = sorted(found.losses.flagged)
    summary = f"{judged.scale_id}: {len(lost)} of {len(found.losses.item_ids)} items lost information"
    summary += f" ({', '.join(lost[:ITEMS_SHOWN])})" if lost else ""
    if across := found.compared.drift.across_models:
        summary += f"; {len(across)} are not judged: {not_judged(*next(iter(across.values())))}"
    if found.test is not None:
        worst = found.test.worst
        summary += f"; the test keeps at least {worst.ratio:.0%} of its own (θ = {worst.theta:+.1f}, "
        summary += f"95 % {worst.low:.0%} to {worst.high:.0%})"
    if found.retiring:
        kept = found.efficiency
        summary += (
            f"; without {len(found.retiring)} flagged items the set in force keeps {kept.average:.0%} on average and "
            f"at least {kept.least:.0%} (θ = {kept.theta:+.1f})"
        )
    return summary


def _shown(one: MonthInformation) -> dict[str, Shown]:
    retiring = Figure(plots.item_curves(one), alt="information of flagged items") if one.retiring else None
    return {
        "items that lost information": dg.MetadataValue.int(len(one.losses.flagged)),
        "plot: information": Figure(plots.test_curves(one), alt="test information, published and now"),
        "plot: information of flagged items": retiring,
    }


def flagged_table(found: dict[str, MonthInformation]) -> Table:
    """The items that might be retired, most information lost first."""
    shown: list[tuple[str, ...]] = []
    for scale, one in found.items():
        rows = [row for row in item_rows(one) if row["details"]["retire"]]
        rows.sort(key=lambda row: row["details"].get("ratio", 1.0))
        for row in rows[:ITEMS_SHOWN]:
            d = row["details"]
            flagged = "yes" if row["flagged"] else "no"
            head = scale, row["item_id"], flagged, d["severity"] or "", f"{d['published']:.3f}"
            share = f"{d['share_of_test']:.1%}"
            if "ratio" not in d:
                now = "no estimate" if d["now"] is None else f"{d['now']:.3f}, of another model"
                shown.append((*head, now, "", "", "", "", share))
                continue
            bound = "" if d["upper"] is None else f"{d['upper']:.2f}"
            kept = f"{d['now']:.3f}", f"{d['ratio']:.2f}", bound, f"{d['q']:.1e}", f"{d['largest_drop']['theta']:+.1f}"
            shown.append((*head, *kept, share))
        if len(rows) > ITEMS_SHOWN:
            shown.append((scale, f"… and {len(rows) - ITEMS_SHOWN} more", *[""] * 9))
    measures = ("published", "now", "kept", "95 % bound", "q", "most at θ", "share of the test")
    return table(("scale", "item", "lost", "drift", *measures), shown, numbers=measures)
