"""Posterior distribution of the true parameters of a bank's items, given their estimates with errors.

The true η_j = (ln a_j, b_j) of the bank are N(m, T), and their estimates are N(η, V), V by the delta method. T is
estimated by restricted maximum likelihood and m is not known, so that with S_j = T + V_j and K_j = T S_j⁻¹

    η̃_j = m̂ + K_j(η̂_j − m̂),    m̂ = (Σ S_j⁻¹)⁻¹ Σ S_j⁻¹ η̂_j.

Errors in V may be common to all items, such as those of a linking. Because m is unknown, the bank as a whole contains
no information about them, so K uses only the errors of each item, and the draws have the errors of η̃ with the joint V.
Draws around the estimates themselves would hide that items chosen for their estimates look better than they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from irt_psychometrics.core import covariances
from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.logistic import expit, logit

MAX_STEPS, TOLERANCE = 300, 1e-5
_NOTHING = 1e-10 * np.eye(2)
"""Variance added to the errors, so that matrices of parameters without errors have an inverse."""
_POINTS, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)


@dataclass(frozen=True)
class ItemPosterior:
    """Posterior distribution of the true parameters of J items.

    Attributes:
        items: the estimates.
        prior_cov: T, covariance of (ln a, b) over the bank, shape (2, 2).
        prior_mean_cov: covariance of m̂, shape (2, 2).
        gain: K, shape (J, 2, 2).
        location: η̃, shape (J, 2).
    """

    items: ItemParameters
    prior_cov: Floats
    prior_mean_cov: Floats
    gain: Floats
    location: Floats

    @classmethod
    def from_items(cls, items: ItemParameters) -> ItemPosterior:
        """Estimate the distribution over the bank by EM. Every item needs errors and a > 0.

        Raises PsychometricsError, which names the items without them.
        """
        _require(items, items.curves.known & (items.a > 0), "no positive slope a; leave them out of the bank")
        errors: Mask = np.isfinite(items.cov_of_each).all(axis=(1, 2))
        _require(items, errors, "no finite errors; use errors of their calibration, or `items.with_assumed_errors()`")
        estimates = np.column_stack([np.log(items.a), items.b])
        cov = covariances.item_blocks(_log_cov(items)) + _NOTHING
        prior = np.eye(2)
        for _ in range(MAX_STEPS):
            weight = np.linalg.inv(prior + cov)
            mean_cov = np.linalg.inv(weight.sum(axis=0))
            mean = mean_cov @ np.einsum("jxy,jy->x", weight, estimates)
            gain = prior @ weight
            away = np.einsum("jxy,jy->jx", gain, estimates - mean)
            within = gain @ cov + gain @ mean_cov @ gain.swapaxes(1, 2)
            last, prior = prior, (away.T @ away + within.sum(axis=0)) / len(away)
            if np.abs(prior - last).max() < TOLERANCE * last.max():
                break
        return cls(items, last, mean_cov, gain, mean + away)

    @property
    def mean(self) -> ItemParameters:
        """The items at the posterior mean of (ln a, b), and of the further parameters given these."""
        return self._bank(self.location, self._further_given(self.location))

    @property
    def cov(self) -> Floats:
        """Posterior covariance of each item's (ln a, b), shape (J, 2, 2)."""
        rest = np.eye(2) - self.gain
        return self.prior_cov - self.gain @ self.prior_cov + rest @ self.prior_mean_cov @ rest.swapaxes(1, 2)

    def draw(self, n: int, rng: np.random.Generator) -> list[ItemParameters]:
        """Draw n banks of true parameters, without errors."""
        root, J = self._root, len(self.location)
        errors = (root @ rng.standard_normal((n, *root.shape[:2], 1))).reshape(n, J, 2, 1)
        true = np.linalg.cholesky(self.prior_cov + _NOTHING) @ rng.standard_normal((n, J, 2, 1))
        rest = np.eye(2) - self.gain
        # m̂ − m: S⁻¹ of an item is T⁻¹K
        mean = self.prior_mean_cov @ (self._weight @ (errors + true)).sum(axis=1, keepdims=True)
        location = self.location - (self.gain @ errors + rest @ (mean - true))[..., 0]
        root_of_further = self._further[1]
        noise = (root_of_further @ rng.standard_normal((n, *root_of_further.shape[:2], 1)))[..., 0]
        return [self._bank(eta, self._further_given(eta) + own) for eta, own in zip(location, noise, strict=True)]

    def expected_probabilities(self, nodes: Floats) -> Floats:
        """P(score | θ) of the expected response function, shape (J, C, Q), 0 for scores that an item does not have.

        It is the mean over the posterior of (ln a, b), with further parameters at their conditional mean (Mislevy,
        Wingersky & Sheehan 1994; Lewis 2001).
        """
        root, found = np.linalg.cholesky(self.cov + _NOTHING), np.zeros(())
        for x, x_weight in zip(_POINTS, _WEIGHTS, strict=True):
            for y, y_weight in zip(_POINTS, _WEIGHTS, strict=True):
                eta = self.location + root @ np.array([x, y])
                found = found + x_weight * y_weight * _probabilities(self._bank(eta, self._further_given(eta)), nodes)
        return np.asarray(found / _WEIGHTS.sum() ** 2, dtype=float)

    @cached_property
    def _weight(self) -> Floats:
        """S⁻¹ of each item, shape (J, 2, 2)."""
        return np.linalg.inv(self.prior_cov + covariances.item_blocks(_log_cov(self.items)) + _NOTHING)

    @cached_property
    def _root(self) -> Floats:
        """Root of V, in the shape of `items.cov`."""
        cov = _log_cov(self.items)
        try:
            return np.linalg.cholesky(cov + _NOTHING[0, 0] * np.eye(cov.shape[1]))
        except np.linalg.LinAlgError:
            raise PsychometricsError(
                "the covariance of the items has negative eigenvalues; replace `items.cov` by `items.cov_of_each`, "
                "which omits covariances between items"
            ) from None

    @cached_property
    def _further(self) -> tuple[Floats, Floats]:
        """Regression of the errors of further parameters on the errors of (ln a, b), and a root of their remaining
        covariance, shape (J, M, 2) and (J, M, M). Parameters without known errors are held."""
        cov = np.nan_to_num(self.items.cov_of_all[:, 2:])
        cov[:, :, 0] /= self.items.a[:, None]
        by = cov[:, :, :2] @ np.linalg.inv(covariances.item_blocks(_log_cov(self.items)) + _NOTHING)
        values, vectors = np.linalg.eigh(cov[:, :, 2:] - by @ cov[:, :, :2].swapaxes(1, 2))
        return by, vectors * np.sqrt(np.maximum(values, 0.0))[:, None]

    def _further_given(self, location: Floats) -> Floats:
        """Mean of the further parameters given (ln a, b), shape (J, M)."""
        items = self.items
        found = np.zeros((len(items.a), items.n_further))
        found[:, 0] = logit(items.c)
        for some in items.others:
            found[some.at] = 0.0
            found[some.at, : len(some.further)] = some.further.T
        error = np.column_stack([np.log(items.a), items.b]) - location
        return found - np.einsum("jmx,jx->jm", self._further[0], error)

    def _bank(self, location: Floats, further: Floats) -> ItemParameters:
        items, c = self.items, expit(further[:, 0])
        for some in items.others:
            c[some.at] = items.c[some.at]
        others = tuple(replace(some, further=further[some.at, : len(some.further)].T) for some in items.others)
        a, b = np.exp(location[:, 0]), location[:, 1]
        return ItemParameters(items.item_ids, a, b, c, np.zeros((len(a), 2, 2)), others=others)


def _log_cov(items: ItemParameters) -> Floats:
    """Covariance of the estimates of (ln a, b), in the shape of `items.cov`."""
    return covariances.scale(items.cov, np.column_stack([1 / items.a, np.ones(len(items.a))]).ravel())


def _require(items: ItemParameters, satisfied: Mask, lack: str) -> None:
    if not satisfied.all():
        names = [items.item_ids[j] for j in np.flatnonzero(~satisfied)]
        raise PsychometricsError(f"{len(names)} items have {lack}: {', '.join(names[:5])}{', …' * (len(names) > 5)}")


def _probabilities(items: ItemParameters, nodes: Floats) -> Floats:
    """P(score | θ) at Q nodes, shape (J, C, Q)."""
    counted = CountedScores.from_curves(items.curves)
    given, lowest = np.exp(items.curves.score_tables(nodes))
    found = np.zeros((len(items.a), int(counted.categories.max()), len(nodes)))
    found[:, 0] = lowest[counted.first_row]
    found[counted.item_of_row, np.arange(len(given)) - counted.first_row[counted.item_of_row] + 1] = given
    return found
