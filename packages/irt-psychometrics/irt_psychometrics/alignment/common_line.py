"""The line that puts one sample's items on another's scale, if items vary a little and some moved.

This module calculates with two numbers for each item and their covariance. The numbers are ln a and b, or moments of
curves.

**Model.** Item j's two differences between the samples, D_j, in ln a and in b, are 0 in expectation at the true
constants except for errors, with covariance V, and for the item's own variation of b, δ_j ~ N(0, τ²), a random effect
of linking (Haberman 2009; De Boeck 2008; Robitzsch 2021):

    D ~ N(X β, V + τ² B Bᵀ),

where X is the derivative of D with respect to the constants, and B selects the differences in b. The constants are
found by generalised least squares.

**τ.** Let Q(τ²) be the minimum of Dᵀ (V + τ² B Bᵀ)⁻¹ D over the constants, and Q₁ the same minimum for the differences
in slope alone. Then

    Q(τ²) − Q₁

is χ² with the difference of their degrees of freedom at the true τ². It contains the information of D about b given the
slopes. τ² is estimated by equating the difference to its degrees of freedom (Paule & Mandel 1982), and the quantiles of
χ² give its interval (Q-profile: Viechtbauer 2007). In the same way ln a has its own variation τ_a, which is set to 0
unless its lower 95 % limit is above 0.

**Items that moved.** If τ were estimated from all items, it would include the moved ones, and none would be found. So
the line is found first, as the line with the smallest Σ min(W, limit) among lines through one item's b with the median
slope, W an item's Wald distance with τ = `expected_variation` (Halpin 2024; He & Cui 2020). Then two steps alternate
until the same items are kept: the items within the limit determine the line, and the items within the 95 % point of χ²
determine τ, corrected for the truncated tails. The inner limit matters: if all kept items determined τ, items that are
barely kept would raise τ and therefore stay kept (in simulations with 4 of 30 items moved by .5, 88 % were found with
one limit and 97 % with two).

**Two groups of items.** The items of one group may have moved as a whole against the others. A third constant, on b of
`others` alone, is then estimated with the line (a moderator in terms of meta-analysis), and each group starts with the
intercept that fits it best. τ and single items that moved are determined within the groups.

**Common errors.** V may include U M Uᵀ in addition to each item's own errors. It is inverted by Woodbury's formula, so
the cost is proportional to the number of items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import chdtr, chdtrc, chdtri, stdtrit

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.covariances import add, item_blocks, select_items, times
from irt_psychometrics.core.errors import BreakdownError

MIN_ITEMS = 3
"""Minimum number of items: three contain more information than the two constants need."""
_MOVED = 0.00693
"""p of |z| = 2.7, beyond which an item has moved (Huynh & Meyer 2010): on average .2 of 30 unchanged items are flagged
by chance."""
_MOVED_OF_FEW = 0.001
_FEW = 10
"""Number of items below which τ is badly determined: it is then at least `_MIN_TAU_OF_FEW`, and the limit is wider."""
_MIN_TAU_OF_FEW = 0.05
_CORE = 0.05
_MAX_ROUNDS = 20
_MAX_TAU2 = 4.0
"""Upper bound of τ²: items that vary by two SDs of ability have no common scale."""
_MAX_CONDITION = 1e8
SLOPES, DIFFICULTIES = 0, 1


class NoLineError(BreakdownError):
    """Fewer than `MIN_ITEMS` items lie on one line within their errors."""


@dataclass(frozen=True)
class Differences:
    """Differences of K items between two samples at given constants.

    Attributes
    ----------
    d
        Shape (K, 2), differences in ln a and in b.
    by_constants
        Shape (K, 2, m), derivatives with respect to (ln slope, intercept), m = 2, or to the intercept alone, m = 1.
    cov
        Covariance of the errors of d without the common errors, shape (K, 2, 2) or (1, 2K, 2K).
    own_slopes
        Shape (K,), the items whose first number contains information about the single item; the first number of other
        items is not used.
    common, common_cov
        U, shape (K, 2, r), and M, shape (r, r): U M Uᵀ is the covariance of the common errors. None if there are none.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.alignment import Differences
    >>> of_each = np.tile(np.eye(2), (3, 1, 1))
    >>> at = Differences(np.array([[0.0, 0.5]] * 3), of_each, 0.01 * of_each, np.array([True, True, False]))
    >>> at.q_statistic(at.used).df  # five numbers, two constants
    3
    """

    d: Floats
    by_constants: Floats
    cov: Floats
    own_slopes: Mask
    common: Floats | None = None
    common_cov: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def keep(self, mask: Mask) -> Differences:
        """Restrict the differences to some items.

        Parameters
        ----------
        mask
            Shape (K,), the items that remain.

        Returns
        -------
        Differences
            The differences of these items.
        """
        return replace(
            self,
            d=self.d[mask],
            by_constants=self.by_constants[mask],
            cov=select_items(self.cov, mask),
            own_slopes=self.own_slopes[mask],
            common=None if self.common is None else self.common[mask],
        )

    def shift_b(self, others: Mask, by: float) -> Differences:
        """Add a further constant, which shifts b of a group.

        Parameters
        ----------
        others
            Shape (K,), the items of the group.
        by
            Value of the constant.

        Returns
        -------
        Differences
            The same items, with `by` added to b of `others`, and derivatives with respect to three constants.
        """
        of_b = np.stack([np.zeros(others.size), others], axis=1)
        return replace(
            self, d=self.d + by * of_b, by_constants=np.concatenate([self.by_constants, of_b[:, :, None]], axis=2)
        )

    def with_variation(self, tau2: Floats) -> Differences:
        """Add the items' own variation to the errors.

        Parameters
        ----------
        tau2
            Shape (2,), variances of ln a and b.

        Returns
        -------
        Differences
            The same differences with a larger `cov`.
        """
        return replace(self, cov=add(self.cov, np.broadcast_to(np.diag(tau2), (len(self.d), 2, 2))))

    @property
    def used(self) -> Mask:
        """Mask of the numbers that contain information about a single item, shape (K, 2)."""
        return np.stack([self.own_slopes, np.ones(len(self.d), dtype=bool)], axis=1)

    def zero_unused(self, used: Mask) -> Differences:
        """Replace unused numbers by zeros, which have no effect.

        Parameters
        ----------
        used
            Shape (K, 2), the numbers that remain.

        Returns
        -------
        Differences
            The same items, with zeros elsewhere.
        """
        both = used.reshape(len(self.cov), -1)
        cov = np.where(both[:, :, None] & both[:, None], self.cov, np.eye(self.cov.shape[1]))
        common = None if self.common is None else self.common * used[:, :, None]
        return replace(self, d=self.d * used, by_constants=self.by_constants * used[:, :, None], cov=cov, common=common)

    @property
    def cov_of_each(self) -> Floats:
        """Covariance of each item's errors, including the common ones, shape (K, 2, 2)."""
        own = item_blocks(self.cov)
        return own if self.common is None else own + self.common @ self.common_cov @ self.common.swapaxes(1, 2)

    def times_cov(self, by: Floats) -> Floats:
        """Multiply rows by V, the covariance of all errors.

        Parameters
        ----------
        by
            Shape (m, 2K), the rows.

        Returns
        -------
        array of shape (m, 2K)
            By · V.
        """
        own = times(by, self.cov)
        if self.common is None:
            return own
        common = self.common.reshape(by.shape[1], -1)
        return own + by @ common @ self.common_cov @ common.T

    def apply_inverse(self, columns: Floats) -> Floats:
        """Multiply V⁻¹, the inverse covariance of all errors, by columns.

        Parameters
        ----------
        columns
            Shape (K, 2, n).

        Returns
        -------
        array of shape (2K, n)
            V⁻¹ · columns.
        """
        factor = np.asarray(np.linalg.cholesky(self.cov), dtype=np.float64)
        own = _solve_blocks(columns, factor)
        if self.common is None:
            return own
        common = self.common.reshape(len(own), -1)
        own_common = _solve_blocks(self.common, factor)
        inner = np.eye(common.shape[1]) + self.common_cov @ (common.T @ own_common)
        return own - own_common @ np.linalg.solve(inner, self.common_cov @ (common.T @ own))

    def q_statistic(self, used: Mask) -> QStatistic:
        """Compute Q, the minimum of dᵀ V⁻¹ d over the constants.

        Parameters
        ----------
        used
            Shape (K, 2), the numbers that count.

        Returns
        -------
        QStatistic
            Q, the degrees of freedom, and the weighted residuals.
        """
        some = self.zero_unused(used)
        columns = np.concatenate([some.d[:, :, None], some.by_constants], axis=2)
        weighted = some.apply_inverse(columns)
        products = columns.reshape(weighted.shape).T @ weighted
        found, _, rank, _ = np.linalg.lstsq(products[1:, 1:], products[1:, 0], rcond=1e-12)
        weighted_residuals = (weighted[:, 0] - weighted[:, 1:] @ found).reshape(used.shape)
        return QStatistic(float(products[0, 0] - products[0, 1:] @ found), int(used.sum() - rank), weighted_residuals)


