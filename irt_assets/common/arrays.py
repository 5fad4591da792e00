"""Types of arrays that packages exchange, and numbers for JSON."""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


def finite(x: float | np.floating[Any]) -> float | None:
    """The number as a float. Returns None for NaN and infinity, which JSON does not have."""
    return float(x) if math.isfinite(x) else None
