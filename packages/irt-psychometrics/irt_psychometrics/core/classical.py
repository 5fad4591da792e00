"""Item statistics that need no model: proportion correct and item-rest correlation under missing responses.

A score of an item scored 0 … m counts as its share of m, and the mean share is the item's proportion correct.
"""

import numpy as np

from irt_psychometrics.core.models import Floats
from irt_psychometrics.core.responses import Responses


def proportion_correct(responses: Responses) -> Floats:
    """Shape (J,), in [0, 1]; NaN for an item without responses."""
    n = np.bincount(responses.item, minlength=responses.n_items)
    right = np.bincount(responses.item, weights=_share(responses), minlength=responses.n_items)
    return np.divide(right, n, out=np.full(responses.n_items, np.nan), where=n > 0)


def item_rest_correlation(responses: Responses) -> Floats:
    """Point-biserial correlation of each item with the rest of what its learners answered, shape (J,), in [−1, 1].

    The rest of learner i without item j is the mean of x_ik − p_k over the other items k that i answered, p_k the
    item's proportion correct: learners with other items, or with easier ones, stay comparable. On complete data it
    is the correlation with the number correct on the other items. Learners who answered no other item do not count;
    NaN for fewer than 3 learners or where all answered alike. Where items are assigned by ability, the p_k take that
    difference between learners away and the correlation is too small.
    """
    person, item = responses.person, responses.item
    x = _share(responses)
    deviation = x - proportion_correct(responses)[item]
    total = np.bincount(person, weights=deviation, minlength=responses.n_persons)
    others = np.bincount(person, minlength=responses.n_persons)[person] - 1
    kept = others > 0
    rest = (total[person] - deviation)[kept] / others[kept]
    item, x = item[kept], x[kept]
    summed = (np.ones_like(x), x, rest, x * rest, rest**2)
    sums = [np.bincount(item, weights=values, minlength=responses.n_items) for values in summed]
    squares: Floats = np.bincount(item, weights=x**2, minlength=responses.n_items).astype(float)
    return rest_correlation(np.stack(sums, axis=1), squares)


def _share(responses: Responses) -> Floats:
    """Each answer's share of the maximum score, shape (R,)."""
    share: Floats = responses.score / (responses.n_categories - 1)[responses.item]
    return share


def rest_correlation(sums: Floats, squares: Floats | None = None) -> Floats:
    """Shape (J,), from sums (J, 5) over an item's learners of 1, x, rest, x·rest and rest², and of x² (J,), None: of
    x that are 0 or 1; NaN for fewer than 3 learners, or where all answered alike."""
    n, x, rest, both, of_rest = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        variances = ((x if squares is None else squares) - x**2 / n) * (of_rest - rest**2 / n)
        correlation = (both - x * rest / n) / np.sqrt(variances)
    return np.where((n >= 3) & (variances > 0), correlation, np.nan)