@dataclass(frozen=True)
class QStatistic:
    """Q, the minimum of dᵀ V⁻¹ d over the constants.

    Attributes:
        q: the minimum.
        df: its degrees of freedom.
        weighted_residuals: shape (K, 2), V⁻¹ times the residuals of d. The derivative of Q with respect to the variance
            of a number is minus the square of its weighted residual.
    """

    q: float
    df: int
    weighted_residuals: Floats


def _solve_blocks(columns: Floats, factor: Floats) -> Floats:
    """(L Lᵀ)⁻¹ · columns, shape (2K, n), for `columns` of shape (K, 2, n); `factor` is L."""
    white = np.linalg.solve(factor, columns.reshape(*factor.shape[:2], -1))
    return np.linalg.solve(factor.swapaxes(1, 2), white).reshape(2 * len(columns), -1)


@dataclass(frozen=True)
class Agreement:
    """Test of the hypothesis that items do not vary, and the limits of τ.

    Attributes
    ----------
    q, q_df
        Q and the degrees of freedom; Q is χ² if items do not vary.
    tau_low, tau_high
        95 % limits of τ.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.alignment import Agreement, Differences
    >>> of_each = np.tile(np.eye(2), (4, 1, 1))
    >>> d = np.array([[0.0, 0.5], [0.0, 0.5], [0.0, 0.5], [0.0, 0.5]])
    >>> Agreement.from_differences(Differences(d, of_each, 0.01 * of_each, np.ones(4, dtype=bool))).i_squared
    0.0
    """

    q: float
    q_df: int
    tau_low: float
    tau_high: float

    @classmethod
    def from_differences(cls, at: Differences) -> Agreement:
        """Compute the agreement of items from the differences at the line's constants.

        Parameters
        ----------
        at
            Differences of the items.

        Returns
        -------
        Agreement
            Q with its degrees of freedom, and the limits of τ.
        """
        statistic = at.q_statistic(at.used)
        variation = _Variation.from_differences(at, DIFFICULTIES)
        low, high = (float(np.sqrt(variation.at_q(chdtri(variation.df, p)))) for p in (0.025, 0.975))
        return cls(statistic.q, statistic.df, low, high)

    @property
    def i_squared(self) -> float:
        """Share of the items' differences that errors do not explain, 0 … 1 (Higgins & Thompson 2002)."""
        return max(0.0, 1.0 - self.q_df / self.q) if self.q > 0 else 0.0


