"""Compiled inner loops, each over one run of persons, and the one way to run them on several threads.

Kernels release the GIL and are called from a thread pool: numba's own parallel layers abort the process when two
Python threads use them at once, and do not survive a fork. Every chunk fills accumulators of its own, which are
added in the order of the chunks; how persons are cut depends on the data only, so results are the same bit for bit
for any number of threads. Nothing here knows of models, convergence or item ids.

Layout of persons: sorted by the *set* of items they saw. `set_of[i]` is the set of person i, `set_items[set_start[s]:
set_start[s + 1]]` the items of set s, `right_items[right_start[i]:right_start[i + 1]]` those person i answered
correctly. Under c = 0 that is all a likelihood needs: log P(pattern i | θ) = θ·Σ a_j + Σ d_j − Σ log(1 + exp(a_j·θ +
d_j)), with the first two sums over the correct items and the last, shared by the whole set, over the seen ones.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np

NEGLIGIBLE = -38.0
"""Nodes whose posterior weight is below exp(−38) ≈ 3e-17 of the largest are left out: they are under rounding."""

Run = Callable[[Callable[..., Any], Sequence[tuple[int, int]]], list[Any]]


def _compiled(function: Callable[..., Any]) -> Any:
    """njit, kept on disk across processes where any cache directory is writable, in memory only where none is."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba: "no locator available": neither the package nor the home directory is writable
        return numba.njit(**options)(function)


def available_threads() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def runner(threads: int | None) -> Iterator[Run]:
    """A function run(f, chunks) that returns [f(first, last) for each chunk] in order, on `threads` threads."""
    count = threads if threads is not None else available_threads()
    if count < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    with ThreadPoolExecutor(count) as pool:

        def run(function: Callable[..., Any], chunks: Sequence[tuple[int, int]]) -> list[Any]:
            if count == 1 or len(chunks) == 1:
                return [function(first, last) for first, last in chunks]
            return list(pool.map(lambda chunk: function(*chunk), chunks))

        yield run


def cut(cost: np.ndarray, pieces: int) -> list[tuple[int, int]]:
    """Cuts persons into at most `pieces` consecutive ranges of about equal cost (shape (N,), any unit)."""
    total = np.cumsum(cost)
    marks = np.searchsorted(total, total[-1] * np.arange(1, pieces) / pieces, side="left") + 1
    edges = np.unique(np.concatenate(([0], marks, [len(cost)])))
    return [(int(first), int(last)) for first, last in itertools.pairwise(edges)]


@_compiled
def hash_rows(start, item, key, out):  # type: ignore[no-untyped-def]
    """out[i] = Σ key[item] over the items of row i, modulo 2⁶⁴: the same for the same items in any order."""
    for i in range(out.size):
        total = np.uint64(0)
        for r in range(start[i], start[i + 1]):
            total += key[item[r]]
        out[i] = total


@_compiled
def count_scores(item, score, out):  # type: ignore[no-untyped-def]
    """Adds the number of wrong and right answers to each item to out (J, 2)."""
    for r in range(item.size):
        out[item[r], score[r]] += 1


@_compiled
def count_right(order, start, score, out):  # type: ignore[no-untyped-def]
    """out[k] = number of correct answers of the k-th person in `order`."""
    for k in range(order.size):
        total = 0
        for r in range(start[order[k]], start[order[k] + 1]):
            total += score[r]
        out[k] = total


@_compiled
def gather_right(order, start, item, score, right_start, right_items):  # type: ignore[no-untyped-def]
    """Writes the correct items of the persons in `order` one after the other into `right_items`."""
    for k in range(order.size):
        w = right_start[k]
        for r in range(start[order[k]], start[order[k] + 1]):
            if score[r] == 1:
                right_items[w] = item[r]
                w += 1


@_compiled
def logistic_table(a, d, nodes, softplus, p):  # type: ignore[no-untyped-def]
    """softplus[j, q] = log(1 + exp(a_j·θ_q + d_j)) and p[j, q], its derivative, the probability; both (J, Q)."""
    for j in range(a.size):
        for q in range(nodes.size):
            eta = a[j] * nodes[q] + d[j]
            e = np.exp(-abs(eta))
            softplus[j, q] = max(eta, 0.0) + np.log1p(e)
            p[j, q] = (1.0 if eta >= 0 else e) / (1.0 + e)


