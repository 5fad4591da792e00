"""Figures: drawn values match the formulas, and bands have their stated coverage."""

import json
import pickle
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics import Calibration, ItemParameters, PersonScores, PsychometricsError, Responses, plots
from irt_psychometrics.core.models import Convergence, Flag
from irt_psychometrics.plots import Chart, Picture
from irt_psychometrics.plots.axes import Boxes, Line, Names, Points

ITEMS = ("i1", "i2", "i3", "s1")
A, B, C = np.array([1.0, 1.6, 0.8, 0.9]), np.array([-1.0, 0.5, 1.2, 0.2]), np.array([0.0, 0.0, 0.2, 0.0])
STEPS = np.array([0.0, 0.5, 0.4, 0.0])
"""The curves of s1: log P(k)/P(0) = k(aθ + d) + t_k for scores 0 … 3."""


def calibration(**changes: Any) -> Calibration:
    """Two items of a 2PL, one of a 3PL and one scored 0 to 3, with errors of all parameters."""
    cov = np.zeros((4, 6, 6))
    cov[:, :2, :2] = [[0.02, 0.005], [0.005, 0.03]]
    cov[2, 2, 2], cov[2, 0, 2], cov[2, 2, 0] = 0.09, 0.01, 0.01  # of logit c
    cov[3, 3, 3], cov[3, 4, 4] = 0.02, 0.03  # of the t of scores 1 and 2
    further = np.full((4, 4), np.nan)
    further[2, 0], further[3] = np.log(C[2] / (1 - C[2])), STEPS
    values: dict[str, Any] = {
        "item_ids": ITEMS, "models": ("2pl", "2pl", "3pl", "gpcm"), "engine": "em", "engine_version": "test",
        "a": A, "d": -A * B, "c": C, "cov": cov, "joint_cov": None, "n": np.full(4, 500),
        "n_correct": np.full(4, 250), "flags": ((),) * 4, "latent_mean": 0.0, "latent_sd": 1.0, "n_persons": 500,
        "convergence": Convergence(True, 5, 0.0, 0.0, -1.0, 8), "categories": np.array([2, 2, 2, 4]),
        "further": further,
    }  # fmt: skip
    return Calibration(**values | changes)


FIT = calibration()


def parts(chart: Chart, kind: type) -> list[Any]:
    return [part for part in chart.parts if type(part) is kind]


def test_curve_is_half_at_the_difficulty_and_reaches_its_asymptote_far_below() -> None:
    (line,) = parts(plots.item_curves(FIT, "i2", theta=[-40.0, 0.5, 40.0]), Line)
    assert line.ys == pytest.approx([0.0, 0.5, 1.0], abs=1e-12)
    (guessed,) = parts(plots.item_curves(FIT, "i3", theta=[-40.0, 1.2, 40.0]), Line)
    assert guessed.ys == pytest.approx([0.2, 0.6, 1.0], abs=1e-9)  # (1 + c)/2 at b


@pytest.mark.parametrize("item", ["i1", "i3", "s1"])
def test_band_contains_95_percent_of_curves_of_simulated_parameters(item: str) -> None:
    """Parameters are drawn from their joint normal distribution, as estimated: (a, d), logit c and the t of scores."""
    small = replace(FIT, cov=FIT.cov / 9)  # errors for which the delta method is accurate
    j, rng, theta = ITEMS.index(item), np.random.default_rng(1), np.array([-1.5, 0.0, 1.5])
    (line,) = parts(plots.item_curves(small, item, theta=theta), Line)
    size = 6 if item == "s1" else 3 if item == "i3" else 2
    own = np.concatenate([[A[j], -A[j] * B[j]], FIT.further[j]])[:size]  # type: ignore[index]
    drawn = rng.multivariate_normal(own, small.cov[j, :size, :size], 20_000)
    curves = _expected(item, drawn, theta)
    inside = ((curves >= line.low) & (curves <= line.high)).mean(axis=0)
    assert inside == pytest.approx(np.full(3, 0.95), abs=0.012)  # 8 standard errors, because of curvature
    assert ((curves < line.low).mean(axis=0) > 0.01).all(), "on both sides"


