"""Posterior distribution of the true parameters of a bank's items, given their estimates with errors.

The true η_j = (ln a_j, d_j), d = −ab, of the bank are N(m, T), and their estimates are N(η, V), V by the delta method.
m is the mean of the items with the same number of points: a is the slope per point, and falls with their number. T is
estimated by restricted maximum likelihood and m is not known, so that with S_j = T + V_j and K_j = T S_j⁻¹

    η̃_j = m̂ + K_j(η̂_j − m̂),    m̂ = (Σ S_j⁻¹)⁻¹ Σ S_j⁻¹ η̂_j.

Errors of d are nearly normal, and errors of b = −d/a are not if a is small. The errors of an estimate are smaller or
larger than those at the true values, and with V at the estimates the posterior would follow the errors that seem small
by chance. So V is computed again at a first η̃: each error is multiplied by the ratio of its assumed values
(`core.assumed_errors`) there and at the estimates.

Slopes of a bank are seldom lognormal. This matters little for tests of many items and much for the steepest items,
whose posterior depends on the tail of the distribution. For forms of the best items, the density of ln a over the bank
is estimated from the posteriors in a few EM steps, which begin with the normal density, and draws have the quantiles of
the posterior with this density. The density has an error, too: each group of draws has a density of items with random
weights, as in the Bayesian bootstrap (Rubin 1981).

Errors in V may be common to all items, such as errors of a linking. The bank as a whole contains no information about
them, so K uses only the errors of each item, and the draws have the errors of η̃ with the joint V. Draws around the
estimates themselves would hide that items chosen for their estimates look better than they are. If few errors are
shared, as C_j γ with γ ~ N(0, 1), the draws need no matrix of all items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import ndtr

from irt_psychometrics.core import covariances
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.logistic import expit, logit
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.scoring.form_scores import require_curves

MAX_STEPS, TOLERANCE = 300, 1e-5
NO_ERROR = 1e-10
"""Variance added to errors, so that covariances of parameters without errors have an inverse."""
QUADRATURE = np.polynomial.hermite_e.hermegauss(7)
SCORES = np.linspace(-4.5, 4.5, 91)
"""Standard normal scores at which densities and quantiles of slopes are computed."""
EM_STEPS, NORMAL_ITEMS, LEAST_SD = 3, 5.0, 0.25
"""EM steps of the density of slopes, number of items by which the normal density counts, and least posterior SD, in
SDs of the bank, with which an item counts."""
WEIGHT_SHAPE = 0.25
"""Shape of the gamma distribution of random weights. `bench_certainty` has the certainty that these constants give."""


@dataclass(frozen=True)
class ItemPosterior:
    """Posterior distribution of the true parameters of J items.

    Attributes
    ----------
    items
        The estimates.
    errors
        V at the posterior means without errors that are `shared`, in the shape of `items.cov`.
    shared
        C, effects of R shared errors on (ln a, d) at the posterior means, shape (J, 2, R).
    prior_cov
        T, covariance of (ln a, d) over the bank, shape (2, 2).
    points
        Shape (J,), the number of points of each item.
    mean_cov
        Covariance of the m̂ of each item, shape (J, 2, 2).
    weight
        S⁻¹ of each item, shape (J, 2, 2).
    location
        η̃, shape (J, 2).

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.adaptive import ItemPosterior
    >>> errors = {"a_se": [0.2] * 4, "b_se": [0.2] * 4}
    >>> bank = irt.ItemParameters.from_frame({"item": list("abcd"), "a": [1, 1, 1, 2], "b": [-1, 0, 1, 0], **errors})
    >>> bool(ItemPosterior.from_items(bank).mean.a[3] < 2)  # the largest estimate is partly an error
    True
    """

    items: ItemParameters
    errors: Floats
    shared: Floats
    points: Ints
    prior_cov: Floats
    mean_cov: Floats
    weight: Floats
    location: Floats

    @classmethod
    def from_items(cls, items: ItemSource, shared: Floats | None = None) -> ItemPosterior:
        """Estimate the distribution over the bank by EM, and the posterior distribution of its items.

        Parameters
        ----------
        items
            The estimates with their errors: a `Fit`, a `ScaleLink` (the new fit on the old scale), or `ItemParameters`.
        shared
            Shape (J, 2, R), the effects on (a, b) of R independent errors with variance 1 that the items share, as
            `scoring.ParameterErrors.shared_effects`. They are part of the errors of each item, `items.cov` (J, 2, 2).
            None: `items.cov` has all covariances between items.

        Returns
        -------
        ItemPosterior
            The posterior distribution.

        Raises
        ------
        PsychometricsError
            If items have a ≤ 0 or no finite errors. The message names the items.
        """
        items = require_items(items, "ItemPosterior.from_items")
        require_curves(items, "the bank")
        with_errors = np.isfinite(items.cov_of_each.sum(axis=(1, 2)))
        if not with_errors.all():
            raise PsychometricsError(
                f"the bank has no finite errors of {some_of(np.array(items.item_ids)[~with_errors])}; use the errors "
                "of a fit, or `items.with_assumed_errors()`"
            )
        errors, estimates, points = _errors(items), _locations(items), items.curves.categories - 1
        total, location = covariances.item_blocks(errors), estimates
        common = np.zeros((len(points), 2, 0)) if shared is None else _jacobian(items) @ shared
        if shared is not None:  # the errors of an item may be known less exactly than the shared ones
            values, vectors = np.linalg.eigh(total - common @ common.swapaxes(1, 2))
            errors = (vectors * np.maximum(values, 0.0)[:, None]) @ vectors.swapaxes(1, 2)
        for _ in range(2):
            ratio = np.nan_to_num(_assumed(items, location) / _assumed(items, estimates), nan=1.0).ravel()
            prior_cov, mean_cov, weight, location = fit_bank(estimates, covariances.scale(total, ratio), points)
        common = ratio.reshape(-1, 2, 1) * common
        return cls(items, covariances.scale(errors, ratio), common, points, prior_cov, mean_cov, weight, location)

    @property
    def mean(self) -> ItemParameters:
        """The items at the posterior mean of (ln a, d) and of the further parameters, without errors."""
        return self._bank(self.location)

    @property
    def cov(self) -> Floats:
        """Posterior covariance of each item's (ln a, d), shape (J, 2, 2)."""
        rest = np.eye(2) - self.prior_cov @ self.weight
        return rest @ self.prior_cov + rest @ self.mean_cov @ rest.swapaxes(1, 2)

    def draw(self, n: int, random_state: int | np.random.Generator, *, densities: int = 0) -> list[ItemParameters]:
        """Draw banks of true parameters.

        Parameters
        ----------
        n
            The number of banks.
        random_state
            A seed or a NumPy generator.
        densities
            The number of densities of slopes over the bank, each for an equal part of the banks. 0: the normal density.

        Returns
        -------
        list of ItemParameters
            n banks with the same items, without errors.

        Raises
        ------
        PsychometricsError
            If the joint covariance of the items has negative eigenvalues.
        """
        rng = np.random.default_rng(random_state)
        try:
            root = np.linalg.cholesky(self.errors + NO_ERROR * np.eye(self.errors.shape[1]))
        except np.linalg.LinAlgError:
            raise PsychometricsError(
                "the joint covariance of the items has negative eigenvalues; `items.cov_of_each` as `cov` omits the "
                "covariances between items"
            ) from None
        of_bank, of_further = np.linalg.cholesky(self.prior_cov + NO_ERROR * np.eye(2)), self._further_errors[1]
        gain, (n_items, _, n_shared) = self.prior_cov @ self.weight, self.shared.shape
        away = of_bank @ np.moveaxis(rng.standard_normal((n, n_items, 2)), 0, 2)
        errors = (root @ rng.standard_normal((*root.shape[:2], n))).reshape(away.shape)
        errors += self.shared @ rng.standard_normal((n, n_shared)).T
        mean_error = self.mean_cov @ _sums(self.weight @ (errors + away), self.points)
        drawn = self.location[..., None] - (mean_error - away + gain @ (errors + away - mean_error))
        by, sd = self.cov[:, :, 0] / (self.cov[:, :1, 0] + NO_ERROR), np.sqrt(self.cov[:, :1, 0] + NO_ERROR)
        for part in np.array_split(drawn, densities, axis=2) if densities else ():
            score = (part[:, 0] - self.location[:, :1]) / sd
            moved = _read(self._slope_scores(rng.gamma(WEIGHT_SHAPE, 1 / WEIGHT_SHAPE, len(sd))), score)
            part += by[..., None] * (sd * (moved - score))[:, None]
        noise = np.einsum("jxy,njy->njx", of_further, rng.standard_normal((n, *of_further.shape[:2])))
        return [self._bank(*own) for own in zip(np.moveaxis(drawn, 2, 0), noise, strict=True)]

    def expected_probabilities(self, nodes: Floats) -> Floats:
        """Compute P(score | θ) of the expected response function (Mislevy, Wingersky & Sheehan 1994; Lewis 2001).

        It is the mean over the posterior of (ln a, d), with further parameters at the conditional mean.

        Parameters
        ----------
        nodes
            Shape (Q,), abilities.

        Returns
        -------
        array of shape (J, C, Q)
            Probabilities; 0 for scores that an item does not have.
        """
        root = np.linalg.cholesky(self.cov + NO_ERROR * np.eye(2))
        points = [
            weight * other * self._bank(self.location + root @ np.array([x, y])).curves.score_probabilities(nodes)
            for x, weight in zip(*QUADRATURE, strict=True)
            for y, other in zip(*QUADRATURE, strict=True)
        ]
        return np.sum(points, axis=0) / (2 * np.pi)

    def _slope_scores(self, weights: Floats) -> Floats:
        """Compute each item's scores of ln a by the density of slopes of the other items, for `SCORES` by the normal
        density; shape (J, Q). `weights` (J,) are the weights of the items."""
        mean = self.mean_cov @ _sums(self.weight @ _locations(self.items)[..., None], self.points)
        unit = np.sqrt(self.prior_cov[0, 0] + NO_ERROR)
        centre = (self.location[:, :1] - mean[:, 0]) / unit
        spread = np.sqrt(self.cov[:, :1, 0]) / unit
        normal = np.exp(-(SCORES**2) / 2)
        seen = np.exp(-(((SCORES - centre) / np.maximum(spread, LEAST_SD)) ** 2) / 2)
        ratio = np.ones_like(seen)
        for _ in range(EM_STEPS):
            own = seen * ratio
            own *= (weights / own.sum(axis=1))[:, None]
            others = own.sum(axis=0) - own + NORMAL_ITEMS * normal / normal.sum()
            ratio = others / normal
        own = normal * _read(ratio, centre + spread * SCORES)
        rank, item = np.cumsum(own, axis=1) - own / 2, np.arange(len(own))[:, None]
        rank, at = ((x - x[..., :1]) / np.ptp(x, axis=-1, keepdims=True) * (1 - 1e-9) for x in (rank, ndtr(SCORES)))
        found = np.interp((at + item).ravel(), (rank + item).ravel(), np.tile(SCORES, len(own)))
        return found.reshape(own.shape)

    @cached_property
    def _further_errors(self) -> tuple[Floats, Floats]:
        """Errors of the further parameters: their regression on the errors of (ln a, d), shape (J, M, 2), and a root of
        the remaining covariance, shape (J, M, M). Parameters without known errors are held."""
        cov = np.nan_to_num(self.items.cov_of_all[:, 2:])
        between = cov[:, :, :2] @ _jacobian(self.items).swapaxes(1, 2)
        by = between @ np.linalg.inv(covariances.item_blocks(_errors(self.items)) + NO_ERROR * np.eye(2))
        values, vectors = np.linalg.eigh(cov[:, :, 2:] - by @ between.swapaxes(1, 2))
        return by, vectors * np.sqrt(np.maximum(values, 0.0))[:, None]

    def _bank(self, location: Floats, noise: Floats | float = 0.0) -> ItemParameters:
        """The items with this (ln a, d), and further parameters at their conditional mean plus `noise` (J, M)."""
        items, a = self.items, np.exp(location[:, 0])
        moved = noise - np.einsum("jmx,jx->jm", self._further_errors[0], _locations(items) - location)
        c = expit(logit(items.c) + moved[:, 0])
        others = []
        for some in items.others:
            c[some.at] = items.c[some.at]
            others.append(replace(some, further=some.further + moved[some.at, : len(some.further)].T))
        no_errors = np.zeros((len(a), 2, 2))
        return ItemParameters(items.item_ids, a, -location[:, 1] / a, c, no_errors, others=tuple(others))


