"""What several media draw in the same way: curves over ability, values by month or by rank, and one value against
another. What is published is blue and dashed, what a month found is orange; what is marked has a shape of its own.

What does not belong here: where the numbers come from, and drawing them (see `svg` and `plotly`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from irt_assets.charts.chart import Chart, Colour, Dash, Shape, ends_of, names_at
from irt_assets.psychometrics.core.models import Floats
from irt_assets.psychometrics.fit.observed import Observed

PUBLISHED: tuple[Colour, Dash] = "blue", "dash"
NOW: tuple[Colour, Dash] = "orange", "solid"
MARKS: dict[str, tuple[Colour, Shape, float]] = {
    "": ("blue", "circle", 2.4),
    "certain": ("orange", "diamond", 2.6),
    "left out": ("orange", "cross", 3.2),
    "red month, not relied on": ("grey", "cross", 3.2),
}
"""How points of a kind look; every other kind is an orange triangle. "" is the kind with nothing to say."""
MOST_NAMES = 14
Values: TypeAlias = Sequence[float] | Floats


@dataclass(frozen=True)
class Curve:
    """y over the chart's abilities. `style`: colour and dash. `interval`: lower and upper ends."""

    y: Floats
    style: tuple[Colour, Dash]
    name: str = ""
    interval: tuple[Floats, Floats] | None = None


def over_ability(
    theta: Floats, y_label: str, described: str, curves: Iterable[Curve], top: float, height: int = 190
) -> Chart:
    """Curves between 0 and `top`, each over its band."""
    chart = Chart((theta[0], theta[-1]), (0.0, top), "ability θ", y_label, described, height=height)
    for curve in curves:
        colour, dash = curve.style
        if curve.interval:
            chart.band(theta, *curve.interval, colour, f"95 % band of {curve.name}" if curve.name else "")
        chart.line(theta, curve.y, colour, curve.name, dash=dash)
    return chart


def response_curves(
    theta: Floats,
    described: str,
    curves: Iterable[Curve],
    observed: Observed | None = None,
    learners: str = "",
    top: float = 1.0,
) -> Chart:
    """Probabilities correct, and the observed proportions with their intervals; `learners`: whose they are."""
    chart = over_ability(theta, "probability correct", described, curves, top)
    if observed is not None:
        o = observed
        low, high = o.interval()
        titles = [f"{p:.2f} of {n} answers correct" for p, n in zip(o.proportion, o.n, strict=True)]
        chart.points(o.theta, o.proportion, "black", name=learners, titles=titles, low=low, high=high)
    return chart


def mark(
    chart: Chart,
    xs: Values,
    ys: Values,
    kinds: Sequence[str],
    *,
    plain: str = "",
    names: Sequence[str] = (),
    titles: Sequence[str] = (),
    joined: bool = False,
    **ends: Values,
) -> Chart:
    """Points on the chart, each as its kind looks, which the legend names; `plain`: what it calls the kind "".

    names: of all points; the first marked ones show theirs. titles, joined, and the ends of intervals (low, high, left,
    right): as in `Points`.
    """
    for kind in sorted(set(kinds)):
        at = [k for k, one in enumerate(kinds) if one == kind]
        colour, shape, size = MARKS.get(kind, ("orange", "triangle", 3.2))
        chart.points(
            [xs[k] for k in at],
            [ys[k] for k in at],
            colour,
            shape,
            name=kind or plain,
            size=size,
            joined=joined,
            titles=[titles[k] for k in at] if titles else (),
            **{end: [values[k] for k in at] for end, values in ends.items()},
        )
    marked = [k for k, kind in enumerate(kinds) if kind and names][:MOST_NAMES]
    return chart.names([xs[k] for k in marked], [ys[k] for k in marked], [names[k] for k in marked])


def by_month(
    months: Sequence[str],
    y_label: str,
    described: str,
    values: Floats,
    half: Floats,
    same: float,
    *,
    kinds: Sequence[str] = (),
    titles: Sequence[str] = (),
    joined: bool = False,
    height: int = 150,
) -> Chart:
    """A value of each month with its interval; NaN where a month has none. `same`: the level of no change."""
    low, high = values - half, values + half
    chart = Chart(
        (-0.5, max(len(months), 3) - 0.5),
        ends_of(low, high, [same]),
        "month",
        y_label,
        described,
        height=height,
        x_names=names_at(month[2:] for month in months),
    ).level(same)
    kinds = kinds or [""] * len(months)
    return mark(chart, range(len(months)), values, kinds, titles=titles, joined=joined, low=low, high=high)


def by_rank(
    labels: tuple[str, str],
    described: str,
    values: Floats,
    half: Floats,
    kinds: Sequence[str],
    ends: tuple[float, float],
    *,
    names: Sequence[str] = (),
    titles: Sequence[str] = (),
) -> Chart:
    """Values in their order with intervals, between `ends`; marked ones are named."""
    chart = Chart((0, len(values) + 1), ends, *labels, described, width=690, height=250).level(0)
    rank = range(1, len(values) + 1)
    return mark(chart, rank, values, kinds, names=names, titles=titles, low=values - half, high=values + half)


def against(
    labels: tuple[str, str],
    described: str,
    x: Floats,
    y: Floats,
    kinds: Sequence[str],
    ends: tuple[float, float],
    *,
    x_half: Floats | None = None,
    y_half: Floats | None = None,
    plain: str = "",
    titles: Sequence[str] = (),
) -> Chart:
    """One value of each item against another, and the line on which nothing changed. x_half, y_half: of intervals."""
    chart = Chart(ends, ends, *labels, described, width=690, height=330).line(ends, ends, "grey", width=0.8)
    bars: dict[str, Any] = {}
    if x_half is not None:
        bars |= {"left": x - x_half, "right": x + x_half}
    if y_half is not None:
        bars |= {"low": y - y_half, "high": y + y_half}
    mark(chart, x, y, kinds, plain=plain, titles=titles, **bars)
    beyond = int(np.sum((x < ends[0]) | (x > ends[1]) | (y < ends[0]) | (y > ends[1])))
    chart.notes = [f"{beyond} beyond the axes"] if beyond else []
    return chart


def named(chart: Chart, items: Iterable[int], xs: Values, ys: Values, names: Sequence[str]) -> Chart:
    """The chart with the names of these items next to their points, the most important first."""
    at = [int(k) for k in items]
    return chart.names([xs[k] for k in at], [ys[k] for k in at], [names[k] for k in at])


def bulk(*values: Floats) -> tuple[float, float]:
    """Ends of an axis that hold every value within 3 interquartile ranges of the quartiles, and some room."""
    joined = np.concatenate(values)
    finite = joined[np.isfinite(joined)]
    if finite.size == 0:
        return -1.0, 1.0
    q1, q3 = np.quantile(finite, [0.25, 0.75])
    reach = 3 * max(q3 - q1, 1.0)  # so that a negative discrimination is drawn where it is
    inside = finite[(finite >= q1 - reach) & (finite <= q3 + reach)]
    room = 0.12 * max(float(np.ptp(inside)), 0.5)
    return float(inside.min()) - room, float(inside.max()) + room


def histogram(values: Floats, edges: Floats, x_label: str, y_label: str, described: str, **how: Any) -> Chart:
    """How many values lie between each pair of edges."""
    n, _ = np.histogram(values, edges)
    chart = Chart((edges[0], edges[-1]), (0, 1.08 * max(int(n.max()), 1)), x_label, y_label, described, **how)
    return chart.boxes(edges[:-1], edges[1:], np.zeros(n.size), n)
