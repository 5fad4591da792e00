"""Scoring of imported answers: points, keys and maximum scores, mappings of columns, and cleaning of rows."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from irt_assets.intake.cells import as_text
from irt_assets.intake.clean import CleanedBatch, Cleaner, Columns, Limits
from irt_assets.intake.ingest import AnswerSource
from irt_assets.intake.mapping import (
    Mapping,
    MatrixMapping,
    bind_attempts,
    load_mapping,
    presets,
)
from irt_assets.intake.matrix import item_columns
from irt_assets.intake.readers import open_source
from irt_assets.intake.report import ImportReport, ignore_rows
from irt_assets.intake.scoring import (
    AsGiven,
    AsRecorded,
    ByKey,
    FromPoints,
    Scoring,
    max_scores_of,
    read_key,
    scoring_of,
)
from irt_assets.intake.sources import Batch
from irt_psychometrics.cells import ByPattern, MaxScores, codes_by_column
from resources.failures import PermanentFailure
from tests.helpers.pictures import Picture
from tests.helpers.sentences import refusal

LIMITS = Limits(0, 2**60, "UTC", 0)


def read(
    folder: Path, text: str, scoring: Scoring, mapping: str | Path = "auto", names: tuple[str, ...] = ("correct",)
) -> tuple[dict[tuple[str, str], Any], ImportReport]:
    """Import a log. Returns the value of `names` by learner and item (a tuple if there are several), and the report."""
    path = folder / "log.csv"
    path.write_text(text)
    found: dict[tuple[str, str], Any] = {}
    report = ImportReport()
    given = AnswerSource(open_source(path), load_mapping(mapping), date(2026, 7, 1), scoring)
    for _, answers in given.answers(LIMITS, report, ignore_rows, scoring):
        columns = (answers[name].to_pylist() for name in ("user_id", "item_id", *names))
        for user, item, *cells in zip(*columns, strict=True):
            found[user, item] = cells[0] if len(names) == 1 else tuple(cells)
    return found, report


MATRIX = "person,i1,i2,gender\nann,0,4,f\nbob,1,2,m\ncid,1,0,f\ndan,0,,f\n"
LIST = "user_id,item_id,correct\nann,i1,0\nbob,i1,1\ncid,i1,1\nann,i2,4\nbob,i2,2\ncid,i2,0\n"


CHOICES = "user_id,item_id,correct\n" + "".join(f"u{n},q{n % 3},{n // 3 % 3 + 1}.0\n" for n in range(180))
HALVES = "user_id,item_id,correct\n" + "".join(f"u{n},i,{(0, 0.5, 1)[n % 3]}\n" for n in range(30))
ROWS = ["user_id,item_id,correct", *(f"u{n},i{n % 10},{n % 2}" for n in range(1_000))]
REFUSED: dict[str, tuple[str, Scoring]] = {
    "points in a matrix": (MATRIX, AsGiven()),
    "points in a list": (LIST, AsGiven()),
    "up to 3 points of an item": (MATRIX.replace("bob,1,2", "bob,1,1").replace("ann,0,4", "ann,0,3"), AsGiven()),
    "points of one of ten items": ("\n".join([*ROWS, "u1001,i0,2", "u1002,i0,3"]), AsGiven()),
    "scores alone": ("person,e1,e2\nann,4,0\nbob,0,2\ncid,3,2\n", AsGiven()),
    "partial credit": (HALVES, AsGiven()),
    "choices without a key": ("person,i1,i2,a ge\nann,A,3,20\nbob,B,3,30\ncid,,1,40\n", AsGiven()),
    "a key for answers that are scored": (LIST, ByKey({"i1": "A"})),
    "keys that nobody chose": (CHOICES, ByKey(dict.fromkeys(("q0", "q1", "q2"), "2"))),
    "a key that nobody chose": (CHOICES, ByKey({"q0": "2.0", "q1": "2", "q2": "1.0"})),
    "a mark that nobody reaches": (MATRIX, FromPoints(5)),
}


def test_file_is_refused_as_a_whole_with_the_remedies(tmp_path: Path, picture: Picture) -> None:
    """Points were once rejected one by one, and the other answers were calibrated. pandas writes a column of choices
    with gaps as 2.0, so that no answer of 1,080 matched the key, without a message."""
    mapping = mapping_file(tmp_path, "columns: {user_id: user_id, item_id: item_id, correct: correct}")
    places = {text: mapping if text is CHOICES else "auto" for text, _ in REFUSED.values()}
    found = {title: refusal(read, tmp_path, text, options, places[text]) for title, (text, options) in REFUSED.items()}
    picture(found, "files", folder=re.escape(str(tmp_path)))


OPTIONS: dict[str, tuple[Any, ...]] = {
    **{f"--max-score {given}": (max_scores_of, [given]) for given in ("q7", "q7=0", "q7=21", "=4", "q7=2.5")},
    **{
        f"--dichotomise {given}": (scoring_of, given, None, {})
        for given in ("at=0", "at=-1", "at=x", "at=", "half", "at=99", "at=nan")
    },
    "--dichotomise full --key key.csv": (scoring_of, "full", Path("key.csv"), {}),
    "--mapping datashoop": (load_mapping, "datashoop"),
}


def test_invalid_value_of_a_scoring_option_is_refused(picture: Picture) -> None:
    picture({title: refusal(*call) for title, call in OPTIONS.items()}, "options")


@pytest.mark.parametrize(
    ("scoring", "right"),
    [
        (FromPoints(2), {"ann": True, "bob": True, "cid": False}),
        (FromPoints(None, {"i1": 1, "i2": 4}), {"ann": True, "bob": False, "cid": False}),
        (FromPoints(0.5), {"ann": True, "bob": True, "cid": False}),
    ],
)
@pytest.mark.parametrize("text", [MATRIX, LIST])
def test_points_count_as_right_from_the_mark_on(
    tmp_path: Path, text: str, scoring: Scoring, right: dict[str, bool]
) -> None:
    found, report = read(tmp_path, text, scoring)
    assert {user: value for (user, item), value in found.items() if item == "i2"} == right
    assert not report.rejected


@pytest.mark.parametrize(("share", "refused"), [(4, True), (40, False)])
def test_matrix_with_many_marks_below_0_is_refused(tmp_path: Path, share: int, refused: bool) -> None:
    text = "id,q1,q2\n" + "".join(f"p{k},{k % 2},{k // 2 % 2 if k % share else -1}\n" for k in range(80))
    if refused:
        with pytest.raises(PermanentFailure, match=r"(?s)20 scores lie from -1 to below 0.*--suggest writes"):
            read(tmp_path, text, AsGiven())
    else:
        assert read(tmp_path, text, AsGiven())[1].rejected == {"bad_score": 2}


@pytest.mark.parametrize("shape", ["matrix", "list"])
def test_values_of_single_items_are_replaced(tmp_path: Path, shape: str) -> None:
    mapping = tmp_path / "own.yaml"
    if shape == "matrix":
        rules, text = "columns: {user_id: id}\nwide: {items: 'q*'}", "id,q1,q2\nann,1,1\nbob,2,0\n"
    else:
        rules = "columns: {user_id: id, item_id: item, correct: x}"
        text = "id,item,x\nann,q1,1\nann,q2,1\nbob,q1,2\nbob,q2,0\n"
    mapping.write_text(rules + "\nitem_values: {q1: {1: 0, 2: 1}}\n")
    answers, _ = read(tmp_path, text, AsGiven(), mapping)
    assert answers == {("ann", "q1"): False, ("ann", "q2"): True, ("bob", "q1"): True, ("bob", "q2"): False}


def test_first_filled_column_of_results_counts(tmp_path: Path) -> None:
    mapping = tmp_path / "own.yaml"
    rules = {
        "columns": {"user_id": "who", "item_id": "item", "score": ["manual", "auto"]},
        "null_values": ["null"],
        "max_scores": {"q1": 4},
    }
    mapping.write_text(yaml.safe_dump(rules))
    text = "who,item,manual,auto\nann,q1,3.0,0\nbob,q1,null,1\nann,q2,,1\nbob,q2,0,1\n"
    answers, _ = read(tmp_path, text, AsGiven(), mapping, ("score",))
    assert answers == {("ann", "q1"): 3, ("bob", "q1"): 1, ("ann", "q2"): 1, ("bob", "q2"): 0}


def test_single_score_above_1_rejects_only_its_row(tmp_path: Path) -> None:
    assert read(tmp_path, "\n".join([*ROWS, "u1001,i0,2"]), AsGiven())[1].rejected == {"bad_score": 1}


@pytest.mark.parametrize("text", [MATRIX, LIST, LIST.replace("correct", "score")])
def test_scores_are_stored_if_the_import_or_the_bank_gives_their_maximum(tmp_path: Path, text: str) -> None:
    expected = {("ann", "i2"): (4, True), ("bob", "i2"): (2, False), ("cid", "i2"): (0, False)}
    for maxima in (MaxScores(by_pattern={"i2": 4}), MaxScores(by_pattern={"i*": 4}), MaxScores({"i2": 4})):
        if maxima.by_item and text is LIST:
            with pytest.raises(PermanentFailure, match="item i2 has scores up to 4"):
                read(tmp_path, text, AsGiven(maxima))
            continue
        found, report = read(tmp_path, text, AsGiven(maxima), names=("score", "correct"))
        assert {key: value for key, value in found.items() if key[1] == "i2"} == expected
        assert found["bob", "i1"][1] is (maxima["i1"] == 1)
        assert not report.rejected


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ("s,true,", (None, True)),
        ("s,false,", (None, False)),
        ("s,,3", (3, False)),
        ("s,true,4", (4, True)),
        ("s,0,2.0", (2, False)),
        ("s,,", (None, None)),
        ("s,true,3", "score_contradicts"),
        ("s,false,4", "score_contradicts"),
        ("s,,5", "score_above_max"),
        ("s,,-1", "bad_score"),
        ("s,,1.5", "bad_score"),
        ("s,,x", "bad_score"),
        ("s,,true", "bad_score"),
        ("s,,2.0000000001", "bad_score"),
        ("i,,1", (1, True)),
        ("i,,2", "max_score_unknown"),
        ("i,true,0", "score_contradicts"),
    ],
)
def test_row_is_rejected_if_its_score_contradicts_its_correctness_or_maximum(
    tmp_path: Path, row: str, outcome: object
) -> None:
    """The other 300 rows are valid, so that the file is not refused as a whole."""
    others = "".join(f"u{n},i,1,\n" for n in range(300))
    text = f"user_id,item_id,correct,score\n{others}one,{row}\n"
    found, report = read(tmp_path, text, AsGiven(MaxScores({"s": 4})), names=("score", "correct"))
    if isinstance(outcome, str):
        assert report.rejected == {outcome: 1}
    else:
        assert found["one", row[0]] == outcome


def test_shares_become_whole_scores_by_the_mappings_denominator(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {user_id: u, item_id: q, score: share}\ndenominator: 3\nmax_scores: {q1: 3, 'p*': 3}")
    text = "u,q,share\nann,q1,0.3333333\nbob,q1,1\ncid,q1,0\ndan,p7,0.5\n"
    found, report = read(tmp_path, text, AsGiven(), mapping, names=("score", "correct"))
    assert found == {("ann", "q1"): (1, False), ("bob", "q1"): (3, True), ("cid", "q1"): (0, False)}
    assert report.rejected == {"bad_score": 1}


@pytest.mark.parametrize(
    "maxima", [MaxScores({"e1": 4}), MaxScores(by_pattern={"e1": 4}), MaxScores(by_pattern={"e*": 4})]
)
def test_invalid_score_in_a_scored_column_rejects_only_its_cell(tmp_path: Path, maxima: MaxScores) -> None:
    """The whole column was once omitted without a message."""
    cells = ["4", "2", "1", "3", "2", "5", "-1", "1.5", "x"]
    text = "person,i1,e1\n" + "".join(f"u{n},{n % 2},{cell}\n" for n, cell in enumerate(cells))
    found, report = read(tmp_path, text, AsGiven(maxima), names=("score",))
    assert [found.get((f"u{n}", "e1")) for n in range(9)] == [4, 2, 1, 3, 2, None, None, None, None]
    assert report.rejected == {"score_above_max": 1, "bad_score": 3}


def test_names_have_precedence_over_patterns_and_options_over_the_mapping(tmp_path: Path) -> None:
    assert MaxScores(by_pattern={"*": 4, "q1": 2, "q*": 3})["q1"] == 2
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {user_id: u, item_id: q, score: s}\nmax_scores: {'q*': 2, q2: 1}")
    given = AsGiven(MaxScores(by_pattern={"*": 4}))
    found, report = read(tmp_path, "u,q,s\nann,q1,4\nann,q2,1\n", given, mapping, names=("correct",))
    assert (found, dict(report.rejected)) == ({("ann", "q1"): True, ("ann", "q2"): True}, {})


def test_choices_in_a_matrix_are_scored_by_a_key(tmp_path: Path) -> None:
    text = "person,i1,i2,age\nann,A,3,20\nbob,B,3,30\ncid,,1,40\n"
    key = tmp_path / "key.csv"
    key.write_text("item,key,note\ni1,A,\ni2,3,\ni3,C,\n")
    found, _ = read(tmp_path, text, ByKey(read_key(key)))
    assert found == {
        ("ann", "i1"): True,
        ("ann", "i2"): True,
        ("bob", "i1"): False,
        ("bob", "i2"): True,
        ("cid", "i2"): False,
    }


def test_codes_count_as_no_answer_only_if_all_columns_of_scores_are_empty(tmp_path: Path) -> None:
    """Inspera writes null as the manual mark of questions that are scored automatically."""
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {user_id: u, item_id: q, correct: [manual, auto]}\nnull_values: {'*': ['null']}")
    text = "u,q,manual,auto\nann,q1,null,1\nbob,q1,0,1\ncid,q1,null,null\ndan,q1,null,\neve,q1,,\n"
    found, report = read(tmp_path, text, AsGiven(), mapping, names=("correct",))
    assert [found[name, "q1"] for name in ("ann", "bob", "cid")] == [True, False, None]
    assert any(note.endswith("counted as no answer: 1 empty, 2 × 'null'") for note in report.notes)


@pytest.mark.parametrize("ours", ["response", "correct"])
def test_choices_in_a_list_are_scored_by_a_key_and_stored(tmp_path: Path, ours: str) -> None:
    """EdNet's logs have a column of options, and the key is in a separate table."""
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(f"columns: {{user_id: u, item_id: q, {ours}: chosen}}")
    text = "u,q,chosen\nann,q1,a\nbob,q1,b\ncid,q1,\nann,q2,c\nbob,q3,a\n"
    found, report = read(tmp_path, text, ByKey({"q1": "a", "q2": "d"}), mapping, names=("correct", "response"))
    assert found == {
        ("ann", "q1"): (True, "a"),
        ("bob", "q1"): (False, "b"),
        ("cid", "q1"): (None, None),
        ("ann", "q2"): (False, "c"),
    }
    assert report.rejected == {"missing_key": 1}
    assert any(note.endswith("counted as no answer: 1 empty") for note in report.notes)


