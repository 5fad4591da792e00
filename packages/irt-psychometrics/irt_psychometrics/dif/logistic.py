"""DIF by logistic regression: the score predicts the answers, first alone and then together with the group.

Unlike Mantel-Haenszel, it also detects differences that change sign along the score. The same caution applies: equal
scores are only nearly equal abilities.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import chdtrc

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.logistic import expit
from irt_psychometrics.dif.forms import Cells

Size = Literal["A", "B", "C"]

MODERATE, LARGE = 0.035, 0.070
"""Limits on ΔR² (Jodoin & Gierl 2001)."""
CERTAIN_P = 0.05
_MAX_STEPS, _MAX_HALVINGS, _FLAT = 50, 30, 1e-8


@dataclass(frozen=True)
class LogisticDif:
    """One item between the reference and one focal group.

    Attributes:
        p: p-value of the hypothesis of no DIF of either kind, 2 df.
        p_uniform: p-value of the hypothesis of no shift, 1 df.
        p_nonuniform: p-value of the hypothesis of no interaction between score and group, 1 df.
        delta_r2: increase of Nagelkerke's R² by shift and interaction, in [0, 1].
        delta_r2_uniform: increase of Nagelkerke's R² by the shift alone.
        size: "A" if p ≥ 0.05 or ΔR² < 0.035, "C" if ΔR² ≥ 0.070, otherwise "B".

    The numbers are NaN, and size is None, unless both groups have right and wrong answers.
    """

    p: float
    p_uniform: float
    p_nonuniform: float
    delta_r2: float
    delta_r2_uniform: float
    size: Size | None


def logistic_dif(counts: Cells, focal: int) -> LogisticDif:
    """Swaminathan & Rogers' (1990) likelihood ratio tests between three models of logit P(right):

        form + form·score,   … + group,   … + group + group·score.

    Each form has its own intercept and slope; group 0 is the reference. ΔR² is the R² of the third model minus the R²
    of the first. Both are Nagelkerke's (1991), relative to a model with only the forms' intercepts.
    """
    cell, side = np.nonzero(counts.n[:, [0, focal]] > 0)
    columns = np.array([0, focal])[side]
    n, right = counts.n[cell, columns], counts.right[cell, columns]
    by_group = [(right[side == g].sum(), n[side == g].sum()) for g in (0, 1)]
    if not all(0 < r < m for r, m in by_group):
        return LogisticDif(np.nan, np.nan, np.nan, np.nan, np.nan, None)
    dummies = (counts.form[cell][:, None] == np.unique(counts.form[cell])).astype(float)
    middle = (n @ counts.score[cell]) / n.sum()
    score, group = counts.score[cell] - middle, side - 0.5
    matched = np.column_stack([dummies, dummies * score[:, None]])
    uniform = np.column_stack([matched, group])
    full = np.column_stack([uniform, group * score])
    null, base, shifted, crossed = (_loglik(x, n, right) for x in (dummies, matched, uniform, full))
    N = float(n.sum())
    most = -np.expm1(2 * null / N)
    unexplained = [float(np.exp(2 * (null - value) / N) / most) for value in (base, shifted, crossed)]
    delta_r2 = unexplained[0] - unexplained[2]
    p = float(chdtrc(2, max(2 * (crossed - base), 0.0)))
    return LogisticDif(
        p,
        float(chdtrc(1, max(2 * (shifted - base), 0.0))),
        float(chdtrc(1, max(2 * (crossed - shifted), 0.0))),
        delta_r2,
        unexplained[0] - unexplained[1],
        "A" if p >= CERTAIN_P or delta_r2 < MODERATE else "C" if delta_r2 >= LARGE else "B",
    )


def _loglik(x: Floats, n: Floats, right: Floats) -> float:
    """Supremum of the binomial log-likelihood, by Newton steps that are halved until the log-likelihood no longer
    falls.

    Collinear columns (from a form on which only one score occurred) are harmless, because the steps are least-squares
    solutions. Coefficients without a finite maximum are harmless, too, because the supremum is finite.
    """
    beta, value = np.zeros(x.shape[1]), -float(n.sum()) * np.log(2)
    for _ in range(_MAX_STEPS):
        p = expit(x @ beta)
        weighted = x * (n * p * (1 - p))[:, None]
        step = np.linalg.lstsq(weighted.T @ x, x.T @ (right - n * p), rcond=None)[0]
        for _ in range(_MAX_HALVINGS):
            eta = x @ (beta + step)
            climbed = float(right @ eta - n @ np.logaddexp(0.0, eta)) - value
            if climbed >= 0:
                break
            step = step / 2
        if climbed < _FLAT:
            break
        beta, value = beta + step, value + climbed
    return value
