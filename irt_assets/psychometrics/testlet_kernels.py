"""Compiled loops of testlets: the likelihood with effects of learners in testlets, and what they add to SE(θ)."""

from __future__ import annotations

import numpy as np

from irt_assets.psychometrics.kernels import _compiled

RESCALED_AFTER = 16
"""Factors, each at least `LEAST_PROBABILITY`, whose product a double holds with room to spare."""
LEAST_PROBABILITY = 1e-15


@_compiled
def loglik_with_effects(first, last, start, item, score, testlet, right, gamma_weights, group, log_weights, out):  # type: ignore[no-untyped-def]
    """out[i] = log P(answers of person i) for persons first … last − 1, whose answers stand testlet by testlet.

    `testlet` (J,): −1 for an item of none. `right` (J, R, Q): P at effect r and ability q, without effect for items of
    no testlet; `gamma_weights` (R,), `log_weights` (G, Q).
    """
    R, Q = right.shape[1], right.shape[2]
    total, within = np.empty(Q), np.empty((R, Q))
    for i in range(first, last):
        for q in range(Q):
            total[q] = log_weights[group[i], q]
        r = start[i]
        while r < start[i + 1]:
            t = testlet[item[r]]
            end = r + 1
            while end < start[i + 1] and testlet[item[end]] == t:
                end += 1
            effects = R if t >= 0 else 1
            within[:effects] = 1.0
            for k in range(r, end):
                j = item[k]
                for g in range(effects):
                    if score[k] == 1:
                        for q in range(Q):
                            within[g, q] *= max(right[j, g, q], LEAST_PROBABILITY)
                    else:
                        for q in range(Q):
                            within[g, q] *= max(1.0 - right[j, g, q], LEAST_PROBABILITY)
                if (k - r) % RESCALED_AFTER == RESCALED_AFTER - 1:
                    for q in range(Q):
                        top = 0.0
                        for g in range(effects):
                            top = max(top, within[g, q])
                        for g in range(effects):
                            within[g, q] /= top
                        total[q] += np.log(top)
            for q in range(Q):
                if t >= 0:
                    mean = 0.0
                    for g in range(R):
                        mean += gamma_weights[g] * within[g, q]
                    total[q] += np.log(mean)
                else:
                    total[q] += np.log(within[0, q])
            r = end
        top = total.max()
        summed = 0.0
        for q in range(Q):
            summed += np.exp(total[q] - top)
        out[i] = top + np.log(summed)


@_compiled
def information_in_pairs(first, last, start, item, testlet, information, low, step, theta, out):  # type: ignore[no-untyped-def]
    """out[i] = Σ over pairs j ≠ k of one testlet that person i answered of I_j·I_k at theta[i], for first … last − 1.

    `testlet` (J,): −1 for an item of none, else 0 …; `information` (Q, J) on nodes from `low` with a `step`, and
    between them linear.
    """
    Q = information.shape[0]
    seen, whose = np.zeros(testlet.max() + 1), np.full(testlet.max() + 1, -1)
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
                own = here[j] + share * (beyond[j] - here[j])
                if whose[t] == i:
                    total += own * seen[t]
                    seen[t] += own
                else:
                    whose[t] = i
                    seen[t] = own
        out[i] = 2.0 * total
