"""Equating against the R packages equate, kequate and equateIRT; reference/equating.R made the figures."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irt_psychometrics import PsychometricsError
from irt_psychometrics.core.delta import SMALL_STEP, delta_errors
from irt_psychometrics.equating import Equating, ScoreCounts, equate, equate_by_items, irt_equating
from irt_psychometrics.equating.continuous_scores import penalty
from irt_psychometrics.items import ItemParameters, ItemRow
from irt_psychometrics.scoring.form_scores import FormsWithErrors

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "equating.json").read_text("utf-8"))
BY_LINES = 1e-10
BY_PERCENTILES = 2e-6
"""equate rounds percentile ranks to ten digits, which counts where few learners have a score."""
SLOPE_OF_ONE = ("mean chained", "circle-arc chained")
"""equate's default counts a point of the anchor as a point of the form; see the test of the linear midpoint."""
ADJUSTMENTS = {"frequency": "frequency-estimation", "frequency estimation": "frequency-estimation"}


@pytest.fixture(scope="module")
def forms() -> tuple[ScoreCounts, ScoreCounts]:
    known = REFERENCE["equate"]["ACTmath"]
    return ScoreCounts(known["new"]), ScoreCounts(known["old"])


@pytest.fixture(scope="module", params=["internal", "external"])
def design(request) -> tuple[str, ScoreCounts, ScoreCounts]:
    counts = REFERENCE["designs"]
    return request.param, ScoreCounts(counts[f"{request.param} new"]), ScoreCounts(counts[f"{request.param} old"])


def test_mean_equating_of_act_mathematics_subtracts_published_difference(forms):
    found = equate(*forms, method="mean")
    np.testing.assert_allclose(found.equated - found.scores, -0.8726, atol=5e-5)


@pytest.mark.parametrize("method", ["identity", "mean", "linear", "circle-arc", "equipercentile"])
def test_random_groups_are_equated_as_by_equate(forms, method):
    found = equate(*forms, method=method, bootstrap=0)
    expected = REFERENCE["equate"]["random"][method]
    tolerance = BY_PERCENTILES if method == "equipercentile" else BY_LINES
    np.testing.assert_allclose(found.equated, expected["yx"], atol=tolerance)
    if method == "linear":  # equate has n and not n − 1 in a part of its formula
        np.testing.assert_allclose(found.se, expected["se"], rtol=5e-4)


def test_presmoothed_counts_are_those_of_equate(forms):
    smoothed = [form.presmoothed(6) for form in forms]
    fitted = REFERENCE["equate"]["random"]["fitted"]
    for form, own in zip(smoothed, (fitted["new"], fitted["old"]), strict=True):
        np.testing.assert_allclose(form.probability * form.n, own, atol=1e-6)
    expected = REFERENCE["equate"]["random"]["equipercentile loglinear 6"]["yx"]
    np.testing.assert_allclose(equate(*smoothed).equated, expected, atol=BY_PERCENTILES)


def test_common_items_are_equated_as_by_equate(design):
    name, new, old = design
    compared = 0
    for key, expected in REFERENCE["equate"][name].items():
        method, _, adjustment = key.partition(" ")
        if method in ("mean", "linear", "circle-arc", "equipercentile") and key not in SLOPE_OF_ONE:
            how = {"method": method, "adjustment": ADJUSTMENTS.get(adjustment, adjustment)}
            found = equate(new, old, **how, internal=name == "internal", bootstrap=0)
            tolerance = BY_PERCENTILES if method == "equipercentile" else BY_LINES
            np.testing.assert_allclose(found.equated, expected["yx"], atol=tolerance, err_msg=key)
            compared += 1
    assert compared == 13
    half = equate(new, old, method="linear", adjustment="tucker", weight=0.5)
    np.testing.assert_allclose(half.equated, REFERENCE["equate"][name]["tucker weight .5"]["yx"], atol=BY_LINES)


