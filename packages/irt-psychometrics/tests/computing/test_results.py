"""Tests that each result pickles, survives a round trip to JSON, is short in a terminal, and has HTML and a frame."""

import json
import pickle
import pkgutil
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics import plots
from irt_psychometrics.adaptive import AdaptiveTest, ItemLimit, simulate_tests
from irt_psychometrics.assembly import FormDesign, assemble
from irt_psychometrics.classical import KeyEvidence, analyse_items, subscores
from irt_psychometrics.core.results import Result
from irt_psychometrics.drift import Published
from irt_psychometrics.equating import ScoreCounts, equate
from irt_psychometrics.fitting import anchors_from
from irt_psychometrics.itemfit import fit_options
from irt_psychometrics.plots import Chart
from irt_psychometrics.plots.axes import Points
from irt_psychometrics.scoring import Classification, ScoreScale, ScoreTable

N = 600
NAMES_OF_ITEMS = ["<b>q0</b>", *(f"q{j}" for j in range(1, 9))]
ITEMS = irt.ItemParameters.from_frame(
    {"item": NAMES_OF_ITEMS, "a": np.linspace(0.8, 1.6, 9), "b": np.linspace(-1.5, 1.5, 9)}
)
RNG = np.random.default_rng(1)
DATA = irt.simulate_responses(ITEMS, RNG.normal(size=N), random_state=RNG).score.reshape(N, 9)
COLUMNS = {"person": [f"p{k}" for k in range(N)], **dict(zip(ITEMS.item_ids, DATA.T.tolist(), strict=True))}


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    x = irt.Responses.from_wide(pd.DataFrame(COLUMNS), person="person")
    f = irt.fit(x)
    half = np.arange(N) % 2
    found = [
        x,
        f,
        f.items,
        f.score(x, "ml"),
        f.fit_statistics(x),
        f.information(),
        irt.link(f, f),
        irt.find_drift(f, f),
        irt.find_dif(x, half),
        irt.compare(irt.fit(x, "1pl"), f),
        analyse_items(x),
        subscores(DATA, list("aaaabbbbb")),
        KeyEvidence.start(["A"], 1).update(["A", "B", "C"], [0.5, -1.0, 0.2]),
        Classification.from_abilities(np.linspace(-2, 2, 50), np.full(50, 0.4), [0.0]),
        ScoreTable.from_values(np.array([0.0, 0.5, 1.5]), np.array([0.3, np.nan, 0.3]), ScoreScale(10, 50)),
    ]
    limits = ItemLimit("middle", tuple(ITEMS.item_ids[3:6]), 1, 2)
    test = AdaptiveTest(max_items=4, max_se=0.8, cut=0.0, limits=(limits,), testlets=(("q7", "q8"),))
    design = FormDesign(forms=2, min_items=3, max_items=4, theta=(-0.5, 0.5), objective="maximum", limits=(limits,))
    counts = ScoreCounts.from_scores(DATA.sum(axis=1), DATA[:, :4].sum(axis=1), max_score=9, max_second=4)
    counts = counts.presmoothed(3, 2, 1, possible=np.add.outer(np.arange(10), -np.arange(5)) >= 0)
    found += [f.person_fit(x), simulate_tests(ITEMS, test, 40, mean=0.0, sd=1.0), assemble(ITEMS, design), counts]
    found += [found[4].m2, found[4].q3]
    found += [equate(counts, counts, adjustment="chained"), found[10].options, found[10].forms[0], found[9].items]
    chosen = np.where(DATA == 1, "A", RNG.choice(["B", "C"], DATA.shape))
    choices = dict(zip(ITEMS.item_ids, chosen.T.tolist(), strict=True))
    found.append(fit_options(irt.Responses.from_wide(choices, key=dict.fromkeys(choices, "A"))))
    rng = np.random.default_rng(3)
    z = rng.normal(size=(N, 3)) @ [[1] * 9, [1] * 4 + [0] * 5, [0] * 4 + [1] * 5]
    right = (rng.logistic(size=z.shape) < z).astype(int).T.tolist()
    y = irt.Responses.from_wide(pd.DataFrame(dict(zip(ITEMS.item_ids, right, strict=True))))
    topics = irt.Dimensions.bifactor(dict(zip(ITEMS.item_ids, ["<b>a</b>"] * 4 + ["b"] * 5, strict=True)))
    several = irt.fit(y, dimensions=topics)
    found += [topics, several, several.score(y), several.dimensionality(y)]
    labels = pd.DataFrame({"<b>group</b>": np.where(half, "<b>a</b>", "b")})
    regression = irt.latent_regression(x, f, labels)
    found += [regression, regression.plausible_values(3)]
    anchors = anchors_from(f)
    found += [ITEMS, f.calibration, irt.link(f, f).linking, anchors, Published.from_anchors(anchors)]
    return {type(result).__name__: result for result in found}


