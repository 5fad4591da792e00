"""The heat map of drift: items × months, how much each changed, in which direction, and where it is flagged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from irt_assets.charts.chart import Boxes, Chart, Picture, names_at, shortened

MOST_ITEMS = 30
LIMIT = 0.15  # wABC at which the colours end
EASIER, HARDER, MISSING = (84, 39, 136), (179, 88, 6), "#EEEEEE"  # of ColorBrewer's PuOr


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