def test_chained_mean_and_circle_arc_go_through_point_of_chained_line_of_equate(design):
    """Follows the option chainmidp = "linear" of equate (Livingston & Kim 2009)."""
    name, new, old = design
    x = np.arange(new.counts.shape[0])
    mean = x @ new.probability.sum(axis=1)
    midpoint = np.interp(mean, x, REFERENCE["equate"][name]["linear chained"]["yx"])
    by_mean = equate(new, old, method="mean", adjustment="chained").equated
    np.testing.assert_allclose(by_mean, x - mean + midpoint, atol=1e-9)
    arc = equate(new, old, method="circle-arc", adjustment="chained").equated
    top, height = x[-1], midpoint - mean  # both forms have the same highest score
    centre = (mean * (mean - top) + height**2) / (2 * height)  # of the circle through (0, 0), (mean, height), (top, 0)
    radius = np.hypot(top / 2, centre)
    expected = x + centre - np.sign(centre) * np.sqrt(radius**2 - (x - top / 2) ** 2)
    np.testing.assert_allclose(arc, expected, atol=1e-9)


def test_presmoothed_common_items_are_equated_as_by_equate(design):
    name, new, old = design
    smoothed = new.presmoothed(4, 4, 2), old.presmoothed(4, 4, 2)
    known = REFERENCE["equate"][name]
    np.testing.assert_allclose(smoothed[0].probability * new.n, known["fitted"]["new"], atol=1e-6)
    for adjustment in ("frequency-estimation", "chained"):
        found = equate(*smoothed, adjustment=adjustment)
        expected = known[f"smoothed {adjustment.replace('-', ' ')}"]["yx"]
        np.testing.assert_allclose(found.equated, expected, atol=BY_PERCENTILES)


def test_single_group_is_equated_as_by_equate():
    group = ScoreCounts(REFERENCE["designs"]["single group"])
    for method, expected in REFERENCE["equate"]["single"].items():
        found = equate(group, method=method, bootstrap=0)
        np.testing.assert_allclose(found.equated, expected["yx"], atol=BY_PERCENTILES)
    smoothed = equate(group.presmoothed(4, 4, 2), method="kernel", bandwidths=(0.6, 0.6))
    require_kernel_equating(smoothed, REFERENCE["kequate"]["SG"])


def require_kernel_equating(found: Equating, expected: dict, tolerance: float = 1e-8) -> None:
    np.testing.assert_allclose(found.equated, expected["yx"], atol=tolerance)
    np.testing.assert_allclose(found.se, expected["se"], rtol=1e-4)  # central differences against formulas


def test_kernel_equating_of_random_groups_is_that_of_kequate(forms):
    smoothed = [form.presmoothed(6) for form in forms]
    require_kernel_equating(equate(*smoothed, method="kernel", bandwidths=(0.6, 0.7)), REFERENCE["kequate"]["EG"])
    found, expected = equate(*smoothed, method="kernel"), REFERENCE["kequate"]["EGchosen"]
    for form, own, theirs in zip(smoothed, found.bandwidths.values(), ("hx", "hy"), strict=True):
        chosen = penalty(form.probability, form.n, expected["h"][0][theirs])
        assert penalty(form.probability, form.n, own) == pytest.approx(chosen, rel=1e-4)
    require_kernel_equating(found, expected, tolerance=1e-6)  # the bandwidths differ in the sixth digit


def test_kernel_equating_of_common_items_is_that_of_kequate(design):
    name, new, old = design
    smoothed, known = (new.presmoothed(4, 4, 2), old.presmoothed(4, 4, 2)), REFERENCE["kequate"][name]
    chained = equate(*smoothed, method="kernel", adjustment="chained", bandwidths=(0.6, 0.55, 0.5, 0.65))
    require_kernel_equating(chained, known["ce"])
    how = {"method": "kernel", "adjustment": "frequency-estimation", "weight": 0.5}
    require_kernel_equating(equate(*smoothed, **how, bandwidths=(0.6, 0.65)), known["pse"])
    require_kernel_equating(equate(*smoothed, **how), known["pse2"], tolerance=1e-6)


def test_errors_of_identity_are_zero_for_counts_as_observed(forms):
    assert not equate(*forms, method="identity").se.any()
    assert not equate(*forms, method="identity", bootstrap=5).se.any()


