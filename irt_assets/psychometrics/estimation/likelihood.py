"""What one E-step says of the items: expected counts, gradient and information, without and with guessing.

`Logistic` and `Guessing` have one interface; both stand for J curves on Q nodes at one parameter vector. A complete-
data score of an item (θ known) is (x − P)·V with V = (θ, 1) or, with guessing, V = (θL/P, L/P, c/P) for (a, d, logit c)
and L the logistic part. The ability distribution, priors and the optimiser are elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.models import Floats
from irt_assets.psychometrics.estimation import information_kernels, robust_kernels, tilt_kernels
from irt_assets.psychometrics.estimation.response_layout import ResponseLayout

Chunks = Sequence[tuple[int, int]]

INFORMATION_BYTES = 256 * 2**20
"""Most memory for the accumulators of all chunks where the whole information matrix is computed."""


NOTHING = -1e4
"""The log weight of a node that is not in use."""


@dataclass(frozen=True)
class Expectation:
    """One E-step over all persons.

    Attributes:
        gradient: shape (K, J), of the marginal log-likelihood in each item's parameters (Fisher's identity).
        information: shape (J, K, K), complete-data information expected over answers: never negative definite.
        residual: shape (J, Q), expected correct answers at each node less those of the curve; without guessing (0, 0).
        mass: shape (G, Q), expected number of persons of each group at each node.
        association: shape (J,), Σ over those who saw an item of θ(x − x̄), with θ expected: negative where abler persons
            answer it worse, whatever slope the model gives it.
        seen: shape (J, Q), expected number of persons at each node who saw an item.
        right: shape (J, Q), of those who answered it correctly; without guessing (J, 1), their sum of θ.
    """

    loglik: float
    gradient: Floats
    information: Floats
    residual: Floats
    mass: Floats
    association: Floats
    seen: Floats
    right: Floats


class Logistic:
    """P = 1/(1 + exp(−(aθ + d)))."""

    K = 2

    def __init__(self, data: ResponseLayout, nodes: Floats, a: Floats, d: Floats) -> None:
        self.data, self.nodes, self.d = data, nodes, d
        log_wrong, self.p = _logistic(a, d, nodes)
        self.curves = kernels.Curves(a, _padded(log_wrong), _padded(np.empty((0, len(nodes)))))

    def expect(self, run: kernels.Run, chunks: Chunks, log_weights: Floats) -> Expectation:
        value, seen, right, mass = _counts(self, False, run, chunks, log_weights)
        theta_right = right[:, 0]
        expected = seen * self.p
        weight = expected * (1.0 - self.p)
        gradient = np.stack([theta_right - expected @ self.nodes, self.data.correct - expected.sum(axis=1)])
        off = weight @ self.nodes
        blocks = np.stack([weight @ self.nodes**2, off, off, weight.sum(axis=1)], axis=1).reshape(-1, 2, 2)
        association = theta_right - self.data.correct / self.data.n * (seen @ self.nodes)
        value += float(self.d @ self.data.correct)
        return Expectation(value, gradient, blocks, np.empty((0, 0)), mass, association, seen, right)

    def curvature(self, expected: Expectation) -> Floats:
        """Shape (J, K, K), complete-data information given the answers (Louis 1982, first term)."""
        return expected.information

    def scores(self, latent: Floats) -> information_kernels.Scores:
        none = np.empty((0, len(self.nodes)))
        return information_kernels.Scores(1.0 - self.p, -self.p, none, none, np.empty(0), latent)


class Guessing:
    """P = c + (1 − c)L with L = 1/(1 + exp(−(aθ + d))); c may be 0 for some items."""

    K = 3

    def __init__(self, data: ResponseLayout, nodes: Floats, a: Floats, d: Floats, logit_c: Floats) -> None:
        self.data, self.nodes = data, nodes
        log_rest, logistic = _logistic(a, d, nodes)
        c, rest = expit(logit_c)[:, None], expit(-logit_c)[:, None]
        self.c, self.logistic = c, logistic
        self.p = c + rest * logistic
        self.q = rest * np.exp(log_rest)
        with np.errstate(divide="ignore"):
            log_c = np.log(c)
        log_right = np.logaddexp(log_c, np.log(rest) + a[:, None] * nodes + d[:, None] + log_rest)
        log_wrong = np.log(rest) + log_rest
        flip = data.flipped[:, None]
        self.curves = kernels.Curves(
            a,
            _padded(np.where(flip, log_right, log_wrong)),
            _padded(np.where(flip, log_wrong - log_right, log_right - log_wrong)),
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            by_eta = np.where(c > 0, logistic / self.p, 1.0)
            by_c = np.where(c > 0, c / self.p, 0.0)
        self.derivatives = np.stack([by_eta * nodes, by_eta, by_c])

    def expect(self, run: kernels.Run, chunks: Chunks, log_weights: Floats) -> Expectation:
        loglik, seen, listed, mass = _counts(self, True, run, chunks, log_weights)
        flip = self.data.flipped[:, None]
        residual = listed - seen * np.where(flip, self.q, self.p)
        residual = np.where(flip, -residual, residual)
        spread = seen * self.p * self.q
        gradient = np.einsum("kjq,jq->kj", self.derivatives, residual)
        information = np.einsum("kjq,mjq,jq->jkm", self.derivatives, self.derivatives, spread)
        right = residual + seen * self.p
        association = right @ self.nodes - self.data.correct / self.data.n * (seen @ self.nodes)
        return Expectation(loglik, gradient, information, residual, mass, association, seen, right)

    def curvature(self, expected: Expectation) -> Floats:
        """Like that of `Logistic`."""
        bent: Floats = np.einsum("kmjq,jq->jkm", self._bends(), expected.residual)
        return expected.information - bent

    def scores(self, latent: Floats) -> information_kernels.Scores:
        flip = self.data.flipped[:, None]
        pairs = [(self.q * value, -self.p * value) for value in self.derivatives[1:]]
        (right, wrong), (guess_right, guess_wrong) = [
            (np.where(flip, other, one), np.where(flip, one, other)) for one, other in pairs
        ]
        return information_kernels.Scores(right, wrong, guess_right, guess_wrong, self.c[:, 0] - 1, latent)

    def _bends(self) -> Floats:
        """Shape (3, 3, J, Q): derivatives of the factors V. With v = L/P and u = c/P: ∂v/∂η = vu(1 − L),
        ∂v/∂logit c = ∂u/∂η = −vu(1 − P), ∂u/∂logit c = vu(1 − c)."""
        product = self.derivatives[1] * self.derivatives[2]
        by_eta, both, by_c = product * (1 - self.logistic), -product * self.q, product * (1 - self.c)
        theta = self.nodes
        return np.stack(
            [
                np.stack([by_eta * theta**2, by_eta * theta, both * theta]),
                np.stack([by_eta * theta, by_eta, both]),
                np.stack([both * theta, both, by_c]),
            ]
        )


def missing_information(
    curves: Logistic | Guessing, run: kernels.Run, chunks: Chunks, log_weights: Floats, latent: Floats
) -> Floats:
    """Σ_i Cov(complete-data score | pattern i), shape (KJ + 2G, KJ + 2G), in the order of `Structure`; `latent`
    (2, G, Q) are the scores of the groups' means and log SDs."""
    J, G, K = curves.data.n_items, len(log_weights), curves.K
    half = _missing(curves, run, chunks, log_weights, latent, J + G)
    whole = half.transpose(2, 0, 3, 1).reshape(K * (J + G), K * (J + G))
    whole = whole + whole.T
    items = (np.arange(K)[:, None] * (J + G) + np.arange(J)).ravel()
    groups = (np.arange(2)[:, None] * (J + G) + J + np.arange(G)).ravel()
    order = np.concatenate([items, groups])
    return whole[np.ix_(order, order)]


