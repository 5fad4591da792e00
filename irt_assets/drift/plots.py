"""The heat map of drift: items × months, how much each changed, in which direction, and where it is flagged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from irt_assets.calibration.plots import as_png, new_figure, short

MOST_ITEMS = 30
LIMIT = 0.15  # wABC at which the colour scale ends


def heat_map(items: Sequence[str], months: Sequence[str], change: npt.NDArray[np.float64], flags: np.ndarray) -> bytes:
    """PNG. change: shape (items, months), wABC, negative where the item became easier, NaN where it was not compared.
    flags: the same shape, "" or "m" or "h"."""
    figure = new_figure(1.3 + 0.24 * max(len(items), 1))
    ax = figure.add_subplot()
    ax.set_facecolor("#EEEEEE")
    image = ax.imshow(change, cmap="PuOr_r", vmin=-LIMIT, vmax=LIMIT, aspect="auto", interpolation="nearest")
    for row, column in zip(*np.nonzero(flags != ""), strict=True):
        dark = abs(change[row, column]) > 0.6 * LIMIT
        text = f"{change[row, column]:+.2f} {flags[row, column]}"
        ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    ax.set_xticks(range(len(months)), months, fontsize=8)
    ax.set_yticks(range(len(items)), [short(item, 24) for item in items], fontsize=8, parse_math=False)
    figure.colorbar(image, ax=ax, shrink=0.8, pad=0.01).set_label("wABC: < 0 easier, > 0 harder", fontsize=8)
    title = "How much items changed against the published set (wABC); flagged: m medium, h high; grey: not compared"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return as_png(figure)
