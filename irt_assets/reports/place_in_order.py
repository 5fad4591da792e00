"""Growth of ability, estimated from anchors that learners reach later than in the origin window."""

from dataclasses import dataclass

import numpy as np

from irt_assets.common.arrays import Floats
from irt_psychometrics.itemfit import WindowGrowth

MIN_ANCHORS = 5
"""Minimum number of anchors for an estimate."""


@dataclass(frozen=True)
class PlaceInOrder:
    """Growth estimated from anchors, in θ of the scale per `PERIOD_DAYS`, and the number of anchors."""

    estimate: float
    se: float
    anchors: int


def growth_by_place(shift: Floats, error: Floats, later: Floats, variation: float) -> PlaceInOrder | None:
    """Estimate growth from the shifts of anchors that learners reach later than before.

    The estimate is minus the slope of a weighted regression of the shifts in b on time (in meta-analysis: a moderator).
    It separates growth from difficulty even if all learners answer in the same strict order.

    Args:
        shift: shape (K,), each anchor's change in b against the anchor set.
        error: shape (K,), standard errors of the shifts.
        later: shape (K,), days by which learners reach the anchor later, on average, than in the origin window.
        variation: SD of b between windows.

    Returns None if fewer than `MIN_ANCHORS` anchors are known, or if `later` is the same for all of them.
    """
    known = np.isfinite(shift) & np.isfinite(error) & np.isfinite(later)
    n = int(known.sum())
    if n < MIN_ANCHORS or np.ptp(later[known]) == 0:
        return None
    weight = 1 / (error[known] ** 2 + variation**2)
    time = later[known] / WindowGrowth.PERIOD_DAYS
    time = time - np.average(time, weights=weight)
    information = float(weight @ time**2)
    return PlaceInOrder(float(-(weight * time) @ shift[known] / information), information**-0.5, n)
