"""The curve of a learner's level, drawn without NumPy, so that the processes that render reports stay small.

The vertical axis is θ. Its labels say how many of 100 learners of the population N(μ, σ²) are below a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from irt_assets.common.intervals import Z95
from irt_psychometrics.plots import Chart

PERCENTILES = ((2.0, "98"), (1.0, "84"), (0.0, "50"), (-1.0, "16"), (-2.0, "2"))
"""Labelled levels: SDs from the population mean, and how many of 100 learners are below."""
HIGHEST = 2.6
AXIS_MARGIN = 0.12
"""Margin left of the first and right of the last date, as a share of the time between them."""


@dataclass(frozen=True)
class Level:
    """A measurement: θ and its standard error as of the end of a day."""

    day: date
    theta: float
    se: float


def curve(
    levels: Sequence[Level],
    target: float | None,
    *,
    mu: float,
    sigma: float,
    axis: str,
    goal: str,
    ends: Sequence[str],
    description: str,
) -> Chart:
    """Draw θ over time with its 95 % interval. The curve is cut off beyond 2.6 SD of the population.

    Args:
        levels: measurements, at least one, oldest first.
        target: the learner's goal, in θ, or None for no line.
        mu: mean of the population.
        sigma: SD of the population; must be positive.
        axis: heading of the vertical axis.
        goal: label of the line of the target.
        ends: first and last date, as text.
        description: text for readers who cannot see the chart.

    Raises ValueError if `sigma` is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"the population's SD must be above 0, got {sigma}")
    at = [level.day.toordinal() for level in levels]
    theta = [level.theta for level in levels]
    low, high = ([level.theta + sign * Z95 * level.se for level in levels] for sign in (-1, 1))
    margin = AXIS_MARGIN * (at[-1] - at[0]) or 1.0
    chart = Chart(
        (at[0] - margin, at[-1] + margin),
        (mu - HIGHEST * sigma, mu + HIGHEST * sigma),
        "",
        "",
        description,
        width=480,
        height=170,
        x_names=dict(zip((at[0], at[-1]), ends, strict=True)),
        y_names={mu + z * sigma: below for z, below in PERCENTILES},
        heading=axis,
    )
    if len(levels) > 1:
        chart.line(at, theta, low=low, high=high).points(at, theta)
    else:
        chart.points(at, theta, low=low, high=high)
    if target is not None:
        offset = 0.2 * sigma * (1 if target < mu + 2 * sigma else -1)
        chart.line(chart.x, (target, target), "orange", dash="dash", width=0.9)
        chart.names(chart.x[1:], [min(max(target, chart.y[0]), chart.y[1]) + offset], [goal])
    return chart
