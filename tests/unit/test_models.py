"""The typed heart: what `Responses` accepts, and what a `Calibration` derives from a and d."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irt_assets.psychometrics.core.covariances import block_diagonal
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration, Convergence, Responses


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


def test_a_matrix_gives_its_responses_by_person_and_item():
    wide = Responses.from_wide([[1, np.nan, 0], [np.nan, 1, 1]], ["a", "b", "c"])
    for name, expected in (("person", [0, 0, 1, 1]), ("item", [0, 2, 1, 2]), ("score", [1, 0, 1, 1])):
        np.testing.assert_array_equal(getattr(wide, name), expected)
    assert (wide.n_persons, wide.n_items, wide.n_responses) == (2, 3, 4)


def test_a_score_of_two_is_named_with_its_place():
    with pytest.raises(PsychometricsError, match=r"found 2.0 in row 1, column 0"):
        Responses.from_wide([[0, 1], [2, 1]])


def test_unsorted_persons_are_refused():
    with pytest.raises(PsychometricsError, match="sorted by person"):
        Responses(np.array([1, 0], np.int32), np.array([0, 0], np.int32), np.array([1, 0], np.int8), 2, ("x",))


@pytest.mark.parametrize(("person", "item"), [([0, 2], [0, 0]), ([0, 1], [0, 1]), ([0, 1], [-1, 0]), ([-1, 1], [0, 0])])
def test_indices_outside_their_range_are_refused_before_compiled_code_sees_them(person, item):
    with pytest.raises(PsychometricsError, match="indices must lie in 0"):
        Responses(np.array(person, np.int32), np.array(item, np.int32), np.array([1, 0], np.int8), 2, ("x",))


def test_other_number_types_and_read_only_arrays_are_converted_once():
    person = np.array([0, 1])
    person.flags.writeable = False
    responses = Responses(person, np.array([0, 0], np.uint8), np.array([True, False]), 2, ("x",))
    assert [x.dtype for x in (responses.person, responses.item, responses.score)] == [np.int32, np.int32, np.int8]
    assert responses.person.flags.writeable


def test_difficulty_errors_are_those_of_the_delta_method():
    """Compared with the spread of −d/a over draws of (a, d) with a tenth of the errors, where the method is exact."""
    small = COV / 100
    fit = calibration([1.5, 0.8], [0.6, -1.0], small)
    rng = np.random.default_rng(1)
    for j in range(2):
        draws = rng.multivariate_normal([fit.a[j], fit.d[j]], small[j], size=400_000)
        sample = np.cov(draws[:, 0], -draws[:, 1] / draws[:, 0])
        # a sample variance of 400,000 draws has a relative SE of √(2/400000) = 0.2 %
        np.testing.assert_allclose(fit.cov_ab[j], sample, rtol=0.02)
    np.testing.assert_allclose(fit.b_se, np.sqrt(fit.cov_ab[:, 1, 1]))


def test_a_flat_item_has_no_finite_difficulty_and_no_warning():
    fit = calibration([0.0, 1.0], [1.0, 0.0], COV)
    assert np.isinf(fit.b[0])
    assert fit.estimated.all()


def test_selecting_keeps_the_covariance_between_the_selected():
    fit = calibration([1.5, 0.8], [0.6, -1.0], COV)
    one = fit.select([False, True])
    assert one.item_ids == ("i1",)
    np.testing.assert_array_equal(one.joint_cov, COV[1])
    np.testing.assert_array_equal(fit.select([1, 0]).a, [0.8, 1.5])


def test_information_criteria_count_parameters_and_persons():
    fit = calibration([1.5, 0.8], [0.6, -1.0], COV)
    assert fit.aic == 2 * 4 + 400
    assert fit.bic == pytest.approx(4 * np.log(100) + 400)


def test_persons_are_placed_in_any_order_and_their_responses_follow() -> None:
    some = Responses.from_wide(np.array([[0, 1], [1, np.nan], [1, 1]]))
    timed = replace(some, at=np.arange(some.n_responses), key=np.zeros(3, np.uint32))
    placed = timed.placed(np.array([4, 1, 2], np.int32), 5)
    assert (placed.person.tolist(), placed.item.tolist(), placed.score.tolist()) == (
        [1, 2, 2, 4, 4],
        [0, 0, 1, 0, 1],
        [1, 1, 1, 0, 1],
    )
    assert (placed.at.tolist(), placed.n_persons, placed.key) == ([2, 3, 4, 0, 1], 5, None)
