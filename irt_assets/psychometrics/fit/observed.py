"""Observed proportions correct by ability: what a response curve is held against. No estimation here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.arrays import Floats, Ints
from irt_assets.psychometrics.core.confidence import Z95


@dataclass(frozen=True)
class Observed:
    """Proportions correct of one item in G groups of learners of like ability; each array has shape (G,).

    Attributes:
        theta: mean ability of the group.
        proportion: share correct, 0 … 1.
        n: answers in the group.
    """

    theta: Floats
    proportion: Floats
    n: Ints

    def interval(self) -> tuple[Floats, Floats]:
        """95 % interval of each proportion (Wilson 1927), within 0 … 1 also where all or none are right."""
        n, p, z = np.maximum(self.n, 1), self.proportion, Z95
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return np.minimum(np.maximum(middle - half, 0.0), p), np.maximum(np.minimum(middle + half, 1.0), p)


def observed(theta: Floats, correct: npt.ArrayLike, *, groups: int = 8, fewest: int = 20) -> Observed:
    """Answers in groups of (nearly) equal size, from the least able to the ablest.

    theta: shape (n,), ability of whoever gave each answer, from other items than this: an item that helped to measure
    its learners agrees with itself. With a posterior mean the model's proportion of a group is its curve near the
    group's mean. correct: shape (n,), 0 or 1. There are fewer groups where one would have fewer than `fewest` answers;
    no answers give no groups.
    """
    theta, right = np.asarray(theta, dtype=float), np.asarray(correct, dtype=float)
    order = np.argsort(theta, kind="stable")
    parts = np.array_split(order, max(1, min(groups, theta.size // fewest))) if theta.size else []
    return Observed(
        np.array([theta[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([part.size for part in parts], dtype=np.int64),
    )
