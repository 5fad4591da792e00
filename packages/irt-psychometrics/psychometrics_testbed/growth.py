"""Learners who grow within a window while they answer its items, each at their own pace, in a common or own order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.responses import Responses


@dataclass(frozen=True)
class World:
    """Responses, days since the learner's first response, shape (R,), and true b, shape (J,)."""

    responses: Responses
    days: Floats
    b: Floats


def world(
    seed: int,
    growth: float = 0.0,
    learners: int = 1500,
    items: int = 40,
    span: float = 30.0,
    *,
    growth_sd: float = 0.0,
    order: str = "one",
    paces: float = 1.5,
    of_ability: float = 0.0,
    easy_first: bool = False,
) -> World:
    """A 2PL with ln a ~ N(0, .3²), b and θ ~ N(0, 1), all items answered by all learners.

    Parameters
    ----------
    growth, growth_sd
        mean and SD over learners of the growth of θ in `span` days.
    span
        days from the first item to the last at a pace of 1.
    order
        order of the items: `one` for all learners or each learner's `own`.
    paces
        slowest pace. Log paces are spread evenly between it and its inverse.
    of_ability
        correlation of speed and ability.
    easy_first
        whether items are ordered by b.
    """
    rng = np.random.default_rng(seed)
    a, b, theta = np.exp(rng.normal(0, 0.3, items)), rng.normal(size=items), rng.standard_normal(learners)
    b = np.sort(b) if easy_first else b
    position = np.tile(np.arange(items), (learners, 1))
    if order == "own":
        position = np.argsort(rng.random((learners, items)), axis=1)
    fast = of_ability * theta + np.sqrt(1 - of_ability**2) * rng.standard_normal(learners)
    pace = paces ** (1 - 2 * np.argsort(np.argsort(fast)) / (learners - 1))
    days = pace[:, None] * np.arange(items) / (items - 1) * span
    gain = growth + growth_sd * rng.standard_normal((learners, 1))
    right = rng.random((learners, items)) < expit(a[position] * (theta[:, None] + gain * days / span - b[position]))
    person = np.repeat(np.arange(learners, dtype=np.int32), items)
    names = tuple(f"i{j}" for j in range(items))
    responses = Responses(person, position.ravel().astype(np.int32), right.ravel().astype(np.int8), learners, names)
    return World(responses, days.ravel(), b)
