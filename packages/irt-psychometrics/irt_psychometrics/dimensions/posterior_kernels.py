"""Compiled loops for posteriors on several dimensions, and for covariances of scores under them.

Given the primary dimensions, the specific ones are independent. So a posterior is a distribution p (G,) over the nodes
of the primary dimensions, and for each specific dimension a conditional distribution over its Q nodes (Gibbons &
Hedeker 1992; Cai 2010).
"""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.kernels import _inlined_in_place_kernel, _kernel, _normalise

UNSEEN = 1e-12
"""Nodes with less posterior weight are left out of covariances."""


class Tables(NamedTuple):
    """Answers of N persons, and curves on G primary and Q specific nodes.

    Attributes:
        start: shape (N + 1,); person i gave the answers start[i] … start[i + 1] − 1.
        item, row: shape (R,), each answer's item, and its row in `alone` or, if the item measures a specific dimension,
            in `paired`.
        specific: shape (J,), the number of each item's specific dimension; −1 if it measures none.
        alone: log P of answers to items without a specific dimension, shape (M, G).
        paired: log P of answers to items with a specific dimension, shape (M', G, Q).
        primary: log weights of the primary nodes, shape (G,).
        unit: log weights of the specific nodes, shape (Q,).
        theta: values of the primary dimensions at their nodes, shape (P, G).
        nodes: specific nodes, shape (Q,).
        weight: shape (N,), the number of persons that each person represents.
    """

    start: np.ndarray
    item: np.ndarray
    row: np.ndarray
    specific: np.ndarray
    alone: np.ndarray
    paired: np.ndarray
    primary: np.ndarray
    unit: np.ndarray
    theta: np.ndarray
    nodes: np.ndarray
    weight: np.ndarray


class Scores(NamedTuple):
    """Complete-data scores of the items' parameters by z and by further parameters, in rows as in `Tables`.

    Attributes:
        alone, paired: shape (M, K, G) and (M', K, G, Q), ∂ log P/∂z and by each of K − 1 further parameters.
        place: shape (J, P + 1 + K), rows in the covariance: of primary slopes, the specific slope, z and further
            parameters; −1 for parameters without a row.
        inner: the same, rows in the covariance of the item's specific dimension.
        others: scores of C other parameters at the primary nodes, shape (C, G); they have the last rows.
    """

    alone: np.ndarray
    paired: np.ndarray
    place: np.ndarray
    inner: np.ndarray
    others: np.ndarray


@_inlined_in_place_kernel
def _posterior(i, tables, p, given, answered):  # type: ignore[no-untyped-def]
    """Fill p (G,) and given (S, G, Q) with the posterior of person i. Returns log P(pattern).

    `answered` (S,) marks the specific dimensions that the answers measure; `given` is not filled for others.
    """
    G, Q = tables.primary.size, tables.unit.size
    for g in range(G):
        p[g] = tables.primary[g]
    answered[:] = False
    for r in range(tables.start[i], tables.start[i + 1]):
        s = tables.specific[tables.item[r]]
        if s < 0:
            logs = tables.alone[tables.row[r]]
            for g in range(G):
                p[g] += logs[g]
        else:
            if not answered[s]:
                answered[s] = True
                for g in range(G):
                    for q in range(Q):
                        given[s, g, q] = tables.unit[q]
            into, both = given[s], tables.paired[tables.row[r]]
            for g in range(G):
                for q in range(Q):
                    into[g, q] += both[g, q]
    for s in range(answered.size):
        if answered[s]:
            for g in range(G):
                p[g] += _normalise(given[s, g])
    return _normalise(p)


@_kernel
def posterior_moments(first, last, tables, loglik, mean, cov):  # type: ignore[no-untyped-def]
    """Write log P(pattern) (N,), and the posterior's mean and covariance, of persons first … last − 1."""
    P, G, Q, D = tables.theta.shape[0], tables.primary.size, tables.unit.size, mean.shape[1]
    S = D - P
    p, given, answered = np.empty(G), np.empty((S, G, Q)), np.empty(S, dtype=np.bool_)
    values, squares = np.empty((D, G)), np.empty((S, G))
    values[:P] = tables.theta
    for i in range(first, last):
        loglik[i] = _posterior(i, tables, p, given, answered)
        for s in range(S):
            for g in range(G):
                one, two = 0.0, 0.0
                for q in range(Q):
                    one += given[s, g, q] * tables.nodes[q]
                    two += given[s, g, q] * tables.nodes[q] ** 2
                values[P + s, g] = one if answered[s] else 0.0
                squares[s, g] = two - one * one if answered[s] else 1.0
        for d in range(D):
            m = 0.0
            for g in range(G):
                m += p[g] * values[d, g]
            mean[i, d] = m
        for d in range(D):
            for e in range(d + 1):
                c = 0.0
                for g in range(G):
                    c += p[g] * (values[d, g] - mean[i, d]) * (values[e, g] - mean[i, e])
                cov[i, d, e] = c
                cov[i, e, d] = c
        for s in range(S):
            for g in range(G):
                cov[i, P + s, P + s] += p[g] * squares[s, g]


