"""EAP scores and item curves: laws, an independent posterior, and answers at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irt_assets.psychometrics.curves import information, probability
from irt_assets.psychometrics.models import Responses
from irt_assets.psychometrics.scoring import eap

A = np.array([0.8, 1.2, -0.5, 2.0])
D = np.array([0.3, -1.0, 0.2, 0.5])
C = np.array([0.0, 0.2, 0.0, 0.25])
number = st.floats(-4, 4)


def plain_eap(row, mean, sd):
    """Posterior mean and SD on 4001 nodes over ± 10 sd, answer by answer."""
    theta = mean + sd * np.linspace(-10, 10, 4001)
    weight = np.exp(-0.5 * ((theta - mean) / sd) ** 2)
    for x, a, d, c in zip(row, A, D, C, strict=True):
        p = c + (1 - c) / (1 + np.exp(-(a * theta + d)))
        weight *= 1 if np.isnan(x) else p if x else 1 - p
    m = (weight @ theta) / weight.sum()
    return m, np.sqrt((weight @ (theta - m) ** 2) / weight.sum())


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (0.7, 1.6), (-2.0, 0.4)])
def test_scores_are_those_of_a_fine_grid(mean, sd):
    rows = np.array([[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [np.nan, 1, np.nan, 0], [1, np.nan, np.nan, np.nan]])
    scores = eap(Responses.from_wide(rows), A, D, C, mean=mean, sd=sd)
    expected = np.array([plain_eap(row, mean, sd) for row in rows])
    # a rectangle rule of step 0.2 sd is exact to rounding here; what is left is the cut at 6 sd, about 1e-8
    np.testing.assert_allclose(scores.theta, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(scores.se, expected[:, 1], atol=1e-6)


def test_who_gave_no_usable_answer_gets_the_prior():
    rows = np.array([[1.0, np.nan], [np.nan, np.nan], [np.nan, 1.0]])
    scores = eap(Responses.from_wide(rows), np.array([1.0, np.nan]), np.zeros(2), np.zeros(2), mean=0.5, sd=2.0)
    assert scores.theta[1:].tolist() == [0.5, 0.5]
    assert scores.se[1:].tolist() == [2.0, 2.0]
    assert scores.se[0] < 2.0


def test_items_without_parameters_are_ignored():
    rows = np.array([[1.0, 0, 1, 0, 1], [0, 0, 1, 1, 0]])
    with_gap = eap(Responses.from_wide(rows), np.append(A, np.nan), np.append(D, 1.0), np.append(C, 0.0))
    without = eap(Responses.from_wide(rows[:, :4]), A, D, C)
    np.testing.assert_array_equal(with_gap.theta, without.theta)


def test_a_right_answer_never_lowers_the_score_of_an_item_that_discriminates():
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 2, (100, 20)).astype(float)
    a, d, c = rng.uniform(0.3, 2, 20), rng.normal(0, 1, 20), rng.uniform(0, 0.3, 20)
    better = rows.copy()
    better[:, 0] = 1
    before, after = (eap(Responses.from_wide(x), a, d, c) for x in (rows, better))
    assert (after.theta >= before.theta).all()


def test_a_thousand_answers_do_not_underflow():
    rows = np.stack([np.ones(1000), np.zeros(1000)])
    scores = eap(Responses.from_wide(rows), np.full(1000, 3.0), np.zeros(1000), np.zeros(1000))
    assert np.isfinite(scores.theta).all()
    assert scores.theta[0] > 2 > -2 > scores.theta[1]


def test_scores_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(2)
    responses = Responses.from_wide(rng.integers(0, 2, (5000, 30)).astype(float))
    a, d, c = rng.uniform(0.5, 2, 30), rng.normal(0, 1, 30), np.zeros(30)
    one, three = (eap(responses, a, d, c, threads=t) for t in (1, 3))
    np.testing.assert_array_equal(one.theta, three.theta)
    np.testing.assert_array_equal(one.se, three.se)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"a": A[:2]}, "a must have shape"), ({"c": np.array([0, 0, 1.2, 0])}, "got 1.2"), ({"sd": 0.0}, "sd must be")],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"a": A, "d": D, "c": C, **change}
    with pytest.raises(ValueError, match=message):
        eap(Responses.from_wide(np.ones((2, 4))), **arguments)


def test_nobody_at_all_is_an_empty_score():
    assert eap(Responses.from_wide(np.empty((0, 4))), A, D, C).theta.shape == (0,)


@settings(max_examples=50, deadline=None)
@given(theta=number, a=number, d=number, c=st.floats(0, 0.5))
def test_information_is_the_squared_slope_over_the_variance(theta, a, d, c):
    args = (np.array([a]), np.array([d]), np.array([c]))
    p = probability(np.array([theta]), *args)[0, 0]
    h = 1e-5
    slope = (probability(np.array([theta + h]), *args) - probability(np.array([theta - h]), *args))[0, 0] / (2 * h)
    value = information(np.array([theta]), *args)[0, 0]
    assert c <= p <= 1
    assert value >= 0
    # the central difference is good to about h² = 1e-10 and rounding 1e-11
    assert value * p * (1 - p) == pytest.approx(slope**2, abs=1e-8)


def test_curves_are_half_way_at_the_difficulty_and_finite_far_out():
    theta = np.array([0.7, -500.0, 500.0])
    a, c = np.array([1.5, 40.0]), np.array([0.2, 0.0])
    p = probability(theta, a, -a * 0.7, c)
    np.testing.assert_allclose(p[0], (1 + c) / 2)
    np.testing.assert_allclose(p[1:], [[0.2, 0.0], [1.0, 1.0]])
    far = information(theta, a, -a * 0.7, c)
    assert far.shape == (3, 2)
    assert np.isfinite(far).all()
    assert far[0, 1] == pytest.approx(40.0**2 / 4)
