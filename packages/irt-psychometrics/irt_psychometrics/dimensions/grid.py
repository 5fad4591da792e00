"""Nodes of the primary and specific dimensions, and how many a model needs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.quadrature import Grid

LIMIT = 5.5
"""Range of the nodes; 4 of 10⁸ abilities are beyond."""
FEWEST = 15
MOST = (121, 61, 31)
"""Bounds of the number of nodes a dimension, the upper one for each number of primary dimensions."""
NARROWEST = 0.75
"""Least SD of a posterior in every direction of the grid, in distances between nodes. The error of a person's
likelihood is then about 2·exp(−2π²·.75²), 3e-5 (Poisson's sum formula), and of either sign."""


@dataclass(frozen=True)
class TwoTierGrid:
    """Equally spaced nodes.

    Attributes:
        primary: shape (T, P), the product grid of the primary dimensions.
        specific: shape (Q,), the nodes of each specific dimension; one node at 0 if there is no such dimension.
    """

    primary: Floats
    specific: Floats

    @classmethod
    def from_nodes(cls, n_primary: int, nodes: tuple[int, int], limit: float = LIMIT) -> Self:
        """Build the product grid from the numbers of nodes of each primary and of each specific dimension."""
        axis = Grid.symmetric(nodes[0], limit).nodes
        product = np.stack(np.meshgrid(*[axis] * n_primary, indexing="ij"), axis=-1).reshape(-1, n_primary)
        return cls(product, Grid.symmetric(nodes[1], limit).nodes if nodes[1] > 1 else np.zeros(1))

    @property
    def joint(self) -> Floats:
        """All nodes of the primary dimensions and of one specific dimension, shape (T · Q, P + 1)."""
        T, Q = len(self.primary), len(self.specific)
        return np.column_stack([np.repeat(self.primary, Q, axis=0), np.tile(self.specific, T)])

    @property
    def log_specific(self) -> Floats:
        """Log weights of the specific nodes, shape (Q,)."""
        return Grid(self.specific).log_weights()

    def log_primary(self, correlations: Floats) -> Floats:
        """Compute log weights of the primary nodes, shape (T,), for the correlations (P, P)."""
        logs = -0.5 * np.einsum("tp,pq,tq->t", self.primary, np.linalg.inv(correlations), self.primary)
        logs -= logs.max()
        return logs - np.log(np.exp(logs).sum())


def enough_nodes(posteriors: Floats, n_primary: int) -> tuple[int, int]:
    """Compute the numbers of nodes of each primary and of each specific dimension that integrals need.

    `posteriors` (K, D, D) are covariances of the narrowest posteriors. The error of a sum over a lattice depends on the
    variances of integer combinations of the dimensions, of which those with factors −1, 0 and 1 matter.
    """
    variances = np.einsum("kdd->kd", posteriors).min(axis=0)
    D = len(variances)
    steps = np.sqrt(variances) / NARROWEST
    steps[:n_primary], steps[n_primary:] = steps[:n_primary].min(), steps[n_primary:].min(initial=np.inf)
    factors = np.array([*itertools.product((-1, 0, 1), repeat=min(D, n_primary + 1))])
    factors = factors[np.any(factors != 0, axis=1)]
    least = 1.0
    for s in range(n_primary, max(D, n_primary + 1)):
        own = [*range(n_primary), s][: factors.shape[1]]
        scaled = factors / steps[own]
        of_direction = np.einsum("fd,kde,fe->fk", scaled, posteriors[:, own][:, :, own], scaled)
        least = min(least, float(np.sqrt(of_direction.min())) / NARROWEST)
    most = MOST[n_primary - 1]
    numbers = [min(max(1 + 2 * math.ceil(LIMIT / (least * step)), FEWEST), most) for step in steps[[0, -1]].tolist()]
    return numbers[0], numbers[1] if n_primary < D else 1
