"""Covariances of two parameters of each of K items, as matrices along a diagonal.

Shape (K, 2, 2) where errors of different items are independent, or (1, 2K, 2K) where they are not: NumPy's functions of
stacks of matrices serve both, and what is independent costs no more than K.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats


def of_errors(one_se: Floats, other_se: Floats, between: Floats) -> Floats:
    """Shape (K, 2, 2), from the standard errors of both parameters and their covariance, shape (K,) each."""
    return np.stack([[one_se**2, between], [between, other_se**2]]).transpose(2, 0, 1)


def block_diagonal(blocks: Floats) -> Floats:
    """(k, n, n) blocks on the diagonal of a (kn, kn) matrix of zeros."""
    k, n, _ = blocks.shape
    full = np.zeros((k, n, k, n))
    full[np.arange(k), :, np.arange(k), :] = blocks
    return full.reshape(k * n, k * n)


def with_further(cov: Floats, further: Floats) -> Floats:
    """Shape (K, 2 + M, 2 + M): (K, 2, 2) with the rows and columns (K, M, 2 + M) of further parameters."""
    size = further.shape[2]
    out = np.zeros((len(cov), size, size))
    out[:, :2, :2] = cov
    out[:, 2:], out[:, :, 2:] = further, further.swapaxes(1, 2)
    return out


def padded(further: Floats | None, n_items: int, size: int) -> Floats:
    """Shape (K, M, 2 + M) with at least `size` further parameters, 0 for those that were not there; None: 0 for all."""
    own = 0 if further is None else further.shape[1]
    if further is not None and own >= size:
        return further
    out = np.zeros((n_items, size, 2 + size))
    if further is not None:
        out[:, :own, : 2 + own] = further
    return out


def common_part(joint: Floats, by: Floats) -> Floats | None:
    """Γ, shape (m, m), where errors with the covariance `joint` (2K, 2K) are own_k + by_k γ, the items' own independent
    and Γ = Cov γ; by: shape (K, 2, m). None where they do not tell.

    γ̂ is the generalised least-squares line through the errors, each item weighted by its own covariance; from Cov γ̂
    goes what the items' own errors give to it. What is not estimated says nothing, and its γ is 0. Γ need not be
    positive definite: errors of anchors that determine a linking cancel.
    """
    own = of_each(joint[None])
    weight = by.swapaxes(1, 2) @ np.linalg.pinv(own, hermitian=True)
    parts = np.linalg.pinv((weight @ by).sum(0), hermitian=True) @ weight
    weights = parts.swapaxes(0, 1).reshape(by.shape[2], -1)
    between = weights @ joint @ weights.T - np.einsum("kxp,kpq,kyq->xy", parts, own, parts)
    shares = parts @ by
    seen = np.eye(between.size) - np.einsum("kxp,kyq->xypq", shares, shares).reshape(between.size, -1)
    gamma: Floats = np.linalg.solve(seen, between.ravel()).reshape(between.shape)
    return gamma if np.isfinite(gamma).all() else None


def symmetrized(cov: Floats) -> Floats:
    """Covariances (K, P, P) with those of further parameters equal to the last bit on both sides of the diagonal, as
    they are stored once; inverting a matrix leaves them apart there."""
    rows, columns = np.tril_indices(cov.shape[1], -1)
    further = rows > 1
    out = cov.copy()
    out[:, columns[further], rows[further]] = cov[:, rows[further], columns[further]]
    return out


def of_each(cov: Floats) -> Floats:
    """Shape (K, 2, 2): each item's own covariance."""
    if cov.shape[1] == 2:
        return cov
    k = np.arange(cov.shape[1] // 2)
    return cov.reshape(k.size, 2, k.size, 2)[k, :, k, :]


def of_some(cov: Floats, items: npt.NDArray[Any]) -> Floats:
    """The covariance of some items only; items: places, or a mask of shape (K,)."""
    if cov.shape[1] == 2:
        return cov[items]
    kept = np.arange(cov.shape[1]).reshape(-1, 2)[items].ravel()
    return cov[:, kept[:, None], kept]


def scaled(cov: Floats, by: Floats) -> Floats:
    """The covariance of the 2K parameters times `by`, shape (2K,)."""
    factors = by.reshape(cov.shape[:2])
    return factors[:, :, None] * cov * factors[:, None]


def turned(cov: Floats, by: Floats) -> Floats:
    """The covariance of by · x of each item, by (K, 2, 2), from that of x."""
    if cov.shape[1] == 2:
        return by @ cov @ by.swapaxes(1, 2)
    k = len(by)
    left = (by @ cov.reshape(k, 2, -1)).reshape(2 * k, k, 2)
    both = left.swapaxes(0, 1) @ by.swapaxes(1, 2)
    return both.swapaxes(0, 1).reshape(1, 2 * k, 2 * k)


def added(one: Floats, other: Floats) -> Floats:
    """The covariance of sums of independent terms."""
    if one.shape == other.shape:
        return one + other
    return (block_diagonal(one) + block_diagonal(other))[None]


def times_both_sides(by: Floats, cov: Floats) -> Floats:
    """by · cov · byᵀ of each item, (K, n, n); what is not known makes not known only what `by` (n, n) takes from it."""
    unknown, used = np.isnan(cov), by != 0
    return np.where(used @ unknown @ used.T, np.nan, by @ np.where(unknown, 0.0, cov) @ by.T)


def times(by: Floats, cov: Floats) -> Floats:
    """by · cov, shape (m, 2K), of `by`, shape (m, 2K)."""
    return (by.reshape(len(by), len(cov), 1, -1) @ cov).reshape(by.shape)
