"""The plot of a week's KPIs as PNG bytes. Figures are built without pyplot, so nothing is global."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from irt_assets.calibration.plots import BLUE, as_png, new_figure
from irt_assets.kpis.meaning import RANGES, TITLES


def distributions(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A histogram of each KPI over its whole range; learners without a value are counted in the title."""
    figure = new_figure(4.8)
    for ax, (name, (low, high)) in zip(figure.subplots(2, 3).flat, RANGES.items(), strict=True):
        values = np.array([record[name] for record in records if record[name] is not None], dtype=float)
        ax.hist(values, bins=np.linspace(low, high, 26), color=BLUE)
        ax.set_title(
            f"{name}: {TITLES[name]}\n{values.size:,} learners, {len(records) - values.size:,} without", size=9
        )
        ax.set_xlim(low, high)
        ax.spines[["top", "right"]].set_visible(False)
    return as_png(figure)
