"""The grid of ability nodes: equally spaced nodes with normal weights."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats

WIDEST_STEP = 1.2
"""Largest distance between nodes in SDs of a posterior. At this distance the error of the rectangle rule is about
exp(−2π²/1.2²), 1e-6."""


@dataclass(frozen=True)
class Grid:
    """Q equally spaced, symmetric ability nodes, shape (Q,), on the θ scale.

    Bock & Aitkin (1981), eq. 13, with a rectangle rule: for a smooth integrand that is small at both ends its error
    falls faster than any power of the step, so 61 nodes on [−6, 6] are as accurate as Gauss-Hermite nodes.
    """

    nodes: Floats

    @classmethod
    def symmetric(cls, nodes: int = 61, limit: float = 6.0) -> Self:
        """A grid of `nodes` points on [−limit, limit]. Raises ValueError if there are fewer than 3."""
        if nodes < 3:
            raise ValueError(f"nodes must be at least 3, got {nodes}")
        return cls(np.linspace(-limit, limit, nodes))

    @classmethod
    def for_posterior_sd(cls, narrowest: float) -> Self:
        """A grid of 61 points on [−6, 6], or of more if a posterior with the SD `narrowest` needs them."""
        return cls.symmetric(max(61, 1 + 2 * math.ceil(6 / (WIDEST_STEP * narrowest))))

    def log_weights(self, mean: float = 0.0, sd: float = 1.0) -> Floats:
        """Log weights of the nodes, shape (Q,): the N(mean, sd²) density, normalised so that the weights sum to 1."""
        kernel = -0.5 * ((self.nodes - mean) / sd) ** 2
        top = kernel.max()
        return kernel - top - np.log(np.exp(kernel - top).sum())
