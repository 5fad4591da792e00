"""Information of items and tests about θ, its loss since publication, and the cost of retiring items.

The information curve of a single item is in `core.curves`.

An item is flagged if its loss *matters*, which means that its average information is below 0.8 of the published one,
and is *certain*, which means that the upper 95 % bound of this ratio R is below 1, after Benjamini & Hochberg (1995)
over the scale's items. Let Ī be the average over the population, y the window's (a, b), including the parameters of its
scores if an item has more than 0 and 1, and p the published values. Then

    log R = log Ī(y) − log Ī(p),    Var log R = g_yᵀ Cov(y) g_y + g_pᵀ Cov(p) g_p − 2 g_yᵀ Cov(y, p) g_p,

g the gradient of log Ī with respect to y and to p. c is held at its published value, as in the test for drift.

An item whose discrimination is not positive has no information: scoring it with the published values is misleading.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from irt_psychometrics.core import curves
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.significance import q_values
from irt_psychometrics.core.testlets import Effects
from irt_psychometrics.drift.errors import Comparison, Published

FALSE_DISCOVERIES = 0.05
KEPT = 0.8
"""Share of the published information below which the loss of an item, or of the test, matters."""
MIDDLE = 0.95
"""Central share of the population over which the loss of the whole test is tested."""
_NODES = 241
_STEPS = 79
_MANY = np.linspace(-30, 30, 2001)
"""Logits at which the greatest information is sought for models without a formula for it."""
_STEP, _TINY = 1e-4, float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Abilities:
    """The population over which information is averaged.

    Attributes
    ----------
    theta
        Shape (Q,), increasing.
    weights
        Shape (Q,), ≥ 0; they are divided by their sum.

    Raises
    ------
    PsychometricsError
        For θ that do not increase, and for weights that are negative, not finite, or all 0.

    Examples
    --------
    >>> from irt_psychometrics.information import Abilities
    >>> low, high = Abilities.normal(mean=0.5, sd=1.2).middle()
    >>> round(low, 1), round(high, 1)
    (-1.9, 2.9)
    """

    theta: Floats
    weights: Floats

    def __post_init__(self) -> None:
        theta, weights = np.asarray(self.theta, dtype=float), np.asarray(self.weights, dtype=float)
        if theta.ndim != 1 or theta.shape != weights.shape or theta.size < 2 or not np.all(np.diff(theta) > 0):
            raise PsychometricsError(
                "abilities need one weight for each of at least two increasing θ,"
                f" got shapes {theta.shape} and {weights.shape}"
            )
        if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
            raise PsychometricsError("weights of abilities must be finite, not negative, and not all 0")
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "weights", weights / weights.sum())

    @classmethod
    def normal(cls, mean: float = 0.0, sd: float = 1.0) -> Self:
        """Make the population N(mean, sd²).

        Parameters
        ----------
        mean, sd
            Mean and SD, sd > 0.

        Returns
        -------
        Abilities
            The density at 241 nodes on mean ± 6 sd.
        """
        unit = Grid.symmetric(_NODES)
        return cls(mean + sd * unit.nodes, np.exp(unit.log_weights()))

    def middle(self, share: float = MIDDLE) -> tuple[float, float]:
        """Find the θ between which the central part of the population lies; half of a node's weight is on either side.

        Parameters
        ----------
        share
            The central part of the population, between 0 and 1.

        Returns
        -------
        (low, high)
            θ at both ends of the central part.
        """
        below = np.cumsum(self.weights) - self.weights / 2
        low, high = np.interp([(1 - share) / 2, (1 + share) / 2], below, self.theta)
        return float(low), float(high)


def item_information(theta: npt.ArrayLike, items: ItemCurves) -> Floats:
    """Fisher information of J items about θ at T abilities, shape (T, J); 0 for an item with a ≤ 0 or without a curve.

    The information of the test is its sum over items.
    """
    return np.where(items.known & (items.a > 0), items.information(theta), 0.0)


def greatest_information(items: ItemCurves) -> Floats:
    """Greatest information of each item at any θ, shape (J,); 0 for an item with a ≤ 0.

    It is a²(1 − 20c − 8c² + (1 + 8c)^1.5)/(8(1 − c)²), or a²/4 for c = 0 (Birnbaum 1968, eq. 20.4.23; Lord 1980,
    eq. 10-4; D = 1). For other models it is the maximum over many θ.
    """
    a, c = items.a, items.c
    found = a**2 * (1 - 20 * c - 8 * c**2 + (1 + 8 * c) ** 1.5) / (8 * (1 - c) ** 2)
    for some in items.others:
        for j in some.at.tolist():
            own = items.select(np.array([j]))
            found[j] = own.information((_MANY - own.d) / own.a).max()
    return np.where(a > 0, found, 0.0)


def conditional_se(information: Floats) -> Floats:
    """1/√information, the standard error of a maximum likelihood θ, in any shape; ∞ if the information is 0."""
    return np.divide(1.0, np.sqrt(information), out=np.full(np.shape(information), np.inf), where=information > 0)


@dataclass(frozen=True)
class Information:
    """Fisher information about θ of J items and of the test that they form, at T abilities.

    Attributes
    ----------
    theta
        Shape (T,), increasing.
    parameters
        The parameters of the J items.
    items
        Shape (T, J), information of each item in units of 1/θ²; 0 for an item with a ≤ 0 or without a curve.
    effects
        Effects of persons in testlets; None if there are none.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.information import Information
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [2, 1], "b": [0, 0]})
    >>> Information.from_parameters(items, 0.0).without({"q2"}).test.tolist()
    [1.0]
    """

    theta: Floats
    parameters: ItemParameters
    items: Floats
    effects: Effects | None = None

    @classmethod
    def from_parameters(cls, parameters: ItemSource, theta: npt.ArrayLike, effects: Effects | None = None) -> Self:
        """Compute the information of items at `theta`.

        Parameters
        ----------
        parameters
            The items: a `Fit`, a `ScaleLink` (the new fit on the old scale), or `ItemParameters`.
        theta
            Shape (T,), increasing abilities, or one ability.
        effects
            Effects of persons in testlets; None: no effects.

        Returns
        -------
        Information
            The information of each item and of the test.

        Raises
        ------
        PsychometricsError
            If `parameters` is none of these.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.information import Information
        >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [2, 1], "b": [0, 0]})
        >>> Information.from_parameters(items, 0.0).test.tolist()
        [1.25]
        """
        parameters = require_items(parameters, "Information.from_parameters")
        theta = np.atleast_1d(np.asarray(theta, dtype=float))
        return cls(theta, parameters, item_information(theta, parameters.curves), effects)

    @property
    def test(self) -> Floats:
        """Joint information of the items, shape (T,), which is 1/SE² of a maximum likelihood θ.

        It is the sum S of the items' information. If testlets have effects, it is the sandwich information
        S²/(S + σ² Σ_t Σ_{j≠k ∈ t} I_j I_k) (Godambe 1960), with the same covariances of answers as in `eap_by`.
        """
        total: Floats = self.items.sum(axis=1)
        if self.effects is None:
            return total
        pairs = np.zeros_like(total)
        for t in range(self.effects.testlet.max() + 1):
            own = self.items[:, self.effects.testlet == t]
            pairs += own.sum(axis=1) ** 2 - (own**2).sum(axis=1)
        return np.where(total > 0, total / (1 + self.effects.sd**2 * pairs / np.maximum(total, 1e-300)), 0.0)

    @property
    def se(self) -> Floats:
        """Conditional standard error of a maximum likelihood θ, shape (T,); ∞ if there is no information."""
        return conditional_se(self.test)

    @property
    def greatest(self) -> Floats:
        """Greatest information of each item at any θ, shape (J,)."""
        return greatest_information(self.parameters.curves)

    def without(self, retired: Collection[str]) -> Self:
        """The test without some of its items.

        Parameters
        ----------
        retired
            Ids of the items to leave out.

        Returns
        -------
        Information
            Information of the remaining items at the same θ.

        Raises
        ------
        PsychometricsError
            For an item that is not in the test.
        """
        ids = self.parameters.item_ids
        unknown = sorted(set(retired) - set(ids))
        if unknown:
            raise PsychometricsError(
                f"{len(unknown)} items to be retired are not among the {len(ids)} of the test:"
                f" {', '.join(unknown[:5])}; remove them from the list"
            )
        stays = ~np.isin(np.array(ids, dtype=object), list(retired))
        remaining = None if self.effects is None else Effects(self.effects.testlet[stays], self.effects.sd)
        kept = self.parameters.select([item for item, is_kept in zip(ids, stays, strict=True) if is_kept])
        return replace(self, parameters=kept, items=self.items[:, stays], effects=remaining)

    def relative_efficiency(self, whole: Information) -> Floats:
        """Information of this test divided by the information of another test (Lord 1980, ch. 6).

        This test would have to be 1/efficiency times as long, with items like its own, to measure as well as `whole`.

        Parameters
        ----------
        whole
            The other test, at the same θ.

        Returns
        -------
        array of shape (T,)
            The ratio at each θ; NaN if `whole` has no information.
        """
        after, before = self.test, whole.test
        return np.divide(after, before, out=np.full(before.shape, np.nan), where=before > 0)

    def theta_with_se_above(self, limit: float) -> tuple[tuple[float, float], ...]:
        """The intervals of θ in which the conditional standard error exceeds a limit.

        Parameters
        ----------
        limit
            Standard error of θ, above 0.

        Returns
        -------
        tuple of (low, high)
            Intervals within the range of `theta`.

        Raises
        ------
        PsychometricsError
            For a limit that is not positive.
        """
        if not limit > 0:
            raise PsychometricsError(f"the limit on the standard error must be positive, got {limit}")
        return _below(self.theta, self.test, 1 / limit**2)


@dataclass(frozen=True)
class ItemLosses:
    """Average information of the J compared items, published and in the window.

    Attributes
    ----------
    published, now
        Shape (J,), information averaged over the population, in units of 1/θ².
    log_se
        Shape (J,), standard error of log(now/published); NaN if the item has a ≤ 0 now.
    p, q
        Shape (J,), one-sided p value of the hypothesis that the information did not fall (that a did not fall, if
        a ≤ 0 now), and the q value over the items.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.information import ItemLosses
    >>> known = {"published": [0.5, 0.4], "now": [0.3, 0.4], "log_se": [0.1, 0.1], "p": [0.001, 0.5], "q": [0.002, 0.5]}
    >>> ItemLosses(("q1", "q2"), **{name: np.array(values) for name, values in known.items()}).flagged
    ('q1',)
    """

    item_ids: tuple[str, ...]
    published: Floats
    now: Floats
    log_se: Floats
    p: Floats
    q: Floats

    @property
    def ratio(self) -> Floats:
        """now/published, shape (J,), ≥ 0."""
        return self.now / self.published

    @property
    def upper(self) -> Floats:
        """One-sided upper 95 % bound of each item's ratio, separately for each item, shape (J,); NaN if a ≤ 0 now."""
        return self.ratio * np.exp(ndtri(0.95) * self.log_se)

    @property
    def flagged(self) -> tuple[str, ...]:
        """Items whose loss matters and is certain (see the module)."""
        lost = (self.ratio < KEPT) & (self.q < FALSE_DISCOVERIES)
        return tuple(item for item, is_lost in zip(self.item_ids, lost, strict=True) if is_lost)