@_kernel
def expand_scores(first, last, tables, scores, counts, whole, inner, used):  # type: ignore[no-untyped-def]
    """Add to expected counts, and fill columns with components of the scores of persons first, first + 1, …

    The products of two rows of a person's columns in `whole` (L, W) sum up to the covariance of the two scores' means
    given the primary dimensions, times the person's weight. In `inner` (S, L', W') they sum up to the mean of their
    covariance given the primary dimensions.

    counts: expected numbers of answers (M, G) and (M', G, Q), and persons (G,), at the nodes.
    used: shape (1 + S,), filled with the numbers of columns of `whole` and of each array in `inner`.

    Returns the first person who did not fit.
    """
    P, G, Q, S = tables.theta.shape[0], tables.primary.size, tables.unit.size, inner.shape[0]
    K, L = scores.place.shape[1] - P - 1, whole.shape[0]
    alone, paired, persons = counts
    p, given, answered = np.empty(G), np.empty((S, G, Q)), np.empty(S, dtype=np.bool_)
    at, root, expected, along = np.empty(G, dtype=np.int64), np.empty(G), np.empty((K, G)), np.empty(G)
    for i in range(first, last):
        if used[0] + G > whole.shape[1]:
            return i
        for s in range(S):
            if used[1 + s] + G * Q > inner.shape[2]:
                return i
        _posterior(i, tables, p, given, answered)
        n = 0
        for g in range(G):
            p[g] *= tables.weight[i]
            persons[g] += p[g]
            if p[g] > UNSEEN:
                at[n], root[n] = g, np.sqrt(p[g])
                n += 1
        into = whole[:, used[0] : used[0] + n]
        total = tables.weight[i]
        for c in range(scores.others.shape[0]):
            _deviations(scores.others[c], p, at, root, n, total, into[L - scores.others.shape[0] + c])
        for r in range(tables.start[i], tables.start[i + 1]):
            j, row = tables.item[r], tables.row[r]
            s = tables.specific[j]
            if s < 0:
                for g in range(G):
                    alone[row, g] += p[g]
                    for k in range(K):
                        expected[k, g] = scores.alone[row, k, g]
            else:
                for g in range(G):
                    along[g] = 0.0
                    for k in range(K):
                        e = 0.0
                        for q in range(Q):
                            e += given[s, g, q] * scores.paired[row, k, g, q]
                        expected[k, g] = e
                    for q in range(Q):
                        paired[row, g, q] += p[g] * given[s, g, q]
                        along[g] += given[s, g, q] * scores.paired[row, 0, g, q] * tables.nodes[q]
                if scores.place[j, P] >= 0:
                    _deviations(along, p, at, root, n, total, into[scores.place[j, P]])
            for k in range(K):
                if scores.place[j, P + 1 + k] >= 0:
                    _deviations(expected[k], p, at, root, n, total, into[scores.place[j, P + 1 + k]])
            for d in range(P):
                if scores.place[j, d] >= 0:
                    for g in range(G):
                        along[g] = expected[0, g] * tables.theta[d, g]
                    _deviations(along, p, at, root, n, total, into[scores.place[j, d]])
            if s >= 0:
                _within(j, row, tables, scores, given[s], at, root, n, inner[s], used[1 + s])
        used[0] += n
        for s in range(S):
            if answered[s]:
                for m in range(n):
                    for q in range(Q):
                        used[1 + s] += root[m] ** 2 * given[s, at[m], q] > UNSEEN
    return last


@_inlined_in_place_kernel
def _deviations(values, p, at, root, n, total, into):  # type: ignore[no-untyped-def]
    """Set into[m] = √p·(f − E f) at the n nodes `at` for f = values (G,)."""
    mean = 0.0
    for g in range(p.size):
        mean += p[g] * values[g]
    mean /= total
    for m in range(n):
        into[m] = root[m] * (values[at[m]] - mean)


@_inlined_in_place_kernel
def _within(j, row, tables, scores, given, at, root, n, into, used):  # type: ignore[no-untyped-def]
    """Fill the rows of item j in `into` with deviations of the scores from their means given the primary dimensions."""
    P, Q, K = tables.theta.shape[0], tables.unit.size, scores.paired.shape[1]
    place, column = scores.inner[j], used
    for m in range(n):
        g = at[m]
        p, own = given[g], scores.paired[row, :, g]
        by_z, along = 0.0, 0.0
        for q in range(Q):
            by_z += p[q] * own[0, q]
            along += p[q] * own[0, q] * tables.nodes[q]
        begin = column
        for q in range(Q):
            if root[m] ** 2 * p[q] > UNSEEN:
                share = root[m] * np.sqrt(p[q])
                away = share * (own[0, q] - by_z)
                for d in range(P):
                    if place[d] >= 0:
                        into[place[d], column] = away * tables.theta[d, g]
                if place[P] >= 0:
                    into[place[P], column] = share * (own[0, q] * tables.nodes[q] - along)
                if place[P + 1] >= 0:
                    into[place[P + 1], column] = away
                column += 1
        for k in range(1, K):
            if place[P + 1 + k] >= 0:
                mean = 0.0
                for q in range(Q):
                    mean += p[q] * own[k, q]
                column = begin
                for q in range(Q):
                    if root[m] ** 2 * p[q] > UNSEEN:
                        into[place[P + 1 + k], column] = root[m] * np.sqrt(p[q]) * (own[k, q] - mean)
                        column += 1
