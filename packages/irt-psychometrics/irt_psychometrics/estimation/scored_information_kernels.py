"""Compiled loops of the observed information of the partial credit family. See `information_kernels` for the lost
information, and `kernels` for layouts.

The complete-data score of an item with score x is (θ(x − E), x − E, 1_k(x) − P_k) for its a, its d and the t of each
score k. Constants have no covariance under a posterior. So only θx depends on the answer; the other terms −θE, −E and
−P_k are functions of θ that are the same for every person.

Columns are parameters item by item: a, d, and the free t; after all items the groups' means, then their log SDs. Sums
are added to out (L, L) at the `place` of each column. The loss is out plus its transpose.
"""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.kernels import NO_SET, _inlined_kernel, _kernel, _posteriors
from irt_psychometrics.estimation.expansion_kernels import (
    MORE,
    expand,
    expand_alone,
    orthonormal,
    products,
    window,
)
from irt_psychometrics.estimation.information_kernels import _combine, add_posterior


class ScoredItems(NamedTuple):
    """Parts of the scores of J items, by node.

    first (J + 1,): first column of each item, and the number of all items' columns.
    place (L,): position of each column in `out`.
    unlisted (number of items' columns − J, Q): −E of each item, then −P_k of each of its free t.
    row_item, row_score (M,): item and score of a listed answer.
    steepness (J,): slope of the logistic curve that changes as fast with θ as the item's curves.
    latent (G, 2, Q): scores of a group's mean and log SD.
    """

    first: np.ndarray
    place: np.ndarray
    unlisted: np.ndarray
    row_item: np.ndarray
    row_score: np.ndarray
    steepness: np.ndarray
    latent: np.ndarray


@_inlined_kernel
def _columns(items, group, first, n_groups, into):  # type: ignore[no-untyped-def]
    """Fill `into` with the columns of these items and their group. Returns the number of columns."""
    w = 0
    for k in range(items.size):
        for column in range(first[items[k]], first[items[k] + 1]):
            into[w] = column
            w += 1
    into[w], into[w + 1] = first[-1] + group, first[-1] + n_groups + group
    return w + 2


@_kernel
def add_scored_runs(runs, people, curves, nodes, log_weights, scores, out):  # type: ignore[no-untyped-def]
    """Add half the loss of runs of persons of one set to `out`.

    `runs` (R, 2) contains the first person of each run and the person after its last.
    """
    J, Q, G = scores.first.size - 1, nodes.size, scores.latent.shape[0]
    at, columns = np.full(J, -1), np.empty(scores.place.size, dtype=np.int64)
    for run in range(len(runs)):
        first, last = runs[run, 0], runs[run, 1]
        s = people.set_of[first]
        group = people.set_group[s]
        items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
        n = items.size
        for k in range(n):
            at[items[k]] = k
        base, post, current = np.empty(Q), np.empty((1, Q)), NO_SET
        p, row, positions = post[0], np.zeros(Q + n), np.empty(n, dtype=np.int64)
        shared, K, mass = np.zeros((n, Q + n)), np.zeros((Q, Q)), np.zeros(Q)
        for i in range(first, last):
            _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
            variance = add_posterior(p, people.weight[i], nodes, row, mass, K)
            begin, end = people.right_start[i], people.right_start[i + 1]
            for r in range(begin, end):
                listed = people.right_items[r]
                positions[r - begin] = at[scores.row_item[listed]]
                row[Q + positions[r - begin]] = variance * scores.row_score[listed]
            for r in range(begin, end):
                points, into = scores.row_score[people.right_items[r]], shared[positions[r - begin]]
                for q in range(row.size):
                    into[q] += points * row[q]
            for r in range(end - begin):
                row[Q + positions[r]] = 0.0
        w = _columns(items, group, scores.first, G, columns)
        for k in range(n):
            a = scores.place[scores.first[items[k]]]
            for t in range(n):
                out[a, scores.place[scores.first[items[t]]]] += 0.5 * shared[k, Q + t]
        for q in range(Q):
            K[q, q] += mass[q]
        _spread(items, group, nodes, scores, K, shared, columns[:w], out)
        for k in range(n):
            at[items[k]] = -1