def losses_of_items(comparison: Comparison, abilities: Abilities) -> ItemLosses:
    """Test the loss of each compared item.

    `comparison` belongs to the window's `Drift`, so its errors include the items' variation. Raises PsychometricsError,
    which names the items, if published items have no information in this population (a ≤ 0).
    """
    old = comparison.published
    sides = [_information(abilities.theta, of) for of in (_with_old_c(comparison), old)]  # (Q, J), (Q, J, 2)
    now, published = (abilities.weights @ information for information, _ in sides)
    _require_published(old, published)
    by_now, by_published = (np.tensordot(abilities.weights, gradient, axes=1) for _, gradient in sides)
    lost = now <= 0
    now_or_1 = np.where(lost, 1.0, now)
    variance = _variance(comparison, by_now / now_or_1[:, None], by_published / published[:, None])
    log_se = np.where(lost, np.nan, np.sqrt(variance))
    change, se = np.log(now_or_1 / published), log_se
    if lost.any():
        change = np.where(lost, comparison.delta[:, 0], change)
        se = np.where(lost, np.sqrt(comparison.cov[:, 0, 0]), se)
    p = ndtr(change / se)
    return ItemLosses(comparison.item_ids, published, now, log_se, p, q_values(p))


class GreatestLoss(NamedTuple):
    """θ of the greatest loss, the ratio there, and its 95 % interval (for this θ alone)."""

    theta: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class LossOfTest:
    """Loss of the test of all compared items, in the middle of the population.

    Attributes
    ----------
    theta
        Shape (T,).
    published, now
        Shape (T,), test information at θ, published and in the window.
    log_se
        Shape (T,), pointwise standard error of log(now/published) at each θ; NaN if no information is left.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.information import LossOfTest
    >>> loss = LossOfTest(np.array([-1.0, 1.0]), np.array([4.0, 4.0]), np.array([4.0, 3.0]), np.array([0.1, 0.1]))
    >>> loss.worst.theta, loss.flagged, loss.certain
    (1.0, True, True)
    """

    theta: Floats
    published: Floats
    now: Floats
    log_se: Floats

    @property
    def ratio(self) -> Floats:
        """now/published, shape (T,), ≥ 0."""
        return self.now / self.published

    @property
    def flagged(self) -> bool:
        """Whether more than a fifth of the information is lost at any θ."""
        return bool(self.ratio.min() < KEPT)

    @property
    def certain(self) -> bool:
        """Whether the interval at the θ of the greatest loss lies below 1; False if there is no interval."""
        return self.worst.high < 1

    @property
    def worst(self) -> GreatestLoss:
        """The θ of the greatest loss, with the ratio and its interval there."""
        k = int(self.ratio.argmin())
        half = ndtri(0.975) * self.log_se[k]
        low, high = self.ratio[k] * np.exp([-half, half])
        return GreatestLoss(float(self.theta[k]), float(self.ratio[k]), float(low), float(high))


