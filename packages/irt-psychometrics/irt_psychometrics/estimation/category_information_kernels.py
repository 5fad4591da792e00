"""Compiled loops of the observed information of items under any model. See `information_kernels` for the lost
information, and `kernels` for layouts."""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.kernels import NO_SET, _kernel, _posteriors
from irt_psychometrics.estimation.expansion_kernels import MORE, expand_alone, orthonormal, window


class CategoryScores(NamedTuple):
    """Complete-data scores of J items with up to C categories and K parameters.

    Attributes:
        items: scores of each category, shape (J, C, K, Q).
        place: row of each parameter in the result, shape (K, J); −1 for parameters without a row.
        row_item, row_category: item and category of a listed answer, shape (M,).
        steepness: slope of the logistic curve that changes as fast with θ as the item's scores, shape (J,).
        latent: scores of the groups' means and log SDs, shape (2, G, Q); their rows are the last 2G.
    """

    items: np.ndarray
    place: np.ndarray
    row_item: np.ndarray
    row_category: np.ndarray
    steepness: np.ndarray
    latent: np.ndarray


@_kernel
def expand_scores(first, last, people, curves, nodes, log_weights, scores, category, parts):  # type: ignore[no-untyped-def]
    """Fill columns of parts (L, W) with components of the scores of persons `first` to `last` − 1, as many as fit.

    The products of two rows of a person's columns sum up to the covariance of the two scores under the person's
    posterior, times the person's weight (see `expansion_kernels`). Returns the first person who did not fit, and the
    number of columns that were filled.

    category: shape (J,), zeros; used as a buffer.
    """
    Q, K, G, L = nodes.size, scores.place.shape[0], scores.latent.shape[1], parts.shape[0]
    base, post, current, used = np.empty(Q), np.empty((1, Q)), NO_SET, 0
    polynomials, moments, found = np.empty((MORE + 4, Q)), np.empty((MORE + 4, 2)), np.empty(MORE + 4)
    for i in range(first, last):
        if used + Q + 6 > parts.shape[1]:
            return i, used
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        s = people.set_of[i]
        items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
        group, own, steepest = people.set_group[s], np.sqrt(people.weight[i]), 0.0
        for r in range(items.size):
            steepest = max(steepest, scores.steepness[items[r]])
        for r in range(people.right_start[i], people.right_start[i + 1]):
            row = people.right_items[r]
            category[scores.row_item[row]] = scores.row_category[row]
        low, high, terms, by_polynomials = window(post[0], nodes, steepest)
        p = post[0, low:high]
        if by_polynomials:
            orthonormal(p, nodes[low:high], terms + 2, polynomials, moments)
        for r in range(items.size):
            j = items[r]
            for k in range(K):
                if scores.place[k, j] >= 0:
                    into = parts[scores.place[k, j], used : used + terms]
                    values = scores.items[j, category[j], k, low:high]
                    expand_alone(values, p, by_polynomials, polynomials, found, into)
            category[j] = 0
        for m in range(2):
            into = parts[L + (m - 2) * G + group, used : used + terms]
            expand_alone(scores.latent[m, group, low:high], p, by_polynomials, polynomials, found, into)
        if own != 1.0:
            for at in range(L):
                for t in range(used, used + terms):
                    parts[at, t] *= own
        used += terms
    return last, used
