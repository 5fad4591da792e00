"""Responses from data frames of every kind: scores, choices, labels, and errors that name the place."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt

SAT12 = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[4] / "shared")) / "data"


def to_pandas(columns: dict[str, list[Any]]) -> Any:
    return pd.DataFrame(columns)


def to_polars(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("polars").DataFrame(columns, strict=False)


def to_lazy_polars(columns: dict[str, list[Any]]) -> Any:
    return to_polars(columns).lazy()


def to_pyarrow(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("pyarrow").table(columns)


def to_mapping(columns: dict[str, list[Any]]) -> Any:
    return columns


KINDS = {
    to_pandas: "pandas",
    to_polars: "polars",
    to_lazy_polars: "polars",
    to_pyarrow: "pyarrow",
    to_mapping: None,
}
Maker = Callable[[dict[str, list[Any]]], Any]


@pytest.mark.parametrize("make", KINDS)
def test_frames_of_every_kind_give_the_same_responses(make: Maker) -> None:
    x = irt.Responses.from_wide(make({"who": ["a", "b", "c"], "q1": [1, 0, None], "q2": [0.0, None, 2.0]}),
                                person="who", max_score={"q2": 2})  # fmt: skip
    assert (x.person.tolist(), x.item.tolist(), x.score.tolist()) == ([0, 0, 1, 2], [0, 1, 0, 1], [1, 0, 0, 2])
    assert (x.item_ids, x.person_ids, x.frame_kind) == (("q1", "q2"), ("a", "b", "c"), KINDS[make])
    assert x.n_categories.tolist() == [2, 3]


@pytest.mark.parametrize("make", KINDS)
def test_choices_are_scored_by_a_key_with_several_right_options(make: Maker) -> None:
    data = make({"q1": ["A", "B", "", None], "q2": [1, 3, 4, None], "q3": [1, 0, 1, 1]})
    x = irt.Responses.from_wide(data, key={"q1": "A", "q2": ["3", 4]})
    assert x.score.tolist() == [1, 0, 1, 0, 1, 0, 1, 1, 1]
    assert x.item.tolist() == [0, 1, 2, 0, 1, 2, 1, 2, 2]
    assert x.categories is None
    assert x.person_ids is None


@pytest.mark.parametrize("make", KINDS)
def test_long_and_wide_tables_give_the_same_responses(make: Maker) -> None:
    wide = irt.Responses.from_wide(make({"who": [7, 3], "q1": [1, None], "q2": [0, 1]}), person="who")
    rows = {"learner": [7, 3, 7, 3], "question": ["q1", "q2", "q2", "q1"], "points": [1, 1, 0, None]}
    long = irt.Responses.from_long(make(rows), person="learner", item="question", score="points")
    for name in ("person", "item", "score"):
        assert getattr(long, name).tolist() == getattr(wide, name).tolist()
    assert (long.item_ids, long.person_ids, long.n_persons) == (wide.item_ids, wide.person_ids, 2)


def test_matrices_are_read_with_maximum_scores_categories_or_a_key() -> None:
    matrix = np.array([[1.0, np.nan], [0.0, 2.0]])
    x = irt.Responses.from_wide(matrix, ["a", "b"], max_score={"b": 2})
    y = irt.Responses.from_wide(matrix, ["a", "b"], categories=[2, 3])
    assert x.score.tolist() == y.score.tolist() == [1, 0, 2]
    assert x.n_categories.tolist() == y.n_categories.tolist() == [2, 3]
    assert irt.Responses.from_wide(np.array([["A"], ["B"]]), key={"i1": "A"}).score.tolist() == [1, 0]


def test_labels_of_persons_keep_large_whole_numbers() -> None:
    """Floats represent whole numbers exactly only up to 2**53."""
    ids = [2**60 + 1, 2**60 + 2]
    for make in (to_pandas, to_polars, to_pyarrow):
        assert irt.Responses.from_wide(make({"id": ids, "q": [1, 0]}), person="id").person_ids == tuple(ids)


def test_labels_of_persons_are_kept_if_persons_are_selected() -> None:
    x = irt.Responses.from_wide({"id": ["a", "b", "c"], "q": [1, 0, 1]}, person="id")
    assert x.of_persons(np.array([0, 2])).person_ids == ("a", "c")
    assert x.of_items([0]).person_ids == x.person_ids


WIDE_ERRORS = [
    ({"q": [1, 3]}, {}, r"row 1: 3 is not a score of item q, .* 0 or 1\. If scores go up to 3, give max_score="),
    ({"q": [1, 0.5]}, {}, r"row 1: 0\.5 is not a score of item q.*a cell that was not seen is None, NaN or empty"),
    ({"q": [1, -1]}, {}, r"row 1: -1 is not a score"),
    ({"q": ["A", "B"]}, {}, r"row 0: 'A' is not a score of item q.*key=\{'q': the right option"),
    ({"q": [0, 3]}, {"max_score": 2}, r"row 1: 3 is not a score of item q, whose scores are whole numbers from 0 to 2"),
    ({"q": [0], "id": ["x"]}, {}, r"item id.*name it in person="),
    ({"q": [0, 1], "id": ["x", "x"]}, {"person": "id"}, r"person x is in rows 0 and 1; keep one of the rows"),
    ({"q": [0, 1], "id": ["x", None]}, {"person": "id"}, r"row 1 has no person in column 'id'"),
    ({"q": [0, 5], "id": ["x", "y"]}, {"person": "id"}, r"row 1 \(person y\): 5 is not a score"),
    ({"q": [0, 1]}, {"person": "id"}, r"no column 'id' for persons; the columns are q"),
    ({"q": [0, 1]}, {"item_ids": ["p"]}, r"no column 'p' for an item"),
    ({"q": [0, 1]}, {"key": {"Q": 1}}, r"no item of the key \(Q\) is among the items \(q\)"),
    ({"q": [0, 1]}, {"max_score": {"p": 2}}, r"max_score names p, not among the items"),
    ({"q": [0, 1]}, {"max_score": 0}, r"maximum score of q must be a whole number from 1 to 20, got 0"),
    ({"q": [0, 1]}, {"categories": [2]}, r"categories is for a matrix"),
]


@pytest.mark.parametrize(("columns", "options", "message"), WIDE_ERRORS)
def test_wide_tables_with_faults_are_refused_with_the_place(columns: Any, options: Any, message: str) -> None:
    with pytest.raises(irt.PsychometricsError, match=message):
        irt.Responses.from_wide(pd.DataFrame(columns), **options)


LONG = {"person": ["a", "b", "a"], "item": ["q", "q", "p"], "score": [1, 0, 1]}
LONG_ERRORS = [
    (LONG | {"item": ["q", "q", "q"]}, {}, r"person a answered item q in rows 0 and 2, with 1 and 1; keep one"),
    (LONG | {"score": [1, 7, 1]}, {}, r"row 1 \(person b\): 7 is not a score of item q"),
    (LONG | {"person": ["a", None, "a"]}, {}, r"row 1 has no person"),
    (LONG | {"item": ["q", None, "p"]}, {}, r"row 1 has no item"),
    (LONG, {"item_ids": ["q"]}, r"row 2 has item 'p', which is not among item_ids"),
    (LONG, {"score": "correct"}, r"no column 'correct' for scores; the columns are person, item, score"),
]


@pytest.mark.parametrize(("columns", "options", "message"), LONG_ERRORS)
def test_long_tables_with_faults_are_refused_with_the_place(columns: Any, options: Any, message: str) -> None:
    with pytest.raises(irt.PsychometricsError, match=message):
        irt.Responses.from_long(pd.DataFrame(columns), **options)


@pytest.mark.skipif(not (SAT12 / "sat12_key.csv").exists(), reason="the shared data are not here")
def test_sat12_choices_scored_by_their_key_match_the_scored_file() -> None:
    key = pd.read_csv(SAT12 / "sat12_key.csv").set_index("item")["key"].to_dict()
    choices = irt.Responses.from_wide(pd.read_csv(SAT12 / "sat12_raw_choices.csv"), person="person", key=key)
    scored = irt.Responses.from_wide(pd.read_csv(SAT12 / "sat12_scored_wide.csv"), person="person")
    assert choices.n_responses == 600 * 32
    assert (choices.score == scored.score).all()
    assert choices.person_ids == scored.person_ids