def loss_of_test(comparison: Comparison, abilities: Abilities) -> LossOfTest:
    """Test the loss of the compared items together over the middle 95 % of the population.

    An error of the linking constants moves all items together. It is added as a common error for the items that are not
    anchors. The constants are computed from the anchors, so the anchors' errors cancel on average and are treated as
    independent. Raises PsychometricsError if no item could be compared, or if a published item has no information.
    """
    if not comparison.item_ids:
        raise PsychometricsError("no item is both published and estimated in this window, so the test cannot be judged")
    theta, old = np.linspace(*abilities.middle(), _STEPS), comparison.published
    now, by_now = _information(theta, _with_old_c(comparison))
    published, by_published = _information(theta, old)
    _require_published(old, published.sum(axis=0))
    now, published = now.sum(axis=1), published.sum(axis=1)
    lost = now <= 0
    by_now = by_now / np.where(lost, 1.0, now)[:, None, None]
    by_published = by_published / published[:, None, None]
    own = _variance(comparison, by_now, by_published).sum(axis=1)
    led = ~np.isin(comparison.item_ids, comparison.linking.anchors_used)
    shared = np.einsum("tjk,jkl->tl", by_now[:, led, :2], _by_constants(comparison)[led])
    variance = own + np.einsum("tk,kl,tl->t", shared, comparison.linking.cov, shared)
    return LossOfTest(theta, published, now, np.where(lost, np.nan, np.sqrt(variance)))


