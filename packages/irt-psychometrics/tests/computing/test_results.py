"""Tests that each result pickles, survives a round trip to JSON, is short in a terminal, and has HTML and a frame."""

import json
import pickle
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt

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
    found = {
        "Responses": x,
        "Fit": f,
        "ItemTable": f.items,
        "PersonScores": f.score(x, "ml"),
        "FitStatistics": f.fit_statistics(x),
        "InformationTable": f.information(),
        "PersonFit": f.person_fit(x),
        "ScaleLink": irt.link(f, f),
        "ItemDrift": irt.find_drift(f, f),
        "ItemDif": irt.find_dif(x, half),
        "ModelComparison": irt.compare(irt.fit(x, "1pl"), f),
    }
    found["ItemDifferences"] = found["ModelComparison"].items
    found["FormFits"], found["ResidualCorrelations"] = found["FitStatistics"].m2, found["FitStatistics"].q3
    return found


NAMES = (
    *("Responses", "Fit", "ItemTable", "PersonScores", "FitStatistics", "InformationTable", "ScaleLink", "ItemDrift"),
    *("ItemDif", "ModelComparison", "ItemDifferences", "PersonFit", "FormFits", "ResidualCorrelations"),
)


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


@pytest.mark.parametrize("name", NAMES)
def test_result_survives_pickle_and_json(results: dict[str, Any], name: str) -> None:
    result = results[name]
    assert type(result) is getattr(irt, name)
    assert pickle.loads(pickle.dumps(result)) == result
    text = result.to_json()
    again = type(result).from_json(text)
    assert again == result
    assert again.to_json() == text
    assert again.to_frame().equals(result.to_frame())
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


@pytest.mark.parametrize("name", NAMES)
def test_result_is_short_in_a_terminal_and_whole_in_html(results: dict[str, Any], name: str) -> None:
    result = results[name]
    assert repr(result).startswith((f"<{name}: ", f"{name}("))
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
