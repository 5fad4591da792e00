"""The maximum of the marginal likelihood of θ = xᵀγ + ε, ε ~ N(0, σ²_g), given the answers.

With e = θ − xᵀγ and expectations over a person's posterior, the scores of γ and log σ are x E(e)/σ² and E(e²)/σ² − 1.
The observed information follows from Louis (1982): the information of complete data minus the posterior covariance of
the complete-data scores, which takes the first four posterior moments of e. The maximum is found by Newton's method,
with EM steps (Mislevy 1984) if the information is not positive definite.

Items that are estimated, too, are in `free_items`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.models import Convergence
from irt_psychometrics.regression.answers import Answers

_MAX_ITERATIONS = 200
_TIGHT = 1e-6
"""Newton step in standard errors, below which the maximum is reached."""
_SMALLEST_SHARE = 1e-3
"""A residual SD below this share of the first one is 0: the covariates explain all variance of θ."""


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
    def in_group(self) -> Floats:
        """1 for a person's group and 0 for other groups, shape (N, G)."""
        return (self.group[:, None] == np.arange(int(self.group.max(initial=0)) + 1)) * 1.0

    def prior(self, latent: Floats) -> tuple[Floats, Floats]:
        """Compute mean and SD of each person's θ before the answers, shape (N,) each, from γ and log σ (K + G,)."""
        K = self.design.shape[1]
        return self.design @ latent[:K], np.exp(latent[K:])[self.group]


class Point(NamedTuple):
    """The likelihood at one value of its p parameters.

    Attributes
    ----------
    parameters
        Shape (p,); γ and log σ if the items are held.
    log_likelihood, scores
        Shape (N,) and (N, p), log-likelihood of each person and its derivatives.
    information
        Shape (p, p), minus the weighted sum of second derivatives.
    moments
        Shape (2, N), posterior means of e and e².
    """

    parameters: Floats
    log_likelihood: Floats
    scores: Floats
    information: Floats
    moments: Floats


class Likelihood(Protocol):
    """The likelihood of the answers of `persons`."""

    @property
    def persons(self) -> Persons:
        """The persons."""

    def evaluate(self, parameters: Floats) -> Point:
        """Compute log-likelihood, scores and observed information."""

    def em_step(self, point: Point) -> Floats | None:
        """Return the parameters after a step that increases the likelihood, or None if there is no such step."""


def posterior(table: Floats, nodes: Floats, means: Floats, sds: Floats) -> tuple[Floats, Floats]:
    """Compute posterior weights of the nodes, shape (N, Q), and each person's marginal log-likelihood, shape (N,).

    `table` (N, Q) is log P(answers | θ) at equally spaced nodes, and `means` and `sds` (N,) are those of the prior.
    """
    logs = (nodes - means[:, None]) / sds[:, None]
    logs = table - 0.5 * logs**2
    top = logs.max(axis=1, keepdims=True)
    weights = np.exp(logs - top)
    total = weights.sum(axis=1, keepdims=True)
    step = (nodes[1] - nodes[0]) / np.sqrt(2 * np.pi)
    return weights / total, (top + np.log(total))[:, 0] + np.log(step / sds)


def regression_point(persons: Persons, latent: Floats, nodes: Floats, weights: Floats, log_likelihood: Floats) -> Point:
    """Compute the scores and the observed information of (γ, log σ) from posterior weights (N, Q)."""
    X, w, in_group, (means, sds) = persons.design, persons.weight, persons.in_group, persons.prior(latent)
    middle = nodes.mean()
    raw = (weights @ (nodes - middle)[:, None] ** np.arange(5)).T
    m1, m2, m3, m4 = _moved(raw, middle - means)
    variance = sds**2
    scores = np.column_stack([X * (m1 / variance)[:, None], in_group * (m2 / variance - 1)[:, None]])
    of_means = w * (1 / variance - (m2 - m1**2) / variance**2)
    of_both = w * (2 * m1 / variance - (m3 - m1 * m2) / variance**2)
    of_sds = w * (2 * m2 / variance - (m4 - m2**2) / variance**2)
    both = (X * of_both[:, None]).T @ in_group
    information = np.block([[(X * of_means[:, None]).T @ X, both], [both.T, np.diag(of_sds @ in_group)]])
    return Point(latent, log_likelihood, scores, information, np.stack([m1, m2]))


