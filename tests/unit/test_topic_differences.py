"""Differences of topics, which are easier or harder for a learner than expected at the learner's ability."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.reports.topic_differences import topic_differences
from irt_psychometrics.items import ItemParameters, ItemRow
from irt_psychometrics.scoring import Curves

ZERO, ONE = np.zeros(1), np.ones(1)


def differences(
    score: list[int], theta: float = 0.0, a: float = 1.0, b: float = 0.0, c: float = 0.0
) -> tuple[float, float]:
    n = len(score)
    items = ItemParameters.from_rows(("i",), [ItemRow(a, b, c)])
    all_of_one = np.zeros(n, dtype=np.intp)
    scores = np.array(score, dtype=np.int8)
    difference, error = topic_differences(
        all_of_one, 1, all_of_one, scores, np.full(n, theta), Curves.from_items(items.curves)
    )
    return float(difference[0]), float(error[0])


def test_difference_is_0_if_the_right_answers_are_as_many_as_expected() -> None:
    assert differences([0, 1] * 5)[0] == pytest.approx(0.0)


def test_difference_from_ten_answers_at_even_odds_equals_a_calculation_by_hand() -> None:
    """P = 1/2, so S = Σ(x − P) = 3 of 8 right in 10, I = 10/4: δ = 3/(2.5 + 4), SD = 1/√6.5."""
    assert differences([1] * 8 + [0] * 2) == pytest.approx((3 / 6.5, 6.5**-0.5))


def test_answers_are_weighted_by_discrimination_and_less_if_guessing_is_possible() -> None:
    """a = 2: S = 2 · 3, I = 4 · 2.5. A right answer is less informative with c = .2: P = .6, P'/(PQ) = L/P = .5/.6."""
    assert differences([1] * 8 + [0] * 2, a=2.0)[0] == pytest.approx(6 / (10 + 4))
    expected = (8 * 0.4 - 2 * 0.6) * (0.5 / 0.6), 10 * 0.8 * 0.5 * 0.5 * 0.5 / 0.6 + 4
    assert differences([1] * 8 + [0] * 2, c=0.2)[0] == pytest.approx(expected[0] / expected[1])


def test_points_of_a_scored_item_are_weighted_by_slope_and_variance() -> None:
    """a = 2, scores 0 to 2 equally likely at θ = 0: S = 2·(2 − 1), I = 2²·2/3. Without categories, 1 is full credit."""
    row = ItemRow(2.0, 0.0, 0.0, further={"max_score": 2, "t0": 0.0, "t1": 0.0, "t2": 0.0})
    items, one = ItemParameters.from_rows(("i",), [row]), np.zeros(1, dtype=np.intp)
    for points, categories in ((2, np.array([3])), (1, None)):
        found, error = topic_differences(
            one, 1, one, np.array([points], dtype=np.int8), ZERO, Curves.from_items(items.curves), categories
        )
        assert (found[0], error[0]) == (pytest.approx(2 / (8 / 3 + 4)), pytest.approx((8 / 3 + 4) ** -0.5))


def test_topic_of_uninformative_items_keeps_the_prior_uncertainty() -> None:
    assert differences([1, 1, 1], a=0.0) == pytest.approx((0.0, 0.5))


def test_true_differences_are_recovered_with_correct_errors() -> None:
    """20,000 learners have 40 answers each, and δ ~ N(0, 0.25) as assumed. (δ̂ − δ)/SD has SD 1 up to 5 %, as a single
    step of scoring is slightly biased for large δ. Topics called strong at 95 % are strong in 95 % or more of cases."""
    rng = np.random.default_rng(5)
    n, m = 20_000, 40
    delta, theta = rng.normal(0, 0.5, n), rng.normal(0, 1, n)
    group = np.repeat(np.arange(n), m)
    a, b = rng.lognormal(0, 0.3, n * m), rng.normal(0, 1, n * m)
    score = (rng.random(n * m) < 1 / (1 + np.exp(-a * (theta[group] + delta[group] - b)))).astype(np.int8)
    names = tuple(map(str, range(n * m)))
    items = ItemParameters(names, a, b, np.zeros(n * m), np.zeros((n * m, 2, 2)))
    found, error = topic_differences(group, n, np.arange(n * m), score, theta[group], Curves.from_items(items.curves))
    assert np.std((found - delta) / error) == pytest.approx(1.0, abs=0.05)
    called_strong = found > 1.645 * error
    assert called_strong.mean() > 0.1
    assert (delta[called_strong] > 0).mean() > 0.95
