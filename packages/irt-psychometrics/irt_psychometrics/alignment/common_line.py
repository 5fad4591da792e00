"""The line that puts one sample's items on another's scale, where items vary a little and some moved.

Belongs here: arithmetic on two numbers an item and their covariance. Does not belong here: what the numbers come from
(a caller has ln a and b, or the moments of curves), which items take part, and what a gate makes of the result.

**Model.** Item j's two differences between the samples, D_j, in ln a and in b, are 0 in expectation at the right
constants but for errors, with covariance V, and for its own variation on b, δ_j ~ N(0, τ²), a random effect of linking
(Haberman 2009; De Boeck 2008; Robitzsch 2021):

    D ~ N(X β, V + τ² B Bᵀ),

X being the derivatives of D by the constants and B the places of b. The constants are found by generalised least
squares.

**τ.** With Q(τ²) the least of Dᵀ (V + τ² B Bᵀ)⁻¹ D over the constants, and Q₁ that of the slopes' differences alone,

    Q(τ²) − Q₁

is χ² with the difference of their degrees of freedom at the true τ²: what D says of b given what it says of the slopes.
τ² makes it equal to these (Paule & Mandel 1982), and the quantiles of χ² give its interval (Q-profile: Viechtbauer
2007). In the same way ln a has a variation of its own, τ_a, which is taken as 0 unless its lower 95 % limit is above.

**Who moved.** τ estimated over all items takes the moved ones in and names none. So the line is found first, as the one
with the least Σ min(W, limit) over lines through one item's b with the median slope, W being an item's Wald distance
with τ = `expected_variation` (Halpin 2024; He & Cui 2020). Then in turn: the items within the limit determine the line,
those within the 95 % point of χ² determine τ, both corrected for the tails cut off, until the same items are kept. The
inner limit matters: with τ from all kept items, moves that are barely kept raise τ, which keeps them (simulated, 4 of
30 items moved by .5: 88 % named with one limit, 97 % with two).

**Two groups of items.** The items of one group may have moved as a whole against the others: a third constant, on b of
`others` alone, is then found with the line (a moderator, in terms of meta-analysis), and each group begins with the
intercept that suits it best. τ, and who moved singly, are told within the groups.

**Errors in common.** V may be U M Uᵀ beside what each item has of its own. Woodbury's formula inverts it, so that a
thousand items cost no more than their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import chdtr, chdtrc, chdtri, stdtrit

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.covariances import added, of_each, of_some, times
from irt_psychometrics.core.errors import BreakdownError

FEWEST = 3
"""Fewest items that say more than the two constants they determine."""
_MOVED = 0.00693
"""p of |z| = 2.7, beyond which an item moved (Huynh & Meyer 2010): of 30 sound items .2 are named falsely."""
_MOVED_OF_FEW = 0.001
_FEW = 10
"""Below so many items τ is badly known: it is at least `_LEAST_OF_FEW`, and the limit is wider."""
_LEAST_OF_FEW = 0.05
_CORE = 0.05
_MOST_ROUNDS = 20
_MOST_VARIATION = 4.0
"""Largest τ² looked for: items that vary by two SDs of ability have no scale in common."""
_MOST_ALIKE = 1e8
SLOPES, DIFFICULTIES = 0, 1


class NoLineError(BreakdownError):
    """No `FEWEST` items lie on one line within their errors."""


@dataclass(frozen=True)
class Differences:
    """What two samples say of K items at some constants.

    Attributes:
        d: shape (K, 2), differences in ln a and in b.
        by_constants: shape (K, 2, m), derivatives by (ln slope, intercept), m = 2, or by the intercept alone, m = 1.
        cov: of the errors of d, in the form of `covariances`, beside those in common.
        own_slopes: shape (K,), the items whose first number says something about them alone; that of others is not
            used.
        common, common_cov: U, shape (K, 2, r), and M, shape (r, r): U M Uᵀ is what the errors have in common.
    """

    d: Floats
    by_constants: Floats
    cov: Floats
    own_slopes: Mask
    common: Floats | None = None
    common_cov: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def keep(self, mask: Mask) -> Differences:
        return replace(
            self,
            d=self.d[mask],
            by_constants=self.by_constants[mask],
            cov=of_some(self.cov, mask),
            own_slopes=self.own_slopes[mask],
            common=None if self.common is None else self.common[mask],
        )

    def apart(self, others: Mask, by: float) -> Differences:
        """The same with b of `others` moved by `by`, which is one constant more."""
        of_b = np.stack([np.zeros(others.size), others], axis=1)
        return replace(
            self, d=self.d + by * of_b, by_constants=np.concatenate([self.by_constants, of_b[:, :, None]], axis=2)
        )

    def varying(self, tau2: Floats) -> Differences:
        """The same with the items' own variances of ln a and b, shape (2,), among the errors."""
        return replace(self, cov=added(self.cov, np.broadcast_to(np.diag(tau2), (len(self.d), 2, 2))))

    @property
    def used(self) -> Mask:
        """Shape (K, 2): the numbers that say something about a single item."""
        return np.stack([self.own_slopes, np.ones(len(self.d), dtype=bool)], axis=1)

    def only(self, used: Mask) -> Differences:
        """The same with zeros, which say nothing, in the place of what is not `used` (K, 2)."""
        said = used.reshape(len(self.cov), -1)
        cov = np.where(said[:, :, None] & said[:, None], self.cov, np.eye(self.cov.shape[1]))
        common = None if self.common is None else self.common * used[:, :, None]
        return replace(self, d=self.d * used, by_constants=self.by_constants * used[:, :, None], cov=cov, common=common)

    @property
    def cov_of_each(self) -> Floats:
        """Shape (K, 2, 2)."""
        own = of_each(self.cov)
        return own if self.common is None else own + self.common @ self.common_cov @ self.common.swapaxes(1, 2)

    def times_cov(self, by: Floats) -> Floats:
        """by · V of `by`, shape (m, 2K)."""
        own = times(by, self.cov)
        if self.common is None:
            return own
        common = self.common.reshape(by.shape[1], -1)
        return own + by @ common @ self.common_cov @ common.T

    def weighted(self, columns: Floats) -> Floats:
        """V⁻¹ · columns, shape (2K, n), of `columns`, shape (K, 2, n)."""
        factor = np.asarray(np.linalg.cholesky(self.cov), dtype=np.float64)
        own = _divided(columns, factor)
        if self.common is None:
            return own
        common = self.common.reshape(len(own), -1)
        own_common = _divided(self.common, factor)
        inner = np.eye(common.shape[1]) + self.common_cov @ (common.T @ own_common)
        return own - own_common @ np.linalg.solve(inner, self.common_cov @ (common.T @ own))

    def least(self, used: Mask) -> QStatistic:
        """Q by what is `used` (K, 2)."""
        said = self.only(used)
        columns = np.concatenate([said.d[:, :, None], said.by_constants], axis=2)
        weighted = said.weighted(columns)
        products = columns.reshape(weighted.shape).T @ weighted
        found, _, rank, _ = np.linalg.lstsq(products[1:, 1:], products[1:, 0], rcond=1e-12)
        weighted_residuals = (weighted[:, 0] - weighted[:, 1:] @ found).reshape(used.shape)
        return QStatistic(float(products[0, 0] - products[0, 1:] @ found), int(used.sum() - rank), weighted_residuals)


