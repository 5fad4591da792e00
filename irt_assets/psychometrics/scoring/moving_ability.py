"""An ability that moves, as of the last answer: mean and SD of a forward filter over the days with answers.

Estimating how abilities of a scale move is elsewhere; an ability that is one constant is in `abilities`, how the filter
does it in `moving_filter`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from irt_assets.psychometrics.core.arrays import Floats, Ints, Mask
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.movement import Movement
from irt_assets.psychometrics.scoring import filter_kernels
from irt_assets.psychometrics.scoring.abilities import Curves, information_in_testlets
from irt_assets.psychometrics.scoring.moving_filter import (
    Answers,
    Begun,
    Filtered,
    Lattice,
    filtered,
)

MOST_BYTES = 1940
"""A state that is kept has no more; the rest of 2 KiB is for hashes."""
_HEAD = struct.Struct("<BhHhHid")


@dataclass(frozen=True)
class MovingScores:
    """Mean and SD of each learner's posterior at his last answer, shape (n_persons,).

    Attributes:
        discount: shape (R,), in [0, 1], how much of what each response says of θ counts at the last answer: ability has
            moved since. The product of V/(V + q·Δt) over later occasions, V the posterior variance before the Δt that
            passed, and of 1/(1 + s²I), I the information of the response's own occasion (the Kalman filter's update of
            precisions). 1 for responses to items without a curve.
        start: shape (n_persons,), the same of the population at the first answer: 1/se² ≈ Σ discount·I + start/sd².
    """

    theta: Floats
    se: Floats
    discount: Floats
    start: Floats


def moving_eap(
    responses: Responses, day: Ints, curves: Curves, movement: Movement, *, threads: int | None = None
) -> MovingScores:
    """θ at the last answer, of the population at the first one, where ability moves.

    `day`: shape (R,), the UTC day of each response, counted from any one; within a learner in any order. A learner
    without a usable response gets the population back. `threads`, and what testlets with effects do to SEs, as in
    `eap_by`.
    """
    answers = Answers.of(responses, day, curves)
    found, _ = filtered(answers, curves, Lattice.of(curves.population, movement), threads)
    discount = np.ones(responses.n_responses)
    discount[answers.place] = found.share
    se = found.se
    if curves.effects is not None:
        pairs = information_in_testlets(responses, curves, found.theta, threads, discount)
        se = se * np.sqrt(1 + se**2 * curves.effects.sd**2 * pairs)
    return MovingScores(found.theta, se, discount, found.fade)


@dataclass(frozen=True)
class FilterState:
    """Where the filter of one learner stands after the answers of a day, to which more may come.

    Attributes:
        level: of the nodes, which are .15/2^level SDs of the population apart. node: the place of the first, counted
            from the population's mean; fraction: by what share of a node growth has moved them.
        weights: the posterior before that day's answers, at the nodes.
        day: of the last answers, as counted by the caller.
        step: the first of the places, .15 SDs apart and counted from the population's mean, for which the
            log_likelihood of that day's answers is given.
    """

    level: int
    node: int
    fraction: float
    weights: Floats
    day: int
    step: int
    log_likelihood: Floats

    def to_bytes(self) -> bytes:
        """At most `MOST_BYTES`."""
        numbers = self.level, self.node, len(self.weights), self.step, len(self.log_likelihood), self.day, self.fraction
        return _HEAD.pack(*numbers) + self.weights.tobytes() + self.log_likelihood.tobytes()

    @classmethod
    def from_bytes(cls, kept: bytes) -> FilterState:
        level, node, n, step, n_logs, day, fraction = _HEAD.unpack_from(kept)
        values = np.frombuffer(kept, dtype=np.float64, count=n + n_logs, offset=_HEAD.size)
        return cls(level, node, fraction, values[:n], day, step, values[n:])


@dataclass(frozen=True)
class Resumed:
    """One learner's θ and SE at his last answer; the discount of the answers given, shape (R,); `earlier`: how much of
    what was known before these still counts; and where the filter stands, None where that is too much to be kept."""

    theta: float
    se: float
    discount: Floats
    earlier: float
    state: FilterState | None


def filter_state(responses: Responses, day: Ints, curves: Curves, movement: Movement) -> Resumed:
    """One learner's θ as `moving_eap` gives it, without effects of testlets, and where the filter stands."""
    answers = Answers.of(responses, day, curves)
    lattice = Lattice.of(curves.population, movement)
    found, stands = filtered(answers, curves, lattice, threads=1)
    return _resumed(responses, answers, found, stands)


def resumed(state: FilterState, responses: Responses, day: Ints, curves: Curves, movement: Movement) -> Resumed | None:
    """The same from where the filter stood, with the answers that the learner has given since.

    None where it must begin anew, by `filter_state` with all answers: an answer is of an earlier day than the state, or
    too unlikely for what is kept. Population, movement and the parameters of items answered before must be the same;
    `curves` may be of other items.
    """
    answers = Answers.of(responses, day, curves, first_day=state.day)
    if np.any(answers.day < 0):
        return None
    lattice = Lattice.of(curves.population, movement)
    blank = lattice.begin(False)
    low, first = len(blank.weights) // 2 + state.node, len(blank.log_likelihood) // 2 + state.step
    high, end = low + len(state.weights), first + len(state.log_likelihood)
    blank.weights[low:high] = state.weights
    blank.log_likelihood[first:end] = state.log_likelihood
    begun = Begun(state.level, low, high, state.fraction, 0, first, end, blank.weights, blank.log_likelihood)
    found, stands = filtered(answers, curves, lattice, threads=1, begun=begun)
    if found.found[0] != filter_kernels.DONE:
        return None
    return _resumed(responses, answers, found, stands)


def moving_eap_in_two(
    responses: Responses, day: Ints, late: Mask, curves: Curves, movement: Movement
) -> tuple[MovingScores, Resumed]:
    """`moving_eap` of one learner, without effects of testlets, and what the filter had found before the `late`
    responses (R,), those from some day on. Each response is filtered once where that state can be gone on from."""
    before = filter_state(responses.of_rows(~late), day[~late], curves, movement)
    stood = before.state
    after = None if stood is None else resumed(stood, responses.of_rows(late), day[late], curves, movement)
    if after is None:
        return moving_eap(responses, day, curves, movement, threads=1), before
    discount = np.empty(responses.n_responses)
    discount[late], discount[~late] = after.discount, after.earlier * before.discount
    theta, se, start = (np.array([x]) for x in (after.theta, after.se, after.earlier * before.earlier))
    return MovingScores(theta, se, discount, start), before


def _resumed(responses: Responses, answers: Answers, found: Filtered, stands: Begun) -> Resumed:
    discount = np.ones(responses.n_responses)
    discount[answers.place] = found.share
    state = FilterState(
        stands.level,
        stands.low - len(stands.weights) // 2,
        stands.fraction,
        stands.weights[stands.low : stands.high].copy(),
        answers.first_day + stands.day,
        stands.from_step - len(stands.log_likelihood) // 2,
        stands.log_likelihood[stands.from_step : stands.to_step].copy(),
    )
    few = stands.day >= 0 and len(state.to_bytes()) <= MOST_BYTES
    return Resumed(float(found.theta[0]), float(found.se[0]), discount, float(found.fade[0]), state if few else None)
