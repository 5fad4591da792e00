"""The plot of an attribute's DIF: every item's difference of difficulty between two groups.

Colours are those of calibration/plots.py; what they mean is also in the marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from irt_assets.calibration.plots import BLUE, GREY, ORANGE, as_png, new_figure, short
from irt_assets.drift.dif_month import Row
from irt_assets.drift.dif_page import differs
from irt_assets.psychometrics.core.confidence import Z95

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS, NAMES = 4, 12


def differences_plot(whole: Row, items: Sequence[Row]) -> bytes | None:
    """PNG: each item's Δb with its 95 % interval, a panel for each group that was tested, the largest first; None where
    none was. Items with large DIF are named. Items that have no Δb are in the table alone."""
    tested = [row for row in items if row["details"]["wald"] and row["details"]["wald"]["delta_b_se"] is not None]
    names = [g["name"] for g in whole["details"]["groups"] if any(row["focal_group"] == g["name"] for row in tested)]
    if not names:
        return None
    shown = names[:PANELS]
    figure = new_figure(0.9 + 2.6 * len(shown))
    for ax, name in zip(np.atleast_1d(figure.subplots(len(shown), 1)), shown, strict=True):
        rows = [row for row in tested if row["focal_group"] == name]
        rows.sort(key=lambda row: row["details"]["wald"]["delta_b"])
        delta = np.array([row["details"]["wald"]["delta_b"] for row in rows])
        half = Z95 * np.array([row["details"]["wald"]["delta_b_se"] for row in rows])
        much = np.array([row["details"]["large"] for row in rows], dtype=bool)
        some = np.array([differs(row) for row in rows], dtype=bool) & ~much
        rank = np.arange(1, len(rows) + 1)
        for chosen, colour, marker, face in (
            (~much & ~some, BLUE, "o", BLUE),
            (some, ORANGE, "D", "white"),
            (much, ORANGE, "^", ORANGE),
        ):
            ax.vlines(
                rank[chosen], (delta - half)[chosen], (delta + half)[chosen], color=colour, linewidth=1, alpha=0.6
            )
            ax.plot(rank[chosen], delta[chosen], marker, color=colour, markerfacecolor=face, markersize=5)
        reach = 1.15 * max(0.5, float(np.quantile(np.abs(delta) + half, 0.97)), float(np.abs(delta).max(initial=0)))
        ax.set_ylim(-reach, reach)
        ax.axhline(0, color=GREY, linewidth=0.8)
        _name(ax, [(rank[k], delta[k], rows[k]["item_id"]) for k in np.flatnonzero(much)], len(rows), reach)
        ax.set_ylabel(f"Δb, {short(name, 24)}", fontsize=9, parse_math=False)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(visible=True, axis="y", color="#E4E4E4", linewidth=0.6)
        ax.tick_params(labelsize=8)
    figure.supxlabel(
        f"items, from easier to harder for the group than for {short(whole['reference_group'], 24)}"
        f"{f' (the first {PANELS} of {len(names)} groups)' if len(names) > PANELS else ''}",
        fontsize=9,
        parse_math=False,
    )
    figure.suptitle(
        f"{short(whole['attribute'], 30)}: difference of difficulty with 95 % intervals; orange: certain (q < 0.05), "
        "triangles with a name: large",
        fontsize=10,
        x=0.01,
        ha="left",
        parse_math=False,
    )
    return as_png(figure)


def _name(ax: Axes, points: Sequence[tuple[float, float, str]], n: int, reach: float) -> None:
    """Names next to their points, towards the middle, without overlaps."""
    for side in (-1, 1):
        last = -np.inf
        for rank, delta, item in sorted((p for p in points if (p[0] > n / 2) == (side > 0)), key=lambda p: p[1])[
            :NAMES
        ]:
            at = max(delta, last + 0.13 * reach)
            x = rank - side * 0.04 * n
            ax.annotate(
                short(item, 20), (rank, delta), (x, at), ha="right" if side > 0 else "left", va="center", fontsize=7.5,
                parse_math=False, arrowprops={"arrowstyle": "-", "color": ORANGE, "linewidth": 0.5},
            )  # fmt: skip
            last = at
