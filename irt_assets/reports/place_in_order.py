"""Growth of ability by how much easier anchors look the later learners come to them."""

from dataclasses import dataclass

import numpy as np

from irt_assets.common.arrays import Floats
from irt_psychometrics.itemfit import WindowGrowth

FEWEST_ANCHORS = 5
"""Fewest anchors from whose places growth is estimated."""


@dataclass(frozen=True)
class PlaceInOrder:
    """What anchors of another order say of growth, in θ of the scale per `PERIOD_DAYS`. anchors: how many."""

    estimate: float
    se: float
    anchors: int


def growth_by_place(shift: Floats, error: Floats, later: Floats, variation: float) -> PlaceInOrder | None:
    """Growth by how much easier anchors look the later they come: the slope of a weighted regression (a moderator of
    the alignment, in terms of meta-analysis), which tells growth from difficulty in a strict order, too.

    shift, error: shape (K,), of each anchor's b against the anchor set, with its standard error. later: shape (K,), the
    days by which learners come to it later, on average, than those whom the anchor set is from. variation: the SD of
    b from window to window. None where fewer than `FEWEST_ANCHORS` are known or all are as much later.
    """
    known = np.isfinite(shift) & np.isfinite(error) & np.isfinite(later)
    n = int(known.sum())
    if n < FEWEST_ANCHORS or np.ptp(later[known]) == 0:
        return None
    weight = 1 / (error[known] ** 2 + variation**2)
    time = later[known] / WindowGrowth.PERIOD_DAYS
    time = time - np.average(time, weights=weight)
    information = float(weight @ time**2)
    return PlaceInOrder(float(-(weight * time) @ shift[known] / information), information**-0.5, n)
