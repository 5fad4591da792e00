"""The filter of an ability that moves, on a lattice of nodes: what its compiled loop works on.

Belongs here: nodes, and curves at them. Does not belong here: what is made of a posterior (`moving_ability`).

The posterior stands on nodes in a window that holds all but 1e-15 of it, .15 SDs of the population apart, and half as
far, and again, where its SD is less than 1.5 of that; the logarithm of weights is interpolated. Growth moves the nodes'
origin by its mean. Curves are known .15 SDs apart, and between that interpolated by polynomials through ten nodes: a
day's log-likelihood is off by less than 1e-8 for each answer where a ≤ 2/SD. A walk of variance v moves v/h² of each
node's mass to its two neighbours, h away, in equal parts of at most ½: mean and variance are exact at any h. (A normal
density at nodes so far apart keeps next to nothing of a variance of .05².) Where a day's answers are so unlikely that
more than 1e-9 of the posterior lies at an end of the window, the learner is filtered again on all nodes. So the result
depends on the answers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import next_fast_len

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.movement import WEEK, Movement
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring import filter_kernels
from irt_psychometrics.scoring.abilities import Curves

STEP = 0.15
"""Distance of the nodes, in SDs of the population, from which those of other levels are halved."""
_FINEST = 4
"""The last level: 300 nodes in .45 SDs, for posteriors of an SD from .014 on."""
_REACH = 80
"""Steps to either side of the population's mean, as far as windows go: 12 of its SDs."""
_SMOOTHED = 6.0
"""SDs of an occasion's own deviation to either side, as far as its likelihood is smoothed."""


class OccasionAnswers(NamedTuple):
    """The answers of n learners that say something, by learner and day: learner i's from start[i] on, on `day`, their
    rows of the tables of curves, and their places among R responses. Days count from that of the earliest response."""

    start: Ints
    day: Ints
    row: npt.NDArray[np.int32]
    place: npt.NDArray[np.intp] | slice

    @classmethod
    def from_responses(cls, responses: Responses, day: Ints, curves: Curves) -> OccasionAnswers:
        row = curves.rows(responses)
        first_day = int(day.min()) if day.size else 0
        person, day, place = responses.person, np.asarray(day, dtype=np.int64) - first_day, None
        usable = curves.usable[responses.item]
        if not usable.all():
            place = np.flatnonzero(usable)
            person, day, row = person[place], day[place], row[place]
        if np.any((np.diff(day) < 0) & (np.diff(person) == 0)):
            order = np.lexsort((day, person))
            day, row = day[order], row[order]
            place = order if place is None else place[order]
        start = np.searchsorted(person, np.arange(responses.n_persons + 1))
        return cls(start, day, row, slice(None) if place is None else place)


@dataclass(frozen=True)
class Lattice:
    """Nodes, the population on them, and how ability moves in steps; see `filter_kernels.filter_days`."""

    population: Population
    movement: tuple[float, float, float, float]
    taps: Floats
    taps_start: Ints
    margin: int

    @classmethod
    @lru_cache(maxsize=8)
    def from_population(cls, population: Population, movement: Movement) -> Lattice:
        step = STEP * population.sd
        alone = movement.occasion_variance / step**2
        moves = movement.growth / WEEK / step, WEEK, movement.variance / WEEK / step**2, alone
        taps = [_taps(alone * 4**level) for level in range(_FINEST + 1)]
        # beyond a window a day's curve must be known to be smoothed there, and looked up between nodes
        margin = int(np.ceil(_SMOOTHED * np.sqrt(alone))) + filter_kernels.INTERPOLATION_NODES + 1
        return cls(population, moves, np.concatenate(taps), np.cumsum([0, *map(len, taps)]), margin)

    @property
    def step(self) -> float:
        return STEP * self.population.sd

    @property
    def nodes(self) -> Floats:
        """Shape (T,), at whole steps: where curves must be known."""
        far = _REACH + self.margin + 2
        nodes: Floats = self.population.mean + self.step * np.arange(-far, far + 1.0)
        return nodes

    def prior(self, start: Population, *, whole: bool) -> tuple[Floats, int, int]:
        """Weights (N,) of a population on nodes of level 0, and first and last + 1 place of their window: of all nodes
        if `whole`."""
        half = (_REACH + self.margin << _FINEST) + 2
        weights, nodes = np.zeros(2 * half + 1), np.arange(-_REACH, _REACH + 1)
        log_density = start.log_density(self.nodes[self.margin + 2 : -self.margin - 2])
        here = np.exp(log_density - log_density.max())
        here /= here.sum()
        mass = np.minimum(np.cumsum(here), np.cumsum(here[::-1])[::-1])
        kept = nodes[(mass >= filter_kernels.TRIMMED) | whole]
        weights[half + nodes] = here
        return weights, half + int(kept[0]), half + int(kept[-1]) + 1