def missing_information_blocks(
    curves: Logistic | Guessing, run: kernels.Run, chunks: Chunks, log_weights: Floats
) -> Floats:
    """Shape (J, K, K): each item's own block of `missing_information`."""
    latent = np.zeros((2, *log_weights.shape))
    return 2 * _missing(curves, run, chunks, log_weights, latent, 1)[:, 0]


def shared_with_nodes(curves: Logistic | Guessing, run: kernels.Run, chunks: Chunks, log_weights: Floats) -> Floats:
    """Minus the second derivatives of the log-likelihood by the items' parameters and the groups' log weights, which
    are free and not tied to a sum: shape (KJ, GQ), in the order of `Structure` (Louis 1982)."""
    J, K, (G, Q) = curves.data.n_items, curves.K, log_weights.shape
    raw = curves.scores(np.zeros((G, 2, Q)))
    scores = information_kernels.Scores(*(_padded(table) if table.ndim > 1 else table for table in raw))
    nodes, log_weights = _padded(curves.nodes), _padded(log_weights, NOTHING)
    shape = (K, J, G, len(nodes))

    def work(first: int, last: int) -> Floats:
        out = np.zeros(shape)
        tilt_kernels.shared_with_nodes(first, last, curves.data.people, curves.curves, nodes, log_weights, scores, out)
        return out

    found: Floats = np.sum(run(work, _affordable(curves.data, chunks, int(np.prod(shape)))), axis=0)
    return found[..., :Q].reshape(K * J, G * Q)


def products_of_posteriors(
    curves: Logistic | Guessing, run: kernels.Run, chunks: Chunks, log_weights: Floats
) -> Floats:
    """Σ p pᵀ over the persons of each group with posterior weights p at the nodes, shape (G, Q, Q)."""
    Q = len(curves.nodes)
    nodes, log_weights = _padded(curves.nodes), _padded(log_weights, NOTHING)

    def work(first: int, last: int) -> Floats:
        out = np.zeros((*log_weights.shape, len(nodes)))
        tilt_kernels.products_of_posteriors(first, last, curves.data.people, curves.curves, nodes, log_weights, out)
        return out

    found: Floats = np.sum(run(work, chunks), axis=0)[:, :Q, :Q].copy()
    return found


