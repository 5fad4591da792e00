"""The line that puts one sample's items on another's scale, where items vary a little and some moved.

Belongs here: arithmetic on two numbers an item and their covariance. Does not belong here: what the numbers are (a
caller has ln a and b, or the moments of curves), which items take part, and what a gate makes of the result.

**Model.** Item j's two differences between the samples, D_j, are 0 in expectation at the right constants but for
errors, with covariance V, and for its own variation on b, δ_j ~ N(0, τ²), a random effect of linking (Haberman 2009;
De Boeck 2008; Robitzsch 2021):

    D ~ N(X β, V + τ² B Bᵀ),

X being the derivatives of D by the constants and B those by δ. The constants are found by generalised least squares.

**τ.** With N a basis of the differences that no constants explain, and μ_i, z_i from the eigenproblem
NᵀBBᵀN u = μ NᵀVN u (z_i = uᵢᵀNᵀD, uᵀNᵀVN u = 1),

    Q(τ²) = Σ z_i² / (1 + τ² μ_i)  over the μ_i > 0

is χ² with as many degrees of freedom at the true τ²: what D says of b given what it says of the slopes. τ² solves
Q(τ²) = its degrees of freedom (Paule & Mandel 1982), and the quantiles of χ² give its interval (Q-profile: Viechtbauer
2007).

**Who moved.** τ estimated over all items takes the moved ones in and names none. So the line is found first, as the one
with the least Σ min(W, limit) over lines through one item's b with the median slope, W being an item's Wald distance
with τ = `expected_variation` (Halpin 2024; He & Cui 2020). Then in turn: the items within the limit determine the line,
those within the 95 % point of χ² determine τ, both corrected for the tails cut off, until the same items are kept. The
inner limit matters: with τ from all kept items, moves that are barely kept raise τ, which keeps them (simulated, 4 of
30 items moved by .5: 88 % named with one limit, 97 % with two).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, null_space
from scipy.optimize import brentq
from scipy.stats import chi2
from scipy.stats import t as student

from irt_assets.psychometrics.core.arrays import Floats, Ints, Mask
from irt_assets.psychometrics.core.errors import BreakdownError

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


@dataclass(frozen=True)
class Differences:
    """What two samples say of K items at some constants.

    Attributes:
        d: shape (K, 2); the first number does not depend on δ.
        by_constants: shape (K, 2, m), derivatives by (ln slope, intercept), m = 2, or by the intercept alone, m = 1.
        cov: shape (2K, 2K), of the errors of d.
        by_variation: shape (K,), derivative of the second number by δ.
    """

    d: Floats
    by_constants: Floats
    cov: Floats
    by_variation: Floats

    def cov_with(self, tau2: float) -> Floats:
        """Shape (2K, 2K), of d where the items vary by τ²."""
        return self.cov + tau2 * np.diag(_of_second(self.by_variation) ** 2)


@dataclass(frozen=True)
class Alignment:
    """The line between two samples of K items, and what the items say of it.

    Attributes:
        slope, intercept: θ on the one scale = slope · θ on the other + intercept.
        cov: shape (m, m), of (ln slope, intercept), or of the intercept where the slope is fixed; holds τ.
        kept: shape (K,), the items that determine the line.
        wald: shape (K,), each item's distance from the line that the other kept ones determine, χ² with 2 degrees of
            freedom, or 1 where the slope of an item says nothing, if it varies as the others do.
        tau: SD of δ among the items kept.
        tau_low, tau_high: its 95 % limits.
        q, q_df: the test of τ = 0 among the items kept.
    """

    slope: float
    intercept: float
    cov: Floats
    kept: Mask
    wald: Floats
    tau: float
    tau_low: float
    tau_high: float
    q: float
    q_df: int

    @property
    def i_squared(self) -> float:
        """Share of the kept items' differences beyond errors (Higgins & Thompson 2002), 0 … 1."""
        return max(0.0, 1.0 - self.q_df / self.q) if self.q > 0 else 0.0

    @property
    def quantile(self) -> float:
        """Half the width of a 95 % interval of a constant, in its standard errors: τ is estimated from few items."""
        return float(student.ppf(0.975, max(int(self.kept.sum()) - 1, 1)))


