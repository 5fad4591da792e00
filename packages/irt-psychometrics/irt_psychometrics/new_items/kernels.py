"""Compiled loop that finds the mode of each new item's parameters.

Parameters of an item with the maximum score m are ln a, b, and τ₁ … τ₍ₘ₋₁₎ or logit c. With τ₀ = τₘ = 0,

    log P(k | θ) = ζ_k − log Σ exp ζ,    ζ_k = a·(k(θ − b) + τ_k),

and an item that guesses (m = 1) has the score 1 with the probability c, whatever θ is. So the likelihood of an answer
is a mixture over the nodes of the person, and one point more if the item guesses. With the weights π of the points
given the answer, and s and H, the gradient and Hessian of a point's log P, the answer adds (Louis 1982)

    g = Σ π s,    I = g gᵀ − Σ π (H + s sᵀ)

to the gradient and to the observed information.
"""

import numpy as np

from irt_psychometrics.core.kernels import _inlined_in_place_kernel, _kernel

MAX_STEPS, TOLERANCE, LONGEST = 100, 1e-7, 1.0
"""Number of Newton steps, the change of a parameter at which they end, and the largest change in one step."""
ROUNDING, LEAST_PIVOT = 1e-12, 1e-9
"""Relative rounding error of the log posterior, and the least pivot of a matrix that has an inverse."""


@_inlined_in_place_kernel
def _add_answer(x, m, guesses, score, nodes, weights, zeta, p, s, first, second, gradient, information, into):  # type: ignore[no-untyped-def]
    """Add one answer to `gradient` (D,) and `information` (D, D), and return its log likelihood.

    `into` (2 + D,) becomes the mean and the variance of the score by the person's θ, and the answer's information
    between b and each parameter. `zeta` and `p` (m + 1,), `s` and `first` (D,) and `second` (D, D) are overwritten.
    """
    size, a = m + 1 + guesses, np.exp(x[0])
    c = 1.0 / (1.0 + np.exp(-x[2])) if guesses else 0.0
    likelihood, mean, square = c * score, c, c
    for d in range(size):
        first[d] = 0.0
        for e in range(d + 1):
            second[d, e] = 0.0
    if guesses:
        first[2] = likelihood * (1.0 - c)
        second[2, 2] = likelihood * (1.0 - c) * (1.0 - 2.0 * c)
    for q in range(nodes.size):
        top, total = 0.0, 0.0
        for k in range(m + 1):
            zeta[k] = a * (k * (nodes[q] - x[1]) + (x[1 + k] if 0 < k < m else 0.0))
            top = max(top, zeta[k])
        for k in range(m + 1):
            p[k] = np.exp(zeta[k] - top)
            total += p[k]
        e_k, e_kk, e_z, e_zz, e_kz = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(m + 1):
            p[k] /= total
            e_k += p[k] * k
            e_kk += p[k] * k * k
            e_z += p[k] * zeta[k]
            e_zz += p[k] * zeta[k] * zeta[k]
            e_kz += p[k] * k * zeta[k]
        seen = weights[q] * (1.0 - c)
        mean += seen * e_k
        square += seen * e_kk
        seen *= p[score]
        likelihood += seen
        s[0], s[1] = zeta[score] - e_z, -a * (score - e_k)
        first[0] += seen * s[0]
        first[1] += seen * s[1]
        second[0, 0] += seen * (s[0] * s[0] + s[0] - (e_zz - e_z * e_z))
        second[1, 0] += seen * (s[1] * s[0] + s[1] + a * (e_kz - e_k * e_z))
        second[1, 1] += seen * (s[1] * s[1] - a * a * (e_kk - e_k * e_k))
        if guesses:
            first[2] -= seen * c
            second[2, 0] -= seen * c * s[0]
            second[2, 1] -= seen * c * s[1]
            second[2, 2] -= seen * c * (1.0 - 2.0 * c)
        for k in range(1, m):
            d = 1 + k
            s[d] = a * ((score == k) - p[k])
            first[d] += seen * s[d]
            second[d, 0] += seen * (s[d] * s[0] + s[d] - a * p[k] * (zeta[k] - e_z))
            second[d, 1] += seen * (s[d] * s[1] + a * a * p[k] * (k - e_k))
            for h in range(1, k + 1):
                second[d, 1 + h] += seen * (s[d] * s[1 + h] - a * a * p[k] * ((h == k) - p[h]))
    for d in range(size):
        first[d] /= likelihood
        gradient[d] += first[d]
        for e in range(d + 1):
            own = first[d] * first[e] - second[d, e] / likelihood
            information[d, e] += own
            if e == 1:
                into[2 + d] = own
            elif d == 1:
                into[2] = own
    into[0], into[1] = mean, square - mean * mean
    return np.log(likelihood)