def _expected(item: str, drawn: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """The curve of an item, or its expected share of 3 points, shape (draws, T)."""
    eta = drawn[:, :1] * theta + drawn[:, 1:2]
    if item == "s1":
        k = np.arange(4)
        p = np.exp(k * eta[:, :, None] + drawn[:, None, 2:])
        found: np.ndarray = (p * k).sum(axis=2) / p.sum(axis=2) / 3
        return found
    c = expit(drawn[:, 2:3]) if item == "i3" else 0.0
    return c + (1 - c) * expit(eta)


def test_probabilities_of_scores_add_up_to_1_and_lie_within_their_bands() -> None:
    chart = plots.item_curves(FIT, "s1", each_score=True)
    lines = parts(chart, Line)
    assert [line.name for line in lines] == ["score 0", "score 1", "score 2", "score 3"]
    assert np.sum([line.ys for line in lines], axis=0) == pytest.approx(np.ones(121))
    assert len({line.dash for line in lines}) == 4, "a print in grey says the same"
    for line in lines:
        assert (np.array(line.low) <= line.ys).all()
        assert (np.array(line.high) >= line.ys).all()


def test_probabilities_of_scores_0_and_1_add_up_to_1_with_mirrored_bands() -> None:
    wrong, right = parts(plots.item_curves(FIT, "i1", each_score=True), Line)
    assert np.add(wrong.ys, right.ys) == pytest.approx(np.ones(121))
    assert np.add(wrong.low, right.high) == pytest.approx(np.ones(121))


def test_items_without_errors_have_curves_without_bands() -> None:
    (line,) = parts(plots.item_curves(calibration(cov=np.full((4, 6, 6), np.nan)), "i1"), Line)
    assert line.low == []
    known = ItemParameters(("x",), np.ones(1), np.zeros(1), np.zeros(1), np.zeros((1, 2, 2)))
    (line,) = parts(plots.item_curves(known, "x", theta=[-1.0, 0.0, 1.0]), Line)
    assert line.low == pytest.approx(line.ys), "errors of 0"


def test_information_of_the_test_is_the_sum_over_items_and_gives_the_error() -> None:
    both = calibration().select([0, 1])
    picture = plots.test_information(both)
    (information,), (se,) = (parts(chart, Line) for chart in picture.charts)
    p = expit(A[:2] * (np.array(information.xs)[:, None] - B[:2]))
    assert information.ys == pytest.approx((A[:2] ** 2 * p * (1 - p)).sum(axis=1))
    known = dict(zip(information.xs, information.ys, strict=True))
    assert len(se.xs) > 40, "but for errors far above the least"
    assert se.ys == pytest.approx([known[theta] ** -0.5 for theta in se.xs])
    grey = parts(picture.charts[0], Boxes)[0]
    assert (grey.xs, grey.right) == (pytest.approx([-1.96], abs=1e-3), pytest.approx([1.96], abs=1e-3))


def test_most_informative_items_have_names_and_greatest_information_at_b() -> None:
    chart = plots.item_information(FIT, ["i1", "i2"])
    for line, a, b in zip(parts(chart, Line), A, B, strict=False):
        assert max(line.ys) == pytest.approx(a**2 / 4, rel=1e-3)  # of abilities 0.07 apart
        assert line.xs[int(np.argmax(line.ys))] == pytest.approx(b, abs=0.04)
    many = calibration()
    assert [line.name for line in parts(plots.item_information(many), Line)] == ["s1", "i2", "i1", "i3"]


def test_wright_map_has_persons_to_the_left_and_items_at_their_difficulty() -> None:
    theta = np.random.default_rng(2).normal(size=400)
    chart = plots.wright_map(FIT, theta)
    (points,), (boxes,), (names,) = (parts(chart, kind) for kind in (Points, Boxes, Names))
    assert points.ys == pytest.approx(B)
    assert min(points.xs) > 0
    assert max(boxes.right) == 0
    assert set(names.names) == set(ITEMS)
    assert parts(plots.wright_map(FIT), Boxes) == [], "the population is a line"


def test_names_of_a_wright_map_do_not_overlap() -> None:
    k = 40
    ids, no_error = tuple(f"item {j}" for j in range(k)), np.zeros((k, 2, 2))
    many = ItemParameters(ids, np.ones(k), np.linspace(-0.5, 0.5, k), np.zeros(k), no_error)
    (names,) = parts(plots.wright_map(many), Names)
    assert 0 < len(names.names) < k
    drawn = plots.wright_map(many).to_svg()
    assert all(f">{name}<" in drawn for name in names.names), "the drawing leaves none of them out"
    width = len(names.names[0]) * 5.2 / 290  # of the letters, as a share of the items' half of the chart
    assert min(names.xs) > 0, "names are right of their marks, and marks are right of the persons"
    assert max(names.xs) + width < 1


def test_wright_map_of_many_items_has_the_number_of_items_in_each_band() -> None:
    rng = np.random.default_rng(8)
    b = np.append(rng.normal(0, 0.5, 117), 4.0)
    ids = [f"item {k}" for k in range(118)]
    items = ItemParameters.from_frame({"item": ids, "a": [1.0] * 118, "b": b})
    chart = plots.wright_map(items, rng.normal(size=400))
    persons, bands = parts(chart, Boxes)
    (names,) = parts(chart, Names)
    counts = [int(name.removesuffix(" items")) for name in names.names if name.endswith("items")]
    named = [one for name in names.names if not name.endswith("items") for one in name.split(", ")]
    assert sum(counts) + len(named) == 118
    assert "item 117" in named  # the only item of its band
    at = {one: y for name, y in zip(names.names, names.ys, strict=True) for one in name.split(", ")}
    half = (bands.top[0] - bands.ys[0]) / 2
    assert all(abs(at[one] - b[ids.index(one)]) <= half + 1e-9 for one in named)
    assert max(persons.right) == 0 == min(bands.xs)
    widths = dict(zip(names.ys, names.xs, strict=True))
    assert max(widths.values()) == pytest.approx(0.7)
    assert all(f">{name}<" in chart.to_svg() for name in names.names)


def test_histogram_counts_finite_abilities_and_notes_the_number_left_out() -> None:
    theta = np.append(np.random.default_rng(3).normal(size=1000), [np.inf, -np.inf, np.nan])
    chart = plots.score_distribution(SimpleNamespace(theta=theta), FIT)  # type: ignore[arg-type]
    (bars,) = parts(chart, Boxes)
    assert sum(bars.top) == 1000
    assert chart.notes == ["3 without a finite θ"]
    population = next(line for line in parts(chart, Line) if line.name == "population of the fit")
    area = np.trapezoid(population.ys, population.xs) / (bars.right[0] - bars.xs[0])
    assert area == pytest.approx(1000, rel=0.01)  # except for the tails beyond the bars
    with pytest.raises(PsychometricsError, match="no ability is finite"):
        plots.score_distribution([np.nan])


def test_curves_of_two_groups_differ_by_the_change_of_difficulty() -> None:
    harder = replace(FIT, d=FIT.d - 0.6 * A)  # b is 0.6 higher
    one, other = parts(plots.dif_curves(FIT, harder, "i2", names=("women", "men")), Line)
    assert (one.name, other.name, one.dash != other.dash) == ("women", "men", True)
    assert np.interp(0.5, one.xs, one.ys) == pytest.approx(0.5, abs=1e-3)
    assert np.interp(1.1, other.xs, other.ys) == pytest.approx(0.5, abs=1e-3)


def linking_with(used: tuple[str, ...]) -> Any:
    return SimpleNamespace(slope=1.25, intercept=0.5, slope_se=0.02, intercept_se=0.03, anchors_used=used)


def test_linked_items_lie_on_the_line_and_dropped_anchors_are_named_crosses() -> None:
    old = FIT.rescaled(1.25, 0.5)
    moved = replace(old, d=old.d + np.array([0.0, 1.0, 0.0, 0.0]))
    picture = plots.linking(FIT, moved, linking_with(("i1", "i3", "s1")))
    for chart, slope, intercept in zip(picture.charts, (1.25, 0.8), (0.5, 0.0), strict=True):
        used, out = parts(chart, Points)
        assert np.array(used.ys) == pytest.approx(slope * np.array(used.xs) + intercept)
        (line,) = parts(chart, Line)
        assert line.ys == pytest.approx(slope * np.array(line.xs) + intercept)
        assert min(chart.y) <= min(line.ys)
        assert max(line.ys) <= max(chart.y), "the drawing does not bend it at an end of the axis"
        assert (out.name, out.shape, out.titles) == ("left out", "cross", ["i2"])
        assert parts(chart, Names)[0].names == ["i2"]


def test_drift_figure_has_a_row_per_item_with_interval_in_order_of_change() -> None:
    delta, se = np.array([0.1, -0.4, 0.9, np.nan]), np.array([0.1, 0.1, 0.2, np.nan])
    found: Any = SimpleNamespace(
        item_ids=ITEMS, delta_b=delta, delta_a=delta, se=np.stack([se, se], axis=1),
        severity=("none", "medium", "high", "none"),
    )  # fmt: skip
    chart = plots.drift(found)
    assert list(chart.y_names.values()) == ["i2", "i1", "i3"]
    shown = {part.name: part for part in parts(chart, Points)}
    assert shown["high drift"].xs == [0.9]
    assert (shown["high drift"].left, shown["high drift"].right) == (
        pytest.approx([0.9 - 1.96 * 0.2], abs=1e-4),
        pytest.approx([0.9 + 1.96 * 0.2], abs=1e-4),
    )
    assert len({part.shape for part in shown.values()}) == 3
    with pytest.raises(PsychometricsError, match="drift is drawn for a or b"):
        plots.drift(found, "c")  # type: ignore[arg-type]


def test_dif_figure_shows_differences_of_the_chosen_group_from_the_reference() -> None:
    wald = SimpleNamespace(
        groups=("x", "y", "z"), item_ids=ITEMS, q=np.array([0.5, 0.01, 0.5, np.nan]), se=np.full((2, 4, 2), 0.1),
        delta=np.arange(16.0).reshape(2, 4, 2),
    )  # fmt: skip
    found: Any = SimpleNamespace(attribute="letter", wald=wald, reason="")
    shown = {part.name: part.xs for part in parts(plots.dif_effects(found, "z"), Points)}
    assert shown == {"not certain": [9.0, 13.0, 15.0], "differs (q < 0.05)": [11.0]}
    with pytest.raises(PsychometricsError, match="no such focal group: 'x'; the groups are y, z"):
        plots.dif_effects(found, "x")
    with pytest.raises(PsychometricsError, match="letter could not be compared: too few"):
        plots.dif_effects(SimpleNamespace(attribute="letter", wald=None, reason="too few"))  # type: ignore[arg-type]


def test_items_that_do_not_fit_are_marked_and_named() -> None:
    found: Any = SimpleNamespace(
        infit=np.array([1.0, 1.3, 0.9, 1.0]), outfit=np.array([1.1, 1.6, 0.8, 1.0]),
        rmsd=np.array([0.01, 0.2, 0.01, 0.01]), rmsd_cutoff=np.full(4, 0.05),
    )  # fmt: skip
    chart = plots.item_fit(FIT, found)
    shown = {part.name: part.ys for part in parts(chart, Points)}
    assert shown["outfit, does not fit"] == [1.6]
    assert shown["infit"] == [1.0, 0.9, 1.0]
    assert parts(chart, Names)[0].names == ["i2"]
    with pytest.raises(PsychometricsError, match="3 items and fit statistics of 4"):
        plots.item_fit(FIT.select([0, 1, 2]), found)


def test_observed_proportions_lie_near_the_curve_of_the_simulated_item() -> None:
    rng = np.random.default_rng(4)
    k = 12
    a, b, theta = np.full(k, 1.3), np.linspace(-1.5, 1.5, k), rng.normal(size=3000)
    known = ItemParameters(tuple(f"i{j}" for j in range(k)), a, b, np.zeros(k), np.full((k, 2, 2), np.nan))
    scores = (rng.random((3000, k)) < expit(a * (theta[:, None] - b))).astype(float)
    chart = plots.item_curves(known, "i6", responses=Responses.from_wide(scores, known.item_ids))
    (points,), (line,) = parts(chart, Points), parts(chart, Line)
    expected = np.interp(points.xs, line.xs, line.ys)
    assert np.abs(np.array(points.ys) - expected).max() < 0.08  # four standard errors of 375 answers, .026
    assert (np.array(points.low) < points.ys).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.item_curves(FIT, "i9"), "no such item: 'i9'"),
        (lambda: plots.item_curves(FIT, ["i1", "i2"], each_score=True), "for one item"),
        (lambda: plots.item_curves(FIT, "i1", theta=[1.0, 0.0]), "increasing abilities"),
        (
            lambda: plots.item_curves(calibration_without("i1"), "i1"),
            "item i1 has no parameters.*every learner answered",
        ),
        (lambda: plots.wright_map(calibration_without(*ITEMS)), "no item has parameters"),
        (
            lambda: plots.linking(calibration_without(*ITEMS), FIT, linking_with(ITEMS)),
            "no item with parameters in common",
        ),
    ],
)
def test_bad_input_is_refused_with_the_item_and_the_remedy(call: Any, message: str) -> None:
    with pytest.raises(PsychometricsError, match=message):
        call()


