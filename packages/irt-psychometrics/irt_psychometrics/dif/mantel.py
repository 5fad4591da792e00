"""Mantel's test and the standardised mean difference, the counterpart of Mantel-Haenszel for scored items.

They are a second opinion next to the Wald test, with the same caution: equal scores are only nearly equal abilities.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from irt_psychometrics.dif.forms import Cells
from irt_psychometrics.dif.mantel_haenszel import CERTAIN_P, EtsClass

NEGLIGIBLE, LARGE = 0.17, 0.25
"""Limits on |SMD| divided by the SD of the item's scores (Zwick, Thayer & Mazzeo 1997)."""


@dataclass(frozen=True)
class Mantel:
    """One scored item between the reference and one focal group.

    Attributes:
        smd: standardised mean difference, focal minus reference, in points; below 0 the item is harder for the focal
            group.
        se: standard error of smd.
        chi2, p: Mantel's test of no association at equal score, 1 df.
        ets_class: "A" if p ≥ 0.05 or |SMD| ≤ 0.17 SD, "C" above 0.25 SD, otherwise "B".

    The numbers are NaN, and ets_class is None, if the groups cannot be compared in any stratum.
    """

    smd: float
    se: float
    chi2: float
    p: float
    ets_class: EtsClass | None


def mantel(counts: Cells, focal: int) -> Mantel:
    """Mantel's (1963) χ² over forms × scores, with group 0 as the reference, and the standardised mean difference
    (Dorans & Schmitt 1991; Zwick, Donoghue & Grima 1993).

    Let F be the focal group's sum of scores in a stratum of T sittings, n_R and n_F the numbers of sittings of the
    groups, and S and S₂ the sums of all scores and of their squares. If the groups do not differ, E(F) = n_F S/T and
    Var(F) = n_R n_F (T S₂ − S²)/(T²(T − 1)). χ² = (ΣF − ΣE(F))²/ΣVar(F). SMD is the mean over strata of the differences
    in mean score, with weights w = n_F/Σn_F, so Var(SMD) = Σ w² (1/n_R + 1/n_F)² Var(F) (Zwick & Thayer 1996).
    """
    n = counts.n[:, [0, focal]]
    both = (n > 0).all(axis=1)
    n, points, squares = n[both], counts.right[both][:, [0, focal]], counts.squares[both][:, [0, focal]].sum(axis=1)
    total, total_n = points.sum(axis=1), n.sum(axis=1)
    variance = n.prod(axis=1) * (total_n * squares - total**2) / (total_n**2 * np.maximum(total_n - 1, 1))
    if not variance.sum() > 0:
        return Mantel(np.nan, np.nan, np.nan, np.nan, None)
    chi2 = float((points[:, 1] - n[:, 1] * total / total_n).sum() ** 2 / variance.sum())
    p = float(chdtrc(1, chi2))
    weight = n[:, 1] / n[:, 1].sum()
    smd = float(weight @ np.subtract(*(points / n).T[::-1]))
    se = float(np.sqrt(weight**2 @ ((1 / n).sum(axis=1) ** 2 * variance)))
    sd = np.sqrt(squares.sum() / n.sum() - (total.sum() / n.sum()) ** 2)
    size = abs(smd) / sd
    return Mantel(smd, se, chi2, p, "A" if p >= CERTAIN_P or size <= NEGLIGIBLE else "C" if size > LARGE else "B")