@dataclass(frozen=True)
class Alignment:
    """Line between two samples of K items, and the items' distances from it. `align` finds it.

    Attributes
    ----------
    constants
        (ln slope, intercept) of θ on one scale = slope · θ on the other scale + intercept. If there are `others`, a
        third number is the shift that puts their b on the line.
    cov
        Shape (m, m), covariance of the constants that are not fixed, including τ.
    kept
        Shape (K,), the items that determine the line.
    d, d_cov
        Shape (K, 2) and (K, 2, 2), distance of each item from the line in ln a and b, and its covariance if the item
        varies like the others.
    own
        Shape (K, 2), the numbers that contain information about a single item.
    d_by_own
        Shape (K, 2, 2), derivatives of an item's distance from the line with respect to that item's differences alone.
    wald
        Shape (K,), dᵀ d_cov⁻¹ d, the distance from the line of the other kept items: χ² with 2 degrees of freedom, or
        with 1 if the slope contains no information about the item.
    tau, tau_slope
        SDs of the kept items' own variation in b and in ln a.
    agreement
        Agreement of the kept items.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.alignment import Differences, align
    >>> def differences(slope, intercept, b=np.linspace(-1, 1, 6)):
    ...     d = np.column_stack([np.full(6, np.log(slope)), b + 0.5 - slope * b - intercept])
    ...     by = np.array([[[1, 0], [-slope * one, -1]] for one in b])
    ...     return Differences(d, by, np.tile(0.01 * np.eye(2), (6, 1, 1)), np.ones(6, dtype=bool))
    >>> line = align(differences, np.array([[1.0, 0.4]]))
    >>> round(line.slope, 6), round(line.intercept, 6), line.kept.sum().item()
    (1.0, 0.5, 6)
    """

    constants: Floats
    cov: Floats
    kept: Mask
    d: Floats
    d_cov: Floats
    own: Mask
    d_by_own: Floats
    wald: Floats
    tau: float
    tau_slope: float
    agreement: Agreement

    def distances(self, least: float, most: float) -> Floats:
        """Compute distances like `wald` with bounded SDs of the items' own variation.

        Parameters
        ----------
        least
            Smallest SD of b.
        most
            Largest SD of b and of ln a.

        Returns
        -------
        array of shape (K,)
            The distances.
        """
        taus = np.array([self.tau_slope, self.tau])
        beyond = np.diag(taus**2 - np.clip(taus, [0.0, least], most) ** 2)
        return quadratic(self.d, self.d_cov - self.d_by_own @ beyond @ self.d_by_own.swapaxes(1, 2), self.own[:, 0])

    @property
    def slope(self) -> float:
        """Slope of the line."""
        return float(np.exp(self.constants[0]))

    @property
    def intercept(self) -> float:
        """Intercept of the line."""
        return float(self.constants[1])

    @property
    def quantile(self) -> float:
        """Half the width of a constant's 95 % interval in standard errors, a quantile of t because τ is estimated."""
        return float(stdtrit(max(int(self.kept.sum()) - 1, 1), 0.975))


