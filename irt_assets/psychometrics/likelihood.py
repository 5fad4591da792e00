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

from irt_assets.psychometrics import kernels
from irt_assets.psychometrics.data import Data
from irt_assets.psychometrics.models import Floats

Chunks = Sequence[tuple[int, int]]

INFORMATION_BYTES = 512 * 2**20
"""What the accumulators of all chunks may take together where the whole information matrix is made."""


@dataclass(frozen=True)
class Expectation:
    """One E-step over all persons.

    Attributes:
        gradient: shape (K, J), of the marginal log-likelihood in each item's parameters (Fisher's identity).
        information: shape (J, K, K), complete-data information expected over answers: never negative definite.
        curvature: shape (J, K, K), complete-data information given the answers (Louis 1982, first term).
        mass: shape (G, Q), expected number of persons of each group at each node.
        association: shape (J,), Σ over those who saw an item of θ(x − x̄), with θ expected: negative where abler persons
            answer it worse, whatever slope the model gives it.
    """

    loglik: float
    gradient: Floats
    information: Floats
    curvature: Floats
    mass: Floats
    association: Floats


class Logistic:
    """P = 1/(1 + exp(−(aθ + d)))."""

    K = 2

    def __init__(self, data: Data, nodes: Floats, a: Floats, d: Floats) -> None:
        self.data, self.nodes, self.a, self.d = data, nodes, a, d
        self.softplus, self.p = _logistic(a, d, nodes)

    def expect(self, run: kernels.Run, chunks: Chunks, log_weights: Floats) -> Expectation:
        def work(first: int, last: int) -> tuple[float, Floats, Floats, Floats]:
            seen, theta_right, mass = np.zeros_like(self.p), np.zeros_like(self.a), np.zeros_like(log_weights)
            loglik = kernels.expected_counts(
                first,
                last,
                *self.data.layout,
                self.a,
                self.softplus,
                self.nodes,
                log_weights,
                seen,
                theta_right,
                mass,
            )
            return loglik, seen, theta_right, mass

        parts = run(work, chunks)
        loglik = float(self.d @ self.data.correct) + sum(part[0] for part in parts)
        seen, theta_right, mass = (sum(part[k] for part in parts) for k in (1, 2, 3))
        expected = seen * self.p
        weight = expected * (1.0 - self.p)
        gradient = np.stack([theta_right - expected @ self.nodes, self.data.correct - expected.sum(axis=1)])
        off = weight @ self.nodes
        blocks = np.stack([weight @ self.nodes**2, off, off, weight.sum(axis=1)], axis=1).reshape(-1, 2, 2)
        association = theta_right - self.data.correct / self.data.n * (seen @ self.nodes)
        return Expectation(loglik, gradient, blocks, blocks, mass, association)

    def lost(self, run: kernels.Run, chunks: Chunks, log_weights: Floats, latent: Floats) -> Floats:
        """Σ_i Cov(complete-data score | pattern i), shape (2J + 2G, 2J + 2G); `latent` (2, G, Q) are the scores of
        the groups' means and log SDs."""
        size = self.K * len(self.a) + 2 * len(log_weights)
        asked = np.stack([self.nodes * self.p, self.p])

        def work(first: int, last: int) -> Floats:
            out = np.zeros((size, size))
            kernels.missing_information(
                first,
                last,
                *self.data.layout,
                self.a,
                self.softplus,
                self.nodes,
                log_weights,
                asked,
                latent,
                out,
            )
            return out

        parts = run(work, _affordable(self.data, chunks, size * size))
        half = parts.pop()
        while parts:
            half += parts.pop()
        return half + half.T

    def lost_blocks(self, run: kernels.Run, chunks: Chunks, log_weights: Floats) -> Floats:
        """Shape (J, 2, 2): each item's own block of `lost`."""
        log_odds = self.a[:, None] * self.nodes + self.d[:, None]
        scores = np.broadcast_to(np.stack([self.nodes, np.ones_like(self.nodes)])[:, None], (2, *self.p.shape))
        tables = (log_odds, self.softplus)
        return _lost_blocks(run, chunks, self.data, tables, log_weights, self.p, scores)


