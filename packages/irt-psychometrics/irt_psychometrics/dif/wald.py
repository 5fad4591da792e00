"""Wald test of whether an item differs between groups of learners at equal ability.

This module tests each item and measures its difference. The fits and the anchors are in split_items.py, the selection
of groups in analysis.py, and methods that match on scores in mantel_haenszel.py, mantel.py and logistic.py.

Let x_g be the parameters of an item's copy in group g (a, d and, for a 3PL, logit c or, for an item scored 0 … m, the t
of its scores). Let P_g be its curve (for a scored item, the expected score divided by m). The hypothesis is

    T_f = ∫ (1, z)ᵀ (P_f − P_reference) g(θ) dθ = 0

for all focal groups f together, where g is the normal distribution with the mean and variance of both groups' θ, and z
is θ standardised by it. T_f = H_f·(x_f − x_reference), where H_f is the mean of the derivatives of ∫ (1, z)ᵀ P g over
the straight line between the two sets of parameters. Without c, H_f is square, and the test is equivalent to a test of
the parameters themselves (Lord 1980, ch. 14). With c, which can compensate for a and d with little effect on the curve,
the test covers only what the answers determine. A scored item is tested as a whole, by two numbers for any m. So a
group in which nobody got some score can be compared. Steps that differ without a difference in the expected score do
not flag the item; `core.category_changes` tests and names them. If items have no slopes of their own, only the first
component is tested. The first component is also the difference of expected scores at equal ability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy.special import chdtrc

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.category_changes import CategoryChanges, with_common_q
from irt_psychometrics.core.curves import (
    HIGH_WABC,
    MEDIUM_WABC,
    by_asymptote_at,
    probability_at,
    slope_at,
)
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import ItemCurves, OtherItems, select_others
from irt_psychometrics.core.logistic import expit
from irt_psychometrics.core.models import pool_moments
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.significance import q_values
from irt_psychometrics.dif.split_items import ANCHOR_P, Copies, Groups

Severity = Literal["none", "small", "medium", "high"]

FALSE_DISCOVERIES = 0.05
FARTHEST_B, FLATTEST_A = 6.0, 0.2
"""If |b| is larger or a is smaller in either group, the difficulty is an extrapolation. Δb is then NaN, and the
difference of expected scores replaces it."""
_ON_THE_WAY = np.polynomial.legendre.leggauss(7)


@dataclass(frozen=True, kw_only=True)
class Differences:
    """J items compared between a reference group and F focal groups, on the reference group's scale.

    Attributes:
        mean, sd: shape (F + 1,), of θ in each group; 0 and 1 for the reference (under a Rasch model, its SD is
            estimated).
        df: shape (J,), the number of differences tested; 0 for items that cannot be compared.
        wald: shape (J,), Wald statistic of the hypothesis "no group differs"; NaN if df is 0.
        delta: shape (F, J, 2), focal minus reference in (a, b); NaN if a group has no estimate. The difference in b is
            also NaN if |b| > 6 or a < 0.2 in either group, because such a difficulty is an extrapolation.
        se: shape (F, J, 2), standard errors of delta, including the covariance between the two copies.
        wabc: shape (F, J), ∫ |P_focal − P_reference| over both groups' θ (Edelen, Stucky & Chandra 2015).
        shift: shape (F, J), ∫ (P_focal − P_reference) over both groups' θ, the difference of expected scores at equal
            ability. Below 0, the item is harder for the focal group.
        shift_se: shape (F, J), standard errors of shift.
    """

    mean: Floats
    sd: Floats
    df: Ints
    wald: Floats
    delta: Floats
    se: Floats
    wabc: Floats
    shift: Floats
    shift_se: Floats


@dataclass(frozen=True, kw_only=True)
class Wald(Differences):
    """Differences of items between groups, with their tests.

    Attributes
    ----------
    item_ids
        J items.
    groups
        F + 1 names, the reference first.
    anchors
        The items that put the groups on one scale.
    p, q
        Shape (J,), p-value and q value of the hypothesis "no group differs"; NaN if df is 0. q is Benjamini &
        Hochberg's (1995), over the items, or over the items of several attributes (`Dif.with_common_q`).
    unestimated
        For each group, the items whose copy has no estimate or no error, with the reason.
    warnings
        Sentences about the result as a whole.
    categories
        Focal group → differences of single categories of scored items, focal minus reference: whether P(X ≥ k) differs
        for a score k. They do not change the severity of an item.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.dif import Dif
    >>> bank = irt.ItemParameters.from_frame({"item": [*"abcdef"], "a": [1] * 6, "b": np.linspace(-1, 1, 6)})
    >>> x = irt.simulate_responses(bank, np.linspace(-2, 2, 600), random_state=1)
    >>> wald = Dif.from_responses("language", x, ["en", "fr"] * 300).wald
    >>> wald.groups, wald.p.shape, wald.flagged
    (('en', 'fr'), (6,), ())
    """

    item_ids: tuple[str, ...]
    groups: tuple[str, ...]
    anchors: tuple[str, ...]
    p: Floats
    q: Floats
    unestimated: tuple[dict[str, str], ...]
    warnings: tuple[str, ...] = ()
    categories: Mapping[str, CategoryChanges] = field(default_factory=dict)

    @property
    def flagged(self) -> tuple[str, ...]:
        """Items with q < 0.05, for any size of the difference."""
        return tuple(item for item, q in zip(self.item_ids, self.q, strict=True) if q < FALSE_DISCOVERIES)

    def severity(self, f: int, j: int) -> Severity:
        """Grade the difference of an item between the reference and a focal group.

        Parameters
        ----------
        f
            Place of the focal group, 0 for the first after the reference.
        j
            Place of the item.

        Returns
        -------
        str
            "none", "small", "medium" or "high".
        """
        return severity_of(self.q[j], self.wabc[f, j])


def severity_of(q: float, wabc: float) -> Severity:
    """Severity of an item's difference in one group, from the item's q and the group's wABC."""
    if not q < FALSE_DISCOVERIES:
        return "none"
    return "high" if wabc > HIGH_WABC else "medium" if wabc > MEDIUM_WABC else "small"