def test_list_with_scores_and_choices_is_scored_by_the_key_if_a_key_is_given(tmp_path: Path) -> None:
    text = "user_id,item_id,correct,response\nann,q1,1,a\nbob,q1,0,b\n"
    assert read(tmp_path, text, ByKey({"q1": "b"}))[0] == {("ann", "q1"): False, ("bob", "q1"): True}
    assert read(tmp_path, text, AsGiven())[0] == {("ann", "q1"): True, ("bob", "q1"): False}


NOTED: dict[str, tuple[str, Scoring, str]] = {
    "choices that no key names": (
        CHOICES,
        ByKey(dict.fromkeys(("q0", "q1", "q2"), "2.0")),
        "columns: {user_id: user_id, item_id: item_id, correct: correct}",
    ),
    "a misspelt item in the key, and a key that nobody chose": (
        "person,i1,i2,l0\nann,A,C,B\nbob,B,C,B\n",
        ByKey({"i1": "A", "i2": "D", "1O": "B"}),
        "",
    ),
    "columns without a difference, and shortened names of learners": (
        "person,q1,q2,attempt,complete\n2.026E+11,1,0,1,1\n2.027E+11,0,1,1,1\nann,1,1,1,\n",
        AsGiven(),
        "",
    ),
    "a column of ages beside choices": (
        "person,i1,i2,age\nann,A,3,20\nbob,B,3,30\ncid,,1,40\n",
        ByKey({"i1": "A", "i2": "3", "i3": "C"}),
        "",
    ),
    "values taken for no answer": (
        "person,i1,i2\nann,1,8\nbob,NA,8\ncid,,1\ndan,0,0\n,,\n",
        AsGiven(),
        "columns: {user_id: person}\nnull_values: [NA, 8]\nwide: {items: 'i*'}",
    ),
    "nothing to note": ("person,i1,i2\nann,0,1\nbob,1,0\n", AsGiven(), ""),
}


