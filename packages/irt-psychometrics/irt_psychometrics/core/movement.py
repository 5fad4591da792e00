"""The model of ability growth between the days on which a learner answers.

`scoring.moving_ability` estimates an ability that follows this model.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError

WEEK = 7.0
"""Days."""
Days = TypeVar("Days", float, Floats)


@dataclass(frozen=True)
class Movement:
    """A random walk with growth, plus an independent effect of each day, on the scale of θ.

    Between two occasions (UTC days with answers) Δt days apart

        θ′ = θ + growth·min(Δt, 7)/7 + N(0, variance·Δt/7),

    and the answers of a day are those of θ + N(0, occasion_variance) (Martin & Quinn 2002; Wang, Berger & Burdick
    2013). Growth stops after a week without answers. Raises PsychometricsError for a variance that is negative, or
    numbers that are not finite.
    """

    variance: float = 0.0
    growth: float = 0.0
    occasion_variance: float = 0.0

    def __post_init__(self) -> None:
        for name in ("variance", "growth", "occasion_variance"):
            value = getattr(self, name)
            if not np.isfinite(value) or (name != "growth" and value < 0):
                raise PsychometricsError(
                    f"ability: {name} must be a number{'' if name == 'growth' else ' of at least 0'}; got {value}"
                )

    def __bool__(self) -> bool:
        """Whether ability moves at all."""
        return any((self.variance, self.growth, self.occasion_variance))

    def growth_over(self, days: Floats | float) -> Floats | float:
        """Expected growth of θ between two occasions this many days apart."""
        return self.growth * np.minimum(days, WEEK) / WEEK

    def variance_over(self, days: Days) -> Days:
        """The variance that the random walk adds in this many days, with or without answers."""
        return self.variance * days / WEEK


STILL = Movement()
"""θ is constant."""
