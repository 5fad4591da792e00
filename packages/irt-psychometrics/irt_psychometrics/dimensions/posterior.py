"""Nodes of a two-tier model, and curves and answers on them as `posterior_kernels` reads them.

Results per person are in `scores`, errors of parameters in `errors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.design import row_starts
from irt_psychometrics.core.item_models import CountedScores, model_of, parts
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.posterior_kernels import Tables


@dataclass(frozen=True)
class TwoTierNodes:
    """A product grid of G nodes of the P primary dimensions, and Q nodes of each specific one.

    Attributes:
        primary: shape (P, G).
        log_weights: shape (G,), the density of the primary dimensions, normalised so that the weights sum to 1.
        specific, log_unit: shape (Q,), nodes and log weights; one node at 0 without specific dimensions.
    """

    primary: Floats
    log_weights: Floats
    specific: Floats
    log_unit: Floats

    @classmethod
    def from_correlations(cls, correlations: Floats, n_primary: int, nodes: tuple[int, int]) -> Self:
        """Make nodes for dimensions with `correlations` (D, D); `nodes` per primary and per specific dimension."""
        axis = Grid.symmetric(nodes[0])
        primary = np.stack(np.meshgrid(*[axis.nodes] * n_primary, indexing="ij")).reshape(n_primary, -1)
        own = correlations[:n_primary, :n_primary]
        logs = -0.5 * np.einsum("pg,pg->g", primary, np.linalg.solve(own, primary))
        logs -= logs.max()
        logs -= np.log(np.exp(logs).sum())
        if len(correlations) == n_primary:
            return cls(primary, logs, np.zeros(1), np.zeros(1))
        unit = Grid.symmetric(nodes[1])
        return cls(primary, logs, unit.nodes, unit.log_weights())

    def directions(self, paired: bool) -> Floats:
        """Derivatives of z by the slopes of the primary dimensions, the specific slope and d at the nodes.

        Shape (P + 2, G), or (P + 2, G·Q) for items with a specific dimension. The specific slope's are 0 for others.
        """
        if not paired:
            return np.vstack([self.primary, 0 * self.log_weights, 0 * self.log_weights + 1])
        Q, G = self.specific.size, self.log_weights.size
        return np.vstack([np.repeat(self.primary, Q, axis=1), np.tile(self.specific, G), np.ones(G * Q)])

    def z(self, calibration: DimensionsCalibration, items: Ints) -> Floats:
        """Compute Σ slope·θ + d of items at the nodes, shape (n, G), or (n, G·Q) if they have specific dimensions."""
        P, place = len(self.primary), calibration.dimensions.specific[items]
        paired = bool((place >= 0).all())
        own = calibration.slopes[items, P + place] if paired else np.zeros(items.size)
        by = np.column_stack([calibration.slopes[items, :P], own, calibration.intercepts[items]])
        return by @ self.directions(paired)


@dataclass(frozen=True)
class CurvesAndAnswers:
    """The estimated items of a calibration on nodes, and the answers to them.

    Attributes:
        nodes: the nodes.
        alone, paired: the items without and with a specific dimension, in the order of their rows in `tables`. An item
            has a row for each of C scores.
        responses: the answers to these items, with the items in the order of the calibration.
        score: shape (R,), the score that each answer counts as.
        tables: curves and answers.
    """

    nodes: TwoTierNodes
    alone: Ints
    paired: Ints
    responses: Responses
    score: Ints
    tables: Tables

    @classmethod
    def from_responses(
        cls,
        responses: Responses,
        calibration: DimensionsCalibration,
        nodes: tuple[int, int],
        weights: Floats | None = None,
    ) -> Self:
        """Compute the tables. Raises PsychometricsError if an item has answers and is not in the calibration."""
        own = responses.among(calibration.item_ids)
        own = own.of_rows(calibration.estimated[own.item])
        grid = TwoTierNodes.from_correlations(calibration.correlations, calibration.dimensions.n_primary, nodes)
        specific = calibration.dimensions.specific
        alone, paired = (np.flatnonzero(calibration.estimated & at) for at in (specific < 0, specific >= 0))
        first = np.zeros(len(specific), dtype=np.int64)
        for items in (alone, paired):
            first[items] = np.arange(items.size) * calibration.categories[items].max(initial=2)
        score = _counted(calibration).of_answers(own.item, own.score, own.categories).astype(np.int64)
        tables = Tables(
            start=row_starts(own),
            item=own.item,
            row=first[own.item] + score,
            specific=specific,
            alone=_log_probabilities(calibration, grid, alone),
            paired=_log_probabilities(calibration, grid, paired).reshape(-1, grid.log_weights.size, grid.log_unit.size),
            primary=grid.log_weights,
            unit=grid.log_unit,
            theta=grid.primary,
            nodes=grid.specific,
            weight=np.ones(own.n_persons) if weights is None else np.asarray(weights, dtype=float),
        )
        return cls(grid, alone, paired, own, score, tables)


def answered_dimensions(calibration: DimensionsCalibration, responses: Responses) -> Ints:
    """Count each person's answers to items that measure each dimension, shape (N, D)."""
    measured: Mask = calibration.dimensions.measured[responses.item]
    return np.stack([np.bincount(responses.person[own], minlength=responses.n_persons) for own in measured.T], axis=1)


def _log_probabilities(calibration: DimensionsCalibration, nodes: TwoTierNodes, items: Ints) -> Floats:
    """Compute log P of each score at the nodes, shape (n·C, G), or (n·C, G, Q) if items have specific dimensions."""
    if not items.size:
        return np.zeros((0, nodes.log_weights.size))
    z, further = nodes.z(calibration, items), calibration.further_parameters[items]
    logs = curves.log_probabilities(model_of_items(calibration, items), z, further, calibration.categories[items])
    return _rows(logs[None])[:, 0]


def model_of_items(calibration: DimensionsCalibration, items: Ints) -> ItemModel:
    return model_of([calibration.models[j] for j in items])


def _counted(calibration: DimensionsCalibration) -> CountedScores:
    """Return the scores that answers count as: a score without parameters counts as the nearest one with them."""
    items = np.flatnonzero(calibration.estimated)
    parameters = np.pad(calibration.further_parameters[items].T, ((2, 0), (0, 0)))
    table = np.tile(np.arange(int(calibration.categories.max(initial=2))), (len(calibration.models), 1))
    for some in parts(model_of_items(calibration, items), parameters, calibration.categories[items]):
        own = some.counted_as
        table[items[some.at], : own.shape[1]] = own
    return CountedScores(table.astype(np.int8), calibration.categories)


def _rows(values: Floats) -> Floats:
    """Change the shape (K, n, X, C) into (n·C, K, X)."""
    return np.ascontiguousarray(values.transpose(1, 3, 0, 2)).reshape(-1, len(values), values.shape[2])
