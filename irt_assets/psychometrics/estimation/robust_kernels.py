"""Compiled loop of products of scores by learner. See `kernels` for layouts.

A learner's score of a parameter is the mean of its complete-data score under the learner's posterior (Fisher's
identity). Their products, added up over learners, are the variance of the whole score whatever makes the answers of a
learner depend on each other (White 1982).
"""

from __future__ import annotations

import numpy as np

from irt_assets.psychometrics.core.kernels import NO_SET, _compiled, _posteriors
from irt_assets.psychometrics.estimation.tilt_kernels import _dot


@_compiled
def score_products(first, last, people, curves, nodes, log_weights, scores, tilts, out):  # type: ignore[no-untyped-def]
    """Adds Σ s sᵀ over persons first … last − 1 to out (CJ + GM, CJ + GM), each pair of parameters on one side only.

    Parameter k of item j stands at kJ + j; `tilts` (G, M, Q) are the complete-data scores of M parameters of each
    group's distribution, which stand at CJ + gM + m.
    """
    Q, M, J = nodes.size, tilts.shape[1], scores.right.shape[0]
    C = 3 if scores.guess_right.shape[0] > 0 else 2
    base, post, by_theta = np.empty(Q), np.empty((1, Q)), np.empty(Q)
    p = post[0]
    right = np.zeros(J, dtype=np.bool_)
    values, places = np.empty(C * J + M), np.empty(C * J + M, dtype=np.int64)
    current = NO_SET
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        s, weight = people.set_of[i], people.weight[i]
        group = people.set_group[s]
        for q in range(Q):
            by_theta[q] = p[q] * nodes[q]
        for r in range(people.right_start[i], people.right_start[i + 1]):
            right[people.right_items[r]] = True
        begin, end = people.set_start[s], people.set_start[s + 1]
        n = end - begin
        for r in range(n):
            j = np.int64(people.set_items[begin + r])
            row = scores.right[j] if right[j] else scores.wrong[j]
            places[r], values[r] = j, _dot(row, by_theta)
            places[n + r], values[n + r] = J + j, _dot(row, p)
            if C == 3:
                row = scores.guess_right[j] if right[j] else scores.guess_wrong[j]
                places[2 * n + r], values[2 * n + r] = 2 * J + j, _dot(row, p)
            right[j] = False
        count = C * n + M
        for m in range(M):
            places[C * n + m], values[C * n + m] = C * J + group * M + m, _dot(p, tilts[group, m])
        for x in range(count):
            share, into = weight * values[x], out[places[x]]
            for y in range(x, count):
                into[places[y]] += share * values[y]