@_compiled
def _set_base(s, set_start, set_items, softplus, log_weights, base):  # type: ignore[no-untyped-def]
    for q in range(base.size):
        base[q] = log_weights[q]
    for r in range(set_start[s], set_start[s + 1]):
        j = set_items[r]
        for q in range(base.size):
            base[q] -= softplus[j, q]


@_compiled
def _posterior(slope, nodes, base, post):  # type: ignore[no-untyped-def]
    """Fills post (Q,) for one person; returns log Σ exp, and the first and past-the-last node that counts."""
    Q = nodes.size
    top = -np.inf
    for q in range(Q):
        post[q] = slope * nodes[q] + base[q]
        top = max(top, post[q])
    first, last = 0, Q
    while post[first] - top < NEGLIGIBLE:
        first += 1
    while post[last - 1] - top < NEGLIGIBLE:
        last -= 1
    total = 0.0
    for q in range(first, last):
        post[q] = np.exp(post[q] - top)
        total += post[q]
    for q in range(first, last):
        post[q] /= total
    return top + np.log(total), first, last


@_compiled
def expected_counts(  # type: ignore[no-untyped-def]
    first,
    last,
    set_of,
    set_start,
    set_items,
    right_start,
    right_items,
    a,
    softplus,
    nodes,
    log_weights,
    seen,
    theta_right,
    mass,
):
    """E-step over persons first … last − 1. Adds to
    seen (J, Q): expected number of persons at node q who saw item j,
    theta_right (J,): Σ posterior mean of θ over the persons who answered item j correctly,
    mass (Q,): expected number of persons at node q.
    Returns Σ log P(pattern) without the part Σ d_j · (number correct)."""
    Q = nodes.size
    base, post, in_set = np.empty(Q), np.empty(Q), np.zeros(Q)
    loglik = 0.0
    current = -1
    for i in range(first, last + 1):
        s = set_of[i] if i < last else -1
        if s != current:
            if current >= 0:
                for r in range(set_start[current], set_start[current + 1]):
                    j = set_items[r]
                    for q in range(Q):
                        seen[j, q] += in_set[q]
                for q in range(Q):
                    mass[q] += in_set[q]
                    in_set[q] = 0.0
            if s < 0:
                break
            _set_base(s, set_start, set_items, softplus, log_weights, base)
            current = s
        slope = 0.0
        for r in range(right_start[i], right_start[i + 1]):
            slope += a[right_items[r]]
        value, low, high = _posterior(slope, nodes, base, post)
        loglik += value
        mean = 0.0
        for q in range(low, high):
            in_set[q] += post[q]
            mean += post[q] * nodes[q]
        for r in range(right_start[i], right_start[i + 1]):
            theta_right[right_items[r]] += mean
    return loglik


@_compiled
def missing_information(  # type: ignore[no-untyped-def]
    first, last, set_of, set_start, set_items, right_start, right_items, a, softplus, p, nodes, log_weights, latent, out
):
    """Adds to out (2J + 1, 2J + 1) a matrix H with H + Hᵀ = Σ_i Cov(complete-data score | pattern i) over persons
    first … last − 1.

    Parameters are ordered a_1 … a_J, d_1 … d_J, latent; a complete-data score is (x − P)θ, x − P, and `latent` (Q,).
    For one set, with K = Σ_i diag(p_i) − p_i p_iᵀ, B = columns θP_j, P_j, −latent, and
    G_j = Σ_i x_ij p_i (θ − E_i θ), the sum is BᵀKB, less GB (and its transpose) in the rows (and columns) of the
    slopes, plus Σ_i x_ij x_ik Var_i(θ) between slopes: the cost per person is Q² and not (2J)²·Q.
    """
    Q, J = nodes.size, a.size
    base, post = np.empty(Q), np.empty(Q)
    K = np.zeros((Q, Q))
    G = np.zeros((J, Q))
    current = -1
    for i in range(first, last + 1):
        s = set_of[i] if i < last else -1
        if s != current:
            if current >= 0:
                _add_set(set_items[set_start[current] : set_start[current + 1]], K, G, p, nodes, latent, out)
                K[:] = 0.0
            if s < 0:
                break
            _set_base(s, set_start, set_items, softplus, log_weights, base)
            current = s
        slope = 0.0
        for r in range(right_start[i], right_start[i + 1]):
            slope += a[right_items[r]]
        _, low, high = _posterior(slope, nodes, base, post)
        mean = 0.0
        for q in range(low, high):
            mean += post[q] * nodes[q]
        variance = 0.0
        for q in range(low, high):
            variance += post[q] * (nodes[q] - mean) ** 2
            K[q, q] += post[q]
            for k in range(q, high):
                K[q, k] -= post[q] * post[k]
        for q in range(low, high):
            post[q] *= nodes[q] - mean
        for r in range(right_start[i], right_start[i + 1]):
            j = right_items[r]
            for q in range(low, high):
                G[j, q] += post[q]
            out[j, j] += 0.5 * variance
            for t in range(r + 1, right_start[i + 1]):
                out[j, right_items[t]] += variance


