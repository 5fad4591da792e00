"""Whether a month's linking constants are out of line with those of the months before it.

Learners differ from month to month, so the constants' own errors do not say how far a sound month may lie from the
others: the months themselves do. What does not belong here: which months count, and what a gate does with the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import stdtr, stdtrit

from irt_psychometrics.core.arrays import Floats, Ints

LEVEL = 0.001
"""Level of the test: under no change, a constant is called a jump less often than this."""
MIN_FOR_TREND, TREND_LEVEL = 12, 0.01
"""With at least this many months and a p value this small, a trend is removed; in fewer months, a season looks like
one."""


@dataclass(frozen=True)
class MonthConstants:
    """Slope and intercept of a month's linking, each with its standard error; `at` counts months, from whenever.

    Attributes:
        MIN_EARLIER: with fewer earlier months, nothing is compared.
    """

    MIN_EARLIER: ClassVar = 3

    at: int
    slope: float
    slope_se: float
    intercept: float
    intercept_se: float

    def jumps(self, earlier: Sequence[MonthConstants]) -> tuple[Jump, ...]:
        """The month's ln slope and intercept against those of `earlier`; empty with fewer than 3 earlier months.

        A constant without error and without spread, as the slope of a Rasch fit, is left out.
        """
        if len(earlier) < self.MIN_EARLIER:
            return ()
        at = np.array([one.at for one in earlier]) - self.at
        found = []
        for name in ("slope", "intercept"):
            values = np.array([_point(name, one) for one in earlier])
            found.append(jump(name, *_point(name, self), at, values[:, 0], values[:, 1]))
        return tuple(one for one in found if one is not None)


@dataclass(frozen=True)
class Jump:
    """A constant against its history.

    Attributes:
        constant: slope (its logarithm is compared) or intercept.
        change: the month's value minus what the earlier ones lead to expect: their mean, or their trend.
        limit: the smallest |change| that is called a jump. sd: of the change in a sound month.
        p: of a change as large or larger in a sound month.
    """

    constant: str
    change: float
    limit: float
    sd: float
    p: float

    @property
    def seen(self) -> bool:
        return abs(self.change) > self.limit

    @property
    def sentence(self) -> str:
        name = "the logarithm of the slope" if self.constant == "slope" else "the intercept"
        p = f", p = {self.p:.1g}" if self.seen else ""
        return f"{name} {'jumps' if self.seen else 'differs'} by {self.change:+.2f} (limit {self.limit:.2f}{p})"


def _point(constant: str, month: MonthConstants) -> tuple[float, float]:
    """What is compared of a constant, and its standard error."""
    if constant == "slope":
        return float(np.log(month.slope)), month.slope_se / month.slope
    return month.intercept, month.intercept_se


def jump(
    constant: str, value: float, se: float, at: Ints, earlier: Floats, earlier_se: Floats, level: float = LEVEL
) -> Jump | None:
    """One constant by Student's t; `at` (months before this one, negative), `earlier` and `earlier_se` have shape (n,).

    With x_i = μ + u_i + e_i, where u is what learners differ by from month to month and e the constants' error, the
    variance s² of the earlier values estimates var u + mean se². A new value less their mean then varies by
    s²·(1 + 1/n), and by what its own se² is above their mean, on n − 1 degrees of freedom. s² is held at mean se² or
    above: values that agree better than their errors do so by chance. With a trend, μ is a line in time, 1/n the
    line's own variance over s² and the degrees of freedom are n − 2.

    A steady rise is not a jump, even where no trend is taken out: |t| is √3 whatever n.
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
