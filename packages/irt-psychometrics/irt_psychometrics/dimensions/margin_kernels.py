"""Compiled loop over pairs of margins. `margins` explains the sums."""

import numpy as np

from irt_psychometrics.core.kernels import _kernel


@_kernel
def product_moments(margins, item, specific, same, factor, values, first, weights, specific_weights):  # type: ignore[no-untyped-def]
    """Compute the expected products of M margins, each the product of one or two of V variables, shape (M, M).

    `margins` (M, 2) are numbers of variables, −1 if there is no second one. `item` and `specific` (V,) are the item and
    the specific dimension of a variable. The product of two variables of one item is `factor` times the variable `same`
    (V, V). `values` (V, T, Q) are expectations given the primary and specific dimensions, `first` (V, T) given the
    primary ones alone.
    """
    M, T, Q = len(margins), len(weights), len(specific_weights)
    out = np.empty((M, M))
    term, inner = np.empty(T), np.empty(Q)
    of, leader, size = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4, np.int64)
    for a in range(M):
        for b in range(a + 1):
            n, scale = 0, 1.0
            for x in margins[a]:
                if x >= 0:
                    of[n] = x
                    n += 1
            own = n
            for y in margins[b]:
                if y < 0:
                    continue
                shared = False
                for k in range(own):
                    if item[of[k]] == item[y]:
                        scale *= factor[of[k], y]
                        of[k] = same[of[k], y]
                        shared = True
                        break
                if not shared:
                    of[n] = y
                    n += 1
            for k in range(n):
                leader[k], size[k] = k, 1
                for m in range(k):
                    if specific[of[k]] >= 0 and specific[of[m]] == specific[of[k]]:
                        leader[k] = leader[m]
                        size[leader[m]] += 1
                        break
            for t in range(T):
                term[t] = weights[t]
            for k in range(n):
                if leader[k] != k:
                    continue
                if size[k] == 1:
                    for t in range(T):
                        term[t] *= first[of[k], t]
                    continue
                for t in range(T):
                    for q in range(Q):
                        inner[q] = specific_weights[q] * values[of[k], t, q]
                    for m in range(k + 1, n):
                        if leader[m] == k:
                            for q in range(Q):
                                inner[q] *= values[of[m], t, q]
                    term[t] *= inner.sum()
            total = 0.0
            for t in range(T):
                total += term[t]
            out[a, b] = out[b, a] = scale * total
    return out
