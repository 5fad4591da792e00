"""Expected scores of items and of pairs of items under a two-tier model, their derivatives and their covariance.

Given the primary dimensions, the specific dimensions are independent. An expected product of scores is therefore a
product over specific dimensions, each integrated alone, so the cost does not grow with a power of their number.
Statistics that follow from these moments are in `model_fit` and `indices`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.grid import TwoTierGrid
from irt_psychometrics.dimensions.margin_kernels import product_moments

_NODES = {1: 41, 2: 25, 3: 15}
"""Nodes of each primary dimension. At most four curves are multiplied, which is smoother than a person's likelihood."""
_SPECIFIC_NODES = 25


@dataclass(frozen=True)
class Moments:
    """Margins of J items, and the conditional expectations from which their moments follow.

    A margin is the product of two of V variables of different items: S indicators of a score above the item's lowest
    one, the points above the lowest score of J items, and the constant 1.

    Attributes:
        calibration: the fit; `items` (J,) are places of its items.
        grid: T primary and Q specific nodes, and `weights` (T,) of the primary ones.
        p: shape (J, T, Q, C), P(score | θ).
        has: shape (J, C), mask of the items' scores.
        owner: shape (V,), the item of each variable; J for the constant.
        credit: shape (V, C), the value of the variable for each score.
        margins: shape (M, 2), numbers of the variables. Proportions of scores come first, and then the pairs i < j.
    """

    calibration: DimensionsCalibration
    items: Ints
    grid: TwoTierGrid
    weights: Floats
    p: Floats
    has: Mask
    owner: Ints
    credit: Floats
    margins: Ints

    @classmethod
    def from_calibration(cls, fit: DimensionsCalibration, items: Ints) -> Self:
        """Compute the probabilities of these items, which must be estimated."""
        P, J, D = fit.dimensions.n_primary, len(items), len(fit.dimensions.names)
        grid = TwoTierGrid.from_nodes(P, (_NODES[P], _SPECIFIC_NODES if D > P else 1))
        logs = curves.log_probabilities(*_arguments(fit, items, grid))
        has = np.isfinite(logs[:, 0])
        points = np.where(has, np.arange(has.shape[1]) - has.argmax(axis=1)[:, None], 0)
        item, score = np.nonzero(points)
        S = len(item)
        single = np.stack([np.arange(S), np.full(S, S + J)], axis=1)
        return cls(
            calibration=fit,
            items=items,
            grid=grid,
            weights=np.exp(grid.log_primary(fit.correlations[:P, :P])),
            p=np.exp(logs).reshape(J, len(grid.primary), len(grid.specific), -1),
            has=has,
            owner=np.concatenate([item, np.arange(J + 1)]),
            credit=np.concatenate([np.eye(has.shape[1])[score], points, np.ones((1, has.shape[1]))]),
            margins=np.concatenate([single, S + np.stack(np.triu_indices(J, 1), axis=1)]),
        )

    @property
    def scores(self) -> Ints:
        """The items and the scores whose proportions are margins, shape (2, S)."""
        S = len(self.owner) - len(self.items) - 1
        return np.stack([self.owner[:S], self.credit[:S].argmax(axis=1)])

    @property
    def points(self) -> Floats:
        """The points of each item's scores, shape (J, C)."""
        return self.credit[len(self.owner) - len(self.items) - 1 : -1]

    @property
    def expected(self) -> Floats:
        """The expected margins, shape (M,)."""
        found: Floats = self._products(self._values(self.p), self.weights)[tuple(self.margins.T)]
        return found

    @property
    def covariance(self) -> Floats:
        """The covariance of one person's margins, shape (M, M)."""
        V = len(self.owner)
        one, other = np.nonzero(self.owner[:, None] == self.owner)
        same = np.full((V + len(one), V), -1)
        same[one, other] = V + np.arange(len(one))
        owner = np.append(self.owner, self.owner[one])
        credit = np.concatenate([self.credit, self.credit[one] * self.credit[other]])
        values = self._values(self.p, owner, credit)
        specific = np.exp(self.grid.log_specific)
        products = product_moments(
            self.margins, owner, self._specific[owner], same, values, values @ specific, self.weights, specific
        )
        found: Floats = products - np.multiply.outer(self.expected, self.expected)
        return found

    @property
    def score_covariances(self) -> tuple[Floats, Floats]:
        """Covariances of the items' expected scores given all dimensions, and of their scores, shape (J, J) each."""
        S, J = self.scores.shape[1], len(self.items)
        products = self._products(self._values(self.p), self.weights)[S:, S:]
        mean = products[:J, J]
        true = products[:J, :J] - np.multiply.outer(mean, mean)
        squares = self._products(self._values(self.p, self.owner, self.credit**2), self.weights)[S:-1, -1]
        return true, true + np.diag(squares - products[:J, :J].diagonal())

    @property
    def derivatives(self) -> Floats:
        """Derivatives of the expected margins with respect to the free parameters, shape (M, p)."""
        out = np.zeros((len(self.margins), self.calibration.places.n_free))
        for change, places in self._changes():
            cross, column = self._products(self._values(change), self.weights), np.append(places, -1)[self.owner]
            for changed, kept in (self.margins.T, self.margins.T[::-1]):
                at = np.flatnonzero(column[changed] >= 0)
                np.add.at(out, (at, column[changed[at]]), cross[changed[at], kept[at]])
        P = self.calibration.dimensions.n_primary
        inverse = np.linalg.inv(self.calibration.correlations[:P, :P])
        score, places = self.grid.primary @ inverse, self.calibration.places.correlations
        for k, m in np.argwhere(np.triu(places >= 0)):
            change = score[:, k] * score[:, m]
            change = self.weights * (change - self.weights @ change)
            out[:, places[k, m]] += self._products(self._values(self.p), change)[tuple(self.margins.T)]
        return out

    def _changes(self) -> Iterator[tuple[Floats, Ints]]:
        """Yield derivatives of P(score | θ), shape (J, T, Q, C), with the places (J,) of their parameters."""
        fit, items = self.calibration, self.items
        by = self.p * curves.derivatives(*_arguments(fit, items, self.grid)).reshape(-1, *self.p.shape)
        S = fit.slopes.shape[1] - self.grid.primary.shape[1]
        theta = [*self.grid.primary.T[:, :, None], *[self.grid.specific] * S]
        for x, places in zip(theta, fit.places.slopes[items].T, strict=True):
            yield by[0] * x[..., None], places
        yield by[0], fit.places.intercepts[items]
        yield from zip(by[1:], fit.places.further[items].T, strict=True)

    @property
    def _specific(self) -> Ints:
        """The specific dimension of each item and of the constant, shape (J + 1,); −1 if there is no such parameter."""
        return np.append(self.calibration.dimensions.specific[self.items], -1)

    def _values(self, p: Floats, owner: Ints | None = None, credit: Floats | None = None) -> Floats:
        """Compute expectations of variables from P(score | θ) or from changes of it, shape (V, T, Q)."""
        of, by = self.owner if owner is None else owner, self.credit if credit is None else credit
        found = np.einsum("vtqc,vc->vtq", p[np.minimum(of, len(p) - 1)], by)
        found[of == len(p)] = 1.0
        return found

    def _products(self, values: Floats, weights: Floats) -> Floats:
        """Compute the expected products of `values` (V, T, Q) and the variables' expectations, shape (V, V)."""
        expectations, specific = self._values(self.p), np.exp(self.grid.log_specific)
        out: Floats = ((values @ specific) * weights) @ (expectations @ specific).T
        for k in range(self._specific.max(initial=-1) + 1):
            own = np.flatnonzero(self._specific[self.owner] == k)
            joint = values[own] * np.multiply.outer(weights, specific)
            out[np.ix_(own, own)] = np.einsum("atq,btq->ab", joint, expectations[own])
        return out


def _arguments(fit: DimensionsCalibration, items: Ints, grid: TwoTierGrid) -> tuple[ItemModel, Floats, Floats, Ints]:
    """Return the arguments of `curves` for these items at all nodes."""
    P = grid.primary.shape[1]
    z = (fit.slopes[items, :P] @ grid.primary.T + fit.intercepts[items, None])[:, :, None]
    z = z + np.multiply.outer(fit.slopes[items, P:].sum(axis=1), grid.specific)[:, None]  # one specific slope at most
    model = model_of([fit.models[j] for j in items])
    return model, z.reshape(len(items), -1), fit.further_parameters[items], fit.categories[items]
