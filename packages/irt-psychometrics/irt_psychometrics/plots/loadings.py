"""Figures of fits with several dimensions: loadings of items, and the parts of a score's variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.plots.axes import CHOICES, shortened
from irt_psychometrics.plots.chart import Chart
from irt_psychometrics.plots.figures import ID_LENGTH, MAX_ROWS


def loadings_chart(item_ids: Sequence[str], names: Sequence[str], loadings: Floats, measured: Mask) -> Chart:
    """Draw a row for each of the first 60 items, with a point for the loading on each measured dimension."""
    shown = min(len(item_ids), MAX_ROWS)
    described = f"Standardised loadings of {shown} items on {', '.join(names)}"
    ends = Chart.ends_of(loadings[np.isfinite(loadings)], [0.0, 1.0])
    chart = _chart_of_rows(item_ids[:shown], ends, "standardised loading", described)
    chart.line([0, 0], chart.y, "grey", width=0.8)
    shapes = CHOICES["shape"]
    for k, name in enumerate(names):
        rows = np.flatnonzero(measured[:shown, k] & np.isfinite(loadings[:shown, k]))
        titles = [f"{item_ids[j]}: {loadings[j, k]:.2f} on {name}" for j in rows.tolist()]
        style: dict[str, Any] = {"colour": Chart.SERIES[k % len(Chart.SERIES)], "shape": shapes[k % len(shapes)]}
        chart.points(loadings[rows, k], rows, name=shortened(name, ID_LENGTH), titles=titles, **style)
    if shown < len(item_ids):
        chart.heading = f"The first {shown} of {len(item_ids)} items"
    return chart


def omega_chart(names: Sequence[str], general: Floats, specific: Floats) -> Chart:
    """Draw a bar for each score: the shares of its variance from the general and from specific dimensions."""
    described = f"Shares of the variance of {len(names)} scores from the general and from specific dimensions"
    chart = _chart_of_rows(names, (0.0, 1.0), "share of the score's variance", described)
    rows = np.arange(len(names))
    chart.boxes(np.zeros(rows.size), rows + 0.35, general, rows - 0.35, name="general dimension")
    return chart.boxes(
        general, rows + 0.35, general + specific, rows - 0.35, "orange", "specific dimensions", hatched=True
    )


def _chart_of_rows(names: Sequence[str], ends: tuple[float, float], label: str, described: str) -> Chart:
    height = 56 + 14 * len(names)
    labels = [shortened(name, ID_LENGTH) for name in names]
    return Chart(ends, (len(names) - 0.4, -0.6), label, "", described, y_names=labels, width=640, height=height)
