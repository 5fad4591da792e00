"""Compiled loops of `MarginalLikelihood`: log P(answers) with θ integrated out, and its gradient.

A sampler calls this hundreds of thousands of times for the same answers, so everything that depends only on the answers
is prepared beforehand. One call runs on one thread, because each chain has its own. PyTensor and priors are not used.

Without guessing, learners who saw the same set of items (a *form*) differ only in s = Σ a_j over their correct answers:
log P = Σ d_j + f(s), f(s) = log Σ_q w_q exp(s·θ_q − Σ_j log(1 + exp(a_j θ_q + d_j))). The derivatives of f are moments
of θ given the answers. f is tabulated with its first two derivatives at equally spaced s, each row of the table from
the previous row by exponential tilting, and read by quintic Hermite interpolation. The cost of a learner then does not
depend on the number of nodes, and includes no exponential. The error is h⁶/46080 times the sixth cumulant of θ given s.
If the tables of the forms would have more rows than there are learners, or if there is guessing, the loops of the em
engine are used.
"""

import numpy as np

from irt_psychometrics.core.kernels import (
    Curves,
    People,
    _in_place_kernel,
    _kernel,
    _scatter,
    _take,
    expected_counts,
    logistic_table,
)
from irt_psychometrics.estimation.table_kernels import fill_table, slope_span, spread_used

ROW_STEP = 0.25
"""Step of the table, in s. If SDs of θ given the answers are below 1, sixth cumulants are of order 1 or less, and a
learner's log-likelihood is accurate to 1e-8."""
BYTE = 256


@_kernel
def _by_table(first, codes, places, items, slope, low, step, table, used, theta_right):  # type: ignore[no-untyped-def]
    """Return Σ f(s) over a form's learners.

    Adds to `used` (rows, 3) the derivatives of this sum with respect to f, f' and f'' of every row, and to
    `theta_right` (J,) the sum of E θ over the learners who answered an item correctly. codes[b, first + i] contains the
    answers of learner i to the items 8b … 8b + 7 of the form, one bit each.
    """
    n, n_bytes = places.size, codes.shape[0]
    sums, means = np.empty(BYTE), np.empty(BYTE)
    for i in range(n):
        places[i] = -low
    for b in range(n_bytes):
        sums[0] = 0.0
        for k in range(8):
            add = slope[items[8 * b + k]] if 8 * b + k < items.size else 0.0
            for m in range(1 << k):
                sums[(1 << k) + m] = sums[m] + add
        code = codes[b, first : first + n]
        for i in range(n):
            places[i] += sums[code[i]]
    value = 0.0
    last = table.shape[0] - 2
    for i in range(n):
        u = places[i] / step
        g = min(max(int(u), 0), last)
        t = u - g
        r = 1.0 - t
        t3, r3 = t * t * t, r * r * r
        # quintic Hermite basis, h_kl for derivative k at end l, and its derivative with respect to t
        h00, h01 = r3 * (1 + 3 * t + 6 * t * t), t3 * (1 + 3 * r + 6 * r * r)
        h10, h11 = r3 * t * (1 + 3 * t) * step, -t3 * r * (1 + 3 * r) * step
        half = 0.5 * step * step
        h20, h21 = half * r3 * t * t, half * t3 * r * r
        value += h00 * table[g, 0] + h10 * table[g, 1] + h20 * table[g, 2]
        value += h01 * table[g + 1, 0] + h11 * table[g + 1, 1] + h21 * table[g + 1, 2]
        used[g, 0] += h00
        used[g, 1] += h10
        used[g, 2] += h20
        used[g + 1, 0] += h01
        used[g + 1, 1] += h11
        used[g + 1, 2] += h21
        bend = 30 * t * t * r * r
        mean = bend / step * (table[g + 1, 0] - table[g, 0])
        mean += r * r * (1 + 2 * t - 15 * t * t) * table[g, 1] + t * t * (1 + 2 * r - 15 * r * r) * table[g + 1, 1]
        mean += (
            0.5 * step * t * r * r * (2 - 5 * t) * table[g, 2] - 0.5 * step * r * t * t * (2 - 5 * r) * table[g + 1, 2]
        )
        places[i] = mean
    for b in range(n_bytes):
        for m in range(BYTE):
            means[m] = 0.0
        code = codes[b, first : first + n]
        for i in range(n):
            means[code[i]] += places[i]
        for k in range(min(8, items.size - 8 * b)):
            total = 0.0
            for m in range(BYTE):
                if m >> k & 1:
                    total += means[m]
            theta_right[items[8 * b + k]] += total
    return value


