"""Charts that several pages of the platform have: curves over ability, values by month or by rank, and one value
against another. Published values are blue and dashed, estimates of a month are orange, and marked points have their own
shape.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from irt_psychometrics.itemfit import Observed
from irt_psychometrics.plots import Chart

Floats: TypeAlias = npt.NDArray[np.float64]
Values: TypeAlias = Sequence[float] | Floats

PUBLISHED_STYLE: Mapping[str, Any] = {"colour": "blue", "dash": "dash"}
ESTIMATE_STYLE: Mapping[str, Any] = {"colour": "orange"}
USED_OFF_0 = "used, interval without 0"
POINT_STYLES = {
    "": ("blue", "circle", 2.4),
    "month": ("orange", "circle", 2.4),
    "certain": ("orange", "diamond", 2.6),
    "left out": ("orange", "cross", 3.2),
    USED_OFF_0: ("blue", "diamond", 2.6),
    "red month, not relied on": ("grey", "cross", 3.2),
}
"""Colour, shape and size of the points of a kind; every other kind is an orange triangle. "" is the kind of ordinary
points."""
MAX_NAMES = 14
CORRECT = "probability correct"


def response_axis_label(*, scored: bool) -> str:
    """Label of the axis of an item's response curve."""
    return "score as a share of the maximum" if scored else CORRECT


def ability_chart(
    theta: Values, y_label: str, described: str, top: float, population: str = "", **options: Any
) -> Chart:
    """Return an empty chart over θ, from 0 to `top`.

    `population` is added to the label of the θ axis; `options`: as in `Chart`.
    """
    options = {"height": 190} | options
    return Chart((theta[0], theta[-1]), (0.0, top), f"ability θ{population}", y_label, described, **options)


def add_observed(chart: Chart, observed: Observed | None, learners: str) -> Chart:
    """Add observed proportions with intervals to a chart of probabilities. `learners` is their name in the legend."""
    if observed is not None:
        quantity = chart.y_label.removeprefix("probability ")
        template = "{p:.2f} of {n} answers {what}" if quantity != chart.y_label else "{what}: {p:.2f}, {n} answers"
        found = zip(observed.proportion, observed.n, strict=True)
        titles = [template.format(p=p, n=n, what=quantity) for p, n in found]
        chart.points(observed.theta, observed.proportion, "black", learners, *observed.interval(), titles=titles)
    return chart


def add_points(
    chart: Chart,
    xs: Sequence[Any] | Floats,
    ys: Values,
    kinds: Sequence[str],
    *,
    plain: str = "",
    named: Iterable[tuple[int, str]] = (),
    titles: Sequence[str] = (),
    joined: bool = False,
    **ends: Values,
) -> Chart:
    """Draw points on the chart in the style of their kind, which the legend names; `plain`: the name of the kind "".

    `named`: index and name of each point to label, the most important point first. `titles`, `joined`, and the ends of
    intervals (`low`, `high`, `left`, `right`): as in `Chart.points`.
    """
    for kind in sorted(set(kinds)):
        at = [k for k, kind_of_point in enumerate(kinds) if kind_of_point == kind]
        colour, shape, size = POINT_STYLES.get(kind, ("orange", "triangle", 3.2))
        chart.points(
            [xs[k] for k in at],
            [ys[k] for k in at],
            colour,
            kind or plain,
            shape=shape,
            size=size,
            joined=joined,
            titles=[titles[k] for k in at] if titles else (),
            **{end: [values[k] for k in at] for end, values in ends.items()},
        )
    shown = list(named)
    return chart.names([xs[k] for k, _ in shown], [ys[k] for k, _ in shown], [name for _, name in shown])


def month_chart(
    months: Sequence[str],
    y_label: str,
    described: str,
    values: Floats,
    half: Floats,
    same: float,
    *,
    kinds: Sequence[str] = (),
    height: int = 150,
    **options: Any,
) -> Chart:
    """Draw a value of each month with its interval; NaN for a month without one. `same`: the level of no change;
    `options`: as in `add_points`."""
    low, high = values - half, values + half
    chart = Chart(
        (-0.5, max(len(months), 3) - 0.5),
        Chart.ends_of(low, high, [same]),
        "month",
        y_label,
        described,
        height=height,
        x_names=[month[2:] for month in months],
    ).level(same)
    return add_points(chart, range(len(months)), values, kinds or [""] * len(months), low=low, high=high, **options)


def rank_chart(
    labels: tuple[str, str],
    described: str,
    values: Floats,
    half: Floats,
    kinds: Sequence[str],
    ends: tuple[float, float],
    **options: Any,
) -> Chart:
    """Draw values by rank with their intervals, on an axis with these `ends`; `options`: as in `add_points`."""
    chart = Chart((0, len(values) + 1), ends, *labels, described, width=690, height=250).level(0)
    return add_points(chart, range(1, len(values) + 1), values, kinds, low=values - half, high=values + half, **options)


def scatter_chart(
    labels: tuple[str, str],
    described: str,
    x: Floats,
    y: Floats,
    kinds: Sequence[str],
    ends: tuple[float, float],
    *,
    x_half: Floats | None = None,
    y_half: Floats | None = None,
    **options: Any,
) -> Chart:
    """Draw one value of each item against another, and the line of equal values. `x_half`, `y_half`: half widths of
    intervals; `options`: as in `add_points`."""
    chart = Chart(ends, ends, *labels, described, width=690, height=330).line(ends, ends, "grey", width=0.8)
    options |= {} if x_half is None else {"left": x - x_half, "right": x + x_half}
    options |= {} if y_half is None else {"low": y - y_half, "high": y + y_half}
    beyond = int(np.sum((x < ends[0]) | (x > ends[1]) | (y < ends[0]) | (y > ends[1])))
    chart.notes = [f"{beyond} beyond the axes"] if beyond else []
    return add_points(chart, x, y, kinds, **options)


def robust_limits(*values: Floats) -> tuple[float, float]:
    """Ends of an axis that contains all values within 3 interquartile ranges of the quartiles, with a margin."""
    joined = np.concatenate(values)
    finite = joined[np.isfinite(joined)]
    if finite.size == 0:
        return -1.0, 1.0
    q1, q3 = np.quantile(finite, [0.25, 0.75])
    reach = 3 * max(q3 - q1, 1.0)  # large enough to include a negative discrimination
    inside = finite[(finite >= q1 - reach) & (finite <= q3 + reach)]
    room = 0.12 * max(float(np.ptp(inside)), 0.5)
    return float(inside.min()) - room, float(inside.max()) + room


def histogram(values: Floats, edges: Floats, x_label: str, y_label: str, described: str, **options: Any) -> Chart:
    """Draw the number of values between each pair of edges."""
    n, _ = np.histogram(values, edges)
    top = 1.08 * max(int(n.max()), 1)
    chart = Chart((edges[0], edges[-1]), (0, top), x_label, y_label, described, **options)
    return chart.boxes(edges[:-1], np.zeros(n.size), edges[1:], n)
