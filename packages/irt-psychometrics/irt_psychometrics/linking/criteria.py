"""The two constants that link the new parameters of anchors to their old ones: four criteria, the constants' errors,
and the differences of anchors.

`alignment` determines the anchors that are used, and `linking` uses the constants.

An anchor has a* = a/slope and b* = slope·b + intercept, so if only the estimates have errors,
    D₁ = ln a_new − ln slope − ln a_old  and  D₂ = slope·b_new + intercept − b_old
are zero in expectation.
The unit of a Rasch fit follows from a = 1, so its slope is 1 and only D₂ is used. The common a of a 1PL fit determines
the slope but contains no information about a single anchor, so only D₂ is used there, too.

Under a 3PL, a, b and c of an item can change together with little effect on its curve, and so can a, b and the
parameters of the scores of an item scored 0 … m. For such an anchor, the moments of its curve over the criterion's
distribution g are compared. The curve of a scored item is its expected share of m:

    T = ∫ (1, θ)ᵀ (P_new − P_old) g(θ) dθ = 0,

as in the test for drift (drift/curves.py). T is converted to the units of the two numbers: D = J⁻¹ T, J = ∂T/∂(ln a, b)
of the old curve; for an item without its own slope, D₂ = T₁/(∂T₁/∂b). Errors of different items are independent under a
3PL. Scored items include the covariances of their a and b with other items. Covariances of t with other items are
omitted: a change of the scale does not change t, and with them the variances of residuals differ by less than .3 % (30
items of 1 to 4 points, 2,000 learners). With few items and learners, the other covariances alone may belong to no joint
distribution; errors of different items then count as independent.

The variation of the anchors' own b and ln a between samples (`variation`) counts as an error of the old parameters.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from typing import Self

import numpy as np

from irt_psychometrics.alignment.common_line import Differences, identifies_slope_and_location
from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.assumed_errors import NODES, WEIGHTS
from irt_psychometrics.core.covariances import (
    add,
    is_positive_definite,
    item_blocks,
    padded,
    times,
    transform,
    with_further,
)
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import items_where, model_of
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.options import Method, Model

NOWHERE = np.empty(0)
_OF_CURVES = ("stocking-lord", "haebara")
_MAX_LOG_SLOPE = np.log(20.0)  # two populations whose SDs differ twentyfold share no useful anchors


@dataclass(frozen=True)
class AnchorPairs:
    """K anchors with their new and old parameters, the same items in the same order.

    Attributes:
        new, old: the parameters in the fit, and in the anchor set.
        models: the items' models.
        nodes, weights: shape (Q,), the distribution on the old scale over which curves are compared.
        nodes_new, weights_new: shape (R,), the distribution on the new scale over which a symmetric criterion compares
            curves, too; empty for a criterion of one direction.
        variation: SDs of the anchors' own ln a and b.
    """

    new: ItemParameters
    old: ItemParameters
    models: tuple[Model, ...]
    nodes: Floats = field(default_factory=lambda: NODES)
    weights: Floats = field(default_factory=lambda: WEIGHTS)
    nodes_new: Floats = field(default_factory=lambda: NOWHERE)
    weights_new: Floats = field(default_factory=lambda: NOWHERE)
    variation: tuple[float, float] = (0.0, 0.0)

    def keep(self, mask: Mask) -> Self:
        ids = [i for i, kept in zip(self.ids, mask, strict=True) if kept]
        models = tuple(compress(self.models, mask))
        return replace(self, new=self.new.select(ids), old=self.old.select(ids), models=models)

    def rmse(self, slope: float, intercept: float) -> float:
        """Root mean squared difference of the old and the linked new curves over θ ~ N(0, 1)."""
        difference = self.old.curve(NODES) - self.new.rescaled(slope, intercept).curve(NODES)
        return float(np.sqrt(np.mean(WEIGHTS @ difference**2)))

    @property
    def ids(self) -> tuple[str, ...]:
        return self.old.item_ids

    @property
    def size(self) -> int:
        return len(self.ids)

    @property
    def free_slope(self) -> bool:
        return not items_where(self.models, lambda model: model.fixed_slopes).all()

    @property
    def tests_slopes(self) -> Mask:
        """Mask of the anchors that have a slope of their own, shape (K,)."""
        return items_where(self.models, lambda model: model.own_slopes)

    @property
    def old_cov(self) -> Floats:
        """Covariance of the old (a, b) including `variation`, in the form of `covariances`."""
        of_a, of_b = self.variation
        varying = np.zeros((self.size, 2, 2))
        varying[:, 0, 0], varying[:, 1, 1] = (self.old.a * of_a) ** 2, of_b**2
        return add(self.old.cov, varying)

    def errors_of_each(self, slope: float, size: int) -> Floats:
        """Covariance of each anchor's D₁, D₂ and differences of `size` further parameters, shape (K, 2 + M, 2 + M).

        The constants are treated as known. Entries are 0 for logit c, which is held.
        """
        errors, scored = np.zeros((self.size, 2 + size, 2 + size)), self._by_scores[:, None, None]
        for side, cov, of_b in ((self.new, self.new.cov, slope), (self.old, self.old_cov, 1.0)):
            by = np.ones((self.size, 2 + size))
            by[:, 0], by[:, 1] = 1 / side.a, of_b
            own = with_further(item_blocks(cov), scored * padded(side.further_cov, self.size, size))
            errors += by[:, :, None] * own * by[:, None]
        return errors

    @property
    def _by_scores(self) -> Mask:
        """Mask of the anchors whose old curves are not determined by a, b and c, shape (K,)."""
        return np.isin(np.arange(self.size), [j for some in self.old.others for j in some.at.tolist()])

    @property
    def _scored(self) -> bool:
        """Whether there are anchors whose curves a, b and c do not determine, all with scores above 1, and no anchor
        has guessing."""
        others, guessed = self.old.others, model_of(self.models).guessed(self.size)
        return bool(others) and all(some.model.highest_score > 1 for some in others) and not guessed.any()

    @property
    def _units(self) -> Floats:
        """J of the module's docstring, shape (K, 2, 2); items without a slope of their own change in b alone."""
        by_ab = np.stack([self.weights, self.weights * self.nodes]) @ self.old.curve_by_ab(self.nodes)
        units = by_ab * np.stack([self.old.a, np.ones(self.size)], axis=1)[:, None]
        return np.where(self.tests_slopes[:, None, None], units, by_b_alone(by_ab))

    @cached_property
    def _by_moments(self) -> Mask:
        """Mask of the anchors whose moments of curves are compared, shape (K,).

        Anchors with a curve so steep that both moments contain the same information are excluded.
        """
        further = self._by_scores | items_where(self.models, lambda model: model.more_than_a_and_b)
        if further.any():
            further[further] = identifies_slope_and_location(self.keep(further)._units)
        return further

    def differences(self, slope: float, intercept: float) -> Differences:
        """D₁ and D₂ of each anchor with the covariance of their errors, without `variation`."""
        new, old = self.new, self.old
        d = np.stack([np.log(new.a / (slope * old.a)), slope * new.b + intercept - old.b], axis=1)
        by_constants, by_new, by_old = np.zeros((3, self.size, 2, 2))
        by_constants[:, 0, 0], by_constants[:, 1, 0], by_constants[:, 1, 1] = -1.0, slope * new.b, 1.0
        by_new[:, 0, 0], by_new[:, 1, 1] = 1 / new.a, slope
        by_old[:, 0, 0], by_old[:, 1, 1] = -1 / old.a, -1.0
        curved = self._by_moments
        by_further_new, by_further_old = (np.zeros((self.size, 2, side.n_further)) for side in (new, old))
        if curved.any():
            some, beta = self.keep(curved), np.array([np.log(slope), intercept])
            moments = -np.stack([some.weights, some.weights * some.nodes])
            some = replace(some, nodes_new=NOWHERE, weights_new=NOWHERE)
            of_new, of_old = (moments @ by for by in _delta_by_parameters(some, beta))
            to_units = np.linalg.inv(some._units)
            theta_old, theta_new = _comparison_points(some, beta)
            d[curved] = (to_units @ (moments @ _delta(some, beta)[:, :, None]))[:, :, 0]
            by_constants[curved] = to_units @ moments @ _delta_by_beta(some, beta)
            by_new[curved], by_old[curved] = to_units @ of_new, to_units @ of_old
            to_moments = "kij,jq,kmq->kim"
            by_further_new[curved] = np.einsum(to_moments, to_units, -moments, some.new.by_further(theta_new))
            by_further_old[curved] = np.einsum(to_moments, to_units, moments, some.old.by_further(theta_old))
        sides = []
        for side, by, by_further in ((new, by_new, by_further_new), (old, by_old, by_further_old)):
            cov = transform(side.cov, by)
            if side.further_cov is not None and curved.any():
                by_all = np.concatenate([by, by_further], axis=2)
                own = by_all @ side.cov_of_all @ by_all.swapaxes(1, 2)
                joint = add(cov, own - item_blocks(cov))
                cov = joint if self._scored and is_positive_definite(joint) else own
            sides.append(cov)
        return Differences(d, by_constants[:, :, 0 if self.free_slope else 1 :], add(*sides), self.tests_slopes)


