"""The standard error of θ including the errors of the item parameters and of the linking.

θ̂ solves Σ_j ω_j (x_j − P_j) = (θ − μ)/σ², ω_j = P'_j/(P_j Q_j), so an error ε_j of an item's parameters
η_j = (a, b, logit c) moves θ̂, to first order, by

    g_jᵀ ε_j,    g_j = ((x_j − P_j) ∂ω_j/∂η_j − ω_j ∂P_j/∂η_j)/(Σ_k I_k + 1/σ²)

(delta method; Cheng & Yuan 2010; Yang, Hansen & Cai 2012): answers get wrong weights, and point to a different θ.
Items from one fit have an error in common: a fit that is stretched and shifted as a whole stretches and shifts θ. With
γ = (stretch, shift) of θ,

    ε_j = own_j + B_j γ,    B_j γ = (−a_j γ₁, b_j γ₁ + γ₂, 0).

Because Σ_j g_jᵀB_j = w·(θ, 1) except for the residuals, with w = Σ_j I_j/(Σ_k I_k + 1/σ²) over the items of the fit,

    Var θ̂ = se² + Σ_j g_jᵀ Cov(own_j) g_j + Σ_fits w² (θ, 1) Γ (θ, 1)ᵀ,    Γ = Cov γ.

Γ is computed once for each fit (`ParameterErrors.common_to`), so the cost of a learner is proportional to the number of
answers. The error that all fits of a scale have in common is the error of the frozen anchors. It is `shared`, and
counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.covariances import common_part, padded, with_further
from irt_psychometrics.core.curves import (
    by_asymptote_at,
    information_at,
    probability_at,
    slope_at,
    weight_at,
)
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring import score_kernels
from irt_psychometrics.scoring.abilities import Scores

MIN_ITEMS = 3
"""Minimum number of items whose errors can be divided into a common part of two numbers and each item's own part."""
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class ErrorParts:
    """The effect of errors of items on θ of n learners, to first order.

    Attributes:
        information: shape (n,), Σ_j I_j + 1/σ².
        own: shape (n,), Σ_j g_jᵀ Cov(own_j) g_j.
        weight: shape (n, fits), Σ_j I_j over the items of a fit, divided by `information`.
        alone: shape (n, fits), Σ_j I_j² over the items of a fit, divided by the square of `information`.
    """

    information: Floats
    own: Floats
    weight: Floats
    alone: Floats