def test_report_notes_guesses_and_omitted_items_and_columns(tmp_path: Path, picture: Picture) -> None:
    """A misspelt name in the key once lost the answers to its item without a message. Columns `attempt` and `complete`
    of an export were imported as items, and five learners named 2.026E+11 were merged."""
    notes = {}
    for title, (text, scoring, mapping) in NOTED.items():
        found, report = read(tmp_path, text, scoring, mapping_file(tmp_path, mapping) if mapping else "auto")
        notes[title] = "\n".join([f"{sum(filter(None, found.values()))} of {len(found)} right", *report.notes])
    picture(notes, "notes", folder=re.escape(str(tmp_path)))


def test_code_for_a_missing_answer_applies_only_to_the_mappings_columns(tmp_path: Path) -> None:
    """9 was the code for no answer to an item and a score of a second item, so 9 of 60 real answers were lost."""
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "columns: {user_id: person}\nnull_values: {i1: [9], 'i?': [NA]}\nwide: {items: 'i*'}\n"
        "max_scores: {i1: 4, i2: 10}"
    )
    text = "person,i1,i2\nann,9,9\nbob,4,NA\ncid,NA,10\n"
    found, report = read(tmp_path, text, AsGiven(), mapping, names=("score",))
    assert found == {("ann", "i2"): 9, ("bob", "i1"): 4, ("cid", "i2"): 10}
    assert not report.rejected


def test_codes_of_an_option_are_added_to_the_mappings_codes(tmp_path: Path) -> None:
    """Even if the process has read rows by the same preset, whose patterns a copy of the mapping inherited."""
    names = ["person", "i1", "i2"]
    rows = pa.record_batch([pa.array([text]) for text in ("ann", "1", "NA")], names=names)
    assert Columns(bind_attempts(None, "pulled", names)).cells(rows, "i1").to_pylist() == ["1"]
    path = tmp_path / "log.csv"
    path.write_text("person,i1,i2\nann,8,8\nbob,NA,1\ncid,0,0\ndan,1,9\n")
    given = AnswerSource(open_source(path), None, date(2026, 7, 1), missing=codes_by_column(["8", "i2=9"]))
    rows = [row for _, answers in given.answers(LIMITS, ImportReport(), ignore_rows) for row in answers.to_pylist()]
    found = [(row["user_id"], row["item_id"]) for row in rows]
    assert found == [("bob", "i2"), ("cid", "i1"), ("cid", "i2"), ("dan", "i1")]


