"""S-X²: an item's proportion correct at each sum score, compared with the model's (Orlando & Thissen 2000).

For an item scored 0 … m, the statistic compares the shares of its scores (Kang & Chen 2008). A sum score must mean the
same for all persons who have it. So persons are compared within a form (the persons who saw the same set of items),
and an item's statistics are summed over forms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.itemfit.model_replicates import FittedData, FormPersons, complete_forms
from irt_psychometrics.scoring.sum_scores import expected_proportions, expected_shares

MIN_CELL = 1.0
"""Smallest expected count of a cell. Neighbouring sum scores are joined until each group has this many expected right
and wrong answers. For scored items, neighbouring scores of a group are joined, too, and each group keeps at least two
cells."""
MIN_FORM = 100
"""Minimum number of persons of a form. A smaller form would give only a handful of groups, but costs as much as a form
with thousands of persons."""

_ROUNDING = 1e-14
"""Probabilities up to this count as 0."""


@dataclass(frozen=True)
class SumScoreFit:
    """S-X² of all items of the calibration, shape (J,) each.

    Attributes
    ----------
    statistic
        S-X² ≥ 0; NaN if df is 0.
    df
        Sum over forms and groups of sum scores of (number of score cells − 1), minus the number of parameters estimated
        for the item. It is 0 if the item cannot be tested, for example if it has no parameters, or is on no form with
        two items and `MIN_FORM` persons.
    p
        Upper tail of χ² with df degrees of freedom; NaN if df is 0.
    n
        Number of persons on these forms.
    """

    statistic: Floats
    df: Ints
    p: Floats
    n: Ints


def sum_score_fit(
    responses: Responses, calibration: Calibration, *, groups: Sequence[str] | None = None
) -> SumScoreFit:
    """Compute S-X² of every item over all forms that `MIN_FORM` or more persons took.

    Within a form, persons with sum score k answer item j correctly with probability
    E_jk = ∫ P_j S_{k−1}^{(j)} φ / ∫ S_k φ, in which θ is integrated out. S^{(j)} is the distribution of the sum over
    the other items. S-X² = Σ N_k (O_jk − E_jk)²/(E_jk (1 − E_jk)); for scored items it is Σ N_k (O − E)²/E over sum
    scores and scores. Sums that determine the item's score, such as 0 and the maximum, are omitted. If the fit has
    groups (`groups`: n_persons labels), φ is the distribution of the group, and a form counts once per group. Anchors
    lose no degrees of freedom.
    """
    whole = FittedData.from_responses(responses, calibration, groups)
    fit, abilities = whole.calibration, whole.abilities
    p = np.ascontiguousarray(fit.curves.probability(abilities.nodes).T)
    most = fit.n_categories - 1
    statistic, cells, n = np.zeros(fit.n_items), np.zeros(fit.n_items, dtype=np.int64), np.zeros_like(whole.place)
    for form in complete_forms(whole.responses, whole.abilities.group, MIN_FORM):
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


def _score_tables(whole: FittedData, form: FormPersons) -> tuple[Floats, Floats]:
    """Return P of each score above 0 of the form's items, and P of score 0, for `distribution_of_points`."""
    p = np.exp(whole.log_probabilities[:, form.items])
    most = whole.calibration.n_categories[form.items] - 1
    rows = [(p[1 : m + 1, place], np.repeat(p[:1, place], m, axis=0)) for place, m in enumerate(most)]
    given, lowest = (np.concatenate(part) for part in zip(*rows, strict=True))
    return given, lowest


def _pearson(observed: Ints, expected: Floats) -> tuple[float, int]:
    """Compute Pearson's χ² over groups of neighbouring sum scores, and its number of cells minus groups.

    Observed counts and expected shares have shape (K, C), sum scores × item scores. While a group has fewer than two
    cells with `MIN_CELL` expected answers, the lowest such group joins the neighbour with fewer persons.
    """
    groups = [
        np.array([o, o.sum() * e])
        for o, e in zip(observed, expected, strict=True)
        if o.any() and np.count_nonzero(e > _ROUNDING) > 1
    ]
    cells = [_join_cells(group) for group in groups]
    while len(groups) > 1:
        k = next((k for k, found in enumerate(cells) if len(found) < 2), None)
        if k is None:
            break
        above = k == 0 or (k + 1 < len(groups) and groups[k + 1][0].sum() < groups[k - 1][0].sum())
        into = k + 1 if above else k - 1
        groups[into] += groups[k]
        cells[into] = _join_cells(groups[into])
        del groups[k], cells[k]
    value = sum(float((o - e) ** 2 / e) for found in cells if len(found) > 1 for o, e in found)
    return value, sum(len(found) - 1 for found in cells)


def _join_cells(group: Floats) -> list[Floats]:
    """Join rare cells of a group, shape (2, C), into pairs of observed and expected counts (2,).

    While a score has fewer than `MIN_CELL` expected answers, the lowest such score joins the neighbouring score
    with the smaller expected count.
    """
    cells = [cell for cell in group.T if cell[1] > 0]
    while len(cells) > 1:
        k = next((k for k, cell in enumerate(cells) if cell[1] < MIN_CELL), None)
        if k is None:
            break
        above = k == 0 or (k + 1 < len(cells) and cells[k + 1][1] < cells[k - 1][1])
        into = k + 1 if above else k - 1
        cells[into] = cells[into] + cells[k]
        del cells[k]
    return cells
