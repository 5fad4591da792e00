"""Linking: recovery of known constants, errors of the constants, anchors that moved, and jumps."""

from __future__ import annotations

import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from irt_psychometrics import BreakdownError, Calibration, PsychometricsError
from irt_psychometrics.core.assumed_errors import NODES, WEIGHTS, assumed_errors
from irt_psychometrics.core.covariances import block_diagonal
from irt_psychometrics.core.significance import skewness_of
from irt_psychometrics.estimation import Flag
from irt_psychometrics.items import ItemParameters, Model
from irt_psychometrics.linking import (
    AnchorLimits,
    AnchorSet,
    Jump,
    Linking,
    LinkingError,
    Method,
    MonthConstants,
    link_to_anchors,
)
from irt_psychometrics.linking.constants_history import LEVEL, jump
from irt_psychometrics.linking.criteria import AnchorPairs, solve
from irt_psychometrics.linking.linking import match
from psychometrics_testbed.linked_months import (
    CRITERIA,
    INTERCEPT,
    SLOPE,
    anchor_set,
    calibration,
    covariance,
    errors,
    exact,
    ids,
    month,
)

METHODS = get_args(Method)


# --- constants ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("assumed", [False, True], ids=["weighted", "classical"])
@pytest.mark.parametrize(("method", "symmetric"), CRITERIA)
@pytest.mark.parametrize("c", [0.0, 0.2])
def test_known_constants_are_recovered_if_anchors_have_no_errors(
    method: Method, symmetric: bool, assumed: bool, c: float
) -> None:
    new, anchors = exact(c=c, assumed=assumed)
    found = link_to_anchors(new, anchors, method=method, symmetric=symmetric)
    # the curves agree to rounding at the solution, so only the optimiser's own precision is left
    assert (found.slope, found.intercept, found.rmse, found.q) == pytest.approx((SLOPE, INTERCEPT, 0, 0), abs=1e-6)
    assert (found.q_df, found.anchors_used, found.anchors_dropped) == (2 * 12 - 2, anchors.item_ids, {})


def there_and_back(new: Calibration, anchors: AnchorSet, assumed: bool = False, **options: object) -> list[Linking]:
    """Link a fit to anchors, and once more with both sides exchanged."""
    old_as_fit = calibration(anchors.a, anchors.b, covariance(anchors.a_se, anchors.b_se, anchors.cov_ab))
    anchors = replace(anchors, errors_assumed=np.full(new.n_items, assumed))
    new_as_anchors = anchor_set(new.a, new.b, new.cov_ab, assumed=assumed)
    return [link_to_anchors(new, anchors, **options), link_to_anchors(old_as_fit, new_as_anchors, **options)]


@pytest.mark.parametrize("assumed", [False, True], ids=["weighted", "classical"])
@pytest.mark.parametrize("method", ["stocking-lord", "haebara"])
def test_symmetric_linkings_in_both_directions_are_inverse_although_anchors_have_errors(
    method: Method, assumed: bool
) -> None:
    """The errors of the anchors make the two linkings differ if the criterion is asymmetric, here by a per mille or
    more."""
    new, anchors = month(np.random.default_rng(1), k=12)
    for symmetric in (True, False):
        there, back = there_and_back(new, anchors, assumed, method=method, symmetric=symmetric, purify=False)
        off = max(abs(back.slope * there.slope - 1), abs(back.intercept + back.slope * there.intercept))
        assert (off < 1e-7) == symmetric, (symmetric, off)  # the minimum is found to the root of machine precision


def test_symmetric_option_is_refused_for_criteria_of_moments() -> None:
    with pytest.raises(PsychometricsError, match=r"mean-sigma compares no curves.* leave out `symmetric`"):
        link_to_anchors(*exact(), method="mean-sigma", symmetric=True)


