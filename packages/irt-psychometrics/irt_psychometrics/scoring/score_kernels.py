"""Compiled loops for MAP, ML and WLE scores, and for the effect of errors of partial credit items on θ.

EAP is in `kernels`.
"""

import numpy as np

from irt_psychometrics.core.kernels import _inlined_kernel, _kernel

ML, MAP, WLE, JEFFREYS = 0, 1, 2, 3
"""Equations: the score, score + prior, score + Warm's J/(2I), or score + I'/(2I) is 0."""

TOLERANCE = 1e-9
"""Tolerance of θ in units of the prior's SD: far below any standard error, far above rounding."""
MAX_STEPS = 100
FARTHEST = 1e4
"""Distance from the mean in prior SDs within which a root of the likelihood's slope is sought. If there is none, θ is
infinite."""


@_kernel
def _moments(eta, own):  # type: ignore[no-untyped-def]
    """log Σ exp(k·η + t_k), and mean, variance and third central moment of the score of an item with t = `own`."""
    largest = -np.inf
    for k in range(own.size):
        largest = max(largest, k * eta + own[k])
    total, mean = 0.0, 0.0
    for k in range(own.size):
        weight = np.exp(k * eta + own[k] - largest)
        total += weight
        mean += k * weight
    mean /= total
    variance, third = 0.0, 0.0
    for k in range(own.size):
        share = np.exp(k * eta + own[k] - largest) / total
        variance += share * (k - mean) ** 2
        third += share * (k - mean) ** 3
    return largest + np.log(total), mean, variance, third


@_kernel
def _slope(kind, theta, first, last, item, score, items, mean, precision):  # type: ignore[no-untyped-def]
    """One person's (value of the equation, observed information, expected information, log-likelihood) at θ.

    The scores of partial credit items are an exponential family: Σ P'P''/P is a³ times the third central moment, which
    is also I', and their observed information equals the expected one.
    """
    a, d, c, usable, categories, steps = items
    slope, observed, expected, bias, loglik = 0.0, 0.0, 0.0, 0.0, 0.0
    for r in range(first, last):
        j = item[r]
        if not usable[j]:
            continue
        eta = a[j] * theta + d[j]
        if categories[j] > 2:
            own = steps[j, : categories[j]]
            log_total, expected_score, variance, third = _moments(eta, own)
            slope += a[j] * (score[r] - expected_score)
            observed += a[j] ** 2 * variance
            expected += a[j] ** 2 * variance
            if kind >= 2:
                bias += a[j] ** 3 * third
            loglik += score[r] * eta + own[score[r]] - log_total
            continue
        e = np.exp(-abs(eta))
        high, low = 1.0 / (1.0 + e), e / (1.0 + e)
        L, M = (high, low) if eta >= 0 else (low, high)
        P = c[j] + (1.0 - c[j]) * L
        share = (1.0 - c[j]) * L / P if c[j] > 0 else 1.0
        information = a[j] ** 2 * share * L * M
        expected += information
        if kind == 2:
            bias += information * a[j] * (M - L)
        elif kind == 3:
            bias += information * a[j] * (2.0 * M - L - M * share)
        if score[r] == 1:
            first_derivative = a[j] * M * share
            slope += first_derivative
            observed += first_derivative**2 - a[j] ** 2 * M * share * (M - L)
            loglik += np.log(P) if c[j] > 0 else min(eta, 0.0) - np.log1p(e)
        else:
            slope -= a[j] * L
            observed += a[j] ** 2 * L * M
            loglik += np.log1p(-c[j]) + min(-eta, 0.0) - np.log1p(e)
    if kind == 1:
        slope -= (theta - mean) * precision
        observed += precision
        expected += precision
    elif kind >= 2 and expected > 0:
        slope += bias / (2.0 * expected)
    return slope, observed, expected, loglik


@_inlined_kernel
def _best_node(kind, first, last, answers, items, counted, tables, prior, scratch):  # type: ignore[no-untyped-def]
    """The number of usable answers among first … last − 1, their log-likelihood at θ = +∞ and −∞, and the best node.

    scratch: two arrays (Q,).
    """
    _start, item, score, row, right = answers
    a, _d, c, usable, categories, _steps = items
    log_right, log_wrong, info, nodes = tables
    mean, sd = prior
    objective, known = scratch
    precision = 1.0 / sd**2
    Q = nodes.size
    at_plus, at_minus = 0.0, 0.0
    seen = 0
    for q in range(Q):
        objective[q] = -0.5 * precision * (nodes[q] - mean) ** 2 if kind == 1 else 0.0
        known[q] = 0.0
    for r in range(first, last):
        j = item[r]
        if not usable[j]:
            continue
        seen += 1
        if categories[j] > 2:
            low_end = 0.0 if score[r] == counted[j, 0] else -np.inf
            high_end = 0.0 if score[r] == counted[j, categories[j] - 1] else -np.inf
        else:
            low_end = np.log(c[j]) if score[r] == 1 else np.log1p(-c[j])
            high_end = 0.0 if score[r] == 1 else -np.inf
        at_plus += high_end if a[j] > 0 else low_end
        at_minus += low_end if a[j] > 0 else high_end
        table = log_right if right[r] == 1 else log_wrong
        for q in range(Q):
            objective[q] += table[row[r], q]
        if kind >= 2:
            for q in range(Q):
                known[q] += info[j, q]
    best = 0
    for q in range(Q):
        if kind >= 2:
            objective[q] += 0.5 * np.log(known[q]) if known[q] > 0 else -np.inf
        if objective[q] > objective[best]:
            best = q
    return seen, at_plus, at_minus, best