@dataclass(frozen=True)
class QStatistic:
    """Q, the least dᵀ V⁻¹ d over the constants, and its degrees of freedom; weighted_residuals: shape (K, 2), V⁻¹ times
    what the constants leave of d. As the variance of a number grows, Q falls by the square of its weighted residual."""

    q: float
    df: int
    weighted_residuals: Floats


def _divided(columns: Floats, factor: Floats) -> Floats:
    """(L Lᵀ)⁻¹ · columns, as (2K, n), of `columns`, shape (K, 2, n); factor: L."""
    white = np.linalg.solve(factor, columns.reshape(*factor.shape[:2], -1))
    return np.linalg.solve(factor.swapaxes(1, 2), white).reshape(2 * len(columns), -1)


@dataclass(frozen=True)
class Agreement:
    """Q with its degrees of freedom, the test that items do not vary, and the 95 % limits of τ among them."""

    q: float
    q_df: int
    tau_low: float
    tau_high: float

    @classmethod
    def from_differences(cls, at: Differences) -> Agreement:
        least = at.least(at.used)
        variation = _Variation.from_differences(at, DIFFICULTIES)
        low, high = (float(np.sqrt(variation.at_q(chdtri(variation.df, p)))) for p in (0.025, 0.975))
        return cls(least.q, least.df, low, high)

    @property
    def i_squared(self) -> float:
        """Share of the items' differences beyond errors (Higgins & Thompson 2002), 0 … 1."""
        return max(0.0, 1.0 - self.q_df / self.q) if self.q > 0 else 0.0


