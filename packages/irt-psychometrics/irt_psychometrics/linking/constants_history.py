"""Test whether a month's linking constants jump compared with earlier months.

Learners differ from month to month, so the spread that is normal is estimated from the earlier constants themselves,
not from their errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import stdtr, stdtrit

from irt_psychometrics.core.arrays import Floats, Ints

LEVEL = 0.001
"""Level of the test: without a change, the probability that a constant is called a jump is at most this."""
MIN_FOR_TREND, TREND_LEVEL = 12, 0.01
"""Number of months, and p value of a trend, from which the trend is removed. In fewer months, a season looks like a
trend."""


@dataclass(frozen=True)
class MonthConstants:
    """Slope and intercept of a month's linking, each with its standard error.

    Attributes
    ----------
    at
        Number of the month, counted from any month.
    MIN_EARLIER
        Minimum number of earlier months for a comparison.

    Examples
    --------
    >>> from irt_psychometrics.linking import MonthConstants
    >>> earlier = [MonthConstants(k, 1.0, 0.02, 0.03 * (-1) ** k, 0.03) for k in range(6)]
    >>> [jump.seen for jump in MonthConstants(6, 1.0, 0.02, 0.6, 0.03).jumps(earlier)]
    [False, True]
    """

    MIN_EARLIER: ClassVar = 3

    at: int
    slope: float
    slope_se: float
    intercept: float
    intercept_se: float

    def jumps(self, earlier: Sequence[MonthConstants]) -> tuple[Jump, ...]:
        """Compare the month's ln slope and intercept with earlier months.

        Parameters
        ----------
        earlier
            Constants of earlier months.

        Returns
        -------
        tuple of Jump
            One for the slope and one for the intercept. Empty if there are fewer than 3 earlier months. A constant
            without error and spread, such as the slope of a Rasch fit, is omitted.
        """
        if len(earlier) < self.MIN_EARLIER:
            return ()
        at = np.array([month.at for month in earlier]) - self.at
        found = []
        for name in ("slope", "intercept"):
            values = np.array([_point(name, month) for month in earlier])
            found.append(jump(name, *_point(name, self), at, values[:, 0], values[:, 1]))
        return tuple(found_jump for found_jump in found if found_jump is not None)


@dataclass(frozen=True)
class Jump:
    """A constant compared with its history.

    Attributes
    ----------
    constant
        "slope" (its logarithm is compared) or "intercept".
    change
        The month's value minus the value expected from the earlier months, their mean or their trend.
    limit
        |change| above which the constant jumps.
    sd
        SD of the change in a sound month.
    p
        Probability of a change of this size or larger in a sound month.

    Examples
    --------
    >>> from irt_psychometrics.linking import Jump
    >>> Jump("intercept", change=0.6, limit=0.22, sd=0.05, p=1e-5).sentence
    'the intercept jumps by +0.60 (limit 0.22, p = 1e-05)'
    """

    constant: str
    change: float
    limit: float
    sd: float
    p: float

    @property
    def seen(self) -> bool:
        """Whether the constant jumps."""
        return abs(self.change) > self.limit

    @property
    def sentence(self) -> str:
        """The change with the limit, in words."""
        name = "the logarithm of the slope" if self.constant == "slope" else "the intercept"
        p = f", p = {self.p:.1g}" if self.seen else ""
        return f"{name} {'jumps' if self.seen else 'differs'} by {self.change:+.2f} (limit {self.limit:.2f}{p})"


def _point(constant: str, month: MonthConstants) -> tuple[float, float]:
    """The compared value of a constant (of the slope, its logarithm), and its standard error."""
    if constant == "slope":
        return float(np.log(month.slope)), month.slope_se / month.slope
    return month.intercept, month.intercept_se


def jump(
    constant: str, value: float, se: float, at: Ints, earlier: Floats, earlier_se: Floats, level: float = LEVEL
) -> Jump | None:
    """Compare one constant with its earlier values by Student's t.

    `at` (months relative to this one, negative), `earlier` and `earlier_se` have shape (n,). Returns None if the
    constant has neither error nor spread.

    The model is x_i = μ + u_i + e_i, where u is the difference of learners from month to month and e is the error of
    the constant. The variance s² of the earlier values estimates var u + mean se². A new value minus their mean then
    has the variance s²·(1 + 1/n), plus the excess of its own se² over their mean se², with n − 1 degrees of freedom. s²
    is at least mean se², because values that agree better than their errors allow do so by chance. With a trend, μ is a
    line in time, 1/n becomes the line's own variance divided by s², and the degrees of freedom are n − 2.

    A steady rise is not a jump, even if no trend is removed, because |t| is then √3 for any n.
    """
    n = earlier.size
    usual_error = float(np.mean(earlier_se**2))
    for degree in (1, 0) if n >= MIN_FOR_TREND else (0,):
        design = np.vander(at, degree + 1, increasing=True).astype(float)
        unscaled = np.linalg.inv(design.T @ design)
        line = unscaled @ design.T @ earlier
        df = n - degree - 1
        spread = max(float(np.sum((earlier - design @ line) ** 2)) / df, usual_error)
        rise_se = np.sqrt(spread * unscaled[-1, -1])
        if degree == 0 or abs(line[1]) > rise_se * -stdtrit(df, TREND_LEVEL / 2):
            break
    sd = float(np.sqrt(spread * (1 + unscaled[0, 0]) + max(se**2 - usual_error, 0.0)))
    if not (sd > 0 and np.isfinite(sd) and np.isfinite(value)):
        return None
    change = float(value - line[0])
    return Jump(constant, change, float(-sd * stdtrit(df, level / 2)), sd, float(2 * stdtr(df, -abs(change) / sd)))
