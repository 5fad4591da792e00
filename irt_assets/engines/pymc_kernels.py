"""Compiled loops of the Bayesian engine's likelihood: log P(answers) with θ integrated out, and its gradient.

A sampler asks for this hundreds of thousands of times for the same answers, so what depends on the answers only is laid
out beforehand, and one call runs on one thread (chains have one each). No PyTensor and no priors here.

Without guessing, learners who saw the same set of items (a *form*) differ only in s = Σ a_j over their correct answers:
log P = Σ d_j + f(s), f(s) = log Σ_q w_q exp(s·θ_q − Σ_j log(1 + exp(a_j θ_q + d_j))), with the moments of θ given the
answers as derivatives. f is tabulated with its first two derivatives at equally spaced s, each row of the table from
the one before by exponential tilting, and read by quintic Hermite interpolation: a learner then costs the same with any
number of nodes, and no exponential. The error is h⁶/46080 times the sixth cumulant of θ given s. Where a form has fewer
learners than its table would have rows, each learner is a row.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from irt_assets.psychometrics.core.kernels import _compiled

ROW_STEP = 0.25
"""Step of the table, in s. With SDs of θ given the answers below 1, sixth cumulants are of order 1 or less, so that a
learner's log-likelihood is accurate to 1e-8."""
FRESH_ROWS = 16
"""Number of rows that are derived from one another before one is computed afresh: after so many multiplications by
exp(θ·ROW_STEP), a weight that had underflown to 0 would still be negligible."""
BYTE = 256

_LOG2_E = 1.4426950408889634
_LN_2_HIGH, _LN_2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10  # the first with 21 zero bits at its end
_TO_INTEGER = 6755399441055744.0  # 1.5·2⁵²: added to a double, leaves its nearest integer in the low bits
_LEAST_EXPONENT = -700.0


@partial(_compiled, relaxed=("contract",))
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) for −700 ≤ x ≤ 700, to 1e-14, in operations that the compiler turns into vector instructions: 2ᵏ·exp(r),
    |r| ≤ ln(2)/2, by Taylor's series. Sums may not be reordered here: k comes from rounding."""
    shifted = x * _LOG2_E + _TO_INTEGER
    k = shifted - _TO_INTEGER
    r = (x - k * _LN_2_HIGH) - k * _LN_2_LOW
    series = 1.0 / 39916800.0
    series = series * r + 1.0 / 3628800.0
    series = series * r + 1.0 / 362880.0
    series = series * r + 1.0 / 40320.0
    series = series * r + 1.0 / 5040.0
    series = series * r + 1.0 / 720.0
    series = series * r + 1.0 / 120.0
    series = series * r + 1.0 / 24.0
    series = series * r + 1.0 / 6.0
    series = series * r + 0.5
    series = series * r + 1.0
    series = series * r + 1.0
    power = (np.float64(shifted).view(np.int64) << 52) + (1023 << 52)
    return series * np.int64(power).view(np.float64)


@_compiled
def _curves(slope, intercept, nodes, p, above, rest):  # type: ignore[no-untyped-def]
    """Fills p[j, q] = 1/(1 + exp(−η)), and the two parts of log(1 + exp(η)) = above + log(rest): max(η, 0) and
    1 + exp(−|η|), at η = a_j·θ_q + d_j. All (J, Q)."""
    for j in range(slope.size):
        for q in range(nodes.size):
            eta = slope[j] * nodes[q] + intercept[j]
            small = _exp(max(-abs(eta), _LEAST_EXPONENT))
            above[j, q] = max(eta, 0.0)
            rest[j, q] = 1.0 + small
            p[j, q] = (1.0 if eta >= 0 else small) / (1.0 + small)


@_compiled
def _normalise(row):  # type: ignore[no-untyped-def]
    """Turns log weights (Q,) into a distribution; returns log Σ exp."""
    top = -np.inf
    for q in range(row.size):
        top = max(top, row[q])
    total = 0.0
    for q in range(row.size):
        row[q] = _exp(max(row[q] - top, _LEAST_EXPONENT))
        total += row[q]
    share = 1.0 / total
    for q in range(row.size):
        row[q] *= share
    return top + np.log(total)


@_compiled
def _set_base(items, above, rest, log_weights, product, base):  # type: ignore[no-untyped-def]
    """base[q] = log w_q − Σ log(1 + exp(η)) over the items: a logarithm of a product, which stays below 2⁵¹²."""
    Q = base.size
    for q in range(Q):
        base[q] = log_weights[q]
        product[q] = 1.0
    for k in range(items.size):
        j = items[k]
        for q in range(Q):
            base[q] -= above[j, q]
            product[q] *= rest[j, q]
        if k % 512 == 511 or k == items.size - 1:
            for q in range(Q):
                base[q] -= np.log(product[q])
                product[q] = 1.0