@dataclass(frozen=True)
class Alignment:
    """The line between two samples of K items, and what the items say of it.

    Attributes:
        constants: (ln slope, intercept) of θ on the one scale = slope · θ on the other + intercept; then, where there
            are others, what takes their b to the line.
        cov: shape (m, m), of those of `constants` that are not fixed; holds τ.
        kept: shape (K,), the items that determine the line.
        d, d_cov: shape (K, 2) and (K, 2, 2), how far each item is off the line, and the covariance of that where it
            varies as the others do.
        own: shape (K, 2), which of both numbers say something about a single item.
        d_by_own: shape (K, 2, 2), how far a difference of the item alone moves it off the line.
        wald: shape (K,), dᵀ d_cov⁻¹ d, the distance from the line of the other kept ones: χ² with 2 degrees of
            freedom, or 1 where the slope of an item says nothing.
        tau, tau_slope: SDs of the items' own b and ln a among those kept.
        agreement: of the items kept.
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
        """Shape (K,), as `wald`, of items that vary by SDs of at most `most`, and in b by `least` or more."""
        taus = np.array([self.tau_slope, self.tau])
        beyond = np.diag(taus**2 - np.clip(taus, [0.0, least], most) ** 2)
        return quadratic(self.d, self.d_cov - self.d_by_own @ beyond @ self.d_by_own.swapaxes(1, 2), self.own[:, 0])

    @property
    def slope(self) -> float:
        return float(np.exp(self.constants[0]))

    @property
    def intercept(self) -> float:
        return float(self.constants[1])

    @property
    def quantile(self) -> float:
        """Half the width of a 95 % interval of a constant, in its standard errors: τ is estimated from few items."""
        return float(stdtrit(max(int(self.kept.sum()) - 1, 1), 0.975))


def align(
    differences: Callable[[float, float], Differences],
    starts: Floats,
    *,
    others: Mask | None = None,
    expected_variation: float = 0.10,
) -> Alignment:
    """The line of the items that did not move.

    differences: of all K items, by (slope, intercept). starts: shape (S, 2), constants to begin with, lines through
    one item each. others: shape (K,), some of the items, which may have moved as a whole; None: no items have.

    Raises NoLineError where no FEWEST items lie on one line, LinAlgError where the errors are not a covariance matrix.
    """

    def at_constants(constants: Floats) -> Differences:
        at = differences(float(np.exp(constants[0])), float(constants[1]))
        return at if others is None else at.apart(others, float(constants[2]))

    found = _settled(at_constants, *_first(differences, starts, others, expected_variation**2), 0.0)
    for _ in range(_MOST_ROUNDS):
        at, before = at_constants(found.constants), found.kept
        variation = _Variation.from_differences(at.keep(before), SLOPES, found.tau**2)
        if variation.df == 0 or variation.at_q(chdtri(variation.df, 0.025)) == 0:
            break
        limit, df = _limits(at.own_slopes)[0][before], 1 + at.own_slopes[before].astype(np.int64)
        tau2_slope = variation.at_q(variation.df * _within(limit, df))
        found = _settled(at_constants, found.constants, found.wald, tau2_slope)
        if (found.kept == before).all():
            break
    return found


def invariant(
    differences: Callable[[float, float], Differences], start: tuple[float, float], p: float
) -> tuple[tuple[float, float], Floats]:
    """The constants by the items that lie on one line within their errors, without a variation of their own, and each
    item's p of that, shape (K,): those below `p` do not count, but for half of the items."""
    slope, intercept = start
    at = differences(slope, intercept)
    df = 1 + at.own_slopes.astype(np.int64)
    kept, before = np.ones(len(df), dtype=bool), None
    found = chdtrc(df, quadratic(at.d, at.cov_of_each, at.own_slopes))
    for _ in range(_MOST_ROUNDS):
        kept, before = found >= min(p, float(np.median(found))), kept
        if (kept == before).all():
            break
        line = _Line.through(at, kept, np.zeros(2))
        slope *= float(np.exp(line.step[0])) if line.step.size == 2 else 1.0
        intercept += float(line.step[-1])
        at = differences(slope, intercept)
        found = chdtrc(df, quadratic(at.d, _from_the_others(at, line.by_d), at.own_slopes))
    return (slope, intercept), found


