"""The gate on the agreement of anchors over many simulated months: sound months pass, moved anchors are dropped."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from irt_assets.simulation.scenario import demo_scenario
from irt_psychometrics.linking import Linking, link_to_anchors
from psychometrics_testbed.linked_months import INTERCEPT, ids, month
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE
from tests.testbed.agreement import disagree

pytestmark = WHERE_STATISTICS_CHANGE


def months(n: int, seed: int, **options: object) -> list[Linking]:
    rng = np.random.default_rng(seed)
    return [link_to_anchors(*month(rng, **options)) for _ in range(n)]


@pytest.mark.parametrize("k", [7, 10, 30])
def test_sound_months_pass_and_keep_nearly_all_anchors(k: int) -> None:
    found = months(70, seed=k, k=k)
    assert sum(disagree(f) for f in found) <= 4  # up to 3 % of months with few anchors: 2.1 expected, P(> 4) = 0.06
    assert np.mean([len(f.anchors_dropped) for f in found]) < 0.02 * k


def test_month_is_held_if_twelve_of_thirty_anchors_moved_together() -> None:
    # if moved by .6 at 1000 learners, many months look as if all anchors varied more than items of a scale do
    found = months(50, seed=4, moved=12, shift=0.6)
    assert sum(not disagree(f) for f in found) <= 5  # 3 % may pass, P(> 5 of 50) < 0.004
    found = months(30, seed=4, moved=12, shift=0.8, n_new=2000, n_old=2000)
    assert all(disagree(f) for f in found)
    named = [set(f.suspects) & set(ids(12)) for f in found]
    assert np.mean([len(some) for some in named]) >= 11  # a month without suspects counts as 0
    assert np.mean([len(set(f.suspects) - set(ids(12))) for f in found]) <= 1


def test_every_month_is_held_if_anchors_move_as_in_the_demo() -> None:
    faults = demo_scenario(datetime(2026, 12, 1, tzinfo=UTC)).faults
    fault = next(one for one in faults if one.kind == "anchors_moved")
    # about 1000 answers an item, as in the demo; at .6 some 5 % of the months would pass, P(none of 60) = 0.05
    found = months(60, seed=11, moved=fault.n_items, shift=fault.size)
    assert all(disagree(f) for f in found)


def test_a_single_moved_anchor_of_thirty_is_dropped_and_the_rest_agrees() -> None:
    found = months(50, seed=6, moved=1, shift=0.8)
    assert all("item00" in f.anchors_dropped for f in found)
    assert "It lies off the line of the anchors that are kept: b by +0." in found[0].anchors_dropped["item00"]
    assert found[0].suspects["item00"]["parameter"] == "b"
    assert sum(not disagree(f) for f in found) >= 47
    # the constants are as accurate as without the moved anchor
    assert np.mean([f.intercept for f in found]) == pytest.approx(INTERCEPT, abs=0.01)


def test_month_is_held_if_half_of_the_anchors_moved() -> None:
    found = months(30, seed=4, moved=15, shift=0.9)
    flagged = [f for f in found if f.suspects]
    assert len(flagged) <= 15  # by chance an anchor of one half is on the line of the other half
    tie = next(f for f in found if not f.suspects)
    assert tie.diagnosis.startswith("which anchors moved cannot be determined: of 30, ")
    assert all(disagree(f) for f in found)