def by_b_alone(by_ab: Floats) -> Floats:
    """Matrices whose inverse turns the first moment into a difference in b, the second number, shape (K, 2, 2).

    `by_ab` (K, 2, 2) are derivatives of two moments with respect to (a, b). The first number then contains nothing
    about slopes.
    """
    return by_ab[:, 0, 1][:, None, None] * np.array([[0.0, 1.0], [1.0, 0.0]])


def medians(pairs: AnchorPairs) -> tuple[float, float]:
    """Slope and intercept from the medians of the anchors.

    If slopes are fixed, as in a Rasch fit, this slope is exact: 1 unless the old scale has a different unit, such as
    the SD of the learners of its origin.
    """
    slope = float(np.exp(np.median(np.log(pairs.new.a) - np.log(pairs.old.a))))
    return slope, float(np.median(pairs.old.b - slope * pairs.new.b))


@dataclass(frozen=True)
class Constants:
    """The constants and their derivatives.

    Attributes:
        slope, intercept: the constants.
        by_new, by_old: shape (2, 2K), their derivatives with respect to the new, and the old, (a₁, b₁, a₂, b₂, …).
        weights: shape (K,), with mean 1, the weight of each anchor's curve or b.
        by_further_new, by_further_old: shape (2, K, M), derivatives with respect to the items' further parameters; None
            if the criterion or the models have none.
    """

    slope: float
    intercept: float
    by_new: Floats
    by_old: Floats
    weights: Floats
    by_further_new: Floats | None = None
    by_further_old: Floats | None = None

    def covariance(self, pairs: AnchorPairs) -> Floats:
        """Covariance of (slope, intercept), shape (2, 2).

        It follows by the delta method from the errors of the new and the old parameters and the anchors' variation. The
        errors of further parameters belong to it even if only curves are compared: errors of a, b and c cancel there.
        Errors of different items count as independent if the known ones are not a covariance matrix (see the module).
        """
        cov = self._covariance(pairs.new.cov, pairs.old_cov, pairs)
        impossible = (np.diag(cov) < 0).any() or cov[0, 1] ** 2 > cov[0, 0] * cov[1, 1] * (1 + 1e-9)
        return self._covariance(item_blocks(pairs.new.cov), item_blocks(pairs.old_cov), pairs) if impossible else cov

    def _covariance(self, new: Floats, old: Floats, pairs: AnchorPairs) -> Floats:
        cov = times(self.by_new, new) @ self.by_new.T + times(self.by_old, old) @ self.by_old.T
        for by_ab, by_further, items in (
            (self.by_new, self.by_further_new, pairs.new),
            (self.by_old, self.by_further_old, pairs.old),
        ):
            if by_further is not None and items.further_cov is not None:
                cov = cov + further_contribution(by_ab, by_further, items)
        return cov


