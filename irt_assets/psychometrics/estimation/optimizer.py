"""The optimiser: quasi-Newton ascent of a marginal likelihood or posterior that starts out as EM. Nothing of items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from irt_assets.psychometrics.core.models import Floats
from irt_assets.psychometrics.estimation.marginal import Point, Problem
from irt_assets.psychometrics.estimation.mstep import em_step
from irt_assets.psychometrics.estimation.parameter_layout import Mask

Pair = tuple[Floats, Floats]
"""A step and the change of the gradient along it, with the sign of curvature: what a quasi-Newton matrix is made of."""

FirstMatrix = Callable[[Point, Floats, Mask], Floats]
"""A gradient (size,) to a step, with the frozen parameters held."""

_NEAR = 0.1
"""A gradient in standard errors, below which second derivatives are taken as they are at a maximum."""
_RENEWED = 12
"""So many iterations a first matrix of observed information serves."""
_FLATTEST, _BENT = 1e-6, 0.1
"""An eigenvalue of such a matrix, scaled to a diagonal of 1, below which a direction counts as flat or downward, and
the least that it then gets."""
_MEMORY = 12
_LONGEST_STEP = 2.0
_FAR, _CYCLES = 1.0, 10
"""As long as a gradient exceeds one standard error, but no longer than this, a 3PL goes by EM cycles."""


@dataclass(frozen=True)
class Solution:
    point: Point
    converged: bool
    iterations: int
    max_change: float
    max_gradient: float
    at_bound: Mask
    reason: str
    pairs: tuple[Pair, ...]

    def oriented(self, problem: Problem) -> Solution:
        """θ → −θ where most free slopes are negative: the likelihood does not tell the two apart."""
        slopes = self.point.x[: problem.structure.n_slopes]
        if problem.structure.anchored or np.sign(slopes).sum() + np.tanh(slopes.sum()) / 2 >= 0:  # the sum decides ties
            return self
        return replace(self, point=problem.evaluate(problem.structure.mirrored(self.point.x)))


def maximise(
    problem: Problem,
    x: Floats,
    tolerance: float,
    max_iterations: int,
    known: tuple[Pair, ...] = (),
    bent: bool = False,
) -> Solution:
    """Quasi-Newton ascent from x with the complete-data information as its first matrix.

    `known`: pairs of an ascent of nearly the same function that ended at x. `bent`: with the observed information as
    the first matrix, made again as the ascent goes on, for histograms, whose weights share most of theirs with others.
    """
    lower, upper = problem.structure.bounds
    point = problem.evaluate(np.clip(x, lower, upper))
    pairs: list[Pair] = list(known)
    frozen = np.zeros(len(x), dtype=bool)
    outward, gradient = _steepness(problem, point)
    change, reason, iterations = np.inf, "", 0
    first = _observed(problem, point, near=False) if bent else problem.precondition
    for iterations in range(1, max_iterations + 1):
        if np.any(outward != frozen):
            frozen, pairs = outward, []
        if bent and iterations % _RENEWED == 0:
            first, pairs = _observed(problem, point, near=gradient < _NEAR), []
        free_gradient = np.where(frozen, 0.0, point.gradient)
        if problem.structure.model == "3pl" and gradient > _FAR and iterations <= _CYCLES:
            step = em_step(problem, point, free_gradient, frozen)
        else:
            step = _direction(first, point, free_gradient, frozen, pairs)
        if step @ free_gradient <= 0:
            pairs = []
            step = first(point, free_gradient, frozen)
        step *= min(1.0, _LONGEST_STEP / max(np.abs(step[: problem.structure.n_before_weights]).max(), 1e-300))
        ahead = _uphill(problem, point, step)
        if ahead is None and pairs:
            pairs = []
            ahead = _uphill(problem, point, problem.precondition(point, free_gradient, frozen))
        if ahead is None:
            reason = f"no step from here raises the log-likelihood, with a largest scaled gradient of {gradient:.2g}"
            break
        moved = ahead.x - point.x
        bend = np.where(frozen, 0.0, point.gradient - ahead.gradient)
        if moved @ bend > 1e-12 * np.linalg.norm(moved) * np.linalg.norm(bend):
            pairs = [*pairs[-(_MEMORY - 1) :], (moved, bend)]
        point = ahead
        outward, gradient = _steepness(problem, point)
        change = float(np.abs(moved).max())
        if change < tolerance and gradient < tolerance:
            return Solution(point, True, iterations, change, gradient, outward, "", tuple(pairs))
    if not reason:
        reason = (
            f"the limit of {max_iterations} iterations was reached with a largest change of {change:.2g} and a largest "
            f"scaled gradient of {gradient:.2g} (wanted: both below {tolerance:.2g})"
        )
    outward = (point.x >= upper) | (point.x <= lower)
    return Solution(point, False, iterations, change, gradient, outward, reason, tuple(pairs))


def _steepness(problem: Problem, point: Point) -> tuple[Mask, float]:
    """Which parameters stand at a bound and would go beyond, and the largest scaled gradient of the others."""
    lower, upper = problem.structure.bounds
    outward = ((point.x >= upper) & (point.gradient > 0)) | ((point.x <= lower) & (point.gradient < 0))
    scaled = np.abs(np.where(outward, 0.0, point.gradient)) / problem.information_scale(point)
    return outward, float(scaled.max())


def _observed(problem: Problem, point: Point, *, near: bool) -> FirstMatrix:
    """The inverse of the information at a point with histograms, downward directions turned up."""
    s = problem.structure
    bent = s.matrix.T @ (s.matrix.T @ problem.information_with_weights(point, at_maximum=near)).T
    unit = 1 / problem.information_scale(point)
    factored: dict[bytes, tuple[npt.NDArray[np.intp], Any]] = {}

    def solve(_: Point, gradient: Floats, frozen: Mask) -> Floats:
        key = frozen.tobytes()
        if key not in factored:
            free = np.flatnonzero(~frozen)
            factored[key] = free, _factor(bent[np.ix_(free, free)] * np.outer(unit[free], unit[free]))
        free, factor = factored[key]
        step = np.zeros_like(gradient)
        step[free] = cho_solve(factor, gradient[free] * unit[free]) * unit[free]
        return step

    return solve


def _factor(matrix: Floats) -> Any:
    try:
        return cho_factor(matrix)
    except LinAlgError:
        values, vectors = eigh(matrix)
        upward = (vectors * np.where(values > _FLATTEST, values, np.maximum(-values, _BENT))) @ vectors.T
        return cho_factor(upward)


def _direction(first: FirstMatrix, point: Point, gradient: Floats, frozen: Mask, pairs: list[Pair]) -> Floats:
    """Two-loop recursion (Nocedal 1980); without pairs the EM gradient step."""
    q = gradient.copy()
    weights = []
    for moved, bend in reversed(pairs):
        alpha = (moved @ q) / (moved @ bend)
        q -= alpha * bend
        weights.append(alpha)
    step = first(point, q, frozen)
    for (moved, bend), alpha in zip(pairs, reversed(weights), strict=True):
        step += (alpha - (bend @ step) / (moved @ bend)) * moved
    return np.where(frozen, 0.0, step)


def _uphill(problem: Problem, point: Point, step: Floats) -> Point | None:
    """The first of x + step, x + step/2, … inside the bounds that raises the objective enough (Armijo)."""
    lower, upper = problem.structure.bounds
    rounding = 1e-12 * abs(point.objective)
    for halvings in range(25):
        x = np.clip(point.x + step * 0.5**halvings, lower, upper)
        ahead = problem.evaluate(x)
        if ahead.objective >= point.objective + 1e-4 * point.gradient @ (x - point.x) - rounding:
            return ahead
    return None
