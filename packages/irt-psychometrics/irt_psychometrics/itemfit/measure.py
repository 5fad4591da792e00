"""What misfit is measured in, and the limits by which it is judged; the measuring is done in the other modules."""

from dataclasses import dataclass

import numpy as np

LARGEST_RATIO = 1.15
"""Limit on the ratio of the largest residual eigenvalue to the one under the model: real tests of one ability stay
below."""
LIMITS = {"dependence": 0.05, "ratio": 0.4, "rmsea": 0.012, "unlikely": 0.006, "random": 0.002, "chance": 0.005}
"""How much a measure may grow from a reference to a month, by its lower limit (see docs/explanation/misfit.md)."""


@dataclass(frozen=True)
class Measure:
    """An estimate with its lower and upper limit, each with a confidence of `CONFIDENCE`."""

    value: float
    low: float
    high: float

    def minus(self, other: "Measure") -> "Measure":
        """The difference of two independent estimates, with limits from theirs (Zou & Donner 2008, eq. 8)."""
        difference = self.value - other.value
        return Measure(
            difference,
            difference - float(np.hypot(self.value - self.low, other.high - other.value)),
            difference + float(np.hypot(self.high - self.value, other.value - other.low)),
        )


SMALLEST_PAIR = 200
"""Fewest learners of a pair of items; with 200, the Q3 of a pair without dependence has a standard error of 0.07 and
passes 0.20 once in 500 pairs."""
SMALLEST_TEST = 5
"""Fewest answers; with fewer a pattern can have too few different likelihoods for a distribution of them."""