def test_rows_that_the_mapping_skips_are_ignored_when_points_are_counted(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {user_id: u, item_id: q, correct: c}\nskip_rows_where: {kind: [study]}")
    text = "u,q,c,kind\nann,i,9,study\nbob,i,9,study\ncid,i,1,test\n"
    assert read(tmp_path, text, AsGiven(), mapping)[1].rejected == {"skipped_by_mapping": 2}


KEYS = (
    *("item,option\ni1,A\n", "item,key\ni1,\n", "item,key\ni1\n", "item,option,score\ni1,A,1\ni1,A,0\n"),
    *("item,option,score\ni1,A,1\ni1,C,.5\n", "item,option,score\ni1,A,1\ni1,C,.49\n"),
)


def test_key_file_without_columns_or_with_contradictions_is_refused(tmp_path: Path, picture: Picture) -> None:
    path, messages = tmp_path / "key.csv", {}
    for text in KEYS:
        path.write_text(text)
        messages[" ".join(text.split())] = refusal(read_key, path)
    picture(messages, "keys", folder=re.escape(str(tmp_path)))


def test_key_with_several_right_options_and_checkboxes_scores_an_import(tmp_path: Path) -> None:
    """The chosen options are stored in one order, so that a later decision on the key finds them."""
    key = tmp_path / "key.csv"
    key.write_text("item,key\nq1,C;A\nq2,B\nq2,D\nq3,A\n")
    rule = ByKey(read_key(key))
    assert rule.keys == {"q1": "A;C", "q2": ["B", "D"], "q3": "A"}
    text = "id,q1,q2,q3\n" + "".join(
        f"s{k},{('A;C', 'C| A', 'A')[k % 3]},{'BDC'[k // 3 % 3]},{'AB'[k % 2]}\n" for k in range(60)
    )
    found, _ = read(tmp_path, text, rule, names=("correct", "response"))
    assert [found["s0", "q1"], found["s1", "q1"], found["s2", "q1"]] == [(True, "A;C"), (True, "A;C"), (False, "A")]
    assert [found["s0", "q2"], found["s3", "q2"], found["s6", "q2"]] == [(True, "B"), (True, "D"), (False, "C")]
    assert rule.record("q2") == {"key": ["B", "D"]}


def test_matrix_of_patterns_is_refused_without_the_option(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match="If it is, give --frequency freq; otherwise rename or delete it"):
        read(tmp_path, "person,q1,q2,freq\na,1,0,12\nb,0,1,3\n", AsGiven())


def test_real_files_of_points_are_refused_and_real_choices_are_scored_by_their_key(
    tmp_path: Path, shared: Path
) -> None:
    data = shared / "data"
    for name in ("science_wide.csv", "verbal_aggression_poly_wide.csv", "sat12_raw_choices.csv"):
        with pytest.raises(PermanentFailure, match="--dichotomise full"):
            read(tmp_path, (data / name).read_text(), AsGiven())
    verbal, _ = read(tmp_path, (data / "verbal_aggression_poly_wide.csv").read_text(), FromPoints(1))
    binary, _ = read(tmp_path, (data / "verbal_aggression_binary_wide.csv").read_text(), AsGiven())
    assert verbal == binary
    choices, _ = read(tmp_path, (data / "sat12_raw_choices.csv").read_text(), ByKey(read_key(data / "sat12_key.csv")))
    scored, _ = read(tmp_path, (data / "sat12_scored_wide.csv").read_text(), AsGiven())
    assert choices == scored


REPORTS = (
    ImportReport(),
    ImportReport(read=2, duplicates=2),
    ImportReport(read=3, accepted=2, rejected={"bad_time": 1}),
    ImportReport(read=3, accepted=1, rejected={"time_before_first_month": 2}),
    ImportReport(read=3, accepted=1, rejected={"skipped_by_mapping": 2}),
    ImportReport(read=4, rejected={"bad_time": 2, "bad_score": 2}),
)


def test_report_gives_a_remedy_if_most_rows_were_rejected(picture: Picture) -> None:
    picture(
        {f"{one.read} read, {one.accepted} accepted, {dict(one.rejected)}": str(one.complaint) for one in REPORTS},
        "complaints",
    )


# -- mappings ----------------------------------------------------------------------------------------
# A header selects its mapping, or raises an error that explains how to write a mapping.

OWN = ["attempt_id", "user_id", "item_id", "completed_at", "correct", "mode"]


def mapping_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return path


def test_every_preset_is_described_by_a_sentence() -> None:
    assert set(presets()) == {"own", "datashop", "assistments", "wide"}
    assert all(len(sentence.split()) > 5 for sentence in presets().values())


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (OWN, "own"),
        (["user_id", "item_id", "answered_at", "correct", "phase"], "own"),
        (["Row", "Anon Student Id", "Time", "Time Zone", "Outcome", "Problem Name", "Step Name"], "datashop"),
        (["order_id", "user_id", "problem_id", "correct", "skill_name"], "assistments"),
        (["person", "item_1", "item_2"], "wide"),
        (["", "V1", "V2"], "wide"),  # a matrix from R with its row names
    ],
)
def test_header_selects_its_preset(columns: list[str], name: str) -> None:
    assert bind_attempts(None, "log.csv", columns).mapping.name == name


HEADERS = (
    [*OWN, "order_id", "problem_id"],
    ["learner_name", "item_id", "points"],
    ["id", "item", "resp", "rt", "date"],
)


def test_error_explains_how_to_write_a_mapping_if_a_header_fits_no_single_preset(picture: Picture) -> None:
    """The Item Response Warehouse's columns were once read as a matrix of answers, and the error demanded --at."""
    picture({",".join(columns): refusal(bind_attempts, None, "log.csv", columns) for columns in HEADERS}, "headers")
    assert bind_attempts(None, "log.csv", ["id", "item", "w2", "w3"]).mapping.name == "wide"