def test_presmoothed_counts_stay_empty_where_scores_are_impossible():
    """Compares the share of each other pair with a Poisson regression, a fit of the possible pairs alone."""
    rng = np.random.default_rng(3)
    right = rng.random((800, 8)) < 1 / (1 + np.exp(-rng.normal(0, 1, (800, 1)) + np.linspace(-1, 1, 8)))
    counts = ScoreCounts.from_scores(right.sum(axis=1), right[:, :4].sum(axis=1), max_score=8, max_second=4)
    x, v = np.indices((9, 5))
    possible = (v <= x) & (x <= v + 4)
    smooth = counts.presmoothed(2, 2, 1, possible=possible)
    assert not smooth.probability[~possible].any()
    assert counts.presmoothed(2, 2, 1).probability[~possible].sum() > 0.005
    design = np.column_stack([z[possible] for z in (x**0, x, x**2, v, v**2, x * v)]).astype(float)
    beta = np.zeros(6)
    beta[0] = np.log(800 / possible.sum())
    for _ in range(50):
        fitted = np.exp(design @ beta)
        beta += np.linalg.solve(design.T @ (fitted[:, None] * design), design.T @ (counts.counts[possible] - fitted))
    np.testing.assert_allclose(smooth.probability[possible] * 800, np.exp(design @ beta), rtol=1e-7)
    errors = [equate(smooth, smooth, adjustment="chained", bootstrap=n, random_state=1).se[2:7] for n in (0, 300)]
    np.testing.assert_allclose(*errors, rtol=0.25)
    with pytest.raises(PsychometricsError, match="true for all scores of persons"):
        counts.presmoothed(2, 2, 1, possible=x < 8)


def test_observed_counts_of_long_forms_need_no_matrix_of_all_pairs_of_scores():
    rng = np.random.default_rng(4)
    right = rng.random((1500, 200)) < 1 / (1 + np.exp(-rng.normal(0, 1, (1500, 1)) + rng.normal(0, 1, 200)))
    form = ScoreCounts.from_scores(right.sum(axis=1), right[:, :100].sum(axis=1), max_score=200, max_second=100)
    dense = form.counts.size * np.count_nonzero(form.counts) * 8
    tracemalloc.start()
    try:
        assert np.isfinite(equate(form, form, method="linear", adjustment="tucker").se).all()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 0.05 * dense


def test_wide_kernels_equate_as_the_line_of_means_and_sds(forms):
    wide = equate(*forms, method="kernel", bandwidths=(1e4, 1e4), bootstrap=0)
    np.testing.assert_allclose(wide.equated, equate(*forms, method="linear").equated, atol=1e-4)


KINDS = {"Dscrmn": 0, "Dffclt": 1, "Gussng": 2}


def form_of_equate_irt(
    names: list[str], values: list[float], cov: list
) -> tuple[ItemParameters, np.ndarray, np.ndarray]:
    """A form, the covariance of its (a, b, logit c), and ∂(a, b, c)/∂(a, b, logit c)."""
    ids = [name.split(".")[1] for name in names if name.startswith("Dffclt")]
    place = {name: k for k, name in enumerate(names)}
    known = [place.get(f"{kind}.{item}", -1) for item in ids for kind in KINDS]
    table = np.append(values, 0.0)[known].reshape(-1, 3)
    by = np.ones(table.shape)
    by[:, 2] = table[:, 2] * (1 - table[:, 2])
    scale = np.divide(1, by.ravel(), out=np.zeros(by.size), where=by.ravel() > 0)
    padded = np.pad(np.array(cov), (0, 1))[np.ix_(known, known)] * np.outer(scale, scale)
    a, b, c = table.T
    return ItemParameters(tuple(ids), a, b, c, np.zeros((len(ids), 2, 2))), padded, by.ravel()


