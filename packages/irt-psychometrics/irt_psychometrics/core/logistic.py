"""The logistic function, its inverse and its logarithm, for arrays of any shape.

They replace those of `scipy.special`, whose import takes longer than fitting 5,000 persons and 50 items.
"""

from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats


def expit(x: Any) -> Floats:
    """1/(1 + exp(−x)), without overflow and with full relative precision for x → −∞."""
    small = np.exp(-np.abs(x))
    return np.where(np.greater_equal(x, 0), 1.0, small) / (1.0 + small)


def log_expit(x: Any) -> Floats:
    """The logarithm of `expit`."""
    return np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))


def logit(p: Any) -> Floats:
    """log(p/(1 − p)): ±∞ for 1 and 0, NaN outside [0, 1]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value: Floats = np.log(p) - np.log1p(np.negative(p))
    return value


def softmax(x: Floats, axis: int) -> Floats:
    """exp(x) divided by its sum along `axis`."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)