def align(
    differences: Callable[[float, float], Differences],
    starts: Floats,
    *,
    own_slopes: Mask,
    expected_variation: float = 0.10,
) -> Alignment:
    """The line of the items that did not move.

    differences: of all K items, by (slope, intercept). starts: shape (S, 2), constants to begin with, lines through
    one item each. own_slopes: shape (K,), the items whose first number says something about them alone.

    Raises BreakdownError where the errors are not a covariance matrix or no FEWEST items lie on one line.
    """
    usable = np.stack([own_slopes, np.ones(own_slopes.size, dtype=bool)], axis=1).ravel()
    df = 1 + own_slopes.astype(np.int64)
    few = own_slopes.size < _FEW
    limit, core = chi2.isf(_MOVED_OF_FEW if few else _MOVED, df), chi2.isf(_CORE, df)
    least = _LEAST_OF_FEW**2 if few else 0.0

    distances = [_distances(differences(*start), own_slopes, expected_variation**2) for start in starts]
    best = int(np.argmin([np.minimum(each, limit).sum() for each in distances]))
    (slope, intercept), wald = starts[best], distances[best]
    kept = wald <= limit
    for _ in range(_MOST_ROUNDS):
        if kept.sum() < FEWEST:
            raise BreakdownError(f"of {own_slopes.size} items no {FEWEST} lie on one line within their errors")
        inner, edge = (wald <= core, core) if (wald <= core).sum() >= FEWEST else (kept, limit)
        at = differences(slope, intercept)
        variation = _Variation.of(at, np.repeat(inner, 2) & usable)
        tau2 = max(variation.at_q(variation.df * _within(edge[inner], df[inner])), least)
        line = _Line.through(at, np.repeat(kept, 2) & usable, tau2)
        slope *= float(np.exp(line.step[0])) if line.step.size == 2 else 1.0
        intercept += float(line.step[-1])
        wald = _distances_from_line(differences(slope, intercept), own_slopes, tau2, line.by_d)
        before, kept = kept, wald <= limit
        if (kept == before).all() and np.abs(line.step).max() < 1e-6:
            break
    at = differences(slope, intercept)
    q = _Variation.of(at, np.repeat(kept, 2) & usable)
    low, high = (variation.at_q(float(chi2.isf(p, variation.df))) for p in (0.025, 0.975))
    return Alignment(
        slope=float(slope),
        intercept=float(intercept),
        cov=line.cov,
        kept=kept,
        wald=wald,
        tau=float(np.sqrt(tau2)),
        tau_low=float(np.sqrt(low)),
        tau_high=float(np.sqrt(high)),
        q=q.all,
        q_df=q.all_df,
    )


def _within(limit: Floats, df: Ints) -> float:
    """Mean of χ² cut off at `limit` over that of χ², of several items, shape (K,) each."""
    return float((df * chi2.cdf(limit, df + 2) / chi2.cdf(limit, df)).sum() / df.sum())


@dataclass(frozen=True)
class _Variation:
    """μ_i > 0 and z_i of the module's text; `all`, `all_df`: Q at τ = 0 with the slopes' part."""

    mu: Floats
    z: Floats
    all: float
    all_df: int

    @classmethod
    def of(cls, at: Differences, usable: Mask) -> _Variation:
        """What the numbers that are `usable`, shape (2K,), say."""
        free = null_space(at.by_constants.reshape(usable.size, -1)[usable].T)
        by_delta = np.diag(_of_second(at.by_variation))[:, 1::2][usable]
        moved = free.T @ by_delta
        mu, u = eigh(moved @ moved.T, free.T @ at.cov[np.ix_(usable, usable)] @ free)
        z = u.T @ (free.T @ at.d.ravel()[usable])
        varies = mu > 1e-9 * mu[-1]
        return cls(mu[varies], z[varies], float(z @ z), z.size)

    @property
    def df(self) -> int:
        return self.mu.size

    def at_q(self, q: float) -> float:
        """τ² at which Q is q; 0 where it is less already at 0."""

        def excess(tau2: float) -> float:
            return float((self.z**2 / (1 + tau2 * self.mu)).sum()) - q

        if excess(0.0) <= 0:
            return 0.0
        return float(brentq(excess, 0.0, _MOST_VARIATION)) if excess(_MOST_VARIATION) < 0 else _MOST_VARIATION


def _of_second(x: Floats) -> Floats:
    """Shape (2K,): x, shape (K,), at the items' second numbers, 0 at the first."""
    return np.stack([np.zeros_like(x), x], axis=1).ravel()


@dataclass(frozen=True)
class _Line:
    """The step to the least-squares constants (m,), their covariance (m, m), and its derivatives by d (m, 2K)."""

    step: Floats
    cov: Floats
    by_d: Floats

    @classmethod
    def through(cls, at: Differences, usable: Mask, tau2: float) -> _Line:
        x = at.by_constants.reshape(usable.size, -1)[usable]
        v = at.cov_with(tau2)[np.ix_(usable, usable)]
        solved = np.linalg.solve(v, x)
        cov = np.linalg.inv(x.T @ solved)
        by_d = np.zeros((x.shape[1], usable.size))
        by_d[:, usable] = -cov @ solved.T
        return cls(by_d @ at.d.ravel(), cov, by_d)


def _distances(at: Differences, own_slopes: Mask, tau2: float) -> Floats:
    """Shape (K,): Wald distances from constants that are given."""
    return _quadratic(at.d, _blocks(at.cov_with(tau2)), own_slopes)


def _distances_from_line(at: Differences, own_slopes: Mask, tau2: float, by_d: Floats) -> Floats:
    """Shape (K,): those from a line found by least squares. With variances known, a residual over its own error is the
    difference from the line of the others over that error (Cook & Weisberg 1982)."""
    v = at.cov_with(tau2)
    residual = np.eye(len(v)) + at.by_constants.reshape(len(v), -1) @ by_d
    return _quadratic(at.d, _blocks(residual @ v @ residual.T), own_slopes)


def _blocks(v: Floats) -> Floats:
    k = np.arange(len(v) // 2)
    return v.reshape(k.size, 2, k.size, 2)[k, :, k, :]


def _quadratic(d: Floats, v: Floats, own_slopes: Mask) -> Floats:
    """Dᵀ V⁻¹ D of each item, of the second number alone where slopes say nothing."""
    alone = d[:, 1] ** 2 / v[:, 1, 1]
    both = np.einsum("kx,kx->k", d, np.linalg.solve(v, d[:, :, None])[:, :, 0])
    return np.where(own_slopes, both, alone)