@pytest.mark.parametrize(("model", "link"), [("2pl", "mean-sigma"), ("3pl", "Haebara")])
def test_equating_by_items_with_errors_of_items_and_link_is_that_of_equate_irt(model, link):
    fits, linked = REFERENCE["equateIRT"][model], REFERENCE["equateIRT"][f"{model} {link}"]
    old, old_cov, old_by = form_of_equate_irt(fits["n1"], fits["coef1"], fits["var1"])
    new, new_cov, new_by = form_of_equate_irt(fits["n2"], fits["coef2"], fits["var2"])
    slope, intercept = linked["A"], linked["B"]  # of the old scale on the new one
    by_items = np.zeros((2, new_by.size + old_by.size))
    for name, derivative in zip(linked["partial_names"], np.array(linked["partial"]), strict=True):
        kind, item, form = name.split(".")
        items, start = (new, 0) if form == "2" else (old, new_by.size)
        by_items[:, start + 3 * items.item_ids.index(item) + KINDS[kind]] = derivative
    by_items *= np.append(new_by, old_by)
    inverted = np.array([[-1 / slope**2, 0], [intercept / slope**2, -1 / slope]]) @ by_items
    cov = np.zeros((by_items.shape[1],) * 2)
    cov[: new_by.size, : new_by.size], cov[new_by.size :, new_by.size :] = new_cov, old_cov
    by_all = np.vstack([np.eye(len(cov)), inverted])
    how = {"slope": 1 / slope, "intercept": -intercept / slope, "joint_cov": by_all @ cov @ by_all.T}
    true = equate_by_items(new, old, **how)
    inside = np.array(linked["tse"]["test2"])[:-1]  # equateIRT's highest score has no θ
    np.testing.assert_allclose(true.equated[inside], linked["tse"]["test1.as.test2"][:-1], atol=1e-9)
    np.testing.assert_allclose(true.se[inside], linked["tse"]["StdErr"][:-1], rtol=1e-5)
    observed = equate_by_items(new, old, method="observed-score", mean=0, sd=1, **how)
    np.testing.assert_allclose(observed.equated, linked["ose"]["test1.as.test2"], atol=1e-9)
    np.testing.assert_allclose(observed.se, linked["ose"]["StdErr"], rtol=1e-5)


def scored_form(shift: float) -> ItemParameters:
    """Ten items of 0/1 and five scored 0 … 3."""
    rows = [ItemRow(1.1, b + shift) for b in np.linspace(-1.5, 1.5, 10)]
    further = {"t0": 0.0, "t1": 0.6, "t2": 0.6, "t3": 0.0, "max_score": 3.0}
    rows += [ItemRow(0.8, b + shift, further=further) for b in np.linspace(-1, 1, 5)]
    return ItemParameters.from_rows([f"q{k}" for k in range(15)], rows)


@pytest.mark.parametrize("method", ["true-score", "observed-score"])
def test_scored_items_that_are_harder_by_a_constant_are_equated_to_higher_scores(method):
    new, old = scored_form(0.4), scored_form(0.0)
    found = equate_by_items(new, old, method=method, mean=0, sd=1)
    assert found.scores.size == 26
    assert (np.diff(found.equated) > 0).all()
    assert (found.equated[1:-1] > found.scores[1:-1]).all()
    same = equate_by_items(new, old, method=method, slope=1.0, intercept=-0.4, mean=0, sd=1)
    np.testing.assert_allclose(same.equated, same.scores, atol=1e-8)


@pytest.mark.parametrize("method", ["true-score", "observed-score"])
def test_errors_of_equating_by_items_are_unknown_if_an_error_of_an_item_is(method):
    items = ItemParameters.from_frame({"item": ["a", "b", "c"], "a": [1.0, 1.2, 0.8], "b": [0.0, 0.5, -0.5]})
    unknown = equate_by_items(items, items, method=method, mean=0, sd=1)
    assert np.isnan(unknown.se).all()
    assert "joint_cov must contain the errors" in unknown.notes[0]
    known = np.diag(np.full(20, 0.01))
    assert equate_by_items(items, items, method=method, joint_cov=known, mean=0, sd=1).se[1] > 0
    assert equate_by_items(items, items, method=method, joint_cov=known, mean=0, sd=1).notes == ()
    known[2, 2] = np.nan
    assert np.isnan(equate_by_items(items, items, method=method, joint_cov=known, mean=0, sd=1).se).all()


