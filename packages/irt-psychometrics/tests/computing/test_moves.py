"""A month aligned with all published values: variation between items, moved items, and the shift of the anchors."""

from __future__ import annotations

import numpy as np
import pytest

from irt_psychometrics.alignment.common_line import NoLineError
from irt_psychometrics.core.covariances import block_diagonal
from irt_psychometrics.drift.anchor_alignment import Moves, differences, moves
from psychometrics_testbed.drift_worlds import compared
from psychometrics_testbed.published_months import World
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE


def months(world: World, moved: np.ndarray, n: int = 20) -> list[Moves]:
    return [moves(world.compared(np.random.default_rng([7, k]), moved)) for k in range(n)]


def test_shift_of_the_anchors_is_distinguished_from_items_that_moved_alone() -> None:
    world = World()
    moved = np.where(np.arange(world.size) < world.k, -0.3, 0.0)
    moved[[3, 30]] += 1.5
    found = months(world, moved)
    shift, se = (np.array([getattr(one, name) for one in found]) for name in ("shift", "shift_se"))
    assert shift.mean() == pytest.approx(-0.3, abs=4 * se.mean() / np.sqrt(len(found)))
    assert 0.6 < ((shift + 0.3) / se).std() < 1.3
    assert (np.abs(shift) > 3 * se).all()
    assert not any(one.line.kept[[3, 30]].any() for one in found)
    assert np.mean([(one.line.kept & one.others).sum() for one in found]) > world.others - 1.5


def test_variation_of_items_is_estimated_from_items_that_did_not_move() -> None:
    world = World(n=10_000, variation=0.1)
    moved = np.zeros(world.size)
    moved[:4] = 0.8
    found = months(world, moved)
    assert np.mean([one.line.tau for one in found]) == pytest.approx(0.1, abs=0.012)
    wald = np.concatenate([one.line.wald[4:] for one in found])
    assert np.mean(wald > 5.99) == pytest.approx(0.05, abs=0.03)


def test_shift_of_the_anchors_is_missing_if_the_bank_has_only_anchors() -> None:
    found = moves(World(others=0).compared(np.random.default_rng(3), np.zeros(20)))
    assert (found.others.any(), np.isnan(found.shift)) == (False, True)


def test_alignment_is_refused_if_no_three_items_lie_on_a_line() -> None:
    with pytest.raises(NoLineError, match="no 3 of 4 items lie on one line"):
        moves(compared(np.zeros(4), np.array([-4.0, 0.0, 3.0, 9.0]), se=0.01))


def test_errors_of_differences_of_3pl_curves_are_a_covariance() -> None:
    """The covariance of an anchor's c with its a and b enters every fit that is linked to the anchor. Without it, the
    common errors of the differences would not be a covariance."""
    easier = np.where(np.arange(24) < 12, -0.3, 0.0)
    for comparison in World(12, 12, 1500, model="3pl").fitted(np.random.default_rng([3, 1]), np.zeros(24), easier):
        at, _ = differences(comparison, 0.0, 1.0)
        common = at.common.reshape(2 * len(at.d), -1)
        assert np.linalg.eigvalsh(block_diagonal(at.cov) + common @ at.common_cov @ common.T)[0] > 0