def calibration_without(*items: str) -> Calibration:
    gone = np.isin(ITEMS, items)
    flags = tuple((Flag.ALL_CORRECT,) if is_gone else () for is_gone in gone)
    return calibration(a=np.where(gone, np.nan, A), d=np.where(gone, np.nan, -A * B), flags=flags)


def test_figures_have_svg_plotly_and_pickle_forms(tmp_path: Path) -> None:
    drawn = plots.item_curves(FIT, ["i1", "i2"]), plots.wright_map(FIT), plots.score_distribution([0.0, 1.0], FIT)
    for figure in (*drawn, plots.test_information(FIT)):
        root = ElementTree.fromstring(figure._repr_svg_())
        white = root[0]
        assert (white.get("fill"), white.get("width")) == ("white", root.get("viewBox").split()[2])  # type: ignore[union-attr]
        figure.save(tmp_path / "figure.svg")
        assert (tmp_path / "figure.svg").read_text(encoding="utf-8") == figure.to_svg()
        for chart in figure.charts if isinstance(figure, Picture) else [figure]:
            assert json.loads(json.dumps(chart.to_plotly()))["data"]
        assert pickle.loads(pickle.dumps(figure)) == figure
        assert len(repr(figure)) < 200


@pytest.mark.parametrize("draw", [plots.drift, plots.dif_effects, lambda found: plots.linking(FIT, FIT, found)])
def test_figure_of_another_result_is_refused_by_name(draw: Any) -> None:
    other = PersonScores(("p1",), np.array([1]), np.array([0.0]), np.array([0.5]), "eap", 0.5)
    with pytest.raises(PsychometricsError, match=r"draws the result of (find_drift|find_dif|link), got PersonScores"):
        draw(other)


def test_other_kinds_of_files_and_unknown_styles_are_refused(tmp_path: Path) -> None:
    for figure in (plots.wright_map(FIT), plots.test_information(FIT)):
        with pytest.raises(ValueError, match=r"must end with .svg, .png or .pdf, got 'figure.jpg'"):
            figure.save(tmp_path / "figure.jpg")
    chart = Chart((0, 1), (0, 1), "x", "y", "a chart")
    with pytest.raises(ValueError, match=r"colour must be one of blue, orange.*got 'red'"):
        chart.line([0], [0], "red")
    with pytest.raises(ValueError, match="shape must be one of circle"):
        chart.points([0], [0], shape="star")


def test_charts_need_neither_numpy_nor_markupsafe() -> None:
    code = "import sys; from irt_psychometrics.plots import Chart; Chart((0, 1), (0, 1), 'x', 'y', '').to_svg(); "
    code += "print({'numpy', 'markupsafe', 'plotly', 'matplotlib'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
