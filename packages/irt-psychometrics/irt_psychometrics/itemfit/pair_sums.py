"""Sums over the persons who answered both items of a pair."""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.curves import probability_at
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.model_replicates import FittedData

_CELLS = 1_000_000
"""Number of cells, persons × items, of a dense block."""
_DENSE = 8
"""A product of dense matrices takes about this many pairs in the time in which the kernel takes one."""


class PairSums(NamedTuple):
    """Sums over the persons who answered items j and k, shape (J, J) each, of a value x of each answer.

    Attributes:
        n: number of persons.
        first: Σ x_j.
        second: Σ x_j².
        product: Σ x_j x_k.
    """

    n: Floats
    first: Floats
    second: Floats
    product: Floats


def sum_over_pairs(whole: FittedData, values: Floats) -> PairSums:
    """Add up the values of the answers, shape (R,), over pairs of items.

    If persons answer few of the items, a kernel visits only the pairs that they answered. Otherwise, products of dense
    matrices are faster.
    """
    responses, start, J = whole.responses, whole.rows.start, whole.calibration.n_items
    if int((np.diff(start) ** 2).sum()) * _DENSE < responses.n_persons * J**2:
        sums = np.zeros((J, J, 4))
        fit_kernels.sum_over_pairs(start, responses.item, values, sums)
        return PairSums(*np.moveaxis(sums, 2, 0))
    n, first, second, product = (np.zeros((J, J)) for _ in range(4))
    at_once = max(1, _CELLS // max(J, 1))
    for low in range(0, responses.n_persons, at_once):
        high = min(low + at_once, responses.n_persons)
        rows = slice(start[low], start[high])
        cell = responses.person[rows] - low, responses.item[rows]
        saw, x = np.zeros((high - low, J)), np.zeros((high - low, J))
        saw[cell], x[cell] = 1.0, values[rows]
        n += saw.T @ saw
        first += x.T @ saw
        second += (x**2).T @ saw
        product += x.T @ x
    return PairSums(n, first, second, product)


def expected_answers(whole: FittedData, theta: Floats) -> Floats:
    """Compute the expected score of each answer at the person's θ, shape (R,), divided by the item's maximum score."""
    r, fit = whole.responses, whole.calibration
    expected = probability_at(fit.a[r.item] * theta[r.person] + fit.d[r.item], fit.c[r.item])
    if whole.scored.size:
        place = np.full(fit.n_items, -1)
        place[whole.scored] = np.arange(whole.scored.size)
        at = np.flatnonzero(place[r.item] >= 0)
        by_person = fit.curves.select(whole.scored).probability(theta)
        expected[at] = by_person[r.person[at], place[r.item[at]]]
    return expected


def observed_answers(whole: FittedData) -> Floats:
    """Return the score of each answer, shape (R,), divided by the item's maximum score."""
    return whole.credit[whole.responses.score, whole.responses.item]