def further_contribution(by_ab: Floats, by_further: Floats, items: ItemParameters) -> Floats:
    """The contribution of errors of the items' further parameters to the covariance of two constants, shape (2, 2).

    `by_ab` (2, 2K) and `by_further` (2, K, M) are the constants' derivatives.
    """
    with_ab, own = np.split(items.cov_of_all[:, 2:], [2], axis=2)
    together = np.einsum("ikx,kmx,jkm->ij", by_ab.reshape(2, -1, 2), with_ab, by_further)
    both: Floats = together + together.T + np.einsum("ikm,kmn,jkn->ij", by_further, own, by_further)
    return both


def solve(pairs: AnchorPairs, method: Method, weighted: bool) -> Constants | None:
    """The constants by one of the four methods. Returns None if the anchors do not determine them.

    Raises PsychometricsError if `symmetric` is requested of a method that compares no curves.
    """
    if method in _OF_CURVES:
        return _solve_curves(pairs, method, weighted)
    if pairs.nodes_new.size:
        raise PsychometricsError(
            f"{method} compares no curves, so it has one form only: leave out `symmetric`, or choose one of "
            + ", ".join(_OF_CURVES)
        )
    return _solve_moments(pairs, method, weighted)


def _solve_moments(pairs: AnchorPairs, method: Method, weighted: bool) -> Constants | None:
    """Mean-mean and mean-sigma: slope from the anchors' mean a or the SD of their b, intercept from their mean b."""
    start, _ = medians(pairs)
    var_a, var_b = (
        item_blocks(pairs.new.cov)[:, k, k] * scale**2 + item_blocks(pairs.old_cov)[:, k, k]
        for k, scale in ((0, 1 / start), (1, start))
    )  # of a_new/slope − a_old and of D₂
    w_b = 1 / var_b if weighted else np.ones(pairs.size)
    w_b /= w_b.sum()
    mean_new, mean_old = w_b @ pairs.new.b, w_b @ pairs.old.b
    off_new, off_old = pairs.new.b - mean_new, pairs.old.b - mean_old
    slope_new, slope_old = np.zeros((pairs.size, 2)), np.zeros((pairs.size, 2))  # ∂ ln slope/∂(a, b)
    if not pairs.free_slope:
        slope = start
    elif method == "mean-mean":
        w_a = 1 / var_a if weighted else np.ones(pairs.size)
        slope = float((w_a @ pairs.new.a) / (w_a @ pairs.old.a))
        slope_new[:, 0], slope_old[:, 0] = w_a / (w_a @ pairs.new.a), -w_a / (w_a @ pairs.old.a)
    else:
        var_new, var_old = w_b @ off_new**2, w_b @ off_old**2
        if var_new <= 0 or var_old <= 0:
            return None
        slope = float(np.sqrt(var_old / var_new))
        slope_new[:, 1], slope_old[:, 1] = -w_b * off_new / var_new, w_b * off_old / var_old
    slope_new, slope_old = slope * slope_new, slope * slope_old
    intercept_new, intercept_old = -mean_new * slope_new, -mean_new * slope_old
    intercept_new[:, 1] -= slope * w_b
    intercept_old[:, 1] += w_b
    return Constants(
        slope,
        float(mean_old - slope * mean_new),
        np.stack([slope_new.ravel(), intercept_new.ravel()]),
        np.stack([slope_old.ravel(), intercept_old.ravel()]),
        w_b * pairs.size,
    )


