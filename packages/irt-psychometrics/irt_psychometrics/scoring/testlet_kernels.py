"""Compiled loops of testlets: the likelihood with effects of learners in testlets, and their contribution to SE(θ)."""

import numpy as np

from irt_psychometrics.core.kernels import _kernel

RESCALED_AFTER = 16
"""Number of factors, each at least `MIN_PROBABILITY`, whose product cannot underflow."""
MIN_PROBABILITY = 1e-15


@_kernel
def add_up_patterns(first, last, start, item, score, effects, right, wrong, weights, out):  # type: ignore[no-untyped-def]
    """out[u] (Q,) = log P(pattern u | θ) for patterns first … last − 1, where a pattern is a set of answers that share
    an effect γ.

    Pattern u has the answers start[u] … start[u + 1] − 1. `effects` (J,) is the number of nodes of γ over which an
    item's pattern is averaged with `weights` (R,); it is 1 for items in no testlet. `right` and `wrong` (J, R, Q) are P
    and 1 − P at γ and θ, all at least `MIN_PROBABILITY`.
    """
    R, Q = right.shape[1], right.shape[2]
    within = np.empty((R, Q))
    for u in range(first, last):
        count = effects[item[start[u]]]
        within[:count] = 1.0
        out[u] = 0.0
        for k in range(start[u], start[u + 1]):
            table = right[item[k]] if score[k] == 1 else wrong[item[k]]
            for g in range(count):
                for q in range(Q):
                    within[g, q] *= table[g, q]
            if (k - start[u]) % RESCALED_AFTER == RESCALED_AFTER - 1:
                for q in range(Q):
                    top = 0.0
                    for g in range(count):
                        top = max(top, within[g, q])
                    for g in range(count):
                        within[g, q] /= top
                    out[u, q] += np.log(top)
        for q in range(Q):
            mean = within[0, q]
            if count > 1:
                mean = 0.0
                for g in range(count):
                    mean += weights[g] * within[g, q]
            out[u, q] += np.log(mean)


@_kernel
def add_up_persons(first, last, start, pattern, table, group, log_weights):  # type: ignore[no-untyped-def]
    """Σ log P(answers) of persons first … last − 1.

    Person i has the patterns pattern[start[i] … start[i + 1] − 1]. `table` (U, Q) are the patterns' log P given θ, and
    `log_weights` (G, Q) are the log weights of θ in each group.
    """
    Q = table.shape[1]
    total, loglik = np.empty(Q), 0.0
    for i in range(first, last):
        for q in range(Q):
            total[q] = log_weights[group[i], q]
        for r in range(start[i], start[i + 1]):
            row = table[pattern[r]]
            for q in range(Q):
                total[q] += row[q]
        top = total.max()
        summed = 0.0
        for q in range(Q):
            summed += np.exp(total[q] - top)
        loglik += top + np.log(summed)
    return loglik


@_kernel
def information_in_pairs(  # type: ignore[no-untyped-def]
    first, last, answers, testlet, information, grid, theta, out
):
    """out[i] = Σ I_j·I_k at theta[i] over pairs j ≠ k of a testlet that person i answered, for first … last − 1.

    answers: (start, item, counts). counts (R,) is the part of an answer's information that counts.
    testlet (J,): the number of an item's testlet, −1 for an item in none.
    information (Q, J): on nodes, and linear between them.
    grid: (first node, step).
    """
    start, item, counts = answers
    low, step = grid
    Q = information.shape[0]
    seen, owner = np.zeros(testlet.max() + 1), np.full(testlet.max() + 1, -1)
    for i in range(first, last):
        place = min(max((theta[i] - low) / step, 0.0), Q - 1.000001)
        q = int(place)
        share = place - q
        here, beyond = information[q], information[q + 1]
        total = 0.0
        for r in range(start[i], start[i + 1]):
            j = item[r]
            t = testlet[j]
            if t >= 0:
                own = counts[r] * (here[j] + share * (beyond[j] - here[j]))
                if owner[t] == i:
                    total += own * seen[t]
                    seen[t] += own
                else:
                    owner[t] = i
                    seen[t] = own
        out[i] = 2.0 * total
