"""Simulated items scored 0 … m: their true parameters, and scores drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.logistic import softmax

STEP_DISTANCE, STEP_SD = 0.8, 0.25
"""Mean distance of an item's neighbouring steps, and the SD of each step; some items have disordered steps."""


@dataclass(frozen=True)
class ScoredItems:
    """J items of a generalised partial credit model, parametrised as `model_families.PartialCreditModel`.

    Attributes
    ----------
    a
        Shape (J,), slope of one point.
    b
        Shape (J,), θ at which the lowest and the highest score are equally likely.
    t
        Shape (J, C), parameters of the scores; −∞ for scores that an item cannot have or that exceed its maximum.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.simulation import ScoredItems
    >>> items = ScoredItems.draw(1, [(0, 1, 2)] * 3, a=np.ones(3), b=np.zeros(3))
    >>> items.matrix(2, np.zeros(100)).shape
    (100, 3)
    """

    a: Floats
    b: Floats
    t: Floats

    @classmethod
    def draw(
        cls, random_state: int | np.random.Generator, scores: Sequence[Sequence[int]], a: Floats, b: Floats
    ) -> Self:
        """Draw items with random steps.

        Parameters
        ----------
        random_state
            A seed or a NumPy generator.
        scores
            The possible scores of each of the J items, ascending from 0, such as (0, 1, 2), or (0, 2).
        a
            Shape (J,), slopes of comparable 0/1 items. A point of an item scored to m has the slope a/√m.
        b
            Shape (J,), θ at which the lowest and the highest score are equally likely.

        Returns
        -------
        ScoredItems
            The items with their true parameters.
        """
        rng, maximum = np.random.default_rng(random_state), np.array([item[-1] for item in scores])
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
        """The maximum score of each item, shape (J,)."""
        return self.t.shape[1] - 1 - np.isfinite(self.t)[:, ::-1].argmax(axis=1)

    def scores(self, uniform: Floats, away: Floats, item: Ints) -> npt.NDArray[np.int8]:
        """Compute the scores of R answers from uniform random numbers.

        With the same random number, a person with higher θ does not have a lower score.

        Parameters
        ----------
        uniform
            Shape (R,), random numbers in [0, 1).
        away
            Shape (R,), θ − b of each answer.
        item
            Shape (R,), the item of each answer.

        Returns
        -------
        array of shape (R,)
            The scores, int8.
        """
        return (uniform[:, None] < self.at_least(away, item)[:, 1:]).sum(axis=1).astype(np.int8)

    def matrix(self, random_state: int | np.random.Generator, theta: Floats) -> Floats:
        """Draw scores of N persons on all items.

        Parameters
        ----------
        random_state
            A seed or a NumPy generator.
        theta
            Shape (N,), abilities.

        Returns
        -------
        array of shape (N, J)
            The scores, as for `Responses.from_wide`.
        """
        rng, item = np.random.default_rng(random_state), np.tile(np.arange(len(self.a)), len(theta))
        away = np.repeat(theta, len(self.a)) - self.b[item]
        return self.scores(rng.random(item.size), away, item).reshape(len(theta), -1).astype(float)

    def at_least(self, away: Floats, item: Ints) -> Floats:
        """Compute P(score ≥ k) of R answers.

        Parameters
        ----------
        away
            Shape (R,), θ − b of each answer.
        item
            Shape (R,), the item of each answer.

        Returns
        -------
        array of shape (R, C)
            The probabilities for k = 0, 1, …
        """
        points = np.arange(self.t.shape[1])
        p: Floats = softmax((self.a[item] * away)[:, None] * points + self.t[item], axis=1)
        return p[:, ::-1].cumsum(axis=1)[:, ::-1]