def identifies_slope_and_location(units: Floats) -> Mask:
    """Shape (K,): the items whose two moments, with these derivatives (K, 2, 2) by ln a and b, say something about
    both; those of a curve so steep that both say one thing do not."""
    return np.linalg.cond(units) < _MOST_ALIKE


def _limits(own_slopes: Mask) -> tuple[Floats, Floats]:
    """Shape (K,) each: the distances beyond which an item moved, and up to which it says what τ is."""
    df = 1 + own_slopes.astype(np.int64)
    return chdtri(df, _MOVED_OF_FEW if own_slopes.size < _FEW else _MOVED), chdtri(df, _CORE)


def _first(
    differences: Callable[[float, float], Differences], starts: Floats, others: Mask | None, tau2: float
) -> tuple[Floats, Floats]:
    """The best of the lines to begin with, and the items' distances from it."""
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


def _settled(
    differences: Callable[[Floats], Differences], constants: Floats, wald: Floats, tau2_slope: float
) -> Alignment:
    """The line through the items kept, and those kept by the line, in turn until both stay; wald: their distances from
    the line to start with, that of `constants`."""
    limit, core = _limits(differences(constants).own_slopes)
    kept, inner = wald <= limit, wald <= core
    for _ in range(_MOST_ROUNDS):
        if kept.sum() < FEWEST:
            raise NoLineError(f"of {kept.size} items no {FEWEST} lie on one line within their errors")
        at = differences(constants)
        edge = core
        if inner.sum() < FEWEST:
            inner, edge = kept, limit
        variation = _Variation.from_differences(at.keep(inner), DIFFICULTIES, tau2_slope)
        df = 1 + at.own_slopes[inner].astype(np.int64)
        least = _LEAST_OF_FEW**2 if kept.size < _FEW else 0.0
        tau2 = np.array([tau2_slope, max(variation.at_q(variation.df * _within(edge[inner], df)), least)])
        line = _Line.through(at, kept, tau2)
        constants = constants + np.pad(line.step, (constants.size - line.step.size, 0))
        at = differences(constants)
        d_cov = _from_the_others(at.varying(tau2), line.by_d)
        wald = quadratic(at.d, d_cov, at.own_slopes)
        inner = wald <= core
        before, kept = kept, wald <= limit
        if (kept == before).all() and np.abs(line.step).max() < 1e-6:
            break
    if kept.sum() < FEWEST:
        raise NoLineError(f"of {kept.size} items no {FEWEST} lie on one line within their errors")
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


