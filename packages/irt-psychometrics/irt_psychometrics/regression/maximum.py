"""The maximum of the marginal likelihood of θ = xᵀγ + ε, ε ~ N(0, σ²_g), with items held.

With e = θ − xᵀγ and expectations over a person's posterior, the scores of γ and log σ are x E(e)/σ² and E(e²)/σ² − 1.
The observed information follows from Louis (1982): the information of complete data minus the posterior covariance of
the complete-data scores, which takes the first four posterior moments of e. The maximum is found by Newton's method,
with EM steps (Mislevy 1984) if the information is not positive definite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.models import Convergence
from irt_psychometrics.regression.answers import Answers

_MAX_ITERATIONS = 200
_TIGHT = 1e-6
"""Newton step in standard errors, below which the maximum is reached."""
_SMALLEST_SHARE = 1e-3
"""A residual SD below this share of the first one is 0: the covariates explain more than all variance of θ."""
_AT_ONCE = 20_000
"""Persons whose posteriors are in memory together."""


@dataclass(frozen=True)
class Persons:
    """What is known about N persons besides their answers.

    Attributes
    ----------
    design
        Shape (N, K), covariates.
    group
        Shape (N,), the group of each person, from 0 to G − 1.
    weight
        Shape (N,), weights with mean 1.
    """

    design: Floats
    group: Ints
    weight: Floats

    @property
    def n_groups(self) -> int:
        """G, the number of groups."""
        return int(self.group.max(initial=0)) + 1


@dataclass(frozen=True)
class Point:
    """The regression at one value of (γ, log σ), k = K + G parameters.

    Attributes
    ----------
    parameters
        Shape (k,).
    log_likelihood
        Shape (N,), of each person.
    scores
        Shape (N, k), derivatives of each person's log-likelihood.
    information
        Shape (k, k), minus the weighted sum of second derivatives.
    moments
        Shape (4, N), posterior means of e, e², e³ and e⁴.
    """

    parameters: Floats
    log_likelihood: Floats
    scores: Floats
    information: Floats
    moments: Floats


def posterior(table: Floats, nodes: Floats, means: Floats, sds: Floats) -> tuple[Floats, Floats]:
    """Compute posterior weights of the nodes, shape (n, Q), and each person's marginal log-likelihood, shape (n,).

    `table` (n, Q) is log P(answers | θ) at equally spaced nodes, and `means` and `sds` (n,) are those of the prior.
    """
    z = (nodes - means[:, None]) / sds[:, None]
    logs = table - 0.5 * z**2
    top = logs.max(axis=1, keepdims=True)
    np.exp(logs - top, out=logs)
    total = logs.sum(axis=1, keepdims=True)
    step = (nodes[1] - nodes[0]) / np.sqrt(2 * np.pi)
    return logs / total, (top + np.log(total))[:, 0] + np.log(step / sds)


def evaluate(table: Floats, nodes: Floats, persons: Persons, parameters: Floats) -> Point:
    """Compute log-likelihood, scores and observed information at (γ, log σ)."""
    X, K = persons.design, persons.design.shape[1]
    means, sds = X @ parameters[:K], np.exp(parameters[K:])[persons.group]
    middle = nodes.mean()
    powers = (nodes - middle)[:, None] ** np.arange(5)
    log_likelihood, raw = np.empty(len(X)), np.empty((5, len(X)))
    for first in range(0, len(X), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        weights, log_likelihood[rows] = posterior(table[rows], nodes, means[rows], sds[rows])
        raw[:, rows] = (weights @ powers).T
    m1, m2, m3, m4 = _moved(raw, middle - means)
    variance = sds**2
    by_mean, by_log_sd = m1 / variance, m2 / variance - 1
    scores = np.zeros((len(X), len(parameters)))
    scores[:, :K] = X * by_mean[:, None]
    scores[np.arange(len(X)), K + persons.group] = by_log_sd
    w = persons.weight
    own = np.zeros((len(X), persons.n_groups))
    own[np.arange(len(X)), persons.group] = 1.0
    of_means = w * (1 / variance - (m2 - m1**2) / variance**2)
    of_both = w * (2 * m1 / variance - (m3 - m1 * m2) / variance**2)
    of_sds = w * (2 * m2 / variance - (m4 - m2**2) / variance**2)
    information = np.zeros((len(parameters),) * 2)
    information[:K, :K] = (X * of_means[:, None]).T @ X
    information[:K, K:] = (X * of_both[:, None]).T @ own
    information[K:, :K] = information[:K, K:].T
    information[K:, K:] = np.diag(of_sds @ own)
    return Point(parameters, log_likelihood, scores, information, np.stack([m1, m2, m3, m4]))


def maximise(answers: Answers, persons: Persons) -> tuple[Point, Floats, Convergence]:
    """Find the maximum. Returns it with the nodes on which it was computed, and whether it is one."""
    parameters = _start(answers, persons)
    for _ in range(5):
        nodes = _nodes(answers, persons, parameters)
        point, convergence = _maximise_on(answers.log_likelihood(nodes), nodes, persons, parameters)
        parameters = point.parameters
        if not convergence.converged or _suffices(nodes, _nodes(answers, persons, parameters)):
            break
    return point, nodes, convergence


def _suffices(nodes: Floats, needed: Floats) -> bool:
    """Check whether nodes are as wide and dense as the needed ones, but for an eighth of a step and of the range."""
    slack = (needed[-1] - needed[0]) / 40
    wide = nodes[0] <= needed[0] + slack and nodes[-1] >= needed[-1] - slack
    return bool(wide and nodes[1] - nodes[0] <= 1.125 * (needed[1] - needed[0]))


def _nodes(answers: Answers, persons: Persons, parameters: Floats) -> Floats:
    K = persons.design.shape[1]
    return answers.nodes_for(persons.design @ parameters[:K], np.exp(parameters[K:]))


def _start(answers: Answers, persons: Persons) -> Floats:
    """Start from one wide normal distribution around the items, and two EM steps."""
    items, X = answers.items, persons.design
    centre = float(np.median(items.b)) if items.item_ids else 0.0
    width = 3 / max(float(np.median(np.abs(items.a))), 1e-6) if items.item_ids else 1.0
    parameters = np.concatenate([np.zeros(X.shape[1]), np.full(persons.n_groups, np.log(width))])
    parameters[0] = centre
    for _ in range(2):
        nodes = _nodes(answers, persons, parameters)
        parameters = _em_step(evaluate(answers.log_likelihood(nodes), nodes, persons, parameters), persons)
    return parameters


def _em_step(point: Point, persons: Persons) -> Floats:
    """Regress the posterior means, and add the posterior variances to those of the residuals."""
    X, K = persons.design, persons.design.shape[1]
    before, (m1, m2, *_) = X @ point.parameters[:K], point.moments
    root = np.sqrt(persons.weight) / np.exp(point.parameters[K:])[persons.group]
    gamma = np.linalg.lstsq(X * root[:, None], (before + m1) * root, rcond=None)[0]
    moved = before - X @ gamma
    square = persons.weight * (m2 + 2 * m1 * moved + moved**2)
    mean = np.bincount(persons.group, square) / np.bincount(persons.group, persons.weight)
    return np.concatenate([gamma, np.log(mean) / 2])


def _maximise_on(table: Floats, nodes: Floats, persons: Persons, start: Floats) -> tuple[Point, Convergence]:
    K = persons.design.shape[1]

    def objective(point: Point) -> float:
        return float(persons.weight @ point.log_likelihood)

    point, reason, change = evaluate(table, nodes, persons, start), "", float("inf")
    for iteration in range(1, _MAX_ITERATIONS + 1):  # noqa: B007  (the number is the result)
        gradient = persons.weight @ point.scores
        step = newton_step(point.information, gradient)
        if step is not None and (change := float(np.sqrt(max(gradient @ step, 0.0)))) < _TIGHT:
            break
        if (point.parameters[K:] < start[K:] + np.log(_SMALLEST_SHARE)).any():
            reason = "a residual SD became 0, because the covariates explain all variance of θ or a group is too small"
            break
        moved = _climb(table, nodes, persons, point, step, objective(point))
        point = evaluate(table, nodes, persons, _em_step(point, persons)) if moved is None else moved
    else:
        reason = f"the limit of {_MAX_ITERATIONS} iterations was reached"
    largest = float(np.abs(persons.weight @ point.scores).max())
    size = len(point.parameters)
    return point, Convergence(not reason, iteration, change, largest, objective(point), size, reason)


def _climb(
    table: Floats, nodes: Floats, persons: Persons, point: Point, step: Floats | None, before: float
) -> Point | None:
    """Take the Newton step, or a part of it. Returns None if no part increases the likelihood."""
    if step is None or np.abs(step[persons.design.shape[1] :]).max() > 1:
        return None
    for part in (1.0, 0.5, 0.25):
        moved = evaluate(table, nodes, persons, point.parameters + part * step)
        if persons.weight @ moved.log_likelihood >= before - 1e-9 * abs(before):
            return moved
    return None


def newton_step(information: Floats, gradient: Floats) -> Floats | None:
    """Solve information · step = gradient. Returns None if the information is not positive definite."""
    diagonal = np.diag(information)
    if not (diagonal > 0).all():
        return None
    unit = 1 / np.sqrt(diagonal)
    scaled = information * np.outer(unit, unit)
    try:
        np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return None
    return np.asarray(unit * np.linalg.solve(scaled, unit * gradient))


def _moved(raw: Floats, by: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the moments of order 1 … 4 of y + by, shape (N,) each, from the raw moments 0 … 4 of y, shape (5, N)."""
    _, m1, m2, m3, m4 = raw
    return (
        m1 + by,
        m2 + 2 * by * m1 + by**2,
        m3 + 3 * by * m2 + 3 * by**2 * m1 + by**3,
        m4 + 4 * by * m3 + 6 * by**2 * m2 + 4 * by**3 * m1 + by**4,
    )