def _read(table: Floats, score: Floats) -> Floats:
    """Interpolate each item's row of `table` (J, Q), which has a value for each of `SCORES`, at scores (J, n)."""
    at = np.clip((score - SCORES[0]) / (SCORES[1] - SCORES[0]), 0, len(SCORES) - 1 - 1e-9)
    low = at.astype(int)
    left, right = (np.take_along_axis(table, place, axis=1) for place in (low, low + 1))
    return left + (at - low) * (right - left)


def fit_bank(estimates: Floats, errors: Floats, points: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    """Estimate T, the covariance of m̂, S⁻¹ and η̃ by EM, from estimates (J, 2) with errors (J, 2, 2)."""
    prior_cov, errors, located = np.eye(2), errors + NO_ERROR * np.eye(2), estimates[:, :, None]
    for _ in range(MAX_STEPS):
        weight: Any = np.linalg.inv(prior_cov + errors)
        mean_cov: Any = np.linalg.inv(_sums(weight, points))
        mean: Any = mean_cov @ _sums(weight @ located, points)
        gain = prior_cov @ weight
        away = (gain @ (located - mean))[..., 0]
        within = gain @ errors + gain @ mean_cov @ gain.swapaxes(1, 2)
        last, prior_cov = prior_cov, (away.T @ away + within.sum(axis=0)) / len(away)
        if np.abs(prior_cov - last).max() < TOLERANCE * last.max():
            break
    return last, mean_cov, weight, mean[..., 0] + away


def _sums(values: Floats, points: Ints) -> Floats:
    """Sum over the items with the same number of points as each item; shape (…, J, X, Y) of the values and the sums."""
    found = np.empty_like(values)
    for own in (points == n for n in np.unique(points)):
        found[..., own, :, :] = values[..., own, :, :].sum(axis=-3, keepdims=True)
    return found


def _locations(items: ItemParameters) -> Floats:
    """(ln a, d), shape (J, 2)."""
    return np.column_stack([np.log(items.a), items.d])


def _jacobian(items: ItemParameters) -> Floats:
    """∂(ln a, d)/∂(a, b), shape (J, 2, 2)."""
    return np.stack([[1 / items.a, np.zeros(len(items.a))], [-items.b, -items.a]]).transpose(2, 0, 1)


def _errors(items: ItemParameters) -> Floats:
    """Covariance of the estimates of (ln a, d), in the shape of `items.cov`."""
    return covariances.transform(items.cov, _jacobian(items))


def _assumed(items: ItemParameters, location: Floats) -> Floats:
    """Assumed standard errors of (ln a, d) if these are the parameters of the items, shape (J, 2)."""
    a = np.exp(location[:, 0])
    with np.errstate(invalid="ignore"):
        errors = _errors(replace(items, a=a, b=-location[:, 1] / a).with_assumed_errors())
    return np.sqrt(errors[:, [0, 1], [0, 1]])
