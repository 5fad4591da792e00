"""Compiled loops for MAP, ML and WLE scores, and for the effect of errors of scored items on θ.

EAP is in `kernels`.
"""

import numpy as np

from irt_psychometrics.core.kernels import _inlined_in_place_kernel, _kernel
from irt_psychometrics.core.scored_kernels import NOMINAL, score_curve, slope_by_scores

ML, MAP, WLE, JEFFREYS = 0, 1, 2, 3
"""Equations: the score, score + prior, score + Warm's J/(2I), or score + I'/(2I) is 0."""

TOLERANCE = 1e-8
"""Last step of θ, in units of the prior's SD. The error after this step is far smaller, about its square."""
MAX_STEPS = 100
FARTHEST = 1e4
"""Distance from the mean in prior SDs within which a root of the likelihood's slope is sought. If there is none, θ is
infinite."""


@_inlined_in_place_kernel
def _slope(kind, theta, first, last, item, score, items, scratch, mean, precision):  # type: ignore[no-untyped-def]
    """One person's (value of the equation, minus its derivative, expected information) at θ.

    The derivative of the bias is exact for items without guessing, and left out for items of more than two scores.
    Only the speed of Newton's method depends on it. With s = P'/P and b = ∂s/∂θ, Σ P'P''/P is Σ P·s(s² + b) and I' is
    Σ P·s(s² + 2b). Items that are not usable have a = 0.
    """
    a, d, c, _usable, categories, own, points, family = items
    p, w, along, bends = scratch
    slope, observed, expected, bias, bend = 0.0, 0.0, 0.0, 0.0, 0.0
    for r in range(first, last):
        j = item[r]
        eta = a[j] * theta + d[j]
        if categories[j] > 2:
            n = categories[j]
            score_curve(eta, own[j, :n], points[j, :n], family[j], p, w, along, bends)
            slope += a[j] * along[score[r]]
            observed -= a[j] ** 2 * bends[score[r]]
            twice = 1.0 if kind == WLE else 2.0
            for k in range(categories[j]):
                expected += a[j] ** 2 * p[k] * along[k] ** 2
                bias += a[j] ** 3 * p[k] * along[k] * (along[k] ** 2 + twice * bends[k])
            continue
        e = np.exp(-abs(eta))
        high = 1.0 / (1.0 + e)
        low = e * high
        L, M = (high, low) if eta >= 0 else (low, high)
        information = a[j] ** 2 * high * low
        bend += information * a[j] ** 2 * (1.0 - 6.0 * high * low)
        if c[j] == 0.0:
            slope += a[j] * (M if score[r] == 1 else -L)
            observed += information
            expected += information
            bias += information * a[j] * (M - L)
            continue
        share = (1.0 - c[j]) * L / (c[j] + (1.0 - c[j]) * L)
        expected += information * share
        bias += information * share * a[j] * ((M - L) if kind == WLE else 2.0 * M - L - M * share)
        if score[r] == 1:
            slope += a[j] * M * share
            observed += (a[j] * M * share) ** 2 - a[j] ** 2 * M * share * (M - L)
        else:
            slope -= a[j] * L
            observed += information
    if kind == MAP:
        slope -= (theta - mean) * precision
        observed += precision
        expected += precision
    elif kind >= WLE and expected > 0:
        slope += bias / (2.0 * expected)
        observed -= 0.5 * (bend - bias**2 / expected) / expected
    return slope, observed, expected


@_inlined_in_place_kernel
def _log_likelihood(theta, first, last, item, score, items, scratch):  # type: ignore[no-untyped-def]
    """Log-likelihood at θ of one person's usable answers."""
    a, d, c, usable, categories, own, points, family = items
    p, w, along, bends = scratch
    loglik = 0.0
    for r in range(first, last):
        j = item[r]
        if not usable[j]:
            continue
        eta = a[j] * theta + d[j]
        if categories[j] > 2:
            n = categories[j]
            score_curve(eta, own[j, :n], points[j, :n], family[j], p, w, along, bends)
            loglik += w[score[r]]
            continue
        log_logistic = min(eta, 0.0) - np.log1p(np.exp(-abs(eta)))
        if score[r] == 0:
            loglik += np.log1p(-c[j]) + log_logistic - eta
        elif c[j] == 0.0:
            loglik += log_logistic
        else:
            loglik += np.log(c[j] + (1.0 - c[j]) * np.exp(log_logistic))
    return loglik


@_inlined_in_place_kernel
def _log_information(first, last, item, info, out):  # type: ignore[no-untyped-def]
    """Fill out (Q,) with half the logarithm of the items' information."""
    for q in range(out.size):
        out[q] = 0.0
    for r in range(first, last):
        row = info[item[r]]
        for q in range(out.size):
            out[q] += row[q]
    for q in range(out.size):
        out[q] = 0.5 * np.log(out[q])


