"""Pictures of information over θ: of the test, as published and as the month has it, and of single items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from irt_assets.charts.chart import Line, Picture, shortened
from irt_assets.charts.pictures import NOW, PUBLISHED, over_ability
from irt_assets.drift.information import MonthInformation, population
from irt_assets.psychometrics.information.functions import conditional_se, item_information

MOST_ITEMS = 9
"""Panels of single items."""
INFORMATION = "information (1/θ²)"


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
    shown = found.retiring[:MOST_ITEMS]
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
