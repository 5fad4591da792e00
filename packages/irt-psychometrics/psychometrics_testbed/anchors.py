"""Anchors, frozen from the fit of a simulated origin window."""

from __future__ import annotations

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.models import Calibration
from psychometrics_testbed.made_anchors import anchors_of_items


def anchors_of(origin: Calibration, ids: tuple[str, ...]) -> AnchorSet:
    """Return the anchor set of these items of an origin's fit, in this order, with the covariance of their errors."""
    return anchors_of_items(origin.select([origin.item_ids.index(item) for item in ids]).items)


def usable(origin: Calibration, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Items without flags, which are the items that an origin freezes."""
    flags = dict(zip(origin.item_ids, origin.flags, strict=True))
    return tuple(item for item in ids if not flags[item])