@_inlined_kernel
def _root(kind, first, last, answers, items, prior, nearest, step):  # type: ignore[no-untyped-def]
    """A root of the slope near θ = `nearest`, and the curvature and log-likelihood there.

    For ML the log-likelihood is −∞ if the slope has no root within `FARTHEST`.
    """
    _start, item, score, _row, _right = answers
    mean, sd = prior
    precision = 1.0 / sd**2
    low, high = nearest - step, nearest + step
    width = step
    while low > mean - FARTHEST * sd:
        if _slope(kind, low, first, last, item, score, items, mean, precision)[0] > 0:
            break
        width *= 2.0
        low -= width
    width = step
    while high < mean + FARTHEST * sd:
        if _slope(kind, high, first, last, item, score, items, mean, precision)[0] < 0:
            break
        width *= 2.0
        high += width
    if kind == 0 and (low <= mean - FARTHEST * sd or high >= mean + FARTHEST * sd):
        return nearest, 0.0, -np.inf
    x = min(max(nearest, low), high)
    moved = high - low
    for _ in range(MAX_STEPS):
        slope, observed, expected, loglik = _slope(kind, x, first, last, item, score, items, mean, precision)
        if slope > 0:
            low = x
        else:
            high = x
        proposal = x + slope / expected if expected > 0 else low
        if not low < proposal < high or abs(proposal - x) > 0.5 * moved:
            proposal = 0.5 * (low + high)
        moved = abs(proposal - x)
        x = proposal
        if moved < TOLERANCE * sd:
            break
    slope, observed, expected, loglik = _slope(kind, x, first, last, item, score, items, mean, precision)
    return x, expected if kind >= 2 else observed, loglik


@_kernel
def maximise_scores(kind, first, last, answers, items, counted, tables, prior, into):  # type: ignore[no-untyped-def]
    """MAP, ML, WLE or Jeffreys score of persons first … last − 1: the best node, then a root of the slope near it.

    answers: (start, item, score, row, right). row is the answer's row in the tables (the item, if all scores are 0 and
        1), and right is whether it is a right answer to this row.
    items: (a, d, c, usable, categories, t of partial credit items (J, C)).
    counted (J, C): the table of `CountedScores`.
    tables: (log_right, log_wrong, info, nodes). The first two (M, Q) are log P and log(1 − P) at the nodes, info (J, Q)
        is the information, nodes (Q,).
    prior: (mean, SD).
    into: (theta, se).

    The root is found by Fisher scoring inside a bracket that shrinks at every step. The bracket is halved if a step is
    more than half as long as the one before: with guessing the slope can fall twice as fast as the information
    suggests, and steps would oscillate around the root without end. For ML, θ is ±∞ if the likelihood is highest there.
    """
    start, nodes = answers[0], tables[3]
    mean, sd = prior
    theta, se = into
    scratch = np.empty(nodes.size), np.empty(nodes.size)
    step = nodes[1] - nodes[0]
    for i in range(first, last):
        begin, end = start[i], start[i + 1]
        seen, at_plus, at_minus, best = _best_node(kind, begin, end, answers, items, counted, tables, prior, scratch)
        if seen == 0:
            theta[i], se[i] = (mean, sd) if kind == 1 else (np.nan, np.inf)
            continue
        x, curvature, loglik = _root(kind, begin, end, answers, items, prior, nodes[best], step)
        if kind == 0 and max(at_plus, at_minus) >= loglik:
            theta[i], se[i] = np.inf if at_plus >= at_minus else -np.inf, np.inf
            continue
        theta[i] = x
        se[i] = 1.0 / np.sqrt(curvature) if curvature > 0 else np.inf


@_kernel
def variances_of_scores(answers, a, b, steps, categories, cov_ab, further_cov, out):  # type: ignore[no-untyped-def]
    """Write the information of R answers to partial credit items, and the variance of ∂ log P/∂θ, into `out` (2, R).

    The variance is due to errors of a, b and t. The derivatives of ∂ log P/∂θ = a(x − E) with respect to these are
    x − E − aV(θ − b), a²V and −aP_k(k − E).

    answers: (item, score, theta).
    steps: t, shape (J, C).
    cov_ab (J, 2, 2), further_cov (J, M, 2 + M): covariances of the items' parameters.
    """
    item, score, theta = answers
    by = np.empty(2 + steps.shape[1])
    for r in range(item.size):
        j = item[r]
        n = categories[j]
        if n <= 2:
            continue
        off = theta[r] - b[j]
        eta = a[j] * off
        log_total, expected, variance, _ = _moments(eta, steps[j, :n])
        by[0] = score[r] - expected - a[j] * variance * off
        by[1] = a[j] ** 2 * variance
        for k in range(n):
            by[2 + k] = -a[j] * np.exp(k * eta + steps[j, k] - log_total) * (k - expected)
        total = by[0] ** 2 * cov_ab[j, 0, 0] + 2.0 * by[0] * by[1] * cov_ab[j, 0, 1] + by[1] ** 2 * cov_ab[j, 1, 1]
        for k in range(n):
            total += 2.0 * by[2 + k] * (by[0] * further_cov[j, k, 0] + by[1] * further_cov[j, k, 1])
            for other in range(n):
                total += by[2 + k] * by[2 + other] * further_cov[j, k, 2 + other]
        out[0, r], out[1, r] = a[j] ** 2 * variance, total
