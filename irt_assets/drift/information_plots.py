"""Information over θ as PNG bytes: of the test, as published and as the month has it, and of single items."""

from __future__ import annotations

import numpy as np

from irt_assets.calibration.plots import BLUE, ORANGE, as_png, message, new_figure, short, tidy, title
from irt_assets.drift.information import MonthInformation, population
from irt_assets.psychometrics.information.functions import conditional_se, item_information

MOST_ITEMS = 9
"""Panels of single items."""


def test_curves(found: MonthInformation) -> bytes:
    """Information of the compared items as published and now, and of the set in force with and without the items that
    might be retired; next to it the standard error of θ. Grey: the middle 95 % of the population."""
    items, theta = found.items, found.theta
    both = items.in_force & items.estimated
    curves = [
        (found.of_test(items.published, both), BLUE, "-", f"{both.sum()} items, as published"),
        (found.of_test(items.now, both), ORANGE, "--", "the same items in this month"),
    ]
    if found.retiring:
        curves += [
            (found.retirement.before, "black", "-.", f"all {items.in_force.sum()} items in force, as now known"),
            (found.retirement.after, "black", ":", f"without the {len(found.retiring)} flagged items"),
        ]
    figure = new_figure(4.0)
    left, right = figure.subplots(1, 2)
    largest = 0.0
    low, high = population(found.scale).middle()
    for curve, colour, line, label in curves:
        se = conditional_se(curve)
        left.plot(theta, curve, color=colour, linestyle=line, linewidth=1.8, label=label)
        right.plot(theta, se, color=colour, linestyle=line, linewidth=1.8)
        largest = max(largest, float(se[(theta >= low) & (theta <= high)].max()))
    left.set_ylim(bottom=0)
    left.set_ylabel("test information (1/θ²)")
    right.set_ylabel("standard error of θ")
    right.set_ylim(0, 1.6 * min(largest, 2.0 * found.scale.sigma))
    for ax in (left, right):
        ax.axvspan(low, high, color="#ECECEC", zorder=0)
        ax.set_xlabel("ability θ (grey: middle 95 % of the population)")
        ax.set_xlim(theta[0], theta[-1])
        tidy(ax)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    if found.test is None:
        title(figure, "No item in force was estimated by this month")
    else:
        worst = found.test.worst
        least = f"at least {worst.ratio:.0%} of the published information, least at θ = {worst.theta:+.1f}"
        title(figure, f"The month keeps {least}")
    return as_png(figure)


test_curves.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def item_curves(found: MonthInformation) -> bytes:
    """Information of the items that might be retired, as published and now."""
    if not found.retiring:
        return message("No item lost information or drifted far")
    shown = found.retiring[:MOST_ITEMS]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(0.9 + 2.1 * rows)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, item in zip(axes, shown, strict=False):
        j = found.items.item_ids.index(item)
        sides = (found.items.published, BLUE, "-"), (found.items.now, ORANGE, "--")
        for parameters, colour, line in sides:
            if np.isfinite(parameters.a[j]):
                curve = item_information(found.theta, parameters.select([item]).curves)[:, 0]
                ax.plot(found.theta, curve, color=colour, linestyle=line, linewidth=1.8)
        ax.set_title(short(item, 30), fontsize=9, parse_math=False)
        ax.set_ylim(bottom=0)
        tidy(ax)
    figure.supxlabel("ability θ", fontsize=9)
    figure.supylabel("information (1/θ²)", fontsize=9)
    more = f" (the first {len(shown)} of {len(found.retiring)})" if len(found.retiring) > len(shown) else ""
    title(figure, f"Flagged items{more}: blue as published, orange dashes as the month has them")
    return as_png(figure)
