"""Item statistics that need no model: proportion correct and item-rest correlation under missing responses.

A score of an item scored 0 … m counts as its share of m, and the mean share is the item's proportion correct.
"""

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.responses import Responses


def proportion_correct(responses: Responses) -> Floats:
    """Compute the proportion correct of each item.

    Parameters
    ----------
    responses
        R responses of N persons to J items.

    Returns
    -------
    Floats
        Shape (J,), in [0, 1]; NaN for an item without responses.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> proportion_correct(irt.Responses.from_wide({"q1": [1, 0, None, 1], "q2": [4, 2, 0, 2]}, max_score={"q2": 4}))
    array([0.66666667, 0.5       ])
    """
    n = np.bincount(responses.item, minlength=responses.n_items)
    right = np.bincount(responses.item, weights=_share(responses), minlength=responses.n_items)
    return np.divide(right, n, out=np.full(responses.n_items, np.nan), where=n > 0)


def item_rest_correlation(responses: Responses) -> Floats:
    """Compute the point-biserial correlation of each item with the persons' other answers.

    The rest score of person i without item j is the mean of x_ik − p_k over the other items k that i answered. p_k is
    the proportion correct of item k, so persons who answered other or easier items stay comparable. On complete data
    this is the correlation with the number correct on the other items. Persons who answered no other item do not count.
    If items are assigned by ability, the p_k remove part of the difference between persons, and the correlation is too
    small.

    Parameters
    ----------
    responses
        R responses of N persons to J items.

    Returns
    -------
    Floats
        Shape (J,), in [−1, 1]; NaN for fewer than 3 persons, or if all answered alike.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> x = irt.Responses.from_wide({"q1": [1, 1, 0, 0], "q2": [1, 1, 0, 0], "q3": [1, 0, 1, 0]})
    >>> item_rest_correlation(x).round(3).tolist()
    [0.707, 0.707, 0.0]
    """
    person, item = responses.person, responses.item
    x = _share(responses)
    deviation = x - proportion_correct(responses)[item]
    total = np.bincount(person, weights=deviation, minlength=responses.n_persons)
    others = np.bincount(person, minlength=responses.n_persons)[person] - 1
    kept = others > 0
    rest = (total[person] - deviation)[kept] / others[kept]
    return correlations_with_rest(item[kept].astype(np.int64), x[kept], rest, responses.n_items)


def _share(responses: Responses) -> Floats:
    """Return the share of the maximum score in each answer, shape (R,)."""
    return responses.score / (responses.n_categories - 1)[responses.item]


def correlations_with_rest(item: Ints, x: Floats, rest: Floats, n_items: int) -> Floats:
    """Compute the correlation of x (R,) with the rest score (R,) among the responses to each item, shape (J,)."""
    centred = rest - np.bincount(item, rest, n_items)[item] / np.bincount(item, minlength=n_items)[item]
    summed = (np.ones_like(x), x, centred, x * centred, centred**2)
    sums = [np.bincount(item, weights=values, minlength=n_items) for values in summed]
    return rest_correlation(np.stack(sums, axis=1), np.bincount(item, x**2, n_items).astype(float))


def rest_correlation(sums: Floats, squares: Floats | None = None) -> Floats:
    """Compute item-rest correlations, shape (J,), from sums over each item's persons.

    `sums` (J, 5) are the sums of 1, x, rest, x·rest and rest². `squares` (J,) are the sums of x²; None if every x is 0
    or 1. The correlation is NaN for fewer than 3 persons, or if all answered alike.
    """
    n, x, rest, both, of_rest = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        variances = ((x if squares is None else squares) - x**2 / n) * (of_rest - rest**2 / n)
        correlation = (both - x * rest / n) / np.sqrt(variances)
    return np.where((n >= 3) & (variances > 0), correlation, np.nan)
