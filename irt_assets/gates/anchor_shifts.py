"""Shift of each anchor of a linked month from its value in the anchor set.

The shifts are relative to the anchors that did not move. The linking constants come from these anchors only, except in
fits of releases before τ, whose constants also used some anchors that had moved; there the constants are recovered from
the changes of a suspect. `alignment` finds the anchors that moved.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from irt_assets.ledger.fit_spec import LinkingConstants
from irt_psychometrics.items import ItemRow
from irt_psychometrics.linking import AnchorSet


@dataclass(frozen=True)
class AnchorShift:
    """Shift of an anchor.

    Attributes:
        delta_b: b in the month minus b in the anchor set.
        error: standard error of `delta_b` from both values, without the error of the linking.
        left_out: why linking did not use the anchor; "" if it did.
    """

    item_id: str
    delta_b: float
    error: float
    moved: bool
    left_out: str


def anchor_shifts(anchors: AnchorSet, linked: Mapping[str, ItemRow], constants: LinkingConstants) -> list[AnchorShift]:
    """The shift of each anchor among the fit's `linked` items, largest change first."""
    suspects = constants.moved_anchors
    frozen = {
        item: (anchors.a[k], anchors.b[k], anchors.b_se[k])
        for k, item in enumerate(anchors.item_ids)
        if item in linked and linked[item].a
    }
    slope, intercept = 1.0, 0.0
    for item, suspect in suspects.items():
        if item in frozen:
            a, b, _ = frozen[item]  # the suspect's changes were computed with the constants of the other anchors
            slope = linked[item].a / (a + suspect.delta_a)
            intercept = b + suspect.delta_b - slope * linked[item].b
            break
    found = [
        AnchorShift(
            item,
            float(slope * linked[item].b + intercept - b),
            math.hypot(slope * (linked[item].b_se or math.nan), b_se),
            item in suspects,
            constants.anchors_dropped.get(item, ""),
        )
        for item, (_, b, b_se) in frozen.items()
    ]
    return sorted(found, key=lambda shift: (-abs(shift.delta_b), shift.item_id))
