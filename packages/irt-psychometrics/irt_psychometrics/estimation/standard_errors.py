"""Compute the covariance of item parameters from the observed information, and find unidentified parameters."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask, block_diagonal
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.estimation.marginal import Point, Problem, hold_parameters
from irt_psychometrics.estimation.parameter_layout import ParameterLayout

VARIANCE_INFLATION_LIMIT = 1e5
"""A parameter is unidentified if its variance exceeds the variance with known abilities by more than this factor."""
FULL_COVARIANCE_ITEMS = 2000
"""Maximum number of items for the full matrix (16 J² bytes a copy, J³ work). With more items, each item's block is
inverted separately."""
FULL_COVARIANCE_ITEMS_WITH_GUESSING = 500
"""The same limit with guessing. The work per learner then also grows with the square of the number of items answered
correctly."""
FULL_COVARIANCE_PARAMETERS = 4000
"""The same limit for items with more than two scores. It counts parameters, because items differ in their number of
parameters."""
MIN_FROM_ANSWERS = 0.1
"""c is unidentified if the answers add less than this share of the prior's information on logit c."""
_SHARE = 0.01  # minimum share of a singular direction's squared length that makes a parameter unidentified


@dataclass(frozen=True)
class Errors:
    """Covariances of a fit's parameters.

    Attributes
    ----------
    cov
        Shape (J, K, K), covariance of each item's parameters.
    joint
        Covariance of a_1, d_1, a_2, … and then, item by item, of the free parameters of scores. None if only the items'
        blocks are computed.
    latent
        Shape (G, 2), variance of each group's mean and log SD; 0 if fixed, NaN if not determined.
    unidentified, guessing_unidentified
        Shape (J,), whether the answers do not determine a or d of an item, and whether they do not determine c.
    effective_df
        Degrees of freedom that the penalties leave to the weights of histograms.
    """

    cov: Floats
    joint: Floats | None
    latent: Floats
    unidentified: Mask
    guessing_unidentified: Mask
    effective_df: float = 0.0


def errors(
    problem: Problem,
    point: Point,
    at_bound: Mask,
    *,
    products: Callable[[Point], Floats] | None = None,
    abilities_known: bool = False,
) -> Errors:
    """Invert the observed information at a maximum, with the parameters that stopped at a bound held.

    Parameters
    ----------
    problem, point
        The problem and its maximum.
    at_bound
        Shape (size,), whether a free parameter stopped at a bound.
    products
        Function that returns Σ s sᵀ of the learners' scores, shape (F, F). The result is then the sandwich
        H⁻¹ (Σ s sᵀ) H⁻¹ (White 1982; for item response models Yuan, Cheng & Patton 2014). It is valid if answers of a
        learner depend on each other beyond θ, for the parameters to which estimates converge as samples grow. It
        is ignored if only blocks are inverted.
    abilities_known
        Whether to invert each item's complete-data information instead, for the parameters of items alone.

    Returns
    -------
    Errors
        All values of items with a slope at a bound, and of unidentified items, are NaN. The covariance of the other
        items is restricted to the directions that the data determine. The weights of a histogram are treated as
        estimated together with the items, or as known if only blocks are inverted.
    """
    if abilities_known:
        return _errors_with_known_abilities(problem, point, at_bound)
    if not computes_full_covariance(problem):
        return _blocks(problem, point, at_bound)
    return _joint(problem, point, at_bound, products)


def no_errors(problem: Problem, point: Point) -> Errors:
    """Errors of a fit made for its likelihood: all are NaN, and no item is unidentified.

    The effective degrees of freedom of histograms are computed.
    """
    s, J = problem.structure, problem.data.n_items
    none, effective_df = np.zeros(J, dtype=bool), 0.0
    if problem.latent.n_free_weights:
        free, _ = problem.histograms.free_directions(point.log_weights)
        own = free.T @ block_diagonal(*problem.information_of_weights(point)) @ free
        penalty = problem.histograms.penalty_information(point.log_weights, free)
        effective_df = _effective_df(scaled_inverse(own), penalty)
    return Errors(
        np.full((J, s.K, s.K), np.nan), None, np.full((s.n_groups, 2), np.nan), none, none.copy(), effective_df
    )


def _errors_with_known_abilities(problem: Problem, point: Point, at_bound: Mask) -> Errors:
    s, found = problem.structure, no_errors(problem, point)
    own = (s.index >= 0)[: s.K * s.n_items].reshape(s.K, -1).T
    cov: Floats = np.where(
        own[:, :, None] & own[:, None, :], np.linalg.inv(hold_parameters(point.information, own)), 0.0
    )
    cov[s.items_using(at_bound)] = np.nan
    return replace(found, cov=cov)