def align(
    differences: Callable[[float, float], Differences],
    starts: Floats,
    *,
    others: Mask | None = None,
    expected_variation: float = 0.10,
) -> Alignment:
    """Find the line of the items that did not move.

    Parameters
    ----------
    differences
        Function of (slope, intercept) that returns the differences of all K items at these constants.
    starts
        Shape (S, 2), starting values of (slope, intercept), each a line through one item.
    others
        Shape (K,), mask of a group of items that may have moved as a whole; None: no group.
    expected_variation
        SD of an item's own b with which the first line is found.

    Returns
    -------
    Alignment
        The line, the kept items, and their variation.

    Raises
    ------
    NoLineError
        If no three items lie on one line within their errors.
    LinAlgError
        If the errors are not a covariance matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.alignment import Differences, align
    >>> moved = np.array([0, 0, 0, 0, 0, 1])  # the last item became harder by 1
    >>> def differences(slope, intercept, b=np.linspace(-1, 1, 6)):
    ...     d = np.column_stack([np.full(6, np.log(slope)), b + 0.5 + moved - slope * b - intercept])
    ...     by = np.array([[[1, 0], [-slope * one, -1]] for one in b])
    ...     return Differences(d, by, np.tile(0.01 * np.eye(2), (6, 1, 1)), np.ones(6, dtype=bool))
    >>> align(differences, np.array([[1.0, 0.4]])).kept.tolist()
    [True, True, True, True, True, False]
    """

    def at_constants(constants: Floats) -> Differences:
        at = differences(float(np.exp(constants[0])), float(constants[1]))
        return at if others is None else at.shift_b(others, float(constants[2]))

    found = _alternate(at_constants, *_first(differences, starts, others, expected_variation**2), 0.0)
    for _ in range(_MAX_ROUNDS):
        at, before = at_constants(found.constants), found.kept
        variation = _Variation.from_differences(at.keep(before), SLOPES, found.tau**2)
        if variation.df == 0 or variation.at_q(chdtri(variation.df, 0.025)) == 0:
            break
        limit, df = _limits(at.own_slopes)[0][before], 1 + at.own_slopes[before].astype(np.int64)
        tau2_slope = variation.at_q(variation.df * _truncated_mean(limit, df))
        found = _alternate(at_constants, found.constants, found.wald, tau2_slope)
        if (found.kept == before).all():
            break
    return found


