"""Compiled loop of the scores that maximise or solve an equation: MAP, ML, WLE. EAP is in `kernels`."""

from __future__ import annotations

import numpy as np

from irt_assets.psychometrics.core.kernels import _compiled

ML, MAP, WLE, JEFFREYS = 0, 1, 2, 3
"""Which equation: score = 0, score + prior, score + Warm's J/(2I), score + I'/(2I)."""

TOLERANCE = 1e-9
"""Tolerance of θ in units of the prior's SD: far below any standard error, far above rounding."""
MAX_STEPS = 100
FARTHEST = 1e4
"""A root of the likelihood's slope is sought this many prior SDs from the mean before it is taken to be at infinity."""


@_compiled
def _slope(kind, theta, first, last, item, score, a, d, c, usable, mean, precision):  # type: ignore[no-untyped-def]
    """At θ, (value of the equation, observed information, expected information, log-likelihood) of one person."""
    slope, observed, expected, bias, loglik = 0.0, 0.0, 0.0, 0.0, 0.0
    for r in range(first, last):
        j = item[r]
        if not usable[j]:
            continue
        eta = a[j] * theta + d[j]
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


@_compiled
def maximise_scores(  # type: ignore[no-untyped-def]
    kind, first, last, start, item, score, a, d, c, usable, log_right, log_wrong, info, nodes, mean, sd, theta, se
):
    """MAP, ML or WLE of persons first … last − 1: the best node of a table, then a root of the slope near it.

    log_right, log_wrong and info (J, Q) are log P, log(1 − P) and the information at the nodes. The root is found by
    Fisher scoring inside a bracket that shrinks at every step, and by halving the bracket where a step is not half the
    one before: with guessing the slope can fall twice as fast as the information says, and steps then swing from one
    side of the root to the other for ever. θ is ±∞ under ML where the likelihood is highest there.
    """
    Q = nodes.size
    objective, known = np.empty(Q), np.empty(Q)
    precision = 1.0 / sd**2
    step = nodes[1] - nodes[0]
    for i in range(first, last):
        at_plus, at_minus = 0.0, 0.0
        seen = 0
        for q in range(Q):
            objective[q] = -0.5 * precision * (nodes[q] - mean) ** 2 if kind == 1 else 0.0
            known[q] = 0.0
        for r in range(start[i], start[i + 1]):
            j = item[r]
            if not usable[j]:
                continue
            seen += 1
            low_end = np.log(c[j]) if score[r] == 1 else np.log1p(-c[j])
            high_end = 0.0 if score[r] == 1 else -np.inf
            at_plus += high_end if a[j] > 0 else low_end
            at_minus += low_end if a[j] > 0 else high_end
            table = log_right if score[r] == 1 else log_wrong
            for q in range(Q):
                objective[q] += table[j, q]
            if kind >= 2:
                for q in range(Q):
                    known[q] += info[j, q]
        if seen == 0:
            theta[i], se[i] = (mean, sd) if kind == 1 else (np.nan, np.inf)
            continue
        best = 0
        for q in range(Q):
            if kind >= 2:
                objective[q] += 0.5 * np.log(known[q]) if known[q] > 0 else -np.inf
            if objective[q] > objective[best]:
                best = q
        low, high = nodes[best] - step, nodes[best] + step
        width = step
        while low > mean - FARTHEST * sd:
            if _slope(kind, low, start[i], start[i + 1], item, score, a, d, c, usable, mean, precision)[0] > 0:
                break
            width *= 2.0
            low -= width
        width = step
        while high < mean + FARTHEST * sd:
            if _slope(kind, high, start[i], start[i + 1], item, score, a, d, c, usable, mean, precision)[0] < 0:
                break
            width *= 2.0
            high += width
        if kind == 0 and (low <= mean - FARTHEST * sd or high >= mean + FARTHEST * sd):
            theta[i], se[i] = np.inf if at_plus >= at_minus else -np.inf, np.inf
            continue
        x = min(max(nodes[best], low), high)
        moved = high - low
        for _ in range(MAX_STEPS):
            slope, observed, expected, loglik = _slope(
                kind, x, start[i], start[i + 1], item, score, a, d, c, usable, mean, precision
            )
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
        slope, observed, expected, loglik = _slope(
            kind, x, start[i], start[i + 1], item, score, a, d, c, usable, mean, precision
        )
        if kind == 0 and max(at_plus, at_minus) >= loglik:
            theta[i], se[i] = np.inf if at_plus >= at_minus else -np.inf, np.inf
            continue
        theta[i] = x
        curvature = expected if kind >= 2 else observed
        se[i] = 1.0 / np.sqrt(curvature) if curvature > 0 else np.inf