@pytest.mark.parametrize("c", [0.0, 0.25])
def test_errors_of_true_scores_follow_from_differences_of_equivalents(c):
    """Scored and guessed items, with a stretched scale: each parameter is moved by hand."""
    new, old = (replace(scored_form(shift), c=np.where(np.arange(15) < 10, c, 0.0)) for shift in (0.3, 0.0))
    rng, constants = np.random.default_rng(1), (1.2, 0.4)
    root = 0.01 * rng.normal(size=(182, 182))
    estimate = FormsWithErrors((new, old), np.array(constants), root)

    def equivalents(value):
        (own, other), (slope, intercept) = value
        return equate_by_items(own, other, slope=slope, intercept=intercept).equated

    found = equate_by_items(new, old, slope=constants[0], intercept=constants[1], joint_cov=root @ root.T)
    np.testing.assert_allclose(found.se, delta_errors(equivalents, [estimate], [SMALL_STEP]), rtol=1e-5, atol=1e-9)


def test_true_scores_of_long_forms_are_inverted_only_for_equivalents_and_derivatives(monkeypatch):
    calls = []
    inverse = irt_equating.thetas_of_scores
    monkeypatch.setattr(irt_equating, "thetas_of_scores", lambda *of: calls.append(of) or inverse(*of))
    rng = np.random.default_rng(1)
    items = ItemParameters.from_frame({"item": range(60), "a": [1.0] * 60, "b": rng.normal(size=60)})
    assert np.isfinite(equate_by_items(items, items, joint_cov=0.01 * np.eye(362)).se).all()
    assert len(calls) == 2


def test_lowest_scores_are_equated_by_a_line_if_items_can_be_guessed():
    form = ItemParameters.from_frame({"item": ["a", "b", "c"], "a": [1.0] * 3, "b": [-0.5, 0.0, 0.5], "c": [0.5] * 3})
    easier = ItemParameters.from_frame({"item": ["d", "e", "f"], "a": [1.0] * 3, "b": [-1.0] * 3, "c": [0.2] * 3})
    found = equate_by_items(form, easier)
    np.testing.assert_allclose(found.equated[:2], [0.0, 0.6 / 1.5])
    assert found.equated[-1] == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ScoreCounts.from_scores([1, 2.5, 3]), "score 2.5 of person 1 is not a whole number"),
        (lambda: ScoreCounts.from_scores([1, 9], max_score=8), "score 9 of person 1 .* from 0 to 8"),
        (lambda: ScoreCounts.from_scores([1, 2], [1]), "2 scores and 1 second scores"),
        (lambda: ScoreCounts([3, -1]), "numbers ≥ 0"),
        (lambda: ScoreCounts([3, 4]).presmoothed(2), "degrees 2, 0 and cross 0 do not fit"),
        (lambda: equate(ScoreCounts([3, 4])), "one form's counts alone"),
        (lambda: equate(ScoreCounts([3, 4]), ScoreCounts([[3, 4], [1, 2]])), "both need them, or neither"),
        (lambda: equate(ScoreCounts([3, 4]), ScoreCounts([3, 4]), adjustment="tucker"), "needs no adjustment"),
        (
            lambda: equate(*[ScoreCounts(np.ones((3, 3)))] * 2, method="kernel", adjustment="tucker"),
            "needs one of the adjustments",
        ),
        (lambda: equate(*[ScoreCounts([0, 5, 0])] * 2, method="linear"), "determine no linear equating"),
        (lambda: equate(*[ScoreCounts([3, 4])] * 2, method="linear", bandwidths=(1, 1)), "has no bandwidths"),
        (lambda: equate(*[ScoreCounts([3, 4])] * 2, method="kernel", bandwidths=(1,)), "needs 2 bandwidths"),
        (lambda: equate_by_items(scored_form(0), scored_form(0), joint_cov=np.eye(3)), "joint_cov must have the shape"),
        (lambda: equate_by_items(*[ItemParameters.from_rows(["a"], [ItemRow(-1.0, 0.0)])] * 2), "slope above 0"),
    ],
)
def test_input_that_determines_no_equating_is_refused_with_its_reason(call, message):
    with pytest.raises(PsychometricsError, match=message):
        call()
