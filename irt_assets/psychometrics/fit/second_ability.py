"""How much each item leans on what the items share beyond θ, a second ability for instance.

Where such an ability is part of a test, learners who gained in both find its items easier than their θ says: all of
these move together against the others, by their loading times how far the learners' mean on it lies from where θ
predicts it. `linking` and `drift` allow for that one number where somebody accepted the misfit. Belongs here: the
loadings. Does not belong here: whether there is a second ability (dependence.py), and whether that is accepted.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from irt_assets.psychometrics.core.models import Calibration, Floats
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.fit.dependence import LocalDependence
from irt_assets.psychometrics.fit.measure import SMALLEST_PAIR

ROUNDS = 100


def loadings(pairs: LocalDependence, calibration: Calibration) -> Floats:
    """Shape (J,), of the logit of each item; their sign and unit mean nothing. 0 for items without a slope above 0.

    Where the logit of item j gains λ_j f by a learner's f, residuals of two items correlate to first order by l_j l_k
    with l = λ √(w var f) and w the mean information of an answer about its logit, P(1 − P) where c = 0. l is the one
    factor that leaves least of Q3, Σ n_jk (Q3_jk − l_j l_k)² over the pairs that at least `SMALLEST_PAIR` learners saw
    (minres, Harman & Jones 1966).
    """
    known = calibration.estimated & (calibration.a > 0)
    counted = (pairs.n >= SMALLEST_PAIR) & np.isfinite(pairs.q3) & np.outer(known, known)
    known &= counted.any(axis=1)
    out = np.zeros(calibration.n_items)
    if not known.any():
        return out
    both = np.ix_(known, known)
    weight = np.where(counted, pairs.n, 0)[both].astype(float)
    some, grid = calibration.select(known), Grid.spanning()
    theta = calibration.latent_mean + calibration.latent_sd * grid.nodes
    item_information = np.exp(grid.log_weights()) @ some.curves.information(theta) / some.a**2
    out[known] = _factor(np.where(counted, pairs.q3, 0.0)[both], weight) / np.sqrt(item_information)
    return out


def _factor(q3: Floats, weight: Floats) -> Floats:
    """The factor (J,) that leaves least of Q3 by its weighted squares; both are (J, J), 0 where a pair does not count.

    Halfway, round by round, to the factor that is best for each item with the others' as they are.
    """
    last = len(q3) - 1
    (value,), vectors = eigh(q3, subset_by_index=[last, last])
    factor: Floats = vectors[:, 0] * np.sqrt(max(value, 0.0))
    product = weight * q3
    for _ in range(ROUNDS):
        weighted_squares = weight @ factor**2
        best = np.divide(product @ factor, weighted_squares, out=np.zeros_like(factor), where=weighted_squares > 0)
        factor = np.clip((factor + best) / 2, -1.0, 1.0)
    return factor
