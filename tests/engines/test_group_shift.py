"""Shift of the anchors against the remaining published items if curves are compared."""

from __future__ import annotations

import numpy as np

from irt_assets.ledger.group_shift import GroupShift
from psychometrics_testbed.published_months import World


def test_shift_is_detected_if_anchors_of_a_3pl_moved_as_a_group() -> None:
    easier = np.where(np.arange(24) < 12, -0.3, 0.0)
    months = World(12, 12, 1500, model="3pl").fitted(np.random.default_rng([3, 1]), np.zeros(24), easier)
    before, after = (GroupShift.from_comparison(one, mean=0.0, sd=1.0, expected_variation=0.1) for one in months)
    assert not before.exceeds_limit(0.1)
    assert after.exceeds_limit(0.1)
    assert abs(after.shift - 0.3) < 3 * after.shift_se < 0.3
