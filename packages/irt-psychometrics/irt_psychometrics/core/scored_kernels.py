"""The compiled curve of an item of more than two scores, for loops over answers. Models in NumPy are in
`model_families` and `nominal_model`."""

import numpy as np

from irt_psychometrics.core.kernels import _in_place_kernel

PARTIAL_CREDIT, GRADED, NOMINAL = range(3)
"""Families of scored items."""


@_in_place_kernel
def score_curve(eta, own, points, family, p, w, slope, bend):  # type: ignore[no-untyped-def]
    """Fill P, log P, and ∂ log P/∂η and ∂² log P/∂η² of each score at η = aθ + d, shape (C,) each.

    own, points, family: the item's row of each table of `ItemCurves.score_rows`, without the scores above its highest.
    All results are 0 for scores that the item does not have.
    """
    if family == GRADED:
        _graded(eta, own, p, w, slope, bend)
    else:
        _divided_by_total(eta, own, points, p, w, slope, bend)


@_in_place_kernel
def _divided_by_total(eta, t, points, p, w, slope, bend):  # type: ignore[no-untyped-def]
    """Like `score_curve`, for P(k) proportional to exp(points_k·η + t_k)."""
    top, total, mean, variance = -np.inf, 0.0, 0.0, 0.0
    for k in range(t.size):
        top = max(top, points[k] * eta + t[k])
    for k in range(t.size):
        p[k] = np.exp(points[k] * eta + t[k] - top)
        total += p[k]
    log_total = top + np.log(total)
    for k in range(t.size):
        p[k] /= total
        mean += points[k] * p[k]
    for k in range(t.size):
        variance += p[k] * (points[k] - mean) ** 2
    for k in range(t.size):
        has = t[k] > -np.inf
        w[k] = points[k] * eta + t[k] - log_total if has else 0.0
        slope[k] = points[k] - mean if has else 0.0
        bend[k] = -variance if has else 0.0


@_in_place_kernel
def _graded(eta, u, p, w, slope, bend):  # type: ignore[no-untyped-def]
    for k in range(u.size):
        upper = _upper(u, k)
        p[k], w[k], slope[k], bend[k] = 0.0, 0.0, 0.0, 0.0
        if u[k] == upper:
            continue
        if u[k] > -np.inf:
            e = np.exp(-abs(eta - u[k]))
            w[k] += min(eta - u[k], 0.0) - np.log1p(e)
            slope[k] += (e if eta >= u[k] else 1.0) / (1.0 + e)
            bend[k] -= e / (1.0 + e) ** 2
        if upper < np.inf:
            e = np.exp(-abs(eta - upper))
            w[k] += min(upper - eta, 0.0) - np.log1p(e)
            slope[k] -= (1.0 if eta >= upper else e) / (1.0 + e)
            bend[k] -= e / (1.0 + e) ** 2
        if u[k] > -np.inf and upper < np.inf:
            w[k] += np.log(-np.expm1(u[k] - upper))
        p[k] = np.exp(w[k])


@_in_place_kernel
def slope_by_scores(eta, own, family, score, p, slope, by):  # type: ignore[no-untyped-def]
    """Fill `by` with the derivatives of slope[score] with respect to the scores' parameters, in the model's order.

    p and slope are as from `score_curve`. Returns the number of these parameters.
    """
    if family == PARTIAL_CREDIT:
        for k in range(own.size):
            by[k] = -p[k] * slope[k]
        return own.size
    if family == NOMINAL:
        for k in range(own.size):
            by[2 * k] = (k == score) - p[k] * (1.0 + eta * slope[k])
            by[2 * k + 1] = -p[k] * slope[k]
        return 2 * own.size
    lower_bend, upper_bend = _spread(eta - own[score]), _spread(eta - _upper(own, score))
    n = 0
    for k in range(own.size):
        n += -np.inf < own[k] < _upper(own, k)
    above = n
    for k in range(own.size):
        width, is_threshold = _upper(own, k) - own[k], -np.inf < own[k] < _upper(own, k)
        above -= is_threshold
        by[k] = 0.0
        if is_threshold and width < np.inf:
            moved = (lower_bend if k < score else 0.0) + (upper_bend if k <= score else 0.0)
            by[k] = width * (moved - above / n * (lower_bend + upper_bend))
    return own.size


@_in_place_kernel
def _upper(u, k):  # type: ignore[no-untyped-def]
    """Return the threshold above a score; ∞ above the highest one."""
    return u[k + 1] if k + 1 < u.size else np.inf


@_in_place_kernel
def _spread(x):  # type: ignore[no-untyped-def]
    """L(1 − L) at x; 0 at ±∞."""
    e = np.exp(-abs(x))
    return e / (1.0 + e) ** 2