def test_example_in_the_error_is_a_valid_mapping(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure) as caught:
        bind_attempts(None, "log.csv", ["x"])
    lines = str(caught.value).splitlines()
    start = next(n for n, line in enumerate(lines) if line.strip().startswith("columns:"))
    example = "\n".join(line.removeprefix("  ") for line in lines[start:-1])
    binding = bind_attempts(
        load_mapping(mapping_file(tmp_path, example)), "log.csv", ["learner", "question", "answered", "right"]
    )
    assert set(binding.columns) == {"user_id", "item_id", "completed_at", "correct"}


MISTAKES = (
    "columns: {user_id: u, item_id: q, correct: c, session_id: sesion}",
    "columns: {userid: u, itemid: q, correct: c}",
    "colums: {user_id: u}",
    "time: {unit: minutes}",
    "encoding: utf-16",
    "encoding: klingon",
    "- a list",
    "columns: {user_id: [u",
    "columns: {user_id: u, item_id: q, correct: c}\ntime: {zone_column: tz}",
    "columns: {user_id: u, item_id: q}",
    "columns: {user_id: &a [*a]}",
    "description: 2026-13-45",
    'description: "\\ud800"',
    "description: " + "[" * 600,
    "columns: {user_id: Schüler}",
)


def test_error_names_the_mistake_in_a_mapping_file(tmp_path: Path, picture: Picture) -> None:
    """The last file is not in UTF-8. Without the error, a misspelt optional column would be dropped silently."""
    path, messages = tmp_path / "mapping.yaml", {}
    for text in MISTAKES:
        path.write_text(text, "latin-1")
        messages[text[:70]] = refusal(lambda: bind_attempts(load_mapping(path), "log.csv", ["u", "q", "c", "session"]))
    picture(messages, "mappings", folder=re.escape(str(tmp_path)))


def test_column_may_be_replaced_by_a_constant_in_the_mapping(tmp_path: Path) -> None:
    path = mapping_file(tmp_path, "columns: {user_id: u, correct: c}\nconstants: {item_id: the-only-one}")
    assert "item_id" not in bind_attempts(load_mapping(path), "log.csv", ["u", "c"]).columns


# -- clean rows --------------------------------------------------------------------------------------
# Single answers: read as intended, or rejected for the right reason.

FIRST, NOW = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 11, 20, 12, tzinfo=UTC)
SOUND = {"user_id": "ann", "item_id": "q1", "completed_at": "2026-07-01T12:00:00Z", "correct": "1"}


def micros(time: datetime) -> int:
    return round(time.timestamp()) * 1_000_000


CLEAN_LIMITS = Limits(micros(FIRST), micros(NOW))


def clean(
    rows: list[dict], mapping: str | Path = "own", limits: Limits = CLEAN_LIMITS, items: tuple[str, ...] = ()
) -> CleanedBatch:
    columns = {name: [row.get(name) for row in rows] for name in {key: None for row in rows for key in row}}
    batch = Batch(pa.record_batch({k: pa.array(v) for k, v in columns.items()}), np.arange(2, 2 + len(rows)))
    binding = bind_attempts(load_mapping(mapping), "log.csv", batch.rows.schema.names)
    return Cleaner(binding, limits, "f00d", items).clean(batch)


def reason_of(**changes: object) -> str | None:
    """Clean a valid answer with these changes, next to an unchanged one. Returns the reason if it is rejected."""
    cleaned = clean([SOUND | changes, SOUND])
    assert len(cleaned.answers) + len(cleaned.refused.rows) == 2
    assert cleaned.answers.num_rows + len(cleaned.refused.reasons) == 2
    return cleaned.refused.reasons[0] if cleaned.refused.reasons else None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"user_id": ""}, "missing_user"),
        ({"user_id": "  "}, "missing_user"),
        ({"item_id": ""}, "missing_item"),
        ({"correct": "2"}, "bad_score"),
        ({"correct": "0.5"}, "bad_score"),
        ({"correct": "NaN"}, "bad_score"),
        ({"correct": "yes"}, "bad_score"),
        ({"correct": "-1"}, "bad_score"),
        ({"correct": ""}, None),
        ({"correct": "1.00"}, None),
        ({"correct": "1,0"}, None),
        ({"correct": "1,000"}, "bad_score"),
        ({"correct": "0.001"}, "bad_score"),
        ({"user_id": "\u00a0"}, "missing_user"),
        ({"completed_at": ""}, "bad_time"),
        ({"completed_at": "1/7/2026"}, "bad_time"),
        ({"completed_at": "2026-11-20T12:00:00Z"}, None),
        ({"completed_at": "2026-11-20T12:00:00.000001Z"}, "time_in_future"),
        ({"completed_at": "2026-06-01T00:00:00Z"}, None),
        ({"completed_at": "2026-05-31T23:59:59.999999Z"}, "time_before_first_month"),
        ({"started_at": "2026-07-01T12:00:00Z"}, None),
        ({"started_at": "2026-07-01T12:00:01Z"}, "completed_before_started"),
        ({"started_at": "some day"}, "bad_time"),
        ({"response_time_ms": "0"}, None),
        ({"response_time_ms": "1e3"}, None),
        ({"response_time_ms": "-1"}, "bad_response_time"),
        ({"response_time_ms": "long"}, "bad_response_time"),
        ({"response_time_ms": "inf"}, "bad_response_time"),
        ({"response_time_ms": "1e30"}, "bad_response_time"),
        ({"position": "0"}, "bad_position"),
        ({"hints_used": "-1"}, "bad_hints"),
        ({"mode": "sandbox"}, None),
        ({"mode": "test"}, "bad_mode"),
        ({"user_id": "é" * 300}, None),
        ({"user_id": "é" * 301}, "id_too_long"),
        ({"attempt_id": "x" * 601}, "id_too_long"),
        ({"topic_id": "x" * 601}, "id_too_long"),
        ({"session_id": "x" * 601}, "id_too_long"),
        ({"response": "A\0B"}, "bad_character"),
    ],
)
def test_invalid_answer_is_rejected_for_the_right_reason(changes: dict, reason: str | None) -> None:
    assert reason_of(**changes) == reason


def test_rejection_reports_the_first_reason_with_its_value_and_row() -> None:
    bad = SOUND | {"user_id": None, "correct": "7"}
    refused = clean([SOUND, bad, SOUND | {"correct": "7"}]).refused
    assert (refused.rows.tolist(), refused.reasons, refused.values) == (
        [1, 2],
        ["missing_user", "bad_score"],
        ["", "7"],
    )


