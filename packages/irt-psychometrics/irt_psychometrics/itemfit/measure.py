"""Estimates of misfit with confidence limits, and the smallest samples for them. Other modules compute them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

CONFIDENCE = 0.99
"""One-sided confidence level of each limit."""


@dataclass(frozen=True)
class Measure:
    """An estimate with a lower and an upper limit, each with a confidence of .99 unless a method says otherwise.

    Attributes
    ----------
    value
        Estimate.
    low, high
        Lower and upper limit.
    MIN_PERSONS_OF_PAIR
        Minimum number of persons who saw both items of a pair that counts. With 200, the Q3 of a pair without
        dependence has a standard error of 0.07 and exceeds 0.20 once in 500 pairs.
    MIN_ITEMS
        Minimum number of answers of a tested person, and of common items of two compared windows. With fewer answers, a
        pattern has too few possible likelihoods for an approximation of their distribution.

    Examples
    --------
    >>> from irt_psychometrics.itemfit import Measure
    >>> Measure(value=0.4, low=0.3, high=0.5).low
    0.3
    """

    value: float
    low: float
    high: float
    MIN_PERSONS_OF_PAIR: ClassVar[int] = 200
    MIN_ITEMS: ClassVar[int] = 5

    @classmethod
    def rmsea(
        cls, m2: Sequence[float], df: Sequence[int], persons: Sequence[int], *, confidence: float = CONFIDENCE
    ) -> "Measure":
        """Compute RMSEA₂ over forms with different persons (Maydeu-Olivares & Joe 2014).

        The limits come from the noncentral χ² of the sum of all M₂.

        Parameters
        ----------
        m2
            M₂ of each form.
        df
            Degrees of freedom of each form.
        persons
            Number of persons of each form.
        confidence
            One-sided confidence level of each limit, in (0.5, 1).

        Returns
        -------
        Measure
            RMSEA₂ and its limits, each ≥ 0.

        Examples
        --------
        >>> from irt_psychometrics.itemfit import Measure
        >>> found = Measure.rmsea([180.0], [120], [1001], confidence=0.95)
        >>> round(found.value, 4), found.low < found.value < found.high
        (0.0224, True)
        """
        from scipy.optimize import brentq
        from scipy.special import chndtr

        total, freedom = sum(m2), sum(df)
        scale = sum(own * (n - 1) for own, n in zip(df, persons, strict=True))

        def noncentrality(tail: float) -> float:
            """Noncentrality at which this M₂ has this lower tail probability."""
            if chndtr(total, freedom, 0.0) <= tail:
                return 0.0
            top = max(total, 1.0)
            while chndtr(total, freedom, top) > tail:
                top *= 2
            return float(brentq(lambda nc: chndtr(total, freedom, nc) - tail, 0.0, top))

        found = total - freedom, noncentrality(confidence), noncentrality(1 - confidence)
        return cls(*(float(np.sqrt(max(0.0, nc) / scale)) for nc in found))

    def minus(self, other: "Measure") -> "Measure":
        """Subtract an independent estimate, with limits computed from both limits (Zou & Donner 2008, eq. 8).

        Parameters
        ----------
        other
            The estimate to subtract.

        Returns
        -------
        Measure
            The difference and its limits.

        Examples
        --------
        >>> from irt_psychometrics.itemfit import Measure
        >>> found = Measure(0.4, 0.3, 0.5).minus(Measure(0.1, 0.0, 0.2))
        >>> round(found.value, 2), round(found.low, 2), round(found.high, 2)
        (0.3, 0.16, 0.44)
        """
        difference = self.value - other.value
        return Measure(
            difference,
            difference - float(np.hypot(self.value - self.low, other.high - other.value)),
            difference + float(np.hypot(self.high - self.value, other.value - other.low)),
        )
