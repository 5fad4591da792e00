"""Expected scores of items and of pairs of items under a two-tier model, their derivatives and their covariance.

Given the primary dimensions, the specific dimensions are independent. An expected product of scores is therefore a
product over specific dimensions, each integrated alone, so the cost does not grow with a power of their number.
Statistics that follow from these moments are in `model_fit` and `indices`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.margin_kernels import product_moments

_NODES = {1: 41, 2: 25, 3: 17}
"""Nodes of each primary dimension. At most four curves are multiplied, which is smoother than a person's likelihood."""
_SPECIFIC_NODES = 25


@dataclass(frozen=True)
class Moments:
    """Conditional expectations of V variables of J items at T primary and Q specific nodes.

    The variables are, item by item, the indicator of each score above the lowest one, the points above the lowest
    score, and their square. If an item has the scores 0 and 1, one variable is all three.

    Attributes:
        calibration: the fit; `items` (J,) are places of its items.
        theta: shape (T, P), correlated abilities, with `weights` (T,).
        nodes: shape (Q,), with `specific_weights` (Q,).
        z: shape (J, T, Q), Σ slope·θ + d.
        p: shape (J, T, Q, C), P(score | θ).
        has: shape (J, C), mask of the items' scores.
        credit: shape (J, C), points of each score.
        item, score: shape (S,), item and score of each indicator.
        mean, square: shape (J,), numbers of the variables.
        values: shape (V, T, Q).
    """

    calibration: DimensionsCalibration
    items: Ints
    theta: Floats
    weights: Floats
    nodes: Floats
    specific_weights: Floats
    z: Floats
    p: Floats
    has: Mask
    credit: Floats
    item: Ints
    score: Ints
    mean: Ints
    square: Ints
    values: Floats

    @classmethod
    def from_calibration(cls, fit: DimensionsCalibration, items: Ints) -> Self:
        """Compute the expectations for these items, which must be estimated."""
        P, D = fit.dimensions.n_primary, len(fit.dimensions.names)
        axis, inner = Grid.symmetric(_NODES[P]), Grid.symmetric(_SPECIFIC_NODES)
        nodes, specific = (inner.nodes, np.exp(inner.log_weights())) if D > P else (np.zeros(1), np.ones(1))
        independent = np.stack(np.meshgrid(*[axis.nodes] * P, indexing="ij"), axis=-1).reshape(-1, P)
        weights = np.exp(sum(np.meshgrid(*[axis.log_weights()] * P, indexing="ij"))).ravel()
        theta = independent @ np.linalg.cholesky(fit.correlations[:P, :P]).T
        z = (fit.slopes[items, :P] @ theta.T + fit.intercepts[items, None])[:, :, None]
        z = z + np.multiply.outer(fit.slopes[items, P:].sum(axis=1), nodes)[:, None]  # one specific slope at most
        model, categories = model_of([fit.models[j] for j in items]), fit.categories[items]
        flat = z.reshape(len(items), -1)
        logs = curves.log_probabilities(model, flat, fit.further_parameters[items], categories)
        p = np.exp(logs).reshape(*z.shape, -1)
        has = np.isfinite(logs[:, 0])
        credit = np.where(has, np.arange(has.shape[1]) - has.argmax(axis=1)[:, None], 0.0)
        item, score = np.nonzero(credit)
        scored = np.flatnonzero(credit.max(axis=1) > 1)
        means, squares = (np.einsum("jtqc,jc->jtq", p[scored], credit[scored] ** k) for k in (1, 2))
        mean = np.searchsorted(item, np.arange(len(items)))
        square = mean.copy()
        mean[scored] = len(item) + np.arange(len(scored))
        square[scored] = mean[scored] + len(scored)
        values = np.concatenate([p[item, :, :, score], means, squares])
        return cls(fit, items, theta, weights, nodes, specific, z, p, has, credit, item, score, mean, square, values)

    @property
    def specific(self) -> Ints:
        """The specific dimension of each item, shape (J,); −1 if it has none."""
        return self.calibration.dimensions.specific[self.items]

    @cached_property
    def first(self) -> Floats:
        """Expectations given the primary dimensions alone, shape (V, T)."""
        return self.values @ self.specific_weights

    @cached_property
    def margins(self) -> Ints:
        """The variables of each margin, shape (M, 2): indicators with −1, and then the means of pairs i < j."""
        pairs = self.mean[np.stack(np.triu_indices(len(self.items), 1), axis=1)]
        single = np.stack([np.arange(len(self.item)), np.full(len(self.item), -1)], axis=1)
        return np.concatenate([single, pairs])

    @cached_property
    def given_primary(self) -> Floats:
        """The expected margins given the primary dimensions, shape (M, T)."""
        S, (i, j) = len(self.item), np.triu_indices(len(self.items), 1)
        one, other = self.margins[S:].T
        pairs = self.first[one] * self.first[other]
        shared = (self.specific[i] == self.specific[j]) & (self.specific[i] >= 0)
        pairs[shared] = np.einsum(
            "atq,atq,q->at", self.values[one[shared]], self.values[other[shared]], self.specific_weights
        )
        return np.concatenate([self.first[:S], pairs])

    @property
    def expected(self) -> Floats:
        """The expected margins, shape (M,)."""
        return self.given_primary @ self.weights

    @property
    def covariance(self) -> Floats:
        """The covariance of one person's margins, shape (M, M)."""
        V, J = len(self.values), len(self.items)
        owner = np.concatenate([self.item, *2 * [np.flatnonzero(self.credit.max(axis=1) > 1)]])
        same, factor = np.zeros((V, V), dtype=np.int64), np.zeros((V, V))
        for j in range(J):
            scores = np.flatnonzero(self.item == j)
            same[scores, scores], factor[scores, scores] = scores, 1.0
            mean, points = self.mean[j], self.credit[j, self.score[scores]]
            for at in ((scores, mean), (mean, scores)):
                same[at], factor[at] = scores, points
            same[mean, mean], factor[mean, mean] = self.square[j], 1.0
        kinds = self.specific[owner]
        products = product_moments(
            self.margins, owner, kinds, same, factor, self.values, self.first, self.weights, self.specific_weights
        )
        found: Floats = products - np.multiply.outer(self.expected, self.expected)
        return found

    @property
    def derivatives(self) -> Floats:
        """Derivatives of the expected margins with respect to the free parameters, shape (M, p)."""
        fit, items, P = self.calibration, self.items, self.calibration.dimensions.n_primary
        J, T, Q, C = self.p.shape
        model = model_of([fit.models[j] for j in items])
        by = curves.derivatives(model, self.z.reshape(J, -1), fit.further_parameters[items], fit.categories[items])
        by = self.p * by.reshape(-1, J, T, Q, C)
        out = np.zeros((len(self.margins), fit.places.n_free))
        factors = [self.theta[:, k, None] for k in range(P)]
        factors += [self.nodes] * (fit.slopes.shape[1] - P)
        for k, x in enumerate(factors):
            self._add(out, by[0] * np.broadcast_to(x, (T, Q))[..., None], fit.places.slopes[items, k])
        self._add(out, by[0], fit.places.intercepts[items])
        for change, places in zip(by[1:], fit.places.further[items].T, strict=True):
            self._add(out, change, places)
        inverse = np.linalg.inv(fit.correlations[:P, :P])
        score = self.theta @ inverse
        for k, m in zip(*np.triu_indices(P, 1), strict=True):
            if fit.places.correlations[k, m] >= 0:
                change = score[:, k] * score[:, m] - inverse[k, m]
                out[:, fit.places.correlations[k, m]] += self.given_primary @ (self.weights * change)
        return out

    def _add(self, out: Floats, change: Floats, places: Ints) -> None:
        """Add the change of all margins if P(score | θ) of an item changes by `change` (J, T, Q, C) to `out` (M, p)."""
        free, S = np.flatnonzero(places >= 0), len(self.item)
        at = np.isin(self.item, free)
        joint = self.weights[:, None] * self.specific_weights
        shares = np.einsum("stq,tq->s", change[self.item[at], :, :, self.score[at]], joint)
        np.add.at(out, (np.flatnonzero(at), places[self.item[at]]), shares)
        points = np.einsum("jtqc,jc->jtq", change[free], self.credit[free])
        means, first = self.values[self.mean], self.first[self.mean]
        cross = ((points @ self.specific_weights) * self.weights) @ first.T
        for row, j in enumerate(free):
            shared = np.flatnonzero((self.specific == self.specific[j]) & (self.specific[j] >= 0))
            cross[row, shared] = np.einsum("tq,atq,tq->a", points[row], means[shared], joint)
        one, other = np.triu_indices(len(self.items), 1)
        row = np.full(len(self.items), -1)
        row[free] = np.arange(len(free))
        for j, k in ((one, other), (other, one)):
            pairs = np.flatnonzero(row[j] >= 0)
            np.add.at(out, (S + pairs, places[j[pairs]]), cross[row[j[pairs]], k[pairs]])
