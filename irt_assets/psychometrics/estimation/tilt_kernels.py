"""Compiled loop of the answers' information on the shape of the ability distribution. See `kernels` for layouts.

A tilt is a function T of θ that multiplies the weights of a group's nodes by exp(β·T): the score of β at 0 is T less
its mean under the weights. What a person's answers say of it is its mean under the posterior, and what they say of an
item the mean of the item's complete-data score (Fisher's identity). By Louis (1982) minus the second derivative by a
tilt and an item's parameter is the product of these two means less the mean of the product.
"""

from __future__ import annotations

import numpy as np

from irt_assets.psychometrics.core.kernels import NO_SET, _compiled, _inlined, _posteriors
from irt_assets.psychometrics.estimation.expansion_kernels import UNSEEN


@_compiled
def shared_with_nodes(first, last, people, curves, nodes, log_weights, scores, out):  # type: ignore[no-untyped-def]
    """Adds over persons first … last − 1 to out (C, J, G, Q): p_q·(E s − s_q) with the person's weights p at the nodes
    and the complete-data score s of each of an item's C parameters, which is minus the second derivative by it and the
    log weight of a node."""
    Q, C = nodes.size, out.shape[0]
    base, post, counts = np.empty(Q), np.empty((1, Q)), np.empty(Q)
    right = np.zeros(out.shape[1], dtype=np.bool_)
    current = NO_SET
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        s = people.set_of[i]
        group = people.set_group[s]
        low, high = _counting(post[0])
        p, theta, counted = post[0, low:high], nodes[low:high], counts[: high - low]
        for q in range(p.size):
            counted[q] = people.weight[i] * p[q]
        for r in range(people.right_start[i], people.right_start[i + 1]):
            right[people.right_items[r]] = True
        for r in range(people.set_start[s], people.set_start[s + 1]):
            j = people.set_items[r]
            row = (scores.right if right[j] else scores.wrong)[j, low:high]
            by_theta, alone = 0.0, 0.0
            for q in range(p.size):
                alone += p[q] * row[q]
                by_theta += p[q] * row[q] * theta[q]
            first_score, second_score = out[0, j, group, low:high], out[1, j, group, low:high]
            for q in range(p.size):
                first_score[q] += counted[q] * (by_theta - theta[q] * row[q])
                second_score[q] += counted[q] * (alone - row[q])
            if C == 3:
                row = (scores.guess_right if right[j] else scores.guess_wrong)[j, low:high]
                alone = 0.0
                for q in range(p.size):
                    alone += p[q] * row[q]
                third_score = out[2, j, group, low:high]
                for q in range(p.size):
                    third_score[q] += counted[q] * (alone - row[q])
            right[j] = False


@_compiled
def products_of_posteriors(first, last, people, curves, nodes, log_weights, out):  # type: ignore[no-untyped-def]
    """Adds p pᵀ over persons first … last − 1 to out (G, Q, Q), with a person's weights p at the nodes."""
    Q = nodes.size
    base, post = np.empty(Q), np.empty((1, Q))
    current = NO_SET
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        low, high = _counting(post[0])
        p = post[0, low:high]
        for k in range(low, high):
            _add(people.weight[i] * post[0, k], p, out[people.set_group[people.set_of[i]], k, low:high])


@_inlined
def _counting(post):  # type: ignore[no-untyped-def]
    """The range of nodes in which a posterior is not negligible, in whole blocks of a loop."""
    low, high = 0, post.size
    while post[low] < UNSEEN:
        low += 1
    while post[high - 1] < UNSEEN:
        high -= 1
    return low - low % 8, high + -high % 8


@_compiled
def tilt_products(first, last, people, curves, nodes, log_weights, tilts, own):  # type: ignore[no-untyped-def]
    """Adds products of two tilts' scores over persons first … last − 1 to own (G, M, M), with `tilts` (G, M, Q) of mean
    0 under the weights of their group."""
    Q, M = nodes.size, tilts.shape[1]
    base, post, moments = np.empty(Q), np.empty((1, Q)), np.empty(M)
    current = NO_SET
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        group = people.set_group[people.set_of[i]]
        for m in range(M):
            moments[m] = _dot(post[0], tilts[group, m])
        for m in range(M):
            _add(people.weight[i] * moments[m], moments, own[group, m])


@_inlined
def _dot(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(x.size):
        total += x[k] * y[k]
    return total


@_inlined
def _add(factor, x, into):  # type: ignore[no-untyped-def]
    for k in range(into.size):
        into[k] += factor * x[k]
