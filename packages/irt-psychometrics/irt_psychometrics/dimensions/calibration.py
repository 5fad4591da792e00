"""Estimates for items that measure several dimensions. How they are estimated is in `fitting`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.models import Convergence, Flag
from irt_psychometrics.core.options import Model
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.structure import Dimensions


@dataclass(frozen=True)
class ParameterPlaces:
    """Places of the free parameters in one vector, −1 for parameters that are not free.

    Attributes:
        slopes: shape (J, D); equal slopes have one place.
        intercepts: shape (J,).
        further: shape (J, M).
        correlations: shape (D, D), symmetric.
    """

    slopes: Ints
    intercepts: Ints
    further: Ints
    correlations: Ints

    @property
    def n_free(self) -> int:
        """Number of free parameters."""
        return 1 + max(int(at.max(initial=-1)) for at in self)

    def __iter__(self) -> Iterator[Ints]:
        """Yield the places of slopes, intercepts, further parameters and correlations."""
        return iter((self.slopes, self.intercepts, self.further, self.correlations))

    def gather(self, values: Iterable[Floats]) -> Floats:
        """Return the free parameters, shape (p,), of slopes, intercepts, further parameters and correlations."""
        x = np.zeros(self.n_free)
        for at, given in zip(self, values, strict=True):
            x[at[at >= 0]] = given[at >= 0]
        return x


@dataclass(frozen=True, eq=False)
class DimensionsCalibration:
    """Estimates for J items on D dimensions.

    P(score | θ) is the curve of the item's model at z = Σ slope·θ + d.

    Attributes:
        dimensions: the dimensions that each item measures.
        models: J names of item models.
        categories: shape (J,), number of scores of each item.
        slopes: shape (J, D), fixed slopes included; NaN for items that could not be estimated.
        intercepts: shape (J,), d; NaN for items that could not be estimated.
        further: shape (J, M), the parameters besides a and d in the order of `ItemModel.parameter_names`, on the scale
            of estimation (logit c); 0 for parameters that an item does not have, −∞ for scores that nobody had. None
            if no item has such parameters.
        correlations: shape (D, D), correlations of the dimensions.
        cov: shape (p, p), covariance of the free parameters, at `places`. None if it was not computed.
        places: the place of each free parameter.
        n: shape (J,), numbers of answers.
        n_persons: number of persons who answered an item that was estimated.
        flags: J tuples of `Flag`.
        convergence: the state in which the fit ended.
        engine_version: version of the package that made the fit.
        nodes: numbers of nodes of the primary and of the specific dimensions.
        missing_errors: the reason why parts of `cov` are NaN; empty if all parameters have errors.
    """

    dimensions: Dimensions
    models: tuple[Model, ...]
    categories: Ints
    slopes: Floats
    intercepts: Floats
    further: Floats | None
    correlations: Floats
    cov: Floats | None
    places: ParameterPlaces
    n: Ints
    n_persons: int
    flags: tuple[tuple[Flag, ...], ...]
    convergence: Convergence
    engine_version: str
    nodes: tuple[int, int]
    missing_errors: str = ""

    @property
    def item_ids(self) -> tuple[str, ...]:
        """J names."""
        return self.dimensions.item_ids

    @property
    def item_model(self) -> ItemModel:
        """The model of all items; a `MixedModel` if they differ."""
        return model_of(self.models)

    @property
    def estimated(self) -> Mask:
        """Mask of the items that have parameters, shape (J,)."""
        return np.isfinite(self.intercepts)

    @property
    def further_parameters(self) -> Floats:
        """The parameters besides a and d, shape (J, M), with M = 0 if no item has any."""
        return np.zeros((len(self.models), 0)) if self.further is None else self.further

    @property
    def vector(self) -> Floats:
        """The free parameters, shape (p,), at `places`."""
        return self.places.gather((self.slopes, self.intercepts, self.further_parameters, self.correlations))

    def log_probabilities(self, theta: npt.ArrayLike) -> Floats:
        """Compute log P(score | θ) at abilities `theta` (T, D), shape (J, T, C).

        It is −∞ for scores that an item does not have, and 0 for all scores of items without parameters.
        """
        z = self.slopes @ np.asarray(theta, dtype=float).T + self.intercepts[:, None]
        known = self.estimated
        logs = curves.log_probabilities(
            self.item_model, np.where(known[:, None], z, 0.0), self.further_parameters, self.categories
        )
        logs[~known] = 0.0
        return logs
