"""Compiled inner loops, each over one run of persons, and the one way to run them on several threads.

Kernels release the GIL and are called from a thread pool: numba's own parallel layers abort the process when two
Python threads use them at once, and do not survive a fork. Every chunk fills accumulators of its own, which are
added in the order of the chunks; how persons are cut depends on the data only, so results are the same bit for bit
for any number of threads. Nothing here knows of models, convergence or item ids.

Loops over a window of nodes run over slices: numba takes an index that starts above 0 for one that may be negative, and
does not vectorise it.

Layout of persons: sorted by the *set* of items they saw, one set per group of persons. `set_of[i]` is the set of
person i, `set_group[s]` the group of set s, `set_items[set_start[s]:set_start[s + 1]]` its items,
`right_items[right_start[i]:right_start[i + 1]]` those person i answered correctly, `weight[i]` how many persons i
stands for. A pattern's likelihood is then log P(pattern i | θ) = Σ log(P_j / (1 − P_j)) + Σ log(1 − P_j), the first
sum over the correct items and the second, shared by the whole set, over the seen ones. Without guessing the log-odds
are a_j·θ + d_j, so that the first sum is one slope and one intercept per person; with guessing it is a curve, and
items that most answer correctly may stand *flipped*, with right for wrong, P for 1 − P and −V for their score V.
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
def hash_columns(person, item, score, key, out):  # type: ignore[no-untyped-def]
    """out[j] += Σ key[person, score] over the answers to item j: the same for the same answers of the same persons."""
    for r in range(item.size):
        out[item[r]] += key[person[r], score[r]]


@_compiled
def count_scores(person, item, score, weight, out):  # type: ignore[no-untyped-def]
    """Adds the weights of wrong and right answers to each item to out (J, 2)."""
    for r in range(item.size):
        out[item[r], score[r]] += weight[person[r]]


@_compiled
def count_marked(order, start, item, score, flipped, out):  # type: ignore[no-untyped-def]
    """out[k] = number of answers of the k-th person in `order` that are correct, of flipped items (J,) wrong."""
    for k in range(order.size):
        total = 0
        for r in range(start[order[k]], start[order[k] + 1]):
            total += (score[r] == 1) != flipped[item[r]]
        out[k] = total


@_compiled
def gather_marked(order, start, item, score, flipped, right_start, right_items):  # type: ignore[no-untyped-def]
    """Writes the items counted by `count_marked` one person after the other into `right_items`."""
    for k in range(order.size):
        w = right_start[k]
        for r in range(start[order[k]], start[order[k] + 1]):
            if (score[r] == 1) != flipped[item[r]]:
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
    """Fills post (Q,) for one person without guessing; returns as `_normalise`."""
    for q in range(nodes.size):
        post[q] = slope * nodes[q] + base[q]
    return _normalise(post)


@_compiled
def _posterior_with_guessing(first, last, right_items, log_odds, base, post):  # type: ignore[no-untyped-def]
    """Fills post (Q,) for the person whose correct items are right_items[first:last]; returns as `_normalise`."""
    for q in range(base.size):
        post[q] = base[q]
    for r in range(first, last):
        odds = log_odds[right_items[r]]
        for q in range(base.size):
            post[q] += odds[q]
    return _normalise(post)


@_compiled
def _normalise(post):  # type: ignore[no-untyped-def]
    """From log weights to a distribution; returns log Σ exp, and the first and past-the-last node that counts."""
    top = -np.inf
    for q in range(post.size):
        top = max(top, post[q])
    first, last = 0, post.size
    while post[first] - top < NEGLIGIBLE:
        first += 1
    while post[last - 1] - top < NEGLIGIBLE:
        last -= 1
    window = post[first:last]
    total = 0.0
    for q in range(window.size):
        window[q] = np.exp(window[q] - top)
        total += window[q]
    for q in range(window.size):
        window[q] /= total
    return top + np.log(total), first, last


@_compiled
def expected_counts(  # type: ignore[no-untyped-def]
    first,
    last,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
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
    mass (G, Q): expected number of persons of each group at node q.
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
                    mass[set_group[current], q] += in_set[q]
                    in_set[q] = 0.0
            if s < 0:
                break
            _set_base(s, set_start, set_items, softplus, log_weights[set_group[s]], base)
            current = s
        slope = 0.0
        for r in range(right_start[i], right_start[i + 1]):
            slope += a[right_items[r]]
        value, low, high = _posterior(slope, nodes, base, post)
        loglik += weight[i] * value
        window, in_window, theta = post[low:high], in_set[low:high], nodes[low:high]
        mean = 0.0
        for q in range(window.size):
            counted = weight[i] * window[q]
            in_window[q] += counted
            mean += counted * theta[q]
        for r in range(right_start[i], right_start[i + 1]):
            theta_right[right_items[r]] += mean
    return loglik


@_compiled
def expected_counts_with_guessing(  # type: ignore[no-untyped-def]
    first,
    last,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
    log_odds,
    log_wrong,
    log_weights,
    seen,
    right,
    mass,
):
    """As `expected_counts`, from tables of log(P / (1 − P)) and −log(1 − P), both (J, Q). Adds to seen (J, Q), mass
    (G, Q) and right (J, Q), the expected number of persons at node q who answered item j correctly. Returns the
    log-likelihood."""
    Q = log_odds.shape[1]
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
                    mass[set_group[current], q] += in_set[q]
                    in_set[q] = 0.0
            if s < 0:
                break
            _set_base(s, set_start, set_items, log_wrong, log_weights[set_group[s]], base)
            current = s
        value, low, high = _posterior_with_guessing(
            right_start[i], right_start[i + 1], right_items, log_odds, base, post
        )
        loglik += weight[i] * value
        window, in_window = post[low:high], in_set[low:high]
        for q in range(window.size):
            window[q] *= weight[i]
            in_window[q] += window[q]
        for r in range(right_start[i], right_start[i + 1]):
            counts = right[right_items[r], low:high]
            for q in range(window.size):
                counts[q] += window[q]
    return loglik


@_compiled
def missing_information(  # type: ignore[no-untyped-def]
    first,
    last,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
    a,
    softplus,
    nodes,
    log_weights,
    asked,
    latent,
    out,
):
    """Adds to out (2J + 2G, 2J + 2G) a matrix H with H + Hᵀ = Σ_i Cov(complete-data score | pattern i) over persons
    first … last − 1.

    Parameters are ordered a_1 … a_J, d_1 … d_J, then means and log SDs of the G groups; a complete-data score is
    (x − P)θ, x − P, and `latent` (2, G, Q); `asked` (2, J, Q) is θP and P. For one set, with
    K = Σ_i diag(p_i) − p_i p_iᵀ, B = columns θP_j, P_j, −latent, and G_j = Σ_i x_ij p_i (θ − E_i θ), the sum is
    BᵀKB, less GB (and its transpose) in the rows (and columns) of the slopes, plus Σ_i x_ij x_ik Var_i(θ) between
    slopes: the cost per person is Q² and not (2J)²·Q.
    """
    Q, J = nodes.size, a.size
    base, post = np.empty(Q), np.empty(Q)
    K = np.zeros((Q, Q))
    G = np.zeros((1, J, Q))
    current = -1
    for i in range(first, last + 1):
        s = set_of[i] if i < last else -1
        if s != current:
            if current >= 0:
                items = set_items[set_start[current] : set_start[current + 1]]
                _add_set(items, set_group[current], K, G, asked, latent, out)
                K[:] = 0.0
            if s < 0:
                break
            _set_base(s, set_start, set_items, softplus, log_weights[set_group[s]], base)
            current = s
        slope = 0.0
        for r in range(right_start[i], right_start[i + 1]):
            slope += a[right_items[r]]
        _, low, high = _posterior(slope, nodes, base, post)
        window, theta = post[low:high], nodes[low:high]
        mean, variance = 0.0, 0.0
        for q in range(window.size):
            mean += window[q] * theta[q]
        for q in range(window.size):
            variance += window[q] * (theta[q] - mean) ** 2
        variance *= weight[i]
        _add_spread(weight[i], low, high, post, K)
        for q in range(window.size):
            window[q] *= weight[i] * (theta[q] - mean)
        for r in range(right_start[i], right_start[i + 1]):
            j = right_items[r]
            into = G[0, j, low:high]
            for q in range(window.size):
                into[q] += window[q]
            out[j, j] += 0.5 * variance
            for t in range(r + 1, right_start[i + 1]):
                out[j, right_items[t]] += variance


@_compiled
def missing_information_with_guessing(  # type: ignore[no-untyped-def]
    first,
    last,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
    log_odds,
    log_wrong,
    log_weights,
    right_score,
    asked,
    latent,
    together,
    out,
):
    """As `missing_information` for parameters a_1 … a_J, d_1 … d_J, logit c_1 … logit c_J, means, log SDs.

    A complete-data score is (x − P)·V with `right_score` V (3, J, Q), so that x·V takes the place of x·θ: B = columns
    of `asked` = P·V, G_j = Σ_i x_ij p_i (V_j − E_i V_j). Of the part between correct items, Σ_i x_ij x_ik Cov_i(V_j,
    V_k), the product of means goes to `out`; the mean of products is Σ_q V_jq V_kq together[j, k, q], where
    `together` (J, J, Q) gains the expected number of persons at node q with both items correct, in either order.
    """
    Q, J = log_odds.shape[1], log_odds.shape[0]
    base, post = np.empty(Q), np.empty(Q)
    K = np.zeros((Q, Q))
    G = np.zeros((3, J, Q))
    mean = np.empty((3, J))
    current = -1
    for i in range(first, last + 1):
        s = set_of[i] if i < last else -1
        if s != current:
            if current >= 0:
                items = set_items[set_start[current] : set_start[current + 1]]
                _add_set(items, set_group[current], K, G, asked, latent, out)
                K[:] = 0.0
            if s < 0:
                break
            _set_base(s, set_start, set_items, log_wrong, log_weights[set_group[s]], base)
            current = s
        begin, end = right_start[i], right_start[i + 1]
        _, low, high = _posterior_with_guessing(begin, end, right_items, log_odds, base, post)
        window = post[low:high]
        _add_spread(weight[i], low, high, post, K)
        for r in range(begin, end):
            for k in range(3):
                row, into = right_score[k, right_items[r], low:high], G[k, right_items[r], low:high]
                value = 0.0
                for q in range(window.size):
                    value += window[q] * row[q]
                mean[k, r - begin] = value
                for q in range(window.size):
                    into[q] += weight[i] * window[q] * (row[q] - value)
        for q in range(window.size):
            window[q] *= weight[i]
        for r in range(begin, end):
            for t in range(r, end):
                counts = together[right_items[r], right_items[t], low:high]
                for q in range(window.size):
                    counts[q] += window[q]
            for m in range(3):
                into = out[m * J + right_items[r]]
                share = weight[i] * mean[m, r - begin]
                for n in range(3):
                    into[n * J + right_items[r]] -= 0.5 * share * mean[n, r - begin]
                    for t in range(r + 1, end):
                        into[n * J + right_items[t]] -= share * mean[n, t - begin]


@_compiled
def _add_spread(weight, low, high, post, K):  # type: ignore[no-untyped-def]
    """Adds weight · (diag(p) − p pᵀ) to the upper triangle of K (Q, Q)."""
    for q in range(low, high):
        counted = weight * post[q]
        rest, into = post[q:high], K[q, q:high]
        into[0] += counted
        for k in range(rest.size):
            into[k] -= counted * rest[k]


@_compiled
def _add_set(items, group, K, G, asked, latent, out):  # type: ignore[no-untyped-def]
    """The flush of `missing_information`: adds one set's matrix to out and empties the set's rows of G.

    asked (C, J, Q): the part of the C scores of each item that all who saw it share. G (C, J, Q), or (1, J, Q) where
    only the first score of a correct answer depends on θ.
    """
    C, J, Q = asked.shape
    n = items.size
    n_groups = latent.shape[1]
    for q in range(Q):
        for k in range(q):
            K[q, k] = K[k, q]
    B = np.empty((Q, C * n + 2))
    g = np.empty((G.shape[0] * n, Q))
    place = np.empty(C * n + 2, dtype=np.int64)
    for c in range(C):
        for k in range(n):
            j = items[k]
            place[c * n + k] = c * J + j
            for q in range(Q):
                B[q, c * n + k] = asked[c, j, q]
    for c in range(G.shape[0]):
        for k in range(n):
            for q in range(Q):
                g[c * n + k, q] = G[c, items[k], q]
                G[c, items[k], q] = 0.0
    for m in range(2):
        place[C * n + m] = C * J + m * n_groups + group
        for q in range(Q):
            B[q, C * n + m] = -latent[m, group, q]
    M = np.dot(np.ascontiguousarray(B.T), np.dot(K, B))
    cross = np.dot(g, B)
    for k in range(C * n + 2):
        for m in range(C * n + 2):
            value = 0.5 * M[k, m]
            if k < g.shape[0]:
                value -= cross[k, m]
            out[place[k], place[m]] += value


@_compiled
def missing_blocks(  # type: ignore[no-untyped-def]
    first,
    last,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
    log_odds,
    log_wrong,
    log_weights,
    p,
    right_score,
    out,
):
    """Each item's own block of `missing_information`: adds Σ_i Cov(score_j | pattern i) to out (J, C, C).

    Scores are (x − P)·V with `right_score` V (C, J, Q), which for C = 2 is θ and 1.
    """
    C, J, Q = right_score.shape
    base, post, residual = np.empty(Q), np.empty(Q), np.empty(Q)
    right = np.zeros(J)
    mean = np.empty(C)
    current = -1
    for i in range(first, last):
        s = set_of[i]
        if s != current:
            _set_base(s, set_start, set_items, log_wrong, log_weights[set_group[s]], base)
            current = s
        for r in range(right_start[i], right_start[i + 1]):
            right[right_items[r]] = 1.0
        _, low, high = _posterior_with_guessing(right_start[i], right_start[i + 1], right_items, log_odds, base, post)
        window = post[low:high]
        for r in range(set_start[s], set_start[s + 1]):
            j = set_items[r]
            curve = p[j, low:high]
            for q in range(window.size):
                residual[q] = right[j] - curve[q]
            for c in range(C):
                score = right_score[c, j, low:high]
                value = 0.0
                for q in range(window.size):
                    value += window[q] * residual[q] * score[q]
                mean[c] = value
            for c in range(C):
                for m in range(c, C):
                    score, other = right_score[c, j, low:high], right_score[m, j, low:high]
                    value = 0.0
                    for q in range(window.size):
                        value += window[q] * residual[q] ** 2 * score[q] * other[q]
                    out[j, c, m] += weight[i] * (value - mean[c] * mean[m])
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
