"""Slopes if items are selected by an earlier θ̂: flattened under a single distribution, nearly unbiased by level.

The study behind it, with more learners, widths and replications, is `benchmarks/bench_levels.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from irt_psychometrics.estimation import fit_em
from psychometrics_testbed.levels import World, bias_of, by_level, simulate
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = [pytest.mark.ci, WHERE_STATISTICS_CHANGE]


@pytest.mark.parametrize(
    ("world", "least"),
    [
        (World(width=1.0), 0.10),
        (World(width=0.5), 0.30),
        (World(width=0.5, max_score=3), 0.30),
        (World(width=0.5, max_score=3, scored="grm"), 0.30),
    ],
    ids=["wide", "narrow", "a third of the items is scored 0 to 3", "a third is graded"],
)
def test_bias_of_slopes_is_within_five_hundredths_if_learners_are_grouped_by_level(world: World, least: float) -> None:
    """The standard error of mean ln a over 60 items and two worlds is about 0.012 (0.018 for a single world)."""
    one, levelled = [], []
    for seed in (1, 2):
        drawn = simulate(np.random.default_rng(seed), world)
        one.append(bias_of(drawn, fit_em(drawn.window, model=drawn.models))[0])
        fit = by_level(drawn).calibration
        assert fit.convergence.converged, fit.convergence.reason
        levelled.append(bias_of(drawn, fit)[0])
    assert np.mean(one) < -least
    assert abs(np.mean(levelled)) <= 0.05


def test_fit_by_level_is_in_the_unit_of_all_learners() -> None:
    world = simulate(np.random.default_rng(3), World())
    found = by_level(world)
    fit = found.calibration
    share = np.array([p.n_persons for p in fit.populations]) / fit.n_persons
    mean, sd = (np.array([getattr(p, name) for p in fit.populations]) for name in ("mean", "sd"))
    assert (share @ mean, share @ (mean**2 + sd**2)) == pytest.approx((0, 1), abs=1e-9)
    assert sorted(set(found.groups)) == sorted(p.name for p in fit.populations)
    assert len(found.groups) == world.window.n_persons


def test_fit_by_level_without_earlier_answers_matches_the_fit_of_all_learners() -> None:
    world = simulate(np.random.default_rng(4), World(learners=1500, lookback=(0, 0)))
    found, plain = by_level(world).calibration, fit_em(world.window)
    np.testing.assert_allclose(found.a, plain.a, atol=1e-4)
    np.testing.assert_allclose(found.d, plain.d, atol=1e-4)