def _solve_curves(pairs: AnchorPairs, method: Method, weighted: bool) -> Constants | None:
    """Stocking-Lord: ½ Σ_q w_q (Σ_i ω_i δ_iq)²; Haebara: ½ Σ_q w_q Σ_i ω_i δ_iq², δ = P_old − P_linked at node q.

    P of a scored item is its expected share of the maximum score, so an item does not count more because it has more
    points. A symmetric criterion (Haebara 1980; Kim & Kolen 2007) adds the same sum over the nodes of the new scale, to
    which the old curves are transformed by the inverse constants.

    The minimum β = (ln slope, intercept) solves g(β, x) = 0 in the anchors' parameters x, so ∂β/∂x = −(∂g/∂β)⁻¹ ∂g/∂x.
    Both derivatives omit terms with a factor δ: δ is of the order of the errors, and the delta method is accurate only
    to first order.
    """
    from scipy.optimize import least_squares  # takes an eighth of a second to load, and fits read this module

    n_free = 2 if pairs.free_slope else 1
    start = medians(pairs)
    weights = np.concatenate([pairs.weights, pairs.weights_new])
    omega = _curve_weights(pairs, method, *start) if weighted else np.ones(pairs.size)

    def collapse(by_node: Floats) -> Floats:
        """Turn (K, nodes, m) into rows of residuals: for each anchor and node (Haebara), or summed over anchors."""
        if method == "haebara":
            return (np.sqrt(omega[:, None, None] * weights[:, None]) * by_node).reshape(-1, by_node.shape[2])
        return np.sqrt(weights)[:, None] * np.tensordot(omega, by_node, 1)

    def beta_of(free: Floats) -> Floats:
        return free if n_free == 2 else np.array([np.log(start[0]), free[0]])

    def residuals(free: Floats) -> Floats:
        return collapse(_delta(pairs, beta_of(free))[:, :, None])[:, 0]

    def jacobian(free: Floats) -> Floats:
        return collapse(_delta_by_beta(pairs, beta_of(free)))[:, -n_free:]

    first = np.array([np.log(start[0]), start[1]])[-n_free:]
    if not np.isfinite(residuals(first)).all():
        return None
    found = least_squares(residuals, first, jacobian, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    beta = beta_of(found.x)
    curvature = found.jac.T @ found.jac
    bad = not found.success or not np.isfinite(beta).all() or abs(beta[0]) > _MAX_LOG_SLOPE
    if bad or np.linalg.cond(curvature) > 1e12:
        return None

    slope = float(np.exp(beta[0]))
    by_beta = _delta_by_beta(pairs, beta)[:, :, -n_free:]
    if method == "stocking-lord":
        by_beta = np.broadcast_to(np.tensordot(omega, by_beta, 1), by_beta.shape)

    def influence(by_x: Floats) -> Floats:
        cross = np.einsum("k,q,kqb,kqx->bkx", omega, weights, by_beta, by_x).reshape(n_free, -1)
        by_constant = np.zeros((2, cross.shape[1]))
        by_constant[-n_free:] = -np.linalg.solve(curvature, cross)
        by_constant[0] *= slope
        return by_constant

    by_new, by_old = _delta_by_parameters(pairs, beta)
    constants = Constants(slope, float(beta[1]), influence(by_new), influence(by_old), omega)
    if not (pairs.old.others or items_where(pairs.models, lambda model: model.more_than_a_and_b).any()):
        return constants
    theta_old, theta_new = _comparison_points(pairs, beta)
    by_new, by_old = (by.swapaxes(1, 2) for by in (-pairs.new.by_further(theta_new), pairs.old.by_further(theta_old)))
    return replace(
        constants,
        by_further_new=influence(by_new).reshape(2, pairs.size, -1),
        by_further_old=influence(by_old).reshape(2, pairs.size, -1),
    )


def _comparison_points(pairs: AnchorPairs, beta: Floats) -> tuple[Floats, Floats]:
    """The points at which curves are compared, in θ of the old and of the new scale, shape (nodes,) each.

    They are the nodes of the old scale, then those of the new scale.
    """
    slope, intercept = np.exp(beta[0]), beta[1]
    return (
        np.concatenate([pairs.nodes, slope * pairs.nodes_new + intercept]),
        np.concatenate([(pairs.nodes - intercept) / slope, pairs.nodes_new]),
    )


def _delta(pairs: AnchorPairs, beta: Floats) -> Floats:
    """δ, shape (K, nodes)."""
    theta_old, theta_new = _comparison_points(pairs, beta)
    return pairs.old.curve_at(theta_old)[0] - pairs.new.curve_at(theta_new)[0]


def _delta_by_beta(pairs: AnchorPairs, beta: Floats) -> Floats:
    """∂δ/∂(ln slope, intercept), shape (K, nodes, 2): the constants move a node of one scale on the other scale."""
    slope, q = np.exp(beta[0]), pairs.nodes.size
    theta_old, theta_new = _comparison_points(pairs, beta)
    _, by_z = pairs.new.curve_at(theta_new[:q])
    by_theta = by_z * pairs.new.a[:, None]
    at_old_nodes = np.stack([by_theta * theta_new[:q], by_theta * np.exp(-beta[0])], axis=2)
    if not pairs.nodes_new.size:
        return at_old_nodes
    _, by_z = pairs.old.curve_at(theta_old[q:])
    by_theta = by_z * pairs.old.a[:, None]
    return np.concatenate([at_old_nodes, np.stack([by_theta * slope * pairs.nodes_new, by_theta], axis=2)], axis=1)


def _delta_by_parameters(pairs: AnchorPairs, beta: Floats) -> tuple[Floats, Floats]:
    """∂δ/∂(a, b) of the new and of the old side, each of shape (K, nodes, 2)."""
    theta_old, theta_new = _comparison_points(pairs, beta)
    return -pairs.new.curve_by_ab(theta_new), pairs.old.curve_by_ab(theta_old)


def _curve_weights(pairs: AnchorPairs, method: Method, slope: float, intercept: float) -> Floats:
    """The weights ω, shape (K,), with mean 1.

    They weight by precision (Barrett & van der Linden 2019). v is the error variance of an anchor's δ averaged over θ,
    and s its mean sensitivity. Haebara's squares have the weight 1/v. Stocking-Lord sums before it squares: a common
    shift t moves Σ ωδ by t Σ ωs, s² = E[(∂P/∂b)²], with the error variance Σ ω²v, so ω = s/v estimates t best. v and s
    are computed midway between the new and the old parameters, because weights from the errors of one side bias the
    slope (by 0.3 of its standard error in simulations).
    """
    a = np.sqrt(pairs.old.a * pairs.new.a / slope)
    b = (pairs.old.b + slope * pairs.new.b + intercept) / 2
    theta, _ = _comparison_points(pairs, np.array([np.log(slope), intercept]))
    weights = np.concatenate([pairs.weights, pairs.weights_new])
    size = max(pairs.old.n_further, pairs.new.n_further)
    further = padded(pairs.old.further_cov, pairs.size, size)
    between = replace(
        pairs.old, a=a, b=b, c=(pairs.old.c + pairs.new.c) / 2, further_cov=further
    )  # items of other models keep the old further parameters
    by_x = between.curve_by_ab(theta)
    by_d = by_x * np.stack([a, np.ones_like(a)], axis=1)[:, None, :]  # D₁ is a difference of ln a
    by_d = np.concatenate([by_d, between.by_further(theta).swapaxes(1, 2)], axis=2)
    cov = pairs.errors_of_each(slope, size)
    v = np.einsum("q,kqx,kxy,kqy->k", weights, by_d, cov, by_d)
    omega: Floats = 1 / v if method == "haebara" else np.sqrt(by_d[:, :, 1] ** 2 @ weights) / v
    return omega / omega.mean()
