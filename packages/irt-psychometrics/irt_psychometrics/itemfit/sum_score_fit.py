"""S-X²: the item's proportion correct at each sum score against the model's (Orlando & Thissen 2000), of an item scored
0 … m the shares of its scores (Kang & Chen 2008).

It needs a sum score that means the same for all who have it, so learners are compared within a form (those who saw
the same set of items), and the forms an item was on are pooled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.itemfit.model_replicates import Fitted, Form, complete_forms
from irt_psychometrics.scoring.sum_scores import expected_proportions, expected_shares

SMALLEST_CELL = 1.0
"""Neighbouring sum scores are joined until each group expects this many right and wrong answers; of scored items, also
neighbouring scores of a group, until it expects this many of two at least."""
SMALLEST_FORM = 100
"""Fewest learners of a form; with fewer it gives a handful of groups and costs as much to compute as one with
thousands."""

_ROUNDING = 1e-14
"""A probability below it is 0."""


@dataclass(frozen=True)
class SumScoreFit:
    """Shape (J,) each, for all items of the calibration.

    Attributes:
        statistic: S-X², NaN without a degree of freedom.
        df: groups of sum scores, over all forms, each times the item's scores there less 1, and less the parameters
            estimated for the item; 0 where it cannot be tested (no parameters, or on no form of two items and
            `SMALLEST_FORM` learners).
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
    items; S-X² = Σ N_k (O_jk − E_jk)²/(E_jk (1 − E_jk)), of scored items Σ N_k (O − E)²/E over sum scores and scores.
    Sums that only one score of the item can be part of, as 0 and the highest, say nothing. Where the fit has groups, φ
    is the group's and a form is counted group by group (`groups`: n_persons labels). Anchors lose no degrees of
    freedom.
    """
    whole = Fitted.of(responses, calibration, groups)
    fit, abilities = whole.calibration, whole.abilities
    p = np.ascontiguousarray(fit.curves.probability(abilities.nodes).T)
    most = fit.n_categories - 1
    statistic, cells, n = np.zeros(fit.n_items), np.zeros(fit.n_items, dtype=np.int64), np.zeros_like(whole.place)
    for form in complete_forms(whole, SMALLEST_FORM):
        if len(form.items) < 2:
            continue
        answers, weights = form.answers.astype(np.int64), abilities.weights[form.group]
        if (most[form.items] == 1).all():
            right, _ = expected_proportions(np.ascontiguousarray(p[form.items]), weights)
            expected = np.stack([1 - right, right], axis=1)
        else:
            expected = expected_shares(*_score_tables(whole, form), most[form.items], weights)
        total = answers.sum(axis=1)
        shape = expected.shape[2], expected.shape[1]
        for place, j in enumerate(form.items):
            observed = np.bincount(total * shape[1] + answers[:, place], minlength=shape[0] * shape[1]).reshape(shape)
            value, number = _pearson(observed, expected[place].T)
            statistic[j] += value
            cells[j] += number
            n[j] += len(answers)
    parameters = whole.own_parameters.sum(axis=0)
    df = np.maximum(cells - parameters, 0)
    statistic = np.where(df > 0, statistic, np.nan)
    all_df, all_n = np.zeros(whole.n_all, dtype=np.int64), np.zeros(whole.n_all, dtype=np.int64)
    all_df[whole.place], all_n[whole.place] = df, n
    return SumScoreFit(whole.among_all(statistic), all_df, whole.among_all(chdtrc(np.maximum(df, 1), statistic)), all_n)


def _score_tables(whole: Fitted, form: Form) -> tuple[Floats, Floats]:
    """P of each score above 0 of the form's items, and of 0, as `distribution_of_points` takes them."""
    p = np.exp(whole.log_probabilities[:, form.items])
    most = whole.calibration.n_categories[form.items] - 1
    rows = [(p[1 : m + 1, place], np.repeat(p[:1, place], m, axis=0)) for place, m in enumerate(most)]
    given, lowest = (np.concatenate(part) for part in zip(*rows, strict=True))
    return given, lowest


def _pearson(observed: Ints, expected: Floats) -> tuple[float, int]:
    """Pearson's χ² of scores by sum scores, (K, C) both, over groups of neighbouring sums; its cells less groups.

    While a group does not expect `SMALLEST_CELL` answers of two scores, the lowest such group joins the neighbour that
    fewer learners are in.
    """
    groups = [
        np.array([o, o.sum() * e])
        for o, e in zip(observed, expected, strict=True)
        if o.any() and np.count_nonzero(e > _ROUNDING) > 1
    ]
    cells = [_joined(group) for group in groups]
    while len(groups) > 1:
        k = next((k for k, found in enumerate(cells) if len(found) < 2), None)
        if k is None:
            break
        above = k == 0 or (k + 1 < len(groups) and groups[k + 1][0].sum() < groups[k - 1][0].sum())
        into = k + 1 if above else k - 1
        groups[into] += groups[k]
        cells[into] = _joined(groups[into])
        del groups[k], cells[k]
    value = sum(float((o - e) ** 2 / e) for found in cells if len(found) > 1 for o, e in found)
    return value, sum(len(found) - 1 for found in cells)


def _joined(group: Floats) -> list[Floats]:
    """Observed and expected answers (2,) of a group (2, C) by score: while any score expects fewer than
    `SMALLEST_CELL`, the lowest such joins the neighbouring score that expects fewer."""
    cells = [cell for cell in group.T if cell[1] > 0]
    while len(cells) > 1:
        k = next((k for k, cell in enumerate(cells) if cell[1] < SMALLEST_CELL), None)
        if k is None:
            break
        above = k == 0 or (k + 1 < len(cells) and cells[k + 1][1] < cells[k - 1][1])
        into = k + 1 if above else k - 1
        cells[into] = cells[into] + cells[k]
        del cells[k]
    return cells
