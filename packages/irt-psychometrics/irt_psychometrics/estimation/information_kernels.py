"""Compiled loops of the observed information: the information lost because abilities are unknown. See `kernels` for
layouts.

By Louis (1982) the loss is Σ_i Cov(complete-data score | pattern i) over persons. A score of item j is (x − P)·V with
V = θ·L/P, L/P and, with guessing, c/P (L the logistic part; without guessing L/P = 1). The score of a group's mean or
log SD is a function of θ alone. Only abilities are unknown, so each covariance is between functions of θ under the
person's posterior.

`add_persons` processes each person separately; see `expansion_kernels`.

`add_runs` processes persons of one set together. A score is the score B_j of an unlisted answer, the same function for
all of them, plus l_ij·V_j if the answer is listed. With K = Σ_i diag(p_i) − p_i p_iᵀ and
G_j = Σ_i l_ij p_i (V_j − E_i V_j), the loss is BᵀKB, plus GB and its transpose, plus Σ_i l_ij l_ik Cov_i(V_j, V_k).
Without guessing V = (θ, 1), and the last term is Var_i(θ) between slopes. With guessing V = (θv, v, −(1 − c)v) up to a
constant, because c/P = 1 − (1 − c)·L/P. Here v = ±L/P is itself a logistic curve with slope a, so the same number of
terms suffices.

Sums are added to out (J + G, J + G, C, C), with C scores for each pair of items. Groups are stored as items after the J
items; for C = 3 their third score is 0. The loss is out plus its transpose.
"""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.kernels import (
    NO_SET,
    _inlined_in_place_kernel,
    _inlined_kernel,
    _kernel,
    _posteriors,
    _scatter,
)
from irt_psychometrics.estimation.expansion_kernels import (
    MORE,
    expand,
    expand_alone,
    orthonormal,
    products,
    window,
)

RUN = 8
"""Runs of at least this many persons who saw the same set are processed together."""
BEND = 1.5
"""Factor by which a curve with guessing has more curvature than its slope suggests."""


@_kernel
def count_by_information(first, last, people, information, counts):  # type: ignore[no-untyped-def]
    """Add each person to counts (M,) at the index of the largest total information of the person's items at any node,
    rounded down. `information` (J, Q) is the information of each item."""
    total = np.empty(information.shape[1])
    place = 0
    for i in range(first, last):
        s = people.set_of[i]
        if i == first or s != people.set_of[i - 1]:
            total[:] = 0.0
            for r in range(people.set_start[s], people.set_start[s + 1]):
                own = information[people.set_items[r]]
                for q in range(total.size):
                    total[q] += own[q]
            most = 0.0
            for q in range(total.size):
                most = max(most, total[q])
            place = min(int(most), counts.size - 1)
        counts[place] += 1.0


class Scores(NamedTuple):
    """Contribution of one answer to the scores, by node.

    right, wrong (J, Q): (x − P)·L/P for a listed and for an unlisted answer.
    guess_right, guess_wrong (J, Q), no rows without guessing: (x − P)·c/P.
    guess_gain (J,): −(1 − c), the ratio of `guess_right` − `guess_wrong` to `right` − `wrong`, up to a constant.
    latent (G, 2, Q): scores of a group's mean and log SD.
    """

    right: np.ndarray
    wrong: np.ndarray
    guess_right: np.ndarray
    guess_wrong: np.ndarray
    guess_gain: np.ndarray
    latent: np.ndarray


@_inlined_in_place_kernel
def add_posterior(p, weight, nodes, row, mass, K):  # type: ignore[no-untyped-def]
    """Add a person's posterior p (Q,) to `mass` (Q,) and −p pᵀ to `K` (Q, Q), both times `weight`.

    Fills `row` with p·(θ − E θ) times `weight`, the person's part of the covariances of a listed answer with θ. Returns
    the variance of θ times `weight`.
    """
    mean, variance = 0.0, 0.0
    for q in range(nodes.size):
        mean += p[q] * nodes[q]
    for q in range(nodes.size):
        counted = weight * p[q]
        mass[q] += counted
        row[q] = counted * (nodes[q] - mean)
        variance += row[q] * (nodes[q] - mean)
    for k in range(nodes.size):
        counted = weight * p[k]
        for q in range(nodes.size):
            K[k, q] -= counted * p[q]
    return variance


@_kernel
def add_runs(runs, people, curves, nodes, log_weights, scores, out):  # type: ignore[no-untyped-def]
    """Add half the loss of runs of persons, without guessing, to `out` (J + G, J + G, 2, 2).

    `runs` (R, 2) contains the first person of each run and the person after its last.
    """
    place = np.full(out.shape[0], -1)
    for run in range(len(runs)):
        first, last = runs[run, 0], runs[run, 1]
        s = people.set_of[first]
        Q, group = nodes.size, people.set_group[s]
        items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
        n = items.size
        for k in range(n):
            place[items[k]] = k
        base, post, current = np.empty(Q), np.empty((1, Q)), NO_SET
        p, row, positions = post[0], np.zeros(Q + n), np.empty(n, dtype=np.int64)
        shared, K, mass = np.zeros((n, Q + n)), np.zeros((Q, Q)), np.zeros(Q)
        for i in range(first, last):
            _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
            variance = add_posterior(p, people.weight[i], nodes, row, mass, K)
            begin, end = people.right_start[i], people.right_start[i + 1]
            for r in range(begin, end):
                positions[r - begin] = place[people.right_items[r]]
                row[Q + positions[r - begin]] = variance
            _scatter(row, positions, 0, end - begin, shared)
            for r in range(end - begin):
                row[Q + positions[r]] = 0.0
        for k in range(n):
            for t in range(n):
                out[items[k], items[t], 0, 0] += 0.5 * shared[k, Q + t]
            place[items[k]] = -1
        _spread(items, group, nodes, scores, K, mass, shared[:, :Q].copy().reshape(n, 1, Q), out)


