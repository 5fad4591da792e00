"""Items with known parameters on several dimensions, and answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.models import Convergence
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dimensions.calibration import DimensionsCalibration, ParameterPlaces
from irt_psychometrics.dimensions.structure import Dimensions

Array = npt.NDArray[np.float64]


def known_dimensions(
    dimensions: Dimensions,
    slopes: Array,
    intercepts: Array,
    *,
    models: Sequence[Model] = (),
    categories: Sequence[int] = (),
    further: Array | None = None,
    correlation: float = 0.0,
    nodes: tuple[int, int] = (61, 41),
) -> DimensionsCalibration:
    """Make a calibration with these parameters, in which all parameters that a fit would estimate are free."""
    J, D = slopes.shape
    sizes = np.array(categories or [2] * J)
    of = tuple(models) or ("2pl",) * J
    n, M = dimensions.n_slopes, 0 if further is None else further.shape[1]
    free = model_of(of).free(sizes)[2 : 2 + M].T
    places = ParameterPlaces(
        dimensions.tied.copy(), n + np.arange(J), np.full((J, M), -1), np.full((D, D), -1, dtype=np.int64)
    )
    places.further[free] = n + J + np.arange(free.sum())
    correlations, at = np.eye(D), places.n_free
    for d, e in zip(*np.nonzero(np.triu(dimensions.free_correlations, 1)), strict=True):
        correlations[d, e] = correlations[e, d] = correlation
        places.correlations[d, e] = places.correlations[e, d] = at
        at += 1
    return DimensionsCalibration(
        dimensions=dimensions,
        models=of,
        categories=sizes,
        slopes=np.where(dimensions.measured, slopes, 0.0),
        intercepts=intercepts,
        further=further,
        correlations=correlations,
        cov=None,
        places=places,
        n=np.ones(J, dtype=np.int64),
        n_persons=1,
        flags=((),) * J,
        convergence=Convergence(True, 1, 0.0, 0.0, 0.0, at),
        engine_version="known",
        nodes=nodes,
    )


def at_parameters(calibration: DimensionsCalibration, x: Array) -> DimensionsCalibration:
    """Return the calibration with the free parameters x."""
    changed = {}
    for name in ("slopes", "intercepts", "further", "correlations"):
        values, places = getattr(calibration, name), getattr(calibration.places, name)
        if values is not None:
            changed[name] = np.where(places >= 0, x[places], values)
    return replace(calibration, **changed)


def draw_dimensions(
    calibration: DimensionsCalibration, n_persons: int, rng: np.random.Generator, missing: float = 0.0
) -> tuple[Responses, Array]:
    """Draw answers, of which a share is missing, and the abilities of the persons, shape (N, D)."""
    theta = rng.multivariate_normal(np.zeros(len(calibration.correlations)), calibration.correlations, n_persons)
    p = np.exp(calibration.log_probabilities(theta))
    scores = (rng.random(p.shape[:2])[:, :, None] > np.cumsum(p, axis=2)[:, :, :-1]).sum(axis=2).T.astype(float)
    scores[rng.random(scores.shape) < missing] = np.nan
    return Responses.from_wide(scores, calibration.item_ids, categories=calibration.categories), theta


class MirtFit(NamedTuple):
    """A fit by R mirt with errors and scores (dimensions_reference.R).

    Attributes:
        calibration: mirt's estimates.
        errors: mirt's standard errors of the free parameters by name, such as a1 of the first item: (0, "a1").
        answers: the answers that mirt fitted.
        persons: the persons that mirt scored.
        scores: for "EAP" and "MAP", theta and se of these persons, with the dimensions in mirt's order.
        order: the place of each of the calibration's dimensions among mirt's.
    """

    calibration: DimensionsCalibration
    errors: dict[tuple[int, str], float]
    answers: Responses
    persons: list[int]
    scores: dict[str, Any]
    order: list[int]

    @classmethod
    def from_json(cls, stored: dict[str, Any], folder: Path) -> MirtFit:
        """Read a fit; `folder` contains the answers."""
        bifactor = "topics" in stored
        file, n_skipped = ("sat12_scored_wide", 1) if bifactor else ("verbal_aggression_poly_wide", 3)
        ids = (folder / "data" / f"{file}.csv").read_text("utf-8").splitlines()[0].split(",")[n_skipped:]
        columns = range(n_skipped, n_skipped + len(ids))
        scores = np.loadtxt(folder / "data" / f"{file}.csv", delimiter=",", skiprows=1, usecols=columns)
        each = stored["estimates"]
        if bifactor:
            dimensions = Dimensions.bifactor(dict(zip(ids, map(str, stored["topics"]), strict=True)))
            order = [0, *map(int, dimensions.names[1:])]
            persons, nodes = [1, 2, 3], (31, 31)
        else:
            dimensions = Dimensions.between({item: "want" if "Want" in item else "do" for item in ids})
            order, persons, nodes = [0, 1], [0, 1, 2], (41, 1)
        slopes = np.array([[row[f"a{1 + d}"] for d in order] for row in each])
        if bifactor:
            calibration = known_dimensions(dimensions, slopes, np.array([row["d"] for row in each]), nodes=nodes)
        else:
            d = np.array([[row["d1"], row["d2"]] for row in each])
            further = np.zeros((len(ids), 3))
            further[:, 1] = np.log(d[:, 0] - d[:, 1])
            calibration = known_dimensions(
                dimensions,
                slopes,
                d.mean(axis=1),
                models=["grm"] * len(ids),
                categories=(3,) * len(ids),
                further=further,
                correlation=stored["correlation"][0],
                nodes=nodes,
            )
        errors = {(j, name): se for j, row in enumerate(stored["errors"]) for name, se in row.items() if se is not None}
        answers = Responses.from_wide(scores, ids, categories=calibration.categories)
        return cls(calibration, errors, answers, persons, stored["scores"], order)
