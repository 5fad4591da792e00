"""Learners who grow within a window while they meet its items, at paces of their own, in one order or in others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.responses import Responses


@dataclass(frozen=True)
class World:
    """The responses, the days (R,) of each since the learner's first, and true b, shape (J,)."""

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

    growth, growth_sd: mean and SD over learners, in a `span` of days, which is the time from the first item to the last
    at a pace of 1. order: of the items, `one` for all or each learner's `own`; easy_first: by b. paces: the slowest;
    the others are spread evenly to its inverse, by their logarithm. of_ability: the correlation of fast and able.
    """
    rng = np.random.default_rng(seed)
    a, b, theta = np.exp(rng.normal(0, 0.3, items)), rng.normal(size=items), rng.standard_normal(learners)
    b = np.sort(b) if easy_first else b
    place = np.tile(np.arange(items), (learners, 1))
    if order == "own":
        place = np.argsort(rng.random((learners, items)), axis=1)
    fast = of_ability * theta + np.sqrt(1 - of_ability**2) * rng.standard_normal(learners)
    pace = paces ** (1 - 2 * np.argsort(np.argsort(fast)) / (learners - 1))
    days = pace[:, None] * np.arange(items) / (items - 1) * span
    gain = growth + growth_sd * rng.standard_normal((learners, 1))
    right = rng.random((learners, items)) < expit(a[place] * (theta[:, None] + gain * days / span - b[place]))
    person = np.repeat(np.arange(learners, dtype=np.int32), items)
    names = tuple(f"i{j}" for j in range(items))
    responses = Responses(person, place.ravel().astype(np.int32), right.ravel().astype(np.int8), learners, names)
    return World(responses, days.ravel(), b)
