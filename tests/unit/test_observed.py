"""Observed proportions by ability, and the interval of a curve, against what is known by hand or by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from irt_assets.psychometrics.core.curves import probability
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.psychometrics.fit.observed import Observed, observed


def test_groups_go_from_the_least_able_to_the_ablest_and_hold_every_answer_once() -> None:
    theta = np.array([2.0, -1.0, 0.0, 1.0])
    found = observed(theta, [1, 0, 0, 1], groups=2, fewest=2)
    assert found.theta.tolist() == [-0.5, 1.5]
    assert found.proportion.tolist() == [0.0, 1.0]
    assert found.n.tolist() == [2, 2]


def test_few_answers_make_fewer_groups_and_none_make_none() -> None:
    rng = np.random.default_rng(1)
    assert observed(rng.normal(size=50), np.ones(50), groups=8, fewest=20).n.tolist() == [25, 25]
    assert observed(rng.normal(size=5), np.ones(5)).n.tolist() == [5]
    assert observed(np.array([]), []).n.size == 0


def test_answers_of_a_curve_lie_on_it() -> None:
    """20,000 answers in 8 groups: a proportion's SE is below 0.01, and curvature within a group moves it as little."""
    rng = np.random.default_rng(2)
    theta = rng.normal(size=20_000)
    found = observed(theta, rng.random(20_000) < probability(theta, 1.2, 0.3, 0.0))
    assert found.proportion == pytest.approx(probability(found.theta, 1.2, 0.3, 0.0), abs=0.03)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9, 1.0])
def test_the_interval_of_a_proportion_covers_it_19_times_in_20(share: float) -> None:
    """By enumeration of n = 60; Wilson's interval is known to cover between 0.92 and 1 there (Brown et al. 2001)."""
    right = np.arange(61)
    low, high = Observed(np.zeros(61), right / 60, np.full(61, 60)).interval()
    covered = binom.pmf(right, 60, share)[(low <= share) & (share <= high)].sum()
    assert covered > 0.91
    assert (low >= 0).all()
    assert (high <= 1).all()


def test_the_interval_of_a_curve_covers_it_where_its_parameters_are_drawn_from_their_errors() -> None:
    """4,000 draws: the share covered has an SE of 0.0035, and the delta method errs by about as much."""
    cov = np.array([[0.01, -0.004], [-0.004, 0.02]])
    a, b = np.random.default_rng(3).multivariate_normal([1.0, 0.3], cov, 4000).T
    theta = np.array([-2.0, 0.3, 2.0])
    low, high = ItemRow(1.0, 0.3, 0.2, 0.1, 0.02**0.5, -0.004).interval(theta)
    drawn = np.array([probability(theta, x, -x * y, 0.2) for x, y in zip(a, b, strict=True)])
    assert ((low <= drawn) & (drawn <= high)).mean(axis=0) == pytest.approx(0.95, abs=0.02)


def test_without_errors_the_interval_is_the_curve() -> None:
    theta = np.linspace(-3, 3, 7)
    low, high = ItemRow(0.8, -0.5, 0.1, 0.0, 0.0, 0.0).interval(theta)
    assert low == pytest.approx(probability(theta, 0.8, 0.4, 0.1))
    assert high == pytest.approx(low)


def test_scores_are_counted_by_score_and_their_mean_is_a_share_of_the_maximum() -> None:
    theta = np.array([-1.0, -0.5, 0.5, 1.0])
    found = observed(theta, [0, 2, 2, 3], max_score=3, groups=2, fewest=2)
    assert found.proportion == pytest.approx([1 / 3, 5 / 6])
    assert found.by_score is not None
    assert found.by_score.n.tolist() == [1, 0, 2, 1]
    assert found.by_score.theta == pytest.approx([-1.0, np.nan, 0.0, 1.0], nan_ok=True)
    assert found.of_score(2).proportion.tolist() == [0.5, 0.5]
    low, high = found.interval()
    assert np.all((low <= found.proportion) & (found.proportion <= high))


def test_the_interval_of_a_mean_score_covers_it_19_times_in_20() -> None:
    """1,000 means of 100 scores: the share has a Monte-Carlo error of 0.007."""
    rng = np.random.default_rng(3)
    p = np.array([0.2, 0.1, 0.4, 0.3])
    covered = 0
    for _ in range(1000):
        low, high = observed(np.zeros(100), rng.choice(4, 100, p=p), max_score=3, groups=1).interval()
        covered += bool(low[0] <= p @ np.arange(4) / 3 <= high[0])
    assert 0.925 < covered / 1000 < 0.975