@pytest.mark.parametrize("method", METHODS)
def test_classical_constants_equal_the_reference(shared: Path, method: Method) -> None:
    reference = json.loads((shared / "reference" / "mirt_reference.json").read_text())["linking"]
    side = {form: {row["item"]: row for row in reference[form]["irt"]} for form in ("formA", "formB_free")}
    common = [f"k{j}" for j in range(11, 21)]
    a_old, b_old, a_new, b_new = (
        np.array([side[form][item][name] for item in common]) for form in ("formA", "formB_free") for name in "ab"
    )
    any_errors = np.tile(np.eye(2) * 0.01, (10, 1, 1))  # assumed, so without weight
    found = link_to_anchors(
        calibration(a_new, b_new, any_errors), anchor_set(a_old, b_old, any_errors, assumed=True),
        method=method, purify=False,
    )  # fmt: skip
    expected = reference["constants"][method.replace("-", "_")]
    # both the reference's parameters and its constants are rounded to 6 significant digits
    assert (found.slope, found.intercept) == pytest.approx((expected["A"], expected["B"]), abs=1e-5)


@pytest.mark.parametrize(("method", "symmetric"), CRITERIA)
def test_linking_a_rasch_fit_keeps_its_slope_at_1(method: Method, symmetric: bool) -> None:
    b = np.linspace(-2, 2, 10)
    cov = covariance(np.zeros(10), np.full(10, 0.1), np.zeros(10))
    new, anchors = calibration(np.ones(10), b - 0.7, cov, model="rasch"), anchor_set(np.ones(10), b, cov)
    found = link_to_anchors(new, anchors, method=method, symmetric=symmetric)
    assert (found.slope, found.slope_se, found.intercept) == (1.0, 0.0, pytest.approx(0.7, abs=1e-6))
    # ten anchors with variance 0.01 on each side: 0.02/10 (a weighted curve's weights are not quite equal: 2 %)
    assert (found.intercept_se, found.q_df) == (pytest.approx(np.sqrt(0.002), rel=0.02), 9)


def test_constants_do_not_depend_on_the_order_of_items() -> None:
    new, anchors = month(np.random.default_rng(5))
    order = np.random.default_rng(6).permutation(new.n_items)
    one, other = link_to_anchors(new, anchors), link_to_anchors(new.select(order), anchors)
    assert one.as_constants() == other.as_constants()


# --- errors of the constants and the test of agreement -----------------------------------------------------------


def on_both_scales(pairs: AnchorPairs, symmetric: bool) -> AnchorPairs:
    return replace(pairs, nodes_new=NODES, weights_new=WEIGHTS) if symmetric else pairs


