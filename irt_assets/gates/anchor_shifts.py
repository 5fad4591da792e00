"""How far each anchor of a linked month lies from the anchor set.

All are placed by the anchors that did not move, of which the constants are made: releases before τ linked by some that
had moved, and their suspects tell the others' line. What does not belong here: finding which moved (see `alignment`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from irt_assets.ledger.fit_spec import LinkingConstants
from irt_psychometrics.items import ItemRow
from irt_psychometrics.linking import AnchorSet


@dataclass(frozen=True)
class AnchorShift:
    """An anchor's b in the month minus its b in the anchor set; `error` of both, without that of the linking.

    `left_out`: why linking did not use it, "" where it did.
    """

    item_id: str
    delta_b: float
    error: float
    moved: bool
    left_out: str


def anchor_shifts(anchors: AnchorSet, linked: Mapping[str, ItemRow], constants: LinkingConstants) -> list[AnchorShift]:
    """The shift of each anchor among the fit's `linked` items, largest change first."""
    suspects = constants.moved
    frozen = {
        item: (anchors.a[k], anchors.b[k], anchors.b_se[k])
        for k, item in enumerate(anchors.item_ids)
        if item in linked and linked[item].a
    }
    slope, intercept = 1.0, 0.0
    for item, suspect in suspects.items():
        if item in frozen:
            a, b, _ = frozen[item]  # its changes were computed by the constants of the others
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
