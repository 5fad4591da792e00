"""The marginal likelihood of a two-tier model: value, gradient and complete-data information at a parameter vector.

The loop over persons is in `kernels`, the ascent in `estimation.optimizer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from irt_psychometrics.core import kernels as core_kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.design import row_starts
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.model_families import LOGIT_C, ItemModel
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.priors import Priors, StepTerms, item_terms
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dimensions import curves, kernels
from irt_psychometrics.dimensions.calibration import ParameterPlaces
from irt_psychometrics.dimensions.grid import TwoTierGrid
from irt_psychometrics.dimensions.structure import Dimensions
from irt_psychometrics.estimation.reductions import Sums, add_parts

CORRELATION_BOUND = 0.98
"""Bound of |correlation|. Beyond it, a grid hardly distinguishes the two dimensions."""
_COST_PER_PIECE, _MAX_PIECES = 100_000, 16
_RIDGE = 1e-9


class Values(NamedTuple):
    """Parameters of J items, and the correlations of the primary dimensions.

    Attributes:
        slopes: shape (J, D).
        intercepts: shape (J,).
        further: shape (J, M).
        correlations: shape (D, D).
    """

    slopes: Floats
    intercepts: Floats
    further: Floats
    correlations: Floats


@dataclass(frozen=True)
class Layout:
    """The free parameters of J items.

    Attributes:
        dimensions, models, categories: as in `DimensionsCalibration`.
        places: the place of each free parameter in x.
        fixed: values of the parameters that are not free.
        steps: prior on steps next to rare scores, or None.
        priors: the other priors.
    """

    dimensions: Dimensions
    models: tuple[Model, ...]
    categories: Ints
    places: ParameterPlaces
    fixed: Values
    steps: StepTerms | None
    priors: Priors

    @property
    def model(self) -> ItemModel:
        """The items' model."""
        return model_of(self.models)

    def expand(self, x: Floats) -> Values:
        """Return all parameters at x."""
        return Values(*(np.where(at >= 0, x[at], held) for at, held in zip(self.places, self.fixed, strict=True)))

    def gather(self, values: Values) -> Floats:
        """Return the free parameters of `values`; the inverse of `expand`."""
        return self.places.gather(values)

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Lower and upper bounds of x."""
        J, model = len(self.models), self.model
        names = model.parameter_names(int(self.categories.max(initial=2)))
        low, high = np.array([model.bounds(name) for name in names]).T
        guessed = model.guessed(J)
        ends = []
        for sign, end in ((-1.0, low), (1.0, high)):
            further = np.tile(end[2:], (J, 1))
            if guessed.any():
                further[:, 0] = np.where(guessed, model.bounds(LOGIT_C)[int(sign > 0)], further[:, 0])
            shapes = self.fixed
            ends.append(
                Values(
                    np.full(shapes.slopes.shape, end[0]),
                    np.full(J, end[1]),
                    further,
                    np.full(shapes.correlations.shape, sign * CORRELATION_BOUND),
                )
            )
        return self.gather(ends[0]), self.gather(ends[1])


class Answers(NamedTuple):
    """The answers of all persons, and the rows of their tables.

    Attributes:
        persons: the answers, by person and specific dimension.
        alone, within: the items without and with a specific dimension; rows of a table are scores 0 … C − 1 of the
            first item, of the second, and so on.
        pieces: ranges of persons whose sums are added in order.
    """

    persons: kernels.Persons
    alone: Ints
    within: Ints
    pieces: list[tuple[int, int]]

    @classmethod
    def from_responses(cls, responses: Responses, dimensions: Dimensions, weight: Floats) -> Answers:
        """Sort answers by person and specific dimension."""
        specific, C = dimensions.specific, int(responses.n_categories.max(initial=2))
        alone, within = np.flatnonzero(specific < 0), np.flatnonzero(specific >= 0)
        first_row = np.empty(responses.n_items, dtype=np.int64)
        first_row[alone], first_row[within] = C * np.arange(len(alone)), C * np.arange(len(within))
        n_blocks = len(dimensions.names) - dimensions.n_primary + 1
        block = responses.person.astype(np.int64) * n_blocks + specific[responses.item] + 1
        order = np.argsort(block, kind="stable")
        counts = np.bincount(block, minlength=responses.n_persons * n_blocks).reshape(-1, n_blocks)
        start = row_starts(responses)[:-1, None] + np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))
        row = (first_row[responses.item] + responses.score)[order]
        cost = 30 + np.diff(row_starts(responses))
        cut = core_kernels.cut(cost, min(_MAX_PIECES, 1 + int(cost.sum()) // _COST_PER_PIECE))
        persons = kernels.Persons(np.ascontiguousarray(start), row.astype(np.int32), weight)
        return cls(persons, alone, within, cut)


@dataclass(frozen=True)
class Point:
    """A parameter vector with the results of one E-step.

    Attributes:
        x: shape (p,), the free parameters.
        loglik: the marginal log-likelihood.
        objective, gradient: log-likelihood plus the priors' log density, and its gradient.
        information: shape (p, p), the complete-data information expected over answers, plus the priors' curvature.
    """

    x: Floats
    loglik: float
    objective: float
    gradient: Floats
    information: Floats


@dataclass(frozen=True)
class TwoTierProblem:
    """The marginal likelihood of one data set on one grid."""

    layout: Layout
    answers: Answers
    grid: TwoTierGrid
    run: core_kernels.Run

    memory = 30

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Lower and upper bounds of x."""
        return self.layout.bounds

    @property
    def n_before_weights(self) -> int:
        """Number of parameters."""
        return self.layout.places.n_free

    def evaluate(self, x: Floats) -> Point:
        """One E-step over all persons; log-likelihood −∞ if the correlations are not positive definite."""
        values, p = self.layout.expand(x), len(x)
        P = self.layout.dimensions.n_primary
        correlations = values.correlations[:P, :P]
        if np.linalg.eigvalsh(correlations)[0] < 1e-6:
            return Point(x, -np.inf, -np.inf, np.zeros(p), np.eye(p))
        groups = self.on_nodes(values)
        tables = self.tables(groups, correlations)
        loglik, *counts, mass = self._counts(tables)
        gradient, information = np.zeros(p + 1), np.zeros((p + 1, p + 1))  # the last place is of fixed parameters
        for group, counted in zip(groups, counts, strict=True):
            group.add(counted, gradient, information)
        self._add_correlations(correlations, mass, np.exp(tables.primary), gradient, information)
        objective = float(loglik[0]) + self._add_priors(values, gradient, information)
        return Point(x, float(loglik[0]), objective, gradient[:-1], information[:-1, :-1])

    def on_nodes(self, values: Values) -> tuple[_Group, _Group]:
        """Compute the curves of the items without, and with, a specific dimension."""
        alone = _Group(self.layout, values, self.answers.alone, self.grid.primary)
        return alone, _Group(self.layout, values, self.answers.within, self.grid.joint)

    def tables(self, groups: tuple[_Group, _Group], correlations: Floats) -> kernels.Tables:
        """Collect the curves of `on_nodes` and the weights of the nodes, with the correlations of primary abilities."""
        log_primary, log_specific = self.grid.log_primary(correlations), self.grid.log_specific
        return kernels.Tables(groups[0].rows, groups[1].rows, log_primary, log_specific)

    def _counts(self, tables: kernels.Tables) -> Sums:
        """Log-likelihood (1,) and the sums of `kernels.expected_counts`."""

        def piece(ends: tuple[int, int]) -> Sums:
            into = [np.zeros(table.shape) for table in tables[:3]]
            return np.array([kernels.expected_counts(*ends, self.answers.persons, tables, *into)]), *into

        return add_parts(self.run.in_order(piece, self.answers.pieces, max(2, self.run.threads)))

    def scores_of_correlations(self, correlations: Floats) -> Floats:
        """Compute the derivatives of the log weights of the T primary nodes by the O free correlations, (T, O)."""
        a, b = np.nonzero(np.triu(self.layout.places.correlations >= 0))
        inverse = np.linalg.inv(correlations)
        z = self.grid.primary @ inverse
        scores = z[:, a] * z[:, b] - inverse[a, b]
        centred: Floats = scores - np.exp(self.grid.log_primary(correlations)) @ scores
        return centred

    def _add_correlations(
        self, correlations: Floats, mass: Floats, weights: Floats, gradient: Floats, information: Floats
    ) -> None:
        """Add the derivatives of the log density of the primary abilities."""
        scores, places = self.scores_of_correlations(correlations), self.layout.places.correlations
        at = places[np.nonzero(np.triu(places >= 0))]
        gradient[at] += mass @ scores
        information[at[:, None], at] += mass.sum() * (scores.T * weights) @ scores

    def _add_priors(self, values: Values, gradient: Floats, information: Floats) -> float:
        """Add the derivatives of the priors' log density, and return the density."""
        layout, J, M = self.layout, *values.further.shape
        guessed = layout.model.guessed(J)
        parameters = np.vstack([np.zeros(J), values.intercepts, values.further.T])
        share: Floats = np.column_stack(
            [np.zeros((J, 2)), guessed & (layout.places.further[:, 0] >= 0) if M else np.zeros(J)]
        )
        logit_c: Floats = np.where(guessed, values.further[:, 0], 0.0) if M else np.zeros(J)
        terms = item_terms(layout.priors, np.ones(J), np.zeros(J), logit_c, share, 2 + M, np.full(J, np.nan))
        if layout.steps is not None:
            terms = layout.steps.add_to(terms, parameters)
        places = np.column_stack([np.full(J, -1), layout.places.intercepts, layout.places.further])
        np.add.at(gradient, places, terms.gradient.T)
        np.add.at(information, (places[:, :, None], places[:, None, :]), terms.curvature)
        return float(terms.value.sum())

    def precondition(self, point: Point, gradient: Floats, frozen: Mask) -> Floats:
        """The EM gradient step: complete-data information⁻¹ · gradient, with the frozen parameters held."""
        matrix = np.where(frozen[:, None] | frozen, 0.0, point.information)
        matrix[np.diag_indices(len(frozen))] += np.where(frozen, 1.0, _RIDGE * (1 + matrix.diagonal()))
        step = np.where(frozen, 0.0, gradient)
        for blocks in self._blocks:
            found = np.linalg.solve(matrix[blocks[:, :, None], blocks[:, None, :]], step[blocks][:, :, None])
            step[blocks] = found[:, :, 0]
        return step

    @cached_property
    def _blocks(self) -> list[Ints]:
        """Places of parameters that share information, a row for each block, by size.

        The parameters of an item form a block, and so do the parameters of items with equal slopes.
        """
        p = self.layout.places
        J, n = len(p.intercepts), p.n_free
        of_item = np.column_stack([p.slopes, p.intercepts, p.further])
        place = np.concatenate([of_item.ravel(), np.unique(p.correlations)])
        owner = np.concatenate([np.repeat(np.arange(J), of_item.shape[1]), np.full(len(place) - of_item.size, J)])
        known = place >= 0
        pairs = csr_matrix((np.ones(known.sum()), (n + owner[known], place[known])), shape=(n + J + 1,) * 2)
        label = connected_components(pairs, directed=False)[1][:n]
        order = np.argsort(label, kind="stable")
        blocks = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
        return [np.array([one for one in blocks if len(one) == size]) for size in {len(one) for one in blocks}]

    def information_scale(self, point: Point) -> Floats:
        """Square root of the diagonal of the complete-data information, shape (p,)."""
        return np.sqrt(np.maximum(point.information.diagonal(), 1e-300))


