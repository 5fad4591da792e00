"""Covariances of a fit in the form that tests use to compare engines."""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.models import Calibration, Floats


def cov_adc(fit: Calibration) -> Floats:
    """Covariance of (a, d, logit c), shape (J, 3, 3). The last row and column are 0 for models without guessing."""
    out = np.zeros((fit.n_items, 3, 3))
    size = fit.cov.shape[1]
    out[:, :size, :size] = fit.cov
    return out
