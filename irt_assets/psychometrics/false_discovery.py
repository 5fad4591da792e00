"""The false discovery rate of many tests.

scipy.stats is imported when it is needed: every process of the platform imports this package, and the import takes a
third of a second.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def q_values(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of each test the smallest false discovery rate at which it is rejected (Benjamini & Hochberg 1995), shape of `p`.

    p: p values, shape (K,); it may be empty.
    """
    from scipy.stats import false_discovery_control

    q: npt.NDArray[np.float64] = false_discovery_control(p) if p.size else p
    return q
