"""Abilities of persons on several dimensions, with the covariance of their errors: EAP and MAP.

Posteriors on nodes are in `posterior`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.error_kernels import posterior_moments
from irt_psychometrics.dimensions.posterior import OnNodes
from irt_psychometrics.scoring.abilities import Scores

AnyInts = npt.NDArray[np.integer[Any]]
DimensionsMethod = Literal["eap", "map"]
SCORING_NODES = {1: 61, 2: 41, 3: 25}
"""Least number of nodes of a primary dimension, by the number of primary dimensions. Posteriors of single persons are
narrower than the sums over persons for which the nodes of a fit are enough."""
SPECIFIC_NODES = 41
"""Least number of nodes of a specific dimension."""
_MOST_STEPS, _MOST_HALVINGS, _SMALLEST_STEP = 200, 30, 1e-8
_ROUNDING, _BEND_STEP = 1e-12, 1e-4


class DimensionPosteriors(NamedTuple):
    """Abilities of N persons on D dimensions.

    Attributes:
        theta: shape (N, D).
        cov: shape (N, D, D), covariance of the posterior, or the inverse of minus its curvature at the mode.
        n: shape (N, D), numbers of answers to items that measure the dimension.
        loglik: shape (N,), log P(answers), with the abilities integrated out; 0 without answers.
    """

    theta: Floats
    cov: Floats
    n: Ints
    loglik: Floats

    @property
    def reliability(self) -> Floats:
        """Empirical reliability of EAP scores on each dimension, shape (D,), over the persons who answered any item.

        NaN for fewer than two persons. See `Scores.reliability`.
        """
        some = self.n.any(axis=1)
        errors = np.sqrt(np.diagonal(self.cov, axis1=1, axis2=2))
        return np.array([Scores(*x).reliability for x in zip(self.theta[some].T, errors[some].T, strict=True)])


def dimensions_scores(
    responses: Responses,
    calibration: DimensionsCalibration,
    method: DimensionsMethod = "eap",
    threads: int | None = None,
) -> DimensionPosteriors:
    """Estimate the abilities of persons on all dimensions, from responses and known item parameters.

    The prior is normal with the correlations of the calibration.

    Parameters
    ----------
    responses
        Responses of N persons to items of the calibration.
    calibration
        The item parameters. Answers to items without parameters are ignored.
    method
        "eap": mean and covariance of the posterior, by dimension reduction over the specific dimensions (Cai 2010).
        "map": mode of the posterior, and the inverse of the observed information there. The search begins at the EAP.
    threads
        Number of threads; None: all processors. The result does not depend on it.

    Returns
    -------
    DimensionPosteriors
        Abilities, shape (N, D), and their covariances. A person without answers gets the prior.

    Raises
    ------
    PsychometricsError
        If an item is not in the calibration, or the method is unknown.

    References
    ----------
    Cai, L. (2010). A two-tier full-information item factor analysis model with applications. Psychometrika, 75,
    581-612.
    """
    if method not in get_args(DimensionsMethod):
        raise PsychometricsError(f"method must be one of {', '.join(get_args(DimensionsMethod))}; got {method!r}")
    primary, specific = calibration.nodes
    least = SCORING_NODES[calibration.dimensions.n_primary]
    nodes = max(primary, least), max(specific, SPECIFIC_NODES) if specific > 1 else 1
    N, D = responses.n_persons, len(calibration.dimensions.names)
    theta, cov, loglik = np.zeros((N, D)), np.zeros((N, D, D)), np.zeros(N)
    with kernels.runner(threads) as run:
        own = OnNodes.from_responses(responses, calibration, nodes, run)
        persons, grid, answers = own.problem.answers.persons, own.problem.grid, own.responses

        def integrate(first: int, last: int) -> None:
            posterior_moments(first, last, persons, own.tables, grid.primary, grid.specific, loglik, theta, cov)

        def maximise(first: int, last: int) -> None:
            rows = slice(*np.searchsorted(answers.person, [first, last]))
            some = _Answers(answers.person[rows] - first, answers.item[rows], answers.score[rows], calibration)
            theta[first:last], cov[first:last] = some.modes(theta[first:last])

        run(integrate, own.problem.answers.pieces)
        if method == "map":
            run(maximise, own.problem.answers.pieces)
    measured = calibration.dimensions.measured[answers.item]
    n = np.stack([np.bincount(answers.person[one], minlength=N) for one in measured.T], axis=1)
    return DimensionPosteriors(theta, cov, n, loglik)


class _Answers:
    """Answers (R,) of n consecutive persons, and the density of abilities given them."""

    def __init__(self, person: AnyInts, item: AnyInts, score: AnyInts, calibration: DimensionsCalibration) -> None:
        self.person, self.score = person, score[:, None]
        self.slopes, self.intercepts = calibration.slopes[item], calibration.intercepts[item]
        self.precision = np.linalg.inv(calibration.correlations)
        self.further, self.categories = calibration.further_parameters[item], calibration.categories[item]
        names = np.array(calibration.models)
        self.parts = [(item_model(name), np.flatnonzero(names[item] == name)) for name in np.unique(names).tolist()]

    def modes(self, start: Floats) -> tuple[Floats, Floats]:
        """Find the modes by Fisher scoring from `start` (n, D). Returns the modes, and the inverse curvatures there."""
        theta, moving = start.copy(), np.ones(len(start), dtype=bool)
        value = self.log_density(theta)
        for _ in range(_MOST_STEPS):
            step = np.where(moving[:, None], self._step(theta), 0.0)
            for _ in range(_MOST_HALVINGS):
                new = self.log_density(theta + step)
                worse = new < value - _ROUNDING * np.abs(value)
                if not worse.any():
                    break
                step[worse] /= 2
            theta, value = theta + step, new
            moving = np.abs(step).max(axis=1) > _SMALLEST_STEP
            if not moving.any():
                break
        z = self._z(theta)
        by_z = [self._curves(curves.derivatives, z + step) for step in (-_BEND_STEP, _BEND_STEP)]
        bend = self._chosen(by_z[0] - by_z[1]) / (2 * _BEND_STEP)
        return theta, np.asarray(np.linalg.inv(self._curvature(bend, len(theta))), dtype=float)

    def log_density(self, theta: Floats) -> Floats:
        """Compute the log density at abilities (n, D) up to a constant, shape (n,)."""
        logs = self._chosen(self._curves(curves.log_probabilities, self._z(theta)))
        prior = -0.5 * np.einsum("nd,de,ne->n", theta, self.precision, theta)
        return prior + np.bincount(self.person, logs, minlength=len(theta))

    def _step(self, theta: Floats) -> Floats:
        z = self._z(theta)
        by_z, p = self._curves(curves.derivatives, z), np.exp(self._curves(curves.log_probabilities, z))
        by_theta = self._chosen(by_z)[:, None] * self.slopes
        gradient = np.stack([np.bincount(self.person, x, minlength=len(theta)) for x in by_theta.T], axis=1)
        gradient -= theta @ self.precision
        curvature = self._curvature((p * by_z**2).sum(axis=1), len(theta))
        return np.asarray(np.linalg.solve(curvature, gradient[:, :, None]), dtype=float)[:, :, 0]

    def _curvature(self, bend: Floats, n: int) -> Floats:
        """Compute curvatures of log densities, shape (n, D, D), from the curvatures `bend` (R,) of log P by z."""
        D = self.slopes.shape[1]
        out = np.broadcast_to(self.precision, (n, D, D)).copy()
        for d, e in np.ndindex(D, D):
            out[:, d, e] += np.bincount(self.person, bend * self.slopes[:, d] * self.slopes[:, e], minlength=n)
        return out

    def _z(self, theta: Floats) -> Floats:
        return (self.slopes * theta[self.person]).sum(axis=1) + self.intercepts

    def _curves(self, compute: Callable[[ItemModel, Floats, Floats, Ints], Floats], z: Floats) -> Floats:
        """Compute log P of each score, or ∂ log P/∂z, at z (R,), shape (R, C); 0 for scores that an item lacks."""
        out = np.zeros((z.size, int(self.categories.max(initial=2))))
        for model, at in self.parts:
            if at.size:
                values = compute(model, z[at, None], self.further[at], self.categories[at])
                values = values[0] if values.ndim == 4 else values
                out[at, : values.shape[2]] = values[:, 0]
        return out

    def _chosen(self, values: Floats) -> Floats:
        """Return the values (R, C) of the answers' own scores, shape (R,)."""
        return np.take_along_axis(values, self.score, axis=1)[:, 0]