@pytest.mark.parametrize(("method", "symmetric"), CRITERIA)
@pytest.mark.parametrize("side", ["new", "old"])
def test_derivatives_of_constants_by_each_anchor_equal_finite_differences(
    method: Method, symmetric: bool, side: str
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.lognormal(0, 0.3, 6), rng.normal(0, 1, 6)
    cov = np.tile(np.eye(2) * 0.01, (6, 1, 1))
    new = ItemParameters(ids(6), a * SLOPE, (b - INTERCEPT) / SLOPE, np.zeros(6), cov)
    pairs = AnchorPairs(new, ItemParameters(ids(6), a, b, np.zeros(6), cov), ("2pl",) * 6)
    pairs = on_both_scales(pairs, symmetric)
    stated = getattr(solve(pairs, method, weighted=False), f"by_{side}")
    step = 1e-5
    for k in range(6):
        for column, name in enumerate("ab"):
            ends = []
            for sign in (1, -1):
                items = getattr(pairs, side)
                values = getattr(items, name).copy()
                values[k] += sign * step
                ends.append(solve(replace(pairs, **{side: replace(items, **{name: values})}), method, weighted=False))
            slope, intercept = (
                (getattr(ends[0], c) - getattr(ends[1], c)) / (2 * step) for c in ("slope", "intercept")
            )
            # a central difference at anchors that agree: error of order step², and rounding/step of the optimiser
            assert (slope, intercept) == pytest.approx(tuple(stated[:, 2 * k + column]), abs=1e-5)


# --- anchors that moved ------------------------------------------------------------------------------------------


def test_change_of_an_anchor_is_reported_in_the_parameter_that_moved() -> None:
    new, anchors = exact(k=12)
    a, b = new.a.copy(), new.b.copy()
    b[3] += 0.5 / SLOPE
    a[7] *= 2
    found = link_to_anchors(calibration(a, b, new.cov_ab), anchors)
    harder, steeper = found.suspects["item03"], found.suspects["item07"]
    assert (harder["parameter"], steeper["parameter"]) == ("b", "a")
    # the ten other anchors have no errors, so only rounding is left of the constants' error
    assert (harder["delta_b"], steeper["delta_a"]) == pytest.approx((0.5, anchors.a[7]), abs=1e-6)
    assert "ln a by +0." in found.anchors_dropped["item07"]
    assert re.match(r"moved against the others: .*item03 \(b \+0\.50\)", found.diagnosis)
    z = [abs(suspect["z"]) for suspect in found.suspects.values()]
    assert z == sorted(z, reverse=True)


def test_z_of_an_anchor_includes_the_error_of_the_other_anchors() -> None:
    """A Rasch anchor is compared with n anchors, all with variance v: its z is delta/√(v + v/n)."""
    k, v = 10, 0.02
    b = np.linspace(-2, 2, k)
    half = covariance(np.zeros(k), np.full(k, np.sqrt(v / 2)), np.zeros(k))
    b_new = b - 0.7
    b_new[4] += 0.8
    found = link_to_anchors(calibration(np.ones(k), b_new, half, model="rasch"), anchor_set(np.ones(k), b, half))
    assert (set(found.suspects), found.tau) == ({"item04"}, 0.0)
    assert found.suspects["item04"]["z"] == pytest.approx(0.8 / np.sqrt(v + v / (k - 1)), rel=1e-9)


def test_error_common_to_all_items_does_not_make_an_anchor_suspect() -> None:
    new, anchors = month(np.random.default_rng(6))
    joint_ab = block_diagonal(new.cov_ab)
    joint_ab[1::2, 1::2] += 0.5**2
    blocks = new.cov_ab + np.diag([0.0, 0.25])
    together = calibration(new.a, new.b + 0.9, blocks, joint_ab=joint_ab)
    moved = together.b.copy()
    moved[2] += 0.8
    assert "item02" not in link_to_anchors(together, anchors).anchors_dropped
    # 0.8 is 1.6 times an item's total error and 8 times its error without the common part
    assert "item02" in link_to_anchors(calibration(new.a, moved, blocks, joint_ab=joint_ab), anchors).suspects


def test_scattered_anchors_raise_an_error_without_constants() -> None:
    new, anchors = exact(k=5)
    with pytest.raises(LinkingError, match="no 3 of 5 items lie on one line") as caught:
        link_to_anchors(calibration(new.a, new.b + [-20.0, -5.0, 0.0, 15.0, 37.0], new.cov_ab), anchors)
    assert [part for part in ("math", "replace the anchors", "new origin") if part not in str(caught.value)] == []


def test_window_without_anchors_raises_an_error() -> None:
    new, anchors = exact()
    stranger = replace(new, item_ids=tuple(f"other{j}" for j in range(new.n_items)))
    with pytest.raises(LinkingError, match="0 have ≥ 200 responses") as caught:
        link_to_anchors(stranger, anchors)
    assert "Two remedies: collect answers to more anchors" in str(caught.value)


def test_unusable_anchors_are_omitted_with_the_reason() -> None:
    new, anchors = exact(k=20)
    a, n, cov = new.a.copy(), new.n.copy(), new.cov.copy()
    a[0] = -0.4
    n[1] = 199
    cov[2] = np.nan
    flags = list(new.flags)
    flags[3] = (Flag.AT_BOUND,)
    flags[0] = (Flag.NEGATIVE_DISCRIMINATION,)
    old_a = anchors.a.copy()
    old_a[4] = -1.0
    fit = replace(new, a=a, n=n, cov=cov, flags=tuple(flags)).select(np.arange(20) != 5)
    found = link_to_anchors(fit, replace(anchors, a=old_a))
    assert {item: reason.split(":")[0] for item, reason in found.anchors_dropped.items()} == {
        "item00": "Its discrimination in this fit is -0.400, not above 0",
        "item01": "It has 199 responses in this window, 200 are needed.",
        "item02": "This fit gave it no standard errors.",
        "item03": "This fit could not estimate it",
        "item04": "Its discrimination in the anchor set is -1.000, not above 0.",
        "item05": "It is not among the items of this fit.",
    }
    # of 18 with enough responses 14 are kept; the anchor with 199 responses and the absent anchor do not count
    assert found.share_kept == pytest.approx(14 / 18)
    assert any("78%" in warning for warning in found.warnings)


def test_assumed_errors_of_very_steep_items_are_not_nan() -> None:
    """At θ where its curve is 1, an item has no information, and does not reduce the information elsewhere."""
    a, b = np.array([60.0, 60.0, 1e6]), np.array([0.05, 0.1, 0.033])
    a_se, b_se, cov_ab = assumed_errors(a, b, np.zeros(3))
    by_hand = []
    for slope, difficulty in zip(a[:2], b[:2], strict=True):
        theta = np.linspace(-6, 6, 61)
        density = np.exp(-(theta**2) / 2)
        logistic = 1 / (1 + np.exp(-np.clip(slope * (theta - difficulty), -700, 700)))
        weight = 500 * density / density.sum() * logistic * (1 - logistic)
        information = np.array([[theta - difficulty, np.full(61, -slope)]])[0]
        by_hand.append(np.linalg.inv((weight * information) @ information.T))
    np.testing.assert_allclose(covariance(a_se, b_se, cov_ab)[:2], by_hand, rtol=1e-6)  # both sums lose digits
    assert (a_se[2], b_se[2], cov_ab[2]) == (np.inf, np.inf, 0)


# --- warnings and records ----------------------------------------------------------------------------------------


def test_linking_warns_if_the_bank_has_no_errors_of_anchors() -> None:
    new, anchors = exact(assumed=True)
    assert "12 anchors have no errors in the bank" in link_to_anchors(new, anchors).warnings[0]
    assert link_to_anchors(*exact()).warnings == ()


def test_invalid_covariance_raises_a_breakdown_error_with_an_explanation() -> None:
    new, anchors = exact()
    k = 2 * new.n_items
    no_covariance = np.full((k, k), 1.0) - 0.9 * np.eye(k)
    with (
        pytest.raises(BreakdownError, match=r"it was not linked: the arithmetic broke down .*LinAlgError: .*definite"),
        BreakdownError.explain("it was not linked"),
    ):
        link_to_anchors(replace(new, joint_cov=no_covariance), anchors, purify=False)


def test_errors_of_the_code_are_not_reported_as_a_breakdown() -> None:
    with pytest.raises(TypeError), BreakdownError.explain("it was not linked"):
        raise TypeError("a bug")


@pytest.mark.parametrize("method", ["stocking-lord", "haebara"])
def test_constants_are_not_determined_if_anchors_have_no_difficulty(method: Method) -> None:
    pairs, _ = match(*exact(), AnchorLimits())
    nowhere = replace(pairs.new, b=np.full(pairs.size, np.nan))
    assert solve(replace(pairs, new=nowhere), method, weighted=False) is None


def test_constants_are_stored_as_plain_json_under_the_documents_names() -> None:
    stored = link_to_anchors(*month(np.random.default_rng(1))).as_constants()
    assert set(stored) == {
        "slope", "intercept", "slope_se", "intercept_se", "method", "rmse", "anchors_used", "anchors_dropped",
        "anchor_set", "weighted", "symmetric", "q", "q_df", "q_p", "share_kept", "warnings", "suspects", "diagnosis",
        "q_shifts", "slope_intercept_cov", "tau", "tau_slope", "tau_low", "i2", "weights", "skewness",
    }  # fmt: skip
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored


def joint(new: Calibration, anchors: AnchorSet) -> tuple[Calibration, AnchorSet]:
    """Replace the covariances of single items on both sides by a matrix of all items."""
    return (
        replace(new, joint_cov=block_diagonal(new.cov)),
        replace(anchors, cov=block_diagonal(anchors.cov)[None]),
    )


@pytest.mark.parametrize("sides", ["new", "old", "both"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl"])
def test_linking_with_errors_per_item_equals_linking_with_their_joint_matrix(
    model: Model, method: Method, sides: str
) -> None:
    new, anchors = month(np.random.default_rng(3), moved=2, shift=0.7)
    if model != "2pl":
        slopes = np.full(new.n_items, 1.0)
        new = replace(new, models=(model,) * new.n_items, a=slopes, d=-slopes * new.b)
        anchors = replace(anchors, a=slopes.copy())
    whole_new, whole_anchors = joint(new, anchors)
    other = (new if sides == "old" else whole_new), (anchors if sides == "new" else whole_anchors)
    items, whole = (link_to_anchors(*pair, method=method) for pair in ((new, anchors), other))
    assert items.anchors_used == whole.anchors_used
    for name in ("slope", "intercept", "cov", "q", "q_p", "rmse", "tau", "tau_low"):
        np.testing.assert_allclose(getattr(items, name), getattr(whole, name), rtol=1e-8, atol=1e-10)
    assert items.diagnosis == whole.diagnosis
    assert items.suspects
    for item in items.suspects:
        one, other_one = (
            [suspects[item][key] for key in ("delta_a", "delta_b", "z")]
            for suspects in (items.suspects, whole.suspects)
        )
        assert one == pytest.approx(other_one, rel=1e-8)


def test_linking_allocates_no_joint_matrix_if_errors_of_anchors_are_independent() -> None:
    """A joint matrix of 1,200 anchors has 46 MB, and arrays of curves 1 MB each."""
    new, anchors = month(np.random.default_rng(3), k=1200)
    tracemalloc.start()
    link_to_anchors(new, anchors)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 30e6


def test_unknown_method_is_refused_with_a_list_of_methods() -> None:
    with pytest.raises(PsychometricsError, match="'equipercentile'; the methods are stocking-lord"):
        link_to_anchors(*exact(), method="equipercentile")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("a", np.nan, "a is not a number: item01"),
        ("cov", np.diag([0.01, 0.0]), "the standard error of b is not above 0.*item01"),
        ("cov", np.array([[0.01, 1.0], [1.0, 0.01]]), "cov_ab. is not below"),
        ("c", 1.0, r"c is outside \[0, 1\)"),
    ],
)
def test_anchor_set_with_impossible_numbers_is_refused_with_the_item(
    column: str, value: float | np.ndarray, message: str
) -> None:
    _, anchors = exact()
    bad = getattr(anchors, column).copy()
    bad[1] = value
    with pytest.raises(PsychometricsError, match=message):
        replace(anchors, **{column: bad})


def test_assumed_errors_equal_the_errors_of_a_sample_of_500_learners() -> None:
    a, b, c = 1.3, 0.6, 0.15
    theta = np.random.default_rng(0).standard_normal(400_000)
    s = 1 / (1 + np.exp(-a * (theta - b)))
    p = c + (1 - c) * s
    score = (1 - c) * s * (1 - s) * np.stack([theta - b, np.full_like(theta, -a)]) / np.sqrt(p * (1 - p))
    expected = np.linalg.inv(500 * (score @ score.T) / theta.size)
    a_se, b_se, cov_ab = assumed_errors([a], [b], [c])
    # 400 000 draws: relative error of a mean square about 0.3 %
    assert (a_se[0] ** 2, b_se[0] ** 2) == pytest.approx((expected[0, 0], expected[1, 1]), rel=0.01)
    assert cov_ab[0] == pytest.approx(expected[0, 1], rel=0.03)


# --- transformation ----------------------------------------------------------------------------------------------


def test_transformed_fit_gives_every_learner_the_same_probability() -> None:
    new, anchors = month(np.random.default_rng(1))
    found = link_to_anchors(new, anchors)
    moved = found.transform(new)
    theta = np.linspace(-3, 3, 7)
    before = new.a[:, None] * theta + new.d[:, None]
    after = moved.a[:, None] * (found.slope * theta + found.intercept) + moved.d[:, None]
    assert after == pytest.approx(before, abs=1e-12)
    assert moved.b == pytest.approx(found.slope * new.b + found.intercept)
    assert (moved.latent_mean, moved.latent_sd) == (found.intercept, found.slope)


def test_transformed_covariances_include_errors_of_items_and_constants() -> None:
    new, anchors = month(np.random.default_rng(1), k=8, n_new=20_000, n_old=20_000)
    joint = block_diagonal(new.cov)
    new = replace(new, joint_cov=joint)
    found = link_to_anchors(new, anchors, purify=False)
    moved = found.transform(new)
    rng = np.random.default_rng(2)
    n = 40_000
    between = found.with_items[:, :2].reshape(16, 2)
    values = [*np.stack([new.a, new.d], 1).ravel(), found.slope, found.intercept]
    together = rng.multivariate_normal(values, np.block([[joint, between], [between.T, found.cov]]), n)
    items, constants = together[:, :16].reshape(n, 8, 2), together[:, 16:]
    a = items[:, :, 0] / constants[:, :1]
    d = items[:, :, 1] - a * constants[:, 1:]
    drawn = np.cov(np.stack([a, d], 2).reshape(n, 16).T)
    scale = np.sqrt(np.diag(drawn))
    # a covariance of 40 000 draws has an error of 1/√n = 0.5 % of the product of SDs; three errors and some curvature
    assert np.abs(moved.joint_cov - drawn) / np.outer(scale, scale) == pytest.approx(0, abs=0.02)
    for j in range(8):
        assert moved.cov[j] == pytest.approx(moved.joint_cov[2 * j : 2 * j + 2, 2 * j : 2 * j + 2])


def test_items_without_parameters_have_no_parameters_after_linking() -> None:
    new, anchors = exact()
    a, d, cov = new.a.copy(), new.d.copy(), new.cov.copy()
    a[0] = d[0] = cov[0] = np.nan
    flags = ((Flag.ALL_CORRECT,), *new.flags[1:])
    fit = replace(new, a=a, d=d, cov=cov, flags=flags)
    moved = link_to_anchors(fit, anchors).transform(fit)
    assert moved.estimated.tolist() == [False] + [True] * 11
    assert np.isfinite(moved.cov[1:]).all()


def by_differences(pairs: AnchorPairs, side: str, name: str, j: int) -> np.ndarray:
    """Derivatives of (slope, intercept) by a, b or logit c of an anchor, from central differences of 2e-4."""
    items, ends = getattr(pairs, side), []
    for step in (1e-4, -1e-4):
        values = getattr(items, name).copy()
        values[j] = expit(logit(values[j]) + step) if name == "c" else values[j] + step
        ends.append(solve(replace(pairs, **{side: replace(items, **{name: values})}), "stocking-lord", weighted=False))
    up, down = ends
    return np.array([up.slope - down.slope, up.intercept - down.intercept]) / 2e-4


@pytest.mark.parametrize("symmetric", [False, True])
def test_derivatives_of_constants_by_c_equal_finite_differences(symmetric: bool) -> None:
    """The derivatives omit terms of the order of the anchors' errors, about 5 %."""
    rng = np.random.default_rng(4)
    k = 8
    a, b, c = rng.lognormal(0, 0.3, k), rng.normal(0, 1, k), rng.uniform(0.1, 0.3, k)
    cov = errors(a, b, 1000)
    a_new, b_new = a * SLOPE * np.exp(rng.normal(0, 0.01, k)), (b - INTERCEPT) / SLOPE + rng.normal(0, 0.01, k)
    new = ItemParameters(ids(k), a_new, b_new, c, cov)
    pairs = on_both_scales(AnchorPairs(new, ItemParameters(ids(k), a, b, c, cov), ("3pl",) * k), symmetric)
    found = solve(pairs, "stocking-lord", weighted=False)
    for side, derivatives in (("new", found.by_further_new), ("old", found.by_further_old)):
        largest = np.abs(derivatives).max()
        for j in range(k):
            expected = by_differences(pairs, side, "c", j)
            assert derivatives[:, j, 0] == pytest.approx(expected, abs=0.05 * largest)


@pytest.mark.parametrize("symmetric", [False, True])
def test_errors_of_3pl_constants_include_a_b_and_c_of_both_sides(symmetric: bool) -> None:
    rng, k = np.random.default_rng(7), 6
    a, b, c = rng.lognormal(0, 0.3, k), rng.normal(0, 1, k), rng.uniform(0.1, 0.3, k)
    roots = rng.normal(0, 0.1, (2, k, 3, 3))
    old_cov, new_cov = roots @ roots.swapaxes(2, 3)  # of a, b and logit c
    old = ItemParameters(ids(k), a, b, c, old_cov[:, :2, :2], old_cov[:, 2:])
    new = ItemParameters(ids(k), a * SLOPE, (b - INTERCEPT) / SLOPE, c, new_cov[:, :2, :2], new_cov[:, 2:])
    pairs = on_both_scales(AnchorPairs(new, old, ("3pl",) * k), symmetric)
    expected = np.zeros((2, 2))
    for side, cov in (("old", old_cov), ("new", new_cov)):
        for j in range(k):
            by = np.column_stack([by_differences(pairs, side, name, j) for name in "abc"])
            expected += by @ cov[j] @ by.T
    np.testing.assert_allclose(solve(pairs, "stocking-lord", weighted=False).covariance(pairs), expected, rtol=1e-3)


def test_constants_have_no_derivatives_by_c_if_the_model_has_no_c() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.lognormal(0, 0.3, 8), rng.normal(0, 1, 8)
    pairs, _ = match(calibration(a, b, errors(a, b, 1000)), anchor_set(a, b, errors(a, b, 1000)), AnchorLimits())
    found = solve(pairs, "stocking-lord", weighted=True)
    assert (found.by_further_new, found.by_further_old, pairs.new.further_cov) == (None, None, None)


# -- jumps -------------------------------------------------------------------------------------------
# The test that detects a jump of a month's linking constants.


def against(earlier: np.ndarray, value: float, se: float = 0.0, usual_se: float = 0.0, level: float = LEVEL) -> Jump:
    """Test a month that follows consecutive earlier months."""
    n = earlier.size
    found = jump("intercept", value, se, np.arange(-n, 0), earlier, np.full(n, usual_se), level)
    assert found is not None
    return found


def test_jump_statistic_is_the_t_of_a_new_observation() -> None:
    """Prediction interval of a new value of a normal sample, computed with R: n = 5, mean 0.06, SD 0.11937, t(4) for
    .001 two-sided 8.6103; 8.6103 · 0.11937 · √1.2 = 1.1259."""
    found = against(np.array([0.0, 0.15, -0.1, 0.2, 0.05]), 0.5, 0.01, 0.01)
    assert (found.change, found.limit) == pytest.approx((0.44, 1.1259), abs=1e-4)  # digits of the docstring
    assert found.p == pytest.approx(2 * stats.t.sf(0.44 / (0.119373 * np.sqrt(1.2)), 4), rel=1e-4)
    assert not found.seen


@pytest.mark.parametrize("own_se", [0.04, 0.2], ids=["as usual", "of a month of few learners"])
def test_spread_of_earlier_months_is_at_least_their_standard_errors(own_se: float) -> None:
    found = against(np.full(8, 0.1), 0.3, own_se, 0.04)
    assert found.sd == pytest.approx(np.sqrt(0.04**2 / 8 + own_se**2))


@pytest.mark.parametrize("n", [3, 6, 11])
def test_steady_rise_is_not_a_jump(n: int) -> None:
    found = against(0.12 * np.arange(n), 0.12 * n)
    assert (abs(found.change) / found.sd, found.seen) == (pytest.approx(np.sqrt(3)), False)


def test_trend_is_removed_if_there_are_twelve_earlier_months() -> None:
    """The expected limit is a regression's prediction interval: s²·(1 + 1/n + (x − x̄)²/Sxx) with n − 2 df."""
    x, noise = np.arange(12.0), np.random.default_rng(1).normal(0, 0.05, 12)
    earlier = 0.12 * x + noise
    rise, level = np.polyfit(x, earlier, 1)
    s = np.sqrt(np.sum((earlier - level - rise * x) ** 2) / 10)
    found = against(earlier, 2.0)
    sd = s * np.sqrt(1 + 1 / 12 + (12 - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    expected = 2.0 - level - rise * 12, sd, sd * stats.t.isf(0.0005, 10)
    assert (found.change, found.sd, found.limit) == pytest.approx(expected)
    assert found.seen


@pytest.mark.parametrize("n", [3, 8, 24])
def test_false_jumps_occur_at_the_rate_of_the_level(n: int) -> None:
    """The months are stationary and without error, so the t test is exact except for chance trends. At level .05,
    200 ± 14 of 4,000 histories have a false jump."""
    rng = np.random.default_rng(n)
    x = rng.normal(0.2, 0.1, (4000, n + 1))
    seen = [against(row[:-1], row[-1], level=0.05).seen for row in x]
    assert abs(np.sum(seen) - 200) < 4 * 14


def test_slopes_are_compared_as_ratios() -> None:
    earlier = [MonthConstants(k, slope, 0.05 * slope, 0.0, 0.05) for k, slope in enumerate((0.9, 1.0, 1.1, 1.0, 0.95))]
    doubled = [replace(one, slope=2 * one.slope, slope_se=2 * one.slope_se) for one in earlier]
    (slope, _), (twice, _) = earlier[0].jumps(earlier), doubled[0].jumps(doubled)
    assert (slope.change, slope.limit) == pytest.approx((twice.change, twice.limit))


def test_slope_is_not_compared_if_the_model_fixes_the_slope() -> None:
    rasch = [MonthConstants(k, 1.0, 0.0, x, 0.05) for k, x in enumerate((0.0, 0.1, -0.1, 0.05))]
    assert [one.constant for one in MonthConstants(4, 1.0, 0.0, 0.3, 0.05).jumps(rasch)] == ["intercept"]


def test_jumps_are_not_tested_with_only_two_earlier_months() -> None:
    assert MonthConstants(2, 1.0, 0.1, 9.0, 0.1).jumps([MonthConstants(k, 1.0, 0.1, 0.0, 0.1) for k in range(2)]) == ()


def test_skewness_equals_scipys_and_is_missing_for_few_or_equal_values() -> None:
    x = np.random.default_rng(1).gamma(3.0, size=30)
    assert skewness_of(x) == pytest.approx(stats.skew(x), rel=1e-9)
    assert skewness_of(np.arange(7.0)) is None
    assert skewness_of(np.ones(9)) is None
