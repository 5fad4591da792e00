"""The asset `item_drift`: a month's items against the published set.

Thin: the steps are in `month`. Dagster reads the annotations of the decorated functions, so this module does not
postpone them.
"""

from typing import Any

import dagster as dg
import numpy as np
import psycopg
import sqlalchemy as sa

from irt_assets.blocks import Figure, Table, table, value_with_error
from irt_assets.charts.chart import Picture
from irt_assets.common.metadata import md
from irt_assets.common.retries import classify_failures
from irt_assets.drift import plots
from irt_assets.drift.month import ScaleDrift, across_models_in_words, drift_of_month
from resources import tables
from resources.dagster_schema import column_schema
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

GROUP = "drift"
DRIFT_JOB = "detect_drift"
MONTHS_SHOWN, ITEMS_SHOWN = 12, 10


def of_a_month(
    months: dg.PartitionsDefinition, follows_a_month: dg.AutomationCondition, table: sa.Table
) -> dict[str, Any]:
    """What the assets of the group have in common, with `table` to write to.

    DIF and information do not depend on item_drift, whose verdict is made again from the same evidence: its rows may be
    of an earlier fit.
    """
    return {
        "group_name": GROUP,
        "partitions_def": months,
        "deps": ["linked_item_parameters", "published_item_parameters"],
        "kinds": {"postgres"},
        "owners": ["team:psychometrics"],
        "pool": "calibration",
        "automation_condition": follows_a_month,
        "metadata": {"dagster/column_schema": column_schema(table)},
    }


def build_drift_assets(
    months: dg.PartitionsDefinition, follows_a_month: dg.AutomationCondition
) -> list[dg.AssetsDefinition]:
    """The assets of drift. `follows_a_month`: the condition that requests a month's drift."""

    @dg.asset(
        **of_a_month(months, follows_a_month, tables.item_drift),
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

    return [item_drift]


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
            b = value_with_error(drift.delta_b[j], drift.se[j, 1], sign=True)
            a = value_with_error(drift.delta_a[j], drift.se[j, 0], sign=True)
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
