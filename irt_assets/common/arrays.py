"""Types of arrays that rooms hand each other, and numbers that JSON has."""

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]


def finite(x: float | np.floating[Any]) -> float | None:
    """JSON has no NaN or infinity: they become null."""
    return float(x) if math.isfinite(x) else None
