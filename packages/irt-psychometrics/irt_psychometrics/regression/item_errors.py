"""How errors of held item parameters move the estimates of a latent regression.

Estimates β solve Σ s_i(β, η) = 0, so that ∂β/∂η = H⁻¹ Σ ∂s_i/∂η, with H the observed information. Because s_i is the
posterior mean of the complete-data score u_i(θ), ∂s_i/∂η is the posterior covariance of u_i(θ) and ∂ log P/∂η of the
person's answers.
"""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core import covariances
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.regression.answers import Answers
from irt_psychometrics.regression.maximum import Persons, Point, posterior


def scores_by_items(answers: Answers, persons: Persons, point: Point, nodes: Floats) -> Floats:
    """Compute Σ_i w_i ∂s_i/∂η, shape (k, J, 2 + M), with η the items' a, b and further parameters."""
    X, (k, K) = persons.design, (len(point.parameters), persons.design.shape[1])
    means, sds = X @ point.parameters[:K], np.exp(point.parameters[K:])[persons.group]
    weights = posterior(answers.log_likelihood(nodes), nodes, means, sds)[0] * persons.weight[:, None]
    e = nodes - means[:, None]
    by_mean = weights * (e - point.moments[0][:, None]) / (sds**2)[:, None]
    by_log_sd = weights * (e**2 - point.moments[1][:, None]) / (sds**2)[:, None]
    factors = [(by_mean, X[:, j]) for j in range(K)]
    factors += [(by_log_sd, (persons.group == g) * 1.0) for g in range(k - K)]
    logs = np.concatenate(log_by_items(answers.items, nodes))
    found = np.zeros((k, len(answers.items.item_ids), logs.shape[1]))
    for j, (of_node, of_person) in enumerate(factors):
        rows = np.flatnonzero(of_person)  # few for a level or a group
        sums = answers.given[rows].T @ (of_node[rows] * of_person[rows, None])
        np.add.at(found[j], answers.item_of_answer, np.einsum("rq,rpq->rp", sums, logs))
    return found


def log_by_items(items: ItemParameters, nodes: Floats) -> tuple[Floats, Floats]:
    """Derivatives of `ItemCurves.score_tables` by the items' a, b and further parameters, shape (M, P, Q) each."""
    right, wrong = items.log_by_parameters(nodes)
    guessed = items.c > 0
    if guessed.any():  # `log_by_parameters` holds c
        first = np.flatnonzero(guessed)
        rows = np.cumsum(items.curves.categories - 1)[first] - (items.curves.categories - 1)[first]
        by_c, p = items.by_further(nodes)[first, 0], items.curve(nodes).T[first]
        right[rows, 2], wrong[rows, 2] = by_c / p, -by_c / (1 - p)
    return right, wrong


def covariance_from_items(items: ItemParameters, by: Floats) -> Floats | None:
    """Compute the covariance that errors of the items add to k estimates, shape (k, k).

    Parameters
    ----------
    items
        The J items with their covariances.
    by
        Shape (k, J, 2 + M), derivatives of the estimates by the items' a, b and further parameters, as
        `LatentRegression.by_items`. For the difference between two regressions with the same items, the difference of
        their derivatives.

    Returns
    -------
    array of shape (k, k), or None
        The covariance. If errors of an item with an effect are not known, the result is None.
    """
    k, further = len(by), covariances.padded(items.further_cov, len(items.item_ids), by.shape[2] - 2)
    of_pairs = by[:, :, :2].reshape(k, -1)
    found: Floats = covariances.times(of_pairs, items.cov) @ of_pairs.T
    own = np.einsum("xjm,jmp,yjp->xy", by[:, :, 2:], further[:, :, :2], by[:, :, :2])
    found = found + own + own.T + np.einsum("xjm,jmn,yjn->xy", by[:, :, 2:], further[:, :, 2:], by[:, :, 2:])
    return found if np.isfinite(found).all() else None
