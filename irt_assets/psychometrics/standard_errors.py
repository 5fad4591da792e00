"""From the observed information to the covariance of the item parameters, and to who is unidentified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from irt_assets.psychometrics.marginal import Mask, Point, Problem
from irt_assets.psychometrics.models import Floats

VARIANCE_INFLATION_LIMIT = 1e5
"""A parameter is unidentified when its variance exceeds what it were with known abilities by more than this."""
FULL_COVARIANCE_ITEMS = 2000
"""Above, the matrix (16 J² bytes a copy, J³ work) is not made; each item's block is inverted by itself."""
_SHARE = 0.01  # an item answers for a singular direction if it holds more than this of its squared length


@dataclass(frozen=True)
class Errors:
    """Covariance of (a, d) per item (J, 2, 2), jointly (2J, 2J) where kept, and which items are unidentified (J,)."""

    cov: Floats
    joint: Floats | None
    unidentified: Mask


def errors(problem: Problem, point: Point, at_bound: Mask) -> Errors:
    """Inverse observed information at a maximum, with the parameters that stopped at a bound held.

    `at_bound` has the shape of the free parameters. Items with a slope at a bound and unidentified items have NaN
    everywhere; the others' covariance is that of the directions the data determine.
    """
    structure, J = problem.structure, problem.data.n_items
    to_full = structure.matrix[:, np.flatnonzero(~at_bound)]
    scale = problem.information_scale(point)[~at_bound]
    if J <= FULL_COVARIANCE_ITEMS:
        information = to_full.T @ (to_full.T @ problem.observed_information(point)).T / np.outer(scale, scale)
        covariance, lost = _inverse(information)
        full = to_full @ (to_full @ (covariance / np.outer(scale, scale))).T
        unidentified = (to_full @ lost)[: 2 * J].reshape(2, J).max(axis=0) > _SHARE
        interleaved = np.arange(2 * J).reshape(2, J).T.ravel()
        joint = full[np.ix_(interleaved, interleaved)]
        missing = np.repeat(unidentified | _held(problem, at_bound), 2)
        joint[missing] = np.nan
        joint[:, missing] = np.nan
        own = 2 * np.arange(J)[:, None] + np.arange(2)
        return Errors(joint[own[:, :, None], own[:, None, :]], joint, unidentified)
    raise NotImplementedError


def _held(problem: Problem, at_bound: Mask) -> Mask:
    """Shape (J,): items with a slope at a bound."""
    full = problem.structure.matrix @ at_bound.astype(float)
    return full[: problem.data.n_items] > 0


def _inverse(information: Floats) -> tuple[Floats, Floats]:
    """Inverse of a scaled information matrix (P, P), and each parameter's share (P,) in its singular directions."""
    try:
        inverse = cho_solve(cho_factor(information), np.eye(len(information)))
    except LinAlgError:
        inverse = None
    if inverse is not None and np.diag(inverse).max() < VARIANCE_INFLATION_LIMIT:
        return inverse, np.zeros(len(information))
    values, vectors = eigh(information)
    sound = values > 1.0 / VARIANCE_INFLATION_LIMIT
    inverse = (vectors[:, sound] / values[sound]) @ vectors[:, sound].T
    return inverse, (vectors[:, ~sound] ** 2).sum(axis=1)
