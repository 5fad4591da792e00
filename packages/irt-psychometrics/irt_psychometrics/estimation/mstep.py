"""Full M-steps: move every item to its own maximum, given the expected counts, if some items can be guessed.

The likelihood of (a, d, logit c) is far from quadratic, and in most banks a few items are much worse than the others.
The length of a joint Newton step is then limited by the worst item. Here each item has its own steps, at the cost of
J × Q terms instead of a pass over the data (Bock & Aitkin 1981). The likelihood of a histogram's log weights is not
quadratic either: a Newton step overshoots far in the tails.
"""

from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.curves import GuessingCurves
from irt_psychometrics.core.priors import item_terms
from irt_psychometrics.estimation.likelihood import Categories
from irt_psychometrics.estimation.marginal import Point, Problem, hold_parameters

_STEPS, _HALVINGS = 20, 8
_ENOUGH = 1e-2
"""An item is at its maximum when the next step promises a gain of less than half of this in log-likelihood."""
_MAX_STEP = 2.0
_MIN_PROBABILITY = 1e-300
_MIN_LOG = float(np.log(_MIN_PROBABILITY))


class Objective(NamedTuple):
    """Expected log-likelihood plus log prior of n items, (n,), its gradient (K, n) and information (n, K, K)."""

    value: Floats
    gradient: Floats
    information: Floats


def em_step(problem: Problem, point: Point, gradient: Floats, frozen: Mask) -> Floats:
    """Step of the free parameters in an EM cycle. Means and SDs, and items without guessing, take a Newton step."""
    s = problem.structure
    step = problem.precondition(point, gradient, frozen)
    if s.item_model.has_parameter("c"):
        _move_items(problem, point, step)
    step[s.n_before_weights :] = problem.latent.em_step(point.log_weights, point.expected.mass)
    return step


def _move_items(problem: Problem, point: Point, step: Floats) -> None:
    """Replace the items' part of the step by the difference to each item's own maximum."""
    s, J, K = problem.structure, problem.structure.n_items, problem.structure.K
    items = slice(0, K * J)
    low, high, full = np.full(len(s.index), -np.inf), np.full(len(s.index), np.inf), s.expand(point.x)
    low[s.free], high[s.free] = (bound[s.index[s.free]] for bound in s.bounds)
    start, lower, upper = (values[items].reshape(K, J) for values in (full, low, high))
    free = (s.index[items] >= 0).reshape(K, J)
    free[0] &= ~s.common_slopes
    step[s.index[items][free.ravel()]] = _maximum(problem, point, start, free, lower, upper)[free] - start[free]


def _maximum(problem: Problem, point: Point, start: Floats, free: Mask, low: Floats, high: Floats) -> Floats:
    """Maximise each item by Fisher scoring. Returns the parameters, shape (K, J)."""
    out = start.copy()
    rows = np.flatnonzero(free.any(axis=0))
    objective = _objective if problem.structure.guessing else _objective_by_category
    value, slope, information = objective(problem, point, rows, out[:, rows])
    for _ in range(_STEPS):
        here = out[:, rows]
        outward = ((here >= high[:, rows]) & (slope > 0)) | ((here <= low[:, rows]) & (slope < 0))
        own = free[:, rows] & ~outward
        uphill = np.where(own, slope, 0.0)
        step = np.linalg.solve(hold_parameters(information, own.T), uphill.T[:, :, None])[:, :, 0].T
        going = (step * uphill).sum(axis=0) > _ENOUGH
        if not going.any():
            break
        rows, here, step, value = rows[going], here[:, going], step[:, going], value[going]
        step *= np.minimum(1.0, _MAX_STEP / np.abs(step).max(axis=0))
        for _ in range(_HALVINGS):
            there = np.clip(here + step, low[:, rows], high[:, rows])
            there = np.where(free[:, rows], there, here)
            found = objective(problem, point, rows, there)
            worse = found.value < value
            if not worse.any():
                break
            step[:, worse] *= 0.5
        rows = rows[~worse]
        out[:, rows] = there[:, ~worse]
        value, slope, information = found.value[~worse], found.gradient[:, ~worse], found.information[~worse]
    return out


def _objective(problem: Problem, point: Point, rows: np.ndarray, at: Floats) -> Objective:
    """Objective of the items `rows` (n,) at parameters `at` (3, n)."""
    seen, right = point.expected.seen[rows], point.expected.right[rows]
    a, d, logit_c = at
    curves = GuessingCurves(problem.grid.nodes, a, d, logit_c)
    log_right, log_wrong = (np.log(np.maximum(x, _MIN_PROBABILITY)) for x in (curves.p, curves.q))
    terms = item_terms(problem.priors, a, d, logit_c, problem.prior_share[rows], 3, problem.known_logit_c[rows])
    value = (right * log_right + (seen - right) * log_wrong).sum(axis=1)
    slope = np.einsum("kjq,jq->kj", curves.factors, right - seen * curves.p)
    information = np.einsum("kjq,mjq,jq->jkm", curves.factors, curves.factors, seen * curves.p * curves.q)
    return Objective(value + terms.value, slope + terms.gradient, information + terms.curvature)


def _objective_by_category(problem: Problem, point: Point, rows: np.ndarray, at: Floats) -> Objective:
    """Like `_objective`, for items under any models at parameters `at` (K, n)."""
    s, categories = problem.structure, problem.data.n_categories
    full = s.expand(point.x)
    curves = problem.curves(full)
    assert isinstance(curves, Categories)
    answers = curves.answers(point.expected.seen, point.expected.right)[rows]
    parameters = full[: s.means.start].reshape(s.K, -1)
    parameters[:, rows] = at
    logs = s.item_model.log_probabilities(problem.grid.nodes, parameters, categories)[rows]
    by = s.item_model.by_parameters(problem.grid.nodes, parameters, categories)[:, rows]
    terms = problem.prior_terms(full)
    value = np.where(answers > 0, answers * np.maximum(logs, _MIN_LOG), 0.0).sum(axis=(1, 2))
    slope = np.einsum("kjqc,jqc->kj", by, answers)
    expected = np.exp(logs) * answers.sum(axis=2, keepdims=True)
    information = np.einsum("kjqc,mjqc,jqc->jkm", by, by, expected)
    return Objective(value + terms.value[rows], slope + terms.gradient[:, rows], information + terms.curvature[rows])
