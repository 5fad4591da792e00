"""From a standardised sum to a standard normal where the sum is still skewed. No statistic of its own."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from irt_assets.psychometrics.models import Floats


def normal_score(z: Floats, skewness: Floats) -> Floats:
    """z, of mean 0, variance 1 and the given skewness, as a standard normal; any shapes that broadcast.

    Wilson & Hilferty's (1931) cube root for a gamma variable of that skewness: monotone in z, and z itself where
    there is no skewness.
    """
    g = np.where(np.abs(skewness) > 1e-6, skewness, 1e-6)
    return 6 / g * (np.cbrt(1 + g * z / 2) - 1) + g / 6


def two_sided(z: Floats) -> Floats:
    """Probability of a standard normal at least as far from 0 as z."""
    return 2 * ndtr(-np.abs(z))