@_inlined_in_place_kernel
def _ends(first, last, item, score, items, counted):  # type: ignore[no-untyped-def]
    """The number of usable answers among first … last − 1, and their log-likelihood at θ = +∞ and −∞."""
    a, _d, c, usable, categories, own, points, family = items
    at_plus, at_minus, seen = 0.0, 0.0, 0
    for r in range(first, last):
        j = item[r]
        if not usable[j]:
            continue
        seen += 1
        if family[j] == NOMINAL:
            lowest, highest = np.inf, -np.inf
            for k in range(categories[j]):
                if own[j, k] > -np.inf:
                    lowest, highest = min(lowest, points[j, k]), max(highest, points[j, k])
            low_end = 0.0 if points[j, score[r]] == lowest else -np.inf
            high_end = 0.0 if points[j, score[r]] == highest else -np.inf
        elif categories[j] > 2:
            low_end = 0.0 if score[r] == counted[j, 0] else -np.inf
            high_end = 0.0 if score[r] == counted[j, categories[j] - 1] else -np.inf
        elif c[j] == 0.0:
            low_end, high_end = (-np.inf, 0.0) if score[r] == 1 else (0.0, -np.inf)
        else:
            low_end = np.log(c[j]) if score[r] == 1 else np.log1p(-c[j])
            high_end = 0.0 if score[r] == 1 else -np.inf
        at_plus += high_end if a[j] > 0 else low_end
        at_minus += low_end if a[j] > 0 else high_end
    return seen, at_plus, at_minus


@_inlined_in_place_kernel
def _start(objective):  # type: ignore[no-untyped-def]
    """The highest node, and the distance of the maximum from there in steps between nodes, from −1 to 1.

    A polynomial through five nodes has this maximum, about 1e-4 from the root.
    """
    best = 0
    for q in range(objective.size):
        if objective[q] > objective[best]:
            best = q
    if best < 2 or best > objective.size - 3:
        return best, 0.0
    f0, f1, f2, f3, f4 = (
        objective[best - 2], objective[best - 1], objective[best], objective[best + 1], objective[best + 2],
    )  # fmt: skip
    by, by2 = (f0 - 8 * f1 + 8 * f3 - f4) / 12, (16 * (f1 + f3) - f0 - f4 - 30 * f2) / 12
    by3, by4 = (f4 - f0) / 2 + f1 - f3, f0 + f4 - 4 * (f1 + f3) + 6 * f2
    t = 0.0
    for _ in range(4):
        t -= (by + t * (by2 + t * (by3 / 2 + t * by4 / 6))) / (by2 + t * (by3 + t * by4 / 2))
    return best, t if abs(t) <= 1.0 else 0.0


@_inlined_in_place_kernel
def _root(kind, first, last, item, score, items, scratch, prior, nearest, offset, step):  # type: ignore[no-untyped-def]
    """A root of the slope near θ = `nearest`, the curvature there, and whether the root is within `FARTHEST`.

    Newton's method starts at nearest + offset. Bounds of the root move outwards until the slope has been seen to change
    its sign.
    """
    mean, sd = prior
    precision = 1.0 / sd**2
    low, high, width, moved = nearest - step, nearest + step, step, 2.0 * step
    rises_at_low, falls_at_high = False, False
    x, curvature = nearest + offset, 0.0
    for _ in range(MAX_STEPS):
        slope, observed, expected = _slope(kind, x, first, last, item, score, items, scratch, mean, precision)
        curvature = expected if kind >= WLE else observed
        by = observed if observed > 0 else expected
        if slope > 0:
            low, rises_at_low = x, True
        else:
            high, falls_at_high = x, True
        if abs(slope) < TOLERANCE * sd * by:
            return x + slope / by, curvature, True
        proposal = x + slope / by if by > 0 else x + slope * np.inf
        if proposal >= high and not falls_at_high:
            proposal = high
            width *= 2.0
            high += width
            moved = 4.0 * width
        elif proposal <= low and not rises_at_low:
            proposal = low
            width *= 2.0
            low -= width
            moved = 4.0 * width
        elif not low < proposal < high or abs(proposal - x) > 0.5 * moved:
            proposal = 0.5 * (low + high)
            moved = abs(proposal - x)
        else:
            moved = abs(proposal - x)
        x = proposal
        if abs(x - mean) > FARTHEST * sd:
            return x, curvature, False
        if moved < TOLERANCE * sd:
            break
    return x, curvature, True