def invariant(
    differences: Callable[[float, float], Differences], start: tuple[float, float], p: float
) -> tuple[tuple[float, float], Floats]:
    """The constants (slope, intercept) from items that lie on one line within their errors, without own variation.

    Also returns each item's p value, shape (K,). Items with a p value below `p` do not count, but at least half of the
    items do.
    """
    slope, intercept = start
    at = differences(slope, intercept)
    df = 1 + at.own_slopes.astype(np.int64)
    kept, before = np.ones(len(df), dtype=bool), None
    found = chdtrc(df, quadratic(at.d, at.cov_of_each, at.own_slopes))
    for _ in range(_MAX_ROUNDS):
        kept, before = found >= min(p, float(np.median(found))), kept
        if (kept == before).all():
            break
        line = _Line.through(at, kept, np.zeros(2))
        slope *= float(np.exp(line.step[0])) if line.step.size == 2 else 1.0
        intercept += float(line.step[-1])
        at = differences(slope, intercept)
        found = chdtrc(df, quadratic(at.d, _distance_covariance(at, line.by_d), at.own_slopes))
    return (slope, intercept), found


def identifies_slope_and_location(units: Floats) -> Mask:
    """Mask of the items whose two moments together determine ln a and b, shape (K,).

    `units` (K, 2, 2) are the moments' derivatives with respect to ln a and b. If a curve is too steep, both moments
    contain the same information.
    """
    return np.linalg.cond(units) < _MAX_CONDITION


def _limits(own_slopes: Mask) -> tuple[Floats, Floats]:
    """The distances beyond which an item moved, and up to which it counts for τ, shape (K,) each."""
    df = 1 + own_slopes.astype(np.int64)
    return chdtri(df, _MOVED_OF_FEW if own_slopes.size < _FEW else _MOVED), chdtri(df, _CORE)


def _first(
    differences: Callable[[float, float], Differences], starts: Floats, others: Mask | None, tau2: float
) -> tuple[Floats, Floats]:
    """The constants of the best starting line, and the items' distances from it."""
    distances = []
    limit, _ = _limits(differences(*starts[0]).own_slopes)
    for start in starts:
        at = differences(*start)
        distances.append(quadratic(at.d, at.cov_of_each + np.diag([0.0, tau2]), at.own_slopes))
    groups = [np.ones(limit.size, dtype=bool)] if others is None else [~others, others]
    capped = np.minimum(distances, limit)
    best = [int(np.argmin(capped[:, group].sum(axis=1))) for group in groups]
    slope, intercept = starts[best[0]]
    further = [starts[k, 1] - intercept for k in best[1:]]
    wald = np.select(groups, [distances[k] for k in best])
    return np.array([np.log(slope), intercept, *further]), wald


def _alternate(
    differences: Callable[[Floats], Differences], constants: Floats, wald: Floats, tau2_slope: float
) -> Alignment:
    """Alternate between the line through the kept items and the items that it keeps, until neither changes.

    `wald` (K,) are the items' distances from the first line, given by `constants`.
    """
    limit, core = _limits(differences(constants).own_slopes)
    kept, inner = wald <= limit, wald <= core
    for _ in range(_MAX_ROUNDS):
        if kept.sum() < MIN_ITEMS:
            raise NoLineError(f"no {MIN_ITEMS} of {kept.size} items lie on one line within their errors")
        at = differences(constants)
        edge = core
        if inner.sum() < MIN_ITEMS:
            inner, edge = kept, limit
        variation = _Variation.from_differences(at.keep(inner), DIFFICULTIES, tau2_slope)
        df = 1 + at.own_slopes[inner].astype(np.int64)
        least = _MIN_TAU_OF_FEW**2 if kept.size < _FEW else 0.0
        tau2 = np.array([tau2_slope, max(variation.at_q(variation.df * _truncated_mean(edge[inner], df)), least)])
        line = _Line.through(at, kept, tau2)
        constants = constants + np.pad(line.step, (constants.size - line.step.size, 0))
        at = differences(constants)
        d_cov = _distance_covariance(at.with_variation(tau2), line.by_d)
        wald = quadratic(at.d, d_cov, at.own_slopes)
        inner = wald <= core
        before, kept = kept, wald <= limit
        if (kept == before).all() and np.abs(line.step).max() < 1e-6:
            break
    if kept.sum() < MIN_ITEMS:
        raise NoLineError(f"no {MIN_ITEMS} of {kept.size} items lie on one line within their errors")
    return Alignment(
        constants=constants,
        cov=line.cov,
        kept=kept,
        d=at.d,
        d_cov=d_cov,
        own=at.used,
        d_by_own=np.eye(2) + at.by_constants @ line.by_d.reshape(len(line.by_d), -1, 2).swapaxes(0, 1),
        wald=wald,
        tau=float(np.sqrt(tau2[DIFFICULTIES])),
        tau_slope=float(np.sqrt(tau2_slope)),
        agreement=Agreement.from_differences(at.keep(kept)),
    )


