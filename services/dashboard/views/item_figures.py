"""The figures of an item: its curve against what learners did, and its parameters over the months.

What does not belong here: what they are drawn from (see `reports.item_facts`), and the page around them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import numpy as np
from htmltools import TagList

from irt_assets.charts.chart import Chart, Line, days, ends_of
from irt_assets.charts.pictures import NOW, PUBLISHED, mark, response_curves
from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.psychometrics.core.models import Floats
from irt_assets.psychometrics.fit.observed import Observed
from irt_assets.reports.item_facts import ItemFacts, ItemInMonth
from irt_assets.responses.scales import Scale
from services.dashboard.elements import number, shortened, table
from services.dashboard.figures import figure

ROOM = 10
"""Days left of the first month, so that its point is not on the edge."""
NAMES: dict[str, str] = {"a": "discrimination a", "b": "difficulty b"}


def abilities(scale: Scale) -> Floats:
    """Over which curves are drawn, shape (81,): 4 SD of the scale's population to each side of its mean."""
    return np.linspace(scale.mu - 4 * scale.sigma, scale.mu + 4 * scale.sigma, 81)


def curves(facts: ItemFacts, month: ItemInMonth, seen: Observed | None) -> TagList:
    """The month's curve with its band, the published one, and the observed proportions with their intervals."""
    theta = abilities(facts.scale)
    published = ItemRow.if_known(facts.published or {})
    headers = ("mean θ", "answers", "correct", "95 % interval", f"estimate of {month.month}", "published now")
    curves = []
    if month.values is not None:
        low, high = month.values.interval(theta) or ((), ())
        curves.append(Line(theta, month.values.curve(theta), name=headers[4], low=low, high=high, **NOW))
    if published is not None:
        curves.append(Line(theta, published.curve(theta), name=headers[5], **PUBLISHED))
    rows: list[tuple[str, ...]] = []
    if seen is not None:
        expected = [curve.curve(seen.theta) if curve else [None] * seen.n.size for curve in (month.values, published)]
        rows = [
            (number(theta), f"{n:,}", number(share), f"{number(low)} to {number(high)}", *map(number, of_curves))
            for theta, n, share, low, high, *of_curves in zip(
                seen.theta, seen.n, seen.proportion, *seen.interval(), *expected, strict=True
            )
        ]
    sentence = _curve_sentence(facts, month, seen, published)
    chart = response_curves(theta, sentence, curves, seen, f"learners of {month.month}")
    caption = f"Shares correct in {month.month} by ability from the other items, and what the curves expect there"
    return figure(chart, table(caption, headers, rows, numbers="nnnnnn"))


def history(facts: ItemFacts, name: Literal["a", "b"], end: datetime) -> TagList:
    """A parameter by month with 95 % intervals, and what was published, as steps until `end`."""
    fitted = [month for month in facts.months if month.values is not None]
    values, errors = (  # 0 if an error is not known
        np.array([getattr(month.values, key) or 0.0 for month in fitted], dtype=float) for key in (name, f"{name}_se")
    )
    low, high = values - Z95 * errors, values + Z95 * errors
    steps = sorted(facts.publications, key=lambda row: (row["effective_from"], row["publication_id"]))
    times = [days(time) for time in (end, *(m.start for m in fitted), *(row["effective_from"] for row in steps))]
    published = [row[name] for row in steps]
    chart = Chart(
        (min(times) - ROOM, max(times)),
        ends_of(low, high, published),
        "month",
        NAMES[name],
        f"The {NAMES[name]} of {shortened(facts.item_id)} by month with 95 % intervals, and the published values.",
        dated=True,
    )
    kinds = ["red month, not relied on" if month.red else "month" for month in fitted]
    titles = [f"{month.month}: {value:.2f}" for month, value in zip(fitted, values, strict=True)]
    mark(chart, [days(m.start) for m in fitted], values, kinds, low=low, high=high, titles=titles)
    if steps:
        since = [days(row["effective_from"]) for row in steps]
        known = [*published, published[-1]]
        chart.add(Line([*since, max(times)], known, name="published", steps=True, **PUBLISHED))
    return figure(chart)


def _curve_sentence(facts: ItemFacts, month: ItemInMonth, seen: Observed | None, published: ItemRow | None) -> str:
    """What the figure shows, for those who do not see it."""
    what = f"Curves of {shortened(facts.item_id)} over ability: the estimate of {month.month} with its 95 % band"
    if published is not None:
        what += ", and the published one"
    if seen is None:
        return f"{what}."
    low, high = seen.interval()
    counts = [
        f"{np.sum((expected < low) | (expected > high))} of {seen.n.size} off {name}"
        for name, curve in (("the month's curve", month.values), ("the published curve", published))
        if curve is not None
        for expected in [curve.curve(seen.theta)]
    ]
    return f"{what}. Groups of learners whose 95 % interval lies off a curve: {', '.join(counts) or 'none'}."