def require_one_matrix(structure: ParameterLayout) -> None:
    """Raise PsychometricsError if blocks of items share steps and there are too many parameters for one matrix."""
    size = len(structure.listed) - 2 * structure.n_groups
    if structure.steps_of is not None and size > FULL_COVARIANCE_PARAMETERS:
        raise PsychometricsError(
            f"errors of a rating scale model are computed for up to {FULL_COVARIANCE_PARAMETERS} parameters of items, "
            f"and there are {size}. Fit fewer items at once, or fit a PCM"
        )


def computes_full_covariance(problem: Problem) -> bool:
    """Whether the information of all items together is computed."""
    s = problem.structure
    if s.n_scores:
        return len(s.listed) - 2 * s.n_groups <= FULL_COVARIANCE_PARAMETERS
    limit = FULL_COVARIANCE_ITEMS if s.K == 2 else FULL_COVARIANCE_ITEMS_WITH_GUESSING
    return problem.data.n_items <= limit


class MatrixSize(NamedTuple):
    """Size of the information of all items together, and the maximum size that is computed, both in `unit`."""

    size: int
    most: int
    unit: str

    @classmethod
    def from_model(cls, model: ItemModel, categories: Ints) -> Self:
        """The size for a model and the items' numbers of categories, shape (J,)."""
        if model.path != "logistic":
            size = 2 * len(categories) + int(model.free(categories)[2:].sum())
            return cls(size, FULL_COVARIANCE_PARAMETERS, "parameters")
        most = FULL_COVARIANCE_ITEMS_WITH_GUESSING if model.more_than_a_and_b else FULL_COVARIANCE_ITEMS
        return cls(len(categories), most, "items")


def _joint(problem: Problem, point: Point, at_bound: Mask, products: Callable[[Point], Floats] | None) -> Errors:
    s, J = problem.structure, problem.data.n_items
    free = ~at_bound
    free[s.index[s.weights]] = False
    w = len(s.listed)
    columns = s.shared_columns(s.listed, free)
    scale = problem.information_scale(point)[free]
    profile = _Profile.from_problem(problem, point) if problem.latent.n_free_weights else None
    observed = problem.observed_information(point) if profile is None else profile.information
    information = columns.add_up(observed) / np.outer(scale, scale)
    covariance, lost = inverse(information)
    full = columns.spread(covariance / np.outer(scale, scale))
    if products is not None:
        made = products(point)
        full = full @ (made[np.ix_(s.listed, s.listed)] if profile is None else profile.effective(made)) @ full
    elif profile is not None:
        full = profile.sampling_variance(full)
    share = np.zeros(s.weights.start)
    share[s.listed] = columns.spread(lost)
    share_of_c = share[s.block(2)].copy()
    of_curve = share[: s.n_curve * J].reshape(-1, J)
    of_curve[2:3, s.guessed] = 0.0
    unidentified = of_curve.max(axis=0) > _SHARE
    missing = unidentified | s.items_using(at_bound)
    of_scores = s.listed_at[2 : 2 + s.n_scores].T
    steps = (of_scores >= 0) & ~s.guessed[:, None]
    kept = np.concatenate([s.listed_at[:2].T.ravel(), of_scores[steps]])
    joint = full[np.ix_(kept, kept)]
    lacking = np.concatenate([np.repeat(missing, 2), np.repeat(missing, steps.sum(axis=1))])
    joint[lacking] = np.nan
    joint[:, lacking] = np.nan
    weak_c, at = np.zeros(J, dtype=bool), s.listed_at.T
    has = at >= 0
    cov: Floats = np.where(has[:, :, None] & has[:, None, :], full[at[:, :, None], at[:, None, :]], 0.0)
    if s.guessed.any():
        lost_c = s.guessed & (share_of_c > _SHARE)
        weak_c = _guessing_weakly_identified(problem, point, cov[:, 2, 2], at_bound) | lost_c
        _forget_guessing(cov, lost_c | (s.guessed & s.section_mask(at_bound, s.block(2))))
    cov[missing] = np.nan
    latent = np.where(share[s.means.start :] > _SHARE, np.nan, np.diag(full)[w - 2 * s.n_groups :])
    latent[s.section_mask(at_bound, slice(s.means.start, s.weights.start))] = np.nan
    if profile is not None:
        latent = profile.latent_variances(full)
    effective_df = 0.0 if profile is None else _effective_df(profile.own, profile.penalty)
    return Errors(cov, joint, latent.reshape(2, -1).T, unidentified, weak_c, effective_df)


