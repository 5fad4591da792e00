"""The charts of the drift report, each from its facts, with a sentence for those who do not see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from irt_assets.charts.chart import Chart, Line, ends_of
from irt_assets.charts.pictures import (
    MOST_NAMES,
    NOW,
    PUBLISHED,
    against,
    by_month,
    by_rank,
    response_curves,
)
from irt_assets.drift.rows import DifRow, DriftRow
from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.core.models import Floats
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.item_shown import abilities


def changes(facts: Facts) -> Chart:
    """Δb of every compared item with its 95 % interval, from easier to harder; flagged ones are triangles, named."""
    rows = [item.drift for item in facts.items.values() if item.drift and item.drift.delta_b is not None]
    rows.sort(key=lambda row: row.delta_b or 0.0)
    (deltas, half), kinds = _changes(rows), _kinds(rows)
    flagged = np.array(kinds, dtype=object) != ""
    return by_rank(
        ("items, from easier to harder than published", "Δb"),
        f"Change of difficulty of {len(rows)} items; {flagged.sum()} are flagged",
        deltas,
        half,
        kinds,
        ends_of(deltas, (deltas - half)[flagged], (deltas + half)[flagged], [0.0]),
        names=[row.item_id for row in rows],
        named=np.flatnonzero(flagged)[:MOST_NAMES],
        titles=[f"{row.item_id}: Δb {row.delta_b:+.2f}, wABC {row.wabc:.3f}, {row.severity}" for row in rows],
    )


def history(item: Item) -> Chart:
    """Δb of an item against what was published when each month began, with 95 % intervals."""
    rows = [row for row in item.history if row.delta_b is not None]
    (deltas, half), kinds = _changes(rows), _kinds(rows)
    titles = [f"{row.month}: Δb {row.delta_b:+.2f}, {row.severity}" for row in rows]
    described = f"Change of difficulty of item {item.item_id} over months"
    return by_month(
        [row.month for row in rows], "Δb", described, deltas, half, 0.0, kinds=kinds, titles=titles, height=190
    )


def anchors(facts: Facts) -> Chart:
    """Difficulty of the anchors as published against the month's with 95 % intervals, named where there is room;
    left out and moved ones are triangles."""
    assert facts.fit is not None
    off = facts.fit.constants.anchors_dropped.keys() | facts.fit.constants.suspects.keys()
    both = [
        (i.item_id, i.published.b, i.values.b, i.values.b_se or 0.0)
        for i in facts.items.values()
        if i.is_anchor and i.published and i.values
    ]
    both.sort(key=lambda row: row[0] not in off)  # what is named first has room
    names = [name for name, *_ in both]
    x, y, se = np.array([row[1:] for row in both], dtype=float).reshape(-1, 3).T
    moved = ", ".join(name for name in names if name in off) or "none"
    return against(
        ("b, published", "b, this month"),
        f"Difficulties of {len(both)} anchors, published and this month; left out or moved: {moved}",
        x,
        y,
        ["left out or moved" if name in off else "" for name in names],
        ends_of(x, y),
        y_half=Z95 * se,
        titles=[f"{name}: published {old:.2f}, now {new:.2f} ± {error:.2f}" for name, old, new, error in both],
        names=names,
        named=range(len(names)),
    )


def groups(row: DifRow, item: Item, facts: Facts) -> Chart:
    """The curves of two groups: the month's curve moved apart by Δa and Δb, each by the other's share of answers."""
    assert item.values is not None
    wald, n = row.wald, row.details["n"]
    share = n["focal"] / (n["focal"] + n["reference"])
    theta = abilities(facts.scale)
    curves = []
    for weight, style in ((-share, PUBLISHED), (1 - share, NOW)):
        a = max(item.values.a + weight * (wald.get("delta_a") or 0.0), 0.05)
        moved = replace(item.values, a=a, b=item.values.b + weight * wald["delta_b"])
        curves.append(Line(theta, moved.curve(theta), **style))
    return response_curves(
        theta, f"Response curves of item {item.item_id} for {row.focal_group} and {row.reference_group}", curves
    )


def _changes(rows: Sequence[DriftRow]) -> tuple[Floats, Floats]:
    """Δb, and half of its 95 % interval, NaN where it is not known."""
    ends = [row.details.get("delta_b_95") or (np.nan, np.nan) for row in rows]
    low, high = np.array(ends, dtype=float).reshape(-1, 2).T
    return np.array([row.delta_b for row in rows], dtype=float), (high - low) / 2


def _kinds(rows: Sequence[DriftRow]) -> list[str]:
    return ["" if row.severity == "none" else "flagged" for row in rows]