@_compiled
def _add_set(items, K, G, p, nodes, latent, out):  # type: ignore[no-untyped-def]
    """The flush of `missing_information`: adds one set's matrix to out and empties the set's rows of G."""
    Q, J, n = nodes.size, p.shape[0], items.size
    for q in range(Q):
        for k in range(q):
            K[q, k] = K[k, q]
    B = np.empty((Q, 2 * n + 1))
    g = np.empty((n, Q))
    place = np.empty(2 * n + 1, dtype=np.int64)
    for k in range(n):
        j = items[k]
        place[k], place[n + k] = j, J + j
        for q in range(Q):
            B[q, k] = nodes[q] * p[j, q]
            B[q, n + k] = p[j, q]
            g[k, q] = G[j, q]
            G[j, q] = 0.0
    place[2 * n] = 2 * J
    for q in range(Q):
        B[q, 2 * n] = -latent[q]
    M = np.dot(np.ascontiguousarray(B.T), np.dot(K, B))
    cross = np.dot(g, B)
    for k in range(2 * n + 1):
        for m in range(2 * n + 1):
            value = 0.5 * M[k, m]
            if k < n:
                value -= cross[k, m]
            out[place[k], place[m]] += value


@_compiled
def missing_blocks(  # type: ignore[no-untyped-def]
    first, last, set_of, set_start, set_items, right_start, right_items, a, softplus, p, nodes, log_weights, out
):
    """The 2 × 2 blocks of each item in `missing_information`: adds (slope, both, intercept) to out (J, 3)."""
    Q, J = nodes.size, a.size
    base, post = np.empty(Q), np.empty(Q)
    right = np.zeros(J)
    current = -1
    for i in range(first, last):
        s = set_of[i]
        if s != current:
            _set_base(s, set_start, set_items, softplus, log_weights, base)
            current = s
        slope = 0.0
        for r in range(right_start[i], right_start[i + 1]):
            slope += a[right_items[r]]
            right[right_items[r]] = 1.0
        _, low, high = _posterior(slope, nodes, base, post)
        for r in range(set_start[s], set_start[s + 1]):
            j = set_items[r]
            e0, e1, e00, e01, e11 = 0.0, 0.0, 0.0, 0.0, 0.0
            for q in range(low, high):
                residual = right[j] - p[j, q]
                once = post[q] * residual
                e0 += once
                e1 += once * nodes[q]
                e00 += once * residual
                e01 += once * residual * nodes[q]
                e11 += once * residual * nodes[q] ** 2
            out[j, 0] += e11 - e1 * e1
            out[j, 1] += e01 - e0 * e1
            out[j, 2] += e00 - e0 * e0
        for r in range(right_start[i], right_start[i + 1]):
            right[right_items[r]] = 0.0


@_compiled
def posterior_moments(first, last, start, item, score, log_right, log_wrong, nodes, log_weights, theta, se):  # type: ignore[no-untyped-def]
    """EAP and posterior SD of persons first … last − 1 from tables log P and log(1 − P), both (J, Q)."""
    Q = nodes.size
    post = np.empty(Q)
    for i in range(first, last):
        for q in range(Q):
            post[q] = log_weights[q]
        for r in range(start[i], start[i + 1]):
            j = item[r]
            if score[r] == 1:
                for q in range(Q):
                    post[q] += log_right[j, q]
            else:
                for q in range(Q):
                    post[q] += log_wrong[j, q]
        top = -np.inf
        for q in range(Q):
            top = max(top, post[q])
        total = 0.0
        mean = 0.0
        for q in range(Q):
            post[q] = np.exp(post[q] - top)
            total += post[q]
            mean += post[q] * nodes[q]
        mean /= total
        variance = 0.0
        for q in range(Q):
            variance += post[q] * (nodes[q] - mean) ** 2
        theta[i] = mean
        se[i] = np.sqrt(variance / total)