def compare_groups(groups: Groups) -> Wald:
    """Test each item for DIF between groups.

    Two differences are tested for each item and focal group, or one difference if the item has no slope of its own.

    Raises PsychometricsError if fewer than 4 items can be compared, or if the answers cannot be fitted.
    """
    anchors, fits = groups.fit_halves()
    found = _merge_fits(groups, fits)
    known = found.df > 0
    if not known.any():
        raise PsychometricsError(
            "no item could be estimated in two groups. Compare groups that answered the same items"
        )
    p = np.where(known, chdtrc(np.maximum(found.df, 1), found.wald), np.nan)
    n, n_low = int(known.sum()), int(np.sum(p < ANCHOR_P))
    disagree = (
        f"anchors disagree: {n_low} of {n} items differ between the groups, so it cannot be determined which of them"
        f" are free of DIF. Judge by content"
    )
    item_ids = groups.responses.item_ids
    unestimated = tuple(
        {item_ids[j]: why for copies in fits for j, why in copies.missing_estimates(g).items()}
        for g in range(len(groups.names))
    )
    return Wald(
        item_ids=item_ids,
        groups=groups.names,
        anchors=tuple(item_ids[j] for j in np.flatnonzero(anchors)),
        p=p,
        q=family_q(p),
        unestimated=unestimated,
        warnings=(disagree,) if 2 * n_low > n else (),
        categories=_compare_categories(groups, fits),
        **vars(found),
    )


def _compare_categories(groups: Groups, fits: tuple[Copies, Copies]) -> dict[str, CategoryChanges]:
    """Compare the categories of scored items for each focal group, in the first fit in which the item is split."""
    found = []
    for f in range(1, len(groups.names)):
        one, other = (_categories_of(copies, groups, f) for copies in fits)
        found.append(one.then(other.select(~np.isin(other.item, one.item))))
    return dict(zip(groups.names[1:], with_common_q(found), strict=True))


