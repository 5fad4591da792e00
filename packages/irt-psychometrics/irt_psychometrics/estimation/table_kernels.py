"""Compiled E-step of persons who saw the same set of items, by a table instead of exponentials. See `kernels` for
layouts.

Without guessing, persons of a set differ only in s = Σ a_j over their right answers: log P(pattern) = Σ d_j + f(s),
f(s) = log Σ_q w_q exp(s·θ_q − Σ_j log(1 + exp(a_j θ_q + d_j))). The derivatives of f are cumulants of θ given the
answers. f is tabulated with its first two derivatives at equally spaced s, each row of the table from the previous row
by exponential tilting, and read by quintic Hermite interpolation. The error is h⁶/46080 times the sixth cumulant, with
the step h. Expected counts are the derivatives of the values that are read, so they are the gradient of the sum.
"""

import numpy as np

from irt_psychometrics.core.kernels import Curves, People, _in_place_kernel, _inlined_in_place_kernel, _scatter, _take

STEP = 0.5
"""Largest step of a table, in s. The step is halved until the table is accurate."""
MAX_ERROR = 3e-8
"""Largest error of the values between the rows of a table with twice the step. The error of a person's log-likelihood
is then below 1e-9, because it is 64 times smaller with the step of the table."""
FRESH_ROWS = 16
"""Number of rows that are derived from each other before a row is computed directly. After this many multiplications by
exp(θ·ROW_STEP), a weight that has underflown to 0 is still negligible."""


@_inlined_in_place_kernel
def fill_table(low, step, nodes, base, factor, rows, table):  # type: ignore[no-untyped-def]
    """Fill rows[g] (Q,) with the distribution of θ at s = low + g·step, and table[g] with f, its mean and variance.

    `factor` (Q,) is overwritten.
    """
    Q = nodes.size
    for q in range(Q):
        factor[q] = np.exp(step * nodes[q])
    for g in range(rows.shape[0]):
        row = rows[g]
        if g % FRESH_ROWS == 0:
            s = low + g * step
            top = -np.inf
            for q in range(Q):
                row[q] = s * nodes[q] + base[q]
                top = max(top, row[q])
            total = 0.0
            for q in range(Q):
                row[q] = np.exp(row[q] - top)
                total += row[q]
            f = top + np.log(total)
        else:
            before = rows[g - 1]
            total = 0.0
            for q in range(Q):
                row[q] = before[q] * factor[q]
                total += row[q]
            f = table[g - 1, 0] + np.log(total)
        for q in range(Q):
            row[q] /= total
        mean, square = 0.0, 0.0
        for q in range(Q):
            mean += row[q] * nodes[q]
        for q in range(Q):
            square += row[q] * (nodes[q] - mean) ** 2
        table[g, 0], table[g, 1], table[g, 2] = f, mean, square


@_inlined_in_place_kernel
def spread_used(rows, table, used, nodes, mass):  # type: ignore[no-untyped-def]
    """Add to mass (Q,) minus the derivatives, with respect to `base`, of the values read from the table, weighted by
    `used`.

    The derivatives are ∂f = p, ∂f' = p(θ − f') and ∂f'' = p((θ − f')² − f'').
    """
    for g in range(rows.shape[0]):
        row, by_f, by_mean, by_variance = rows[g], used[g, 0], used[g, 1], used[g, 2]
        mean, variance = table[g, 1], table[g, 2]
        if by_f != 0.0 or by_variance != 0.0 or by_mean != 0.0:
            for q in range(nodes.size):
                off = nodes[q] - mean
                mass[q] += row[q] * (by_f + by_mean * off + by_variance * (off * off - variance))


@_inlined_in_place_kernel
def slope_span(items, slope):  # type: ignore[no-untyped-def]
    """Return the minimum and the maximum of s for a form."""
    low, high = 0.0, 0.0
    for k in range(items.size):
        low += min(slope[items[k]], 0.0)
        high += max(slope[items[k]], 0.0)
    return low, high


@_inlined_in_place_kernel
def _is_accurate(table, step):  # type: ignore[no-untyped-def]
    """Check whether f of each row agrees with the interpolation between the row before and the row after it."""
    worst = 0.0
    for g in range(1, table.shape[0] - 1):
        before, after = table[g - 1], table[g + 1]
        value = 0.5 * (before[0] + after[0]) + 0.3125 * step * (before[1] - after[1])
        value += 0.0625 * step * step * (before[2] + after[2])
        worst = max(worst, abs(value - table[g, 0]))
    return worst <= MAX_ERROR


