"""S-X²: the item's proportion correct at each sum score against the model's (Orlando & Thissen 2000).

It needs a sum score that means the same for all who have it, so learners are compared within a form (those who saw
the same set of items), and the forms an item was on are pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from irt_assets.psychometrics.core.arrays import Floats, Ints
from irt_assets.psychometrics.core.item_models import item_model
from irt_assets.psychometrics.core.models import Calibration, Responses
from irt_assets.psychometrics.fit.model_replicates import Fitted, complete_forms
from irt_assets.psychometrics.scoring.sum_scores import expected_proportions

SMALLEST_CELL = 1.0
"""Neighbouring sum scores are joined until each group expects this many right and wrong answers."""
SMALLEST_FORM = 100
"""Fewest learners of a form; with fewer it gives a handful of groups and costs as much to compute as one with
thousands."""


@dataclass(frozen=True)
class SumScoreFit:
    """Shape (J,) each, for all items of the calibration.

    Attributes:
        statistic: S-X², NaN without a degree of freedom.
        df: groups of sum scores, over all forms, less the parameters estimated for the item; 0 where it cannot be
            tested (no parameters, or on no form of two items and `SMALLEST_FORM` learners).
        p: upper tail of χ² with df degrees of freedom.
        n: learners on the forms that count.
    """

    statistic: Floats
    df: Ints
    p: Floats
    n: Ints


def sum_score_fit(
    responses: Responses, calibration: Calibration, *, groups: Sequence[str] | None = None
) -> SumScoreFit:
    """S-X² of every item over all forms that `SMALLEST_FORM` or more learners took.

    Within a form, learners with sum score k answer item j correctly with probability
    E_jk = ∫ P_j S_{k−1}^{(j)} φ / ∫ S_k φ, whatever their θ, S^{(j)} being the distribution of the sum over the other
    items; S-X² = Σ N_k (O_jk − E_jk)²/(E_jk (1 − E_jk)). Scores 0 and J say nothing. Where the fit has groups, φ is
    the group's and a form is counted group by group (`groups`: n_persons labels). Anchors lose no degrees of freedom.
    """
    whole = Fitted.of(responses, calibration, groups)
    fit, abilities = whole.calibration, whole.abilities
    p = np.ascontiguousarray(fit.curves.probability(abilities.nodes).T)
    statistic, cells, n = np.zeros(fit.n_items), np.zeros(fit.n_items, dtype=np.int64), np.zeros_like(whole.place)
    for form in complete_forms(whole, SMALLEST_FORM):
        length = len(form.items)
        if length < 2:
            continue
        answers, weights = form.answers, abilities.weights[form.group]
        expected, _ = expected_proportions(np.ascontiguousarray(p[form.items]), weights)
        total = answers.sum(axis=1)
        count = np.bincount(total, minlength=length + 1)
        for place, j in enumerate(form.items):
            right = np.bincount(total, weights=answers[:, place], minlength=length + 1)
            inside = slice(1, length)
            value, number = _pearson(right[inside], count[inside], expected[place, inside])
            statistic[j] += value
            cells[j] += number
            n[j] += len(answers)
    parameters = np.array([item_model(name).n_own for name in fit.models]) * whole.estimated_here
    df = np.maximum(cells - parameters, 0)
    statistic = np.where(df > 0, statistic, np.nan)
    all_df, all_n = np.zeros(whole.n_all, dtype=np.int64), np.zeros(whole.n_all, dtype=np.int64)
    all_df[whole.place], all_n[whole.place] = df, n
    return SumScoreFit(whole.among_all(statistic), all_df, whole.among_all(chdtrc(np.maximum(df, 1), statistic)), all_n)


def _pearson(right: npt.NDArray[np.number], count: Ints, expected: Floats) -> tuple[float, int]:
    """Pearson's χ² over groups of neighbouring scores, and the number of groups.

    While a group expects fewer than `SMALLEST_CELL` right or wrong answers, the lowest such group joins the neighbour
    that fewer learners are in.
    """
    groups = [np.array([o, n * e, n * (1 - e), n]) for o, n, e in zip(right, count, expected, strict=True) if n]
    while len(groups) > 1:
        k = next((k for k, group in enumerate(groups) if min(group[1], group[2]) < SMALLEST_CELL), None)
        if k is None:
            break
        below, above = k - 1, k + 1
        if k == 0 or (above < len(groups) and groups[above][3] < groups[below][3]):
            groups[above] += groups[k]
        else:
            groups[below] += groups[k]
        del groups[k]
    if not groups or min(groups[0][1], groups[0][2]) < SMALLEST_CELL:
        return 0.0, 0
    return sum(float((o - h) ** 2 * (1 / h + 1 / m)) for o, h, m, _ in groups), len(groups)
