"""The assets of drift: `item_drift`, a month's items against the published set; `dif_analysis`, between groups of
learners; `test_information`, how precisely items and test measure θ, what they lost since publication, what retiring
costs.

Thin: the steps are in `month`, `dif_month` and `information`. Dagster reads the annotations of the decorated functions,
so this module does not postpone them.
"""

from typing import Any

import dagster as dg
import numpy as np
import psycopg

from irt_assets.blocks import Figure, Table, table
from irt_assets.charts.chart import Picture
from irt_assets.common.metadata import Shown, md, metadata
from irt_assets.common.retries import classify_failures
from irt_assets.drift import dif_page, plots
from irt_assets.drift.dif_month import dif_of_month
from irt_assets.drift.information import MonthInformation, ScaleInformation, information_of_month, item_rows, not_judged
from irt_assets.drift.month import ScaleDrift, across_models_in_words, drift_of_month
from resources import tables
from resources.dagster_schema import column_schema
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

GROUP = "drift"
DRIFT_JOB = "detect_drift"
MONTHS_SHOWN, ITEMS_SHOWN = 12, 10


def build_drift_assets(
    months: dg.PartitionsDefinition, follows_a_month: dg.AutomationCondition, threads: int | None
) -> list[dg.AssetsDefinition]:
    """`follows_a_month`: the condition that requests a month. `threads`: for the fits of groups; None for all.

    DIF and information do not depend on item_drift, whose verdict is made again from the same evidence: its rows may be
    of an earlier fit.
    """
    in_common: dict[str, Any] = {
        "group_name": GROUP,
        "partitions_def": months,
        "deps": ["linked_item_parameters", "published_item_parameters"],
        "kinds": {"postgres"},
        "owners": ["team:psychometrics"],
        "pool": "calibration",
        "automation_condition": follows_a_month,
    }

    @dg.asset(
        **in_common,
        metadata={"dagster/column_schema": column_schema(tables.item_drift)},
        description="Which items moved against the set in force when the month began, how much it matters, and what "
        "happened to them: drift, a leak, a wrong key.",
    )
    def item_drift(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            found = drift_of_month(database, store, context.partition_key)
            with database.connect() as connection:
                maps = {s.scale_id: _heat_map(connection, s.scale_id, context.partition_key) for s in found}
        return dg.MaterializeResult(
            metadata={
                "drift": "; ".join(sentence(s) for s in found),
                "top flagged items": md(_flagged_table(found)),
                "published items without an estimate": md(unestimated_table(found)),
                **{
                    f"{level} drift ({s.scale_id})": len(s.items(level))
                    for s in found
                    if s.drift
                    for level in ("high", "medium")
                },
                **{f"answers read ({s.scale_id})": f"those of {s.sample}" for s in found if s.sample},
                **{
                    f"plot: drift ({scale})": md(Figure(drawn, alt="drift"))
                    for scale, drawn in maps.items()
                    if drawn is not None
                },
                "dagster/row_count": sum(
                    len(s.drift.item_ids) + len(s.unestimated.tested_items) for s in found if s.drift
                ),
            }
        )

    @dg.asset(
        **in_common,
        metadata={"dagster/column_schema": column_schema(tables.dif_analysis)},
        description="Which items function differently for groups of learners of equal ability (DIF): a Wald test "
        "between groups fitted separately, plus Mantel-Haenszel and logistic regression within forms, for each of the "
        "scale's attributes.",
    )
    def dif_analysis(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            found = dif_of_month(database, store, context.partition_key, threads)
        drawn_by_name = {
            f"plot: DIF ({scale}, {whole['attribute']})": md(Figure(drawn, alt="DIF"))
            for scale, rows in found.items()
            for whole, items in dif_page.by_attribute(rows)
            if (drawn := plots.differences_plot(whole, items))
        }
        return dg.MaterializeResult(
            metadata={
                "DIF": "; ".join(dif_page.sentence(scale, rows) for scale, rows in found.items()),
                "items with DIF": md(*dif_page.items_blocks(found)),
                "groups": md(dif_page.groups_table(found)),
                **drawn_by_name,
                "dagster/row_count": sum(map(len, found.values())),
            }
        )

    @dg.asset(
        **in_common,
        metadata={"dagster/column_schema": column_schema(tables.test_information)},
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
                "information": "; ".join(sentence_on_information(one) for one in judged),
                "flagged items": flagged_table(found),
                "dagster/row_count": dg.MetadataValue.int(n_rows),
                "caution": "; ".join(f"{scale}: {one.caution}" for scale, one in found.items() if one.caution),
            }
        )
        for scale, one in found.items():
            shown |= metadata(_information_shown(one), scale)
        return dg.MaterializeResult(metadata=shown)

    return [item_drift, dif_analysis, test_information]


def sentence(judged: ScaleDrift) -> str:
    """A scale's month in a sentence."""
    if judged.drift is None:
        return f"{judged.scale_id}: {judged.why}"
    high, medium, missing = judged.items("high"), judged.items("medium"), judged.unestimated
    summary = (
        f"{judged.scale_id}: {len(high)} high, {len(medium)} medium of {len(judged.drift.item_ids)} items compared"
    )
    if missing.tested_items:
        summary += f" and {len(missing.tested_items)} tested by proportion correct"
    named = [f"{i} ({judged.changes[i].kind})" if i in judged.changes else i for i in (high + medium)[:ITEMS_SHOWN]]
    summary += f": {', '.join(named)}" if named else ""
    if missing.untested:
        summary += f"; {len(missing.untested)} published items could be neither compared nor tested"
    if across := judged.drift.across_models:
        summary += f"; {len(across)} of them {across_models_in_words(*next(iter(across.values())))}"
    if judged.drift.inflation > 1:
        summary += (
            f"; all items spread more than their errors explain, which were multiplied by {judged.drift.inflation:.2f}"
        )
    return summary


def _flagged_table(found: list[ScaleDrift]) -> Table:
    rows = []
    for judged in found:
        drift = judged.drift
        if drift is None:
            continue
        estimated = [i for i in judged.items("high") + judged.items("medium") if i in drift.item_ids]
        for item in estimated[:ITEMS_SHOWN]:
            j = drift.item_ids.index(item)
            change = judged.changes.get(item)
            b = f"{drift.delta_b[j]:+.2f} ± {drift.se[j, 1]:.2f}"
            a = f"{drift.delta_a[j]:+.2f} ± {drift.se[j, 0]:.2f}"
            if item in drift.across_models:
                b, a = across_models_in_words(*drift.across_models[item]), ""
            start = judged.scale_id, item, drift.severity[j], drift.wabc[j]
            rows.append((*start, b, a, drift.q[j], change.kind if change else ""))
    formats = {"wABC": ".3f", "Δb ± SE": "", "Δa ± SE": "", "q": ".1e"}
    return table(("scale", "item", "severity", *formats, "kind"), rows, numbers=formats)


def unestimated_table(found: list[ScaleDrift]) -> Table:
    """Items in force that the month could not estimate, flagged ones first, those that could not be tested last."""
    rows: list[tuple[str, ...]] = []
    for judged in found:
        missing = judged.unestimated
        shown: list[tuple[str, ...]] = []
        if missing.tested is not None:
            t = missing.tested
            for j in np.argsort(t.q, kind="stable"):
                item = t.item_ids[j]
                right = f"{t.observed[j]:.3f}", f"{t.expected[j]:.3f} ± {t.se[j]:.3f}"
                tested = f"{t.n[j]}", *right, f"{t.q[j]:.1e}", t.severity[j]
                shown.append((judged.scale_id, item, missing.why[item], *tested))
        shown += [(judged.scale_id, i, why, *[""] * 4, "not tested") for i, why in missing.untested.items()]
        rows += shown[:ITEMS_SHOWN]
        if len(shown) > ITEMS_SHOWN:
            rows.append((judged.scale_id, f"… and {len(shown) - ITEMS_SHOWN} more", *[""] * 6))
    columns = ("scale", "item", "why", "answers", "right", "as published", "q", "severity")
    return table(columns, rows, numbers=columns[3:7])


def sentence_on_information(judged: ScaleInformation) -> str:
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


def _information_shown(one: MonthInformation) -> dict[str, Shown]:
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


def _heat_map(connection: psycopg.Connection, scale_id: str, month: str) -> Picture | None:
    """The items that moved most in any of the last months, flagged ones first; None if no month judged any."""
    rows = connection.execute(
        """SELECT item_id, month,
                  coalesce(delta_b, -(details->'curves'->>'right')::float,
                           -(details->'proportion_correct'->>'difference')::float),
                  severity, wabc
           FROM item_drift WHERE scale_id = %s AND month <= %s
             AND month IN (SELECT DISTINCT month FROM item_drift WHERE scale_id = %s AND month <= %s
                           ORDER BY month DESC LIMIT %s)""",
        (scale_id, month, scale_id, month, MONTHS_SHOWN),
    ).fetchall()
    if not rows:
        return None
    months = sorted({m for _, m, _, _, _ in rows})
    weight: dict[str, tuple[bool, float]] = {}
    for item, _, _, severity, wabc in rows:
        weight[item] = max(weight.get(item, (False, 0.0)), (severity != "none", wabc))
    items = sorted(weight, key=lambda i: weight[i], reverse=True)[: plots.MOST_ITEMS]
    change = np.full((len(items), len(months)), np.nan)
    flags = np.full(change.shape, "", dtype="U1")
    for item, at, harder, severity, area in rows:
        if item in items:
            place = items.index(item), months.index(at)
            change[place], flags[place] = np.copysign(area, harder), severity[0] if severity != "none" else ""
    return plots.heat_map(items, months, change, flags)
