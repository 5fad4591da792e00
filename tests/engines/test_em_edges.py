"""Data that cannot give the number asked for: the em engine names item and reason, and does not converge on it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.psychometrics.core.design import components
from irt_assets.psychometrics.core.errors import DisconnectedDesignError, PsychometricsError
from irt_assets.psychometrics.core.model_families import SLOPE_BOUND
from irt_assets.psychometrics.core.models import Flag, Responses
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.standard_errors import inverse

MODELS = ("rasch", "1pl", "2pl", "3pl")


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def answers(rng, n_persons, n_items):
    """Persons × items, a = 1.2 and difficulties spread over ±1."""
    theta = rng.normal(size=(n_persons, 1))
    return (rng.random((n_persons, n_items)) < expit(1.2 * (theta - np.linspace(-1, 1, n_items)))).astype(float)


def fit(matrix, model="2pl", **options):
    return fit_em(Responses.from_wide(matrix), model=model, **options)


def flagged(result):
    return {item: set(flags) for item, flags in zip(result.item_ids, result.flags, strict=True) if flags}


@pytest.mark.parametrize("model", MODELS)
def test_no_responses_are_refused(model):
    with pytest.raises(PsychometricsError, match="no responses"):
        fit(np.full((3, 5), np.nan), model)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("matrix", [np.ones((50, 4)), np.zeros((50, 4)), np.array([[1.0, 0, 1, 1]])])
def test_constant_answers_and_a_single_learner_are_refused_with_the_items_named(model, matrix):
    with pytest.raises(PsychometricsError, match=r"found 0; left out: i1 \(all_"):
        fit(matrix, model)


@pytest.mark.parametrize("model", MODELS)
def test_three_learners_are_refused(model):
    matrix = np.array([[1.0, 0, 1, 0, 1], [0, 1, 1, 0, 0], [1, 1, 0, 1, 0]])
    with pytest.raises(PsychometricsError, match="only 3 learners answered two or more items"):
        fit(matrix, model)


@pytest.mark.parametrize(("model", "items"), [("rasch", 1), ("1pl", 1), ("2pl", 1), ("2pl", 2), ("3pl", 3)])
def test_a_model_with_more_parameters_than_frequencies_is_refused(rng, model, items):
    with pytest.raises(PsychometricsError, match=f"found {items}"):
        fit(answers(rng, 300, items), model)


@pytest.mark.parametrize("model", MODELS)
def test_items_without_two_kinds_of_answer_are_left_out_and_named(rng, model):
    matrix = answers(rng, 400, 8)
    matrix[:, 0], matrix[:, 1], matrix[:, 2] = 1, 0, np.nan
    matrix[1:, 3] = np.nan
    result, without = fit(matrix, model), fit(matrix[:, 4:], model)
    single = Flag.ALL_CORRECT if matrix[0, 3] == 1 else Flag.ALL_WRONG
    assert flagged(result) == {"i1": {Flag.ALL_CORRECT}, "i2": {Flag.ALL_WRONG}, "i3": {Flag.NO_DATA}, "i4": {single}}
    assert all(np.isnan(x).all() for x in (result.a[:4], result.d[:4], result.cov[:4], result.joint_cov[:8]))
    np.testing.assert_array_equal(result.d[4:], without.d)
    np.testing.assert_array_equal(result.joint_cov[8:, 8:], without.joint_cov)
    assert list(result.n[:4]) == [400, 400, 0, 1]
    assert result.convergence.converged


@pytest.mark.parametrize("model", MODELS)
def test_a_wrong_key_shows_as_negative_discrimination_and_only_there(rng, model):
    matrix = answers(rng, 800, 8)
    matrix[:, 2] = 1 - matrix[:, 2]
    result = fit(matrix, model)
    assert [item for item, flags in flagged(result).items() if Flag.NEGATIVE_DISCRIMINATION in flags] == ["i3"]
    if model == "2pl":
        assert result.a[2] < -3 * result.a_se[2]
    assert result.convergence.converged


def test_the_sign_of_theta_is_such_that_most_slopes_are_positive(rng):
    """The likelihood is the same for (a, θ) and (−a, −θ). Two strong reversed items draw the ascent to their side."""
    slope = np.array([-2.5, -2.5, 0.6, 0.6, 0.6])
    matrix = (rng.random((1500, 5)) < expit(rng.normal(size=(1500, 1)) * slope)).astype(float)
    result = fit(matrix)
    assert (np.sign(result.a) == [-1, -1, 1, 1, 1]).all()
    z = (result.a - slope) / result.a_se
    assert np.abs(z).max() < 4  # five normal deviates


def test_a_slope_without_a_maximum_stops_at_the_bound_without_errors(rng):
    """Two answers, one of each kind: some cut of θ separates them, so the likelihood rises with the slope for ever."""
    matrix = answers(rng, 500, 8)
    matrix[2:, 0] = np.nan
    matrix[0], matrix[1] = 1, 0
    result = fit(matrix)
    assert flagged(result) == {"i1": {Flag.AT_BOUND}}
    assert result.a[0] == SLOPE_BOUND
    assert np.isnan(result.cov[0]).all()
    assert np.isfinite(result.cov[1:]).all()
    assert result.convergence.converged


@pytest.mark.parametrize("model", MODELS)
def test_two_identical_items_do_not_pass_for_an_ability_scale(rng, model):
    """A slope of their own runs away with them; a Rasch model would not notice, so they are looked for."""
    matrix = answers(rng, 600, 6)
    matrix[:, 1] = matrix[:, 0]
    result = fit(matrix, model)
    assert [item for item, flags in flagged(result).items() if Flag.DUPLICATE in flags] == ["i1", "i2"]
    assert not result.convergence.converged
    assert "the same answers by the same learners as another (i1, i2)" in result.convergence.reason
    if model == "2pl":
        assert flagged(result) == {item: {Flag.AT_BOUND, Flag.DUPLICATE} for item in ("i1", "i2")}


def test_items_with_the_same_few_answers_are_not_called_duplicates(rng):
    matrix = answers(rng, 600, 6)
    matrix[8:, :2] = np.nan
    matrix[:8, :2] = np.arange(8)[:, None] % 2
    assert not any(Flag.DUPLICATE in flags for flags in fit(matrix).flags)


@pytest.mark.parametrize("model", MODELS)
def test_answers_that_follow_from_each_other_do_not_converge(rng, model):
    theta = rng.normal(size=(300, 1))
    result = fit((theta > np.linspace(-1, 1, 6)).astype(float), model)
    assert not result.convergence.converged
    assert result.convergence.reason
    assert all(Flag.AT_BOUND in flags for flags in result.flags)
    assert np.isnan(result.cov).all()


@pytest.mark.parametrize("model", ["rasch", "1pl"])
def test_unrelated_answers_have_no_unit_of_difficulty(model):
    matrix = np.array(np.meshgrid(*[[0.0, 1.0]] * 5)).reshape(5, -1).T  # every pattern once: exactly independent
    result = fit(np.repeat(matrix, 10, axis=0), model)
    assert not result.convergence.converged
    assert "unrelated" in result.convergence.reason


def test_an_unidentified_2pl_is_named_and_has_no_errors(rng):
    """Nobody saw items 1 and 3 together: 6 parameters, 5 free proportions. The fit has a ridge, not a maximum."""
    matrix = answers(rng, 800, 3)
    matrix[:400, 2] = np.nan
    matrix[400:, 0] = np.nan
    result = fit(matrix)
    assert all(Flag.UNIDENTIFIED in flags for flags in result.flags)
    assert np.isnan(result.cov).all()
    assert not result.convergence.converged
    assert "do not determine" in result.convergence.reason


@pytest.mark.parametrize("worst", [0.0, 1e-9, -0.1])
def test_a_singular_corner_leaves_the_errors_of_the_other_parameters_alone(worst):
    sound = np.array([[1.0, 0.3], [0.3, 0.8]])
    corner = np.array([[0.5, -0.5], [-0.5, 0.5]]) + worst / 2
    information = np.block([[sound, np.zeros((2, 2))], [np.zeros((2, 2)), corner]])
    covariance, share = inverse(information)
    np.testing.assert_allclose(covariance[:2, :2], np.linalg.inv(sound), atol=1e-12)
    np.testing.assert_allclose(share, [0, 0, 0.5, 0.5], atol=1e-12)


def test_the_iteration_limit_is_never_silent(rng):
    result = fit(answers(rng, 300, 6), max_iterations=2)
    assert not result.convergence.converged
    assert "limit of 2 iterations" in result.convergence.reason


@pytest.mark.parametrize("model", MODELS)
def test_disconnected_forms_are_refused_with_both_ways_out(rng, model):
    matrix = answers(rng, 200, 9)
    matrix[:120, 5:] = np.nan
    matrix[120:, :5] = np.nan
    with pytest.raises(DisconnectedDesignError) as refusal:
        fit(matrix, model)
    forms = ("1: 5 items, 120 learners (i1, i2, i3, i4, i5)", "2: 4 items, 80 learners (i6, i7, i8, i9)")
    assert [part for part in (*forms, "common items", "anchors") if part not in str(refusal.value)] == []


def test_forms_joined_only_by_an_item_everybody_answers_correctly_are_disconnected(rng):
    """Such an item is left out of the likelihood, so it joins nothing."""
    matrix = answers(rng, 200, 9)
    matrix[:100, 5:] = np.nan
    matrix[100:, :4] = np.nan
    matrix[:, 4] = 1
    with pytest.raises(DisconnectedDesignError):
        fit(matrix)


def test_one_learner_who_saw_both_forms_connects_them(rng):
    matrix = answers(rng, 200, 8)
    both = matrix[0].copy()
    matrix[:100, 4:] = np.nan
    matrix[100:, :4] = np.nan
    assert [len(part.items) for part in components(Responses.from_wide(matrix))] == [4, 4]
    matrix[0] = both
    (whole,) = components(Responses.from_wide(matrix))
    assert (len(whole.items), whole.n_persons) == (8, 200)


def test_items_and_learners_without_responses_are_in_no_component():
    matrix = np.array([[1.0, np.nan, 0.0], [np.nan, np.nan, np.nan]])
    (part,) = components(Responses.from_wide(matrix))
    assert (part.items, part.n_persons) == (("i1", "i3"), 1)


@pytest.mark.parametrize("model", MODELS)
def test_learners_with_one_answer_or_all_or_nothing_right_are_counted(rng, model):
    matrix = answers(rng, 400, 6)
    matrix[:40], matrix[40:80] = 1, 0
    matrix[80, 1:] = np.nan
    result = fit(matrix, model)
    assert (result.convergence.converged, result.n_persons) == (True, 400)


def test_a_thread_count_below_one_is_refused(rng):
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        fit(answers(rng, 100, 4), threads=0)


@pytest.mark.parametrize("model", ["2pl", "3pl"])
@pytest.mark.parametrize("n_items", [5, 12, 30])
def test_coin_tosses_are_no_ability_scale_however_smoothly_the_ascent_ends(rng, model, n_items):
    result = fit((rng.random((800, n_items)) < rng.uniform(0.3, 0.7, n_items)).astype(float), model)
    assert not result.convergence.converged
    assert "cannot be distinguished from unrelated ones" in result.convergence.reason


def test_a_weak_ability_scale_is_one(rng):
    """Slopes of 0.6 and 300 learners: the answers share a tenth of their variance."""
    matrix = (rng.random((300, 12)) < expit(0.6 * rng.normal(size=(300, 1)) * np.ones(12))).astype(float)
    result = fit(matrix)
    assert result.convergence.converged, result.convergence.reason


def test_one_wrong_answer_of_the_best_learner_is_no_wrong_key_and_holds_nobody_else(rng):
    """The slope runs to −10 with a single answer behind it: no maximum, so no errors, and no verdict on the key."""
    matrix = answers(rng, 500, 10)
    matrix[:, 0] = 1
    matrix[np.argmax(matrix.sum(axis=1)), 0] = 0
    result, without = fit(matrix), fit(matrix[:, 1:])
    assert flagged(result) == {"i1": {Flag.AT_BOUND}}
    assert np.isnan(result.cov[0]).all()
    assert result.convergence.converged
    # one answer among 5000 moves the others by a small part of their error
    assert np.all(np.abs(result.a[1:] - without.a) < 0.1 * without.a_se)
