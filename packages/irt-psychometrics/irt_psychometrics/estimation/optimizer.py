"""The optimiser: quasi-Newton ascent of a marginal likelihood or posterior, with EM cycles at the start."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import Generic, Protocol, TypeVar

import numpy as np

from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.estimation.marginal import Problem
from irt_psychometrics.estimation.mstep import em_step

Pair = tuple[Floats, Floats, float]
"""A step, minus the change of the gradient along it, and their scalar product. A quasi-Newton matrix consists of
them."""

Progress = Callable[[int, float], object]
"""Function that is called after each iteration with the number of iterations so far and the largest change of a
parameter."""

_MAX_STEP = 2.0
_FAR, _CYCLES = 1.0, 10
"""A 3PL makes EM cycles while a scaled gradient exceeds `_FAR` (one standard error), but at most `_CYCLES` of them."""

_report: ContextVar[Callable[[float], object] | None] = ContextVar("report", default=None)


@contextmanager
def report_progress(progress: Progress) -> Iterator[None]:
    """Call `progress` after each iteration of the ascents within. Iterations are numbered across ascents."""
    numbers = count(1)
    token = _report.set(lambda change: progress(next(numbers), change))
    try:
        yield
    finally:
        _report.reset(token)


class Reached(Protocol):
    """A parameter vector, the objective and its gradient."""

    @property
    def x(self) -> Floats: ...

    @property
    def objective(self) -> float: ...

    @property
    def gradient(self) -> Floats: ...


P = TypeVar("P", bound=Reached)


class Objective(Protocol[P]):
    """A function that `maximise` maximises; see `Problem`."""

    @property
    def bounds(self) -> tuple[Floats, Floats]: ...

    @property
    def n_before_weights(self) -> int: ...

    @property
    def memory(self) -> int: ...

    def evaluate(self, x: Floats) -> P: ...

    def precondition(self, point: P, gradient: Floats, frozen: Mask) -> Floats: ...

    def information_scale(self, point: P) -> Floats: ...


@dataclass(frozen=True)
class Solution(Generic[P]):
    point: P
    converged: bool
    iterations: int
    max_change: float
    max_gradient: float
    at_bound: Mask
    reason: str
    pairs: tuple[Pair, ...]


def maximise(
    problem: Objective[P],
    x: Floats,
    tolerance: float,
    max_iterations: int,
    known: tuple[Pair, ...] = (),
    least_gain: float = 0.0,
) -> Solution[P]:
    """Maximise by quasi-Newton ascent from x, with the complete-data information as the first matrix.

    Parameters
    ----------
    problem, x
        The problem, and the free parameters to start from.
    tolerance
        The ascent has converged if no parameter changed by more than this, and no scaled gradient exceeds it.
    max_iterations
        Maximum number of iterations.
    known
        Pairs of an ascent of nearly the same function that ended at x.
    least_gain
        The ascent has also converged if a step promised a gain of the objective below this.
    """
    lower, upper = problem.bounds
    point = problem.evaluate(np.clip(x, lower, upper))
    pairs: list[Pair] = list(known)
    frozen = np.zeros(len(x), dtype=bool)
    outward, gradient = _scaled_gradient(problem, point)
    change, reason, iterations = np.inf, "", 0
    for iterations in range(1, max_iterations + 1):
        if np.any(outward != frozen):
            frozen, pairs = outward, []
        free_gradient = np.where(frozen, 0.0, point.gradient)
        if isinstance(problem, Problem) and _is_far(problem, gradient, iterations):
            step = em_step(problem, point, free_gradient, frozen)
        else:
            step = _direction(problem, point, free_gradient, frozen, pairs)
        if step @ free_gradient <= 0:
            pairs = []
            step = problem.precondition(point, free_gradient, frozen)
        step *= min(1.0, _MAX_STEP / max(np.abs(step[: problem.n_before_weights]).max(initial=0.0), 1e-300))
        ahead = _line_search(problem, point, step)
        if ahead is None and pairs:
            pairs = []
            ahead = _line_search(problem, point, problem.precondition(point, free_gradient, frozen))
        if ahead is None:
            reason = f"no step raises the log-likelihood further; the largest scaled gradient is {gradient:.2g}"
            break
        moved = ahead.x - point.x
        bend = np.where(frozen, 0.0, point.gradient - ahead.gradient)
        along = float(moved @ bend)
        if along > 1e-12 * np.linalg.norm(moved) * np.linalg.norm(bend):
            pairs = [*pairs[-(problem.memory - 1) :], (moved, bend, along)]
        point = ahead
        outward, gradient = _scaled_gradient(problem, point)
        change = float(np.abs(moved[: problem.n_before_weights]).max(initial=0.0))
        if (report := _report.get()) is not None:
            report(change)
        if (change < tolerance and gradient < tolerance) or step @ free_gradient < 2 * least_gain:
            return Solution(point, True, iterations, change, gradient, outward, "", tuple(pairs))
    if not reason:
        reason = (
            f"the limit of {max_iterations} iterations was reached with a largest change of {change:.2g} and a largest "
            f"scaled gradient of {gradient:.2g} (both must be below {tolerance:.2g})"
        )
    outward = (point.x >= upper) | (point.x <= lower)
    return Solution(point, False, iterations, change, gradient, outward, reason, tuple(pairs))


def _is_far(problem: Problem, gradient: float, iterations: int) -> bool:
    """Check whether the next step must be an EM cycle."""
    far = problem.structure.item_model.has_parameter("c") and gradient > _FAR and iterations <= _CYCLES
    return far or iterations <= problem.latent.cycles


def _scaled_gradient(problem: Objective[P], point: P) -> tuple[Mask, float]:
    """Mask of the parameters at a bound whose gradient points beyond it, and the largest scaled gradient of the
    others."""
    lower, upper = problem.bounds
    outward = ((point.x >= upper) & (point.gradient > 0)) | ((point.x <= lower) & (point.gradient < 0))
    scaled = np.abs(np.where(outward, 0.0, point.gradient)) / problem.information_scale(point)
    return outward, float(scaled.max())


def _direction(problem: Objective[P], point: P, gradient: Floats, frozen: Mask, pairs: list[Pair]) -> Floats:
    """Direction by two-loop recursion (Nocedal 1980). Without pairs it is the EM gradient step."""
    q = gradient.copy()
    weights = []
    for moved, bend, along in reversed(pairs):
        alpha = (moved @ q) / along
        q -= alpha * bend
        weights.append(alpha)
    step = problem.precondition(point, q, frozen)
    for (moved, bend, along), alpha in zip(pairs, reversed(weights), strict=True):
        step += (alpha - (bend @ step) / along) * moved
    return np.where(frozen, 0.0, step)


def _line_search(problem: Objective[P], point: P, step: Floats) -> P | None:
    """The first of x + step, x + step/2, … inside the bounds that raises the objective enough (Armijo). Returns None if
    no such point exists."""
    lower, upper = problem.bounds
    rounding = 1e-12 * abs(point.objective)
    for halvings in range(25):
        x = np.clip(point.x + step * 0.5**halvings, lower, upper)
        ahead = problem.evaluate(x)
        if ahead.objective >= point.objective + 1e-4 * point.gradient @ (x - point.x) - rounding:
            return ahead
    return None
