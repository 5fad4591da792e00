"""The maximum of the marginal likelihood of θ = xᵀγ + ε, ε ~ N(0, σ²_g), given the answers.

With e = θ − xᵀγ and expectations over a person's posterior, the scores of γ and log σ are x E(e)/σ² and E(e²)/σ² − 1.
The observed information follows from Louis (1982): the information of complete data minus the posterior covariance of
the complete-data scores, which takes the first four posterior moments of e. The maximum is found by Newton's method. If
the information is not positive definite, the absolute values of its eigenvalues are used, so that each step ascends.

Items that are estimated, too, are in `free_items`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.models import Convergence
from irt_psychometrics.regression.answers import Answers

_MAX_ITERATIONS = 200
_TIGHT = 1e-6
"""Newton step in standard errors, below which the maximum is reached."""
_LEAST = 1e-9
"""Least eigenvalue of the scaled information of parameters that the answers determine."""
_SMALLEST_SHARE = 0.02
"""A residual SD below this share of the first one, 3/a for a median slope, cannot be distinguished from 0."""
_SHRINKS = np.log(1.5)
"""Decrease of log σ after which nodes are too far apart: at 1.2 SDs, the error of a sum over nodes is 1e-6."""
_NO_VARIANCE = "a residual SD became 0, because the covariates explain all variance of θ or a group is too small"
_TOO_NARROW = "a residual SD became much smaller than at the start; hold the items"


@dataclass(frozen=True)
class Persons:
    """Covariates, groups and weights of N persons.

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

    @cached_property
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


def posterior(table: Floats, nodes: Floats, means: Floats, sds: Floats) -> tuple[Floats, Floats]:
    """Compute posterior weights of the nodes, shape (N, Q), and each person's marginal log-likelihood, shape (N,).

    `table` (N, Q) is log P(answers | θ) at equally spaced nodes, and `means` and `sds` (N,) belong to the priors.
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
        gradient, before = w @ point.scores, w @ point.log_likelihood
        step, is_maximum = _ascent(point.information, gradient)
        change = float(gradient @ step) ** 0.5
        if is_maximum and change < _TIGHT:
            break
        if (point.parameters[sds] < start[sds] - _SHRINKS).any():
            reason = _TOO_NARROW
            break
        step /= max(1.0, np.abs(step[sds]).max())
        for part in 0.5 ** np.arange(10):
            moved = likelihood.evaluate(point.parameters + part * step)
            if w @ moved.log_likelihood >= before - 1e-10 * abs(before):
                break
        point = moved
    else:
        reason = f"the limit of {_MAX_ITERATIONS} iterations was reached"
    largest, loglik = float(np.abs(w @ point.scores).max()), float(w @ point.log_likelihood)
    return point, Convergence(not reason, iteration, change, largest, loglik, len(start), reason)


def _ascent(information: Floats, gradient: Floats) -> tuple[Floats, bool]:
    """Return Newton's step with positive eigenvalues, and whether all eigenvalues are positive."""
    unit = 1 / np.sqrt(np.maximum(np.abs(np.diag(information)), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(information * np.outer(unit, unit))
    step: Floats = unit * (vectors @ ((unit * gradient) @ vectors / np.maximum(np.abs(values), _LEAST)))
    return step, bool(values[0] > _LEAST)


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
    def maximise(cls, answers: Answers, persons: Persons) -> HeldMaximum:
        """Find the maximum. Nodes are chosen again until they suffice for it."""
        items, K = answers.items, persons.design.shape[1]
        latent = np.zeros(K + persons.in_group.shape[1])
        # one wide normal distribution around the items
        latent[0], latent[K:] = np.median(items.b), np.log(3 / max(float(np.median(np.abs(items.a))), 1e-6))
        smallest, iterations = latent[K:] + np.log(_SMALLEST_SHARE), 0
        while True:
            likelihood = cls.around(answers, persons, latent)
            point, convergence = climb(likelihood, latent)
            latent, iterations = point.parameters, iterations + convergence.iterations
            if (latent[K:] < smallest).any():
                convergence = replace(convergence, converged=False, reason=_NO_VARIANCE)
                break
            needed = answers.nodes_for(*persons.prior(latent))
            if convergence.reason != _TOO_NARROW and (not convergence.converged or _suffice(likelihood.nodes, needed)):
                break
        convergence = replace(convergence, iterations=iterations)
        return HeldMaximum(likelihood, point, convergence)

    def evaluate(self, parameters: Floats) -> Point:
        """Compute log-likelihood, scores and observed information of (γ, log σ)."""
        found = posterior(self.table, self.nodes, *self.persons.prior(parameters))
        return regression_point(self.persons, parameters, self.nodes, *found)

    def latent(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return γ and log σ, shape (k,), and their derivatives by the parameters, shape (k, p)."""
        return parameters.copy(), np.eye(len(parameters))


class HeldMaximum(NamedTuple):
    """The maximum of a likelihood with the items held."""

    likelihood: HeldItems
    point: Point
    convergence: Convergence


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
