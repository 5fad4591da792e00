"""The filter of a moving ability on a lattice of nodes.

The posterior is represented on nodes in a window that contains all but 1e-15 of it. Nodes are .15 SDs of the population
apart. While the posterior's SD is less than 1.5 times this distance, the distance is halved and the logarithm of the
weights is interpolated. Growth moves the origin of the nodes.

Curves are given at nodes .15 SDs apart and interpolated between them by polynomials through ten nodes: for a ≤ 2/SD,
the error of a day's log-likelihood is below 1e-8 for each answer. A walk of variance v moves v/h² of each node's mass
to its two neighbours at distance h, in steps of at most ½, so mean and variance are exact for any h. (A normal density
at such nodes would lose nearly all of a variance of .05².) If a day's answers are so unlikely that more than 1e-9 of
the posterior lies at an end of the window, the learner is filtered again on all nodes. So the result depends on the
answers alone.
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
"""Distance between nodes of level 0 in SDs of the population; each further level halves it."""
_FINEST = 4
"""The last level, for posteriors with an SD of at least .014 SDs of the population."""
_REACH = 80
"""Number of steps on either side of the population's mean that windows can reach, 12 of its SDs."""
_SMOOTHED = 6.0
"""Range over which an occasion's likelihood is smoothed, in SDs of the occasion's deviation on either side."""


class OccasionAnswers(NamedTuple):
    """The answers of n learners to items with a curve, sorted by learner and day.

    Attributes:
        start: shape (n + 1,), the first answer of each learner.
        day: the day of each answer, counted from the day of the earliest response.
        row: the row of each answer in the table of curves.
        place: the place of each answer among the R responses.
    """

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
    """The nodes, the population, and the movement of ability in steps; see `filter_kernels.filter_days`."""

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
        # smoothing at a window's end and interpolation between nodes need a day's curve beyond the window
        margin = int(np.ceil(_SMOOTHED * np.sqrt(alone))) + filter_kernels.INTERPOLATION_NODES + 1
        return cls(population, moves, np.concatenate(taps), np.cumsum([0, *map(len, taps)]), margin)

    @property
    def step(self) -> float:
        return STEP * self.population.sd

    @property
    def nodes(self) -> Floats:
        """The nodes, at whole steps, at which curves must be given, shape (T,)."""
        far = _REACH + self.margin + 2
        return self.population.mean + self.step * np.arange(-far, far + 1.0)

    def prior(self, start: Population, *, whole: bool) -> tuple[Floats, int, int]:
        """Weights (N,) of a population on nodes of level 0, and the first and last + 1 place of their window.

        If `whole`, the window includes all nodes.
        """
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
    """The distribution of n three-point steps from one node, n the smallest number with variance/n ≤ ½.

    The shape is (2r + 1,): at most `_SMOOTHED` SDs on either side, and at least one node unless the variance is 0.
    """
    n = int(np.ceil(2 * variance))
    if n == 0:
        return np.ones(1)
    size = next_fast_len(2 * n + 1, real=True)
    of_step = 1 - variance / n * (1 - np.cos(2 * np.pi * np.arange(size // 2 + 1) / size))
    found = np.fft.irfft(of_step**n, size)[: n + 1]
    half = found[: 1 + max(1, int(_SMOOTHED * np.sqrt(variance)))]
    both = np.concatenate([half[:0:-1], half])
    return both / both.sum()


class FilterResults(NamedTuple):
    """Results of the filter for n learners, filled by its compiled loop; see `filter_kernels.filter_days`."""

    theta: Floats
    se: Floats
    log_likelihood: Floats
    share: Floats
    fade: Floats
    found: npt.NDArray[np.int8]

    @classmethod
    def before_answers(cls, answers: OccasionAnswers, population: Population) -> FilterResults:
        """The results before any answer: mean and SD of the population."""
        n = len(answers.start) - 1
        theta, se, fade = (np.full(n, float(x)) for x in (population.mean, population.sd, 1.0))
        return cls(theta, se, np.zeros(n), np.ones(len(answers.row)), fade, np.zeros(n, dtype=np.int8))


def filter_learners(answers: OccasionAnswers, curves: Curves, lattice: Lattice, threads: int | None) -> FilterResults:
    """Filter every learner, starting from the lattice's population."""
    into = FilterResults.before_answers(answers, lattice.population)
    table = curves.table(answers.row, lattice.nodes)
    learners = np.arange(len(answers.start) - 1)
    filter_into(into, answers, table, lattice, lattice.population, learners, threads)
    return into


def filter_into(
    into: FilterResults,
    answers: OccasionAnswers,
    table: Floats,
    lattice: Lattice,
    start: Population,
    learners: Ints,
    threads: int | None,
) -> None:
    """Filter these learners, starting from the population `start`, and write the results into `into`.

    A learner whose window is too small is filtered again on all nodes.
    """
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
    into: FilterResults,
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