def _categories_of(copies: Copies, groups: Groups, focal: int) -> CategoryChanges:
    """Compare the categories of the items that this fit splits between a focal group and the reference."""
    both, x = [focal, 0], copies.parameters
    compared = copies.estimated[both].all(axis=0) & (copies.place[focal] != copies.place[0])
    scored = select_others(copies.scored, np.where(compared, np.arange(compared.size), -1), compared.size)

    def curves(g: int) -> ItemCurves:
        others = (replace(some, further=x[g, some.at, 2 : 2 + len(some.further)].T) for some in scored)
        return ItemCurves(x[g, :, 0], x[g, :, 1], np.zeros(x.shape[1]), tuple(others))

    populations = [copies.fit.populations[g] for g in both]
    mean, sd = np.array([of.mean for of in populations]), np.array([of.sd for of in populations])
    middle, wide = pool_moments(groups.sizes[both], mean, sd)
    cov = np.nan_to_num(copies.covariance[:, both][:, :, :, both])
    theta = middle + wide * Grid.symmetric().nodes
    return CategoryChanges.compare(curves(focal), curves(0), cov, theta, groups.score_counts[both])


def family_q(p: Floats) -> Floats:
    """Benjamini & Hochberg's (1995) q of one family of tests; NaN if p is NaN."""
    q, known = np.full(len(p), np.nan), np.isfinite(p)
    q[known] = q_values(p[known])
    return q


def _merge_fits(groups: Groups, fits: tuple[Copies, Copies]) -> Differences:
    """Merge two fits: each item's differences from the first fit in which it is split."""
    one, other = (differences_of(copies, groups.sizes) for copies in fits)
    first = one.df > 0
    merged = {
        name: np.where(first[:, None] if values.ndim == 3 else first, values, getattr(other, name))
        for name, values in vars(one).items()
        if name not in ("mean", "sd")
    }
    return Differences(mean=(one.mean + other.mean) / 2, sd=(one.sd + other.sd) / 2, **merged)


def differences_of(copies: Copies, sizes: Ints) -> Differences:
    """Differences of all items that are split. `sizes`: shape (G,), number of learners of each group."""
    populations = copies.fit.populations
    mean, sd = np.array([of.mean for of in populations]), np.array([of.sd for of in populations])
    known, (G, J) = copies.estimated, copies.place.shape
    compared = known[0] & known[1:] & (copies.place[1:] != copies.place[0])
    x, cov = np.where(np.isnan(copies.parameters), 0.0, copies.parameters), np.nan_to_num(copies.covariance)
    own_slopes, scored, K = copies.own_slopes, copies.scored, x.shape[2]
    t, wabc = np.zeros((J, G - 1, 2)), np.zeros((G - 1, J))
    by_x = np.zeros((J, G - 1, 2, G, K))
    for f in range(G - 1):
        both = [0, 1 + f]
        middle, wide = pool_moments(sizes[both], mean[both], sd[both])
        theta = middle + wide * Grid.symmetric().nodes
        wabc[f], t[:, f], slopes = curve_difference(x[0], x[1 + f], theta, scored)
        slopes[~own_slopes, :, 0] = 0.0  # errors of a common slope cancel
        by_x[:, f, :, 0], by_x[:, f, :, 1 + f] = -slopes, slopes
    valid = compared.T[:, :, None] & np.stack([np.ones(J, dtype=bool), own_slopes], axis=1)[:, None]
    valid = valid.reshape(J, -1)
    t, by_x = t.reshape(J, -1), by_x.reshape(J, -1, G * K)
    cov_t = by_x @ cov.reshape(J, G * K, G * K) @ by_x.transpose(0, 2, 1)
    cov_t = np.where(valid[:, :, None] & valid[:, None], cov_t, np.eye(valid.shape[1]))
    t = np.where(valid, t, 0.0)
    variance = np.einsum("jff->jf", cov_t)
    error = np.sqrt(np.where(variance > 0, variance, np.nan))
    z = t / error
    try:
        solved = np.linalg.solve(cov_t / (error[:, :, None] * error[:, None]), z[:, :, None])
    except np.linalg.LinAlgError as failure:
        raise PsychometricsError(
            f"the errors of the groups do not determine their differences ({failure}). Leave out the group with the"
            f" fewest answers"
        ) from failure
    wald = np.einsum("jf,jf->j", z, solved[:, :, 0])
    compared &= np.isfinite(wald)
    delta, se = _differences(x, cov)
    shift, shift_se = t[:, ::2].T, error[:, ::2].T
    shown = compared[:, :, None]
    return Differences(
        mean=mean, sd=sd, df=(1 + own_slopes) * compared.sum(axis=0), wald=np.where(compared.any(axis=0), wald, np.nan),
        delta=np.where(shown, delta, np.nan), se=np.where(shown, se, np.nan), wabc=np.where(compared, wabc, np.nan),
        shift=np.where(compared, shift, np.nan), shift_se=np.where(compared, shift_se, np.nan),
    )  # fmt: skip


