"""Turn posterior draws into a `Calibration`: means, covariances, flags, and whether the fit has converged."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pymc as pm
from scipy.special import logit

from irt_assets.common.arrays import Floats, Mask
from irt_assets.common.wording import some_of
from irt_assets.engines.pymc_likelihood import Likelihood
from irt_assets.engines.pymc_model import ModelPriors, by_distances
from irt_assets.engines.pymc_sampling import Diagnostics, Draws, diagnose
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Estimates, Flag

MAX_RHAT = 1.01
MIN_ESS = 1000.0
"""Limits after Vehtari et al. (2021). MIN_ESS applies to the ESS of means (bulk) and of ends of intervals (tail)."""
PRIOR_SHARE = 0.9
"""Ratio of posterior SD to prior SD above which a parameter is unidentified: at least four fifths of its precision then
come from the prior (0.9² = 0.81)."""
DRAWS_PER_PARAMETER = 10
"""Fewest draws per parameter for a covariance over all items. With fewer draws it is too noisy to invert, and only the
items' own blocks are kept."""


class Quantities:
    """The draws of K items and of the latent mean and SD, including fixed values.

    Attributes:
        a, b, c, d: parameters with d = −a·b, shape (chains, draws, K).
        latent_mean, latent_sd: shape (chains, draws).
        w: logarithms of the distances between a graded item's thresholds, item by item, shape (chains, draws, F).
        present: the scores that occur, shape (K, C).
    """

    def __init__(self, draws: Draws, priors: ModelPriors, present: Mask) -> None:
        self.present = present
        self.b = draws.values["b"]
        a = draws.values.get("a", np.ones(self.b.shape))
        self.a = np.broadcast_to(a if a.ndim == 3 else a[..., None], self.b.shape)
        self.d = -self.a * self.b
        self.c = np.broadcast_to(priors.c_given, self.b.shape).copy()
        if "c" in draws.values:
            self.c[..., np.isnan(priors.c_given)] = draws.values["c"]
        self.w = draws.values.get("w", np.zeros((*self.b.shape[:2], 0)))
        self.latent_mean = draws.values.get("latent_mean", np.zeros(self.b.shape[:2]))
        self.latent_sd = draws.values.get("latent_sd", np.ones(self.b.shape[:2]))

    @property
    def inner(self) -> Mask:
        """Mask of the scores with a w, in the order of `w`, shape (K, C)."""
        order = self.present.cumsum(axis=1)
        return self.present & (order > 1) & (order < order[:, -1:])

    def log_odds(self) -> tuple[Floats, Floats]:
        """Return the log odds of at least each score at θ = 0, and the covariances of a and these, as in `Estimates`.

        Shapes (K, C) and (K, 1 + C, 1 + C).
        """
        u = np.exp(self.w) @ by_distances(self.present.sum(axis=1)).T
        above = self.present & (self.present.cumsum(axis=1) > 1)
        odds = self.d[..., np.nonzero(above)[0]] - u
        found = np.where(self.present, 0.0, np.nan)
        found[above] = odds.mean((0, 1))
        cov = np.zeros((len(found), 1 + found.shape[1], 1 + found.shape[1]))
        ends = np.cumsum(above.sum(axis=1))
        for k, own in enumerate(np.split(odds, ends[:-1], axis=2)):
            at = np.concatenate([[0], 1 + np.flatnonzero(above[k])])
            cov[k][np.ix_(at, at)] = np.cov(
                np.concatenate([self.a[..., k : k + 1], own], axis=2).reshape(-1, at.size).T
            )
        return found, cov

    def diagnose(self, item_ids: Sequence[str], divergences: int) -> Diagnostics:
        """Convergence diagnostics of all quantities that are not fixed."""
        named = {
            f"{name} of item {item}": values[..., k]
            for name, values in (("a", self.a), ("b", self.b), ("c", self.c), ("d", self.d))
            for k, item in enumerate(item_ids)
        }
        for f, (k, score) in enumerate(np.argwhere(self.inner).tolist()):
            named[f"w{score} of item {item_ids[k]}"] = self.w[..., f]
        named |= {"the latent mean": self.latent_mean, "the latent SD": self.latent_sd}
        return diagnose({name: x for name, x in named.items() if np.ptp(x) > 0}, divergences)


