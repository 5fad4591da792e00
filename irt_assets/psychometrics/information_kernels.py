"""Compiled loops of the observed information: what is lost because abilities are not known. See `kernels` for layouts.

By Louis (1982) the loss is Σ_i Cov(complete-data score | pattern i) over persons. A score of item j is (x − P)·V with
V = θ·L/P, L/P and, with guessing, c/P (L the logistic part; without guessing L/P = 1), that of a group's mean or log SD
is a function of θ alone; abilities are all that is not known, so each covariance is one between functions of θ under
the person's posterior.

Each person by himself (`_add_person`): with polynomials φ_0 = 1, φ_1, … that are orthonormal under the posterior
(three-term recurrence, Stieltjes), Cov(f, g) = Σ_m E[fφ_m]·E[gφ_m] from m = 1 on. Scores are smooth and a posterior is
narrow, so the sum falls off geometrically and a few terms are the whole to rounding. As θφ_m is a combination of
φ_{m−1}, φ_m and φ_{m+1}, scores with a factor θ need no sums over nodes of their own.

Persons of one set together (`_add_run`), without guessing: with K = Σ_i diag(p_i) − p_i p_iᵀ, B = columns θP_j, P_j,
−latent, and G_j = Σ_i x_ij p_i (θ − E_i θ), their sum is BᵀKB, less GB (and its transpose) in the rows (and columns) of
the slopes, plus Σ_i x_ij x_ik Var_i(θ) between slopes.

Sums go to out (J + G, J + G, C, C), C scores for each pair of items, where groups stand as items after the J; for
C = 3 their third score is 0. The loss is out plus its transpose.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irt_assets.psychometrics.kernels import _compiled, _posteriors, _scatter

RUN = 8
"""From so many persons of one set on it pays to take them together."""
FEW, MORE = 6, 12
"""Terms of a covariance, where the spread of the person's log-odds on his steepest item is up to NARROW and up to WIDE:
with these the sum is good to 1e-5 of itself. Above, there is a term for every node."""
BEND = 1.5
"""A curve with guessing bends as if it were steeper by so much."""
NARROW, WIDE = 0.7, 1.1
UNSEEN = 1e-15
"""Nodes with less of a posterior are left out."""


class Scores(NamedTuple):
    """What one answer adds to the scores, by node.

    right, wrong (J, Q): (x − P)·L/P for a listed answer and for the other one.
    guess_right, guess_wrong (J, Q), no rows where nobody guesses: (x − P)·c/P.
    latent (G, 2, Q): scores of a group's mean and log SD.
    """

    right: np.ndarray
    wrong: np.ndarray
    guess_right: np.ndarray
    guess_wrong: np.ndarray
    latent: np.ndarray


@_compiled
def missing_information(first, last, people, curves, nodes, log_weights, scores, whole, out):  # type: ignore[no-untyped-def]
    """Adds half the loss of persons first … last − 1 to `out`: (J + G, J + G, C, C), or (J, 1, C, C) for each item's
    own block where `whole` is False."""
    Q = nodes.size
    guessing = curves.log_odds.shape[0] > 0
    place = np.full(out.shape[0], -1)
    base, post = np.empty(Q), np.empty((1, Q))
    polynomials, moments = np.empty((MORE + 4, Q)), np.empty((MORE + 4, 2))
    parts = np.empty((0, 0))
    current = -1
    i = first
    while i < last:
        s = people.set_of[i]
        begin, end = people.set_start[s], people.set_start[s + 1]
        stop = i + 1
        while stop < last and people.set_of[stop] == s:
            stop += 1
        if whole and not guessing and stop - i >= RUN:
            _add_run(i, stop, people, curves, nodes, log_weights, scores, place, out)
            i = stop
            continue
        C = out.shape[2]
        if parts.shape[1] < C * (end - begin + 1):
            parts = np.empty((Q + 6, C * (end - begin + 1)))
        together = whole and stop - i >= RUN
        dense = np.zeros((C * (end - begin + 1), C * (end - begin + 1))) if together else np.empty((0, 0))
        while i < stop:
            _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
            steepest = 0.0
            for r in range(begin, end):
                steepest = max(steepest, abs(curves.slope[people.set_items[r]]))
            _add_person(
                i, steepest, people, nodes, scores, post[0], polynomials, moments, place, parts, dense, whole, out
            )
            i += 1
        if together:
            items = people.set_items[begin:end]
            _add_dense(items, out.shape[0] - scores.latent.shape[0] + people.set_group[s], dense, out)


@_compiled
def _orthonormal(p, theta, size, polynomials, moments):  # type: ignore[no-untyped-def]
    """Fills polynomials[m, q] = p_q·φ_m(θ_q) and moments[m] = (α_m, β_m) for m < size, with
    θφ_m = β_m φ_{m−1} + α_m φ_m + β_{m+1} φ_{m+1}."""
    phi, before, after = np.ones(p.size), np.zeros(p.size), np.empty(p.size)
    beta = 0.0
    for m in range(size):
        row = polynomials[m]
        alpha = 0.0
        for q in range(p.size):
            row[q] = p[q] * phi[q]
            alpha += row[q] * phi[q] * theta[q]
        moments[m, 0], moments[m, 1] = alpha, beta
        norm = 0.0
        for q in range(p.size):
            after[q] = (theta[q] - alpha) * phi[q] - beta * before[q]
            norm += p[q] * after[q] ** 2
        beta = np.sqrt(norm) if norm > 1e-12 else 0.0  # fewer nodes than terms: the rest is nothing
        scale = 1 / beta if beta > 0 else 0.0
        for q in range(p.size):
            before[q] = phi[q]
            phi[q] = after[q] * scale


@_compiled
def _project(row, polynomials, size, into):  # type: ignore[no-untyped-def]
    """into[m] = Σ_q row[q]·polynomials[m, q], four at a time."""
    for m in range(0, size, 4):
        one, two, three, four = 0.0, 0.0, 0.0, 0.0
        for q in range(row.size):
            one += row[q] * polynomials[m, q]
            two += row[q] * polynomials[m + 1, q]
            three += row[q] * polynomials[m + 2, q]
            four += row[q] * polynomials[m + 3, q]
        into[m], into[m + 1], into[m + 2], into[m + 3] = one, two, three, four


@_compiled
def _add_person(i, steepest, people, nodes, scores, post, polynomials, moments, place, parts, dense, whole, out):  # type: ignore[no-untyped-def]
    s, C = people.set_of[i], out.shape[2]
    group = people.set_group[s]
    items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
    n = items.size
    low, high = 0, post.size
    while post[low] < UNSEEN:
        low += 1
    while post[high - 1] < UNSEEN:
        high -= 1
    p, theta = post[low:high], nodes[low:high]
    mean, variance = 0.0, 0.0
    for q in range(p.size):
        mean += p[q] * theta[q]
    for q in range(p.size):
        variance += p[q] * (theta[q] - mean) ** 2
    reach = (BEND if C == 3 else 1.0) * steepest * np.sqrt(variance)
    terms = FEW if reach < NARROW else MORE if reach < WIDE else 6 * ((p.size + 5) // 6)
    smooth = reach < WIDE
    if smooth:
        _orthonormal(p, theta, terms + 2, polynomials, moments)
    else:
        for m in range(p.size, terms):
            for k in range(C * (n + 1)):
                parts[m, k] = 0.0
    for r in range(people.right_start[i], people.right_start[i + 1]):
        place[people.right_items[r]] = 1
    found = np.empty(MORE + 4)
    for k in range(n):
        j = items[k]
        right = place[j] == 1
        place[j] = -1
        row = (scores.right if right else scores.wrong)[j, low:high]
        if smooth:
            _project(row, polynomials, terms + 2, found)
            for m in range(1, terms + 1):
                by_theta = moments[m, 1] * found[m - 1] + moments[m, 0] * found[m] + moments[m + 1, 1] * found[m + 1]
                parts[m - 1, C * k], parts[m - 1, C * k + 1] = by_theta, found[m]
        else:
            _deviations(row, theta, p, parts[:, C * k])
            _deviations(row, np.ones_like(p), p, parts[:, C * k + 1])
        if C == 3:
            row = (scores.guess_right if right else scores.guess_wrong)[j, low:high]
            if smooth:
                _project(row, polynomials, terms + 2, found)
                for m in range(1, terms + 1):
                    parts[m - 1, C * k + 2] = found[m]
            else:
                _deviations(row, np.ones_like(p), p, parts[:, C * k + 2])
    if not whole:
        for k in range(n):
            for c in range(C):
                for e in range(C):
                    total = 0.0
                    for m in range(terms):
                        total += parts[m, C * k + c] * parts[m, C * k + e]
                    out[items[k], 0, c, e] += 0.5 * people.weight[i] * total
        return
    for c in range(C):
        for m in range(terms):
            parts[m, C * n + c] = 0.0
        if c < 2:
            row = scores.latent[group, c, low:high]
            if smooth:
                _project(row, polynomials, terms + 2, found)
                for m in range(1, terms + 1):
                    parts[m - 1, C * n + c] = found[m]
            else:
                _deviations(row, np.ones_like(p), p, parts[:, C * n + c])
    if dense.size > 0:
        for k in range(C * (n + 1)):
            _products(parts, terms, k, k, people.weight[i], 1.0, dense[k])
        return
    _add_pairs(items, out.shape[0] - scores.latent.shape[0] + group, parts, terms, people.weight[i], out)


@_compiled
def _deviations(row, factor, p, into):  # type: ignore[no-untyped-def]
    """into[q] = √p_q·(f_q − E f) with f = row·factor: the products of two such rows sum up to their covariance."""
    mean = 0.0
    for q in range(p.size):
        mean += p[q] * row[q] * factor[q]
    for q in range(p.size):
        into[q] = np.sqrt(p[q]) * (row[q] * factor[q] - mean)


@_compiled
def _products(parts, terms, k, start, weight, kept, into):  # type: ignore[no-untyped-def]
    """into[q] = kept·into[q] + weight · Σ_m parts[m, k]·parts[m, q] from q = start on, six terms at a time."""
    sums = into[start:]
    for m in range(0, terms, 6):
        f0, f1, f2 = weight * parts[m, k], weight * parts[m + 1, k], weight * parts[m + 2, k]
        f3, f4, f5 = weight * parts[m + 3, k], weight * parts[m + 4, k], weight * parts[m + 5, k]
        p0, p1, p2 = parts[m, start:], parts[m + 1, start:], parts[m + 2, start:]
        p3, p4, p5 = parts[m + 3, start:], parts[m + 4, start:], parts[m + 5, start:]
        for q in range(sums.size):
            more = (f0 * p0[q] + f1 * p1[q]) + (f2 * p2[q] + f3 * p3[q]) + (f4 * p4[q] + f5 * p5[q])
            sums[q] = kept * sums[q] + more
        kept = 1.0


@_compiled
def _add_pairs(items, last, parts, terms, weight, out):  # type: ignore[no-untyped-def]
    """Adds weight · Σ_m parts[m, k]·parts[m, l] to the blocks of all pairs of `items` and `last`, half of it to an
    item's own."""
    C, n = out.shape[2], items.size
    sums = np.zeros((C, C * (n + 1)))
    for k in range(n + 1):
        j = items[k] if k < n else last
        for c in range(C):
            _products(parts, terms, C * k + c, C * k, weight, 0.0, sums[c])
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


