"""How much each item leans on what the items share beyond θ, a second ability for instance.

Where such an ability is part of a test, learners who gained in both find its items easier than their θ says: all of
these move together against the others, by their loading times how far the learners' mean on it lies from where θ
predicts it. `linking` and `drift` allow for that one number where somebody accepted the misfit. Belongs here: the
loadings. Does not belong here: whether there is a second ability (dependence.py), and whether that is accepted.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from irt_assets.psychometrics.curves import information
from irt_assets.psychometrics.dependence import SMALLEST_PAIR, LocalDependence
from irt_assets.psychometrics.models import Calibration, Floats
from irt_assets.psychometrics.quadrature import Grid


def loadings(pairs: LocalDependence, calibration: Calibration) -> Floats:
    """Shape (J,), of the logit of each item; their sign and unit mean nothing. 0 for items without a slope above 0.

    Where the logit of item j gains λ_j f by a learner's f, residuals of two items correlate to first order by
    λ_j λ_k var(f) √(w_j w_k), with w the mean information of an answer about its logit, P(1 − P) where c = 0. So λ is
    the first eigenvector of Q3, with 0 on its diagonal, over √w. Pairs that fewer than `SMALLEST_PAIR` learners saw
    count as 0.
    """
    known = calibration.estimated & (calibration.a > 0)
    out = np.zeros(calibration.n_items)
    if known.sum() < 2:
        return out
    counted = (pairs.n >= SMALLEST_PAIR) & np.isfinite(pairs.q3) & np.outer(known, known)
    q3 = np.where(counted, pairs.q3, 0.0)
    last = len(q3) - 1
    vector = eigh(q3, subset_by_index=[last, last])[1][:, 0]
    some, grid = calibration.select(known), Grid.spanning()
    theta = calibration.latent_mean + calibration.latent_sd * grid.nodes
    told = np.exp(grid.log_weights()) @ information(theta, some.a, some.d, some.c) / some.a**2
    out[known] = vector[known] / np.sqrt(told)
    return out
