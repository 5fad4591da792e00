"""DIF by Mantel-Haenszel: the odds of a right answer in two groups at equal score.

It is a second opinion next to the Wald test: simple, and the basis of the testing industry's classes. If groups differ
in ability and items in slope, equal scores are not equal abilities, so it must not decide alone.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import chdtrc

from irt_psychometrics.dif.forms import Cells

EtsClass = Literal["A", "B", "C"]

DELTA = -2.35
"""Factor from a log odds ratio to ETS's delta scale of difficulty, 4/1.7 (Holland & Thayer 1988)."""
NEGLIGIBLE, LARGE = 1.0, 1.5
CERTAIN_Z, CERTAIN_P = 1.645, 0.05
FOUND_Z = 1.959964 + 0.841621
"""A difference of this many standard errors is found with a probability of 80 %: the sum of the normal quantiles of
.975 and .8."""


@dataclass(frozen=True)
class MantelHaenszel:
    """One item between the reference and one focal group.

    Attributes:
        odds_ratio: common α̂, reference over focal; above 1 the item is harder for the focal group.
        delta: −2.35 ln α̂; below 0 the item is harder for the focal group.
        se: standard error of delta.
        chi2, p: test of α = 1 with continuity correction, 1 df.
        ets_class: "A" (negligible), "B" or "C" (large).

    The numbers are NaN, and ets_class is None, if the groups cannot be compared in any stratum.
    """

    odds_ratio: float
    delta: float
    se: float
    chi2: float
    p: float
    ets_class: EtsClass | None

    @property
    def detectable(self) -> float:
        """Size of delta that a two-sided 5 % test finds with a probability of 80 % at this standard error."""
        return FOUND_Z * self.se

    @property
    def low_power(self) -> bool:
        """Whether a large difference (class C) is missed with a probability above 20 %."""
        return self.detectable > LARGE


def mantel_haenszel(counts: Cells, focal: int) -> MantelHaenszel:
    """Mantel & Haenszel's (1959) common odds ratio over forms × scores and their χ², with group 0 as the reference.

    In a stratum, let A and B be the numbers of right and wrong answers of the reference group, C and D the same numbers
    of the focal group, and T the sum of all four. Then α̂ = ΣAD/T ÷ ΣBC/T. With P = (A + D)/T, Q = (B + C)/T, R = AD/T
    and S = BC/T, the variance of ln α̂ is ΣPR/2(ΣR)² + Σ(PS + QR)/2ΣRΣS + ΣQS/2(ΣS)² (Robins, Breslow & Greenland
    1986). The variance of Phillips & Holland (1987) is the same for these tables.

    Classes are ETS's (Zieky 1993), with one-sided 5 % for C: C if |Δ| ≥ 1.5 and |Δ| − 1.645 SE > 1; A if |Δ| < 1 or
    p ≥ 0.05; otherwise B.
    """
    n_ref, n_foc = counts.n[:, 0], counts.n[:, focal]
    both = (n_ref > 0) & (n_foc > 0)
    n_ref, n_foc = n_ref[both], n_foc[both]
    A, C = counts.right[both, 0], counts.right[both, focal]
    B, D, T = n_ref - A, n_foc - C, n_ref + n_foc
    R, S, P, Q = A * D / T, B * C / T, (A + D) / T, (B + C) / T
    several = T > 1
    M, n1, n0, t = (A + C)[several], n_ref[several], n_foc[several], T[several]
    variance = float((n1 * n0 * M * (t - M) / (t**2 * (t - 1))).sum())
    if not (R.sum() > 0 and S.sum() > 0 and variance > 0):
        return MantelHaenszel(np.nan, np.nan, np.nan, np.nan, np.nan, None)
    statistic = max(abs(float((A[several] - n1 * M / t).sum())) - 0.5, 0.0) ** 2 / variance
    p = float(chdtrc(1, statistic))
    odds_ratio = float(R.sum() / S.sum())
    log_variance = (
        (P * R).sum() / (2 * R.sum() ** 2)
        + (P * S + Q * R).sum() / (2 * R.sum() * S.sum())
        + (Q * S).sum() / (2 * S.sum() ** 2)
    )
    delta, se = DELTA * float(np.log(odds_ratio)), -DELTA * float(np.sqrt(log_variance))
    return MantelHaenszel(odds_ratio, delta, se, statistic, p, ets_class(delta, se, p))


def ets_class(delta: float, se: float, p: float) -> EtsClass:
    """ETS class of a Δ with standard error se; p is the p-value of Δ = 0."""
    if abs(delta) >= LARGE and abs(delta) - CERTAIN_Z * se > NEGLIGIBLE:
        return "C"
    return "A" if abs(delta) < NEGLIGIBLE or p >= CERTAIN_P else "B"