@_kernel
def _by_tables(people, codes, slope, log_wrong, nodes, log_weights, seen, theta_right):  # type: ignore[no-untyped-def]
    """Return Σ f(s) over all learners. Adds to `seen` (J, Q) and `theta_right` (J,) like `expected_counts`."""
    value, last = 0.0, 0
    for form in range(people.set_start.size - 1):
        begin, end = people.set_start[form], people.set_start[form + 1]
        items, first = people.set_items[begin:end], last
        while last < people.set_of.size and people.set_of[last] == form:
            last += 1
        base, mass = log_weights.copy(), np.zeros(nodes.size)
        _take(log_wrong, people.set_items, begin, end, base)
        low, high = slope_span(items, slope)
        n_rows = int((high - low) / ROW_STEP) + 2
        step = (high - low) / (n_rows - 1)
        rows, table, used = np.empty((n_rows, nodes.size)), np.empty((n_rows, 3)), np.zeros((n_rows, 3))
        fill_table(low, step, nodes, base, np.empty(nodes.size), rows, table)
        value += _by_table(first, codes, np.empty(last - first), items, slope, low, step, table, used, theta_right)
        spread_used(rows, table, used, nodes, mass)
        _scatter(mass, people.set_items, begin, end, seen)
    return value


@_kernel
def logistic(  # type: ignore[no-untyped-def]
    slope,
    intercept,
    nodes,
    log_weights,
    correct,
    codes,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
    tally_start,
    tally_items,
    tally,
):
    """Return the log-likelihood (an array without axes) and its gradients with respect to slope (J,) and intercept
    (J,).

    P = 1/(1 + exp(−(a·θ + d))), with θ on `nodes` (Q,) with `log_weights` (Q,). `correct` (J,) is the number of
    learners who answered an item correctly. `codes` is as in `_by_table`, with room for the longest set. The other
    arguments are the fields of `People`.

    By Fisher's identity the gradient is the expected complete-data score, Σ E[θ(x − P)] and Σ E[x − P] over the
    learners who saw the item.
    """
    sets, rows = (set_of, set_group, set_start, set_items), (right_start, right_items, weight)
    people = People(*sets, *rows, tally_start, tally_items, tally)
    J, Q, N = slope.size, nodes.size, set_of.size
    slope, intercept = np.ascontiguousarray(slope), np.ascontiguousarray(intercept)
    log_wrong, p, seen, right = np.empty((J, Q)), np.empty((J, Q)), np.zeros((J, Q)), np.zeros((J, 1))
    logistic_table(slope, intercept, nodes, log_wrong, p)
    n_rows = 0.0
    for form in range(set_start.size - 1):
        low, high = slope_span(set_items[set_start[form] : set_start[form + 1]], slope)
        n_rows += (high - low) / ROW_STEP + 2.0
    if n_rows < N:
        value = _by_tables(people, codes, slope, log_wrong, nodes, log_weights, seen, right[:, 0])
    else:
        curves = Curves(slope, log_wrong, np.empty((0, Q)))
        value = expected_counts(0, N, people, curves, nodes, log_weights.reshape(1, -1), seen, right, np.zeros((1, Q)))
    by_slope, by_intercept = right[:, 0].copy(), correct.copy()
    for j in range(J):
        value += intercept[j] * correct[j]
        for q in range(Q):
            expected = seen[j, q] * p[j, q]
            by_intercept[j] -= expected
            by_slope[j] -= expected * nodes[q]
    return np.asarray(value), by_slope, by_intercept