def _truncated_mean(limit: Floats, df: Ints) -> float:
    """Mean of χ² truncated at `limit` divided by the mean of χ², over several items; arguments have shape (K,)."""
    return float((df * chdtr(df + 2, limit) / chdtr(df, limit)).sum() / df.sum())


@dataclass(frozen=True)
class _Variation:
    """Q(τ²) − Q₁ of the module's docstring for the variation of one of the items' two numbers.

    Attributes:
        of_number: the number that varies, SLOPES or DIFFICULTIES.
        others: Q₁.
        df: degrees of freedom of the difference.
    """

    at: Differences
    of_number: int
    others: float
    df: int

    @classmethod
    def from_differences(cls, at: Differences, number: int, tau2_of_other: float = 0.0) -> _Variation:
        """Make the statistic for `number`; `tau2_of_other` is the variance of the other number."""
        tau2 = np.full(2, tau2_of_other)
        tau2[number] = 0.0
        at = at.with_variation(tau2)
        others = at.q_statistic(at.used & (np.arange(2) != number))
        return cls(at, number, others.q, at.q_statistic(at.used).df - others.df)

    def at_q(self, q: float) -> float:
        """τ² at which Q(τ²) − Q₁ equals q; 0 if Q(0) − Q₁ is already below q.

        1/(Q(τ²) − Q₁) rises and is concave, so Newton's steps on it stay below the root (after DerSimonian & Kacker
        2007).
        """
        tau2 = 0.0
        for _ in range(_MAX_ROUNDS):
            varying = self.at.with_variation(tau2 * np.eye(2)[self.of_number])
            statistic = varying.q_statistic(varying.used)
            excess = statistic.q - self.others
            if excess <= q * (1 + 1e-12):
                break
            falls = float((statistic.weighted_residuals[:, self.of_number] ** 2).sum())
            tau2 = min(tau2 + (excess / q - 1) * excess / falls, _MAX_TAU2)
        return tau2


@dataclass(frozen=True)
class _Line:
    """A step to the least-squares constants.

    If none of the `others` is kept, the values for their constant are 0.

    Attributes:
        step: shape (m,), the step.
        cov: shape (m, m), covariance of the constants.
        by_d: shape (m, 2K), derivatives of the step with respect to d.
    """

    step: Floats
    cov: Floats
    by_d: Floats

    @classmethod
    def through(cls, at: Differences, kept: Mask, tau2: Floats) -> _Line:
        inside = at.keep(kept).with_variation(tau2)
        inside = inside.zero_unused(inside.used)
        x = inside.by_constants.reshape(2 * len(inside.d), -1)
        solved = inside.apply_inverse(inside.by_constants)
        cov = np.asarray(np.linalg.pinv(x.T @ solved, hermitian=True), dtype=np.float64)
        by_d = np.zeros((len(cov), 2 * kept.size))
        by_d[:, np.repeat(kept, 2)] = -cov @ solved.T
        return cls(by_d @ at.d.ravel(), cov, by_d)


def _distance_covariance(at: Differences, by_d: Floats) -> Floats:
    """Covariance of the items' distances from a least-squares line with the derivatives `by_d`, shape (K, 2, 2).

    If variances are known, a residual divided by its own error equals the distance from the line of the other items
    divided by the error of that distance (Cook & Weisberg 1982).
    """
    moved = at.times_cov(by_d)
    shared = at.by_constants @ moved.reshape(len(moved), -1, 2).swapaxes(0, 1)
    of_line = at.by_constants @ (moved @ by_d.T) @ at.by_constants.swapaxes(1, 2)
    return at.cov_of_each + shared + shared.swapaxes(1, 2) + of_line


def quadratic(d: Floats, v: Floats, own_slopes: Mask) -> Floats:
    """dᵀ v⁻¹ d of each item, shape (K,); of the second number alone for items that are not in `own_slopes`."""
    wald: Floats = d[:, 1] ** 2 / v[:, 1, 1]
    d, v = d[own_slopes], v[own_slopes]
    wald[own_slopes] = np.einsum("kx,kx->k", d, np.linalg.solve(v, d[:, :, None])[:, :, 0])
    return wald