def _forget_guessing(cov: Floats, of: Mask) -> None:
    cov[of, 2] = cov[of, :, 2] = np.nan


@dataclass(frozen=True)
class _Profile:
    """Information of all other parameters if the log weights of histograms are estimated as well.

    Attributes
    ----------
    information
        Shape (F, F), information of the F other parameters. The weights are free except that they keep origin and unit.
    regression
        Shape (W, F), coefficients of the weights' W free directions on the other parameters.
    own
        Shape (W, W), covariance of these directions with the other parameters known.
    penalty
        Shape (W, W), part of the inverse of `own` that comes from penalties.
    by_moment
        Shape (2G, W), derivatives of each group's mean and log SD with respect to these directions.
    free
        Shape (GQ, W), these directions in the log weights.
    """

    information: Floats
    regression: Floats
    own: Floats
    penalty: Floats
    by_moment: Floats
    free: Floats

    @classmethod
    def from_problem(cls, problem: Problem, point: Point) -> Self:
        s = problem.structure
        whole, before = problem.information_with_weights(point), len(s.listed)
        free, moments = problem.histograms.free_directions(point.log_weights)
        shared, own = whole[:before, before:] @ free, free.T @ whole[before:, before:] @ free
        covariance = scaled_inverse(own)
        regression = covariance @ shared.T
        return cls(
            whole[:before, :before] - shared @ regression,
            regression,
            covariance,
            problem.histograms.penalty_information(point.log_weights, free),
            moments @ free,
            free,
        )

    def sampling_variance(self, covariance: Floats) -> Floats:
        """Variance over samples, from the inverse of `information` (Gray 1992).

        It removes the apparent information of the penalties, which are not evidence.
        """
        moved = self.regression @ covariance
        return covariance - moved.T @ self.penalty @ moved

    def effective(self, products: Floats) -> Floats:
        """Sum of products of the other parameters' scores, adjusted for the weights' directions, shape (F, F).

        `products` is the sum of products of all scores.
        """
        by_weights = self.free @ self.regression
        others = len(products) - len(by_weights)
        shared = products[:others, others:] @ by_weights
        own = by_weights.T @ products[others:, others:] @ by_weights
        return products[:others, :others] - shared - shared.T + own

    def latent_variances(self, covariance: Floats) -> Floats:
        """Variances of means and log SDs, shape (2G,); 0 if constraints fix them."""
        moved = self.by_moment @ self.regression
        found = np.diag(self.by_moment @ self.own @ self.by_moment.T + moved @ np.nan_to_num(covariance) @ moved.T)
        order = found.reshape(-1, 2).T.ravel()
        return np.where(order < 1e-12, 0.0, order)


def _effective_df(covariance: Floats, penalty: Floats) -> float:
    """Effective degrees of freedom of weights, from their covariance and the penalty's information, (W, W) each.

    They are the trace of A(A + P)⁻¹ with the answers' information A and the penalty's P (Gray 1992).
    """
    return float(len(covariance) - np.sum(covariance * penalty))


def scaled_inverse(information: Floats) -> Floats:
    """The result of `inverse`, without the shares, for an information matrix (P, P) in any units."""
    unit = 1 / np.sqrt(np.abs(np.diag(information)))
    covariance, _ = inverse(information * np.outer(unit, unit))
    return covariance * np.outer(unit, unit)