@_kernel
def guessing(  # type: ignore[no-untyped-def]
    slope,
    intercept,
    c,
    nodes,
    log_weights,
    flipped,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
    tally_start,
    tally_items,
    tally,
):
    """Like `logistic` for P = c + (1 − c)/(1 + exp(−(a·θ + d))), 0 ≤ c < 1. Also returns the gradient with respect to c
    (J,), last.

    For `flipped` items (J,) the wrong answers are listed instead of the correct ones, because the rarer kind costs
    less. Since log(P/(1 − P)) is not linear in θ, the loop visits all nodes for every learner.
    """
    sets, rows = (set_of, set_group, set_start, set_items), (right_start, right_items, weight)
    people = People(*sets, *rows, tally_start, tally_items, tally)
    J, Q = slope.size, nodes.size
    log_rest, logistic, p = np.empty((J, Q)), np.empty((J, Q)), np.empty((J, Q))
    logistic_table(np.ascontiguousarray(slope), np.ascontiguousarray(intercept), nodes, log_rest, logistic)
    other, ratio = np.empty((J, Q)), np.empty((J, Q))
    for j in range(J):
        room = np.log1p(-c[j])
        for q in range(Q):
            p[j, q] = c[j] + (1.0 - c[j]) * logistic[j, q]
            log_right, log_wrong = np.log(p[j, q]), room + log_rest[j, q]
            other[j, q] = log_right if flipped[j] else log_wrong
            ratio[j, q] = log_wrong - log_right if flipped[j] else log_right - log_wrong
    seen, listed = np.zeros((J, Q)), np.zeros((J, Q))
    curves = Curves(slope, other, ratio)
    value = expected_counts(
        0, set_of.size, people, curves, nodes, log_weights.reshape(1, -1), seen, listed, np.zeros((1, Q))
    )
    by_slope, by_intercept, by_c = np.zeros(J), np.zeros(J), np.zeros(J)
    for j in range(J):
        for q in range(Q):
            right = seen[j, q] - listed[j, q] if flipped[j] else listed[j, q]
            score = (right - seen[j, q] * p[j, q]) / p[j, q]
            by_intercept[j] += score * logistic[j, q]
            by_slope[j] += score * logistic[j, q] * nodes[q]
            by_c[j] += score / (1.0 - c[j])
    return np.asarray(value), by_slope, by_intercept, by_c


@_kernel
def graded(  # type: ignore[no-untyped-def]
    slope,
    intercept,
    w,
    nodes,
    log_weights,
    first_width,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
    tally_start,
    tally_items,
    tally,
):
    """Like `logistic` for graded items (`GradedModel`). Also returns the gradient with respect to w, last.

    The w of item j are those at `first_width[j]` … `first_width[j + 1]` − 1 (J + 1,).
    """
    sets, rows = (set_of, set_group, set_start, set_items), (right_start, right_items, weight)
    people = People(*sets, *rows, tally_start, tally_items, tally)
    J, Q = slope.size, nodes.size
    u, log_lowest, log_odds = np.empty((J, w.size + 3)), np.empty((J, Q)), np.empty((first_width[J] + J, Q))
    for j in range(J):
        first, m = first_width[j], first_width[j + 1] - first_width[j] + 1
        u[j, 0], u[j, 1], u[j, m + 1], mean = -np.inf, 0.0, np.inf, 0.0
        for k in range(2, m + 1):
            u[j, k] = u[j, k - 1] + np.exp(w[first + k - 2])
            mean += u[j, k] / m
        for k in range(1, m + 1):
            u[j, k] -= mean
        for k in range(m + 1):
            inside = np.log(-np.expm1(u[j, k] - u[j, k + 1]))
            for q in range(Q):
                eta = slope[j] * nodes[q] + intercept[j]
                log_p = inside - _softplus(u[j, k] - eta) - _softplus(eta - u[j, k + 1])
                if k == 0:
                    log_lowest[j, q] = log_p
                else:
                    log_odds[first + j + k - 1, q] = log_p - log_lowest[j, q]
    seen, chosen = np.zeros((J, Q)), np.zeros(log_odds.shape)
    curves = Curves(slope, log_lowest, log_odds)
    value = expected_counts(
        0, set_of.size, people, curves, nodes, log_weights.reshape(1, -1), seen, chosen, np.zeros((1, Q))
    )
    by_slope, by_intercept, by_w, by_u = np.zeros(J), np.zeros(J), np.zeros(w.size), np.zeros(w.size + 3)
    for j in range(J):
        first, m = first_width[j], first_width[j + 1] - first_width[j] + 1
        by_u[:] = 0.0
        for k in range(m, -1, -1):
            inside = 1.0 / np.expm1(u[j, k + 1] - u[j, k])
            for q in range(Q):
                eta = slope[j] * nodes[q] + intercept[j]
                n = chosen[first + j + k - 1, q] if k > 0 else seen[j, q]
                seen[j, q] -= n
                below, above = n / (1.0 + np.exp(eta - u[j, k])), n / (1.0 + np.exp(u[j, k + 1] - eta))
                by_slope[j] += (below - above) * nodes[q]
                by_intercept[j] += below - above
                by_u[k] -= below + n * inside
                by_u[k + 1] += above + n * inside
        for i in range(1, m):
            for k in range(1, m + 1):
                by_w[first + i - 1] += ((1.0 if i < k else 0.0) - (m - i) / m) * np.exp(w[first + i - 1]) * by_u[k]
    return np.asarray(value), by_slope, by_intercept, by_w


@_in_place_kernel
def _softplus(x):  # type: ignore[no-untyped-def]
    """Return log(1 + exp(x))."""
    return max(x, 0.0) + np.log1p(np.exp(-abs(x)))
