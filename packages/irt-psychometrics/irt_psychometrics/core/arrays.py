"""Names of array types, and numbers that JSON has."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def finite(x: float | np.floating[Any]) -> float | None:
    """JSON has no NaN or infinity: they become null."""
    return float(x) if math.isfinite(x) else None
