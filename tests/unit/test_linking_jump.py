"""When a month's linking constants are called a jump."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from irt_assets.psychometrics.linking.jump import LEVEL, Constants, Jump, jump, jumps


def against(earlier: np.ndarray, value: float, se: float = 0.0, usual_se: float = 0.0, level: float = LEVEL) -> Jump:
    """The month after consecutive ones."""
    n = earlier.size
    found = jump("intercept", value, se, np.arange(-n, 0), earlier, np.full(n, usual_se), level)
    assert found is not None
    return found


def test_the_statistic_is_the_t_of_a_new_observation() -> None:
    """The prediction interval of one more value from a normal sample, with R: n = 5, mean 0.06, SD 0.11937, t(4) for
    .001 two-sided 8.6103; 8.6103 · 0.11937 · √1.2 = 1.1259."""
    found = against(np.array([0.0, 0.15, -0.1, 0.2, 0.05]), 0.5, 0.01, 0.01)
    assert (found.change, found.limit) == pytest.approx((0.44, 1.1259), abs=1e-4)  # as far as it is written above
    assert found.p == pytest.approx(2 * stats.t.sf(0.44 / (0.119373 * np.sqrt(1.2)), 4), rel=1e-4)
    assert not found.seen


def test_months_that_agree_better_than_their_errors_are_given_their_errors() -> None:
    found = against(np.full(8, 0.1), 0.3, 0.04, 0.04)
    assert found.sd == pytest.approx(0.04 * np.sqrt(1 + 1 / 8))


def test_a_month_of_few_learners_is_given_its_own_error() -> None:
    found = against(np.full(8, 0.1), 0.3, 0.2, 0.04)
    assert found.sd == pytest.approx(np.sqrt(0.04**2 / 8 + 0.2**2))


@pytest.mark.parametrize("n", [3, 6, 11])
def test_a_steady_rise_is_no_jump(n: int) -> None:
    found = against(0.12 * np.arange(n), 0.12 * n)
    assert abs(found.change) / found.sd == pytest.approx(np.sqrt(3))
    assert not found.seen


def test_from_a_year_on_a_trend_is_taken_out() -> None:
    """Against the prediction interval of a regression in textbooks: s²·(1 + 1/n + (x − x̄)²/Sxx), n − 2 df."""
    x, noise = np.arange(12.0), np.random.default_rng(1).normal(0, 0.05, 12)
    earlier = 0.12 * x + noise
    rise, level = np.polyfit(x, earlier, 1)
    s = np.sqrt(np.sum((earlier - level - rise * x) ** 2) / 10)
    found = against(earlier, 2.0)
    assert found.change == pytest.approx(2.0 - level - rise * 12)
    assert found.sd == pytest.approx(s * np.sqrt(1 + 1 / 12 + (12 - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)))
    assert found.limit == pytest.approx(found.sd * stats.t.isf(0.0005, 10))
    assert found.seen


@pytest.mark.parametrize("n", [3, 8, 24])
def test_sound_months_are_called_jumps_as_often_as_the_level_says(n: int) -> None:
    """Stationary months without error: the t test is exact, but for trends that are there by chance. Level .05, so
    that 4,000 histories have 200 ± 14."""
    rng = np.random.default_rng(n)
    x = rng.normal(0.2, 0.1, (4000, n + 1))
    seen = [against(row[:-1], row[-1], level=0.05).seen for row in x]
    assert abs(np.sum(seen) - 200) < 4 * 14


def test_slopes_are_compared_as_ratios() -> None:
    earlier = [Constants(k, slope, 0.05 * slope, 0.0, 0.05) for k, slope in enumerate((0.9, 1.0, 1.1, 1.0, 0.95))]
    doubled = [replace(one, slope=2 * one.slope, slope_se=2 * one.slope_se) for one in earlier]
    (slope, _), (twice, _) = jumps(earlier[0], earlier), jumps(doubled[0], doubled)
    assert slope.change == pytest.approx(twice.change)
    assert slope.limit == pytest.approx(twice.limit)


def test_a_slope_that_is_fixed_is_not_compared() -> None:
    rasch = [Constants(k, 1.0, 0.0, x, 0.05) for k, x in enumerate((0.0, 0.1, -0.1, 0.05))]
    assert [one.constant for one in jumps(Constants(4, 1.0, 0.0, 0.3, 0.05), rasch)] == ["intercept"]


def test_two_months_say_nothing() -> None:
    assert jumps(Constants(2, 1.0, 0.1, 9.0, 0.1), [Constants(k, 1.0, 0.1, 0.0, 0.1) for k in range(2)]) == ()
