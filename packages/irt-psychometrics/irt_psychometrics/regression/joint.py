"""The regression and the items together, by joint maximum likelihood.

The scale is identified as in R TAM's `tam.mml(formulaY = …)`: the intercept is 0, and the first group has a residual SD
of 1 unless all slopes are 1. Newton's method starts from a fit of the items and a regression with these items held. The
observed information is that of Louis (1982), as in `maximum`, with the complete-data scores of all parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration, Convergence
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.regression.answers import Answers
from irt_psychometrics.regression.maximum import TIGHT, Persons, maximise, newton_step, posterior

_MAX_ITERATIONS = 50
_STEP = 1e-4
"""Step of an item parameter for differences of derivatives."""
_CELLS_AT_ONCE = 10_000_000
"""Scores of persons at nodes that are in memory together, 80 MB."""


@dataclass(frozen=True)
class JointPoint:
    """The joint likelihood at p free parameters: the items', then γ, then log σ.

    Attributes
    ----------
    full
        Shape (F,), all parameters, free or not: item parameters (P, J), γ and log σ.
    log_likelihood, scores
        Shape (N,) and (N, p), of each person.
    information
        Shape (p, p), minus the weighted sum of second derivatives.
    """

    full: Floats
    log_likelihood: Floats
    scores: Floats
    information: Floats


@dataclass(frozen=True)
class JointLikelihood:
    """The likelihood of N persons' answers to J items under a regression.

    Attributes
    ----------
    fit
        The fit from which the items start, on the scale of the regression.
    score
        Shape (N, J), scores; C, the largest number of scores of an item, if there is no answer.
    latent
        Shape (K + G,), γ and log σ to start from.
    nodes
        Shape (Q,), equally spaced.
    """

    fit: Calibration
    score: Ints
    persons: Persons
    latent: Floats
    nodes: Floats

    @classmethod
    def from_fit(cls, x: Responses, fit: Calibration, persons: Persons) -> JointLikelihood:
        """Estimate the regression with the items of a fit held, and move both to the joint scale."""
        model, K = fit.item_model, persons.design.shape[1]
        if model.block_steps or model.has_parameter("c"):
            raise PsychometricsError(
                f"items of a {model.spoken} are not estimated together with a regression; fit them by irt.fit and give "
                "the fit as items"
            )
        latent = maximise(Answers.from_responses(x, fit.items), persons)[0].parameters.copy()
        slope = 1.0 if model.fixed_slopes else float(np.exp(-latent[K]))
        fit = fit.rescaled(slope, -slope * latent[0])
        latent[:K] *= slope
        latent[K:] += np.log(slope)
        latent[0] = 0.0
        score = np.full((x.n_persons, x.n_items), fit.n_categories.max(initial=2))
        score[x.person, x.item] = x.score
        means, sds = persons.design @ latent[:K], np.exp(latent[K:])
        return cls(fit, score, persons, latent, Answers.from_responses(x, fit.items).nodes_for(means, sds))

    @cached_property
    def start(self) -> Floats:
        """All parameters to start from, shape (F,)."""
        return np.concatenate([self.fit.parameters.ravel(), self.latent])

    @cached_property
    def place(self) -> Ints:
        """The place of each of the F parameters among the free ones, −1 if it is fixed; equal ones have one place."""
        model, categories, K = self.fit.item_model, self.fit.n_categories, self.persons.design.shape[1]
        given = np.stack([(self.score == c).any(axis=0) for c in range(int(categories.max(initial=2)))], axis=1)
        free_latent = np.arange(len(self.latent)) > 0
        free_latent[K] = model.fixed_slopes
        free = np.concatenate([model.free(categories, given).ravel(), free_latent])
        place = np.where(free, np.cumsum(free) - 1, -1)
        common = np.flatnonzero(model.common_slopes(self.score.shape[1]) & (place[: self.score.shape[1]] >= 0))
        place[common] = place[common].min(initial=place.max())
        place[place >= 0] = np.unique(place[place >= 0], return_inverse=True)[1]
        return place

    def evaluate(self, full: Floats) -> JointPoint:
        """Compute the log-likelihood, scores and observed information."""
        (N, J), X, w, nodes = self.score.shape, self.persons.design, self.persons.weight, self.nodes
        K, p = X.shape[1], int(self.place.max()) + 1
        n_items = len(full) - len(self.latent)
        model, categories, parameters = self.fit.item_model, self.fit.n_categories, full[:n_items].reshape(-1, J)
        logs = _with_no_answer(model.log_probabilities(nodes, parameters, categories))
        by = _with_no_answer(model.by_parameters(nodes, parameters, categories)).reshape(n_items, -1, len(nodes))
        means, sds = X @ full[n_items : n_items + K], np.exp(full[n_items + K :])[self.persons.group]
        log_likelihood, scores, missing = np.empty(N), np.empty((N, p)), np.zeros((p, p))
        answers, moments = np.zeros((J, logs.shape[1], len(nodes))), np.empty((2, N))
        chunk = max(1, _CELLS_AT_ONCE // (p * len(nodes)))
        for first in range(0, N, chunk):
            rows = slice(first, first + chunk)
            given, e = self.score[rows], nodes - means[rows, None]
            table = logs[np.arange(J), given].sum(axis=1)
            weights, log_likelihood[rows] = posterior(table, nodes, means[rows], sds[rows])
            moments[:, rows] = (weights * e).sum(axis=1), (weights * e**2).sum(axis=1)
            own = np.zeros((p, *e.shape))
            for f in np.flatnonzero(self.place[:n_items] >= 0).tolist():
                own[self.place[f]] += by[f, given[:, f % J]]
            for f, at in enumerate(self.place[n_items:].tolist()):
                if at >= 0:
                    own[at] = self._by_latent(f, rows, e, sds[rows])
            scores[rows] = np.einsum("pnq,nq->np", own, weights)
            own *= np.sqrt(weights * w[rows, None])
            flat = own.reshape(p, -1)
            missing += flat @ flat.T - (scores[rows] * w[rows, None]).T @ scores[rows]
            for c in range(logs.shape[1] - 1):
                answers[:, c] += (given == c).T @ (weights * w[rows, None])
        complete = np.zeros((len(full), len(full)))
        complete[:n_items, :n_items] = self._item_information(parameters, answers[:, :-1])
        complete[n_items:, n_items:] = self._latent_information(moments, sds)
        reduced = np.zeros((len(full), p))
        reduced[self.place >= 0, self.place[self.place >= 0]] = 1.0
        return JointPoint(full, log_likelihood, scores, reduced.T @ complete @ reduced - missing)

    def maximise(self) -> tuple[JointPoint, Convergence]:
        """Climb from the start by Newton's method."""
        free, w = self.place >= 0, self.persons.weight
        point, change, reason = self.evaluate(self.start), float("inf"), ""
        for iteration in range(1, _MAX_ITERATIONS + 1):  # noqa: B007  (the number is the result)
            gradient = w @ point.scores
            step = newton_step(point.information, gradient)
            if step is None:
                reason = "the answers do not determine all parameters; hold the items, or use fewer covariates"
                break
            if (change := abs(float(gradient @ step)) ** 0.5) < TIGHT:
                break
            for part in (1.0, 0.5, 0.25, 0.125):
                full = point.full.copy()
                full[free] += part * step[self.place[free]]
                moved = self.evaluate(full)
                if w @ moved.log_likelihood >= w @ point.log_likelihood * (1 + 1e-10):
                    break
            point = moved
        else:
            reason = f"the limit of {_MAX_ITERATIONS} iterations was reached"
        largest = float(np.abs(w @ point.scores).max())
        loglik = float(w @ point.log_likelihood)
        return point, Convergence(not reason, iteration, change, largest, loglik, len(gradient), reason)

    def items(self, point: JointPoint, cov: Floats) -> ItemParameters:
        """Return the items with their part of the covariance `cov` (p, p) of the free parameters."""
        J, categories = self.score.shape[1], self.fit.n_categories
        parameters = point.full[: len(self.start) - len(self.latent)].reshape(-1, J)
        own = np.where(self.place >= 0, self.place, len(cov))[: parameters.size].reshape(-1, J).T
        wide = np.pad(cov, (0, 1))
        pairs = own[:, :2].ravel()
        further = None if self.fit.further is None else np.where(np.isnan(self.fit.further), np.nan, parameters[2:].T)
        moved = replace(
            self.fit, a=parameters[0], d=parameters[1], further=further, joint_cov=wide[np.ix_(pairs, pairs)]
        )
        return replace(moved, cov=wide[own[:, :, None], own[:, None, :]], categories=categories).items

    def _by_latent(self, f: int, rows: slice, e: Floats, sds: Floats) -> Floats:
        """The complete-data scores of γ_f, or of log σ, shape (n, Q)."""
        K, variance = self.persons.design.shape[1], (sds**2)[:, None]
        if f < K:
            return self.persons.design[rows, f, None] * e / variance
        return (self.persons.group[rows, None] == f - K) * (e**2 / variance - 1)

    def _item_information(self, parameters: Floats, answers: Floats) -> Floats:
        """Minus the second derivatives of the complete-data log-likelihood, shape (PJ, PJ), by differences.

        `answers` (J, C, Q) are expected numbers of answers.
        """
        (P, J), model, categories = parameters.shape, self.fit.item_model, self.fit.n_categories
        found = np.zeros((P, J, P, J))
        items = np.arange(J)
        for k in range(P):
            step = np.zeros((P, 1))
            step[k] = _STEP
            down, up = (model.by_parameters(self.nodes, parameters + move, categories) for move in (-step, step))
            found[:, items, k, items] = np.einsum("mjqc,jcq->mj", down - up, answers) / (2 * _STEP)
        found = (found + found.transpose(2, 1, 0, 3)) / 2
        return found.reshape(P * J, P * J)

    def _latent_information(self, moments: Floats, sds: Floats) -> Floats:
        """Minus the second derivatives of the complete-data log density of θ, shape (K + G, K + G)."""
        X, group, w = self.persons.design, self.persons.group, self.persons.weight
        own = (group[:, None] == np.arange(self.persons.n_groups)) * 1.0
        both = (X * (2 * w * moments[0] / sds**2)[:, None]).T @ own
        of_sds = np.diag((2 * w * moments[1] / sds**2) @ own)
        return np.block([[(X * (w / sds**2)[:, None]).T @ X, both], [both.T, of_sds]])


def _with_no_answer(by_score: Floats) -> Floats:
    """Add a score without an answer, with the value 0: (…, J, Q, C) becomes (…, J, C + 1, Q)."""
    padded = np.pad(by_score, [(0, 0)] * (by_score.ndim - 1) + [(0, 1)])
    return np.ascontiguousarray(np.moveaxis(padded, -1, -2))
