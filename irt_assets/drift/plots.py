"""Pictures of drift: the heat map of a scale's months, an attribute's DIF, and information over θ, of the test and of
single items.

What does not belong here: what they are drawn from, and drawing (see `irt_assets.charts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from irt_assets.charts.chart import Boxes, Chart, Line, Picture, names_at, shortened
from irt_assets.charts.pictures import NOW, PUBLISHED, by_rank, over_ability
from irt_assets.drift.dif_month import Row
from irt_assets.drift.dif_page import differs
from irt_assets.drift.information import MonthInformation, population
from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.information.functions import conditional_se, item_information

MOST_ITEMS = 30
LIMIT = 0.15  # wABC at which the colours end
EASIER, HARDER, MISSING = (84, 39, 136), (179, 88, 6), "#EEEEEE"  # of ColorBrewer's PuOr
MOST_GROUPS = 4
"""Panels of an attribute's DIF."""
MOST_PANELS = 9
"""Panels of single items' information."""
INFORMATION = "information (1/θ²)"


def heat_map(
    items: Sequence[str], months: Sequence[str], change: npt.NDArray[np.float64], flags: np.ndarray
) -> Picture:
    """change: shape (items, months), wABC, negative where the item became easier, NaN where it was not compared.
    flags: the same shape, "" or "m" or "h"."""
    rows, columns = np.indices(change.shape).reshape(2, -1)
    chart = Chart(
        (-0.5, len(months) - 0.5),
        (len(items) - 0.5, -0.5),
        "month",
        "",
        "how much items changed",
        height=50 + 18 * max(len(items), 1),
        x_names=names_at(months),
        y_names=names_at(shortened(item, 24) for item in items),
    ).add(
        Boxes(
            columns - 0.49,
            rows + 0.48,
            right=columns + 0.49,
            top=rows - 0.48,
            fills=[_colour(value) for value in change.flat],
            texts=[f"{value:+.2f} {flag}" if flag else "" for value, flag in zip(change.flat, flags.flat, strict=True)],
        )
    )
    return Picture(
        "How much items changed against the published set (wABC): purple easier, brown harder; flagged: m medium, "
        "h high; grey: not compared",
        [chart],
    )


def _colour(value: float) -> str:
    """From white at no change to full at the limit."""
    if not np.isfinite(value):
        return MISSING
    share = min(abs(value) / LIMIT, 1.0)
    return "#" + "".join(f"{round(255 + share * (full - 255)):02X}" for full in (HARDER if value > 0 else EASIER))


def differences_plot(whole: Row, items: Sequence[Row]) -> Picture | None:
    """Each item's Δb with its 95 % interval, a panel for each group that was tested, the largest first; None where
    none was. Items with large DIF are named. Items that have no Δb are in the table alone."""
    tested = [row for row in items if row["details"]["wald"] and row["details"]["wald"]["delta_b_se"] is not None]
    names = [g["name"] for g in whole["details"]["groups"] if any(row["focal_group"] == g["name"] for row in tested)]
    if not names:
        return None
    reference = shortened(whole["reference_group"], 24)
    charts = []
    for name in names[:MOST_GROUPS]:
        rows = [row for row in tested if row["focal_group"] == name]
        rows.sort(key=lambda row: row["details"]["wald"]["delta_b"])
        delta = np.array([row["details"]["wald"]["delta_b"] for row in rows])
        half = Z95 * np.array([row["details"]["wald"]["delta_b_se"] for row in rows])
        large = [row["details"]["large"] for row in rows]
        reach = 1.15 * max(0.5, float(np.quantile(np.abs(delta) + half, 0.97)), float(np.abs(delta).max(initial=0)))
        charts.append(
            by_rank(
                (f"items, from easier to harder for the group than for {reference}", f"Δb, {shortened(name, 24)}"),
                f"difference of difficulty between {name} and {reference}",
                delta,
                half,
                ["large" if much else "certain" if differs(row) else "" for much, row in zip(large, rows, strict=True)],
                (-reach, reach),
                names=[row["item_id"] for row in rows],
                named=np.flatnonzero(large),
            )
        )
    more = f" (the first {MOST_GROUPS} of {len(names)} groups)" if len(names) > MOST_GROUPS else ""
    return Picture(
        f"{shortened(whole['attribute'], 30)}: difference of difficulty with 95 % intervals{more}; orange: certain "
        "(q < 0.05), triangles with a name: large",
        charts,
    )


def test_curves(found: MonthInformation) -> Picture:
    """Information of the compared items as published and now, and of the set in force with and without the items that
    might be retired; next to it the standard error of θ. Grey: the middle 95 % of the population."""
    items, theta = found.items, found.theta
    both = items.in_force & items.estimated
    curves = [
        Line(theta, found.of_test(items.published, both), name=f"{both.sum()} items, as published", **PUBLISHED),
        Line(theta, found.of_test(items.now, both), name="the same items in this month", **NOW),
    ]
    if found.retiring:
        all_in_force = f"all {items.in_force.sum()} items in force, as now known"
        curves += [
            Line(theta, found.retirement.before, "black", all_in_force, dash="dashdot"),
            Line(
                theta, found.retirement.after, "black", f"without the {len(found.retiring)} flagged items", dash="dot"
            ),
        ]
    errors = [replace(curve, ys=conditional_se(np.array(curve.ys))) for curve in curves]
    low, high = population(found.scale).middle()
    inside = (theta >= low) & (theta <= high)
    largest = max(np.max(np.array(curve.ys)[inside]) for curve in errors)
    whose = " (grey: middle 95 % of the population)"
    charts = [
        over_ability(theta, label, label, some, top, whose, height=250).stretch(low, high)
        for some, label, top in (
            (curves, f"test {INFORMATION}", 1.08 * max(max(curve.ys) for curve in curves) or 1.0),
            (errors, "standard error of θ", 1.6 * min(largest, 2.0 * found.scale.sigma)),
        )
    ]
    if found.test is None:
        return Picture("No item in force was estimated by this month", charts, 2)
    worst = found.test.worst
    said = f"The month keeps at least {worst.ratio:.0%} of the published information, least at θ = {worst.theta:+.1f}"
    return Picture(said, charts, 2)


test_curves.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def item_curves(found: MonthInformation) -> Picture:
    """Information of the items that might be retired, at least one, as published and now."""
    shown = found.retiring[:MOST_PANELS]
    panels = {item: _curves_of(found, item) for item in shown}
    top = 1.08 * max((max(curve.ys) for curves in panels.values() for curve in curves), default=1.0) or 1.0
    charts = [
        over_ability(
            found.theta, INFORMATION, f"Information of {item}", curves, top, height=170, heading=shortened(item, 30)
        )
        for item, curves in panels.items()
    ]
    more = f" (the first {len(shown)} of {len(found.retiring)})" if len(found.retiring) > len(shown) else ""
    return Picture(
        f"Flagged items{more}: blue dashes as published, orange as the month has them", charts, min(3, len(shown))
    )


def _curves_of(found: MonthInformation, item: str) -> list[Line]:
    j = found.items.item_ids.index(item)
    return [
        Line(found.theta, item_information(found.theta, parameters.select([item]).curves)[:, 0], **style)
        for parameters, style in ((found.items.published, PUBLISHED), (found.items.now, NOW))
        if np.isfinite(parameters.a[j])
    ]
