"""Compiled loop over the answers to new items: log likelihood, gradient and information of each item's parameters.

Parameters of an item with the maximum score m are ln a, b, and τ₁ … τ₍ₘ₋₁₎ or logit c. With τ₀ = τₘ = 0,

    log P(k | θ) = ζ_k − log Σ exp ζ,    ζ_k = a·(k(θ − b) + τ_k),

and an item that guesses (m = 1) has the score 1 with the probability c, whatever θ is. So the likelihood of an answer
is a mixture over the nodes of the person, and one point more if the item guesses. With the weights π of the points
given the answer, and s and H, the gradient and Hessian of a point's log P, the answer adds (Louis 1982)

    g = Σ π s,    I = g gᵀ − Σ π (H + s sᵀ)

to the gradient and to the observed information. With V, the gradients of ζ_k, and expectations over the score k,

    s = V_x − E V,    H = (s in the row and the column of ln a, else 0) − Cov V.

A graded item has the parameters ln a, b, and v₁ … v₍ₘ₋₁₎, the logarithms of the distances between its thresholds

    bₖ = b + Σᵢ (1{i < k} − (m − i)/m) exp vᵢ,    P(X ≥ k | θ) = 1/(1 + exp(−a(θ − bₖ))).

Its P is a difference of two such curves, so the derivatives of P itself are added instead of s and H.
"""

import numpy as np

from irt_psychometrics.core.kernels import _inlined_in_place_kernel, _kernel


@_inlined_in_place_kernel
def _add_answer(x, m, guesses, graded, score, nodes, weights, by, p, s, first, second, gradient, information, into):  # type: ignore[no-untyped-def]
    """Add one answer to `gradient` (D,) and `information` (D, D), and return its log likelihood.

    `into` (2 + D,) becomes the mean and the variance of the score by the person's θ, and the answer's information
    between b and each parameter. `by` (D, D) is as in `_set_constants`; `p`, `s` and `first` (D,) and `second` (D, D)
    are overwritten.
    """
    size = m + 1 + guesses
    first[:] = 0.0
    second[:] = 0.0
    if graded:
        likelihood, mean, square = _graded(x, m, score, nodes, weights, by, s, first, second)
    else:
        likelihood, mean, square = _partial_credit(x, m, guesses, score, nodes, weights, by, p, s, first, second)
    for d in range(size):
        gradient[d] += first[d] / likelihood
        for e in range(size):
            own = first[d] * first[e] / likelihood**2 - second[max(d, e), min(d, e)] / likelihood
            information[d, e] += own
            if d == 1:
                into[2 + e] = own
    into[0], into[1] = mean, square - mean * mean
    return np.log(likelihood)


@_inlined_in_place_kernel
def _partial_credit(x, m, guesses, score, nodes, weights, by, p, s, first, second):  # type: ignore[no-untyped-def]
    """Add the derivatives of the likelihood to `first` and `second`.

    Returns the likelihood, and the means of the score and of its square.
    """
    a = np.exp(x[0])
    c = 1.0 / (1.0 + np.exp(-x[2])) if guesses else 0.0
    likelihood, mean, square = c * score, c, c
    if guesses:
        first[2] = likelihood * (1.0 - c)
        second[2, 2] = first[2] * (1.0 - 2.0 * c)
    for q in range(nodes.size):
        top, total = 0.0, 0.0
        for k in range(m + 1):
            by[k, 0] = a * (k * (nodes[q] - x[1]) + (x[1 + k] if 0 < k < m else 0.0))
            top = max(top, by[k, 0])
        for k in range(m + 1):
            p[k] = np.exp(by[k, 0] - top)
            total += p[k]
        seen = weights[q] * (1.0 - c)
        for k in range(m + 1):
            p[k] /= total
            mean += seen * p[k] * k
            square += seen * p[k] * k * k
        seen *= p[score]
        likelihood += seen
        for d in range(m + 1):
            s[d] = by[score, d]
            for k in range(m + 1):
                s[d] -= p[k] * by[k, d]
            first[d] += seen * s[d]
            for e in range(d + 1):
                bend = s[d] if e == 0 else 0.0
                for k in range(m + 1):
                    bend -= p[k] * by[k, d] * (by[k, e] - by[score, e] + s[e])
                second[d, e] += seen * (s[d] * s[e] + bend)
        if guesses:
            first[2] -= seen * c
            second[2, 0] -= seen * c * s[0]
            second[2, 1] -= seen * c * s[1]
            second[2, 2] -= seen * c * (1.0 - 2.0 * c)
    return likelihood, mean, square