@_kernel
def add_guessed_runs(runs, people, curves, nodes, log_weights, scores, out):  # type: ignore[no-untyped-def]
    """Like `add_runs`, with guessing; `out` has shape (J + G, J + G, 3, 3)."""
    place = np.full(out.shape[0], -1)
    for run in range(len(runs)):
        first, last = runs[run, 0], runs[run, 1]
        s = people.set_of[first]
        Q = nodes.size
        items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
        n = items.size
        gain = np.empty((n, Q))
        for k in range(n):
            place[items[k]] = k
            for q in range(Q):
                gain[k, q] = scores.right[items[k], q] - scores.wrong[items[k], q]
        base, post, current = np.empty(Q), np.empty((1, Q)), NO_SET
        row, positions = post[0], np.empty(n, dtype=np.int64)
        K, mass, linear, pairs = np.zeros((Q, Q)), np.zeros(Q), np.zeros((n, 3, Q)), np.zeros((n, n, 4))
        polynomials, moments = np.empty((MORE + 4, Q)), np.empty((MORE + 4, 2))
        parts, sums, found, expected = np.empty((Q + 6, 2 * n)), np.zeros((2, 2 * n)), np.empty(MORE + 4), np.empty(2)
        for i in range(first, last):
            _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
            weight = people.weight[i]
            for k in range(Q):
                counted = weight * row[k]
                mass[k] += counted
                for q in range(Q):
                    K[k, q] -= counted * row[q]
            begin, end = people.right_start[i], people.right_start[i + 1]
            steepest = 0.0
            for r in range(begin, end):
                positions[r - begin] = place[people.right_items[r]]
                steepest = max(steepest, abs(curves.slope[people.right_items[r]]))
            low, high, terms, by_polynomials = window(row, nodes, steepest)
            p, theta = row[low:high], nodes[low:high]
            if by_polynomials:
                orthonormal(p, theta, terms + 2, polynomials, moments)
            for k in range(end - begin):
                at = positions[k]
                into = parts[:terms, 2 * k : 2 * k + 2]
                expand(gain[at, low:high], theta, p, by_polynomials, polynomials, moments, found, into, expected)
                for q in range(Q):
                    counted = weight * row[q]
                    linear[at, 0, q] += expected[0] * counted
                    linear[at, 1, q] += expected[1] * counted
                    linear[at, 2, q] += counted
            for k in range(end - begin):
                into = pairs[positions[k]]
                for c in range(2):
                    products(
                        parts[:, : 2 * (end - begin)], terms, 2 * k + c, 2 * k, weight, sums[c, : 2 * (end - begin)]
                    )
                for t in range(k, end - begin):
                    at = positions[t]
                    into[at, 0] += sums[0, 2 * t]
                    into[at, 1] += sums[0, 2 * t + 1]
                    into[at, 2] += sums[1, 2 * t]
                    into[at, 3] += sums[1, 2 * t + 1]
        for k in range(n):
            place[items[k]] = -1
            own = scores.guess_gain[items[k]]
            for q in range(Q):
                counted = gain[k, q] * linear[k, 2, q]
                linear[k, 0, q] = nodes[q] * counted - linear[k, 0, q]
                linear[k, 1, q] = counted - linear[k, 1, q]
                linear[k, 2, q] = own * linear[k, 1, q]
            for t in range(n):
                half = 0.5 if t == k else 1.0
                other = scores.guess_gain[items[t]]
                block = out[items[k], items[t]]
                for c in range(3):
                    for e in range(3):
                        factor = half * (own if c == 2 else 1.0) * (other if e == 2 else 1.0)
                        block[c, e] += factor * pairs[k, t, 2 * min(c, 1) + min(e, 1)]
        _spread(items, people.set_group[s], nodes, scores, K, mass, linear, out)