def climb(likelihood: Likelihood, start: Floats) -> tuple[Point, Convergence]:
    """Find the maximum of a likelihood by Newton's method. The last parameters are logarithms of SDs."""
    point, reason, change, w = likelihood.evaluate(start), "", float("inf"), likelihood.persons.weight
    sds = slice(-likelihood.persons.in_group.shape[1], None)
    for iteration in range(1, _MAX_ITERATIONS + 1):  # noqa: B007  (the number is the result)
        gradient = w @ point.scores
        step = newton_step(point.information, gradient)
        if step is not None and (change := abs(float(gradient @ step)) ** 0.5) < _TIGHT:
            break
        if (point.parameters[sds] < start[sds] + np.log(_SMALLEST_SHARE)).any():
            reason = "a residual SD became 0, because the covariates explain all variance of θ or a group is too small"
            break
        moved = None if step is None or np.abs(step[sds]).max() > 1 else _part_of_step(likelihood, point, step)
        if moved is None:
            parameters = likelihood.em_step(point)
            if parameters is None:
                reason = "the answers do not determine all parameters; hold the items, or use fewer covariates"
                break
            moved = likelihood.evaluate(parameters)
        point = moved
    else:
        reason = f"the limit of {_MAX_ITERATIONS} iterations was reached"
    largest, loglik = float(np.abs(w @ point.scores).max()), float(w @ point.log_likelihood)
    return point, Convergence(not reason, iteration, change, largest, loglik, len(start), reason)


def _part_of_step(likelihood: Likelihood, point: Point, step: Floats) -> Point | None:
    """Take the step, or a part that does not lower the likelihood. Returns None if all parts lower it."""
    w = likelihood.persons.weight
    before = float(w @ point.log_likelihood)
    for part in (1.0, 0.5, 0.25):
        moved = likelihood.evaluate(point.parameters + part * step)
        if w @ moved.log_likelihood >= before - 1e-10 * abs(before):
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


@dataclass(frozen=True)
class HeldItems:
    """The likelihood of (γ, log σ) with the items held.

    Attributes
    ----------
    table
        Shape (N, Q), log P(answers | θ) at the nodes.
    nodes
        Shape (Q,), equally spaced.
    """

    persons: Persons
    table: Floats
    nodes: Floats

    @classmethod
    def around(cls, answers: Answers, persons: Persons, latent: Floats) -> HeldItems:
        """Choose nodes for the regression with these γ and log σ."""
        nodes = answers.nodes_for(*persons.prior(latent))
        return cls(persons, answers.log_likelihood(nodes), nodes)

    @classmethod
    def maximise(cls, answers: Answers, persons: Persons) -> tuple[HeldItems, Point, Convergence]:
        """Find the maximum. Nodes are chosen again until they suffice for it."""
        items, K = answers.items, persons.design.shape[1]
        latent = np.zeros(K + persons.in_group.shape[1])
        if items.item_ids:  # one wide normal distribution around the items
            latent[0], latent[K:] = np.median(items.b), np.log(3 / max(float(np.median(np.abs(items.a))), 1e-6))
        for _ in range(2):
            likelihood = cls.around(answers, persons, latent)
            latent = likelihood.em_step(likelihood.evaluate(latent))
        for _ in range(5):
            likelihood = cls.around(answers, persons, latent)
            point, convergence = climb(likelihood, latent)
            latent = point.parameters
            needed = answers.nodes_for(*persons.prior(latent))
            if not convergence.converged or _suffice(likelihood.nodes, needed):
                break
        return likelihood, point, convergence

    def evaluate(self, parameters: Floats) -> Point:
        """Compute log-likelihood, scores and observed information of (γ, log σ)."""
        found = posterior(self.table, self.nodes, *self.persons.prior(parameters))
        return regression_point(self.persons, parameters, self.nodes, *found)

    def latent(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return γ and log σ, shape (k,), and their derivatives by the parameters, shape (k, p)."""
        return parameters.copy(), np.eye(len(parameters))

    def em_step(self, point: Point) -> Floats:
        """Regress the posterior means, and add the posterior variances to those of the residuals."""
        X, w, in_group, (m1, m2) = self.persons.design, self.persons.weight, self.persons.in_group, point.moments
        before, sds = self.persons.prior(point.parameters)
        root = np.sqrt(w) / sds
        gamma = np.linalg.lstsq(X * root[:, None], (before + m1) * root, rcond=None)[0]
        moved = before - X @ gamma
        square = (w * (m2 + 2 * m1 * moved + moved**2)) @ in_group / (w @ in_group)
        return np.concatenate([gamma, np.log(square) / 2])


def _suffice(nodes: Floats, needed: Floats) -> bool:
    """Check whether nodes are as wide and dense as the needed ones, except for an eighth of a step and of an SD."""
    slack = (needed[-1] - needed[0]) / 100
    wide = nodes[0] <= needed[0] + slack and nodes[-1] >= needed[-1] - slack
    return bool(wide and nodes[1] - nodes[0] <= 1.125 * (needed[1] - needed[0]))


def _moved(raw: Floats, by: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the moments of order 1 … 4 of y + by, shape (N,) each, from the raw moments 0 … 4 of y, shape (5, N)."""
    _, m1, m2, m3, m4 = raw
    return (
        m1 + by,
        m2 + 2 * by * m1 + by**2,
        m3 + 3 * by * m2 + 3 * by**2 * m1 + by**3,
        m4 + 4 * by * m3 + 6 * by**2 * m2 + 4 * by**3 * m1 + by**4,
    )