@_compiled
def _fill_table(low, step, nodes, base, rows, table):  # type: ignore[no-untyped-def]
    """rows[g] (Q,) is the distribution of θ at s = low + g·step, table[g] its f, mean and variance."""
    Q = nodes.size
    tilt = np.exp(step * nodes)
    for g in range(rows.shape[0]):
        row = rows[g]
        if g % FRESH_ROWS == 0:
            s = low + g * step
            for q in range(Q):
                row[q] = s * nodes[q] + base[q]
            f = _normalise(row)
        else:
            before = rows[g - 1]
            total = 0.0
            for q in range(Q):
                row[q] = before[q] * tilt[q]
                total += row[q]
            share = 1.0 / total
            for q in range(Q):
                row[q] *= share
            f = table[g - 1, 0] + np.log(total)
        mean, square = 0.0, 0.0
        for q in range(Q):
            mean += row[q] * nodes[q]
        for q in range(Q):
            square += row[q] * (nodes[q] - mean) ** 2
        table[g, 0], table[g, 1], table[g, 2] = f, mean, square


@_compiled
def _by_table(first, codes, places, items, slope, low, step, table, used, theta_right):  # type: ignore[no-untyped-def]
    """Σ f(s) of a form's learners. Adds their part of `used` (rows, 3), the derivatives of that sum by f, f' and f'' of
    every row, and of `theta_right` (J,), Σ E θ over the learners who answered an item correctly.

    codes[b, first + i]: the answers of learner i to the items 8b … 8b + 7 of the form, a bit each.
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
        # quintic Hermite basis, h_kl for derivative k at end l, and its derivative by t
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


@_compiled
def _spread(rows, table, used, nodes, mass):  # type: ignore[no-untyped-def]
    """Adds to mass (Q,) minus the derivatives by base of what `used` says was read from the table: ∂f = p, ∂f' =
    p(θ − f'), ∂f'' = p((θ − f')² − f'')."""
    for g in range(rows.shape[0]):
        row, level, tilt, bend = rows[g], used[g, 0], used[g, 1], used[g, 2]
        mean, variance = table[g, 1], table[g, 2]
        if level != 0.0 or bend != 0.0 or tilt != 0.0:
            for q in range(nodes.size):
                off = nodes[q] - mean
                mass[q] += row[q] * (level + tilt * off + bend * (off * off - variance))


@_compiled
def logistic(  # type: ignore[no-untyped-def]
    slope,
    intercept,
    nodes,
    log_weights,
    correct,
    set_start,
    set_items,
    person_start,
    right_start,
    right_items,
    codes,
):
    """(log-likelihood as an array of no axes, its gradient by slope (J,), by intercept (J,)) for
    P = 1/(1 + exp(−(a·θ + d))), θ on `nodes` (Q,) with log_weights (Q,).

    Learners stand in the order of their sets: set s has the items set_items[set_start[s]:set_start[s + 1]] and the
    learners from person_start[s] up to person_start[s + 1]. Learner i answered right_items[right_start[i]:right_start[i
    + 1]] correctly, and `correct` (J,) counts them; `codes` as in `_by_table`, with room for the longest set.

    By Fisher's identity the gradient is the expected complete-data score, Σ E[θ(x − P)] and Σ E[x − P] over the
    learners who saw the item.
    """
    J, Q = slope.size, nodes.size
    slope, intercept = np.ascontiguousarray(slope), np.ascontiguousarray(intercept)
    p, above, rest = np.empty((J, Q)), np.empty((J, Q)), np.empty((J, Q))
    _curves(slope, intercept, nodes, p, above, rest)
    by_slope, by_intercept = np.zeros(J), correct.copy()
    base, row, product, mass = np.empty(Q), np.empty(Q), np.empty(Q), np.empty(Q)
    value = 0.0
    for j in range(J):
        value += intercept[j] * correct[j]
    for s in range(set_start.size - 1):
        items = set_items[set_start[s] : set_start[s + 1]]
        first, last = person_start[s], person_start[s + 1]
        _set_base(items, above, rest, log_weights, product, base)
        mass[:] = 0.0
        low, high = 0.0, 0.0
        for k in range(items.size):
            low += min(slope[items[k]], 0.0)
            high += max(slope[items[k]], 0.0)
        if (high - low) / ROW_STEP + 2.0 < last - first:
            n_rows = int((high - low) / ROW_STEP) + 2
            step = (high - low) / (n_rows - 1)
            rows, table, used = np.empty((n_rows, Q)), np.empty((n_rows, 3)), np.zeros((n_rows, 3))
            _fill_table(low, step, nodes, base, rows, table)
            shown = codes[: (items.size + 7) // 8]
            value += _by_table(first, shown, np.empty(last - first), items, slope, low, step, table, used, by_slope)
            _spread(rows, table, used, nodes, mass)
        else:
            for i in range(first, last):
                right = right_items[right_start[i] : right_start[i + 1]]
                total = 0.0
                for k in range(right.size):
                    total += slope[right[k]]
                for q in range(Q):
                    row[q] = total * nodes[q] + base[q]
                value += _normalise(row)
                mean = 0.0
                for q in range(Q):
                    mass[q] += row[q]
                    mean += row[q] * nodes[q]
                for k in range(right.size):
                    by_slope[right[k]] += mean
        for k in range(items.size):
            j = items[k]
            persons, theta = 0.0, 0.0
            for q in range(Q):
                expected = mass[q] * p[j, q]
                persons += expected
                theta += expected * nodes[q]
            by_intercept[j] -= persons
            by_slope[j] -= theta
    return np.asarray(value), by_slope, by_intercept


@_compiled
def guessing(  # type: ignore[no-untyped-def]
    slope,
    intercept,
    c,
    nodes,
    log_weights,
    flipped,
    set_start,
    set_items,
    person_start,
    listed_start,
    listed_items,
):
    """Like `logistic` for P = c + (1 − c)/(1 + exp(−(a·θ + d))), 0 ≤ c < 1, with the gradient by c (J,) as the fourth.

    Of `flipped` items (J,) the wrong answers are listed in place of the correct ones: the rarer kind costs less.
    Here log(P/(1 − P)) is not a line in θ, so that every learner has all nodes to go through.
    """
    J, Q = slope.size, nodes.size
    slope, intercept = np.ascontiguousarray(slope), np.ascontiguousarray(intercept)
    logistic, above, rest = np.empty((J, Q)), np.empty((J, Q)), np.empty((J, Q))
    _curves(slope, intercept, nodes, logistic, above, rest)
    p, other, ratio = np.empty((J, Q)), np.empty((J, Q)), np.empty((J, Q))
    for j in range(J):
        floor, room = c[j], np.log1p(-c[j])
        for q in range(Q):
            p[j, q] = floor + (1.0 - floor) * logistic[j, q]
            log_right, log_wrong = np.log(p[j, q]), room - above[j, q] - np.log(rest[j, q])
            other[j, q] = log_right if flipped[j] else log_wrong
            ratio[j, q] = log_wrong - log_right if flipped[j] else log_right - log_wrong
    seen, listed = np.zeros((J, Q)), np.zeros((J, Q))
    base, row, mass = np.empty(Q), np.empty(Q), np.empty(Q)
    value = 0.0
    for s in range(set_start.size - 1):
        items = set_items[set_start[s] : set_start[s + 1]]
        base[:] = log_weights
        mass[:] = 0.0
        for k in range(items.size):
            for q in range(Q):
                base[q] += other[items[k], q]
        for i in range(person_start[s], person_start[s + 1]):
            own = listed_items[listed_start[i] : listed_start[i + 1]]
            row[:] = base
            for k in range(own.size):
                add = ratio[own[k]]
                for q in range(Q):
                    row[q] += add[q]
            value += _normalise(row)
            for q in range(Q):
                mass[q] += row[q]
            for k in range(own.size):
                into = listed[own[k]]
                for q in range(Q):
                    into[q] += row[q]
        for k in range(items.size):
            for q in range(Q):
                seen[items[k], q] += mass[q]
    by_slope, by_intercept, by_c = np.zeros(J), np.zeros(J), np.zeros(J)
    for j in range(J):
        total, theta, floor = 0.0, 0.0, 0.0
        for q in range(Q):
            right = seen[j, q] - listed[j, q] if flipped[j] else listed[j, q]
            score = (right - seen[j, q] * p[j, q]) / p[j, q]
            total += score * logistic[j, q]
            theta += score * logistic[j, q] * nodes[q]
            floor += score
        by_slope[j], by_intercept[j], by_c[j] = theta, total, floor / (1.0 - c[j])
    return np.asarray(value), by_slope, by_intercept, by_c
