"""Compiled loop over pairs of margins. `margins` explains the sums."""

import numpy as np

from irt_psychometrics.core.kernels import _kernel


@_kernel
def product_moments(margins, item, specific, same, values, first, weights, specific_weights):  # type: ignore[no-untyped-def]
    """Compute the expected products of M margins, each the product of two of V variables, shape (M, M).

    `margins` (M, 2) are numbers of variables, and `item` and `specific` (V,) their items and specific dimensions. The
    product of two variables of one item is the variable `same`. `values` (V, T, Q) are expectations given the primary
    and specific dimensions, `first` (V, T) given the primary ones alone.
    """
    T, Q = len(weights), len(specific_weights)
    out = np.empty((len(margins), len(margins)))
    of, leader, size = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4, np.int64)
    term, inner = np.empty(T), np.empty(Q)
    for a in range(len(margins)):
        for b in range(a + 1):
            n = 2
            of[0], of[1] = margins[a, 0], margins[a, 1]
            for x in range(2):
                y = margins[b, x]
                k = 0 if item[of[0]] == item[y] else 1 if item[of[1]] == item[y] else n
                of[k] = same[of[k], y] if k < 2 else y
                n = max(n, k + 1)
            for k in range(n):  # the first variable of a specific dimension leads the others
                leader[k], size[k] = k, 1
                for m in range(k):
                    if leader[k] == k and specific[of[m]] == specific[of[k]] >= 0:
                        leader[k] = leader[m]
                        size[leader[m]] += 1
            for t in range(T):
                term[t] = weights[t]
            for k in range(n):
                if leader[k] != k:
                    continue
                for t in range(T if size[k] == 1 else 0):
                    term[t] *= first[of[k], t]
                for t in range(T if size[k] > 1 else 0):
                    for q in range(Q):
                        inner[q] = specific_weights[q] * values[of[k], t, q]
                    for m in range(k + 1, n):
                        if leader[m] == k:
                            for q in range(Q):
                                inner[q] *= values[of[m], t, q]
                    term[t] *= inner.sum()
            out[a, b] = out[b, a] = term.sum()
    return out