def _blocks(problem: Problem, point: Point, at_bound: Mask) -> Errors:
    """Errors if the other items are treated as known, but not a common slope and free latent means and SDs.

    Such errors miss the variance that items share through the origin and unit of θ, of the order of 1/N. This variance
    is small if each item is seen by a small part of the N persons, as in every design with this many items. With 30 of
    300 items per person (simulated, N = 5000), slope errors were up to 0.7 % too small and intercept errors up to
    2.2 %. In a complete design (2000 × 50), which does not need this method, they were 4 % and 18 % too small.
    """
    s, J, K = problem.structure, problem.data.n_items, problem.structure.K
    free = (s.index >= 0) & ~at_bound[s.index]
    shared = np.unique(s.index[s.means.start : s.weights.start][free[s.means.start : s.weights.start]])
    own = free[: K * J].reshape(K, J).T.copy()
    alike = s.common_slopes
    own[alike, 0] = False
    if alike.any() and not at_bound[s.common_place]:
        shared = np.concatenate([[s.common_place], shared])
    inverted = np.linalg.inv(hold_parameters(problem.observed_blocks(point), own))
    cov: Floats = np.where(own[:, :, None] & own[:, None, :], inverted, 0.0)
    latent = np.zeros(2 * s.n_groups)
    if len(shared):
        information, coupling = _shared_information(problem, point, shared, own)
        moved = -cov @ coupling
        covariance = np.linalg.inv(information + np.einsum("jkp,jkq->pq", coupling, moved))
        if alike.any() and shared[0] == s.common_place:
            moved[alike, 0, 0] = 1.0
        cov = cov + moved @ covariance @ moved.transpose(0, 2, 1)
        places = s.index[s.means.start : s.weights.start]
        position = np.searchsorted(shared, places)
        known = np.isin(places, shared)
        latent[known] = np.diag(covariance)[position[known]]
    inflation = np.einsum("jkk,jkk->jk", cov, point.information)
    sound = (inflation >= 0) & (inflation < VARIANCE_INFLATION_LIMIT)
    sound_c = sound[:, 2:3].all(axis=1)
    sound[s.guessed, 2:3] = True
    unidentified = ~sound[:, : s.n_curve].all(axis=1)
    stopped = s.items_using(at_bound)
    cov[stopped | unidentified] = np.nan
    weak_c = np.zeros(J, dtype=bool)
    if s.guessed.any():
        weak_c = _guessing_weakly_identified(problem, point, cov[:, 2, 2], at_bound) | (s.guessed & ~sound_c)
        _forget_guessing(cov, s.guessed & (~sound_c | s.section_mask(at_bound, s.block(2))))
    shape, effective_df = latent.reshape(2, -1).T, problem.latent.n_free_weights
    return Errors(cov, None, shape, unidentified & ~stopped, weak_c, effective_df)


def _shared_information(problem: Problem, point: Point, shared: np.ndarray, own: Mask) -> tuple[Floats, Floats]:
    """Information of the P shared parameters, (P, P), and their information with each item's own parameters, (J, K, P).

    They are computed from differences of gradients.
    """
    s, J, K = problem.structure, problem.data.n_items, problem.structure.K
    table = problem.gradient_differences(point, shared)
    coupling = table[s.index[: K * J]].reshape(K, J, -1).transpose(1, 0, 2)
    return table[shared], np.where(own[:, :, None], coupling, 0.0)


def _guessing_weakly_identified(problem: Problem, point: Point, variance: Floats, at_bound: Mask) -> Mask:
    """Whether the free c of an item is `weakly_identified` or at a bound. False if c is known from another fit."""
    s, prior = problem.structure, problem.priors.c
    logit_c = np.where(s.guessed, s.expand(point.x)[s.block(2)], 0.0)
    known = np.zeros(s.n_items) if prior is None else prior.terms(logit_c).bend
    free = s.guessed & (s.index[s.block(2)] >= 0) & ~np.isfinite(problem.known_logit_c)
    return free & (weakly_identified(variance, known) | s.section_mask(at_bound, s.block(2)))


def weakly_identified(variance: Floats, known: Floats | float) -> Mask:
    """Whether the answers contribute too little to a logit c with this variance, shape (J,).

    The limit of their information is a tenth of the prior's (`known`), and at least the information that c is uniform
    on (0, 1), whose logit has variance π²/3.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        from_answers = 1 / variance - known
    return ~(from_answers >= np.maximum(MIN_FROM_ANSWERS * known, 3 / np.pi**2))


def inverse(information: Floats) -> tuple[Floats, Floats]:
    """Inverse of a scaled information matrix (P, P), and each parameter's share (P,) in its singular directions.

    If there are singular directions (or directions of negative information), the inverse is restricted to the other
    directions. It is exact for parameters with a share of 0.
    """
    try:
        np.linalg.cholesky(information)
        whole: Floats | None = np.asarray(np.linalg.inv(information), dtype=np.float64)
    except np.linalg.LinAlgError:  # not positive definite
        whole = None
    if whole is not None and np.diag(whole).max() < VARIANCE_INFLATION_LIMIT:
        return whole, np.zeros(len(information))
    values, vectors = np.linalg.eigh(information)
    sound = values > 1.0 / VARIANCE_INFLATION_LIMIT
    part: Floats = (vectors[:, sound] / values[sound]) @ vectors[:, sound].T
    return part, (vectors[:, ~sound] ** 2).sum(axis=1)
