"""Charts of the drift report, each with a description for readers who cannot see it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from irt_assets.charts import (
    ESTIMATE_STYLE,
    MAX_NAMES,
    PUBLISHED_STYLE,
    USED_OFF_0,
    ability_chart,
    month_chart,
    rank_chart,
    response_axis_label,
)
from irt_assets.common.arrays import Floats
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import quantity
from irt_assets.drift.rows import DifRow, DriftRow
from irt_assets.gates.anchor_shifts import AnchorShift
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.item_blocks import abilities
from irt_psychometrics.plots import Chart


def changes(facts: Facts) -> Chart:
    """Draw Δb of every compared item with its 95 % interval, from easier to harder; flagged ones as named triangles."""
    rows = [item.drift for item in facts.items.values() if item.drift and item.drift.delta_b is not None]
    rows.sort(key=lambda row: row.delta_b or 0.0)
    (deltas, half), kinds = _changes(rows), _kinds(rows)
    flagged = np.array(kinds, dtype=object) != ""
    return rank_chart(
        ("items, from easier to harder than published", "Δb"),
        f"Change of difficulty of {len(rows)} items; {flagged.sum()} are flagged",
        deltas,
        half,
        kinds,
        Chart.ends_of(deltas, (deltas - half)[flagged], (deltas + half)[flagged], [0.0]),
        named=[(k, rows[k].item_id) for k in np.flatnonzero(flagged)[:MAX_NAMES]],
        titles=[
            f"{row.item_id}: Δb {row.delta_b:+.2f}, difference of curves {row.wabc:.3f}, {row.severity}" for row in rows
        ],
    )


def history(item: Item) -> Chart:
    """Draw Δb of an item against the values in force at the start of each month, with 95 % intervals."""
    rows = [row for row in item.history if row.delta_b is not None]
    (deltas, half), kinds = _changes(rows), _kinds(rows)
    titles = [f"{row.month}: Δb {row.delta_b:+.2f}, {row.severity}" for row in rows]
    description = f"Change of difficulty of item {item.item_id} over months"
    return month_chart(
        [row.month for row in rows], "Δb", description, deltas, half, 0.0, kinds=kinds, titles=titles, height=190
    )


def anchors(shifts: Sequence[AnchorShift]) -> Chart:
    """Draw the change in b of each anchor with its 95 % interval, from easier to harder.

    Anchors that moved, were left out or lie off 0 have other shapes and, as far as there is room, names.
    """
    rows = sorted(shifts, key=lambda shift: shift.delta_b)
    kinds = [kind_of_anchor(shift) for shift in rows]
    used_first = sorted(range(len(rows)), key=lambda k: kinds[k] != USED_OFF_0)  # a table has the names of the others
    deltas, half = np.array([(shift.delta_b, Z95 * shift.error) for shift in rows]).reshape(-1, 2).T
    return rank_chart(
        ("anchors, from easier to harder than in the anchor set", "Δb"),
        f"How far each of {len(rows)} anchors lies from the anchor set in b, as the anchors that did not move link "
        f"them, with 95 % intervals; {quantity(kinds.count('moved'), 'anchor')} moved",
        deltas,
        half,
        kinds,
        Chart.ends_of(deltas - half, deltas + half, [0.0]),
        plain="used",
        named=[(k, rows[k].item_id) for k in used_first if kinds[k]],
        titles=[f"{shift.item_id}: Δb {shift.delta_b:+.2f} ± {shift.error:.2f}" for shift in rows],
    )


def kind_of_anchor(shift: AnchorShift) -> str:
    """How the linking treats the anchor; empty for one that it uses and whose interval contains 0."""
    if shift.moved or shift.left_out:
        return "moved" if shift.moved else "left out"
    return USED_OFF_0 if abs(shift.delta_b) > Z95 * shift.error else ""


def groups(row: DifRow, item: Item, facts: Facts) -> Chart:
    """Draw the curves of two groups: the month's curve shifted by Δa and Δb.

    Each group's curve is shifted by the other group's share of the answers.
    """
    assert item.values is not None
    wald, n = row.wald, row.details["n"]
    share = n["focal"] / (n["focal"] + n["reference"])
    theta = abilities(facts.scale)
    description = f"Response curves of item {item.item_id} for {row.focal_group} and {row.reference_group}"
    chart = ability_chart(theta, response_axis_label(scored=item.values.max_score > 1), description, 1.0)
    for weight, style in ((-share, PUBLISHED_STYLE), (1 - share, ESTIMATE_STYLE)):
        a = max(item.values.a + weight * (wald.get("delta_a") or 0.0), 0.05)
        moved = replace(item.values, a=a, b=item.values.b + weight * wald["delta_b"])
        chart.line(theta, moved.curve(theta), **style)
    return chart


def _changes(rows: Sequence[DriftRow]) -> tuple[Floats, Floats]:
    """Δb and half the width of its 95 % interval (NaN if unknown), each of shape (rows,)."""
    ends = [row.details.get("delta_b_95") or (np.nan, np.nan) for row in rows]
    low, high = np.array(ends, dtype=float).reshape(-1, 2).T
    return np.array([row.delta_b for row in rows], dtype=float), (high - low) / 2


def _kinds(rows: Sequence[DriftRow]) -> list[str]:
    return ["" if row.severity == "none" else "flagged" for row in rows]