@_inlined_in_place_kernel
def _solve(information, gradient, begin, size, ridge, root, step):  # type: ignore[no-untyped-def]
    """Solve (information + ridge·1) step = gradient over the parameters begin … size − 1 by Cholesky's method.

    Returns whether the matrix has an inverse. `information` is the lower triangle, `root` is overwritten.
    """
    for d in range(begin, size):
        for e in range(begin, d + 1):
            value = information[d, e] + (ridge if d == e else 0.0)
            for f in range(begin, e):
                value -= root[d, f] * root[e, f]
            if d > e:
                root[d, e] = value / root[e, e]
            elif value > LEAST_PIVOT:
                root[d, d] = np.sqrt(value)
            else:
                return False
    for d in range(begin, size):
        value = gradient[d]
        for f in range(begin, d):
            value -= root[d, f] * step[f]
        step[d] = value / root[d, d]
    for d in range(size - 1, begin - 1, -1):
        value = step[d]
        for f in range(d + 1, size):
            value -= root[f, d] * step[f]
        step[d] = value / root[d, d]
    return True


@_kernel
def find_modes(answers, persons, items, prior, x, information, moments, converged):  # type: ignore[no-untyped-def]
    """Find the mode of each item's parameters by Newton's method; steps are shortened until the posterior grows.

    answers: (start (J + 1,), person (N,), score (N,)), sorted by item.
    persons: (nodes (P, Q), weights (P, Q)).
    items: (maximum score, whether it guesses, first free parameter: 1 if the slope is held), (J,) each.
    prior: (mean (J, D), precision (J, D, D)) of the parameters.
    x (J, D): values at which the search begins, which become the modes.
    information (J, D, D): becomes the lower triangle of the answers' observed information at the modes.
    moments (N, 2 + D): becomes the mean and variance of each answer's score, and the information between b and each
        parameter.
    converged (J,): becomes whether the mode was found.
    """
    start, person, score = answers
    nodes, weights = persons
    max_score, guesses, begin = items
    mean, precision = prior
    D = x.shape[1]
    zeta, p, s, first, gradient, step, tried = (
        np.empty(D), np.empty(D), np.empty(D), np.empty(D), np.empty(D), np.zeros(D), np.empty(D),
    )  # fmt: skip
    second, root, total = np.empty((D, D)), np.empty((D, D)), np.empty((D, D))
    for j in range(x.shape[0]):
        m, size = max_score[j], max_score[j] + 1 + guesses[j]
        best = -np.inf
        for d in range(D):
            tried[d] = x[j, d]
        for _ in range(MAX_STEPS):
            value = 0.0
            information[j] = 0.0
            gradient[:] = 0.0
            for r in range(start[j], start[j + 1]):
                i = person[r]
                value += _add_answer(
                    tried, m, guesses[j], score[r], nodes[i], weights[i], zeta, p, s, first, second, gradient,
                    information[j], moments[r],
                )  # fmt: skip
            for d in range(size):
                for e in range(size):
                    pull = precision[j, d, e] * (tried[e] - mean[j, e])
                    gradient[d] -= pull
                    value -= 0.5 * (tried[d] - mean[j, d]) * pull
                    total[d, e] = information[j, d, e] + precision[j, d, e]
            if not value > best - ROUNDING * (1.0 + abs(best)):
                for d in range(begin[j], size):
                    step[d] *= 0.5
                    tried[d] = x[j, d] + step[d]
                continue
            best, ridge, longest = value, 0.0, 0.0
            while not _solve(total, gradient, begin[j], size, ridge, root, step):
                ridge = max(4.0 * ridge, 0.01 * abs(total[0, 0]), 0.01 * abs(total[1, 1]), 1e-3)
            for d in range(begin[j], size):
                longest = max(longest, abs(step[d]))
            for d in range(size):
                x[j, d] = tried[d]
            if longest < TOLERANCE:
                converged[j] = ridge == 0.0
                break
            for d in range(begin[j], size):
                step[d] *= min(1.0, LONGEST / longest)
                tried[d] = x[j, d] + step[d]
