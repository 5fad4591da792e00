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
    if problem.data.n_items <= FULL_COVARIANCE_ITEMS:
        return _joint(problem, point, at_bound)
    return _blocks(problem, point, at_bound)


def _joint(problem: Problem, point: Point, at_bound: Mask) -> Errors:
    J = problem.data.n_items
    to_full = problem.structure.matrix[:, np.flatnonzero(~at_bound)]
    scale = problem.information_scale(point)[~at_bound]
    information = to_full.T @ (to_full.T @ problem.observed_information(point)).T / np.outer(scale, scale)
    covariance, lost = inverse(information)
    full = to_full @ (to_full @ (covariance / np.outer(scale, scale))).T
    unidentified = (to_full @ lost)[: 2 * J].reshape(2, J).max(axis=0) > _SHARE
    interleaved = np.arange(2 * J).reshape(2, J).T.ravel()
    joint = full[np.ix_(interleaved, interleaved)]
    missing = np.repeat(unidentified | problem.structure.items_using(at_bound), 2)
    joint[missing] = np.nan
    joint[:, missing] = np.nan
    own = 2 * np.arange(J)[:, None] + np.arange(2)
    return Errors(joint[own[:, :, None], own[:, None, :]], joint, unidentified)


def _blocks(problem: Problem, point: Point, at_bound: Mask) -> Errors:
    """Errors that take the other items as known, but not a common slope or latent SD.

    They miss what items share through the origin and unit of θ, of the order of 1/N of variance. For items seen by a
    small part of the N persons, as in every design with so many items, that is little: with 30 of 300 items each
    (simulated, N = 5000) slope errors came out up to 0.7 % too small and intercept errors up to 2.2 %; in a complete
    design (2000 × 50), where nobody needs this, 4 % and 18 %.
    """
    J, structure = problem.data.n_items, problem.structure
    aa, ad, dd = problem.observed_blocks(point).T
    cov = np.zeros((J, 2, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        if structure.n_slopes == J:
            cov[:] = np.stack([dd, -ad, -ad, aa], axis=1).reshape(J, 2, 2) / (aa * dd - ad**2)[:, None, None]
        else:
            own, with_d = _shared(problem, point)
            variance = 1.0 / (own - np.sum(with_d**2 / dd))
            moved = -with_d / dd
            cov[:, 1, 1] = 1.0 / dd + moved**2 * variance
            if structure.n_slopes:
                cov[:, 0, 0] = variance
                cov[:, 0, 1] = cov[:, 1, 0] = moved * variance
        inflation = cov[:, [0, 1], [0, 1]] * np.stack([point.aa, point.dd], axis=1)
    sound = ((inflation >= 0) & (inflation < VARIANCE_INFLATION_LIMIT)).all(axis=1)
    held = structure.items_using(at_bound)
    cov[held | ~sound] = np.nan
    return Errors(cov, None, ~sound & ~held)


def _shared(problem: Problem, point: Point) -> tuple[float, Floats]:
    """Information of the one shared parameter, alone and with each intercept (J,), by differences of gradients."""
    S, J = problem.structure.n_slopes, problem.data.n_items
    shared = 0 if S else J
    step = np.zeros_like(point.x)
    step[shared] = 1e-4
    column = (problem.evaluate(point.x - step).gradient - problem.evaluate(point.x + step).gradient) / 2e-4
    return float(column[shared]), column[S : S + J]


def inverse(information: Floats) -> tuple[Floats, Floats]:
    """Inverse of a scaled information matrix (P, P), and each parameter's share (P,) in its singular directions.

    Where there are singular (or downward) directions the inverse is taken over the others: it is that of every
    parameter with a share of 0.
    """
    try:
        whole = cho_solve(cho_factor(information), np.eye(len(information)))
    except LinAlgError:
        whole = None
    if whole is not None and np.diag(whole).max() < VARIANCE_INFLATION_LIMIT:
        return whole, np.zeros(len(information))
    values, vectors = eigh(information)
    sound = values > 1.0 / VARIANCE_INFLATION_LIMIT
    part = (vectors[:, sound] / values[sound]) @ vectors[:, sound].T
    return part, (vectors[:, ~sound] ** 2).sum(axis=1)
