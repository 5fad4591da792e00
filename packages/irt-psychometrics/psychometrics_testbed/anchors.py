"""Anchors, frozen from the fit of a simulated origin window."""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.covariances import block_diagonal
from irt_psychometrics.core.models import Calibration
from psychometrics_testbed.made_anchors import anchor_set_of


def anchors_of(origin: Calibration, ids: tuple[str, ...]) -> AnchorSet:
    """Anchor set of these items of an origin's fit, in this order, with the covariance of their errors."""
    fit = origin.select([origin.item_ids.index(item) for item in ids])
    return anchor_set_of(
        "bench", "1", ids, fit.a, fit.b, fit.c, fit.a_se, fit.b_se, fit.cov_ab[:, 0, 1], (None,) * len(ids),
        np.zeros(len(ids), dtype=bool), block_diagonal(fit.items.cov),
    )  # fmt: skip


def usable(origin: Calibration, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Items without flags, which are the items that an origin freezes."""
    flags = dict(zip(origin.item_ids, origin.flags, strict=True))
    return tuple(item for item in ids if not flags[item])
