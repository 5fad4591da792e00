"""Learners whose ability moves, and a slow reference filter on a fine, wide grid of equally spaced nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.movement import Movement
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring.abilities import Curves


@dataclass(frozen=True)
class Moving:
    """Responses with their days, and the abilities on these days, shape (learners, occasions)."""

    responses: Responses
    day: np.ndarray
    theta: np.ndarray

    def chosen(self, rows: np.ndarray) -> Moving:
        """Select these responses."""
        of = self.responses
        some = replace(of, person=of.person[rows], item=of.item[rows], score=of.score[rows])
        return Moving(some, self.day[rows], self.theta)


def answered(items: ItemCurves, theta: np.ndarray, days: np.ndarray, a_day: int, rng: np.random.Generator) -> Moving:
    """Simulate `a_day` answers to random dichotomous items on each day. `theta`: abilities of the learners (n, T)."""
    n, occasions = theta.shape
    item = rng.integers(0, len(items.a), (n, occasions, a_day))
    p = items.c[item] + (1 - items.c[item]) / (1 + np.exp(-(items.a[item] * theta[:, :, None] + items.d[item])))
    responses = Responses(
        np.repeat(np.arange(n), occasions * a_day).astype(np.int32),
        item.ravel().astype(np.int32),
        (rng.random(p.shape) < p).ravel().astype(np.int8),
        n,
        tuple(f"i{j}" for j in range(len(items.a))),
    )
    return Moving(responses, np.tile(np.repeat(days, a_day), n), theta)


def walked(
    n: int, days: np.ndarray, movement: Movement, rng: np.random.Generator, start: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """Abilities on the days, shape (n, T), including each day's own variation."""
    gaps = np.diff(days)
    steps = rng.normal(movement.growth_over(gaps), np.sqrt(movement.variance_over(gaps)), (n, len(gaps)))
    path = np.cumsum(np.column_stack([rng.normal(*start, n), steps]), axis=1)
    return path + rng.normal(0, np.sqrt(movement.occasion_variance), path.shape)


def slow_filter(
    responses: Responses, day: np.ndarray, curves: Curves, movement: Movement, nodes: int = 961, reach: float = 9.0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD of each learner's posterior at the last answer, two arrays of shape (n,).

    Steps are convolutions with a normal kernel on close nodes. Growth moves the nodes, at which curves are evaluated.
    """
    at_first = curves.population.mean + curves.population.sd * np.linspace(-reach, reach, nodes)
    step = at_first[1] - at_first[0]
    found = np.empty((2, responses.n_persons))
    row = curves.rows(responses)
    for i in range(responses.n_persons):
        mine = np.flatnonzero(responses.person == i)
        weights, at, last = np.exp(curves.population.log_density(at_first)), at_first, None
        for today in np.unique(day[mine]):
            if last is not None:
                at = at + movement.growth_over(today - last)
                weights = _spread(weights, movement.variance_over(today - last) / step**2)
            of_day = mine[day[mine] == today]
            logs = np.concatenate(curves.items.score_tables(at))[row[of_day]].sum(axis=0)
            weights = weights * _spread(np.exp(logs - logs.max()), movement.occasion_variance / step**2)
            weights, last = weights / weights.sum(), today
        mean = weights @ at
        found[:, i] = mean, np.sqrt(weights @ (at - mean) ** 2)
    return found[0], found[1]


def _spread(values: np.ndarray, variance: float) -> np.ndarray:
    """Convolve values at nodes with a normal density, using its Fourier transform. `variance` is in squared node
    spacings."""
    if variance == 0:
        return values
    n = len(values)
    padded = np.concatenate([np.full(n, values[0]), values, np.full(n, values[-1])])
    frequency = 2 * np.pi * np.fft.rfftfreq(3 * n)
    found = np.fft.irfft(np.fft.rfft(padded) * np.exp(-variance * frequency**2 / 2), 3 * n)[n : 2 * n]
    return np.where(found > 1e-14 * found.max(), found, 0.0)  # smaller values are rounding errors of the transform
