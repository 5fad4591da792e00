"""The marginal likelihood by the textbook's formula, to compare engines with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from irt_psychometrics.responses import Responses


def plain_log_likelihood(
    responses: Responses,
    a: npt.ArrayLike,
    d: npt.ArrayLike,
    c: npt.ArrayLike = 0.0,
    *,
    sd: float = 1.0,
    nodes: int = 61,
) -> float:
    """Compute log P(answers) with P = c + (1 − c)/(1 + exp(−(aθ + d))) and θ ~ N(0, sd²).

    θ is integrated over equally spaced nodes on [−6, 6], with dense matrices.
    """
    theta = np.linspace(-6, 6, nodes)
    log_weights = -0.5 * (theta / sd) ** 2
    log_weights -= logsumexp(log_weights)
    right, wrong = np.zeros((2, responses.n_persons, responses.n_items))
    right[responses.person, responses.item] = responses.score
    wrong[responses.person, responses.item] = 1 - responses.score
    eta = theta[:, None] * a + d
    log_right = -np.logaddexp(0, -eta)
    if np.any(c):
        log_right = np.logaddexp(np.log(c), np.log1p(-np.asarray(c)) + log_right)
    log_wrong = np.log1p(-np.asarray(c)) - np.logaddexp(0, eta)
    return float(logsumexp(right @ log_right.T + wrong @ log_wrong.T + log_weights, axis=1).sum())
