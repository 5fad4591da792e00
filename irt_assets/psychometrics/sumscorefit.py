"""S-X²: the item's proportion correct at each sum score against the model's (Orlando & Thissen 2000).

It needs a sum score that means the same for all who have it, so learners are compared within a form (those who saw
the same set of items), and the forms an item was on are pooled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from irt_assets.psychometrics.curves import probability
from irt_assets.psychometrics.design import Ints, seen_sets
from irt_assets.psychometrics.models import Calibration, Floats, Responses
from irt_assets.psychometrics.quadrature import Grid
from irt_assets.psychometrics.replicate import Fitted
from irt_assets.psychometrics.sumscores import expected_proportions

SMALLEST_CELL = 1.0
"""Neighbouring sum scores are joined until each group expects this many right and wrong answers."""
SMALLEST_FORM = 100
"""Learners; a form with fewer gives a handful of groups and costs as much to compute as one with thousands."""


@dataclass(frozen=True)
class SumScoreFit:
    """Shape (J,) each, for all items of the calibration.

    Attributes:
        statistic: S-X², NaN where there is no degree of freedom.
        df: groups of sum scores, over all forms, less the parameters estimated for the item; 0 where it cannot be
            tested (no parameters, or on no form of two items and `SMALLEST_FORM` learners).
        p: upper tail of χ² with df degrees of freedom.
        n: learners on the forms that count.
    """

    statistic: Floats
    df: Ints
    p: Floats
    n: Ints


def sum_score_fit(responses: Responses, calibration: Calibration) -> SumScoreFit:
    """S-X² of every item over all forms that `SMALLEST_FORM` or more learners took.

    Within a form, learners with sum score k answer item j correctly with probability
    E_jk = ∫ P_j S_{k−1}^{(j)} φ / ∫ S_k φ, whatever their θ, S^{(j)} being the distribution of the sum over the other
    items; S-X² = Σ N_k (O_jk − E_jk)²/(E_jk (1 − E_jk)). Scores 0 and J say nothing.
    """
    whole = Fitted.of(responses, calibration)
    fit, r = whole.calibration, whole.responses
    sets = seen_sets(r)
    size = np.bincount(sets.of_person[sets.of_person >= 0], minlength=len(sets.start) - 1)
    unit = Grid.spanning()
    theta = fit.latent_mean + fit.latent_sd * unit.nodes
    weights = np.exp(unit.log_weights())
    p = np.ascontiguousarray(probability(theta, fit.a, fit.d, fit.c).T)
    statistic, groups, n = np.zeros(fit.n_items), np.zeros(fit.n_items, dtype=np.int64), np.zeros_like(whole.place)
    by_form = np.argsort(sets.of_person, kind="stable")
    ends = np.cumsum(np.concatenate(([np.count_nonzero(sets.of_person < 0)], size)))
    for form in np.flatnonzero((size >= SMALLEST_FORM) & (np.diff(sets.start) >= 2)):
        persons = by_form[ends[form] : ends[form + 1]]
        length = int(np.diff(sets.start)[form])
        rows = sets.row_start[persons][:, None] + np.arange(length)
        items, answers = r.item[rows], r.score[rows]
        items_of_form = sets.items[sets.start[form] : sets.start[form + 1]]
        answers = np.take_along_axis(answers, np.argsort(items, axis=1), axis=1)
        items_of_form = np.sort(items_of_form)
        expected, _ = expected_proportions(p[items_of_form], weights)
        total = answers.sum(axis=1)
        count = np.bincount(total, minlength=length + 1)
        for place, j in enumerate(items_of_form):
            right = np.bincount(total, weights=answers[:, place], minlength=length + 1)
            inside = slice(1, length)
            value, cells = _pearson(right[inside], count[inside], expected[place, inside])
            statistic[j] += value
            groups[j] += cells
            n[j] += len(persons)
    parameters = {"rasch": 1, "1pl": 1, "2pl": 2, "3pl": 3}[fit.model]
    df = np.maximum(groups - parameters, 0)
    statistic = np.where(df > 0, statistic, np.nan)
    all_df, all_n = np.zeros(whole.n_all, dtype=np.int64), np.zeros(whole.n_all, dtype=np.int64)
    all_df[whole.place], all_n[whole.place] = df, n
    return SumScoreFit(whole.among_all(statistic), all_df, whole.among_all(chdtrc(np.maximum(df, 1), statistic)), all_n)


def _pearson(right: npt.NDArray[np.number], count: npt.NDArray[np.int64], expected: Floats) -> tuple[float, int]:
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