def _differences(x: Floats, cov: Floats) -> tuple[Floats, Floats]:
    """Δ(a, b) of each focal copy, shape (G − 1, J, 2), and their errors. Δb is NaN if either b is an extrapolation."""
    a, d = x[:, :, 0], x[:, :, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        b = -d / a
        by_ad = np.stack([-b / a, -1 / a], axis=2)
        errors = np.stack([_error(cov, np.broadcast_to([1.0, 0.0], by_ad.shape)), _error(cov, by_ad)], axis=2)
        delta = np.stack([a[1:] - a[0], b[1:] - b[0]], axis=2)
    stated = (np.abs(b) <= FARTHEST_B) & (a >= FLATTEST_A)
    known = np.stack([np.ones_like(stated[1:]), stated[1:] & stated[0]], axis=2)
    return np.where(known, delta, np.nan), np.where(known, errors, np.nan)


def _error(cov: Floats, by_ad: Floats) -> Floats:
    """Standard error of the difference of a quantity between each focal copy and the reference, shape (G − 1, J).

    `by_ad`: shape (G, J, 2), derivatives of the quantity with respect to (a, d).
    """
    between = np.einsum("gjk,jgkhl,hjl->jgh", by_ad, cov[:, :, :2, :, :2], by_ad)
    own = np.einsum("jgg->gj", between)
    return np.sqrt(np.maximum(own[1:] + own[0] - 2 * between[:, 0, 1:].T, 0.0))


def curve_difference(
    reference: Floats, focal: Floats, theta: Floats, scored: Sequence[OtherItems] = ()
) -> tuple[Floats, Floats, Floats]:
    """Difference between the curves of a focal group and of the reference.

    Args:
        reference, focal: shape (J, K), parameters of the curves.
        theta: shape (Q,), nodes, whose weights are standard normal.
        scored: the items whose curves are not logistic, as in `Copies`.

    Returns ∫ |P_focal − P_reference|, shape (J,); ∫ (1, z)ᵀ (P_focal − P_reference), shape (J, 2); and the slopes of
    the latter with respect to the differences of parameters, shape (J, 2, K). The slopes are means over the straight
    line from the reference's parameters to the focal ones, so the slopes times the differences are *equal* to the
    second integral. Slopes at the focal end, where P may be close to 0 or 1, would make a chance difference look
    certain. A score that one of the curves lacks is absent on the whole line.
    """
    grid = Grid.symmetric()
    weights = np.exp(grid.log_weights())
    moments = np.stack([weights, weights * grid.nodes])

    def curve(x: Floats) -> tuple[Floats, Floats]:
        eta, c = x[:, :1] * theta + x[:, 1:2], expit(x[:, 2:3]) if x.shape[1] > 2 else 0.0
        steep = slope_at(eta, c)
        p, slopes = probability_at(eta, c), np.zeros((*eta.shape, max(3, x.shape[1])))
        slopes[:, :, 0], slopes[:, :, 1], slopes[:, :, 2] = steep * theta, steep, c * (1 - c) * by_asymptote_at(eta)
        for some in scored:
            own = replace(some, further=x[some.at, 2 : 2 + len(some.further)].T)
            p[some.at], by_eta, *by_t = own.curve_at(eta[some.at])
            slopes[some.at] = 0.0
            slopes[some.at, :, : 2 + len(by_t)] = np.stack([by_eta * theta, by_eta, *by_t], axis=2)
        return p, slopes[:, :, : x.shape[1]]

    slopes = np.zeros((len(reference), 2, reference.shape[1]))
    has = np.isfinite(reference) & np.isfinite(focal)
    start, step = np.where(has, reference, -np.inf), np.where(has, focal - np.where(has, reference, 0.0), 0.0)
    for node, weight in zip(*_ON_THE_WAY, strict=True):
        _, steep = curve(start + (node + 1) / 2 * step)
        slopes += weight / 2 * np.einsum("mq,jqk->jmk", moments, steep)
    gap = curve(focal)[0] - curve(reference)[0]
    return np.abs(gap) @ weights, gap @ moments.T, slopes