@pytest.mark.parametrize(("text", "value"), [("1", True), ("0", False), ("1.0", True), ("FALSE", False), ("t", True)])
def test_scores_are_read_in_the_spellings_of_common_programs(text: str, value: bool) -> None:
    assert clean([SOUND | {"correct": text}]).answers["correct"].to_pylist() == [value]


def test_scores_of_boolean_integer_and_float_type_are_read() -> None:
    for values in ([True, False, None], [1, 0, None], [1.0, 0.0, None]):
        cleaned = clean([SOUND | {"correct": value} for value in values])
        assert cleaned.answers["correct"].to_pylist() == [True, False, None]
    assert clean([SOUND | {"correct": float("nan")}]).refused.reasons == ["bad_score"]


def test_ids_keep_special_characters_and_leading_zeros() -> None:
    ids = ['o\'brien "x"', "😀" * 150, "007", "a,b\nc", "NULL", "\\."]
    assert clean([SOUND | {"user_id": id_} for id_ in ids]).answers["user_id"].to_pylist() == ids


def test_numeric_ids_have_no_decimal_point() -> None:
    cleaned = clean([SOUND | {"user_id": 12345.0, "item_id": 7}])
    assert cleaned.answers.select(["user_id", "item_id"]).to_pylist() == [{"user_id": "12345", "item_id": "7"}]


@pytest.mark.parametrize("whole", [1234567890123.0, 2.0**53 - 1, 0.0])
def test_id_does_not_depend_on_other_values_in_its_column(whole: float) -> None:
    """In a column that also has a fraction, 1234567890123.0 was once read as 1.234567890123e+12."""
    for other in ([], [0.5]):
        column = pa.array([whole, *other])
        assert as_text(column, "u")[0].as_py() == str(int(whole))
    assert clean([SOUND | {"user_id": whole}, SOUND | {"user_id": 1.0}]).answers["user_id"][0].as_py() == str(
        int(whole)
    )


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        *((value, pa.float64()) for value in (1e19, 2e19, 0.5, 2.0**53)),
        (2.0**24, pa.float32()),
        (np.float16(2.0**11), pa.float16()),
    ],
)
@pytest.mark.parametrize("column", ["user_id", "item_id", "session_id"])
def test_float_id_that_may_represent_several_ids_is_refused(value: float, type_: pa.DataType, column: str) -> None:
    """1e19, 2e19 and inf were once the same learner."""
    rows = pa.table({name: pa.array([text]) for name, text in SOUND.items()} | {column: pa.array([value], type_)})
    binding = bind_attempts(load_mapping("own"), "log.parquet", rows.column_names)
    with pytest.raises(PermanentFailure, match=f"column '{column}' stores ids as .*Write the column as text"):
        Cleaner(binding, CLEAN_LIMITS, "f00d").clean(Batch(rows.to_batches()[0], np.array([1])))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_only_rows_with_an_infinite_id_are_rejected(value: float, column: str) -> None:
    cleaned = clean([SOUND | {column: 7.0}, SOUND | {column: value}, SOUND | {column: 8.0}])
    assert cleaned.answers[column].to_pylist() == ["7", "8"]
    assert cleaned.refused.reasons == [f"missing_{column.removesuffix('_id')}"]


def test_empty_line_is_not_counted_as_an_answer() -> None:
    cleaned = clean([SOUND, dict.fromkeys(SOUND, ""), SOUND])
    assert (len(cleaned.refused.rows), cleaned.answers["line"].to_pylist()) == (0, [2, 4])


def test_log_without_times_keeps_its_order_and_has_ids_made_from_file_and_line() -> None:
    start = micros(datetime(2026, 10, 1, tzinfo=UTC))
    rows = [{"user_id": "ann", "item_id": "q1", "correct": "1"} for _ in range(3)]
    answers = clean(rows, limits=Limits(CLEAN_LIMITS.first, CLEAN_LIMITS.now, start=start)).answers
    assert answers["attempt_id"].to_pylist() == ["f00d-2", "f00d-3", "f00d-4"]
    assert answers["completed_at"].cast(pa.int64()).to_pylist() == [start + 2, start + 3, start + 4]


def test_rules_of_a_mapping_file_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(
        """
        columns: {user_id: who, item_id: [unit, question], completed_at: when, correct: verdict, response_time_ms: took}
        values: {correct: {right: true, wrong: false, skipped: null}}
        constants: {mode: sandbox}
        null_values: ["-"]
        units: {response_time_ms: s}
        time: {zone: Asia/Seoul}
        skip_rows_where: {kind: [intro, ""]}
        """
    )
    row = {"who": "ann", "unit": "u1", "question": "q1", "when": "2026-07-01 21:00:00", "verdict": "right"}
    rows = [
        row | {"kind": "task", "took": "13.5"},
        row | {"kind": "task", "took": "-", "verdict": "wrong"},
        row | {"kind": "task", "took": "1", "verdict": "skipped"},
        row | {"kind": "intro", "took": "1"},
        row | {"kind": "", "took": "1"},
        row | {"kind": "task", "took": "1", "question": "-"},
        row | {"kind": "task", "took": "1", "verdict": "perhaps"},
    ]
    cleaned = clean(rows, path)
    assert cleaned.refused.reasons == ["skipped_by_mapping", "skipped_by_mapping", "missing_item", "bad_score"]
    answers = cleaned.answers.to_pylist()
    assert [answer["correct"] for answer in answers] == [True, False, None]
    assert [answer["response_time_ms"] for answer in answers] == [13_500, None, 1_000]
    assert {(answer["item_id"], answer["mode"], answer["completed_at"]) for answer in answers} == {
        ("u1/q1", "sandbox", datetime(2026, 7, 1, 12, tzinfo=UTC))
    }


def test_date_and_clock_time_in_two_columns_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text("columns: {user_id: u, item_id: q, correct: c, completed_at: [day, clock]}")
    row = {"u": "ann", "q": "q1", "c": "1", "day": "2026-07-01", "clock": "21:00:00+09:00"}
    assert clean([row], path).answers["completed_at"].to_pylist() == [datetime(2026, 7, 1, 12, tzinfo=UTC)]


def matrix(**columns: list[str]) -> Batch:
    rows = pa.record_batch({name: pa.array(values) for name, values in columns.items()})
    return Batch(rows, np.arange(2, 2 + rows.num_rows))