def calibration_of(
    em: Calibration,
    kept: npt.NDArray[np.intp],
    draws: Draws,
    found: Quantities,
    diagnostics: Diagnostics,
    priors: ModelPriors,
    anchors_used: Sequence[str],
    likelihood: Likelihood,
    n_persons: int,
) -> Calibration:
    """A calibration with the results of the K sampled items in place of the em engine's results.

    It contains posterior means of a, d and c, and the covariances of a, d and logit c. Findings of the em engine about
    the answers as a whole (two identical items, no common scale) are kept.

    Args:
        em: the em engine's fit of all J items.
        kept: indices of the sampled items in `em`, shape (K,).
        draws: the draws by variable.
        found: the same draws by quantity, with fixed values.
        diagnostics: convergence diagnostics of the draws.
        priors: priors of the K items.
        anchors_used: items that are never flagged as unidentified by their priors.
        likelihood: for the log-likelihood at the posterior means.
        n_persons: number of learners whose responses were sampled from.
    """
    J, K = em.n_items, len(kept)
    names = [em.item_ids[j] for j in kept]
    slope_owed, place_owed = _reflects_prior(found.a, found.b, priors)
    unidentified = place_owed | (slope_owed & em.item_model.own_slopes)
    unidentified &= ~np.isin(names, anchors_used)
    unidentified |= np.array([Flag.UNIDENTIFIED in em.flags[j] for j in kept])
    joint = _covariance(found.a, found.d)
    own = 2 * np.arange(K)[:, None] + np.arange(2)
    full_joint = None
    n_parameters = sum(int(np.prod(x.shape[2:])) for x in draws.values.values())
    if not found.w.size and found.b.shape[0] * found.b.shape[1] >= DRAWS_PER_PARAMETER * n_parameters:
        full_joint = np.full((2 * J, 2 * J), np.nan)
        both = (2 * kept[~unidentified, None] + np.arange(2)).ravel()
        full_joint[np.ix_(both, both)] = joint[np.ix_(own[~unidentified].ravel(), own[~unidentified].ravel())]
    cov, known_of_c, log_odds = joint[own[:, :, None], own[:, None, :]], None, None
    if em.item_model.guesses:
        cov, known_of_c = _add_guessing(cov, found, priors)
    if found.w.size:
        log_odds, cov = found.log_odds()
    reasons = _reasons(diagnostics, [names[k] for k in np.flatnonzero(unidentified)])
    slope, intercept, c = (x.mean((0, 1)) for x in (found.a, found.d, found.c))
    third = [c] if priors.guessing else [found.w.mean((0, 1))] if found.w.size else []
    mu, sigma = float(found.latent_mean.mean()), float(found.latent_sd.mean())
    estimates = Estimates(
        a=slope,
        d=intercept,
        c=c,
        cov=cov,
        latent_mean=mu,
        latent_sd=sigma,
        loglik=likelihood.value(slope * sigma, intercept + slope * mu, *third),
        n_parameters=n_parameters,
        converged=not reasons,
        reason="; ".join(reasons),
        iterations=draws.transitions,
        log_odds=log_odds,
    )
    return estimates.merge_into(
        em,
        kept,
        engine="pymc",
        version=f"PyMC {pm.__version__}, {draws.sampler}",
        n_persons=n_persons,
        unidentified=unidentified,
        joint_cov=full_joint,
        known_of_c=known_of_c,
    )


def _add_guessing(cov: Floats, found: Quantities, priors: ModelPriors) -> tuple[Floats, Floats]:
    """The covariances of a, d and logit c, shape (K, 3, 3), and the prior's information on logit c, shape (K,).

    For an item whose c was given, the covariances of c are 0, and the information is NaN.
    """
    free, wide, known = np.isnan(priors.c_given), np.zeros((len(cov), 3, 3)), np.full(len(cov), np.nan)
    wide[:, :2, :2] = cov
    if free.any():
        assert priors.c is not None
        guessing = _guessing(found.a[..., free], found.d[..., free], found.c[..., free])
        wide[free, 2], wide[free, :, 2] = guessing, guessing
        known[free] = priors.c.terms(logit(found.c[..., free]).mean((0, 1)))[2]
    return wide, known


def _covariance(a: Floats, d: Floats) -> Floats:
    """Covariance of a_1, d_1, a_2, d_2, … over all draws, shape (2K, 2K)."""
    both = np.stack([a, d], axis=3).reshape(a.shape[0] * a.shape[1], -1)
    return np.atleast_2d(np.cov(both, rowvar=False))


def _guessing(a: Floats, d: Floats, c: Floats) -> Floats:
    """Covariances of logit c with a and d, and its variance, shape (K, 3)."""
    off = [x - x.mean((0, 1)) for x in (a, d, logit(c))]
    return np.stack([(x * off[2]).mean((0, 1)) for x in off], axis=1)


def _reflects_prior(a: Floats, b: Floats, priors: ModelPriors) -> npt.NDArray[np.bool_]:
    """Whether the answers hardly narrow the prior of each slope and each difficulty, shape (2, K).

    Each is measured on the scale on which it narrows more: log a or a, b or d = −a·b. The b of a flat item and the a of
    a steep item stay wide with any number of answers.
    """
    variance = priors.log_a_sd**2
    mean_a = np.exp(priors.log_a_mean + variance / 2)
    square_a = mean_a**2 * np.exp(variance)
    a_sd = np.sqrt(square_a - mean_a**2)
    d_sd = np.sqrt(square_a * (priors.b_mean**2 + priors.b_sd**2) - (mean_a * priors.b_mean) ** 2)
    slope = np.minimum(np.log(a).std((0, 1)) / priors.log_a_sd, a.std((0, 1)) / a_sd)
    location_ratio = np.minimum(b.std((0, 1)) / priors.b_sd, (a * b).std((0, 1)) / d_sd)
    return np.stack([slope, location_ratio]) > PRIOR_SHARE


def _reasons(found: Diagnostics, unidentified: list[str]) -> list[str]:
    """Reasons why the fit has not converged. Empty if it has."""
    reasons = []
    if not found.max_rhat <= MAX_RHAT:
        reasons.append(
            f"the chains disagree, most on {found.worst_rhat}: R-hat {found.max_rhat:.3f}, at most "
            f"{MAX_RHAT} is allowed"
        )
    for kind, least, worst in (
        ("bulk", found.min_bulk_ess, found.worst_bulk_ess),
        ("tail", found.min_tail_ess, found.worst_tail_ess),
    ):
        if not least >= MIN_ESS:
            reasons.append(
                f"the draws are worth only {least:.0f} independent values for {worst} ({kind} ESS), at least "
                f"{MIN_ESS:.0f} are needed"
            )
    if reasons:
        reasons.append("sample more draws")
    if found.divergences:
        reasons.append(
            f"{found.divergences} transitions diverged: the sampler missed a part of the posterior. Look at "
            f"{found.worst_tail_ess} first, whose tails are the least certain"
        )
    if unidentified:
        reasons.append(
            f"the responses do not determine the parameters of {len(unidentified)} items "
            f"({some_of(unidentified, 5)}): their estimates only reflect the prior"
        )
    return reasons
