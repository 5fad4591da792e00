"""Stated errors of drift: differences of linked fits from published values vary as their covariance states."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from irt_psychometrics.drift.errors import Comparison
from irt_psychometrics.drift.item_trends import trends
from irt_psychometrics.drift.items import Drift
from psychometrics_testbed.drift_worlds import ANCHORS, IDS, ITEMS, world
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = [pytest.mark.ci, WHERE_STATISTICS_CHANGE]


@pytest.fixture(scope="module")
def worlds() -> list[Comparison]:
    generator = np.random.default_rng(11)
    return [world(generator)[1][0] for _ in range(300)]


def test_covariance_of_differences_matches_their_spread_if_no_item_moved(worlds: list[Comparison]) -> None:
    """The empirical covariance over 300 worlds, whitened by the computed one, is the identity. An entry's standard
    error is √(2/300) = 0.082 on and 0.058 off the diagonal; limits are four standard errors."""
    for j in range(ITEMS):
        root = np.linalg.cholesky(np.mean([w.cov[j] for w in worlds], axis=0))
        white = np.array([np.linalg.solve(root, w.delta[j]) for w in worlds])
        off = white.T @ white / len(worlds) - np.eye(2)
        assert np.abs(np.diag(off)).max() < 0.33, (worlds[0].item_ids[j], off)
        assert abs(off[0, 1]) < 0.23, (worlds[0].item_ids[j], off)


def test_p_values_are_uniform_if_no_item_moved(worlds: list[Comparison]) -> None:
    """Tests an anchor, which itself influences the constants, and an item that an earlier fit published."""
    for item in (IDS[0], IDS[ITEMS - 1]):
        p = [Drift.from_comparison(w).p[w.item_ids.index(item)] for w in worlds]
        assert kstest(p, "uniform").pvalue > 1e-3, item


def test_wald_statistic_is_too_small_if_effects_of_anchors_on_constants_are_ignored(worlds: list[Comparison]) -> None:
    """The mean of W is 2, but not if the errors of both sides are added as if they were independent. Over 300 worlds of
    9 anchors its standard error is about 0.04, and below 2/√300 = 0.12 even if the nine anchors always agreed."""
    w, naive = [], []
    for c in worlds:
        j = [c.item_ids.index(item) for item in IDS[:ANCHORS]]
        both = c.by_anchors[j] @ c.published.with_anchors[j].transpose(0, 2, 1)
        naive_cov = c.cov[j] + both + both.transpose(0, 2, 1)
        w.append(np.einsum("jk,jkl,jl->j", c.delta[j], np.linalg.inv(c.cov[j]), c.delta[j]))
        naive.append(np.einsum("jk,jkl,jl->j", c.delta[j], np.linalg.inv(naive_cov), c.delta[j]))
    assert np.mean(w) == pytest.approx(2.0, abs=0.12)
    assert np.mean(naive) < 1.88


def test_errors_of_trend_slopes_match_their_spread_if_no_item_moved() -> None:
    """Three windows share the errors of the published values and of the anchors. The mean of z² is 1; over 150 worlds
    its standard error is √(2/150) = 0.12 for an item, and the worst of 14 items is within four standard errors."""
    generator = np.random.default_rng(4)
    z = []
    for _ in range(150):
        anchors, windows = world(generator, windows=3)
        found = trends(windows, [1, 2, 3], anchors)
        z.append(found.slope / found.slope_se)
    assert np.abs((np.array(z) ** 2).mean(axis=0) - 1).max() < 0.48
    assert (np.array(z) ** 2).mean() == pytest.approx(1.0, abs=0.15)
