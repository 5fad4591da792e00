"""How a scale's months were linked: constants with intervals, and which anchors were used and dropped, month by month.

Belongs here: reading that history, and showing it as a table and a plot. Does not belong here: one month's anchors in
detail (`plots.linking_scatter`), and whether the last intercept is out of line (an invariant).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psycopg

from irt_assets.calibration.plots import BLUE, GREY, ORANGE, as_png, message, new_figure, short, tidy, title
from irt_assets.common.partitions import months_between
from irt_assets.ledger.linked_windows import answered_items, fitted_months
from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.responses.scales import Scale
from resources.markdown import markdown_table

MONTHS_SHOWN = 24
ANCHORS_SHOWN = 12


@dataclass(frozen=True)
class LinkedMonth:
    """A month's linking of the scale's own fit.

    `dropped` are anchors that had enough answers and were not used; `unseen` counts those that had not. For a month
    that could not be linked, `error` says why, and there are no numbers (NaN, 0).
    """

    month: str
    slope: float = np.nan
    slope_se: float = np.nan
    intercept: float = np.nan
    intercept_se: float = np.nan
    used: int = 0
    dropped: tuple[str, ...] = ()
    unseen: int = 0
    error: str | None = None


def read_history(connection: psycopg.Connection, scale: Scale, month: str) -> list[LinkedMonth]:
    """The last 24 months up to `month` that were fitted, oldest first, each by its latest fit."""
    months = fitted_months(connection, scale, month, MONTHS_SHOWN)
    linked = [one.fit_id for one in months if one.fit_id]
    seen = answered_items(connection, linked, scale.rules.linking.min_anchor_responses)
    history = []
    for one in months:
        constants = one.constants
        if one.fit_id is None or constants is None:
            history.append(LinkedMonth(one.month, error=one.error or "it was fitted and not linked"))
            continue
        dropped = tuple(sorted(set(constants.anchors_dropped) & seen.get(one.fit_id, set())))
        history.append(
            LinkedMonth(
                one.month,
                slope=constants.slope,
                slope_se=constants.slope_se,
                intercept=constants.intercept,
                intercept_se=constants.intercept_se,
                used=len(constants.anchors_used),
                dropped=dropped,
                unseen=len(constants.anchors_dropped) - len(dropped),
            )
        )
    return history


def history_table(history: Sequence[LinkedMonth]) -> str:
    """Newest month first."""
    rows = []
    for one in reversed(history):
        if one.error:
            rows.append((one.month, f"not linked: {one.error}", *[""] * 4))
            continue
        constants = f"{one.slope:.3f} ± {one.slope_se:.3f}", f"{one.intercept:+.3f} ± {one.intercept_se:.3f}"
        rows.append((one.month, *constants, f"{one.used}", ", ".join(one.dropped) or "none", f"{one.unseen}"))
    columns = ("month", "slope", "intercept", "anchors used", "dropped", "too few answers")
    return markdown_table(columns, rows, numeric={*columns} - {"month", "dropped"})


def history_plot(history: Sequence[LinkedMonth]) -> bytes:
    """Slope and intercept with 95 % intervals, and below them the anchors that were dropped, month by month."""
    linked = [one for one in history if one.error is None]
    if not linked:
        return message("No month has been linked yet")
    months = list(months_between(history[0].month, history[-1].month))
    place: dict[str, int] = {month: k for k, month in enumerate(months)}
    often = Counter(item for one in linked for item in one.dropped)
    named = [item for item, _ in sorted(often.items(), key=lambda entry: (-entry[1], entry[0]))[:ANCHORS_SHOWN]]
    figure = new_figure(4.6 + 0.2 * len(named))
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1 + 0.6 * max(len(named), 1)])
    x = [place[one.month] for one in linked]
    for ax, name in ((top, "slope"), (middle, "intercept")):
        value = np.array([getattr(one, name) for one in linked])
        half = Z95 * np.array([getattr(one, f"{name}_se") for one in linked])
        ax.errorbar(x, value, half, fmt="o-", color=BLUE, ecolor=BLUE, markersize=5, elinewidth=1.2, linewidth=0.6)
        ax.set_ylabel(name)
        tidy(ax)
        for one in history:
            if one.error:
                ax.axvspan(place[one.month] - 0.4, place[one.month] + 0.4, color="#ECECEC", zorder=0)
    for row, item in enumerate(named):
        at = [place[one.month] for one in linked if item in one.dropped]
        bottom.plot(at, [row] * len(at), "X", color=ORANGE, markersize=8)
    if not named:
        bottom.text(0.5, 0.5, "no anchor was dropped", ha="center", va="center", color=GREY, transform=bottom.transAxes)
    bottom.set_yticks(range(len(named)), [short(item, 16) for item in named], parse_math=False)
    bottom.set_ylim(max(len(named), 1) - 0.4, -0.6)
    bottom.set_xlim(-0.6, len(months) - 0.4)
    used = {one.month: f"{one.used}" for one in linked}
    step = -(-len(months) // 12)
    shown = months[:: step or 1]
    bottom.set_xticks([place[m] for m in shown], [f"{m}\n{used.get(m, 'not linked')}" for m in shown])
    bottom.set_xlabel("month, and anchors used")
    tidy(bottom)
    more = f", {len(often) - len(named)} more were dropped" if len(often) > len(named) else ""
    unlinked = sum(1 for one in history if one.error)
    title(
        figure,
        f"{len(linked)} months linked" + (f", {unlinked} not (grey)" if unlinked else "") + f"; bars: 95 % intervals;"
        f" crosses: anchors dropped{more}",
    )
    return as_png(figure)
