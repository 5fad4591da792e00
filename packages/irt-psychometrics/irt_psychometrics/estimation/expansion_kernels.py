"""Compiled loops for covariances of functions of θ under the posterior of one person.

With polynomials φ_0 = 1, φ_1, … that are orthonormal under the posterior (three-term recurrence, Stieltjes),
Cov(f, g) = Σ_m E[fφ_m]·E[gφ_m] from m = 1 on. Scores are smooth and a posterior is narrow, so the terms decrease
geometrically, and a few of them give the sum up to rounding. Since θφ_m is a combination of φ_{m−1}, φ_m and φ_{m+1},
scores with a factor θ need no separate sums over nodes.
"""

import numpy as np

from irt_psychometrics.core.kernels import _inlined_in_place_kernel, _inlined_kernel

FEW, MORE = 6, 12
"""Number of terms of a covariance if the SD of the person's log-odds on the steepest item is up to NARROW and up to
WIDE. The relative error of the sum is then below 1e-5. Above WIDE there is a term for every node."""
NARROW, WIDE = 0.7, 1.1
UNSEEN = 1e-15
"""Nodes with less posterior weight are left out."""


@_inlined_in_place_kernel
def window(post, nodes, steepest):  # type: ignore[no-untyped-def]
    """Return the range low … high − 1 of nodes with weight, the number of terms of a covariance, and whether the terms
    are of polynomials."""
    low, high = 0, post.size
    while post[low] < UNSEEN:
        low += 1
    while post[high - 1] < UNSEEN:
        high -= 1
    p, theta = post[low:high], nodes[low:high]
    mean, variance = 0.0, 0.0
    for q in range(p.size):
        mean += p[q] * theta[q]
    for q in range(p.size):
        variance += p[q] * (theta[q] - mean) ** 2
    reach = steepest * np.sqrt(variance)
    terms = FEW if reach < NARROW else MORE if reach < WIDE else 6 * ((p.size + 5) // 6)
    return low, high, terms, reach < WIDE


@_inlined_kernel
def orthonormal(p, theta, size, polynomials, moments):  # type: ignore[no-untyped-def]
    """Fill polynomials[m, q] = p_q·φ_m(θ_q) and moments[m] = (α_m, β_m) for m < size, with
    θφ_m = β_m φ_{m−1} + α_m φ_m + β_{m+1} φ_{m+1}."""
    phi, before, after = np.ones(p.size), np.zeros(p.size), np.empty(p.size)
    beta = 0.0
    for m in range(size):
        row = polynomials[m]
        alpha = 0.0
        for q in range(p.size):
            row[q] = p[q] * phi[q]
            alpha += row[q] * phi[q] * theta[q]
        moments[m, 0], moments[m, 1] = alpha, beta
        norm = 0.0
        for q in range(p.size):
            after[q] = (theta[q] - alpha) * phi[q] - beta * before[q]
            norm += p[q] * after[q] ** 2
        beta = np.sqrt(norm) if norm > 1e-12 else 0.0  # fewer nodes than terms: further terms are 0
        scale = 1 / beta if beta > 0 else 0.0
        for q in range(p.size):
            before[q] = phi[q]
            phi[q] = after[q] * scale


@_inlined_in_place_kernel
def project(row, polynomials, size, into):  # type: ignore[no-untyped-def]
    """Set into[m] = Σ_q row[q]·polynomials[m, q], four m at a time."""
    for m in range(0, size, 4):
        one, two, three, four = 0.0, 0.0, 0.0, 0.0
        for q in range(row.size):
            one += row[q] * polynomials[m, q]
            two += row[q] * polynomials[m + 1, q]
            three += row[q] * polynomials[m + 2, q]
            four += row[q] * polynomials[m + 3, q]
        into[m], into[m + 1], into[m + 2], into[m + 3] = one, two, three, four


@_inlined_kernel
def expand(row, theta, p, by_polynomials, polynomials, moments, found, into, expected):  # type: ignore[no-untyped-def]
    """Fill into (terms, 2) with components of θ·row and of row whose products sum up to covariances, and expected (2,)
    with the two means."""
    if by_polynomials:
        terms = into.shape[0]
        project(row, polynomials, terms + 2, found)
        for m in range(1, terms + 1):
            by_theta = moments[m, 1] * found[m - 1] + moments[m, 0] * found[m] + moments[m + 1, 1] * found[m + 1]
            into[m - 1, 0], into[m - 1, 1] = by_theta, found[m]
        expected[0], expected[1] = moments[0, 0] * found[0] + moments[1, 1] * found[1], found[0]
    else:
        expected[0] = deviations(row, theta, p, into[:, 0])
        expected[1] = deviations(row, np.ones(p.size), p, into[:, 1])


@_inlined_kernel
def expand_alone(row, p, by_polynomials, polynomials, found, into):  # type: ignore[no-untyped-def]
    """Like `expand`, for row without θ·row and without the means."""
    if by_polynomials:
        project(row, polynomials, into.size + 1, found)
        for m in range(1, into.size + 1):
            into[m - 1] = found[m]
    else:
        deviations(row, np.ones(p.size), p, into)


@_inlined_in_place_kernel
def deviations(row, factor, p, into):  # type: ignore[no-untyped-def]
    """Set into[q] = √p_q·(f_q − E f) with f = row·factor, and 0 after the nodes. Returns E f.

    The products of two such rows sum up to their covariance.
    """
    mean = 0.0
    for q in range(p.size):
        mean += p[q] * row[q] * factor[q]
    for q in range(p.size):
        into[q] = np.sqrt(p[q]) * (row[q] * factor[q] - mean)
    into[p.size :] = 0.0
    return mean


@_inlined_in_place_kernel
def products(parts, terms, k, start, weight, into):  # type: ignore[no-untyped-def]
    """Set into[q] = weight · Σ_m parts[m, k]·parts[m, q] from q = start on, six terms at a time.

    `into` must not contain NaN there before the call.
    """
    sums, kept = into[start:], 0.0
    for m in range(0, terms, 6):
        f0, f1, f2 = weight * parts[m, k], weight * parts[m + 1, k], weight * parts[m + 2, k]
        f3, f4, f5 = weight * parts[m + 3, k], weight * parts[m + 4, k], weight * parts[m + 5, k]
        p0, p1, p2 = parts[m, start:], parts[m + 1, start:], parts[m + 2, start:]
        p3, p4, p5 = parts[m + 3, start:], parts[m + 4, start:], parts[m + 5, start:]
        for q in range(sums.size):
            more = (f0 * p0[q] + f1 * p1[q]) + (f2 * p2[q] + f3 * p3[q]) + (f4 * p4[q] + f5 * p5[q])
            sums[q] = kept * sums[q] + more
        kept = 1.0
