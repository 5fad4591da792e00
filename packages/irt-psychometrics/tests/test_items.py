"""Items: rows, curves compared with known formulas, changes of scale, models, and `Responses`."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from irt_psychometrics import Calibration, PsychometricsError
from irt_psychometrics.core.covariances import block_diagonal
from irt_psychometrics.core.curves import information, probability
from irt_psychometrics.core.item_models import ITEM_MODELS
from irt_psychometrics.core.model_families import CLOGLOG, ONE_PL, RASCH, THREE_PL, TWO_PL
from irt_psychometrics.core.options import MODELS
from irt_psychometrics.core.priors import GUESSING_PRIOR
from irt_psychometrics.estimation import Convergence
from irt_psychometrics.items import ItemParameters, ItemRow, Model, Priors, item_model
from irt_psychometrics.responses import Responses

EASY, HARD = ItemRow(0.8, -1.0, 0.0, 0.1, 0.2, 0.01), ItemRow(1.5, 1.2, 0.2, 0.2, 0.1, -0.005)
ITEMS = ItemParameters.from_rows(("easy", "hard", "none"), [EASY, HARD, None])
THETA = np.linspace(-3, 3, 7)


def test_row_is_read_from_prefixed_columns_and_written_as_text() -> None:
    row = {"item_id": "x", "new_a": 1.5, "new_b": 1.2, "new_c": 0.2, "new_a_se": 0.2, "new_b_se": None, "a": None}
    assert ItemRow.from_row(row, "new_") == ItemRow(1.5, 1.2, 0.2, 0.2)
    assert ItemRow.if_known(row) is None
    assert ItemRow.from_row({"a": 1.0, "b": 0.5, "c": None}) == ItemRow(1.0, 0.5)
    assert str(ItemRow.from_row(row, "new_")) == "a = 1.50 ± 0.20, b = 1.20 ± ?, c = 0.20"
    assert str(EASY) == "a = 0.80 ± 0.10, b = -1.00 ± 0.20"


@pytest.mark.parametrize(
    ("other", "agrees"),
    [(ItemRow(0.9, -1.3), True), (ItemRow(1.0, -1.0), False), (ItemRow(0.8, -0.6), False)],
)
def test_item_agrees_with_a_value_if_both_parameters_are_in_its_intervals(other: ItemRow, agrees: bool) -> None:
    assert EASY.agrees_with(other) is agrees
    assert not other.agrees_with(EASY), "its errors are not known"


def test_columns_equal_the_values_of_the_rows_exactly() -> None:
    for name in ("a", "b", "c", "a_se", "b_se", "cov_ab"):
        np.testing.assert_array_equal(getattr(ITEMS, name), [getattr(EASY, name), getattr(HARD, name), np.nan])
    np.testing.assert_array_equal(ITEMS.d, [0.8, -1.5 * 1.2, np.nan])


def test_scores_of_a_combination_are_ordered_if_those_of_each_model_are() -> None:
    assert item_model("gpcm+grm").ordered_scores
    assert not item_model("gpcm+nominal").ordered_scores
    with pytest.raises(PsychometricsError, match="C₂ needs ordered scores, and the scores of a"):
        item_model("gpcm+nominal").require_ordered_scores("C₂")


def test_curve_equals_birnbaums_formula() -> None:
    p = ITEMS.curve(THETA)
    by_hand = 0.2 + 0.8 / (1 + np.exp(-1.5 * (THETA - 1.2)))
    np.testing.assert_allclose(p[:, 1], by_hand, rtol=1e-14)
    np.testing.assert_allclose(HARD.curve(THETA), by_hand, rtol=1e-14)
    assert np.isnan(p[:, 2]).all()


def test_curve_has_no_interval_if_the_item_has_no_errors() -> None:
    assert ItemRow(1.0, 0.0).interval(THETA) is None
    low, high = HARD.interval(THETA) or (THETA, THETA)
    assert (low < HARD.curve(THETA)).all()
    assert (HARD.curve(THETA) < high).all()


@pytest.mark.parametrize("joint", [False, True])
def test_rescaled_items_have_the_same_curves_on_the_new_scale(joint: bool) -> None:
    """The new scale is θ* = 1.3·θ − 0.4, so SE(a*) = SE(a)/1.3 and SE(b*) = 1.3·SE(b)."""
    some = ITEMS.select(["easy", "hard"])
    if joint:
        some = ItemParameters(some.item_ids, some.a, some.b, some.c, block_diagonal(some.cov)[None])
    moved = some.rescaled(1.3, -0.4)
    np.testing.assert_allclose(moved.curve(1.3 * THETA - 0.4), some.curve(THETA), rtol=1e-12)
    np.testing.assert_allclose(moved.a_se, some.a_se / 1.3)
    np.testing.assert_allclose(moved.b_se, some.b_se * 1.3)
    np.testing.assert_allclose(moved.cov_ab, some.cov_ab)


def test_selected_items_keep_their_covariances() -> None:
    joint = np.arange(36.0).reshape(6, 6)
    all_of_it = ItemParameters(ITEMS.item_ids, ITEMS.a, ITEMS.b, ITEMS.c, joint[None], np.arange(9.0).reshape(3, 1, 3))
    last = all_of_it.select(["none", "easy"])
    np.testing.assert_array_equal(last.cov[0], joint[np.ix_([4, 5, 0, 1], [4, 5, 0, 1])])
    np.testing.assert_array_equal(last.further_cov, [[[6, 7, 8]], [[0, 1, 2]]])
    with pytest.raises(KeyError, match="other"):
        all_of_it.select(["other"])
    among = all_of_it.among(["other", "hard"])
    np.testing.assert_array_equal(among.b, [np.nan, 1.2])
    np.testing.assert_array_equal(among.cov, [np.full((2, 2), np.nan), joint[2:4, 2:4]])


def test_among_returns_no_items_if_none_are_named() -> None:
    essay = {"item": ["essay"], "a": [0.8], "b1": [0.5], "b2": [-0.1], "model": ["gpcm"]}
    none = ItemParameters.from_frame(essay).among([])
    assert (none.item_ids, none.others) == ((), ())


# -- models ------------------------------------------------------------------------------------------
# Data classes: values that `Responses` accepts, and values that a `Calibration` derives from a and d.


def calibration(a, d, cov):
    J = len(a)
    return Calibration(
        item_ids=tuple(f"i{j}" for j in range(J)),
        models=("2pl",) * J,
        engine="em",
        engine_version="0",
        a=np.array(a),
        d=np.array(d),
        c=np.zeros(J),
        cov=np.array(cov),
        joint_cov=block_diagonal(np.array(cov)),
        n=np.full(J, 100),
        n_correct=np.full(J, 50),
        flags=((),) * J,
        latent_mean=0.0,
        latent_sd=1.0,
        n_persons=100,
        convergence=Convergence(True, 5, 0.0, 0.0, loglik=-200.0, n_parameters=2 * J),
    )


COV = np.array([[[0.04, 0.01], [0.01, 0.09]], [[0.02, -0.005], [-0.005, 0.03]]])


def test_responses_of_a_matrix_are_sorted_by_person_and_item():
    wide = Responses.from_wide([[1, np.nan, 0], [np.nan, 1, 1]], ["a", "b", "c"])
    for name, expected in (("person", [0, 0, 1, 1]), ("item", [0, 2, 1, 2]), ("score", [1, 0, 1, 1])):
        np.testing.assert_array_equal(getattr(wide, name), expected)
    assert (wide.n_persons, wide.n_items, wide.n_responses) == (2, 3, 4)


def test_score_of_2_is_refused_with_its_row_and_column():
    with pytest.raises(PsychometricsError, match=r"found 2.0 in row 1, column 0"):
        Responses.from_wide([[0, 1], [2, 1]])


def test_unsorted_persons_are_refused():
    with pytest.raises(PsychometricsError, match="sorted by person"):
        Responses(np.array([1, 0], np.int32), np.array([0, 0], np.int32), np.array([1, 0], np.int8), 2, ("x",))


@pytest.mark.parametrize(("person", "item"), [([0, 2], [0, 0]), ([0, 1], [0, 1]), ([0, 1], [-1, 0]), ([-1, 1], [0, 0])])
def test_indices_out_of_range_are_refused_before_compiled_code_uses_them(person, item):
    with pytest.raises(PsychometricsError, match="indices must lie in 0"):
        Responses(np.array(person, np.int32), np.array(item, np.int32), np.array([1, 0], np.int8), 2, ("x",))


def test_arrays_that_are_read_only_or_of_other_types_are_converted():
    person = np.array([0, 1])
    person.flags.writeable = False
    responses = Responses(person, np.array([0, 0], np.uint8), np.array([True, False]), 2, ("x",))
    assert [x.dtype for x in (responses.person, responses.item, responses.score)] == [np.int32, np.int32, np.int8]
    assert responses.person.flags.writeable


def test_errors_of_difficulty_follow_the_delta_method():
    """The covariance is compared with draws of (a, −d/a) with a tenth of the errors, for which the method is exact."""
    small = COV / 100
    fit = calibration([1.5, 0.8], [0.6, -1.0], small)
    rng = np.random.default_rng(1)
    for j in range(2):
        draws = rng.multivariate_normal([fit.a[j], fit.d[j]], small[j], size=400_000)
        sample = np.cov(draws[:, 0], -draws[:, 1] / draws[:, 0])
        # a sample variance of 400,000 draws has a relative SE of √(2/400000) = 0.2 %
        np.testing.assert_allclose(fit.cov_ab[j], sample, rtol=0.02)
    np.testing.assert_allclose(fit.b_se, np.sqrt(fit.cov_ab[:, 1, 1]))


def test_item_without_slope_has_infinite_difficulty_and_raises_no_warning():
    fit = calibration([0.0, 1.0], [1.0, 0.0], COV)
    assert np.isinf(fit.b[0])
    assert fit.estimated.all()


def test_selection_keeps_the_joint_covariance_of_the_selected_items():
    fit = calibration([1.5, 0.8], [0.6, -1.0], COV)
    one = fit.select([False, True])
    assert one.item_ids == ("i1",)
    np.testing.assert_array_equal(one.joint_cov, COV[1])
    np.testing.assert_array_equal(fit.select([1, 0]).a, [0.8, 1.5])


def test_information_criteria_count_parameters_and_persons():
    fit = calibration([1.5, 0.8], [0.6, -1.0], COV)
    assert fit.aic == 2 * 4 + 400
    assert fit.bic == pytest.approx(4 * np.log(100) + 400)


def test_responses_follow_their_persons_to_new_positions() -> None:
    some = Responses.from_wide(np.array([[0, 1], [1, np.nan], [1, 1]]))
    timed = replace(some, at=np.arange(some.n_responses), key=np.zeros(3, np.uint32))
    placed = timed.renumber_persons(np.array([4, 1, 2], np.int32), 5)
    assert (placed.person.tolist(), placed.item.tolist(), placed.score.tolist()) == (
        [1, 2, 2, 4, 4],
        [0, 0, 1, 0, 1],
        [1, 1, 1, 0, 1],
    )
    assert (placed.at.tolist(), placed.n_persons, placed.key) == ([2, 3, 4, 0, 1], 5, None)


# -- models of items ---------------------------------------------------------------------------------
# Item models: curves, transforms, derivatives compared with finite differences, and the registry.

MODEL_THETA = np.linspace(-3, 3, 13)
A, D, LOGIT_C = np.array([0.7, 1.4, -0.5]), np.array([0.3, -1.0, 0.0]), np.array([-1.5, -0.8, -2.0])
TWO = np.full(3, 2)
STEP = 1e-5
# Central differences with this step: their truncation error is of the order of 1e-10, rounding of 1e-11.
NEAR = 1e-8


def parameters(model):
    return np.stack([A, D, LOGIT_C][: len(model.parameter_names(2))])


def test_every_selectable_model_is_registered_under_its_name():
    assert tuple(ITEM_MODELS) == MODELS == get_args(Model)
    assert all(item_model(name).name == name for name in MODELS)


def test_complementary_log_log_model_has_the_right_curve_and_cannot_be_selected():
    assert item_model(CLOGLOG.name) is CLOGLOG
    assert CLOGLOG.name not in MODELS
    at = np.stack([A, D])
    p = CLOGLOG.probabilities(MODEL_THETA, at, TWO)
    np.testing.assert_allclose(p[:, :, 1], 1 - np.exp(-np.exp(A[:, None] * MODEL_THETA + D[:, None])), rtol=1e-12)
    by_theta = (
        CLOGLOG.log_probabilities(MODEL_THETA + STEP, at, TWO) - CLOGLOG.log_probabilities(MODEL_THETA - STEP, at, TWO)
    ) / (2 * STEP)
    np.testing.assert_allclose(CLOGLOG.by_theta(MODEL_THETA, at, TWO), by_theta, rtol=1e-6, atol=NEAR)
    for k in range(2):
        up, down = at.copy(), at.copy()
        up[k] += STEP
        down[k] -= STEP
        by = (CLOGLOG.log_probabilities(MODEL_THETA, up, TWO) - CLOGLOG.log_probabilities(MODEL_THETA, down, TWO)) / (
            2 * STEP
        )
        np.testing.assert_allclose(CLOGLOG.by_parameters(MODEL_THETA, at, TWO)[k], by, rtol=1e-6, atol=NEAR)


def test_unknown_model_is_refused_with_a_list_of_models():
    with pytest.raises(
        PsychometricsError, match=r"unknown model '4pl'; the models are rasch, 1pl, 2pl, 3pl, pcm, rsm, gpcm"
    ):
        item_model("4pl")


def test_models_have_the_right_free_parameters_slopes_and_priors():
    assert [m.slopes for m in (RASCH, ONE_PL, TWO_PL, THREE_PL)] == ["fixed", "common", "own", "own"]
    assert [m.has_parameter("c") for m in (RASCH, ONE_PL, TWO_PL, THREE_PL)] == [False, False, False, True]
    assert RASCH.free(TWO).tolist() == [[False] * 3, [True] * 3]
    assert THREE_PL.free(TWO).all()
    assert RASCH.fixed_values(TWO)[:, 0].tolist() == [1.0, 0.0]
    assert THREE_PL.default_priors == GUESSING_PRIOR
    assert TWO_PL.default_priors == Priors()
    assert (THREE_PL.without_guessing, RASCH.without_guessing) == (TWO_PL, RASCH)
    assert (RASCH.with_unit_sd, TWO_PL.with_unit_sd) == (ONE_PL, TWO_PL)


def test_item_is_estimable_if_its_answers_include_both_scores():
    counts = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    assert TWO_PL.estimable(counts, TWO).tolist() == [False, False, True]


@pytest.mark.parametrize("model", [TWO_PL, THREE_PL], ids=lambda m: m.name)
def test_curves_and_information_follow_the_logistic_metric(model):
    c = 1 / (1 + np.exp(-LOGIT_C)) if model.has_parameter("c") else np.zeros(3)
    p = probability(MODEL_THETA, A, D, c).T
    np.testing.assert_allclose(model.probabilities(MODEL_THETA, parameters(model), TWO)[:, :, 1], p, rtol=1e-12)
    np.testing.assert_allclose(model.probabilities(MODEL_THETA, parameters(model), TWO).sum(axis=2), 1.0, rtol=1e-12)
    np.testing.assert_allclose(model.expected_score(MODEL_THETA, parameters(model), TWO), p, rtol=1e-12)
    np.testing.assert_allclose(
        model.information(MODEL_THETA, parameters(model), TWO), information(MODEL_THETA, A, D, c).T, rtol=1e-10
    )


@pytest.mark.parametrize("model", [TWO_PL, THREE_PL], ids=lambda m: m.name)
def test_derivatives_equal_finite_differences(model):
    at = parameters(model)
    by = model.by_parameters(MODEL_THETA, at, TWO)
    for k in range(len(at)):
        step = np.zeros_like(at)
        step[k] = STEP
        up, down = (model.log_probabilities(MODEL_THETA, at + sign * step, TWO) for sign in (1, -1))
        np.testing.assert_allclose(by[k], (up - down) / (2 * STEP), atol=NEAR)
    up, down = (model.log_probabilities(MODEL_THETA + sign * STEP, at, TWO) for sign in (1, -1))
    np.testing.assert_allclose(model.by_theta(MODEL_THETA, at, TWO), (up - down) / (2 * STEP), atol=NEAR)


@pytest.mark.parametrize("model", [TWO_PL, THREE_PL], ids=lambda m: m.name)
def test_transform_of_the_scale_leaves_every_curve_unchanged(model):
    at, slope, intercept = parameters(model), 1.3, -0.4
    moved = model.transform_parameters(at, slope, intercept)
    np.testing.assert_allclose(
        model.probabilities(slope * MODEL_THETA + intercept, moved, TWO),
        model.probabilities(MODEL_THETA, at, TWO),
        rtol=1e-12,
    )
    np.testing.assert_allclose(model.jacobian(slope, intercept, len(at)) @ at, moved, rtol=1e-12)


@pytest.mark.parametrize("model", [TWO_PL, THREE_PL], ids=lambda m: m.name)
def test_starting_values_give_about_the_observed_shares_of_right_answers(model):
    right = np.array([0.3, 0.5, 0.8])
    begin = model.start(np.stack([1 - right, right], axis=1), TWO, model.default_priors)
    theta = np.linspace(-6, 6, 61)
    weights = np.exp(-(theta**2) / 2)
    share = model.expected_score(theta, begin, TWO) @ weights / weights.sum()
    # the start approximates the average of a logistic curve over N(0, 1) by a logistic curve, with an error below 0.01
    np.testing.assert_allclose(share, right, atol=0.01)
