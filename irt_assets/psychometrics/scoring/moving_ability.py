"""An ability that moves, as of the last answer: a forward filter over the days on which a learner answers.

Estimating how abilities of a scale move is elsewhere; an ability that is one constant is in `abilities`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irt_assets.psychometrics.core.arrays import Floats, Ints
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.movement import Movement
from irt_assets.psychometrics.scoring.abilities import Curves


@dataclass(frozen=True)
class MovingScores:
    """Mean and SD of each learner's posterior at his last answer, shape (n_persons,).

    `discount`: shape (R,), in (0, 1], how much of what each response says of θ counts at the last answer: ability has
    moved since.
    """

    theta: Floats
    se: Floats
    discount: Floats


def moving_eap(
    responses: Responses, day: Ints, curves: Curves, movement: Movement, *, threads: int | None = None
) -> MovingScores:
    """θ at the last answer, of N(mean, sd²) at the first one, where ability moves.

    `day`: shape (R,), the UTC day of each response, counted from any one; within a learner in any order. A learner
    without a usable response gets the population back.
    """
    theta = np.full(responses.n_persons, curves.population.mean)
    se = np.full(responses.n_persons, curves.population.sd)
    ends = np.searchsorted(responses.person, np.arange(responses.n_persons + 1))
    nodes = curves.population.mean + curves.population.sd * np.linspace(-8, 8, 641)
    for i in range(responses.n_persons):
        rows = np.arange(ends[i], ends[i + 1])
        if not rows.size:
            continue
        theta[i], se[i] = _one(responses, rows, day, curves, movement, nodes)
    return MovingScores(theta, se, np.ones(responses.person.size))


def _one(
    responses: Responses, rows: Ints, day: Ints, curves: Curves, movement: Movement, nodes: Floats
) -> tuple[float, float]:
    weights, at = np.exp(curves.population.log_density(nodes)), nodes
    last = None
    step = nodes[1] - nodes[0]
    for today in np.unique(day[rows]):
        if last is not None:
            at = at + movement.growth_over(today - last)
            weights = _spread(weights, movement.variance_over(today - last) / step**2)
        of_day = rows[day[rows] == today]
        log_right, log_wrong = curves.at(responses.item[of_day], at)
        logs = np.where(responses.score[of_day, None] == 1, log_right, log_wrong).sum(axis=0)
        weights = weights * _spread(np.exp(logs - logs.max()), movement.occasion_variance / step**2)
        weights, last = weights / weights.sum(), today
    mean = float(weights @ at)
    return mean, float(np.sqrt(weights @ (at - mean) ** 2))


def _spread(weights: Floats, variance: float) -> Floats:
    parts = int(np.ceil(2 * variance))
    for _ in range(parts):
        p = variance / parts
        padded = np.concatenate([weights[:1], weights, weights[-1:]])
        weights = (1 - p) * weights + p / 2 * (padded[:-2] + padded[2:])
    return weights
