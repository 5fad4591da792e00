"""The regression and the items together, by joint maximum likelihood.

The scale is identified as in R TAM's `tam.mml(formulaY = …)`: the intercept is 0, and the first group has a residual SD
of 1 unless all slopes are 1. Newton's method starts from a fit of the items and a regression with these items held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.regression.answers import Answers
from irt_psychometrics.regression.maximum import HeldItems, Persons, Point, posterior, regression_point

_STEP = 1e-4
"""Step of an item parameter for differences of derivatives."""
_CELLS_AT_ONCE = 10_000_000
"""Scores of persons at nodes that are in memory together, 80 MB."""


@dataclass(frozen=True)
class FreeItems:
    """The likelihood of item parameters, γ and log σ.

    Attributes
    ----------
    fit
        The fit from which the items start, on the scale of the regression.
    score
        Shape (N, J), scores; C, the largest number of scores of an item, if there is no answer.
    nodes
        Shape (Q,), equally spaced.
    held
        Shape (F,), values of the parameters that are not free: item parameters (P, J), γ and log σ; 0 for free ones.
    spread
        Shape (F, p), 1 if a parameter (row) is the free parameter (column). Equal slopes are one free parameter.
    start
        Shape (p,), values to start from.
    """

    persons: Persons
    fit: Calibration
    score: Ints
    nodes: Floats
    held: Floats
    spread: Floats
    start: Floats

    @classmethod
    def from_fit(cls, x: Responses, fit: Calibration, persons: Persons) -> FreeItems:
        """Estimate the regression with the items of a fit held, and move both to the joint scale."""
        model, K = fit.item_model, persons.design.shape[1]
        model.require_own_parameters("a regression with free items")
        latent = HeldItems.maximise(Answers.from_responses(x, fit.items), persons).point.parameters.copy()
        slope = 1.0 if model.fixed_slopes else float(np.exp(-latent[K]))
        fit = fit.rescaled(slope, -slope * latent[0])
        latent[0], latent[1:K], latent[K:] = 0.0, slope * latent[1:K], latent[K:] + np.log(slope)
        score = np.full((x.n_persons, x.n_items), fit.n_categories.max(initial=2))
        score[x.person, x.item] = x.score
        given = np.stack([(score == c).any(axis=0) for c in range(fit.n_categories.max())], axis=1)
        free_latent = np.arange(len(latent)) > 0
        free_latent[K] = model.fixed_slopes
        free = np.concatenate([model.free(fit.n_categories, given).ravel(), free_latent])
        place = np.arange(len(free))
        place[: x.n_items][model.common_slopes(x.n_items)] = 0
        spread = (place[:, None] == np.unique(place[free])) * free[:, None] * 1.0
        full = np.concatenate([fit.parameters.ravel(), latent])
        start = spread.T @ np.where(free, full, 0.0) / spread.sum(axis=0)
        nodes = Answers.from_responses(x, fit.items).nodes_for(*persons.prior(latent))
        return cls(persons, fit, score, nodes, np.where(free, 0.0, full), spread, start)

    @property
    def n_latent(self) -> int:
        """The number of γ and log σ, K + G."""
        return self.persons.design.shape[1] + self.persons.in_group.shape[1]

    def evaluate(self, parameters: Floats) -> Point:
        """Compute log-likelihood, scores and observed information of the free parameters."""
        full = self.held + self.spread @ parameters
        items, latent = full[: -self.n_latent], full[-self.n_latent :]
        J, C = self.score.shape[1], self.fit.n_categories.max(initial=2)
        of_model = (self.nodes, items.reshape(-1, J), self.fit.n_categories)
        logs = self.fit.item_model.log_probabilities(*of_model).transpose(0, 2, 1)
        by = self.fit.item_model.by_parameters(*of_model).transpose(0, 1, 3, 2)
        by = np.pad(by, [(0, 0), (0, 0), (0, 1), (0, 0)]).reshape(len(items), C + 1, -1)
        means, sds = self.persons.prior(latent)
        answered = np.flatnonzero(self.score.ravel() < C)
        column = (np.arange(J) * C + self.score).ravel()[answered]
        given = csr_matrix((np.ones(column.size), (answered // J, column)), shape=(len(self.score), J * C))
        weights, log_likelihood = posterior(given @ logs.reshape(J * C, -1), self.nodes, means, sds)
        of_latent = regression_point(self.persons, latent, self.nodes, weights, log_likelihood)
        counts = (given.T @ (weights * self.persons.weight[:, None])).reshape(J, C, -1)
        free = np.flatnonzero(self.spread[: len(items)].any(axis=1))
        scores, missing = self._item_scores(by, free, weights, means, sds, of_latent)
        information = np.zeros((len(full), len(full)))
        information[: len(items), : len(items)] = self._complete_information(items.reshape(-1, J), counts)
        information[-self.n_latent :, -self.n_latent :] = of_latent.information
        rows = np.concatenate([free, np.arange(len(items), len(full))])
        information[np.ix_(rows, rows)] -= missing
        all_scores = np.zeros((len(means), len(full)))
        all_scores[:, rows] = np.column_stack([scores, of_latent.scores])
        return Point(
            parameters,
            log_likelihood,
            all_scores @ self.spread,
            self.spread.T @ information @ self.spread,
            of_latent.moments,
        )

    def latent(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return γ and log σ, shape (k,), and their derivatives by the parameters, shape (k, p)."""
        by = self.spread[-self.n_latent :]
        return self.held[-self.n_latent :] + by @ parameters, by

    def items(self, point: Point, cov: Floats) -> ItemParameters:
        """Return the items with their part of the covariance `cov` (p, p) of the free parameters."""
        J, values = self.score.shape[1], self.held + self.spread @ point.parameters
        full = values[: -self.n_latent].reshape(-1, J)
        spread = self.spread[: full.size].reshape(len(full), J, -1)
        pairs = spread[:2].swapaxes(0, 1).reshape(2 * J, -1)
        moved = replace(
            self.fit,
            a=full[0],
            d=full[1],
            further=None if self.fit.further is None else np.where(np.isnan(self.fit.further), np.nan, full[2:].T),
            cov=np.einsum("pjx,xy,qjy->jpq", spread, cov, spread),
            joint_cov=pairs @ cov @ pairs.T,
        )
        return moved.items

    def _item_scores(
        self, by: Floats, free: Ints, weights: Floats, means: Floats, sds: Floats, of_latent: Point
    ) -> tuple[Floats, Floats]:
        """Compute the scores of the n free item parameters, shape (N, n), and Σ_i w_i Cov(u_i | answers).

        u are the complete-data scores of the item parameters, γ and log σ. The covariances have the shape (n + K + G,
        n + K + G); entries between γ and log σ are 0, because `regression_point` contains them.
        """
        J, w, n = self.score.shape[1], self.persons.weight, len(free)
        scores, missing = np.empty((len(means), n)), np.zeros((n + self.n_latent,) * 2)
        chunk = max(1, _CELLS_AT_ONCE // (n * len(self.nodes)))
        for first in range(0, len(means), chunk):
            rows = slice(first, first + chunk)
            own = np.stack([by[f, self.score[rows, f % J]] for f in free.tolist()])
            e = self.nodes - means[rows, None]
            powers = weights[rows, :, None] * e[:, :, None] ** np.arange(3)
            s, by_e, by_e2 = np.moveaxis(own.swapaxes(0, 1) @ powers, 2, 0)
            scores[rows] = s
            own *= np.sqrt(weights[rows] * w[rows, None])
            flat = own.reshape(n, -1)
            missing[:n, :n] += flat @ flat.T - (s * w[rows, None]).T @ s
            m1, m2 = of_latent.moments[:, rows, None]
            scale = (w[rows] / sds[rows] ** 2)[:, None]
            with_latent = (self.persons.design[rows], by_e - m1 * s), (self.persons.in_group[rows], by_e2 - m2 * s)
            missing[:n, n:] += np.column_stack([(scale * one).T @ factor for factor, one in with_latent])
        missing[n:, :n] = missing[:n, n:].T
        return scores, missing

    def _complete_information(self, parameters: Floats, counts: Floats) -> Floats:
        """Minus the second derivatives of the complete-data log-likelihood of P parameters, shape (PJ, PJ).

        They are differences of derivatives, for expected numbers of answers `counts` (J, C, Q).
        """
        (P, J), model, categories = parameters.shape, self.fit.item_model, self.fit.n_categories
        found, items = np.zeros((P, J, P, J)), np.arange(J)
        for k in range(P):
            step = np.zeros((P, 1))
            step[k] = _STEP
            down, up = (model.by_parameters(self.nodes, parameters + move, categories) for move in (-step, step))
            found[:, items, k, items] = np.einsum("mjqc,jcq->mj", down - up, counts) / (2 * _STEP)
        return ((found + found.transpose(2, 1, 0, 3)) / 2).reshape(P * J, P * J)
