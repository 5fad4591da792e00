"""Shift of a month's anchors as a group against the other published items.

Linking moves the anchors back to their frozen values, so these cannot show that all anchors moved; the other published
items can. anchor_alignment.py aligns the two groups. The caller decides which shift is too large.
"""

import math
from dataclasses import dataclass

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.drift.anchor_alignment import moves
from irt_psychometrics.drift.errors import Comparison

MIN_OTHERS = 5
"""Minimum number of items besides the anchors. With fewer, a shift of the items cannot be distinguished from a shift of
the scale."""


@dataclass(frozen=True)
class ShiftAgainstAnchors:
    """Shift of b of the other published items against b of the anchors, as `Drift.shift_against_anchors` returns it.

    Attributes
    ----------
    items
        Number of the other items: published, fitted again, and not anchors.
    shift, shift_se
        Shift of the other items in θ, and its standard error.

    Examples
    --------
    >>> from irt_psychometrics.drift import ShiftAgainstAnchors
    >>> found = ShiftAgainstAnchors(items=20, shift=0.12, shift_se=0.04)
    >>> round(found.shift / found.shift_se, 1)
    3.0
    """

    items: int
    shift: float
    shift_se: float


def shift_against_anchors(
    comparison: Comparison, *, mean: float, sd: float, expected_variation: float
) -> ShiftAgainstAnchors:
    """Shift of the other items; see `Drift.shift_against_anchors`."""
    n = int((~comparison.anchors).sum())
    if n < MIN_OTHERS:
        raise PsychometricsError(
            f"the month has estimated {n} published items besides the anchors well enough, and {MIN_OTHERS} are needed"
        )
    found = moves(comparison, mean=mean, sd=sd, expected_variation=expected_variation)
    if math.isnan(found.shift):
        raise PsychometricsError("all items of one group moved individually")
    return ShiftAgainstAnchors(n, -found.shift, found.shift_se)