@_compiled
def _add_dense(items, last, dense, out):  # type: ignore[no-untyped-def]
    """Adds the upper triangle of a matrix over the scores of `items` and `last` to their blocks, half its diagonal."""
    C, n = out.shape[2], items.size
    for k in range(n + 1):
        j = items[k] if k < n else last
        for t in range(k, n + 1):
            block = out[j, items[t] if t < n else last]
            for c in range(C):
                for e in range(c if t == k else 0, C):
                    block[c, e] += dense[C * k + c, C * t + e] * (0.5 if t == k and c == e else 1.0)


@_compiled
def _combine(by, rows, factor, into):  # type: ignore[no-untyped-def]
    """Adds factor · Σ_q by[q]·rows[q] to `into`. Not by np.dot: a threaded BLAS called from threads spins."""
    for q in range(by.size):
        share = factor * by[q]
        for k in range(into.size):
            into[k] += share * rows[q, k]


@_compiled
def _add_run(first, last, people, curves, nodes, log_weights, scores, place, out):  # type: ignore[no-untyped-def]
    s = people.set_of[first]
    Q, group = nodes.size, people.set_group[s]
    items = people.set_items[people.set_start[s] : people.set_start[s + 1]]
    n = items.size
    for k in range(n):
        place[items[k]] = k
    base, post, current = np.empty(Q), np.empty((1, Q)), -1
    p, row, positions = post[0], np.zeros(Q + n), np.empty(n, dtype=np.int64)
    products, K, mass = np.zeros((n, Q + n)), np.zeros((Q, Q)), np.zeros(Q)
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        mean, variance = 0.0, 0.0
        for q in range(Q):
            mean += p[q] * nodes[q]
        for q in range(Q):
            counted = people.weight[i] * p[q]
            mass[q] += counted
            row[q] = counted * (nodes[q] - mean)
            variance += row[q] * (nodes[q] - mean)
        for k in range(Q):
            counted = people.weight[i] * p[k]
            for q in range(Q):
                K[k, q] -= counted * p[q]
        begin, end = people.right_start[i], people.right_start[i + 1]
        for r in range(begin, end):
            positions[r - begin] = place[people.right_items[r]]
            row[Q + positions[r - begin]] = variance
        _scatter(row, positions, 0, end - begin, products)
        for r in range(end - begin):
            row[Q + positions[r]] = 0.0
    for q in range(Q):
        K[q, q] += mass[q]
    B = np.empty((Q, 2 * n + 2))
    for q in range(Q):
        for k in range(n):
            B[q, 2 * k] = -nodes[q] * scores.wrong[items[k], q]
            B[q, 2 * k + 1] = -scores.wrong[items[k], q]
        B[q, 2 * n], B[q, 2 * n + 1] = -scores.latent[group, 0, q], -scores.latent[group, 1, q]
    KB = np.zeros_like(B)
    for q in range(Q):
        _combine(K[q], B, 1.0, KB[q])
    where = out.shape[0] - scores.latent.shape[0] + group
    sums, column = np.empty(2 * n + 2), np.empty(Q)
    for k in range(n + 1):
        j = items[k] if k < n else where
        for c in range(2):
            sums[:] = 0.0
            for q in range(Q):
                column[q] = B[q, 2 * k + c]
            _combine(column, KB, 0.5, sums)
            if k < n and c == 0:
                _combine(products[k, :Q], B, -1.0, sums)
            for t in range(n + 1):
                block = out[j, items[t] if t < n else where]
                block[c, 0] += sums[2 * t]
                block[c, 1] += sums[2 * t + 1]
        for t in range(n if k < n else 0):
            out[j, items[t], 0, 0] += 0.5 * products[k, Q + t]
    for k in range(n):
        place[items[k]] = -1
