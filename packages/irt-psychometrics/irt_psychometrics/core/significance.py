"""Skewness of statistics, and the false discovery rate of many p values."""

import numpy as np

from irt_psychometrics.core.arrays import Floats


def q_values(p: Floats) -> Floats:
    """The smallest false discovery rate at which each test is rejected (Benjamini & Hochberg 1995), shape of `p`.

    p: p values, shape (K,); it may be empty.
    """
    order = np.argsort(p)[::-1]
    found = np.empty_like(p)
    found[order] = np.minimum.accumulate(p[order] * (p.size / np.arange(p.size, 0, -1)))
    return found.clip(max=1.0)


MIN_FOR_SKEWNESS = 8
"""Minimum number of values: with fewer, the distribution of the skewness is not known well enough."""


def skewness_of(x: Floats) -> float | None:
    """Skewness √b₁ of the values `x` (n,).

    Returns None if there are fewer than `MIN_FOR_SKEWNESS` values, or if they have no variance.
    """
    if x.size < MIN_FOR_SKEWNESS:
        return None
    d = x - x.mean()
    variance = float(np.mean(d**2))
    return float(np.mean(d**3)) / variance**1.5 if variance > 0 else None


def normal_score(z: Floats, skewness: Floats) -> Floats:
    """Transform z, with mean 0, variance 1 and this skewness, to a standard normal value; shapes broadcast.

    Uses Wilson & Hilferty's (1931) cube root for a gamma variable of this skewness. The result is monotone in z, and
    equals z without skewness.
    """
    g = np.where(np.abs(skewness) > 1e-6, skewness, 1e-6)
    return 6 / g * (np.cbrt(1 + g * z / 2) - 1) + g / 6