def _taps(variance: float) -> Floats:
    """What n steps of a walk of three points make of one node, n the least with variance/n ≤ ½: shape (2r + 1,), of at
    most `_SMOOTHED` SDs to either side, and at least one node."""
    n = int(np.ceil(2 * variance))
    if n == 0:
        return np.ones(1)
    size = next_fast_len(2 * n + 1, real=True)
    of_step = 1 - variance / n * (1 - np.cos(2 * np.pi * np.arange(size // 2 + 1) / size))
    found = np.fft.irfft(of_step**n, size)[: n + 1]
    half = found[: 1 + max(1, int(_SMOOTHED * np.sqrt(variance)))]
    both = np.concatenate([half[:0:-1], half])
    return both / both.sum()


class Filtered(NamedTuple):
    """What the filter finds of n learners, as its compiled loop fills it: `found` (n,) says how it went."""

    theta: Floats
    se: Floats
    log_likelihood: Floats
    share: Floats
    fade: Floats
    found: npt.NDArray[np.int8]

    @classmethod
    def before_answers(cls, answers: OccasionAnswers, population: Population) -> Filtered:
        """Before any answer."""
        n = len(answers.start) - 1
        theta, se, fade = (np.full(n, float(x)) for x in (population.mean, population.sd, 1.0))
        return cls(theta, se, np.zeros(n), np.ones(len(answers.row)), fade, np.zeros(n, dtype=np.int8))


def filtered(answers: OccasionAnswers, curves: Curves, lattice: Lattice, threads: int | None) -> Filtered:
    """Filter every learner from the lattice's population on."""
    into = Filtered.before_answers(answers, lattice.population)
    table = curves.table(answers.row, lattice.nodes)
    learners = np.arange(len(answers.start) - 1)
    filter_into(into, answers, table, lattice, lattice.population, learners, threads)
    return into


def filter_into(
    into: Filtered,
    answers: OccasionAnswers,
    table: Floats,
    lattice: Lattice,
    start: Population,
    learners: Ints,
    threads: int | None,
) -> None:
    """Filter these learners from a population on. If a window is too small, filter the learner again on all nodes."""
    count = np.diff(answers.start)
    persons = learners[count[learners] > 0]
    for whole in (False, True):
        if not persons.size:
            return
        prior, cost = lattice.prior(start, whole=whole), count[persons]
        work = partial(_filter_chunk, into, answers, table, lattice, prior, persons, whole)
        with kernels.runner(threads) as run_on:
            run_on(work, kernels.cut(cost, min(64, 1 + int(cost.sum()) // 50_000)))
        persons = persons[into.found[persons] == filter_kernels.TRUNCATED]


def _filter_chunk(
    into: Filtered,
    answers: OccasionAnswers,
    table: Floats,
    lattice: Lattice,
    prior: tuple[Floats, int, int],
    persons: Ints,
    whole: bool,
    first: int,
    last: int,
) -> None:
    steps = (
        (lattice.population.mean, lattice.step),
        lattice.movement,
        lattice.taps,
        lattice.taps_start,
        _REACH,
        lattice.margin,
    )
    rows = (answers.start, answers.day, answers.row)
    filter_kernels.filter_days(first, last, persons, rows, table, steps, int(whole), prior, tuple(into))
