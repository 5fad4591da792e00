"""Growth by the place of an item's answers in the order of the window."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.reports.place_in_order import growth_by_place
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE


@WHERE_STATISTICS_CHANGE
def test_growth_is_estimated_from_anchors_in_a_different_order() -> None:
    """Growth lowers b of later anchors. The expected error is a weighted regression's, with errors of .1 and a
    variation of .05."""
    rng = np.random.default_rng(9)
    later, error = np.linspace(-10, 20, 30), np.full(30, 0.1)
    shift = 0.2 - 0.6 * later / 30 + rng.normal(0, np.hypot(0.1, 0.05), 30)
    found = growth_by_place(shift, error, later, 0.05)
    time = (later - later.mean()) / 30
    assert found.se == pytest.approx(np.hypot(0.1, 0.05) / np.sqrt(time @ time))
    assert abs(found.estimate - 0.6) < 3.5 * found.se
    untold = (shift, error, np.zeros(30)), (shift[:4], error[:4], later[:4])
    assert [growth_by_place(*simulated, 0.05) for simulated in untold] == [None, None]
