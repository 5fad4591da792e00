"""Compiled loop of what answers say of the shape of the ability distribution. See `kernels` for layouts.

A tilt is a function T of θ that multiplies the weights of a group's nodes by exp(β·T): the score of β at 0 is T less
its mean under the weights. What a person's answers say of it is its mean under the posterior, and what they say of an
item the mean of the item's complete-data score (Fisher's identity). By Louis (1982) minus the second derivative by a
tilt and an item's parameter is the product of these two means less the mean of the product.
"""

from __future__ import annotations

import numpy as np

from irt_assets.psychometrics.core.kernels import _compiled, _posteriors


@_compiled
def tilt_information(first, last, people, curves, nodes, log_weights, scores, tilts, shared, means, own):  # type: ignore[no-untyped-def]
    """Adds over persons first … last − 1, with `tilts` (G, M, Q) of mean 0 under the weights of their group,
    shared (J, C, G, M): products of the scores of an item's C parameters and of a tilt,
    means (J, C, G, M): means of the products of their complete-data scores,
    own (G, M, M): products of two tilts' scores."""
    Q, C, M = nodes.size, shared.shape[1], tilts.shape[1]
    base, post = np.empty(Q), np.empty((1, Q))
    p, by_theta, told = post[0], np.empty(Q), np.empty(M)
    at_nodes = np.zeros((shared.shape[0], C - 1, shared.shape[2], Q))
    right = np.zeros(shared.shape[0], dtype=np.bool_)
    current = -1
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        s, weight = people.set_of[i], people.weight[i]
        group = people.set_group[s]
        for q in range(Q):
            by_theta[q] = p[q] * nodes[q]
        for m in range(M):
            told[m] = _dot(p, tilts[group, m])
        for m in range(M):
            _add(weight * told[m], told, own[group, m])
        for r in range(people.right_start[i], people.right_start[i + 1]):
            right[people.right_items[r]] = True
        for r in range(people.set_start[s], people.set_start[s + 1]):
            j = people.set_items[r]
            row = scores.right[j] if right[j] else scores.wrong[j]
            _add(weight * _dot(row, by_theta), told, shared[j, 0, group])
            _add(weight * _dot(row, p), told, shared[j, 1, group])
            _add_product(weight, row, p, at_nodes[j, 0, group])
            if C == 3:
                row = scores.guess_right[j] if right[j] else scores.guess_wrong[j]
                _add(weight * _dot(row, p), told, shared[j, 2, group])
                _add_product(weight, row, p, at_nodes[j, 1, group])
            right[j] = False
    for j in range(shared.shape[0]):
        for group in range(shared.shape[2]):
            for m in range(M):
                for q in range(Q):
                    tilted = tilts[group, m, q] * at_nodes[j, 0, group, q]
                    means[j, 0, group, m] += nodes[q] * tilted
                    means[j, 1, group, m] += tilted
                    if C == 3:
                        means[j, 2, group, m] += tilts[group, m, q] * at_nodes[j, 1, group, q]


@_compiled
def tilt_products(first, last, people, curves, nodes, log_weights, tilts, own):  # type: ignore[no-untyped-def]
    """As `tilt_information`, of `own` alone."""
    Q, M = nodes.size, tilts.shape[1]
    base, post, told = np.empty(Q), np.empty((1, Q)), np.empty(M)
    current = -1
    for i in range(first, last):
        _, current = _posteriors(i, i + 1, people, curves, nodes, log_weights, current, base, post)
        group = people.set_group[people.set_of[i]]
        for m in range(M):
            told[m] = _dot(post[0], tilts[group, m])
        for m in range(M):
            _add(people.weight[i] * told[m], told, own[group, m])


@_compiled
def _dot(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for k in range(x.size):
        total += x[k] * y[k]
    return total


@_compiled
def _add(factor, x, into):  # type: ignore[no-untyped-def]
    for k in range(into.size):
        into[k] += factor * x[k]


@_compiled
def _add_product(factor, x, y, into):  # type: ignore[no-untyped-def]
    for k in range(into.size):
        into[k] += factor * x[k] * y[k]