@dataclass(frozen=True)
class ParameterErrors:
    """The errors of the items by which θ is estimated.

    Attributes:
        items: J items; their covariances are NaN if errors are not known.
        origin: shape (J,), the fit from which an item's values come, as an index into `common`; −1 if its errors are
            independent of all others.
        common: Γ of each fit, shape (2, 2), all NaN if it is not known.
        shared: shape (2, 2), the part of Γ that all fits have in common.
    """

    items: ItemParameters
    origin: Ints
    common: Sequence[Floats]
    shared: Floats

    @property
    def shared_effects(self) -> Floats:
        """B_j times a root of the covariance of all γ: effects on (a, b) of independent errors, shape (J, 2, R).

        Errors that are not known count as 0. For `adaptive.ItemPosterior.from_items`.
        """
        fits, items = len(self.common), self.items
        gamma = np.tile(self.shared, (fits, fits, 1, 1))
        gamma[np.arange(fits), np.arange(fits)] = np.reshape(self.common, (fits, 2, 2))
        values, vectors = np.linalg.eigh(np.nan_to_num(gamma.swapaxes(1, 2).reshape(2 * fits, 2 * fits)))
        root = (vectors * np.sqrt(np.maximum(values, 0.0))).reshape(fits, 2, 2 * fits)
        by = np.stack([[-items.a, 0 * items.a], [items.b, 0 * items.a + 1]]).transpose(2, 0, 1)
        return by @ np.concatenate([root, np.zeros((1, 2, 2 * fits))])[self.origin]

    @staticmethod
    def common_to(fit: Calibration) -> Floats | None:
        """Γ of a fit on the bank's scale, shape (2, 2), an element of `common`.

        In terms of (a, d), B_j is −a_j on the diagonal. Slopes that are not estimated do not determine a stretch, which
        is then 0.

        Parameters
        ----------
        fit
            The fit, after linking.

        Returns
        -------
        array of shape (2, 2), or None
            Covariance of (stretch, shift). None if the joint covariance of the fit is not known, or if fewer than three
            items have errors.
        """
        used = np.isfinite(fit.cov[:, :2, :2]).all(axis=(1, 2)) & (fit.cov[:, 1, 1] > 0)
        if fit.joint_cov is None or used.sum() < MIN_ITEMS:
            return None
        of = np.flatnonzero(used)
        pairs = np.stack([2 * of, 2 * of + 1], axis=1).ravel()
        return common_part(fit.joint_cov[np.ix_(pairs, pairs)], -fit.a[of][:, None, None] * np.eye(2))

    def among(self, item_ids: Sequence[str]) -> ParameterErrors:
        """The errors of `item_ids` in this order; unknown for items that are not among these."""
        place = {item: j for j, item in enumerate(self.items.item_ids)}
        at = [place.get(item, -1) for item in item_ids]
        return replace(self, items=self.items.among(item_ids), origin=np.append(self.origin, -1)[at])

    def total_se(self, scores: Scores, responses: Responses, prior_sd: float) -> Floats:
        """Standard error of θ including the errors of the items, shape (n_persons,), at least `scores.se`.

        NaN if the errors of an answered item are not known. Arguments as in `parts`.
        """
        variance = self.variance(self.parts(scores, responses, prior_sd), scores.theta)
        return np.sqrt(scores.se**2 + np.maximum(variance, 0.0))

    def covariance(self, by: Floats) -> Floats:
        """Compute the covariance that the errors of the items give to k numbers, to first order, shape (k, k).

        Parameters
        ----------
        by
            Shape (k, J, 2 + M), derivatives of the numbers by a, b and the further parameters of the J items, such as
            `LatentRegression.by_items`. Items whose derivatives are 0 do not count.

        Returns
        -------
        array of shape (k, k)
            NaN if the errors of an item that counts are not known.
        """
        used = by.any(axis=(0, 2))
        by = by[:, used]
        own: Floats = np.einsum("xjp,jpq,yjq->xy", by, self.items.cov_of_all[used], by)
        by_fit = np.einsum("xjp,jpr->jxr", by[:, :, :2], self.shared_effects[used])
        together = by_fit.sum(axis=0)
        return own + together @ together.T - np.einsum("jxr,jyr->xy", by_fit, by_fit)

    def parts(self, scores: Scores, responses: Responses, prior_sd: float) -> ErrorParts:
        """The effect of the items' errors on each learner's θ.

        `scores` are the scores of `responses`, whose items are these, with a prior of the SD `prior_sd`. Answers to
        items without parameters do not count.
        """
        discount = scores.discount
        prior = prior_sd if scores.start is None else prior_sd / np.sqrt(scores.start)
        known = np.isfinite(self.items.a + self.items.b)[responses.item]
        person, item = responses.person[known], responses.item[known]
        theta, n, score = scores.theta[person], responses.n_persons, responses.score[known]
        if self.items.others or responses.categories is not None:
            score = self._counted_scores.of_answers(item, score, responses.categories)

        def sum_by_learner(of_answers: Floats) -> Floats:
            return np.bincount(person, of_answers, minlength=n).astype(np.float64)

        a, c, off = self.items.a[item], self.items.c[item], theta - self.items.b[item]
        eta, by_logit_c = a * off, c * (1 - c)
        p, by_eta, omega = probability_at(eta, c), slope_at(eta, c), weight_at(eta, a, c)
        information = information_at(eta, a, c)
        of_scores = self._score_terms(item, theta, score) if self.items.others else None
        if of_scores is not None:
            information = np.where(np.isnan(of_scores[0]), information, of_scores[0])
        counts = 1.0 if discount is None else discount[known]
        information = counts * information
        total = (sum_by_learner(information) + prior**-2)[person]
        moves = -omega * np.stack([by_eta * off, -by_eta * a, by_asymptote_at(eta) * by_logit_c])
        bend = by_eta / (1 - c) / np.maximum(p, _TINY) ** 2  # −∂(ω/a)/∂c, and ∂(ω/a)/∂η divided by c
        weighs = np.stack([omega / a + eta * c * bend, -(a**2) * c * bend, -a * bend * by_logit_c])
        by = ((score - p) * weighs + moves).T / total[:, None]
        own = np.einsum("rx,rxy,ry->r", by, self._cov_of_three[item], by)
        if of_scores is not None:
            own = np.where(np.isnan(of_scores[0]), own, of_scores[1] / total**2)
        own = counts**2 * own
        share, origin, fits = information / total, self.origin[item], len(self.common)
        of_fit = origin >= 0
        cell = (person * fits + origin)[of_fit]

        def sum_by_fit(of_answers: Floats) -> Floats:
            return np.bincount(cell, of_answers[of_fit], minlength=n * fits).reshape(n, fits).astype(np.float64)

        known_now = sum_by_learner(information) + prior**-2
        return ErrorParts(known_now, sum_by_learner(own), sum_by_fit(share), sum_by_fit(share**2))

    def variance(self, parts: ErrorParts, theta: Floats) -> Floats:
        """The variance of θ due to errors of the items, shape (n_persons,); NaN if they are not known."""
        at = np.stack([theta**2, 2 * theta, np.ones(len(theta))])
        weight, gamma = parts.weight, np.reshape(self.common, (len(self.common), 2, 2))[:, [0, 0, 1], [0, 1, 1]]
        variance = parts.own + np.where(weight > 0, (weight**2 - parts.alone) * (gamma @ at).T, 0.0).sum(axis=1)
        between = weight.sum(axis=1) ** 2 - (weight**2).sum(axis=1)
        return variance + between * (self.shared[[0, 0, 1], [0, 1, 1]] @ at)

    @cached_property
    def _counted_scores(self) -> CountedScores:
        return CountedScores.from_curves(self.items.curves)

    @cached_property
    def _cov_of_three(self) -> Floats:
        """Covariance of each item's a, b and logit c, shape (J, 3, 3)."""
        third = padded(self.items.further_cov, len(self.items.item_ids), 1)[:, :1, :3]
        return with_further(self.items.cov_of_each, third)

    @cached_property
    def _score_rows(self) -> tuple[Floats, Floats, Ints]:
        return self.items.curves.score_rows

    @cached_property
    def _covariances(self) -> tuple[Floats, Floats]:
        """Covariances of (a, b) and of the further parameters."""
        further = padded(self.items.further_cov, len(self.items.item_ids), self.items.n_further)
        return np.ascontiguousarray(self.items.cov_of_each), np.ascontiguousarray(further)

    def _score_terms(self, item: npt.NDArray[np.int32], theta: Floats, score: npt.NDArray[np.int8]) -> Floats:
        """Information of R answers, and the variance of ∂ log P/∂θ due to errors of the items, shape (2, R).

        NaN for answers to items of two categories.
        """
        found = np.full((2, item.size), np.nan)
        cov, further = self._covariances
        score_kernels.variances_of_scores(
            (item, score, theta),
            self.items.a,
            self.items.b,
            self._score_rows,
            self._counted_scores.categories,
            cov,
            further,
            found,
        )
        return found
