"""The nominal model of items whose scores, or options, have slopes of their own.

Does not belong here: the models with given slopes of the scores (`model_families`).
"""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.model_families import GPCM, ScoredModel
from irt_psychometrics.core.priors import Priors

POINTS_BOUND = 50.0
"""Bound of |s|. It is reached if persons with the lowest and the highest score hardly differ in θ, so that a is near
0."""


class NominalModel(ScoredModel):
    """Items scored 0 … m: log P(k) = s_k·(aθ + d) + t_k up to a constant (Bock 1972; Thissen, Cai & Bock 2010).

    s_k is the points that score k is worth for θ. At the lowest and at the highest score s_k is k and t_k is 0; inner
    scores have free s_k and t_k. With s_k = k for all scores the model is the generalised partial credit model. The log
    odds of score k against 0 are s_k·aθ + d_k with d_k = s_k·d + t_k (mirt's ak and d).

    The answers decide whether s ascends, so C2 and other statistics of ordered scores are not defined.

    If the lowest and the highest score have the same slope, no values of s exist: the estimates stop at `POINTS_BOUND`.
    """

    prefixes = ("s", "t")
    loops = "nominal"
    ordered_scores = False

    def bounds(self, parameter: str) -> tuple[float, float]:
        return (-POINTS_BOUND, POINTS_BOUND) if parameter.startswith("s") else super().bounds(parameter)

    def fixed_values(self, categories: Ints, given: Mask | None = None) -> Floats:
        values = super().fixed_values(categories, given)
        values[2::2] = np.where(np.isfinite(values[2::2]), np.arange(len(values) // 2 - 1)[:, None], -np.inf)
        return values

    def start(self, shares: Floats, categories: Ints, priors: Priors) -> Floats:
        of_partial_credit = GPCM.start(shares, categories, priors)
        values = self.fixed_values(categories, shares > 0)
        values[:2], values[3::2] = of_partial_credit[:2], of_partial_credit[2:]
        return values

    def from_log_odds(self, log_odds: Floats) -> tuple[Floats, Floats]:
        """Convert mirt's d and ak of each score, shape (2C,), to d, s0, t0, s1, t1, …, and derivatives."""
        d_of, points = log_odds.reshape(2, -1)
        scores, size = np.flatnonzero(np.isfinite(d_of)), d_of.size
        low, high = scores[[0, -1]]
        values, by = np.full(1 + 2 * size, -np.inf), np.zeros((1 + 2 * size, 2 * size))
        d = values[0] = d_of[high] / (high - low)
        by[0, high] = 1 / (high - low)
        values[1 + 2 * scores], values[2 + 2 * scores] = low + points[scores], d_of[scores] - points[scores] * d
        by[1 + 2 * scores, size + scores] = by[2 + 2 * scores, scores] = 1.0
        by[2 + 2 * scores, high] -= points[scores] / (high - low)
        by[2 + 2 * scores, size + scores] = -d
        values[2 + 2 * high], by[2 + 2 * high] = 0.0, 0.0
        return values, by

    def points(self, further: Floats) -> Floats:
        """Return s of n items with these parameters (M, n), shape (C, n); 0 for scores that an item does not have."""
        return np.where(np.isfinite(further[1::2]), further[::2], 0.0)

    def score_rows(self, further: Floats, categories: Ints) -> Floats:  # noqa: ARG002
        return further[1::2]

    def log_probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        eta, points, t = self._lines(theta, parameters, categories)
        logs = points[:, :, None] * eta + t[:, :, None]
        logs -= logs.max(axis=0)
        logs -= np.log(np.exp(logs).sum(axis=0))
        return np.moveaxis(logs, 0, 2)

    def by_parameters(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        p = self.probabilities(theta, parameters, categories)
        eta, points, _ = self._lines(theta, parameters, categories)
        by_eta = self._by_eta(p, points)
        by = np.zeros((len(parameters), *p.shape))
        by[0], by[1] = by_eta * theta[:, None], by_eta
        for k in range(len(points)):
            by[3 + 2 * k] = -p[:, :, k : k + 1]
            by[3 + 2 * k, :, :, k] += 1.0
        by[2::2] = by[3::2] * eta[:, :, None]
        by[2:] = np.where(p > 0, by[2:], 0.0)
        return by

    def by_theta(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        p = self.probabilities(theta, parameters, categories)
        return parameters[0][:, None, None] * self._by_eta(p, self._lines(theta, parameters, categories)[1])

    def _lines(self, theta: Floats, parameters: Floats, categories: Ints) -> tuple[Floats, Floats, Floats]:
        """Return aθ + d (J, Q), and s and t of each score (C, J); t is −∞ for scores that an item lacks."""
        eta = np.multiply.outer(parameters[0], theta) + parameters[1][:, None]
        points, t = self.points(parameters[2:]), parameters[3::2]
        return eta, points, np.where(np.arange(len(t))[:, None] < categories, t, -np.inf)

    @staticmethod
    def _by_eta(p: Floats, points: Floats) -> Floats:
        """Compute ∂ log P/∂(aθ + d), shape (J, Q, C)."""
        by = points.T[:, None] - np.einsum("jqc,cj->jq", p, points)[:, :, None]
        return np.where(p > 0, by, 0.0)


NOMINAL = NominalModel("nominal", "nominal model", "own")
