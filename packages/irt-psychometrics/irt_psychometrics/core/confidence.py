"""Confidence intervals, and the normal quantile of 95 % intervals."""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError

Z95 = 1.959964
"""Standard deviations on either side of the mean that contain 95 % of a normal distribution."""


def normal_interval(estimate: Floats, se: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Compute the interval estimate ± z·se (Wald 1943).

    Parameters
    ----------
    estimate, se
        Shape (N,), estimates and their standard errors.
    level
        Confidence level, above 0 and below 1.

    Returns
    -------
    tuple
        Lower and upper ends, shape (N,) each; NaN if the estimate is not finite or its error is not known.

    Raises
    ------
    PsychometricsError
        If the level is not between 0 and 1.
    """
    from scipy.special import ndtri

    if not 0 < level < 1:
        raise PsychometricsError(f"level must be above 0 and below 1, for example 0.95; got {level}")
    half = np.where(np.isfinite(estimate), ndtri((1 + level) / 2) * se, np.nan)
    return estimate - half, estimate + half
