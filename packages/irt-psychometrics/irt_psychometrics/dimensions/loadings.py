"""Loadings: slopes on the scale of latent responses, in which a factor analyst reads them.

An answer counts as a latent response y = Σ λθ + error with variance 1, cut at thresholds. Slopes are slopes of logistic
curves, so they are first divided by 1.702, which makes the logistic curve the normal ogive to within .01.
"""

import numpy as np

from irt_psychometrics.core.arrays import Floats

_NORMAL_OGIVE = 1.702


def standardised_loadings(slopes: Floats, correlations: Floats) -> Floats:
    """Compute λ = a/√(1.702² + aᵀΦa), shape (J, D), from slopes (J, D) and correlations Φ (D, D) of the dimensions.

    These are the loadings of R mirt's `summary`. If dimensions are correlated, mirt leaves Φ out of the variance, and
    its loadings are too large by a common factor per item. Source: Kamata & Bauer (2008); Rodriguez, Reise & Haviland
    (2016).
    """
    variance = _NORMAL_OGIVE**2 + np.einsum("jd,de,je->j", slopes, correlations, slopes)
    return slopes / np.sqrt(variance)[:, None]


def communalities(loadings: Floats, correlations: Floats) -> Floats:
    """Compute the share of each latent response's variance that the dimensions explain, shape (J,), in [0, 1)."""
    return np.einsum("jd,de,je->j", loadings, correlations, loadings)
