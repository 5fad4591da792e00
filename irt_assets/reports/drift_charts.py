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
    by_month,
    by_rank,
    over_ability,
    response_curves,
)
from irt_assets.common.wording import counted
from irt_assets.gates.anchor_shifts import AnchorShift
from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.core.models import Floats
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.drift_rows import DifRow, DriftRow, InformationRow


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


def response_curves_of(item: Item, facts: Facts) -> Chart:
    """The published curve (dashed), the month's (solid), both with intervals, and the observed proportions."""
    theta = _abilities(facts)
    curves = []
    for curve, style in ((item.published, PUBLISHED), (item.now, NOW)):
        if curve is not None:
            low, high = curve.interval(theta) or ((), ())
            curves.append(Line(theta, curve.curve(theta), low=low, high=high, **style))
    return response_curves(theta, f"Response curves of item {item.item_id}", curves, item.observed)


def history(item: Item) -> Chart:
    """Δb of an item against what was published when each month began, with 95 % intervals."""
    rows = [row for row in item.history if row.delta_b is not None]
    (deltas, half), kinds = _changes(rows), _kinds(rows)
    titles = [f"{row.month}: Δb {row.delta_b:+.2f}, {row.severity}" for row in rows]
    described = f"Change of difficulty of item {item.item_id} over months"
    return by_month(
        [row.month for row in rows], "Δb", described, deltas, half, 0.0, kinds=kinds, titles=titles, height=190
    )


def anchors(shifts: Sequence[AnchorShift]) -> Chart:
    """The change in b of each anchor with its 95 % interval, from easier to harder; those that moved or were left out
    have shapes of their own, and all have names where there is room."""
    rows = sorted(shifts, key=lambda shift: shift.delta_b)
    kinds = ["moved" if shift.moved else "left out" if shift.left_out else "" for shift in rows]
    deltas, half = np.array([(shift.delta_b, Z95 * shift.error) for shift in rows]).reshape(-1, 2).T
    return by_rank(
        ("anchors, from easier to harder than in the anchor set", "Δb"),
        f"How far each of {len(rows)} anchors lies from the anchor set in b, as the anchors that did not move link "
        f"them, with 95 % intervals; {counted(kinds.count('moved'), 'anchor')} moved",
        deltas,
        half,
        kinds,
        ends_of(deltas - half, deltas + half, [0.0]),
        plain="agrees",
        names=[shift.item_id for shift in rows],
        named=sorted(range(len(rows)), key=lambda k: not kinds[k]),  # what is named first has room
        titles=[f"{shift.item_id}: Δb {shift.delta_b:+.2f} ± {shift.error:.2f}" for shift in rows],
    )


def groups(row: DifRow, item: Item, facts: Facts) -> Chart:
    """The curves of two groups: the month's curve moved apart by Δa and Δb, each by the other's share of answers."""
    assert item.now is not None
    wald, n = row.details["wald"], row.details["n"]
    share = n["focal"] / (n["focal"] + n["reference"])
    theta = _abilities(facts)
    curves = []
    for weight, style in ((-share, PUBLISHED), (1 - share, NOW)):
        a = max(item.now.a + weight * (wald.get("delta_a") or 0.0), 0.05)
        moved = replace(item.now, a=a, b=item.now.b + weight * wald["delta_b"])
        curves.append(Line(theta, moved.curve(theta), **style))
    return response_curves(
        theta, f"Response curves of item {item.item_id} for {row.focal_group} and {row.reference_group}", curves
    )


def information(test: InformationRow, name: str) -> Chart:
    """`information` or `se` of the test over θ: of the published values (dashed) and of the month's (solid)."""
    prefix, label = ("", "information") if name == "information" else ("se_", "standard error of θ")
    theta = test.curve["theta"]
    curves = [
        Line(theta, values, **style)
        for key, style in (("published", PUBLISHED), ("now", NOW))
        if (values := test.curve.get(f"{prefix}{key}")) is not None
    ]
    top = ends_of(*(curve.ys for curve in curves))[1]
    return over_ability(
        theta, label, f"Test {label} over ability", curves, min(top, 1.5) if name == "se" else top, height=230
    )


def _changes(rows: Sequence[DriftRow]) -> tuple[Floats, Floats]:
    """Δb, and half of its 95 % interval, NaN where it is not known."""
    ends = [row.details.get("delta_b_95") or (np.nan, np.nan) for row in rows]
    low, high = np.array(ends, dtype=float).reshape(-1, 2).T
    return np.array([row.delta_b for row in rows], dtype=float), (high - low) / 2


def _kinds(rows: Sequence[DriftRow]) -> list[str]:
    return ["" if row.severity == "none" else "flagged" for row in rows]


def _abilities(facts: Facts) -> Floats:
    return np.linspace(facts.scale.mu - 3.5 * facts.scale.sigma, facts.scale.mu + 3.5 * facts.scale.sigma, 43)
