"""The line between two samples: items that vary, items that moved, and comparison with a published meta-analysis."""

from __future__ import annotations

import numpy as np
import pytest

from irt_psychometrics.alignment import Alignment, Differences, align
from psychometrics_testbed.aligned import World, aligned, month
from psychometrics_testbed.linked_months import INTERCEPT, SLOPE

# Trials of the BCG vaccine (Colditz et al. 1994): cases and non-cases among the vaccinated, then among the controls
BCG = np.array([
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
    (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
])  # fmt: skip


def meta_analysis(y: np.ndarray, v: np.ndarray) -> Alignment:
    """Random-effects meta-analysis of the mean of y: each item has a single number and there is no slope."""
    k = y.size
    cov = np.stack([np.ones(k), v], axis=1)[:, :, None] * np.eye(2)
    nothing = np.zeros(k, dtype=bool)
    by_intercept = np.stack([np.zeros(k), np.ones(k)], axis=1)[:, :, None]

    def at(slope: float, intercept: float) -> Differences:
        return Differences(np.stack([np.zeros(k), intercept + y], axis=1), by_intercept, cov, nothing)

    starts = np.column_stack([np.ones(k), -y])
    return align(at, starts, expected_variation=1.0)


def months(world: World, n: int, seed: int) -> list[Alignment]:
    return [aligned(*month(np.random.default_rng([seed, s]), world)) for s in range(n)]


def coverage(found: list[Alignment]) -> np.ndarray:
    """Shares of months whose intervals contain ln slope and intercept."""
    truth = np.array([np.log(SLOPE), INTERCEPT])
    at = np.array([(np.log(one.slope), one.intercept) for one in found])
    half = np.array([one.quantile * np.sqrt(np.diag(one.cov)) for one in found])
    return np.mean(np.abs(at - truth) < half, axis=0)


def test_variation_and_its_limits_match_a_published_meta_analysis() -> None:
    """Viechtbauer (2007) and the manual of metafor: Q = 152.233 on 12 df, I² = 92.1 %, τ² of the Q-profile .1197 to
    1.1115. All 13 trials are kept, and all are within the 95 % point, so τ² solves Q = 12 · E(χ² | χ² < 3.84) / 1."""
    risks = np.log(BCG[:, 0] / (BCG[:, 0] + BCG[:, 1])) - np.log(BCG[:, 2] / (BCG[:, 2] + BCG[:, 3]))
    v = 1 / BCG[:, 0] - 1 / (BCG[:, 0] + BCG[:, 1]) + 1 / BCG[:, 2] - 1 / (BCG[:, 2] + BCG[:, 3])
    found = meta_analysis(risks, v)
    assert found.kept.all()
    assert (found.wald < 3.84).all()
    assert (found.agreement.q_df, found.agreement.q) == (12, pytest.approx(152.233, abs=5e-3))
    assert (found.agreement.i_squared, found.agreement.tau_low**2) == pytest.approx((0.9212, 0.1197), abs=5e-5)
    assert found.agreement.tau_high**2 == pytest.approx(1.1115, abs=5e-5)
    assert found.tau**2 > 0.3181  # Paule and Mandel's estimate, which cuts off no tails


@pytest.mark.parametrize("variation", [0.0, 0.10])
def test_intervals_contain_the_line_if_items_vary(variation: float) -> None:
    found = months(World(n=10_000, variation=variation), 100, seed=1)
    # 95 % less three binomial standard errors of 100 months
    assert (coverage(found) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 100)).all()
    taus = np.array([one.tau for one in found])
    # τ of 30 items has a standard error of τ/√58; at τ = 0 errors of b of .03 leave that much unexplained
    assert np.mean(taus) == pytest.approx(variation, abs=0.02)
    assert np.mean([one.agreement.tau_low > 0.15 for one in found]) < 0.05


def test_moved_items_are_excluded_and_do_not_bias_the_line() -> None:
    world = World(n=2000, variation=0.05, moved=4, by=0.5)
    found = months(world, 60, seed=2)
    named = np.array([~one.kept for one in found])
    assert named[:, :4].mean() > 0.85
    assert named[:, 4:].mean() < 0.02
    # two Monte-Carlo errors of 60 months with an intercept's error of .045
    assert abs(np.mean([one.intercept for one in found]) - INTERCEPT) < 0.01 + 2 * 0.045 / np.sqrt(60)
