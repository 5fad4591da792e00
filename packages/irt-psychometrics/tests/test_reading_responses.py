"""Responses from data frames of every kind: scores, choices, labels, and errors that name the place."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
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


@pytest.mark.parametrize("person", ["who", None])
def test_scores_have_the_index_of_a_filtered_frame(person: str | None) -> None:
    """A column of scores that is assigned to the frame belongs to the same persons."""
    df = pd.DataFrame({"q1": [0, 1, 1, 0, 1], "q2": [0, 0, 1, 1, 0], "q3": [0, 1, 1, 1, 0]})
    df["who"] = ["a", "b", "c", "d", "e"]
    some = df[df["q3"] + df["q1"] > 0].drop(columns=[] if person else ["who"])
    x = irt.Responses.from_wide(some, person=person)
    number_right = some[["q1", "q2", "q3"]].sum(axis=1)
    scores = irt.PersonScores(("",) * 4, np.full(4, 3), x.to_frame().groupby("person")["score"].sum().to_numpy(float),
                              np.ones(4), "ml", np.nan, x.frame_kind, x.frame_index)  # fmt: skip
    pd.testing.assert_series_equal(scores.to_frame()["theta"], number_right, check_names=False, check_dtype=False)
    assert x.person_ids == (("b", "c", "d", "e") if person else (1, 2, 3, 4))
    assert x.of_persons(np.array([1, 3])).frame_index.tolist() == [2, 4]
    assert scores.to_frame("polars")["theta"].to_list() == number_right.tolist()


INDEX = pd.DataFrame({"q1": [1, 0], "q2": [0, 1]})
INDEXES: list[tuple[Any, Any]] = [
    (INDEX, None),
    (INDEX.set_axis([5, 3]), (5, 3)),
    (INDEX.set_axis(["x", "x"]), None),
    (INDEX.set_axis(pd.Index(["ann", "bo"], name="who")), ("ann", "bo")),
    (INDEX.set_axis(pd.RangeIndex(2, name="who")), (0, 1)),
    (INDEX.set_axis(pd.MultiIndex.from_tuples([("s", 1), ("s", 2)])), ("('s', 1)", "('s', 2)")),
]


@pytest.mark.parametrize(("frame", "labels"), INDEXES)
def test_index_of_a_frame_labels_persons_if_it_is_named_or_not_a_count(frame: Any, labels: Any) -> None:
    x = irt.Responses.from_wide(frame)
    assert (x.item_ids, x.person_ids) == (("q1", "q2"), labels)
    assert x.frame_index.equals(frame.index)
    assert irt.Responses.from_json(x.to_json()) == x


def test_named_index_is_a_column_of_persons() -> None:
    frame = INDEX.set_axis(pd.Index(["ann", "ann"], name="who"))
    for person in (None, "who"):
        with pytest.raises(irt.PsychometricsError, match=r"person ann is in rows 0 and 1; keep one"):
            irt.Responses.from_wide(frame, person=person)
    with pytest.raises(irt.PsychometricsError, match=r"row 0 has no person in the index 'who'"):
        irt.Responses.from_wide(INDEX.set_axis(pd.Index([None, "ann"], name="who")))
    log = pd.DataFrame({"item": ["q1", "q2"], "score": [1, 0]}, index=frame.index)
    assert irt.Responses.from_long(log, person="who").person_ids == ("ann",)


def test_columns_may_have_whole_numbers_as_names() -> None:
    matrix = np.array([[1.0, 0.0, 2.0], [np.nan, 1.0, 0.0]])
    x = irt.Responses.from_wide(pd.DataFrame(matrix), max_score={2: 2})
    assert (x.item_ids, x.score.tolist()) == (("0", "1", "2"), [1, 0, 2, 1, 0])
    assert irt.Responses.from_wide(pd.DataFrame(matrix), [1, 0]).item_ids == ("1", "0")
    turned = pd.DataFrame(matrix.T, columns=["p", "q"]).T
    assert irt.Responses.from_wide(turned, key={2: 0}).score.tolist() == [1, 0, 0, 1, 1]
    named = irt.Responses.from_wide(pd.DataFrame(matrix + 5), person=2, key={0: 6, 1: 5})
    assert (named.item_ids, named.person_ids, named.score.tolist()) == (("0", "1"), (7, 5), [1, 1, 0])
    log = pd.DataFrame([["ann", "q1", 1], ["bo", "q1", 0]])
    assert irt.Responses.from_long(log, person=0, item=1, score=2).person_ids == ("ann", "bo")


def test_columns_with_one_name_are_refused() -> None:
    for frame in (pd.DataFrame([[1, 0]], columns=["q", "q"]), pd.DataFrame([[1, 0]], columns=["1", 1])):
        with pytest.raises(irt.PsychometricsError, match=r"two columns .*rename one of them"):
            irt.Responses.from_wide(frame)


CELLS: list[tuple[list[Any], Any]] = [
    ([1, 1.0, "1", " 1 ", True, None, "", float("nan")], [1, 1, 1, 1, 0]),
    ([2**53, 2**53 + 1, 7], [0, 0, 0]),
    (["A", "AB", "B", "A"], [0, 0, 0, 0]),
]


@pytest.mark.parametrize(("cells", "scores"), CELLS)
def test_equal_values_of_different_types_are_different_cells(cells: list[Any], scores: list[int]) -> None:
    """Cells are read once for each distinct value, and 1 == True in Python."""
    x = irt.Responses.from_wide(pd.DataFrame({"q": pd.Series(cells, dtype=object)}), key={"q": 1})
    assert x.score.tolist() == scores


def test_matrices_of_texts_are_read_like_frames() -> None:
    texts = np.array([["A", "BB", "BA"], ["", "B", "A"], ["AAA", "BB", " "]])
    key = {"i1": "A", "i2": "BB", "i3": ["BA", "A"]}
    matrix, frame = (irt.Responses.from_wide(table, key=key) for table in (texts, pd.DataFrame(texts, columns=[*key])))
    assert matrix == replace(frame, person_ids=None)
    assert matrix.score.tolist() == [1, 1, 1, 0, 1, 0, 1]


def test_data_without_rows_and_columns_are_refused_with_the_type() -> None:
    for data in ([1, 0], 5, [[1], [1, 0]], pd.Series([1, 0])):
        with pytest.raises(irt.PsychometricsError, match=rf"persons × items matrix; got {type(data).__name__}"):
            irt.Responses.from_wide(data)
    with pytest.raises(irt.PsychometricsError, match="no column with answers"):
        irt.Responses.from_wide({"who": ["a"]}, person="who")


@pytest.mark.parametrize("make", KINDS)
def test_choices_of_keyed_items_are_kept_beside_the_scores(make: Maker) -> None:
    wide = make({"who": ["a", "b", "c"], "q1": ["A", "", "C"], "q2": [1, 0, 1], "q3": [4, 10, None]})
    x = irt.Responses.from_wide(wide, person="who", key={"q1": "B", "q3": [4, 9]})
    rows = [("a", "q1", "A"), ("a", "q2", "1"), ("a", "q3", "4"), ("b", "q2", "0"), ("b", "q3", "10"), ("c", "q1", "C")]
    rows += [("c", "q2", "1")]
    log = make({name: [row[k] for row in rows] for k, name in enumerate(("person", "item", "score"))})
    y = irt.Responses.from_long(log, key={"q1": "B", "q3": [4, 9]})
    assert x == y
    assert x.choices.labels == (("A", "B", "C"), (), ("4", "9", "10"))
    assert x.choices.keys == (frozenset("B"), frozenset(), frozenset({"4", "9"}))
    assert x.choices.option.tolist() == [0, -1, 0, -1, 2, 2, -1]
    assert x.choices.option.itemsize == 1
    assert irt.Responses.from_wide(wide, ["q2"], person="who").choices is None


def test_choices_stay_with_responses_that_are_selected_or_renumbered() -> None:
    x = irt.Responses.from_wide(
        {"q1": ["A", None, "C"], "q2": ["D", "E", "D"], "q3": [1, 1, 0]}, key={"q1": "A", "q2": "D"}
    )

    def chosen(of: irt.Responses) -> set[tuple[int, str, str]]:
        own = zip(of.person.tolist(), of.item.tolist(), of.choices.option.tolist(), strict=True)
        return {(i, of.item_ids[j], of.choices.labels[j][k]) for i, j, k in own if k >= 0}

    every = {(0, "q1", "A"), (0, "q2", "D"), (1, "q2", "E"), (2, "q1", "C"), (2, "q2", "D")}
    assert chosen(x) == every
    assert chosen(x.of_items([2, 1])) == {row for row in every if row[1] == "q2"}
    assert chosen(x.of_rows(x.score == 1)) == {(0, "q1", "A"), (0, "q2", "D"), (2, "q2", "D")}
    assert chosen(x.of_persons(np.array([1, 2]))) == {(i - 1, *rest) for i, *rest in every if i > 0}
    assert chosen(x.renumber_persons(np.array([2, 0, 1], dtype=np.int32), 3)) == {
        ((i + 2) % 3, *rest) for i, *rest in every
    }
    assert chosen(x.among(["new", "q3", "q2", "q1"])) == every
    assert x.of_persons(np.array([1])).among(["q1", "q2", "q3", "new"]).choices.labels[3] == ()


@pytest.mark.parametrize("cells", [["A;C", "C;A", "A", "A;B;C", "A; C"], ["A,C", "C,A", "A", "B,A,C", "C , A"]])
def test_set_in_a_key_contains_all_options_to_choose(cells: list[str]) -> None:
    x = irt.Responses.from_wide({"q": cells}, key={"q": {"A", "C"}})
    assert x.score.tolist() == [1, 1, 0, 0, 1]
    assert x.choices.labels == (("A", "A;C", "A;B;C"),)
    assert x.choices.keys == (frozenset({"A;C"}),)


def test_list_in_a_key_contains_alternatives_which_may_be_sets() -> None:
    cells = ["A", "C", "A;C", "B", "C;A"]
    assert irt.Responses.from_wide({"q": cells}, key={"q": ["A", "C"]}).score.tolist() == [1, 1, 0, 0, 0]
    assert irt.Responses.from_wide({"q": cells}, key={"q": [{"A", "C"}, "B"]}).score.tolist() == [0, 0, 1, 1, 1]
    lists = to_polars({"q": [["A", "C"], ["C", "A"], ["A"], []]})
    assert irt.Responses.from_wide(lists, key={"q": {"A", "C"}}).score.tolist() == [1, 1, 0]
    places = irt.Responses.from_wide(
        {"q": ["Paris, France;Rome", "Rome;Paris, France"]}, key={"q": {"Rome", "Paris, France"}}
    )
    assert places.score.tolist() == [1, 1]


WIDE_ERRORS = [
    (
        {"id": range(1, 801)},
        {},
        r"row 1: 2 is not a score of item id.* id looks like an id or a row number.*person='id'",
    ),
    ({"id": [1041, 1007, 1023]}, {}, r"id looks like an id or a row number, because its 3 whole numbers all differ"),
    ({"q": [1, 99, 0, 99]}, {}, r"row 1: 99 is not .*If 99 means a missing answer, replace it by None or NaN"),
    ({"q": [1, 9, 0, 9]}, {}, r"If 9 means a missing answer, .*; if scores go up to 9, give max_score="),
    ({"q": [1, 2, 4, 99, 2]}, {}, r"row 1: 2 is not a score.*choices need"),
    ({"q": [1, 0, -1]}, {}, r"If -1 means a missing answer"),
    ({"q": [1, 2, 4, 3, 2]}, {}, r"row 1: 2 is not a score .*If scores go up to 4, give max_score="),
    ({"total": [30, 12, 12]}, {}, r"No item has a score above 20; leave the column out with item_ids="),
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


def test_ids_and_codes_are_not_called_maximum_scores() -> None:
    for cells in (range(1, 801), [1, 0, 99, 99], [5041, 5007, 5023]):
        with pytest.raises(irt.PsychometricsError) as raised:
            irt.Responses.from_wide({"q": [*cells]})
        assert not re.search("max_score", str(raised.value))


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


@pytest.mark.parametrize("make", KINDS)
def test_columns_that_are_not_items_are_left_out_with_a_warning(make: Maker) -> None:
    scores = np.random.default_rng(5).integers(0, 2, (40, 4))
    items = {f"q{j}": scores[:, j].tolist() for j in range(4)}
    others = {
        "total": scores.sum(axis=1).tolist(),
        "share": scores.mean(axis=1).round(2).tolist(),
        "complete": [1] * 40,
        "attempt": (1 + scores[:, 0]).tolist(),
        "number": [*range(40)][::-1],
    }
    with pytest.warns(irt.ItemWarning, match=r"total \(the sum of q0 … q3\), share \(the mean of q0 … q3\), complete"):
        x = irt.Responses.from_wide(make(items | others))
    assert x.item_ids == ("q0", "q1", "q2", "q3")
    named = irt.Responses.from_wide(items | {"total": others["total"]}, max_score={"total": 4})
    assert named.item_ids == ("q0", "q1", "q2", "q3", "total")
    assert irt.Responses.from_wide(items | {"complete": others["complete"]}, [*items, "complete"]).n_items == 5
