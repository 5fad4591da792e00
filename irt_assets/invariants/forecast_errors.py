"""Errors with which abilities forecast later answers. The caller chooses abilities and answers (see `forecasts`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.polynomial.hermite_e import hermegauss

from irt_assets.common.arrays import Floats
from irt_psychometrics.scoring import Curves, Movement

Codes = npt.NDArray[np.integer[Any]]
NODES = 15
"""Nodes of the Gauss-Hermite rule over θ: curves with a ≤ 3 and SD ≤ 1 are integrated to 1e-3 or better."""


def forecast(curves: Curves, item: Codes, mean: Floats, variance: Floats) -> Floats:
    """P(correct) of answers by learners whose θ has the distribution N(mean, variance); shapes (R,).

    `item`: index among the items of the curves, each of which has two categories.
    """
    nodes, weights = hermegauss(NODES)
    found = np.zeros(item.size)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        found += weight * curves.items.moments_of(item, mean + node * np.sqrt(variance)).expected
    return found


def growth_since(movement: Movement, person: Codes, day: Codes, known_on: Floats) -> Floats:
    """Growth of θ from the day `known_on` to each of R answers; shapes (R,).

    Every day with answers of the person is an occasion, so growth continues for a week after each.
    """
    order = np.lexsort((day, person))
    first = np.diff(person[order], prepend=-1) != 0
    since = np.where(first, day[order] - known_on[order], np.diff(day[order], prepend=0))
    grown = np.cumsum(movement.growth_over(since))
    before = np.concatenate([[0.0], grown])[np.flatnonzero(first)]
    found = np.empty(day.size)
    found[order] = grown - before[np.cumsum(first) - 1]
    return found


@dataclass(frozen=True)
class Excess:
    """Log losses per answer of a forecast and of a reference, and the standard error, over learners, of their
    difference."""

    loss: float
    reference: float
    se: float

    @property
    def is_worse(self) -> bool:
        """Whether the first forecast is worse by more than two standard errors."""
        return self.loss - self.reference > 2 * self.se


def compare_losses(p: Floats, reference: Floats, score: Codes, person: Codes) -> Excess:
    """Compare two forecasts of the same answers. Shapes (R,); `score` is 0 or 1, `person` counts from 0."""
    losses = [-np.log(np.where(score == 1, forecast, 1 - forecast)) for forecast in (p, reference)]
    return Excess(float(losses[0].mean()), float(losses[1].mean()), _se(losses[0] - losses[1], person))


@dataclass(frozen=True)
class Share:
    """`n` answers with similar forecasts: the mean forecast, the share of right answers, and the standard error of
    their difference over learners."""

    n: int
    forecast: float
    observed: float
    se: float

    def differs(self, least: float) -> bool:
        """Whether forecast and share differ by more than `least` and by more than three standard errors."""
        return abs(self.observed - self.forecast) > max(least, 3 * self.se)


def by_decile(p: Floats, score: Codes, person: Codes) -> list[Share]:
    """Ten shares with equal numbers of answers, from the lowest to the highest forecasts. Needs at least 10 answers."""
    parts = np.array_split(np.argsort(p, kind="stable"), 10)
    return [
        Share(rows.size, float(p[rows].mean()), float(score[rows].mean()), _se(score[rows] - p[rows], person[rows]))
        for rows in parts
    ]


def _se(differences: Floats, person: Codes) -> float:
    """Standard error of the mean difference, with the answers of each learner as a cluster."""
    _, learner = np.unique(person, return_inverse=True)
    sums = np.bincount(learner, weights=differences - differences.mean())
    return float(np.sqrt(sums @ sums) / differences.size)
