"""Item models: their curves, derivatives and transforms against finite differences, and the registry."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from irt_assets.psychometrics.core.curves import information, probability
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.item_models import ITEM_MODELS, item_model
from irt_assets.psychometrics.core.model_families import CLOGLOG, ONE_PL, RASCH, THREE_PL, TWO_PL
from irt_assets.psychometrics.core.options import MODELS, Model
from irt_assets.psychometrics.core.priors import GUESSING_PRIOR, Priors

THETA = np.linspace(-3, 3, 13)
A, D, LOGIT_C = np.array([0.7, 1.4, -0.5]), np.array([0.3, -1.0, 0.0]), np.array([-1.5, -0.8, -2.0])
TWO = np.full(3, 2)
STEP = 1e-5
# Central differences with this step: their truncation error is of the order of 1e-10, rounding of 1e-11.
NEAR = 1e-8


def parameters(model):
    return np.stack([A, D, LOGIT_C][: len(model.parameter_names(2))])


def test_every_model_that_can_be_chosen_is_registered_under_its_name():
    assert tuple(ITEM_MODELS) == MODELS == get_args(Model)
    assert all(item_model(name).name == name for name in MODELS)


def test_the_complementary_log_log_curve_is_compared_and_cannot_be_chosen():
    assert item_model(CLOGLOG.name) is CLOGLOG
    assert CLOGLOG.name not in MODELS
    at = np.stack([A, D])
    p = CLOGLOG.probabilities(THETA, at, TWO)
    np.testing.assert_allclose(p[:, :, 1], 1 - np.exp(-np.exp(A[:, None] * THETA + D[:, None])), rtol=1e-12)
    by_theta = (CLOGLOG.log_probabilities(THETA + STEP, at, TWO) - CLOGLOG.log_probabilities(THETA - STEP, at, TWO)) / (
        2 * STEP
    )
    np.testing.assert_allclose(CLOGLOG.by_theta(THETA, at, TWO), by_theta, rtol=1e-6, atol=NEAR)
    for k in range(2):
        up, down = at.copy(), at.copy()
        up[k] += STEP
        down[k] -= STEP
        by = (CLOGLOG.log_probabilities(THETA, up, TWO) - CLOGLOG.log_probabilities(THETA, down, TWO)) / (2 * STEP)
        np.testing.assert_allclose(CLOGLOG.by_parameters(THETA, at, TWO)[k], by, rtol=1e-6, atol=NEAR)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(PsychometricsError, match=r"rasch, 1pl, 2pl, 3pl, pcm, rsm, gpcm; got model '4pl'"):
        item_model("4pl")


def test_what_is_free_own_and_guessed():
    assert [m.slopes for m in (RASCH, ONE_PL, TWO_PL, THREE_PL)] == ["fixed", "common", "own", "own"]
    assert [m.guesses for m in (RASCH, ONE_PL, TWO_PL, THREE_PL)] == [False, False, False, True]
    assert [m.n_own for m in (RASCH, ONE_PL, TWO_PL, THREE_PL)] == [1, 1, 2, 3]
    assert RASCH.free(TWO).tolist() == [[False] * 3, [True] * 3]
    assert THREE_PL.free(TWO).all()
    assert RASCH.fixed_at(TWO)[:, 0].tolist() == [1.0, 0.0]
    assert THREE_PL.default_priors == GUESSING_PRIOR
    assert TWO_PL.default_priors == Priors()
    assert (THREE_PL.without_guessing, RASCH.without_guessing) == (TWO_PL, RASCH)
    assert (RASCH.with_unit_sd, TWO_PL.with_unit_sd) == (ONE_PL, TWO_PL)


def test_an_item_is_estimable_once_it_was_answered_both_ways():
    counts = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert TWO_PL.estimable(counts, TWO).tolist() == [False, False, True]


@pytest.mark.parametrize("model", [TWO_PL, THREE_PL], ids=lambda m: m.name)
def test_curves_are_those_of_the_logistic_metric(model):
    c = 1 / (1 + np.exp(-LOGIT_C)) if model.guesses else np.zeros(3)
    p = probability(THETA, A, D, c).T
    np.testing.assert_allclose(model.probabilities(THETA, parameters(model), TWO)[:, :, 1], p, rtol=1e-12)
    np.testing.assert_allclose(model.probabilities(THETA, parameters(model), TWO).sum(axis=2), 1.0, rtol=1e-12)
    np.testing.assert_allclose(model.expected_score(THETA, parameters(model), TWO), p, rtol=1e-12)
    np.testing.assert_allclose(
        model.information(THETA, parameters(model), TWO), information(THETA, A, D, c).T, rtol=1e-10
    )


@pytest.mark.parametrize("model", [TWO_PL, THREE_PL], ids=lambda m: m.name)
def test_derivatives_are_those_of_finite_differences(model):
    at = parameters(model)
    by = model.by_parameters(THETA, at, TWO)
    for k in range(len(at)):
        step = np.zeros_like(at)
        step[k] = STEP
        up, down = (model.log_probabilities(THETA, at + sign * step, TWO) for sign in (1, -1))
        np.testing.assert_allclose(by[k], (up - down) / (2 * STEP), atol=NEAR)
    up, down = (model.log_probabilities(THETA + sign * STEP, at, TWO) for sign in (1, -1))
    np.testing.assert_allclose(model.by_theta(THETA, at, TWO), (up - down) / (2 * STEP), atol=NEAR)


@pytest.mark.parametrize("model", [TWO_PL, THREE_PL], ids=lambda m: m.name)
def test_a_transform_leaves_every_curve_where_it_was(model):
    at, slope, intercept = parameters(model), 1.3, -0.4
    moved = model.transformed(at, slope, intercept)
    np.testing.assert_allclose(
        model.probabilities(slope * THETA + intercept, moved, TWO), model.probabilities(THETA, at, TWO), rtol=1e-12
    )
    np.testing.assert_allclose(model.jacobian(slope, intercept, len(at)) @ at, moved, rtol=1e-12)


@pytest.mark.parametrize("model", [TWO_PL, THREE_PL], ids=lambda m: m.name)
def test_a_start_gives_about_the_shares_of_answers(model):
    right = np.array([0.3, 0.5, 0.8])
    begin = model.start(np.stack([1 - right, right], axis=1), TWO, model.default_priors)
    theta = np.linspace(-6, 6, 61)
    weights = np.exp(-(theta**2) / 2)
    share = model.expected_score(theta, begin, TWO) @ weights / weights.sum()
    # the start treats the average of a logistic curve over N(0, 1) as a logistic curve, which is within 0.01 of it
    np.testing.assert_allclose(share, right, atol=0.01)