def result_classes() -> dict[str, type[Result]]:
    """Return the result classes among the names in `__all__` of the package and its modules."""
    names = ("", *(f".{module.name}" for module in pkgutil.iter_modules(irt.__path__) if module.name != "__main__"))
    modules = [pkgutil.resolve_name(f"irt_psychometrics{name}") for name in names]
    public = (getattr(module, name) for module in modules for name in getattr(module, "__all__", ()))
    return {own.__name__: own for own in public if isinstance(own, type) and issubclass(own, Result)}


CLASSES = result_classes()
NAMES = sorted(CLASSES)


class Balanced(HTMLParser):
    """Parser that raises if a closing tag does not match the open tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_public_result_class_is_tested(results: dict[str, Any]) -> None:
    assert sorted(results) == NAMES, "add an example of each public result class to the fixture `results`"


@pytest.mark.parametrize("name", NAMES)
def test_result_survives_pickle_and_json(results: dict[str, Any], name: str) -> None:
    result = results[name]
    assert type(result) is CLASSES[name]
    assert pickle.loads(pickle.dumps(result)) == result
    text = result.to_json()
    again = type(result).from_json(text)
    assert again == result
    assert again.to_json() == text
    assert again.to_frame().equals(result.to_frame())
    if any(field.name == "frame_kind" for field in fields(result)):
        assert (again == replace(result, frame_kind="pyarrow")) is True  # the kind of frame is no content
    assert (again != result) is False
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


@pytest.mark.parametrize("name", NAMES)
def test_result_is_short_in_a_terminal_and_whole_in_html(results: dict[str, Any], name: str) -> None:
    result = results[name]
    assert repr(result).startswith((f"<{name}: ", f"{name}("))
    assert len(repr(result)) < 500
    assert all(len(line) < 200 for line in repr(result).splitlines())
    html = result._repr_html_()
    assert Balanced(html).open == []
    assert "<b>" not in html
    assert re.search(r'<th scope="col"', html)
    assert "nan" not in re.sub("<[^>]*>", "", html).lower()
    assert html.count("<tr>") <= 63


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_of_the_callers_library_or_of_the_named_library(results: dict[str, Any], name: str) -> None:
    frame = results[name].to_frame()
    assert isinstance(frame, pd.DataFrame)
    arrow = results[name].to_frame("pyarrow")
    assert type(arrow).__module__.startswith("pyarrow")
    assert arrow.column_names == list(frame.columns)
    assert arrow.num_rows == len(frame)


@pytest.mark.parametrize("module", ["pandas", "polars", "pyarrow"])
def test_fits_of_every_frame_library_are_equal_and_return_its_frames(results: dict[str, Any], module: str) -> None:
    native = pytest.importorskip(module)
    make = native.table if module == "pyarrow" else native.DataFrame
    x = irt.Responses.from_wide(make(COLUMNS), person="person")
    f = irt.fit(x)
    expected = native.Table if module == "pyarrow" else native.DataFrame
    for result in (f, f.items, f.score(x), f.information()):
        assert isinstance(result.to_frame(), expected)
        assert isinstance(type(result).from_json(result.to_json()).to_frame(), expected)
    assert (x, f, f.items) == (results["Responses"], results["Fit"], results["Fit"].items)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("SimulatedTests", {"theta": np.zeros(40)}),
        ("AssembledForms", {"bound": -1.0}),
        ("ScoreCounts", {"counts": np.ones((10, 5)), "possible": None}),
        ("FormStatistics", {"omega": np.nan}),
        ("ItemAnalysis", {"rest": np.zeros(N)}),
    ],
)
def test_results_with_different_arrays_are_unequal(results: dict[str, Any], name: str, change: dict[str, Any]) -> None:
    assert (results[name] == replace(results[name], **change)) is False


def test_frames_of_designs_have_a_row_per_test_item_and_score(results: dict[str, Any]) -> None:
    tests, forms, counts = (results[name] for name in ("SimulatedTests", "AssembledForms", "ScoreCounts"))
    simulated, assembled, counted = (result.to_frame("pandas") for result in (tests, forms, counts))
    assert simulated["passes"].tolist() == tests.passes.tolist()
    assert set(simulated["stopped"]) <= {"max-items", "max-se", "classified", "no-item"}
    assert [*assembled.groupby("form")["item"].agg(tuple)] == [*forms.forms]
    assert counted.groupby("score")["n"].sum().tolist() == np.bincount(DATA.sum(axis=1), minlength=10).tolist()
    assert (counted["score"] >= counted["second_score"]).loc[counted["probability"] > 0].all()
    assert results["FormStatistics"].to_frame("pandas")["alpha"].tolist() == [results["FormStatistics"].alpha]


def drawn(chart: Chart) -> dict[str, float]:
    """Return the value that a chart with a row per item shows for each item."""
    points = [part for part in chart.parts if isinstance(part, Points)]
    return {chart.y_names[y]: x for part in points for x, y in zip(part.xs, part.ys, strict=True)}


def test_results_draw_their_own_numbers(results: dict[str, Any]) -> None:
    drift, dif, link = (results[name] for name in ("ItemDrift", "ItemDif", "ScaleLink"))
    assert drawn(drift.plot()) == dict(zip(drift.item_ids, drift.delta_b, strict=True))
    assert drawn(drift.plot("a")) == dict(zip(drift.item_ids, drift.delta_a, strict=True))
    assert drawn(dif.plot("1")) == dict(zip(dif.item_ids, dif.delta_b, strict=True))
    assert plots.drift(drift) == drift.plot()
    assert plots.dif_effects(dif) == dif.plot("1")
    with pytest.raises(irt.PsychometricsError, match="no such focal group: '0'; the groups are 1"):
        dif.plot("0")
    with pytest.raises(irt.PsychometricsError, match="draws the result of find_drift, got ItemDif"):
        plots.drift(dif)
    for chart in link.plot().charts:
        (points,) = (part for part in chart.parts if isinstance(part, Points))
        assert points.xs == pytest.approx(points.ys), "a fit is linked to itself"
        assert points.titles == [*link.item_ids]


def test_link_of_two_fits_is_drawn_with_intervals_of_both(results: dict[str, Any]) -> None:
    old, x = results["Fit"], results["Responses"]
    new = irt.fit(x.of_persons(np.arange(0, N, 2)))
    link = irt.link(new, old)
    bare, whole = link.plot(), plots.linking(new, old, link)
    assert whole.title == bare.title
    for plain, chart in zip(bare.charts, whole.charts, strict=True):
        without, points = (next(part for part in of.parts if isinstance(part, Points)) for of in (plain, chart))
        assert without.xs == pytest.approx(points.xs)
        assert without.ys == pytest.approx(points.ys)
    places = [old.item_ids.index(item) for item in points.titles]
    assert np.subtract(points.right, points.left) == pytest.approx(2 * 1.959964 * new.items.a_se[places])
    assert np.subtract(points.high, points.low) == pytest.approx(2 * 1.959964 * old.items.a_se[places])


def test_figures_of_fits_scores_and_information(results: dict[str, Any]) -> None:
    f, scores, information = (results[name] for name in ("Fit", "PersonScores", "InformationTable"))
    assert f.plot("q1", "q3") == plots.item_curves(f.calibration, ["q1", "q3"])
    assert f.plot("q1", responses=results["Responses"]).parts[-1].name == "observed"
    assert f.plot(scores=scores) == plots.wright_map(f.calibration, scores.theta)
    assert scores.plot() == plots.score_distribution(scores.theta)
    first, second = (chart.parts[0] for chart in information.plot().charts)
    assert first.ys == pytest.approx(information.test)
    assert second.ys == pytest.approx(information.se[: len(second.ys)])
    with pytest.raises(irt.PsychometricsError, match="increasing abilities"):
        f.information([0.0]).plot()
    statistics = results["FitStatistics"]
    infit = plots.item_fit(f.calibration, statistics).parts[1]
    assert infit.ys == pytest.approx(statistics.items["infit"])


def test_results_with_different_numbers_are_unequal(results: dict[str, Any]) -> None:
    assert results["Fit"] != results["ItemTable"]
    assert results["Fit"].information([0.0]) != results["Fit"].information([0.1])
    assert results["Fit"].information([0.0]) == results["Fit"].information([0.0])


def test_foreign_json_is_refused_with_the_remedy(results: dict[str, Any]) -> None:
    for text in ("[1]", "{}", "no"):
        with pytest.raises(irt.PsychometricsError, match="read the text that to_json"):
            irt.Fit.from_json(text)
    with pytest.raises(irt.PsychometricsError, match="holds a ItemTable; read it with ItemTable"):
        irt.Fit.from_json(results["ItemTable"].to_json())
    later = json.loads(results["ItemTable"].to_json()) | {"version": 99}
    with pytest.raises(irt.PsychometricsError, match="version 99 and this release reads 1"):
        irt.ItemTable.from_json(json.dumps(later))
    planted = {"format": "irt-psychometrics", "version": 1, "result": {"$record": "Popen", "fields": {}}}
    with pytest.raises(irt.PsychometricsError, match="not JSON of a result"):
        irt.Fit.from_json(json.dumps(planted))


def test_unknown_kinds_of_frames_are_refused(results: dict[str, Any]) -> None:
    with pytest.raises(irt.PsychometricsError, match=r"kind 'excel'.*pandas, polars, pyarrow"):
        results["ItemTable"].to_frame("excel")


def test_long_tables_show_their_first_and_last_rows(results: dict[str, Any]) -> None:
    html = results["PersonScores"]._repr_html_()
    assert "… 540 more rows; to_frame() has all of them" in html
    assert '<td class="irt-text">p599</td>' in html