@_kernel
def add_persons(sets, people, curves, nodes, log_weights, scores, whole, out):  # type: ignore[no-untyped-def]
    """Add half the loss of persons, processed one by one, to `out`.

    If `whole` is False, only each item's own block is added, and `out` has shape (J, 1, C, C). `sets` is like `runs`,
    with runs of any length.
    """
    place = np.full(out.shape[0], -1)
    for one in range(len(sets)):
        first, last = sets[one, 0], sets[one, 1]
        s, Q, C = people.set_of[first], nodes.size, out.shape[2]
        group = people.set_group[s]
        items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
        n = items.size
        steepest = 0.0
        for k in range(n):
            steepest = max(steepest, abs(curves.slope[items[k]]))
        base, post, current = np.empty(Q), np.empty((1, Q)), NO_SET
        polynomials, moments = np.empty((MORE + 4, Q)), np.empty((MORE + 4, 2))
        parts, found, expected = np.empty((Q + 6, C * (n + 1))), np.empty(MORE + 4), np.empty(2)
        for i in range(first, last):
            _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
            low, high, terms, by_polynomials = window(post[0], nodes, (BEND if C == 3 else 1.0) * steepest)
            p, theta = post[0, low:high], nodes[low:high]
            if by_polynomials:
                orthonormal(p, theta, terms + 2, polynomials, moments)
            for r in range(people.right_start[i], people.right_start[i + 1]):
                place[people.right_items[r]] = 1
            for k in range(n):
                j = items[k]
                right = place[j] == 1
                place[j] = -1
                row = (scores.right if right else scores.wrong)[j, low:high]
                into = parts[:terms, C * k : C * k + 2]
                expand(row, theta, p, by_polynomials, polynomials, moments, found, into, expected)
                if C == 3:
                    row = (scores.guess_right if right else scores.guess_wrong)[j, low:high]
                    expand_alone(row, p, by_polynomials, polynomials, found, parts[:terms, C * k + 2])
            if whole:
                for c in range(C):
                    if c < 2:
                        row = scores.latent[group, c, low:high]
                        expand_alone(row, p, by_polynomials, polynomials, found, parts[:terms, C * n + c])
                    else:
                        parts[:terms, C * n + c] = 0.0
                _add_pairs(items, out.shape[0] - scores.latent.shape[0] + group, parts, terms, people.weight[i], out)
            else:
                for k in range(n):
                    for c in range(C):
                        for e in range(C):
                            total = 0.0
                            for m in range(terms):
                                total += parts[m, C * k + c] * parts[m, C * k + e]
                            out[items[k], 0, c, e] += 0.5 * people.weight[i] * total


@_inlined_kernel
def _add_pairs(items, last, parts, terms, weight, out):  # type: ignore[no-untyped-def]
    """Add weight · Σ_m parts[m, k]·parts[m, l] to the blocks of all pairs of `items` and `last`, and half of it to an
    item's own block."""
    C, n = out.shape[2], items.size
    sums = np.zeros((C, C * (n + 1)))
    for k in range(n + 1):
        j = items[k] if k < n else last
        for c in range(C):
            products(parts, terms, C * k + c, C * k, weight, sums[c])
            for e in range(C):
                sums[c, C * k + e] *= 0.5
        into = out[j].reshape(-1)
        for t in range(k, n + 1):
            at = C * C * (np.int64(items[t]) if t < n else last)
            if C == 2:
                into[at] += sums[0, 2 * t]
                into[at + 1] += sums[0, 2 * t + 1]
                into[at + 2] += sums[1, 2 * t]
                into[at + 3] += sums[1, 2 * t + 1]
            else:
                for c in range(C):
                    for e in range(C):
                        into[at + C * c + e] += sums[c, C * t + e]


@_inlined_in_place_kernel
def _combine(by, rows, factor, into):  # type: ignore[no-untyped-def]
    """Add factor · Σ_q by[q]·rows[q] to `into`. Without np.dot, because a threaded BLAS called from threads spins."""
    for q in range(by.size):
        share = factor * by[q]
        for k in range(into.size):
            into[k] += share * rows[q, k]


@_inlined_kernel
def _spread(items, group, nodes, scores, K, mass, linear, out):  # type: ignore[no-untyped-def]
    """Add half of BᵀKB and, in the rows of an item k's first scores, linear[k]·B. K is given without its diagonal."""
    C, n, Q = out.shape[2], items.size, nodes.size
    where = out.shape[0] - scores.latent.shape[0] + group
    B = np.empty((Q, C * n + 2))
    for q in range(Q):
        K[q, q] += mass[q]
        for k in range(n):
            B[q, C * k] = nodes[q] * scores.wrong[items[k], q]
            B[q, C * k + 1] = scores.wrong[items[k], q]
            if C == 3:
                B[q, C * k + 2] = scores.guess_wrong[items[k], q]
        B[q, C * n], B[q, C * n + 1] = scores.latent[group, 0, q], scores.latent[group, 1, q]
    KB = np.zeros((Q, C * n + 2))
    for q in range(Q):
        _combine(K[q], B, 0.5, KB[q])
    sums, column = np.empty(C * n + 2), np.empty(Q)
    for k in range(n + 1):
        j = items[k] if k < n else where
        for c in range(C if k < n else 2):
            for q in range(Q):
                column[q] = KB[q, C * k + c]
            if k < n and c < linear.shape[1]:
                for q in range(Q):
                    column[q] += linear[k, c, q]
            sums[:] = 0.0
            _combine(column, B, 1.0, sums)
            for t in range(n + 1):
                block = out[j, items[t] if t < n else where]
                for e in range(C if t < n else 2):
                    block[c, e] += sums[C * t + e]