@_inlined_in_place_kernel
def _graded(x, m, score, nodes, weights, by, s, first, second):  # type: ignore[no-untyped-def]
    """Like `_partial_credit`."""
    a, likelihood, mean, square = np.exp(x[0]), 0.0, 0.0, 0.0
    for q in range(nodes.size):
        for k in range(1, m + 1):
            at_least = weights[q] / (1.0 + np.exp(-a * (nodes[q] - x[1] - by[k, 0])))
            mean += at_least
            square += (2 * k - 1) * at_least
        low = a * (nodes[q] - x[1] - by[score, 0]) if score > 0 else np.inf
        high = a * (nodes[q] - x[1] - by[score + 1, 0]) if score < m else -np.inf
        likelihood += weights[q] * -np.expm1(high - low) / ((1.0 + np.exp(-low)) * (1.0 + np.exp(high)))
        if score > 0:
            _add_curve(m, a, low, weights[q], by[score], s, first, second)
        if score < m:
            _add_curve(m, a, high, -weights[q], by[score + 1], s, first, second)
    return likelihood, mean, square


@_inlined_in_place_kernel
def _add_curve(m, a, z, weight, by_threshold, s, first, second):  # type: ignore[no-untyped-def]
    """Add the derivatives of weight/(1 + exp(−z)) with z = a(θ − bₖ); `s` (D,) becomes the gradient of z."""
    e = np.exp(-abs(z))
    slope = weight * e / (1.0 + e) ** 2
    bend = slope * (e - 1.0 if z > 0 else 1.0 - e) / (1.0 + e)
    s[0] = z
    for d in range(1, m + 1):
        s[d] = -a * by_threshold[d]
    for d in range(m + 1):
        first[d] += slope * s[d]
        for e in range(d + 1):
            second[d, e] += bend * s[d] * s[e]
            if e == 0 or (d == e and d > 1):
                second[d, e] += slope * s[d]


@_inlined_in_place_kernel
def _set_constants(x, m, graded, by):  # type: ignore[no-untyped-def]
    """Fill `by` (D, D) with V, or with bₖ − b and the derivatives of bₖ if an item is graded.

    The first column of V, ζ, is set for each answer.
    """
    a = np.exp(x[0])
    by[:] = 0.0
    for k in range(1, m + 1):
        if graded:
            by[k, 1] = 1.0
            for i in range(1, m):
                by[k, 1 + i] = ((1.0 if i < k else 0.0) - (m - i) / m) * np.exp(x[1 + i])
                by[k, 0] += by[k, 1 + i]
        else:
            by[k, 1] = -a * k
            if k < m:
                by[k, 1 + k] = a


@_kernel
def add_answers(some, answers, persons, items, x, value, gradient, information, moments):  # type: ignore[no-untyped-def]
    """Compute the log likelihood and its derivatives at `x` (J, D) for the items at the places `some`.

    answers: (start (J + 1,), person (N,), score (N,)), sorted by item.
    persons: (nodes (P, Q), weights (P, Q)).
    items: (maximum score, whether it guesses, whether it is graded), (J,) each.
    value (J,), gradient (J, D), information (J, D, D): become the log likelihood, gradient and observed information.
    moments (N, 2 + D): becomes the mean and variance of each answer's score, and the information between b and each
        parameter.
    """
    start, person, score = answers
    nodes, weights = persons
    max_score, guesses, graded = items
    D = x.shape[1]
    by, p, s, first, second = np.empty((D, D)), np.empty(D), np.empty(D), np.empty(D), np.empty((D, D))
    for j in some:
        m = max_score[j]
        _set_constants(x[j], m, graded[j], by)
        value[j] = 0.0
        gradient[j] = 0.0
        information[j] = 0.0
        for r in range(start[j], start[j + 1]):
            i = person[r]
            value[j] += _add_answer(
                x[j], m, guesses[j], graded[j], score[r], nodes[i], weights[i], by, p, s, first, second, gradient[j],
                information[j], moments[r],
            )  # fmt: skip
