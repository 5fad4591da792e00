"""Compiled loops for sums of products of persons' scores. See `kernels` for layouts.

A person's score of a parameter is the mean of its complete-data score under the person's posterior (Fisher's identity).
A complete-data score is either an item's score or a *latent score*: the derivative of a group's log density of θ with
respect to one of its parameters, a function of θ with mean 0 under the weights of the nodes. By Louis (1982), minus the
second derivative with respect to a parameter of the density and a parameter of an item is the product of their two
scores minus the mean of the product. The sum of products over persons estimates the variance of the total score, even
if a person's answers depend on each other (White 1982).
"""

import numpy as np

from irt_psychometrics.core.kernels import NO_SET, _inlined_kernel, _kernel, _posteriors
from irt_psychometrics.estimation.expansion_kernels import UNSEEN


@_kernel
def shared_with_nodes(first, last, people, curves, nodes, log_weights, scores, out):  # type: ignore[no-untyped-def]
    """Add p_q·(E s − s_q) over persons first … last − 1 to out (C, J, G, Q).

    p are the person's weights at the nodes and s is the complete-data score of each of an item's C parameters. The term
    is minus the second derivative with respect to the parameter and the log weight of a node.
    """
    Q, C = nodes.size, out.shape[0]
    base, post, counts = np.empty(Q), np.empty((1, Q)), np.empty(Q)
    right = np.zeros(out.shape[1], dtype=np.bool_)
    current = NO_SET
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        s = people.set_of[i]
        group = people.set_group[s]
        low, high = _counting_range(post[0])
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


@_kernel
def products_of_posteriors(first, last, people, curves, nodes, log_weights, out):  # type: ignore[no-untyped-def]
    """Add p pᵀ over persons first … last − 1 to out (G, Q, Q), with the person's weights p at the nodes."""
    Q = nodes.size
    base, post = np.empty(Q), np.empty((1, Q))
    current = NO_SET
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        low, high = _counting_range(post[0])
        p = post[0, low:high]
        for k in range(low, high):
            _add(people.weight[i] * post[0, k], p, out[people.set_group[people.set_of[i]], k, low:high])


@_inlined_kernel
def _counting_range(post):  # type: ignore[no-untyped-def]
    """Return the range of nodes in which a posterior is not negligible, extended to whole blocks of 8 nodes."""
    low, high = 0, post.size
    while post[low] < UNSEEN:
        low += 1
    while post[high - 1] < UNSEEN:
        high -= 1
    return low - low % 8, high + -high % 8


@_kernel
def score_products(first, last, people, curves, nodes, log_weights, scores, latent_scores, out):  # type: ignore[no-untyped-def]
    """Add Σ s sᵀ over persons first … last − 1 to out (CJ + GM, CJ + GM), each pair of parameters on one side only.

    Parameter k of item j has position kJ + j. `latent_scores` (G, M, Q) are the scores of M parameters of each group's
    distribution, which have positions CJ + gM + m.
    """
    Q, M, J = nodes.size, latent_scores.shape[1], scores.right.shape[0]
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
            places[C * n + m], values[C * n + m] = C * J + group * M + m, _dot(p, latent_scores[group, m])
        for x in range(count):
            share, into = weight * values[x], out[places[x]]
            for y in range(x, count):
                into[places[y]] += share * values[y]


@_inlined_kernel
def _dot(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(x.size):
        total += x[k] * y[k]
    return total


@_inlined_kernel
def _add(factor, x, into):  # type: ignore[no-untyped-def]
    for k in range(into.size):
        into[k] += factor * x[k]
