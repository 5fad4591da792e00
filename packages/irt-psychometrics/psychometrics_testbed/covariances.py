"""Covariances of a fit in the form in which tests compare engines."""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.models import Calibration, Floats


def cov_adc(fit: Calibration) -> Floats:
    """Shape (J, 3, 3), covariance of (a, d, logit c); the last row and column are 0 for models without guessing."""
    out = np.zeros((fit.n_items, 3, 3))
    size = fit.cov.shape[1]
    out[:, :size, :size] = fit.cov
    return out
