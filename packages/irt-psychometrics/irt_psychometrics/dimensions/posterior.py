"""Curves and answers of a calibration on nodes, as the loops of `kernels` and `error_kernels` read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.item_models import CountedScores, parts
from irt_psychometrics.core.kernels import Run
from irt_psychometrics.core.priors import Priors
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.grid import TwoTierGrid
from irt_psychometrics.dimensions.kernels import Tables
from irt_psychometrics.dimensions.likelihood import Answers, Layout, TwoTierProblem, Values, _Group


@dataclass(frozen=True)
class OnNodes:
    """The items of a calibration on nodes, and the answers to them.

    Attributes:
        responses: the answers to estimated items, with the items and categories of the calibration. A score without
            parameters is replaced by the score that it counts as.
        problem: the answers, the nodes and the places of parameters, without priors.
        alone, within: the items without and with a specific dimension.
        tables: their curves.
    """

    responses: Responses
    problem: TwoTierProblem
    alone: _Group
    within: _Group
    tables: Tables

    @classmethod
    def from_responses(
        cls,
        responses: Responses,
        calibration: DimensionsCalibration,
        nodes: tuple[int, int],
        run: Run,
        weights: Floats | None = None,
    ) -> Self:
        """Compute the curves. Raises PsychometricsError if an item is not in the calibration."""
        own = responses.among(calibration.item_ids)
        own = own.of_rows(calibration.estimated[own.item])
        score = _counted(calibration).of_answers(own.item, own.score, own.categories)
        own = replace(own, score=score, categories=calibration.categories)
        dimensions = calibration.dimensions
        slopes, intercepts = np.nan_to_num(calibration.slopes), np.nan_to_num(calibration.intercepts)
        values = Values(slopes, intercepts, calibration.further_parameters, calibration.correlations)
        layout = Layout(
            dimensions, calibration.models, calibration.categories, calibration.places, values, None, Priors()
        )
        weight = np.ones(own.n_persons) if weights is None else np.asarray(weights, dtype=float)
        answers = Answers.from_responses(own, dimensions, weight)
        grid = TwoTierGrid.from_nodes(dimensions.n_primary, nodes)
        problem, P = TwoTierProblem(layout, answers, grid, run), dimensions.n_primary
        groups = problem.on_nodes(values)
        return cls(own, problem, *groups, problem.tables(groups, calibration.correlations[:P, :P]))


def _counted(calibration: DimensionsCalibration) -> CountedScores:
    """Return the scores that answers count as: a score without parameters counts as the nearest one with them."""
    parameters = np.pad(calibration.further_parameters.T, ((2, 0), (0, 0)))
    table = np.tile(np.arange(int(calibration.categories.max(initial=2))), (len(calibration.models), 1))
    for some in parts(calibration.item_model, parameters, calibration.categories):
        own = some.counted_as
        table[some.at, : own.shape[1]] = own
    return CountedScores(table.astype(np.int8), calibration.categories)