class Guessing:
    """P = c + (1 − c)L with L = 1/(1 + exp(−(aθ + d))); c may be 0 for some items."""

    K = 3

    def __init__(self, data: Data, nodes: Floats, a: Floats, d: Floats, logit_c: Floats) -> None:
        self.data, self.nodes = data, nodes
        softplus, logistic = _logistic(a, d, nodes)
        c, rest = expit(logit_c)[:, None], expit(-logit_c)[:, None]
        self.c, self.logistic = c, logistic
        self.p = c + rest * logistic
        self.q = rest * np.exp(-softplus)
        with np.errstate(divide="ignore"):
            log_c = np.log(c)
        log_right = np.logaddexp(log_c, np.log(rest) + a[:, None] * nodes + d[:, None] - softplus)
        log_wrong = np.log(rest) - softplus
        flip = data.flipped[:, None]
        self.log_odds = np.where(flip, log_wrong - log_right, log_right - log_wrong)
        self.log_rest = -np.where(flip, log_right, log_wrong)
        with np.errstate(divide="ignore", invalid="ignore"):
            by_eta = np.where(c > 0, logistic / self.p, 1.0)
            by_c = np.where(c > 0, c / self.p, 0.0)
        self.scores = np.stack([by_eta * nodes, by_eta, by_c])
        self.listed_p = np.where(flip, self.q, self.p)
        self.listed_scores = np.where(flip, -self.scores, self.scores)

    def expect(self, run: kernels.Run, chunks: Chunks, log_weights: Floats) -> Expectation:
        def work(first: int, last: int) -> tuple[float, Floats, Floats, Floats]:
            seen, listed, mass = np.zeros_like(self.p), np.zeros_like(self.p), np.zeros_like(log_weights)
            loglik = kernels.expected_counts_with_guessing(
                first, last, *self.data.layout, self.log_odds, self.log_rest, log_weights, seen, listed, mass
            )
            return loglik, seen, listed, mass

        parts = run(work, chunks)
        seen, listed, mass = (sum(part[k] for part in parts) for k in (1, 2, 3))
        residual = listed - seen * self.listed_p
        residual = np.where(self.data.flipped[:, None], -residual, residual)
        spread = seen * self.p * self.q
        gradient = np.einsum("kjq,jq->kj", self.scores, residual)
        information = np.einsum("kjq,mjq,jq->jkm", self.scores, self.scores, spread)
        curvature = information - np.einsum("kmjq,jq->jkm", self._bends(), residual)
        right = residual + seen * self.p
        association = right @ self.nodes - self.data.correct / self.data.n * (seen @ self.nodes)
        loglik = sum(part[0] for part in parts)
        return Expectation(loglik, gradient, information, curvature, mass, association)

    def _bends(self) -> Floats:
        """Shape (3, 3, J, Q): derivatives of the scores V. With v = L/P and u = c/P: ∂v/∂η = vu(1 − L),
        ∂v/∂logit c = ∂u/∂η = −vu(1 − P), ∂u/∂logit c = vu(1 − c)."""
        product = self.scores[1] * self.scores[2]
        by_eta, both, by_c = product * (1 - self.logistic), -product * self.q, product * (1 - self.c)
        theta = self.nodes
        return np.stack(
            [
                np.stack([by_eta * theta**2, by_eta * theta, both * theta]),
                np.stack([by_eta * theta, by_eta, both]),
                np.stack([both * theta, both, by_c]),
            ]
        )

    def lost(self, run: kernels.Run, chunks: Chunks, log_weights: Floats, latent: Floats) -> Floats:
        """As `Logistic.lost`, shape (3J + 2G, 3J + 2G)."""
        J, Q = self.p.shape
        size = self.K * J + 2 * len(log_weights)
        asked = self.listed_scores * self.listed_p

        def work(first: int, last: int) -> tuple[Floats, Floats]:
            out, together = np.zeros((size, size)), np.zeros((J, J, Q))
            kernels.missing_information_with_guessing(
                first,
                last,
                *self.data.layout,
                self.log_odds,
                self.log_rest,
                log_weights,
                self.listed_scores,
                asked,
                latent,
                together,
                out,
            )
            return out, together

        parts = run(work, _affordable(self.data, chunks, size * size + J * J * Q))
        half, together = parts.pop()
        while parts:
            more, pairs = parts.pop()
            half += more
            together += pairs
        together[np.arange(J), np.arange(J)] *= 0.5
        for k, one in enumerate(self.listed_scores):
            for m, other in enumerate(self.listed_scores):
                half[k * J : (k + 1) * J, m * J : (m + 1) * J] += np.einsum("jq,jlq,lq->jl", one, together, other)
        return half + half.T

    def lost_blocks(self, run: kernels.Run, chunks: Chunks, log_weights: Floats) -> Floats:
        """Shape (J, 3, 3): each item's own block of `lost`."""
        tables = (self.log_odds, self.log_rest)
        return _lost_blocks(run, chunks, self.data, tables, log_weights, self.listed_p, self.listed_scores)


def _lost_blocks(
    run: kernels.Run,
    chunks: Chunks,
    data: Data,
    tables: tuple[Floats, Floats],
    log_weights: Floats,
    p: Floats,
    scores: Floats,
) -> Floats:
    scores = np.require(scores, requirements=["C", "W"])

    def work(first: int, last: int) -> Floats:
        out = np.zeros((len(p), len(scores), len(scores)))
        kernels.missing_blocks(first, last, *data.layout, *tables, log_weights, p, scores, out)
        return out

    upper = sum(run(work, chunks))
    return upper + np.triu(upper, 1).transpose(0, 2, 1)


def _affordable(data: Data, chunks: Chunks, numbers: int) -> Chunks:
    """So many chunks that their accumulators of so many numbers each stay within INFORMATION_BYTES."""
    return kernels.cut(data.cost, min(len(chunks), max(1, INFORMATION_BYTES // (8 * numbers))))


def _logistic(a: Floats, d: Floats, theta: Floats) -> tuple[Floats, Floats]:
    softplus, p = np.empty((len(a), len(theta))), np.empty((len(a), len(theta)))
    kernels.logistic_table(a, d, theta, softplus, p)
    return softplus, p