@dataclass(frozen=True)
class InformationLoss:
    """Information that was lost since publication, by item and in the test of all compared items.

    Attributes
    ----------
    items
        The loss of each item.
    test
        The loss of the test; None if no item was compared.
    abilities
        The population over which information is averaged.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.information import Abilities, InformationLoss, ItemLosses
    >>> items = ItemLosses(("q1",), *(np.array([x]) for x in (0.5, 0.3, 0.1, 0.001, 0.002)))
    >>> InformationLoss(items, None, Abilities.normal(0.5, 1.2)).items.ratio.tolist()
    [0.6]
    """

    items: ItemLosses
    test: LossOfTest | None
    abilities: Abilities

    @classmethod
    def from_comparison(cls, comparison: Comparison, *, mean: float = 0.0, sd: float = 1.0) -> Self:
        """Test the losses of the compared items over a normal population.

        Items whose published values are of a different model are left out, because an item's information differs
        between models.

        Parameters
        ----------
        comparison
            The comparison of the window's `Drift`, whose errors include the items' variation.
        mean, sd
            Mean and SD of the population, sd > 0.

        Returns
        -------
        InformationLoss
            The losses of the items and of the test.

        Raises
        ------
        PsychometricsError
            If published items have no information in this population (a ≤ 0). The message names them.
        """
        comparison, abilities = comparison.select(~comparison.across_models), Abilities.normal(mean, sd)
        test = loss_of_test(comparison, abilities) if comparison.item_ids else None
        return cls(losses_of_items(comparison, abilities), test, abilities)


