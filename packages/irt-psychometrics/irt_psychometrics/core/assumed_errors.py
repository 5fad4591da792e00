"""Assumed errors of items without stated errors, and assumed covariances of items without stated covariances."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.curves import by_asymptote_at, probability_at, slope_at
from irt_psychometrics.core.item_models import OtherItems

ASSUMED_N = 500
MAX_CORRELATION = 0.999
"""Bound of an assumed correlation, so that the covariance matrix of an item remains positive definite."""
NODES = np.linspace(-6.0, 6.0, 61)
_DENSITIES = np.exp(-(NODES**2) / 2.0) / np.sqrt(2.0 * np.pi)
WEIGHTS = _DENSITIES / _DENSITIES.sum()


def assumed_errors(
    a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike, scored: Sequence[OtherItems] = ()
) -> tuple[Floats, Floats, Floats]:
    """Compute errors (a_se, b_se, cov_ab) of a calibration with 500 persons θ ~ N(0, 1), shape (K,) each.

    They follow from the inverse of 500 · E[Σₖ ∂Pₖ ∂Pₖᵀ / Pₖ] over a and b, the expected information with θ known (Lord
    1980, ch. 12), so real errors are larger. c, and the parameters of the scores of `scored` items, are held. Errors
    are infinite, and cov_ab is 0, if an item gives no information.
    """
    a, b, c = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (a, b, c))
    size = 2 + max((len(some.further) for some in scored), default=0)
    information = ASSUMED_N * _information(a, b, c, scored, size)
    i_aa, i_ab, i_bb = information[:, 0, 0], information[:, 0, 1], information[:, 1, 1]
    det = i_aa * i_bb - i_ab**2
    nothing, determined = np.full_like(det, np.inf), det > 0
    a_se, b_se = (np.sqrt(np.divide(i, det, out=nothing.copy(), where=determined)) for i in (i_bb, i_aa))
    return a_se, b_se, np.divide(-i_ab, det, out=np.zeros_like(det), where=determined)


def assumed_covariances_of_scores(a: Floats, b: Floats, some: OtherItems, size: int) -> Floats:
    """Compute covariances of a, b and the further parameters for 500 persons θ ~ N(0, 1), shape (n, size, size).

    `a` and `b` (K,) are all items, of which `some` are n. Errors are 0 for parameters that are held, and for items that
    give no information.
    """
    information = ASSUMED_N * _information(a, b, np.zeros_like(a), [some], size)[some.at]
    free = some.model.free(some.categories, some.model.scores_with_parameters(some.further, some.categories)).T
    used = np.pad(free, ((0, 0), (0, size - free.shape[1])))
    both = used[:, :, None] & used[:, None]
    return np.where(both, np.linalg.pinv(np.where(both, information, 0.0), hermitian=True), 0.0)


def assumed_covariances(a: Floats, b: Floats, c: Floats, scored: Sequence[OtherItems], errors: Floats) -> Floats:
    """Compute covariances of K items' parameters from their standard errors and the model's information.

    The correlations follow from the inverse of E[Σₖ ∂Pₖ ∂Pₖᵀ / Pₖ] for persons θ ~ N(0, 1), the expected information
    with θ known (Lord 1980, ch. 12), over the parameters that were estimated.

    Parameters
    ----------
    a, b, c
        Shape (K,), parameters.
    scored
        The items of other models among the K.
    errors
        Shape (K, 2 + M), standard errors of a, b and the further parameters (logit c, or parameters of scores). A
        parameter with the error 0 or NaN is held.

    Returns
    -------
    array of shape (K, 2 + M, 2 + M)
        Covariances of a, b and the further parameters; 0 for parameters that are held.
    """
    known = np.nan_to_num(errors, posinf=0.0)
    out = np.zeros((*known.shape, known.shape[1]))
    for k, information in enumerate(_information(a, b, c, scored, known.shape[1])):
        free = np.flatnonzero(known[k] > 0)
        both, own = np.ix_(free, free), known[k, free]
        out[k][both] = np.outer(own, own) * _correlation(information[both])
    return out


def _correlation(information: Floats) -> Floats:
    """Return the correlations in the inverse of an information matrix, or 0 if the matrix is singular."""
    unit = np.eye(len(information))
    size = np.sqrt(information.diagonal())
    if not (size > 0).all():
        return unit
    try:
        inverse = np.linalg.inv(information / np.outer(size, size))
    except np.linalg.LinAlgError:
        return unit
    if not (inverse.diagonal() > 0).all():
        return unit
    root = np.sqrt(inverse.diagonal())
    found: Floats = np.clip(inverse / np.outer(root, root), -MAX_CORRELATION, MAX_CORRELATION)
    return np.where(unit > 0, 1.0, found)


def _information(a: Floats, b: Floats, c: Floats, scored: Sequence[OtherItems], size: int) -> Floats:
    """Compute E[Σₖ ∂Pₖ ∂Pₖᵀ / Pₖ] by a, b and the further parameters for θ ~ N(0, 1), shape (K, size, size)."""
    z, guessing = a[:, None] * (NODES - b[:, None]), c[:, None]
    p, slope = probability_at(z, guessing), slope_at(z, guessing)
    by = np.zeros((len(a), size, NODES.size))
    by[:, 0], by[:, 1] = slope * (NODES - b[:, None]), -slope * a[:, None]
    if size > 2:
        by[:, 2] = by_asymptote_at(z) * guessing * (1 - guessing)
    weight = np.divide(WEIGHTS, p * (1 - p), out=np.zeros_like(p), where=p * (1 - p) > 0)
    found = np.einsum("kpq,kq,krq->kpr", by, weight, by)
    for some in scored:
        own = some.parameters(a, -a * b)
        by_a, by_d, *by_further = some.model.by_parameters(NODES, own, some.categories)
        a_own, b_own = a[some.at][:, None, None], b[some.at][:, None, None]
        logs = np.stack([by_a - b_own * by_d, -a_own * by_d, *by_further])
        likely = some.model.probabilities(NODES, own, some.categories) * WEIGHTS[:, None]
        found[some.at] = 0.0
        n = len(logs)
        found[some.at, :n, :n] = np.einsum("pkqc,kqc,rkqc->kpr", logs, likely, logs)
    return found
