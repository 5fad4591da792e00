"""The compiled E-step of two-tier models: one loop over consecutive persons.

Given the primary abilities, the specific ones are independent, so each is integrated out on a grid of its own (Gibbons
& Hedeker 1992; Cai 2010). The cost is linear in the number of specific dimensions. Threads and the order of sums are as
in `core.kernels`.
"""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.kernels import (
    NEGLIGIBLE,
    _in_place_kernel,
    _inlined_in_place_kernel,
    _kernel,
    _normalise,
    _take,
    exp_of_part,
)

UNSEEN = 1e-11
"""Posterior weights below this share of the largest are left out of expected counts."""


class Persons(NamedTuple):
    """N persons.

    Attributes:
        start: shape (N, S + 2). Person i has the answers start[i, 0] … start[i, 1] − 1 to items without a specific
            dimension, and start[i, s + 1] … start[i, s + 2] − 1 to the items of the specific dimension s.
        row: shape (R,), the row of each answer in the table of its items.
        weight: shape (N,), number of persons that the person represents.
    """

    start: np.ndarray
    row: np.ndarray
    weight: np.ndarray


class Tables(NamedTuple):
    """log P of each score on the nodes, and log weights of the nodes.

    Attributes:
        alone: shape (A, T), scores of items without a specific dimension, on the T primary nodes.
        within: shape (B, T · Q), scores of items with one, on T × Q nodes.
        primary, specific: shapes (T,) and (Q,), log weights.
    """

    alone: np.ndarray
    within: np.ndarray
    primary: np.ndarray
    specific: np.ndarray


@_inlined_in_place_kernel
def exponentials(x):  # type: ignore[no-untyped-def]
    """Replace x ≤ 0 by e^x, with an error of 2e-14; see `core.kernels._normalise`."""
    for q in range(x.size):
        e = exp_of_part(max(x[q], NEGLIGIBLE) * (1 / 64))
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        e = e * e
        x[q] = e * e


@_in_place_kernel
def person_posterior(i, persons, tables, post, joint, total):  # type: ignore[no-untyped-def]
    """Compute the posterior of person i; returns the log-likelihood.

    post (T,): posterior of the primary nodes.
    joint (S, T · Q), total (S, T): the posterior of the specific dimension s given the primary node t is joint[s, t · Q
        + q] / total[s, t]. Dimensions without an answer, and nodes where post is negligible, are not filled.
    """
    start, row = persons.start, persons.row
    T, Q, S = tables.primary.size, tables.specific.size, start.shape[1] - 2
    for t in range(T):
        post[t] = tables.primary[t]
    _take(tables.alone, row, start[i, 0], start[i, 1], post)
    slack = 40.0
    for s in range(S):
        if start[i, s + 1] < start[i, s + 2]:
            own = joint[s]
            for t in range(T):
                for q in range(Q):
                    own[t * Q + q] = tables.specific[q]
            _take(tables.within, row, start[i, s + 1], start[i, s + 2], own)
            for t in range(T):
                top = own[t * Q]
                for q in range(1, Q):
                    top = max(top, own[t * Q + q])
                post[t] += top
                for q in range(Q):
                    own[t * Q + q] -= top
            slack += np.log(Q)
    peak = post[0]
    for t in range(T):
        peak = max(peak, post[t])
    low, high = 0, T
    while post[low] < peak - slack:
        low += 1
    while post[high - 1] < peak - slack:
        high -= 1
    for s in range(S):
        if start[i, s + 1] < start[i, s + 2]:
            exponentials(joint[s, low * Q : high * Q])
            for t in range(low, high):
                mass = 0.0
                for q in range(Q):
                    mass += joint[s, t * Q + q]
                total[s, t] = mass
                post[t] += np.log(mass)
    return _normalise(post)


@_kernel
def expected_counts(first, last, persons, tables, alone, within, mass):  # type: ignore[no-untyped-def]
    """E-step over persons first … last − 1. Adds to

    alone (A, T), within (B, T · Q): expected number of answers in each row of the tables at each node,
    mass (T,): expected number of persons at each primary node.

    Returns Σ weight · log P(answers).
    """
    start, row = persons.start, persons.row
    T, Q, S = tables.primary.size, tables.specific.size, start.shape[1] - 2
    post, joint, total = np.empty(T), np.empty((S, T * Q)), np.empty((S, T))
    loglik = 0.0
    for i in range(first, last):
        if start[i, 0] == start[i, S + 1] or persons.weight[i] == 0.0:
            continue
        loglik += persons.weight[i] * person_posterior(i, persons, tables, post, joint, total)
        least = 0.0
        for t in range(T):
            least = max(least, post[t] * UNSEEN)
        low, high = 0, T
        while post[low] < least:
            low += 1
        while post[high - 1] < least:
            high -= 1
        for t in range(low, high):
            post[t] *= persons.weight[i]
            mass[t] += post[t]
        for r in range(start[i, 0], start[i, 1]):
            counted, shares = alone[row[r], low:high], post[low:high]
            for t in range(counted.size):
                counted[t] += shares[t]
        for s in range(S):
            begin, end = start[i, s + 1], start[i, s + 2]
            if begin == end:
                continue
            for t in range(low, high):
                share = post[t] / total[s, t]
                for q in range(Q):
                    joint[s, t * Q + q] *= share
            shares = joint[s, low * Q : high * Q]
            for r in range(begin, end):
                counted = within[row[r], low * Q : high * Q]
                for q in range(counted.size):
                    counted[q] += shares[q]
    return loglik
