"""Simulated items that are scored 0 … m: their true parameters, and scores drawn from them.

What belongs here: the items by themselves. What does not: who answers them and when, and which items of a bank they
are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.logistic import softmax

STEP_DISTANCE, STEP_SD = 0.8, 0.25
"""Mean distance of an item's neighbouring steps, and the SD by which each strays: some items have disordered steps."""


@dataclass(frozen=True)
class ScoredItems:
    """J items of a generalised partial credit model, as `model_families.PartialCreditModel` has them.

    Attributes:
        a: shape (J,), slope of one point. b: shape (J,), where the lowest and the highest score are equally likely.
        t: shape (J, C); −∞ for scores that an item cannot have, those above its maximum included.
    """

    a: Floats
    b: Floats
    t: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, scores: Sequence[Sequence[int]], a: Floats, b: Floats) -> Self:
        """`scores`: those that each of the J items can have, ascending from 0: (0, 1, 2), or (0, 2). `a`: shape (J,),
        slopes of 0/1 items that say as much of θ; a point of an item scored to m says 1/√m of it."""
        maximum = np.array([item[-1] for item in scores])
        slope, t = a / np.sqrt(maximum), np.full((len(scores), maximum.max(initial=1) + 1), -np.inf)
        for j, item in enumerate(scores):
            points = np.diff(item)
            steps = STEP_DISTANCE * np.arange(len(points)) + rng.normal(0, STEP_SD, len(points))
            steps -= points @ steps / maximum[j]
            t[j, list(item[1:-1])] = -slope[j] * np.cumsum(points * steps)[:-1]
            t[j, [item[0], item[-1]]] = 0.0
        return cls(slope, b, t)

    @property
    def max_scores(self) -> Ints:
        """Shape (J,)."""
        return self.t.shape[1] - 1 - np.isfinite(self.t)[:, ::-1].argmax(axis=1)

    def scores(self, uniform: Floats, away: Floats, item: Ints) -> npt.NDArray[np.int8]:
        """The score of R answers, from uniform numbers; `away` is θ − b of each, all of shape (R,). Learners with
        higher θ and the same number have no lower score."""
        return (uniform[:, None] < self.at_least(away, item)[:, 1:]).sum(axis=1).astype(np.int8)

    def matrix(self, rng: np.random.Generator, theta: Floats) -> Floats:
        """Scores of N learners on all items, shape (N, J), as `Responses.from_wide` takes them."""
        item = np.tile(np.arange(len(self.a)), len(theta))
        away = np.repeat(theta, len(self.a)) - self.b[item]
        return self.scores(rng.random(item.size), away, item).reshape(len(theta), -1).astype(float)

    def at_least(self, away: Floats, item: Ints) -> Floats:
        """P(score ≥ k), shape (R, C), of R answers to `item` (R,) where θ − b is `away` (R,)."""
        points = np.arange(self.t.shape[1])
        p: Floats = softmax((self.a[item] * away)[:, None] * points + self.t[item], axis=1)
        return p[:, ::-1].cumsum(axis=1)[:, ::-1]