def test_matrix_is_read_row_by_row_without_its_empty_cells() -> None:
    batch = matrix(person=["ann", "bob", ""], i1=["1", "0", "1"], i2=["", "2", "0"], i3=["NA", "1", "x"])
    binding = bind_attempts(load_mapping("wide"), "m.csv", batch.rows.schema.names)
    cleaned = Cleaner(
        binding, Limits(CLEAN_LIMITS.first, CLEAN_LIMITS.now, start=micros(FIRST)), "f00d", ["i1", "i2", "i3"]
    ).clean(batch)
    assert len(cleaned.answers) + len(cleaned.refused.rows) == 7
    answers = cleaned.answers.to_pylist()
    assert [(a["user_id"], a["item_id"], a["correct"]) for a in answers] == [
        ("ann", "i1", True),
        ("bob", "i1", False),
        ("bob", "i3", True),
    ]
    times = [answer["completed_at"] for answer in answers]
    assert times == sorted(set(times))
    assert len({answer["attempt_id"] for answer in answers}) == 3
    refused = zip(cleaned.refused.rows.tolist(), cleaned.refused.reasons, cleaned.refused.values, strict=True)
    assert list(refused) == [
        (1, "bad_score", "2"),
        (2, "missing_user", ""),
        (2, "missing_user", ""),
        (2, "missing_user", ""),
    ]


def test_unicode_white_space_around_an_id_is_removed() -> None:
    """`A1` and `A1` with a trailing no-break space, as written by Excel and web forms, were once two items."""
    items = [SOUND | {"item_id": text} for text in ("A1", "A1\u00a0", "\u2003A1", "A1\t")]
    assert clean(items).answers["item_id"].to_pylist() == ["A1"] * 4


def test_ids_are_read_without_invisible_characters_and_a_note_says_so(tmp_path: Path) -> None:
    """Two spellings of a learner that nobody can tell apart were once two learners."""
    ids = ("ann lee", "ann\u00a0lee", "ann\u202flee", "\ufeffann lee\u200b", "a\u00adnn\u2060 l\u200c\u200dee")
    rows = "".join(f"{user},q{k}\u200b,1\n" for k, user in enumerate(ids))
    found, report = read(tmp_path, f"user_id,item_id,correct\n{rows}", AsGiven())
    assert found == {("ann lee", f"q{k}"): True for k in range(len(ids))}
    [note] = [note for note in report.notes if "invisible" in note]
    assert note.startswith(f"{tmp_path}/log.csv: six ids read without invisible characters (such as U+200B)")
    found, _ = read(tmp_path, "person,q\u200b1,q2\nann\u200b,1,0\n", AsGiven())
    assert found == {("ann", "q1"): True, ("ann", "q2"): False}
    found, report = read(tmp_path, "user_id,item_id,correct\n김\u00a0,문항,1\n", AsGiven())
    assert found == {("김", "문항"): True}
    assert not any("invisible" in note for note in report.notes)


@pytest.mark.parametrize(
    ("right", "wrong"), [("1.00", "0.00"), ("TRUE", "FALSE"), ("1,0", "0,0"), ("1", "0"), ("1.", "0e0")]
)
def test_scores_are_read_in_any_spelling_of_the_numbers_0_and_1(right: str, wrong: str) -> None:
    rows = [SOUND | {"correct": right}, SOUND | {"correct": wrong}]
    assert clean(rows).answers["correct"].to_pylist() == [True, False]
    batch = matrix(person=["a", "b", "c"], i1=[right, wrong, ""], i2=[wrong, right, right])
    binding = bind_attempts(load_mapping("wide"), "m.csv", batch.rows.schema.names)
    assert item_columns(binding, [batch], AsGiven()).items == ["i1", "i2"]


def test_brackets_in_a_pattern_also_match_literally() -> None:
    """`* [Score]` was once read as a class of characters, which no column matches."""
    wide = Mapping(name="m", columns={"user_id": ("person",)}, wide=MatrixMapping(items=("* [Score]", "q[12]")))
    batch = matrix(person=["a"], q1=["1"], q3=["1"], **{"q1 [Score]": ["1"], "q1 [Points]": ["1"]})
    assert item_columns(bind_attempts(wide, "m.csv", batch.rows.schema.names), [batch], AsGiven()).items == [
        "q1",
        "q1 [Score]",
    ]


def test_values_by_pattern_are_those_of_all_names_and_patterns_that_match() -> None:
    rng = random.Random(3)
    names = ["".join(rng.choices("ab1[]*?! ", k=rng.randint(0, 6))) for _ in range(1_600)]
    patterns, columns = {*names[:400], "a*", "b? [a1]", "?[!a]"}, names[400:]
    by_pattern = ByPattern({pattern: pattern for pattern in patterns})

    def matches(column: str, pattern: str) -> bool:
        return column == pattern or any(fnmatchcase(column, form) for form in (pattern, pattern.replace("[", "[[]")))

    for column in {*columns, "b1 [a1]", "b1 a"}:
        assert by_pattern.fitting(column) == [pattern for pattern in patterns if matches(column, pattern)]


