"""Assumed errors for items whose source gives none: the errors of a calibration with 500 learners."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.curves import probability_at, slope_at
from irt_psychometrics.core.item_models import OtherItems

ASSUMED_N = 500
NODES = np.linspace(-6.0, 6.0, 61)
_DENSITIES = np.exp(-(NODES**2) / 2.0) / np.sqrt(2.0 * np.pi)
WEIGHTS = _DENSITIES / _DENSITIES.sum()


def assumed_errors(
    a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike, scored: Sequence[OtherItems] = ()
) -> tuple[Floats, Floats, Floats]:
    """Errors (a_se, b_se, cov_ab) of a calibration with 500 learners θ ~ N(0, 1), shape (K,) each.

    They are the inverse of n·E[P'²/(P(1 − P)) · g gᵀ], g = (θ − b, −a), P' = (1 − c)·σ(1 − σ),
    σ = 1/(1 + exp(−a(θ − b))). This is the expected information with θ known (Lord 1980, ch. 12), so real errors are
    larger. c is held. Errors are infinite, and cov_ab is 0, if an item gives no information.

    `scored` are the items of other models among the K. The parameters of their scores are held, too, and their
    information about a(θ − b) is Var(score).
    """
    a, b, c = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (a, b, c))
    z, guessing = a[:, None] * (NODES - b[:, None]), c[:, None]
    p, slope = probability_at(z, guessing), slope_at(z, guessing)
    variance = p * (1 - p)  # 0 where the curve of a steep item has reached 1, and its slope 0
    weight = np.divide(ASSUMED_N * WEIGHTS * slope**2, variance, out=np.zeros_like(p), where=variance > 0)
    for some in scored:
        information = some.model.information(NODES, some.parameters(a, -a * b), some.categories)
        weight[some.at] = ASSUMED_N * WEIGHTS * information / a[some.at][:, None] ** 2
    off = NODES - b[:, None]
    i_aa, i_bb = (weight * off**2).sum(1), (weight * a[:, None] ** 2).sum(1)
    i_ab = -(weight * off * a[:, None]).sum(1)
    det = i_aa * i_bb - i_ab**2
    nothing, determined = np.full_like(det, np.inf), det > 0
    a_se, b_se = (np.sqrt(np.divide(i, det, out=nothing.copy(), where=determined)) for i in (i_bb, i_aa))
    return a_se, b_se, np.divide(-i_ab, det, out=np.zeros_like(det), where=determined)