@_kernel
def maximise_scores(kind, first, last, answers, items, counted, tables, prior, into):  # type: ignore[no-untyped-def]
    """MAP, ML, WLE or Jeffreys score of persons first … last − 1: the best node, then a root of the slope near it.

    answers: (start, item, score, row, right). row is the answer's row in the tables (the item, if all scores are 0 and
        1), and right is whether it is a right answer to this row.
    items: (a, d, c, usable, categories, *`ItemCurves.score_rows`).
    counted (J, C): the table of `CountedScores`.
    tables: (log_right, log_wrong, info, nodes). The first two (M, Q) are log P and log(1 − P) at the nodes, info (J, Q)
        is the information, nodes (Q,).
    prior: (mean, SD).
    into: (theta, se).

    The bracket of the root is halved if a step is more than half as long as the one before: with guessing, steps could
    oscillate around the root without end. For ML, θ is ±∞ if the likelihood is highest there.
    """
    start, item, score, row, right = answers
    log_right, log_wrong, info, nodes = tables
    mean, sd = prior
    theta, se = into
    objective, known = np.empty(nodes.size), np.zeros(nodes.size)
    C = items[5].shape[1]
    scratch = np.empty(C), np.empty(C), np.empty(C), np.empty(C)
    step = nodes[1] - nodes[0]
    known_from, known_to = 0, 0
    for i in range(first, last):
        begin, end = start[i], start[i + 1]
        seen, at_plus, at_minus = _ends(begin, end, item, score, items, counted)
        if seen == 0:
            theta[i], se[i] = (mean, sd) if kind == MAP else (np.nan, np.inf)
            continue
        if kind == ML and max(at_plus, at_minus) == 0.0:
            theta[i], se[i] = np.inf if at_plus == 0.0 else -np.inf, np.inf
            continue
        if kind >= WLE:
            same = end - begin == known_to - known_from
            for r in range(end - begin if same else 0):
                same &= item[begin + r] == item[known_from + r]
            if not same:
                _log_information(begin, end, item, info, known)
                known_from, known_to = begin, end
        for q in range(nodes.size):
            objective[q] = known[q] - (0.5 * ((nodes[q] - mean) / sd) ** 2 if kind == MAP else 0.0)
        for r in range(begin, end):
            if items[3][item[r]]:
                values = log_right[row[r]] if right[r] == 1 else log_wrong[row[r]]
                for q in range(nodes.size):
                    objective[q] += values[q]
        best, offset = _start(objective)
        x, curvature, near = _root(
            kind, begin, end, item, score, items, scratch, prior, nodes[best], offset * step, step
        )
        top, is_flat = max(at_plus, at_minus), curvature * (FARTHEST * sd) ** 2 < 1.0
        if kind == ML and (
            not near
            or is_flat
            or (top > -np.inf and top >= _log_likelihood(x, begin, end, item, score, items, scratch))
        ):
            theta[i], se[i] = np.inf if at_plus >= at_minus else -np.inf, np.inf
            continue
        theta[i] = x
        se[i] = 1.0 / np.sqrt(curvature) if curvature > 0 else np.inf


@_kernel
def variances_of_scores(answers, a, b, rows, categories, cov_ab, further_cov, out):  # type: ignore[no-untyped-def]
    """Write the information of R answers to scored items, and the variance of ∂ log P/∂θ, into `out` (2, R).

    The variance is due to errors of a, b and the parameters of the scores. With s and s' the first two derivatives of
    log P with respect to η = a(θ − b), ∂ log P/∂θ = as, and its derivatives with respect to a and b are s + as'(θ − b)
    and −a²s'.

    answers: (item, score, theta).
    rows: `ItemCurves.score_rows`.
    cov_ab (J, 2, 2), further_cov (J, M, 2 + M): covariances of the items' parameters.
    """
    item, score, theta = answers
    own, points, family = rows
    C = own.shape[1]
    by, p, w, slope, bend = np.empty(2 + 2 * C), np.empty(C), np.empty(C), np.empty(C), np.empty(C)
    for r in range(item.size):
        j = item[r]
        n = categories[j]
        if n <= 2:
            continue
        off = theta[r] - b[j]
        eta = a[j] * off
        score_curve(eta, own[j, :n], points[j, :n], family[j], p, w, slope, bend)
        m = slope_by_scores(eta, own[j, :n], family[j], score[r], p, slope, by[2:])
        by[0] = slope[score[r]] + a[j] * bend[score[r]] * off
        by[1] = -(a[j] ** 2) * bend[score[r]]
        information = 0.0
        for k in range(n):
            information += p[k] * slope[k] ** 2
        for k in range(m):
            by[2 + k] *= a[j]
        total = by[0] ** 2 * cov_ab[j, 0, 0] + 2.0 * by[0] * by[1] * cov_ab[j, 0, 1] + by[1] ** 2 * cov_ab[j, 1, 1]
        for k in range(m):
            total += 2.0 * by[2 + k] * (by[0] * further_cov[j, k, 0] + by[1] * further_cov[j, k, 1])
            for other in range(m):
                total += by[2 + k] * by[2 + other] * further_cov[j, k, 2 + other]
        out[0, r], out[1, r] = a[j] ** 2 * information, total
