"""Fits of several abilities as a person uses them: results, refused requests, and rotations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics.plots.axes import Boxes, Points
from irt_psychometrics.scoring import ScoreScale, ScoreTable

N, J = 900, 12
RNG = np.random.default_rng(4)
TOPICS = ["algebra"] * 4 + ["geometry"] * 4 + [None] * 4
NAMES = [f"q{j}" for j in range(J)]
SLOPES = np.array([[1.2, 0.9, 0.0]] * 4 + [[1.0, 0.0, 1.1]] * 4 + [[1.1, 0.0, 0.0]] * 4)
Z = RNG.normal(size=(N, 3)) @ SLOPES.T
X = irt.Responses.from_wide(dict(zip(NAMES, (RNG.logistic(size=Z.shape) < Z).astype(int).T, strict=True)))
BIFACTOR = irt.Dimensions.bifactor(dict(zip(NAMES, TOPICS, strict=True)))
SKILLS = irt.Dimensions.between(dict(zip(NAMES, ["x"] * 6 + ["y"] * 6, strict=True)))


@pytest.fixture(scope="module")
def bifactor() -> irt.DimensionsFit:
    return irt.fit(X, dimensions=BIFACTOR)


@pytest.fixture(scope="module")
def explored() -> irt.DimensionsFit:
    return irt.fit(X, dimensions=2)


def test_items_have_a_slope_and_an_error_on_each_dimension_that_they_measure(bifactor: irt.DimensionsFit) -> None:
    items = bifactor.to_frame("pandas").set_index("item")
    assert items["a_general"].notna().all()
    assert items["a_algebra"].notna().tolist() == items["a_algebra_se"].notna().tolist() == [True] * 4 + [False] * 8
    assert (items[["a_general_se", "d_se"]] > 0).all(axis=None)
    np.testing.assert_allclose(items["a_general"], SLOPES[:, 0], atol=4 * items["a_general_se"].max())
    assert bifactor.bic == pytest.approx(-2 * bifactor.log_likelihood + (12 + 8 + 12) * np.log(N))


def test_scores_have_an_error_and_a_reliability_on_each_dimension(bifactor: irt.DimensionsFit) -> None:
    scores = bifactor.score(X)
    assert scores.se == pytest.approx(np.sqrt(scores.cov[:, range(3), range(3)]))
    assert (scores.reliability[0] > scores.reliability[1:]).all(), "eight items less measure a specific dimension"
    assert np.isnan(bifactor.score(X, "map").reliability).all()
    assert scores.n[0].tolist() == [12, 4, 4]


def test_rotation_keeps_the_curves_and_the_scores(explored: irt.DimensionsFit) -> None:
    """log L and Σ slope·θ do not depend on the rotation; scores are integrated on other nodes."""
    oblique = explored.rotate("oblimin")
    inner = [f.slopes @ f.correlations @ f.slopes.T for f in (explored, oblique)]
    np.testing.assert_allclose(*inner, atol=1e-8)
    before, after = (f.score(X).theta @ f.slopes.T for f in (explored, oblique))
    np.testing.assert_allclose(before, after, atol=2e-3)
    assert abs(oblique.correlations[0, 1]) > 0.05
    assert explored.rotate("varimax").correlations[0, 1] == pytest.approx(0, abs=1e-12)
    assert explored.rotate("varimax").rotate("oblimin").correlations == pytest.approx(oblique.correlations, abs=1e-5)
    pd.testing.assert_frame_equal(explored.loadings("oblimin"), oblique.loadings())


def test_figure_shows_the_loadings_and_the_parts_of_omega(bifactor: irt.DimensionsFit) -> None:
    loadings, parts = bifactor.plot().charts
    table = bifactor.loadings()
    drawn = {part.name: part.xs for part in loadings.parts if isinstance(part, Points)}
    assert drawn["general"] == pytest.approx(table["general"])
    assert drawn["geometry"] == pytest.approx(table["geometry"][4:8])
    indices = bifactor.dimensionality(X)
    general, specific = (part for part in parts.parts if isinstance(part, Boxes))
    assert specific.right == pytest.approx(indices.omega), "general and specific shares add up to ω"
    assert general.right[0] == pytest.approx(indices.omega_h[0])
    assert np.subtract(specific.right, general.right)[1:] == pytest.approx(indices.omega_h[1:])


def test_requests_without_meaning_for_a_fit_are_refused(bifactor: irt.DimensionsFit) -> None:
    with pytest.raises(irt.PsychometricsError, match="only fits that explore the dimensions are rotated"):
        bifactor.loadings("oblimin")
    with pytest.raises(irt.PsychometricsError, match="needs the responses that were fitted"):
        bifactor.dimensionality(X.of_persons(np.arange(100)))
    with pytest.raises(irt.PsychometricsError, match="without weights, and this fit has weights"):
        replace(bifactor, weights=np.ones(N)).dimensionality(X)


def test_fits_without_a_finite_maximum_warn_with_the_way_out() -> None:
    with (
        pytest.warns(irt.ItemWarning, match="at a bound.*leave it out, drop its specific dimension"),
        pytest.warns(irt.NotConvergedWarning, match="tie their slopes, or fit fewer dimensions"),
    ):
        f = irt.fit(X.of_persons(np.arange(12)), dimensions=2)
    assert not f.converged
    assert "converged no" in repr(f)


def test_items_without_answers_and_with_several_scores_have_their_own_columns() -> None:
    points = np.digitize(Z + RNG.logistic(size=Z.shape), [-0.5, 0.8])
    columns = dict(zip(NAMES, points.T.tolist(), strict=True)) | {"q3": [None] * N, "q5": (points[:, 5] > 0).tolist()}
    x = irt.Responses.from_wide(columns, max_score=dict.fromkeys(NAMES, 2) | {"q5": 1})
    with pytest.warns(irt.ItemWarning, match="q3: no learner answered it"):
        f = irt.fit(x, {name: "2pl" if name == "q5" else "grm" for name in NAMES}, dimensions=SKILLS)
    items = f.to_frame("pandas").set_index("item")
    assert np.isnan(items.loc["q3", "d"])
    assert items.loc["q5", ["d1", "d2"]].isna().all()
    thresholds = items.drop(["q3", "q5"])
    assert (thresholds["d1"] > thresholds["d2"]).all(), "P(score ≥ 1) > P(score ≥ 2)"
    np.testing.assert_allclose(thresholds["d1"], 0.5, atol=5 * thresholds["d1_se"].max())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"groups": ["a", "b"] * (N // 2)}, "have no groups: fit each group alone"),
    ({"anchors": irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.0], "b": [0.0]})}, "have no anchors"),
    ({"sampling_weights": np.ones(N)}, "have no sampling_weights"),
    ({"latent": "histogram"}, "have no latent: each dimension is normal"),
    ({"testlets": {"q1": "t", "q2": "t"}}, "make each testlet a specific dimension"),
    ({"dimensions": 1}, "must be 2 or 3, or Dimensions, got 1; for one ability leave"),
    ({"dimensions": 4}, "use bifactor"),
    ({"dimensions": {"q1": "x"}}, "must be 2 or 3, or Dimensions, got"),
    (
        {"dimensions": irt.Dimensions.bifactor(dict.fromkeys(NAMES[:4], "x") | dict.fromkeys(NAMES[4:-1]))},
        "items q11 are",
    ),
    ({"dimensions": irt.Dimensions.explore([*NAMES, "q77"], 2)}, "given for q77, not among the items"),
]


@pytest.mark.parametrize(("request_of", "message"), REFUSED)
def test_requests_without_meaning_for_several_abilities_are_refused(request_of: dict[str, Any], message: str) -> None:
    with pytest.raises(irt.PsychometricsError, match=message):
        irt.fit(X, **({"dimensions": 2} | request_of))


USES: list[Callable[[Any, irt.Fit], Any]] = [
    lambda f, one: irt.link(f, one),
    lambda f, one: irt.link(one, f),
    lambda f, one: irt.find_drift(f, one),
    lambda f, one: irt.find_drift(one, f),
    lambda f, one: irt.compare(f, one),
    lambda f, one: irt.compare(one, f),
    lambda f, one: irt.fit(X, anchors=f),
    lambda f, one: irt.simulate_responses(f, [0.0]),
    lambda f, one: ScoreTable.from_items(f, ScoreScale(10, 50)),
    lambda f, one: irt.plots.item_curves(f, "q1"),
    lambda f, one: irt.plots.wright_map(f),
    lambda f, one: irt.information.Information.from_parameters(f, [0.0]),
    lambda f, one: irt.equating.equate_by_items(f, one),
    lambda f, one: irt.adaptive.simulate_tests(f, irt.adaptive.AdaptiveTest(max_items=3), 10),
]


@pytest.mark.parametrize("use", USES)
def test_functions_of_one_ability_refuse_fits_of_several(use: Callable[..., Any], bifactor: irt.DimensionsFit) -> None:
    with pytest.raises(irt.PsychometricsError, match=r"measure several abilities|must be a Fit, got DimensionsFit"):
        use(bifactor, irt.fit(X))