def _below(theta: Floats, values: Floats, least: float) -> tuple[tuple[float, float], ...]:
    """Intervals of θ in which the polygon through the values is below `least`."""
    gap = values - least
    low = gap < 0
    k = np.flatnonzero(low[1:] != low[:-1])
    edges = list(theta[k] + (theta[k + 1] - theta[k]) * gap[k] / (gap[k] - gap[k + 1]))
    edges = [theta[0], *edges] if low[0] else edges
    edges = [*edges, theta[-1]] if low[-1] else edges
    return tuple((float(x), float(y)) for x, y in zip(edges[::2], edges[1::2], strict=True))


def _information(theta: Floats, items: ItemParameters) -> tuple[Floats, Floats]:
    """Item information, shape (T, J), and its gradient with respect to a, b and the parameters of scores, shape (T, J,
    P).

    The gradient is 0 for logit c. log I is 2 log a plus a function of η.
    """
    a = items.a
    information = item_information(theta, items.curves)
    distance = theta[:, None] - items.b
    by_eta = curves.log_information_slope_at(a * distance, items.c)
    if items.others:
        up, down = (np.log(np.maximum(items.curves.information(theta + x), _TINY)) for x in (_STEP, -_STEP))
        for some in items.others:
            by_eta[:, some.at] = ((up - down) / (2 * _STEP * a))[:, some.at]
    positive = np.where(a > 0, a, 1.0)  # other items have no information and no gradient
    by_a = information * (2 / positive + distance * by_eta)
    gradient = np.zeros((*information.shape, 2 + items.n_further))
    gradient[:, :, 0], gradient[:, :, 1] = by_a, -a * information * by_eta
    for some in items.others:
        own = some.parameters(a, items.d)
        for row in range(2, len(own)):
            moved = _STEP * (np.arange(len(own)) == row)[:, None]
            up, down = (some.model.information(theta, own + x, some.categories).T for x in (moved, -moved))
            gradient[:, some.at, row] = np.where(a[some.at] > 0, (up - down) / (2 * _STEP), 0.0)
    return information, gradient


def _with_old_c(comparison: Comparison) -> ItemParameters:
    """The window's items, with the published c."""
    return replace(comparison.window, c=comparison.published.c)


def _by_constants(comparison: Comparison) -> Floats:
    """Derivatives of the window's (a, b) = (a/slope, slope·b + intercept) with respect to (slope, intercept), shape (J,
    2, 2)."""
    linking, out = comparison.linking, np.zeros((len(comparison.item_ids), 2, 2))
    out[:, 0, 0] = -comparison.window.a / linking.slope
    out[:, 1, 0] = (comparison.window.b - linking.intercept) / linking.slope
    out[:, 1, 1] = 1.0
    return out


def _require_published(published: Published, information: Floats) -> None:
    """Raise PsychometricsError, which names the items, if the published `information` (J,) of items is 0."""
    named = [item for item, x in zip(published.item_ids, information, strict=True) if not x > 0]
    if named:
        raise PsychometricsError(
            f"{len(named)} published {'item has' if len(named) == 1 else 'items have'} no information where "
            f"the learners are: {', '.join(named[:5])}; a published a must be positive, so correct or withdraw these "
            "values"
        )


def _variance(comparison: Comparison, by_now: Floats, by_published: Floats) -> Floats:
    """Variance of numbers with these gradients (…, J, P) with respect to the window's and the published items, shape
    (…, J)."""
    of, both = "...jk,jkl,...jl->...j", comparison.shared  # Cov(y, p)
    return (
        np.einsum(of, by_now, comparison.cov_window, by_now)
        + np.einsum(of, by_published, comparison.published.cov_of_all, by_published)
        - 2 * np.einsum(of, by_now[..., :2], both, by_published[..., : both.shape[2]])
    )
