"""Names of array types, block-diagonal matrices, and numbers that JSON can hold."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def block_diagonal(*blocks: Floats) -> Floats:
    """The matrix with the blocks on its diagonal, in this order, and 0 elsewhere."""
    matrix = np.zeros(np.sum([block.shape for block in blocks], axis=0))
    row = column = 0
    for block in blocks:
        matrix[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return matrix


def finite(x: float | np.floating[Any]) -> float | None:
    """The number as a float, or None if it is NaN or infinite, because JSON has neither."""
    return float(x) if math.isfinite(x) else None
