"""Responses behave as a result: they survive JSON and pickle, have a frame of their answers, and HTML of their
items."""

import pickle
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import irt_psychometrics as irt

WIDE = {"who": ["ann", "bo", "cy"], "q1": [1, 0, 1], "q2": [0, None, 1], "<q3>": [None, None, None]}


@pytest.fixture
def x() -> irt.Responses:
    """Three persons with a missing answer, and an item without answers."""
    return irt.Responses.from_wide(pd.DataFrame(WIDE), person="who")


def with_all_fields() -> irt.Responses:
    """Scored items, hashes of persons, times, and labels that are numbers."""
    return irt.Responses(
        person=np.array([0, 0, 2], dtype=np.int32),
        item=np.array([0, 1, 1], dtype=np.int32),
        score=np.array([1, 3, 0], dtype=np.int8),
        n_persons=3,
        item_ids=("q1", "q2"),
        categories=np.array([2, 4]),
        key=np.array([7, 4_000_000_000, 9], dtype=np.uint32),
        at=np.array([1_700_000_000_000_000, 1_700_000_000_000_001, 5]),
        person_ids=(2**62, 5, 6),
        frame_kind="polars",
    )


def test_responses_equal_themselves_after_json_and_pickle(x: irt.Responses) -> None:
    matrix = irt.Responses.from_wide(np.array([[1, np.nan], [0, 1]]))
    for responses in (x, matrix, with_all_fields(), irt.Responses.from_wide(np.empty((0, 2)))):
        for again in (irt.Responses.from_json(responses.to_json()), pickle.loads(pickle.dumps(responses))):
            assert again == responses
            assert again.frame_kind == responses.frame_kind
            for name in ("person", "item", "score", "categories", "key", "at"):
                one, two = getattr(again, name), getattr(responses, name)
                assert (one is None and two is None) or one.dtype == two.dtype
            assert again.person.flags.writeable


def test_json_of_bad_responses_is_refused(x: irt.Responses) -> None:
    with pytest.raises(irt.PsychometricsError, match="person_ids must be 4 labels"):
        irt.Responses.from_json(x.to_json().replace('"n_persons": 3', '"n_persons": 4'))
    with pytest.raises(irt.PsychometricsError, match="holds a Responses; read it with Responses"):
        irt.Fit.from_json(x.to_json())


def test_every_field_but_the_kind_of_frame_counts_in_equality() -> None:
    responses = with_all_fields()
    assert replace(responses, frame_kind="pandas") == responses
    assert replace(responses, frame_kind=None) == responses
    changes: dict[str, Any] = {
        "person": np.array([0, 1, 2], dtype=np.int32),
        "item": np.array([0, 1, 0], dtype=np.int32),
        "score": np.array([1, 2, 0], dtype=np.int8),
        "item_ids": ("q1", "q3"),
        "categories": np.array([3, 4]),
        "key": None,
        "at": None,
        "person_ids": None,
    }
    for name, value in changes.items():
        assert replace(responses, **{name: value}) != responses, name


def test_frame_has_a_row_for_each_answer_and_can_be_read_again(x: irt.Responses) -> None:
    frame = x.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame.to_dict("list") == {
        "person": ["ann", "ann", "bo", "cy", "cy"],
        "item": ["q1", "q2", "q1", "q1", "q2"],
        "score": [1, 0, 0, 1, 1],
    }
    assert irt.Responses.from_long(frame, item_ids=x.item_ids) == x


def test_frame_in_polars_has_types_that_join_with_the_scores() -> None:
    frame = with_all_fields().to_frame()
    assert isinstance(frame, pl.DataFrame)
    assert frame.rows() == [(2**62, "q1", 1), (2**62, "q2", 3), (6, "q2", 0)]
    assert frame.schema == {"person": pl.Int64, "item": pl.String, "score": pl.Int64}
    unnamed = replace(with_all_fields(), person_ids=None).to_frame()
    assert unnamed["person"].to_list() == [0, 0, 2]
    assert unnamed.schema["person"] == pl.Int64


def cells(html: str) -> list[list[str]]:
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]


def test_html_has_a_row_for_each_item_and_names_the_size(x: irt.Responses) -> None:
    html = x._repr_html_()
    assert "<caption>3 persons × 3 items</caption>" in html
    assert "<dt>answers</dt><dd>5</dd>" in html
    assert "<dt>missing</dt><dd>4</dd>" in html
    assert cells(html) == [
        ["item", "answers", "missing", "facility"],
        ["q1", "3", "0", "0.667"],
        ["q2", "2", "1", "0.500"],
        ["&lt;q3&gt;", "0", "3", ""],
    ]


def test_html_of_scored_items_has_their_mean_and_maximum() -> None:
    assert cells(with_all_fields()._repr_html_()) == [
        ["item", "answers", "missing", "mean", "max_score", "facility"],
        ["q1", "1", "2", "1.000", "1", "1.000"],
        ["q2", "2", "1", "1.500", "3", "0.500"],
    ]


def test_responses_are_short_in_a_terminal(x: irt.Responses) -> None:
    assert repr(x) == str(x) == "Responses(3 persons, 3 items, 5 responses)"


def test_responses_cannot_be_hashed(x: irt.Responses) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


WITHOUT = """
import sys
import irt_psychometrics as irt
irt.Responses.from_wide({"q1": [1, 0], "q2": [0, 1]})
loaded = {"html", "narwhals", "numba", "pandas"} & set(sys.modules)
assert not loaded, loaded
"""


def test_making_responses_imports_no_html_and_no_frames() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