@_inlined_kernel
def _spread(items, group, nodes, scores, K, shared, columns, out):  # type: ignore[no-untyped-def]
    """Add half of BᵀKB and, in the row of each item's a, the covariance of its listed answers with B."""
    Q, w = nodes.size, columns.size
    B, KB = np.empty((Q, w)), np.zeros((Q, w))
    c = 0
    for k in range(items.size):
        j = items[k]
        row = scores.first[j] - j
        for q in range(Q):
            B[q, c] = nodes[q] * scores.unlisted[row, q]
        for t in range(scores.first[j + 1] - scores.first[j] - 1):
            for q in range(Q):
                B[q, c + 1 + t] = scores.unlisted[row + t, q]
        c += scores.first[j + 1] - scores.first[j]
    for q in range(Q):
        B[q, w - 2], B[q, w - 1] = scores.latent[group, 0, q], scores.latent[group, 1, q]
    for q in range(Q):
        _combine(K[q], B, 0.5, KB[q])
    sums, column, k = np.empty(w), np.empty(Q), 0
    for c in range(w):
        for q in range(Q):
            column[q] = KB[q, c]
        if k < items.size and columns[c] == scores.first[items[k]]:
            for q in range(Q):
                column[q] += shared[k, q]
            k += 1
        sums[:] = 0.0
        _combine(column, B, 1.0, sums)
        into = out[scores.place[columns[c]]]
        for t in range(w):
            into[scores.place[columns[t]]] += sums[t]


@_kernel
def add_scored_persons(sets, people, curves, nodes, log_weights, scores, whole, out):  # type: ignore[no-untyped-def]
    """Add half the loss of persons, processed one by one, to `out`.

    `sets` is like `runs`, with runs of any length. If `whole` is False, only the loss among each item's own parameters
    is added, and `out` has shape (L, C), in the order of an item's columns.
    """
    J, Q, G = scores.first.size - 1, nodes.size, scores.latent.shape[0]
    points, columns, answer = np.zeros(J), np.empty(scores.place.size, dtype=np.int64), np.empty(Q)
    for one in range(len(sets)):
        first, last = sets[one, 0], sets[one, 1]
        s = people.set_of[first]
        group = people.set_group[s]
        items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
        w = _columns(items, group, scores.first, G, columns)
        steepest = 0.0
        for k in range(items.size):
            steepest = max(steepest, scores.steepness[items[k]])
        base, post, current = np.empty(Q), np.empty((1, Q)), NO_SET
        polynomials, moments = np.empty((MORE + 4, Q)), np.empty((MORE + 4, 2))
        parts, found, expected = np.empty((Q + 6, w)), np.empty(MORE + 4), np.empty(2)
        sums = np.zeros(w)
        for i in range(first, last):
            _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
            low, high, terms, by_polynomials = window(post[0], nodes, steepest)
            p, theta, row = post[0, low:high], nodes[low:high], answer[: high - low]
            if by_polynomials:
                orthonormal(p, theta, terms + 2, polynomials, moments)
            for r in range(people.right_start[i], people.right_start[i + 1]):
                points[scores.row_item[people.right_items[r]]] = scores.row_score[people.right_items[r]]
            c = 0
            for k in range(items.size):
                j = items[k]
                unlisted = scores.unlisted[scores.first[j] - j : scores.first[j + 1] - j - 1, low:high]
                for q in range(row.size):
                    row[q] = unlisted[0, q] + points[j]
                points[j] = 0.0
                into = parts[:terms, c : c + 2]
                expand(row, theta, p, by_polynomials, polynomials, moments, found, into, expected)
                for t in range(1, len(unlisted)):
                    expand_alone(unlisted[t], p, by_polynomials, polynomials, found, parts[:terms, c + 1 + t])
                c += 1 + len(unlisted)
            if whole:
                for m in range(2):
                    row = scores.latent[group, m, low:high]
                    expand_alone(row, p, by_polynomials, polynomials, found, parts[:terms, w - 2 + m])
                for c in range(w):
                    products(parts, terms, c, c, people.weight[i], sums)
                    into = out[scores.place[columns[c]]]
                    into[scores.place[columns[c]]] += 0.5 * sums[c]
                    for t in range(c + 1, w):
                        into[scores.place[columns[t]]] += sums[t]
            else:
                c = 0
                for k in range(items.size):
                    size = scores.first[items[k] + 1] - scores.first[items[k]]
                    for x in range(c, c + size):
                        into = out[scores.place[columns[x]]]
                        for t in range(size):
                            total = 0.0
                            for m in range(terms):
                                total += parts[m, x] * parts[m, c + t]
                            into[t] += 0.5 * people.weight[i] * total
                    c += size
