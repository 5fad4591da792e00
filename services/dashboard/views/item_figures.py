"""The figures of an item: its curve against what learners did, and its parameters over the months.

What does not belong here: what they are drawn from (see `reports.item_facts`), and the page around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from htmltools import TagList

from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.psychometrics.core.models import Floats
from irt_assets.psychometrics.fit.observed import Observed
from irt_assets.reports.item_facts import FittedMonth, ItemFacts
from services.dashboard.elements import number, shortened, table
from services.dashboard.figures import empty, figure

BLUE, BLUE_BAND, ORANGE, GREY = "#3B8FD4", "rgba(59, 143, 212, 0.25)", "#D9730D", "#808080"
"""Colours that can be distinguished on light and dark pages; dashes and shapes distinguish them too."""
WIDTH_SD = 4.0
ROOM = timedelta(days=10)
"""Left of the first month, so that its point is not on the edge; a single date would be drawn to milliseconds."""
NAMES: dict[str, str] = {"a": "discrimination a", "b": "difficulty b"}


def curves(facts: ItemFacts, month: FittedMonth, seen: Observed | None) -> TagList:
    """The month's curve with its band, the published one, and the observed proportions with their intervals."""
    spread = WIDTH_SD * facts.scale.sigma
    theta = np.linspace(facts.scale.mu - spread, facts.scale.mu + spread, 121)
    drawn = empty("ability θ", "share correct")
    published = ItemRow.if_known(facts.published or {})
    if month.curve is not None:
        _band(drawn, theta, month.curve, month.month)
        drawn.add_scatter(x=theta, y=month.curve.curve(theta), name=f"estimate of {month.month}", line={"color": BLUE})
    if published is not None:
        style = {"color": ORANGE, "dash": "dash"}
        drawn.add_scatter(x=theta, y=published.curve(theta), name="published now", line=style)
    rows = []
    if seen is not None:
        low, high = seen.interval()
        bars = {"array": high - seen.proportion, "arrayminus": seen.proportion - low, "color": GREY}
        marks = {"color": GREY, "size": 9, "symbol": "diamond"}
        name = f"learners of {month.month}"
        drawn.add_scatter(x=seen.theta, y=seen.proportion, error_y=bars, mode="markers", marker=marks, name=name)
        by_month, in_force = (None if curve is None else curve.curve(seen.theta) for curve in (month.curve, published))
        rows = [
            (
                number(seen.theta[k]),
                f"{seen.n[k]:,}",
                number(seen.proportion[k]),
                f"{number(low[k])} to {number(high[k])}",
                number(None if by_month is None else float(by_month[k])),
                number(None if in_force is None else float(in_force[k])),
            )
            for k in range(seen.n.size)
        ]
    drawn.update_layout(yaxis_range=[-0.02, 1.02], legend={"orientation": "h", "y": 1.15})
    headers = ("mean θ", "answers", "correct", "95 % interval", f"estimate of {month.month}", "published now")
    caption = f"Shares correct in {month.month} by ability from the other items, and what the curves expect there"
    return figure(
        drawn, _curve_sentence(facts, month, seen, published), table(caption, headers, rows, numbers="nnnnnn")
    )


def history(facts: ItemFacts, name: Literal["a", "b"], end: datetime) -> TagList:
    """A parameter by month with 95 % intervals, and what was published, as steps until `end`."""
    fitted = [month for month in facts.months if month.curve is not None]
    drawn = empty("month", NAMES[name])
    for months, label, colour, symbol in (
        ([month for month in fitted if not month.red], "month", BLUE, "circle"),
        ([month for month in fitted if month.red], "red month, not relied on", GREY, "x"),
    ):
        if months:
            values, errors = _values(months, name)
            bars = {"array": Z95 * errors, "color": colour}
            drawn.add_scatter(
                x=[month.start for month in months],
                y=values,
                error_y=bars,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 9},
                name=label,
            )
    steps = sorted(facts.publications, key=lambda row: (row["effective_from"], row["publication_id"]))
    times = [end, *(month.start for month in fitted), *(row["effective_from"] for row in steps)]
    if steps:
        drawn.add_scatter(
            x=[*(row["effective_from"] for row in steps), max(times)],
            y=[*(row[name] for row in steps), steps[-1][name]],
            mode="lines",
            line={"shape": "hv", "color": ORANGE, "dash": "dash"},
            name="published",
        )
    drawn.update_layout(legend={"orientation": "h", "y": 1.15})
    drawn.update_xaxes(range=[min(times) - ROOM, max(times)])
    sentence = (
        f"The {NAMES[name]} of {shortened(facts.item_id)} by month with 95 % intervals, and the published values."
    )
    return figure(drawn, sentence)


def _curve_sentence(facts: ItemFacts, month: FittedMonth, seen: Observed | None, published: ItemRow | None) -> str:
    """What the figure shows, for those who do not see it."""
    what = f"Curves of {shortened(facts.item_id)} over ability: the estimate of {month.month} with its 95 % band"
    if published is not None:
        what += ", and the published one"
    if seen is None:
        return f"{what}."
    low, high = seen.interval()

    def outside(curve: ItemRow) -> int:
        expected = curve.curve(seen.theta)
        return int(np.sum((expected < low) | (expected > high)))

    counts = [
        f"{outside(curve)} of {seen.n.size} off {name}"
        for name, curve in (("the month's curve", month.curve), ("the published curve", published))
        if curve is not None
    ]
    return f"{what}. Groups of learners whose 95 % interval lies off a curve: {', '.join(counts) or 'none'}."


def _band(drawn: go.Figure, theta: Floats, curve: ItemRow, month: str) -> None:
    interval = curve.interval(theta)
    if interval is not None:
        low, high = interval
        xs, ys = np.concatenate([theta, theta[::-1]]), np.concatenate([low, high[::-1]])
        style: dict[str, Any] = {"width": 0}
        name = f"95 % band of {month}"
        drawn.add_scatter(x=xs, y=ys, fill="toself", fillcolor=BLUE_BAND, line=style, hoverinfo="skip", name=name)


def _values(months: Sequence[FittedMonth], name: str) -> tuple[Floats, Floats]:
    """Values and standard errors; 0 if an error is not known."""
    values = np.array([getattr(month.curve, name) for month in months], dtype=float)
    errors = np.array([getattr(month.curve, f"{name}_se") or 0.0 for month in months], dtype=float)
    return values, errors
