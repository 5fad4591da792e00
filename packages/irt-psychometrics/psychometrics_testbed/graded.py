"""Simulated items whose answers follow a graded response model, which is not the model that is fitted."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy.special import expit

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.simulation import ScoredItems


class GradedItems(ScoredItems):
    """Items of a graded response model (Samejima 1969) similar to the partial credit model with these parameters.

    For N(0, 1) learners, each score has the same share and the expected score the same mean slope.
    """

    def at_least(self, distance: Floats, item: Ints) -> Floats:
        slope, thresholds = self._graded
        return expit(slope[item, None] * (distance[:, None] - thresholds[item]))

    @cached_property
    def _graded(self) -> tuple[Floats, Floats]:
        """Slopes (J,), and θ at which P(score ≥ k) = ½, relative to b, shape (J, C). It is −∞ for k = 0."""
        grid, own = Grid.symmetric(), super()
        weights = np.exp(grid.log_weights())
        slopes, thresholds = np.empty_like(self.a), np.full_like(self.t, np.inf)
        thresholds[:, 0] = -np.inf
        for j, b in enumerate(self.b):
            at_least = own.at_least(grid.nodes - b, np.full(grid.nodes.size, j))[:, 1 : self.max_scores[j] + 1]
            rise = weights @ np.gradient(at_least.sum(axis=1), grid.nodes)

            def found(slope: Floats, shares: Floats = weights @ at_least) -> Floats:
                def excess(at: Floats) -> Floats:
                    missed: Floats = shares - weights @ expit(slope * np.subtract.outer(grid.nodes, at))
                    return missed

                return _bisected(excess, np.full(shares.size, -1e3), 1e3)

            def steeper(slope: Floats, found=found, rise=rise) -> Floats:  # type: ignore[no-untyped-def]
                p = expit(slope * np.subtract.outer(grid.nodes, found(slope)))
                steepness: Floats = np.atleast_1d(weights @ (slope * p * (1 - p)).sum(axis=1) - rise)
                return steepness

            slopes[j] = _bisected(steeper, np.array([0.05]), 20.0)[0]
            thresholds[j, 1 : self.max_scores[j] + 1] = found(slopes[j]) - b
        return slopes, thresholds


def _bisected(rising: Callable[[Floats], Floats], low: Floats, high: float) -> Floats:
    """Zeros of n increasing functions by bisection, shape (n,)."""
    above = np.full_like(low, high)
    for _ in range(60):
        middle = (low + above) / 2
        is_above = rising(middle) > 0
        low, above = np.where(is_above, low, middle), np.where(is_above, middle, above)
    return low