@pytest.mark.parametrize("name", ["q{}", "Q{} [Score]", "[Q{}]"])
def test_comparisons_with_patterns_grow_with_the_columns_and_not_with_their_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Twice the columns need twice the comparisons; they once needed four times as many."""
    done = Counter[str]()

    def compare(column: str, pattern: str) -> bool:
        done.update(["comparison"])
        return fnmatchcase(column, pattern)

    def comparisons(n: int) -> int:
        names = [name.format(k) for k in range(n)]
        matrix = tmp_path / f"{n}.csv"
        cells = "".join(f"u{row}," + ",".join("01901"[(row + k) % 5] for k in range(n)) + "\n" for row in range(10))
        matrix.write_text(f"user_id,{','.join(names)}\n{cells}")
        rules = Mapping(
            name="wide",
            columns={"user_id": ("user_id",)},
            wide=MatrixMapping(items=(*names, "none*")),
            null_values={"*": ("NA",)} | dict.fromkeys(names, ("9",)),
            max_scores=dict.fromkeys(names, 2) | {"*": 1},
            extract=dict.fromkeys(names, "^([^ /]+)"),
        )
        done.clear()
        given = AnswerSource(open_source(matrix, None, rules), rules, date(2026, 7, 1), AsGiven())
        read = sum(answers.num_rows for _, answers in given.answers(LIMITS, ImportReport(), ignore_rows))
        assert read == 8 * n
        return done.total()

    monkeypatch.setattr("irt_psychometrics.cells.reading.fnmatchcase", compare)
    assert comparisons(200) < 2.6 * comparisons(100)


def test_answers_have_the_right_learner_if_their_number_equals_the_number_of_rows() -> None:
    """A shortcut for equal lengths once gave every answer the learner of a different row."""
    batch = matrix(person=["ann", "bob"], i1=["1", ""], i2=["1", ""])
    binding = bind_attempts(load_mapping("wide"), "m.csv", batch.rows.schema.names)
    limits = Limits(CLEAN_LIMITS.first, CLEAN_LIMITS.now, start=micros(FIRST))
    assert Cleaner(binding, limits, "f00d", ["i1", "i2"]).clean(batch).answers["user_id"].to_pylist() == ["ann", "ann"]


def test_decimal_commas_are_read_in_points_of_a_recorded_rule_and_in_scores(tmp_path: Path) -> None:
    """They were points for the import that records the rule, and `bad_score` for the next answers to the item."""
    items, cells = pa.array(["q", "q", "r"]), pa.array(["2,5", "1,5", "1"])
    assert FromPoints(2).right(items, cells).to_pylist() == [True, False, False]
    assert AsRecorded(marks={"q": 2.0}).right(items, cells).to_pylist() == [True, False, True]
    mapping = tmp_path / "m.yaml"
    mapping.write_text("columns: {user_id: u, item_id: q, correct: s}\ndenominator: 2\nmax_scores: {i: 4}")
    text = 'u,q,s\na,i,"1,5"\nb,i,2\nc,i,0.5\n'
    found, _ = read(tmp_path, text, AsGiven(), mapping, names=("score", "correct"))
    assert found == {("a", "i"): (3, False), ("b", "i"): (4, True), ("c", "i"): (1, False)}


def test_matrix_columns_of_half_points_with_decimal_commas_are_items() -> None:
    """Their cells were scores, but the columns were not recognised as items."""
    batch = matrix(person=["a", "b", "c", "d"], i1=["0", "0,5", "1,5", "2"], i2=["0.5", "1.5", "0.5", "0"])
    binding = bind_attempts(load_mapping("wide"), "m.csv", batch.rows.schema.names)
    halves = replace(binding, mapping=binding.mapping.model_copy(update={"denominator": 2}))
    columns = item_columns(halves, [batch], AsGiven(MaxScores(by_pattern={"*": 4})))
    assert columns.items == ["i1", "i2"]


def test_matrix_columns_without_scores_are_not_items() -> None:
    batch = matrix(
        person=["a", "b", "c", "d"],
        gender=["m", "f", "f", "m"],
        choice=["1", "1", "1", "4"],
        ordinal=["1", "2", "3", "4"],
        i1=["0", "NA", "1", "2"],
        all_right=["1", "1", "1", "1"],
        never_shown=["", "NA", "", ""],
    )
    binding = bind_attempts(load_mapping("wide"), "m.csv", batch.rows.schema.names)
    assert item_columns(binding, [batch], AsGiven()) == (
        ["i1", "all_right", "never_shown"],
        {"gender": "", "choice": "", "ordinal": ""},
        {"i1": 2},
        ("all_right",),
    )


@pytest.mark.parametrize("scoring", [AsGiven(MaxScores(by_pattern={"*": 4})), FromPoints(1)])
def test_total_in_a_matrix_is_left_out_and_named(tmp_path: Path, scoring: Scoring) -> None:
    cells = [[k * k % 3, k % 2, k // 2 % 3] for k in range(40)]
    lines = [",".join(map(str, [f"p{k}", *row, sum(row)])) for k, row in enumerate(cells)]
    path = tmp_path / "m.csv"
    path.write_text("user_id,a,b,c,total\n" + "\n".join(lines) + "\n")
    given, report = AnswerSource(open_source(path), load_mapping("wide"), date(2026, 7, 1), scoring), ImportReport()
    answers = [answers for _, answers in given.answers(LIMITS, report, ignore_rows, scoring)]
    assert {*answers[0]["item_id"].to_pylist()} == {"a", "b", "c"}
    assert f"{path}: not items, left out: total (the sum of a … c)" in report.notes


def test_report_of_a_matrix_counts_left_out_columns_after_twenty(tmp_path: Path) -> None:
    keys = [f"Right answer {k}" for k in range(30)]
    path = tmp_path / "m.csv"
    path.write_text(",".join(["user_id,a,b", *keys]) + "\n" + "p1,1,0" + ",x" * 30 + "\np2,0,1" + ",x" * 30 + "\n")
    given, report = AnswerSource(open_source(path), load_mapping("wide"), date(2026, 7, 1), AsGiven()), ImportReport()
    assert len([*given.answers(LIMITS, report, ignore_rows, AsGiven())]) == 1
    assert f"{path}: not items, left out: {', '.join(keys[:20])} and 10 more" in report.notes


def test_import_notes_learners_without_points_and_maxima_out_of_reach(tmp_path: Path) -> None:
    rng = np.random.default_rng(23)
    right = rng.random((300, 12)) < 1 / (1 + np.exp(np.linspace(-1.5, 1.5, 12) - rng.normal(size=(300, 1))))
    right[:100] = False
    n_absent = int((~right.any(axis=1)).sum())
    lines = [",".join(map(str, [f"p{k}", *row])) for k, row in enumerate(right.astype(int))]
    path, scoring = tmp_path / "m.csv", AsGiven(MaxScores(by_pattern={"q0": 3}))
    path.write_text("user_id," + ",".join(f"q{j}" for j in range(12)) + "\n" + "\n".join(lines) + "\n")
    given, report = AnswerSource(open_source(path), load_mapping("wide"), date(2026, 7, 1), scoring), ImportReport()
    assert [*given.answers(LIMITS, report, ignore_rows, scoring)]
    assert any(f"{n_absent} persons have 0 on all 12 items (by chance: " in note for note in report.notes)
    assert f"{path}: nobody has more than 1 point on q0 (1 of 3): is 1 the maximum score there?" in report.notes


def test_items_of_a_matrix_are_the_columns_that_the_mapping_names(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text("columns: {user_id: id}\nwide: {items: ['q_*', extra]}")
    batch = matrix(id=["a"], q_1=["1"], q_2=["5"], extra=["0"], other=["1"])
    binding = bind_attempts(load_mapping(path), "m.csv", batch.rows.schema.names)
    assert item_columns(binding, [batch], AsGiven()).items == ["q_1", "q_2", "extra"]
