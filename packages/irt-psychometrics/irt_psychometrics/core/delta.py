"""Standard errors by the delta method, along the columns of a root of the estimates' covariance."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from irt_psychometrics.core.arrays import Floats

SMALL_STEP = 1e-3
"""Part of a standard error; the central difference has a relative error of the order 1e-6."""


class Estimate(Protocol):
    """An estimate x with a root C of its covariance, C·Cᵀ = Cov(x)."""

    @property
    def value(self) -> Any:
        """x."""

    @property
    def columns(self) -> int:
        """Number of columns of C."""

    def varied(self, column: int, steps: float) -> Any:
        """Return the estimate moved by `steps` times the column of C."""


def delta_errors(function: Callable[..., Floats], estimates: Sequence[Estimate], steps: Sequence[float]) -> Floats:
    """Standard errors of `function(*values)`, from independent estimates, by central differences along the columns.

    A covariance of low rank costs few calls. `steps` are the lengths of the differences, one an estimate: `SMALL_STEP`
    for derivatives; √columns for the points of Julier & Uhlmann's transformation, for functions with kinks.
    """
    values = [estimate.value for estimate in estimates]
    variance: Any = 0.0
    for k, (estimate, step) in enumerate(zip(estimates, steps, strict=True)):
        for column in range(estimate.columns):
            up, down = (function(*values[:k], estimate.varied(column, s), *values[k + 1 :]) for s in (step, -step))
            variance = variance + ((up - down) / (2 * step)) ** 2
    return np.sqrt(variance)
