"""Compiled loops over posteriors on several dimensions: their moments, and covariances of scores under them."""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.kernels import _inlined_in_place_kernel, _kernel
from irt_psychometrics.dimensions.kernels import person_posterior

SEEN = 1e-14
"""Primary nodes with less posterior weight are left out of moments. `person_posterior` does not fill them all."""
UNSEEN = 1e-12
"""Nodes with less posterior weight are left out of covariances of scores."""


class Scores(NamedTuple):
    """Complete-data scores (derivatives of log P) of the parameters of items, and of others.

    Attributes:
        alone, within: shape (A, K, T) and (B, K', T · Q), scores of K parameters of an item; rows as in
            `kernels.Tables`.
        alone_at, within_at: shape (n, K) and (n', K'), rows of the parameters in the covariance; −1 without a row.
        inner_at: like `within_at`, rows in the covariance of the item's specific dimension.
        others: shape (O, T), scores of other parameters; their rows are the last ones.
        categories: C, the number of rows of an item.
    """

    alone: np.ndarray
    within: np.ndarray
    alone_at: np.ndarray
    within_at: np.ndarray
    inner_at: np.ndarray
    others: np.ndarray
    categories: int


@_kernel
def posterior_moments(first, last, persons, tables, theta, nodes, loglik, mean, cov):  # type: ignore[no-untyped-def]
    """Write log P(answers) (N,), and the posterior's mean and covariance, of persons first … last − 1.

    theta (T, P), nodes (Q,): nodes of the primary dimensions and of each specific one.
    """
    start, (T, P), Q, D = persons.start, theta.shape, nodes.size, mean.shape[1]
    post, joint, total = np.empty(T), np.empty((D - P, T * Q)), np.empty((D - P, T))
    values, spread = np.zeros((D, T)), np.zeros((D, T))
    for t in range(T):
        for d in range(P):
            values[d, t] = theta[t, d]
    for i in range(first, last):
        loglik[i] = person_posterior(i, persons, tables, post, joint, total)
        for t in range(T):
            if post[t] < SEEN:
                post[t] = 0.0
        for d in range(P, D):
            answered = start[i, d - P + 1] < start[i, d - P + 2]
            for t in range(T):
                one, two, mass = 0.0, 1.0, 1.0
                if answered and post[t] > 0.0:
                    two, mass = 0.0, total[d - P, t]
                    for q in range(Q):
                        one += joint[d - P, t * Q + q] * nodes[q]
                        two += joint[d - P, t * Q + q] * nodes[q] ** 2
                values[d, t], spread[d, t] = one / mass, two / mass - (one / mass) ** 2
        for d in range(D):
            first_moment, within = 0.0, 0.0
            for t in range(T):
                first_moment += post[t] * values[d, t]
                within += post[t] * spread[d, t]
            mean[i, d] = first_moment
            for e in range(d + 1):
                between = 0.0
                for t in range(T):
                    between += post[t] * (values[d, t] - mean[i, d]) * (values[e, t] - mean[i, e])
                cov[i, d, e] = between + (within if d == e else 0.0)
                cov[i, e, d] = cov[i, d, e]


@_kernel
def expand_scores(first, last, persons, tables, scores, whole, inner, used):  # type: ignore[no-untyped-def]
    """Fill columns with components of the scores of persons first, first + 1, …, as many as fit.

    The products of two rows of a person's columns in `whole` (L, W) sum up to the covariance of the two scores' means
    given the primary dimensions, times the person's weight. In `inner` (S, L', W') they sum up to the mean of their
    covariance given the primary dimensions. Both must contain zeros.

    used: shape (1 + S,), zeros, filled with the numbers of columns of `whole` and of each array in `inner`.

    Returns the first person who did not fit.
    """
    start, T, Q, S = persons.start, tables.primary.size, tables.specific.size, inner.shape[0]
    post, joint, total, at = np.empty(T), np.empty((S, T * Q)), np.empty((S, T)), np.empty(T, dtype=np.int64)
    means, cells, root, others = np.empty(T), np.empty(T * Q, dtype=np.int64), np.empty(T * Q), scores.others.shape[0]
    for i in range(first, last):
        full = used[0] + T > whole.shape[1]
        for s in range(S):
            full |= used[1 + s] + T * Q > inner.shape[2]
        if full:
            return i
        person_posterior(i, persons, tables, post, joint, total)
        weight, n = persons.weight[i], 0
        for t in range(T):
            post[t] *= weight
            if post[t] > UNSEEN:
                at[n] = t
                n += 1
        into = whole[:, used[0] : used[0] + n]
        for c in range(others):
            _deviations(scores.others[c], post, at[:n], into[whole.shape[0] - others + c])
        for r in range(start[i, 0], start[i, 1]):
            row = persons.row[r]
            place, own = scores.alone_at[row // scores.categories], scores.alone[row]
            for k in range(place.size):
                if place[k] >= 0:
                    _deviations(own[k], post, at[:n], into[place[k]])
        for s in range(S):
            if start[i, s + 1] == start[i, s + 2]:
                continue
            found, given = 0, joint[s]
            for m in range(n):
                for cell in range(at[m] * Q, (at[m] + 1) * Q):
                    given[cell] /= total[s, at[m]]
                    if post[at[m]] * given[cell] > UNSEEN:
                        cells[found], root[found] = cell, np.sqrt(post[at[m]] * given[cell])
                        found += 1
            columns = inner[s, :, used[1 + s] : used[1 + s] + found]
            for r in range(start[i, s + 1], start[i, s + 2]):
                j = persons.row[r] // scores.categories
                for k in range(scores.within_at.shape[1]):
                    if scores.within_at[j, k] < 0:
                        continue
                    own, away = scores.within[persons.row[r], k], columns[scores.inner_at[j, k]]
                    for m in range(n):
                        t, mean = at[m], 0.0
                        for q in range(Q):
                            mean += given[t * Q + q] * own[t * Q + q]
                        means[t] = mean
                    _deviations(means, post, at[:n], into[scores.within_at[j, k]])
                    for c in range(found):
                        away[c] = root[c] * (own[cells[c]] - means[cells[c] // Q])
            used[1 + s] += found
        used[0] += n
    return last


@_inlined_in_place_kernel
def _deviations(values, post, at, into):  # type: ignore[no-untyped-def]
    """Set into[m] = √p·(f − E f) at the nodes `at` for f = values (T,), with p = post (T,)."""
    mean, mass = 0.0, 0.0
    for m in range(at.size):
        mean += post[at[m]] * values[at[m]]
        mass += post[at[m]]
    for m in range(at.size):
        into[m] = np.sqrt(post[at[m]]) * (values[at[m]] - mean / mass)
