"""By how much a month's anchors as a group moved against the other published items.

Linking puts the anchors where they were, so their own values cannot show that all of them moved; the other published
items can. What does not belong here: the alignment of both groups (moves.py), and which shift is too large.
"""

import math
from dataclasses import dataclass

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.drift.errors import Comparison
from irt_psychometrics.drift.moves import moves

FEWEST_OTHERS = 5
"""With fewer items besides the anchors, a shift of the items cannot be distinguished from a shift of the scale."""


@dataclass(frozen=True)
class ShiftAgainstAnchors:
    """By how much b of the other published items moved against b of the anchors.

    Attributes:
        items: the others: published, fitted again and not anchors.
        shift, shift_se: of the others, in θ, and its standard error.
    """

    items: int
    shift: float
    shift_se: float


def shift_against_anchors(
    comparison: Comparison, *, mean: float, sd: float, expected_variation: float
) -> ShiftAgainstAnchors:
    """See `Drift.of_anchors`."""
    n = int((~comparison.anchors).sum())
    if n < FEWEST_OTHERS:
        raise PsychometricsError(
            "of the published items besides them the month has "
            f"estimated {n} well enough, and {FEWEST_OTHERS} are needed"
        )
    found = moves(comparison, mean=mean, sd=sd, expected_variation=expected_variation)
    if math.isnan(found.shift):
        raise PsychometricsError("all items of one group moved singly")
    return ShiftAgainstAnchors(n, -found.shift, found.shift_se)