def _within(limit: Floats, df: Ints) -> float:
    """Mean of χ² cut off at `limit` over that of χ², of several items, shape (K,) each."""
    return float((df * chdtr(df + 2, limit) / chdtr(df, limit)).sum() / df.sum())


@dataclass(frozen=True)
class _Variation:
    """Q(τ²) − Q₁ of the module's text for the variation of one of the items' two numbers, `of_number`; `others`: Q₁;
    df: how many degrees of freedom the difference has."""

    at: Differences
    of_number: int
    others: float
    df: int

    @classmethod
    def from_differences(cls, at: Differences, number: int, tau2_of_other: float = 0.0) -> _Variation:
        """`tau2_of_other`: how the other number varies."""
        tau2 = np.full(2, tau2_of_other)
        tau2[number] = 0.0
        at = at.varying(tau2)
        others = at.least(at.used & (np.arange(2) != number))
        return cls(at, number, others.q, at.least(at.used).df - others.df)

    def at_q(self, q: float) -> float:
        """τ² at which the difference is q; 0 where it is less already at 0.

        Newton's steps on 1/(Q(τ²) − Q₁), which rises and is concave, stay below the root (after DerSimonian & Kacker
        2007).
        """
        tau2 = 0.0
        for _ in range(_MOST_ROUNDS):
            varying = self.at.varying(tau2 * np.eye(2)[self.of_number])
            least = varying.least(varying.used)
            left = least.q - self.others
            if left <= q * (1 + 1e-12):
                break
            falls = float((least.weighted_residuals[:, self.of_number] ** 2).sum())
            tau2 = min(tau2 + (left / q - 1) * left / falls, _MOST_VARIATION)
        return tau2


@dataclass(frozen=True)
class _Line:
    """The step to the least-squares constants (m,), their covariance (m, m), and its derivatives by d (m, 2K); all 0 of
    what takes others to the line where none of them is kept."""

    step: Floats
    cov: Floats
    by_d: Floats

    @classmethod
    def through(cls, at: Differences, kept: Mask, tau2: Floats) -> _Line:
        inside = at.keep(kept).varying(tau2)
        inside = inside.only(inside.used)
        x = inside.by_constants.reshape(2 * len(inside.d), -1)
        solved = inside.weighted(inside.by_constants)
        cov = np.asarray(np.linalg.pinv(x.T @ solved, hermitian=True), dtype=np.float64)
        by_d = np.zeros((len(cov), 2 * kept.size))
        by_d[:, np.repeat(kept, 2)] = -cov @ solved.T
        return cls(by_d @ at.d.ravel(), cov, by_d)


def _from_the_others(at: Differences, by_d: Floats) -> Floats:
    """Shape (K, 2, 2), of the items' distances from a line found by least squares, whose derivatives are `by_d`. With
    variances known, a residual over its own error is the difference from the line of the others over that error (Cook &
    Weisberg 1982)."""
    moved = at.times_cov(by_d)
    shared = at.by_constants @ moved.reshape(len(moved), -1, 2).swapaxes(0, 1)
    of_line = at.by_constants @ (moved @ by_d.T) @ at.by_constants.swapaxes(1, 2)
    return at.cov_of_each + shared + shared.swapaxes(1, 2) + of_line


def quadratic(d: Floats, v: Floats, own_slopes: Mask) -> Floats:
    """dᵀ v⁻¹ d of each item, of the second number alone where slopes say nothing."""
    wald: Floats = d[:, 1] ** 2 / v[:, 1, 1]
    d, v = d[own_slopes], v[own_slopes]
    wald[own_slopes] = np.einsum("kx,kx->k", d, np.linalg.solve(v, d[:, :, None])[:, :, 0])
    return wald
