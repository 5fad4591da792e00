"""Covariances of two parameters of each of K items, as matrices along a diagonal.

The shape is (K, 2, 2) if errors of different items are independent, and (1, 2K, 2K) if they are not. NumPy's functions
for stacks of matrices work on both, and independent errors cost only K small matrices.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats


def from_errors(one_se: Floats, other_se: Floats, between: Floats) -> Floats:
    """Covariances (K, 2, 2) from the standard errors of both parameters and their covariance, shape (K,) each."""
    return np.stack([[one_se**2, between], [between, other_se**2]]).transpose(2, 0, 1)


def block_diagonal(blocks: Floats) -> Floats:
    """The (kn, kn) matrix with the blocks (k, n, n) on its diagonal and 0 elsewhere."""
    k, n, _ = blocks.shape
    full = np.zeros((k, n, k, n))
    full[np.arange(k), :, np.arange(k), :] = blocks
    return full.reshape(k * n, k * n)


def with_further(cov: Floats, further: Floats) -> Floats:
    """Extend `cov` (K, 2, 2) by the rows `further` (K, M, 2 + M) of further parameters and the same columns.

    Returns shape (K, 2 + M, 2 + M).
    """
    size = further.shape[2]
    out = np.zeros((len(cov), size, size))
    out[:, :2, :2] = cov
    out[:, 2:], out[:, :, 2:] = further, further.swapaxes(1, 2)
    return out


def padded(further: Floats | None, n_items: int, size: int) -> Floats:
    """Extend `further` to at least `size` further parameters, shape (K, M, 2 + M); added entries are 0.

    If `further` is None, all entries are 0.
    """
    own = 0 if further is None else further.shape[1]
    if further is not None and own >= size:
        return further
    out = np.zeros((n_items, size, 2 + size))
    if further is not None:
        out[:, :own, : 2 + own] = further
    return out


def common_part(joint: Floats, by: Floats) -> Floats | None:
    """Γ = Cov γ, shape (m, m), of errors own_k + by_k γ with the covariance `joint` (2K, 2K).

    The items' own errors are independent; `by` has shape (K, 2, m). Returns None if `joint` does not determine Γ.

    γ̂ is the generalised least-squares line through the errors, each item weighted by its own covariance. The
    contribution of the items' own errors is subtracted from Cov γ̂. Parameters that are not estimated have no weight in
    γ̂. Γ need not be positive definite: errors of anchors that determine a linking cancel.
    """
    own = item_blocks(joint[None])
    weight = by.swapaxes(1, 2) @ np.linalg.pinv(own, hermitian=True)
    parts = np.linalg.pinv((weight @ by).sum(0), hermitian=True) @ weight
    weights = parts.swapaxes(0, 1).reshape(by.shape[2], -1)
    between = weights @ joint @ weights.T - np.einsum("kxp,kpq,kyq->xy", parts, own, parts)
    shares = parts @ by
    seen = np.eye(between.size) - np.einsum("kxp,kyq->xypq", shares, shares).reshape(between.size, -1)
    gamma: Floats = np.linalg.solve(seen, between.ravel()).reshape(between.shape)
    return gamma if np.isfinite(gamma).all() else None


def symmetrized(cov: Floats) -> Floats:
    """Covariances (K, P, P) whose entries of further parameters are equal to the last bit across the diagonal.

    Only one side is stored, and after inverting a matrix the two sides differ in the last bits.
    """
    rows, columns = np.tril_indices(cov.shape[1], -1)
    further = rows > 1
    out = cov.copy()
    out[:, columns[further], rows[further]] = cov[:, rows[further], columns[further]]
    return out


def is_positive_definite(cov: Floats) -> bool:
    """Check whether every matrix of `cov` (K, P, P) is positive definite."""
    try:
        np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        return False
    return True


def item_blocks(cov: Floats) -> Floats:
    """Covariance of each item, shape (K, 2, 2)."""
    if cov.shape[1] == 2:
        return cov
    k = np.arange(cov.shape[1] // 2)
    return cov.reshape(k.size, 2, k.size, 2)[k, :, k, :]


def select_items(cov: Floats, items: npt.NDArray[Any]) -> Floats:
    """The covariance of some items; `items` are their places, or a mask of shape (K,)."""
    if cov.shape[1] == 2:
        return cov[items]
    kept = np.arange(cov.shape[1]).reshape(-1, 2)[items].ravel()
    return cov[:, kept[:, None], kept]


def scale(cov: Floats, by: Floats) -> Floats:
    """The covariance of the 2K parameters, each multiplied by its factor in `by`, shape (2K,)."""
    factors = by.reshape(cov.shape[:2])
    return factors[:, :, None] * cov * factors[:, None]


def transform(cov: Floats, by: Floats) -> Floats:
    """The covariance of by · x for each item, by (K, 2, 2), from the covariance `cov` of x."""
    if cov.shape[1] == 2:
        return by @ cov @ by.swapaxes(1, 2)
    k = len(by)
    product = (by @ cov.reshape(k, 2, -1)).reshape(2 * k, k, 2)
    both = product.swapaxes(0, 1) @ by.swapaxes(1, 2)
    return both.swapaxes(0, 1).reshape(1, 2 * k, 2 * k)


def add(one: Floats, other: Floats) -> Floats:
    """The covariance of the sum of two independent terms."""
    if one.shape == other.shape:
        return one + other
    return (block_diagonal(one) + block_diagonal(other))[None]


def times_both_sides(by: Floats, cov: Floats) -> Floats:
    """by · cov · byᵀ for each item, shape (K, n, n); `by` has shape (n, n).

    An unknown covariance (NaN) makes only those results unknown to which `by` gives it a weight other than 0.
    """
    unknown, used = np.isnan(cov), by != 0
    return np.where(used @ unknown @ used.T, np.nan, by @ np.where(unknown, 0.0, cov) @ by.T)


def times(by: Floats, cov: Floats) -> Floats:
    """by · cov, shape (m, 2K), for `by` of shape (m, 2K)."""
    return (by.reshape(len(by), len(cov), 1, -1) @ cov).reshape(by.shape)