class _Group:
    """Items without, or with, a specific dimension, at all nodes of their dimensions.

    Attributes:
        rows: shape (n · C, T), log P of each score.
    """

    def __init__(self, layout: Layout, values: Values, items: Ints, theta: Floats) -> None:
        P = layout.dimensions.n_primary
        own = np.repeat(np.arange(P)[None], len(items), axis=0)
        if theta.shape[1] > P:
            own = np.column_stack([own, P + layout.dimensions.specific[items]])
        self._theta = np.column_stack([theta, np.ones(len(theta))])
        self._places = np.column_stack(
            [
                np.take_along_axis(layout.places.slopes[items], own, axis=1),
                layout.places.intercepts[items],
                layout.places.further[items],
            ]
        )
        slopes = np.take_along_axis(values.slopes[items], own, axis=1)
        self._model = model_of([layout.models[j] for j in items]) if len(items) else layout.model
        self._z = slopes @ theta.T + values.intercepts[items, None]
        names = self._model.parameter_names(int(layout.categories[items].max(initial=2)))
        self._further, self._categories = values.further[items][:, : len(names) - 2], layout.categories[items]
        C = int(layout.categories.max(initial=2))
        self._logs = np.full((len(items), len(theta), C), -np.inf)
        if len(items):
            logs = curves.log_probabilities(self._model, self._z, self._further, self._categories)
            self._logs[:, :, : logs.shape[2]] = logs
        self.rows = np.ascontiguousarray(self._logs.swapaxes(1, 2)).reshape(-1, len(theta))

    def add(self, counts: Floats, gradient: Floats, information: Floats) -> None:
        """Add the derivatives of the items' expected log-likelihood, given the expected `counts` of `rows`."""
        n = len(self._places)
        if not n:
            return
        by = curves.derivatives(self._model, self._z, self._further, self._categories)
        C = by.shape[3]
        counted = counts.reshape(n, -1, counts.shape[1]).swapaxes(1, 2)[:, :, :C]
        scores = np.einsum("kjtc,jtc->kjt", by, counted)
        weighted = by * (np.exp(self._logs[:, :, :C]) * counted.sum(axis=2, keepdims=True))
        products = np.einsum("kjtc,mjtc->jkmt", weighted, by)
        theta = self._theta
        places = self._places[:, : theta.shape[1] + len(by) - 1]
        np.add.at(gradient, places, np.column_stack([scores[0] @ theta, scores[1:].sum(axis=2).T]))
        slopes, S = products[:, 0, 0], theta.shape[1]
        block = np.empty((n, places.shape[1], places.shape[1]))
        pairs = (theta[:, :, None] * theta[:, None, :]).reshape(len(theta), -1)
        block[:, :S, :S] = (slopes @ pairs).reshape(n, S, S)
        block[:, :S, S:] = (products[:, 0, 1:] @ theta).swapaxes(1, 2)
        block[:, S:, :S] = block[:, :S, S:].swapaxes(1, 2)
        block[:, S:, S:] = products[:, 1:, 1:].sum(axis=3)
        np.add.at(information, (places[:, :, None], places[:, None, :]), block)
