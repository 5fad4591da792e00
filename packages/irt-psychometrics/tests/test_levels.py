"""Levels of learners by earlier answers, and signs of assignment by level."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.estimation import levels
from irt_psychometrics.estimation.levels import UNKNOWN, EarlierTheta, correlation_with
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring.abilities import eap

RNG = np.random.default_rng(1)


def test_levels_are_of_equal_size_and_in_order_of_theta() -> None:
    theta = RNG.permutation(np.linspace(-2, 2, 5000))
    groups = np.array(EarlierTheta(theta).groups())
    names, counts = np.unique(groups, return_counts=True)
    assert names.tolist() == [f"level {k:02d}" for k in range(1, levels.LEVELS + 1)]
    assert counts.min() == counts.max() == 250
    assert all(theta[groups == lower].max() < theta[groups == upper].min() for lower, upper in pairwise(names))


@pytest.mark.parametrize(("learners", "expected"), [(5000, 20), (600, 12), (100, 2), (99, 1), (0, 1)])
def test_number_of_levels_is_a_fiftieth_of_the_learners_and_at_most_twenty(learners: int, expected: int) -> None:
    theta = np.full(1000 + learners, np.nan)
    theta[:learners] = RNG.normal(size=learners)
    names = set(EarlierTheta(theta).groups()) - {UNKNOWN}
    assert len(names) == (expected if expected > 1 else 0)


def test_fifty_learners_without_an_earlier_theta_are_a_separate_group() -> None:
    many, few = (np.concatenate([RNG.normal(size=1000), np.full(n, np.nan)]) for n in (50, 49))
    assert EarlierTheta(many).groups()[1000:] == [UNKNOWN] * 50
    assert EarlierTheta(few).groups()[1000:] == ["level 11"] * 49  # the upper of the two middle levels of 20


def test_earlier_theta_is_known_if_five_answered_items_have_parameters() -> None:
    x = np.array([[1, 0, 1, 1, 0, 1], [1, 0, 1, 1, np.nan, 1], [np.nan] * 6, [1, 1, 1, 1, 1, np.nan]])
    answers = Responses.from_wide(x, ["a", "b", "c", "d", "e", "unknown"])
    item_ids = ["e", "d", "c", "b", "a"]  # the parameters' order is not the answers'
    slope, intercept = np.array([1.0, 2.0, 1.0, 0.5, 1.5]), np.array([0.0, 1.0, -1.0, 0.5, 0.2])
    found = EarlierTheta.from_answers(answers, item_ids, ItemCurves(slope, intercept, np.zeros(5)))
    expected = eap(Responses.from_wide(x[:, [4, 3, 2, 1, 0]], item_ids), slope, intercept, np.zeros(5)).theta
    assert found.known.tolist() == [True, False, False, True]
    np.testing.assert_allclose(found.theta[[0, 3]], expected[[0, 3]])


def test_earlier_theta_ignores_items_without_estimates() -> None:
    answers = Responses.from_wide(np.ones((1, 6)), list("abcdef"))
    slope = np.array([1.0, np.nan, 1.0, 1.0, 1.0, 1.0])
    without = EarlierTheta.from_answers(answers, list("abcdef"), ItemCurves(slope, 0 * slope, np.zeros(6)))
    five = EarlierTheta.from_answers(answers, list("acdef"), ItemCurves(np.ones(5), np.zeros(5), np.zeros(5)))
    assert without.theta == pytest.approx(five.theta)


def test_correlation_is_high_for_items_assigned_by_level_and_low_for_random_forms() -> None:
    """An assignment has 2000 answers, so a correlation of 0 has a standard error of 0.02."""
    theta, b = RNG.normal(size=400), np.sort(RNG.normal(size=40))
    near = np.argsort(np.abs(b - theta[:, None]) + RNG.uniform(0, 1, (400, 40)), axis=1)[:, :5]
    at_random = np.argsort(RNG.random((400, 40)), axis=1)[:, :5]
    found = []
    for items in (near, at_random):
        x = np.full((400, 40), np.nan)
        np.put_along_axis(x, items, 1.0, axis=1)
        found.append(correlation_with(Responses.from_wide(x), b, EarlierTheta(theta)))
    assert found[0][0] > 0.6
    assert abs(found[1][0]) < 0.1
    assert found[0][1] == 400


def test_correlation_is_undefined_without_earlier_answers() -> None:
    responses = Responses.from_wide(np.ones((3, 2)))
    r, learners = correlation_with(responses, np.array([0.0, 1.0]), EarlierTheta(np.full(3, np.nan)))
    assert (np.isnan(r), learners) == (True, 0)
