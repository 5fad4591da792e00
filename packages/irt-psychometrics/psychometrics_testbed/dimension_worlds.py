"""Items with known parameters on several dimensions, and answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
    P, sizes = dimensions.n_primary, np.array(categories or [2] * J)
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
    assert P <= 3
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