def counts_by_table(
    first: int,
    last: int,
    people: People,
    curves: Curves,
    nodes: np.ndarray,
    log_weights: np.ndarray,
    seen: np.ndarray,
    right: np.ndarray,
    mass: np.ndarray,
) -> float:
    """Compute `expected_counts` of persons first … last − 1, who are in one set, without guessing.

    Returns NaN, and adds nothing, if an accurate table needs more than one row for two persons.
    """
    s = people.set_of[first]
    span = np.abs(curves.slope[people.set_items[people.set_start[s] : people.set_start[s + 1]]]).sum()
    n_rows = 2 * int(0.5 * span / STEP) + 3
    while True:
        work, table, used = np.empty((n_rows + 3, nodes.size)), np.empty((n_rows, 3)), np.zeros((n_rows, 3))
        loglik: float = _counts_by_table(
            first, last, people, curves, nodes, log_weights, seen, right, mass, work, table, used
        )
        n_rows = 2 * n_rows - 1
        if not np.isnan(loglik) or 2 * n_rows > last - first:
            return loglik


@_in_place_kernel
def _counts_by_table(  # type: ignore[no-untyped-def]
    first, last, people, curves, nodes, log_weights, seen, right, mass, work, table, used
):
    """Compute `counts_by_table` with a table of as many rows as `table` (n, 3) and `used` (n, 3), which must be 0.

    `work` (n + 3, Q) is overwritten. Returns NaN, and adds nothing, if the table is not accurate.
    """
    s, slope, n_rows = people.set_of[first], curves.slope, len(table)
    right_start, right_items, weights = people.right_start, people.right_items, people.weight
    tally_start, tally_items, tally = people.tally_start, people.tally_items, people.tally
    begin, end, group = people.set_start[s], people.set_start[s + 1], people.set_group[s]
    base, in_set, factor, rows = work[0], work[1], work[2], work[3:]
    for q in range(nodes.size):
        base[q] = log_weights[group, q]
        in_set[q] = 0.0
    _take(curves.log_wrong, people.set_items, begin, end, base)
    low, high = slope_span(people.set_items[begin:end], slope)
    step = (high - low) / (n_rows - 1)
    fill_table(low, step, nodes, base, factor, rows, table)
    if not _is_accurate(table, step):
        return np.nan
    loglik, half = 0.0, 0.5 * step * step
    for i in range(first, last):
        total = 0.0
        for r in range(right_start[i], right_start[i + 1]):
            total += slope[right_items[r]]
        u = (total - low) / step
        g = min(max(int(u), 0), n_rows - 2)
        t, weight = u - g, weights[i]
        r1 = 1.0 - t
        t3, r3 = t * t * t, r1 * r1 * r1
        # quintic Hermite basis, h_kl for derivative k at end l, and the slope of the interpolation
        h00, h01 = r3 * (1 + 3 * t + 6 * t * t), t3 * (1 + 3 * r1 + 6 * r1 * r1)
        h10, h11 = r3 * t * (1 + 3 * t) * step, -t3 * r1 * (1 + 3 * r1) * step
        h20, h21 = half * r3 * t * t, half * t3 * r1 * r1
        before, after = table[g], table[g + 1]
        value = h00 * before[0] + h10 * before[1] + h20 * before[2]
        loglik += weight * (value + h01 * after[0] + h11 * after[1] + h21 * after[2])
        used[g, 0] += weight * h00
        used[g, 1] += weight * h10
        used[g, 2] += weight * h20
        used[g + 1, 0] += weight * h01
        used[g + 1, 1] += weight * h11
        used[g + 1, 2] += weight * h21
        mean = 30 * t * t * r1 * r1 / step * (after[0] - before[0])
        mean += r1 * r1 * (1 + 2 * t - 15 * t * t) * before[1] + t * t * (1 + 2 * r1 - 15 * r1 * r1) * after[1]
        mean += 0.5 * step * t * r1 * (r1 * (2 - 5 * t) * before[2] - t * (2 - 5 * r1) * after[2])
        if tally.size > 0:
            for r in range(tally_start[i], tally_start[i + 1]):
                right[tally_items[r], 0] += mean * tally[r]
        else:
            mean *= weight
            for r in range(right_start[i], right_start[i + 1]):
                right[right_items[r], 0] += mean
    spread_used(rows, table, used, nodes, in_set)
    _scatter(in_set, people.set_items, begin, end, seen)
    for q in range(nodes.size):
        mass[group, q] += in_set[q]
    return loglik