def products_of_tilts(
    curves: Logistic | Guessing, run: kernels.Run, chunks: Chunks, log_weights: Floats, tilts: Floats
) -> Floats:
    """Sum of products of persons' scores of two `tilts` (G, M, Q), shape (G, M, M)."""
    nodes, log_weights, padded = _padded(curves.nodes), _padded(log_weights, NOTHING), _padded(tilts)
    G, M, _ = tilts.shape

    def work(first: int, last: int) -> Floats:
        own = np.zeros((G, M, M))
        tilt_kernels.tilt_products(first, last, curves.data.people, curves.curves, nodes, log_weights, padded, own)
        return own

    return np.sum(run(work, chunks), axis=0)


def score_products(
    curves: Logistic | Guessing, run: kernels.Run, chunks: Chunks, log_weights: Floats, tilts: Floats
) -> Floats:
    """Σ_i s_i s_iᵀ over persons, shape (KJ + GM, KJ + GM): scores of the items' parameters in the order of `Structure`,
    then those of the M `tilts` (G, M, Q) of each group."""
    J, (G, M, _) = curves.data.n_items, tilts.shape
    raw = curves.scores(np.zeros((G, 2, len(curves.nodes))))
    scores = information_kernels.Scores(*(_padded(table) if table.ndim > 1 else table for table in raw))
    nodes, log_weights, tilts = _padded(curves.nodes), _padded(log_weights, NOTHING), _padded(tilts)
    size = curves.K * J + G * M

    def work(first: int, last: int) -> Floats:
        out = np.zeros((size, size))
        people = curves.data.people
        robust_kernels.score_products(first, last, people, curves.curves, nodes, log_weights, scores, tilts, out)
        return out

    once: Floats = np.sum(run(work, _affordable(curves.data, chunks, size**2)), axis=0)
    return once + once.T - np.diag(np.diag(once))


def _counts(
    curves: Logistic | Guessing, guessing: bool, run: kernels.Run, chunks: Chunks, log_weights: Floats
) -> tuple[float, Floats, Floats, Floats]:
    """`kernels.expected_counts` over all persons: value, seen, right and mass."""
    J, Q = curves.p.shape
    nodes, log_weights = _padded(curves.nodes), _padded(log_weights, NOTHING)
    width = len(nodes) if guessing else 1

    def work(first: int, last: int) -> tuple[float, Floats, Floats, Floats]:
        seen, right, mass = np.zeros((J, len(nodes))), np.zeros((J, width)), np.zeros_like(log_weights)
        people = curves.data.people
        value = kernels.expected_counts(first, last, people, curves.curves, nodes, log_weights, seen, right, mass)
        return value, seen, right, mass

    parts = run(work, chunks)
    value, seen, right, mass = (sum(part[k] for part in parts) for k in range(4))
    return value, seen[:, :Q], right[:, :Q], mass[:, :Q]


def _padded(table: Floats, value: float | None = None) -> Floats:
    """Padded to a multiple of 8 nodes, which kernels process at once, with `value` or the last node's values."""
    Q = table.shape[-1]
    out = np.empty((*table.shape[:-1], -8 * (-Q // 8)))
    out[..., :Q] = table
    out[..., Q:] = table[..., -1:] if value is None else value
    return out


def _missing(
    curves: Logistic | Guessing,
    run: kernels.Run,
    chunks: Chunks,
    log_weights: Floats,
    latent: Floats,
    width: int,
) -> Floats:
    """`information_kernels.missing_information` over all persons, with `width` blocks for each item."""
    J, G, K = curves.data.n_items, len(log_weights), curves.K
    whole = width > 1
    shape = (J + G if whole else J, width, K, K)
    raw = curves.scores(np.ascontiguousarray(latent.transpose(1, 0, 2)))
    scores = information_kernels.Scores(*(_padded(table) if table.ndim > 1 else table for table in raw))
    nodes, log_weights = _padded(curves.nodes), _padded(log_weights, NOTHING)

    def work(first: int, last: int) -> Floats:
        out = np.zeros(shape)
        information_kernels.missing_information(
            first, last, curves.data.people, curves.curves, nodes, log_weights, scores, whole, out
        )
        return out

    parts = run(work, _affordable(curves.data, chunks, int(np.prod(shape))))
    total = parts.pop()
    while parts:
        total += parts.pop()
    return total


def _affordable(data: ResponseLayout, chunks: Chunks, numbers: int) -> Chunks:
    """Number of chunks with which the accumulators, each of this many numbers, stay within INFORMATION_BYTES."""
    return kernels.cut(data.cost, min(len(chunks), max(1, INFORMATION_BYTES // (8 * numbers))))


def _logistic(a: Floats, d: Floats, theta: Floats) -> tuple[Floats, Floats]:
    log_wrong, p = np.empty((len(a), len(theta))), np.empty((len(a), len(theta)))
    kernels.logistic_table(a, d, theta, log_wrong, p)
    return log_wrong, p
