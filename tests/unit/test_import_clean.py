"""One answer by itself: taken as meant, or refused for the reason that is true."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from irt_assets.intake.cells import as_text
from irt_assets.intake.clean import Cleaned, Cleaner, Limits
from irt_assets.intake.mapping import Mapping, Wide, bind_attempts, load_mapping
from irt_assets.intake.matrix import item_columns
from irt_assets.intake.scoring import AsGiven
from irt_assets.intake.sources import Batch
from resources.failures import PermanentFailure

FIRST, NOW = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 11, 20, 12, tzinfo=UTC)
SOUND = {"user_id": "ann", "item_id": "q1", "completed_at": "2026-07-01T12:00:00Z", "correct": "1"}


def micros(time: datetime) -> int:
    return round(time.timestamp()) * 1_000_000


LIMITS = Limits(micros(FIRST), micros(NOW))


def clean(
    rows: list[dict], mapping: str | Path = "own", limits: Limits = LIMITS, items: tuple[str, ...] = ()
) -> Cleaned:
    columns = {name: [row.get(name) for row in rows] for name in {key: None for row in rows for key in row}}
    batch = Batch(pa.record_batch({k: pa.array(v) for k, v in columns.items()}), np.arange(2, 2 + len(rows)))
    binding = bind_attempts(load_mapping(mapping), "log.csv", batch.rows.schema.names)
    return Cleaner(binding, limits, "f00d", items).clean(batch)


def refusal(**changes: object) -> str | None:
    """Why the sound answer with these changes is refused; beside it lies one that never is."""
    cleaned = clean([SOUND | changes, SOUND])
    assert cleaned.read == 2
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
def test_an_answer_is_refused_for_the_reason_that_is_true(changes: dict, reason: str | None) -> None:
    assert refusal(**changes) == reason


def test_the_first_reason_is_the_one_told_and_its_value_and_row_come_along() -> None:
    bad = SOUND | {"user_id": None, "correct": "7"}
    refused = clean([SOUND, bad, SOUND | {"correct": "7"}]).refused
    assert (refused.places.tolist(), refused.reasons, refused.values) == (
        [1, 2],
        ["missing_user", "bad_score"],
        ["", "7"],
    )


@pytest.mark.parametrize(("text", "value"), [("1", True), ("0", False), ("1.0", True), ("FALSE", False), ("t", True)])
def test_scores_as_programs_write_them(text: str, value: bool) -> None:
    assert clean([SOUND | {"correct": text}]).answers["correct"].to_pylist() == [value]


def test_scores_of_other_types_are_read_too() -> None:
    for values in ([True, False, None], [1, 0, None], [1.0, 0.0, None]):
        cleaned = clean([SOUND | {"correct": value} for value in values])
        assert cleaned.answers["correct"].to_pylist() == [True, False, None]
    assert clean([SOUND | {"correct": float("nan")}]).refused.reasons == ["bad_score"]


def test_ids_are_text_with_whatever_they_hold() -> None:
    ids = ['o\'brien "x"', "😀" * 150, "007", "a,b\nc", "NULL", "\\."]
    assert clean([SOUND | {"user_id": id_} for id_ in ids]).answers["user_id"].to_pylist() == ids


def test_numbers_as_ids_have_no_decimal_point() -> None:
    cleaned = clean([SOUND | {"user_id": 12345.0, "item_id": 7}])
    assert cleaned.answers.select(["user_id", "item_id"]).to_pylist() == [{"user_id": "12345", "item_id": "7"}]


@pytest.mark.parametrize("whole", [1234567890123.0, 2.0**53 - 1, 0.0])
def test_an_id_does_not_depend_on_what_lies_beside_it(whole: float) -> None:
    """In one column with a fraction, 1234567890123.0 was 1.234567890123e+12."""
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
def test_a_float_that_may_stand_for_many_ids_is_refused(value: float, type_: pa.DataType, column: str) -> None:
    """1e19, 2e19 and inf became one learner."""
    rows = pa.table({name: pa.array([text]) for name, text in SOUND.items()} | {column: pa.array([value], type_)})
    binding = bind_attempts(load_mapping("own"), "log.parquet", rows.column_names)
    with pytest.raises(PermanentFailure, match=f"Column '{column}' holds ids as .*Write the column as text"):
        Cleaner(binding, LIMITS, "f00d").clean(Batch(rows.to_batches()[0], np.array([1])))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_row_whose_id_is_infinite_is_refused_and_the_others_are_not(value: float, column: str) -> None:
    cleaned = clean([SOUND | {column: 7.0}, SOUND | {column: value}, SOUND | {column: 8.0}])
    assert cleaned.answers[column].to_pylist() == ["7", "8"]
    assert cleaned.refused.reasons == [f"missing_{column.removesuffix('_id')}"]


def test_an_empty_line_is_no_answer() -> None:
    cleaned = clean([SOUND, dict.fromkeys(SOUND, ""), SOUND])
    assert (cleaned.read, cleaned.answers["line"].to_pylist()) == (2, [2, 4])


def test_a_log_without_times_keeps_its_order_and_gets_ids_from_file_and_line() -> None:
    start = micros(datetime(2026, 10, 1, tzinfo=UTC))
    rows = [{"user_id": "ann", "item_id": "q1", "correct": "1"} for _ in range(3)]
    answers = clean(rows, limits=Limits(LIMITS.first, LIMITS.now, start=start)).answers
    assert answers["attempt_id"].to_pylist() == ["f00d-2", "f00d-3", "f00d-4"]
    assert answers["completed_at"].cast(pa.int64()).to_pylist() == [start + 2, start + 3, start + 4]


def test_the_rules_of_a_mapping_file_are_applied(tmp_path: Path) -> None:
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
        row | {"kind": "task", "took": "1", "verdict": "Right"},
    ]
    cleaned = clean(rows, path)
    assert cleaned.refused.reasons == ["skipped_by_mapping", "skipped_by_mapping", "missing_item", "bad_score"]
    answers = cleaned.answers.to_pylist()
    assert [answer["correct"] for answer in answers] == [True, False, None]
    assert [answer["response_time_ms"] for answer in answers] == [13_500, None, 1_000]
    assert {(answer["item_id"], answer["mode"], answer["completed_at"]) for answer in answers} == {
        ("u1/q1", "sandbox", datetime(2026, 7, 1, 12, tzinfo=UTC))
    }


def test_a_date_and_a_clock_in_two_columns_are_one_time(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text("columns: {user_id: u, item_id: q, correct: c, completed_at: [day, clock]}")
    row = {"u": "ann", "q": "q1", "c": "1", "day": "2026-07-01", "clock": "21:00:00+09:00"}
    assert clean([row], path).answers["completed_at"].to_pylist() == [datetime(2026, 7, 1, 12, tzinfo=UTC)]


def matrix(**columns: list[str]) -> Batch:
    rows = pa.record_batch({name: pa.array(values) for name, values in columns.items()})
    return Batch(rows, np.arange(2, 2 + rows.num_rows))


def test_a_matrix_is_read_row_by_row_and_its_empty_cells_are_no_answers() -> None:
    batch = matrix(person=["ann", "bob", ""], i1=["1", "0", "1"], i2=["", "2", "0"], i3=["NA", "1", "x"])
    binding = bind_attempts(load_mapping("wide"), "m.csv", batch.rows.schema.names)
    cleaned = Cleaner(binding, Limits(LIMITS.first, LIMITS.now, start=micros(FIRST)), "f00d", ["i1", "i2", "i3"]).clean(
        batch
    )
    assert cleaned.read == 7
    answers = cleaned.answers.to_pylist()
    assert [(a["user_id"], a["item_id"], a["correct"]) for a in answers] == [
        ("ann", "i1", True),
        ("bob", "i1", False),
        ("bob", "i3", True),
    ]
    times = [answer["completed_at"] for answer in answers]
    assert times == sorted(set(times))
    assert len({answer["attempt_id"] for answer in answers}) == 3
    refused = zip(cleaned.refused.places.tolist(), cleaned.refused.reasons, cleaned.refused.values, strict=True)
    assert list(refused) == [
        (1, "bad_score", "2"),
        (2, "missing_user", ""),
        (2, "missing_user", ""),
        (2, "missing_user", ""),
    ]


def test_white_space_of_any_alphabet_is_not_part_of_an_id() -> None:
    """`A1` and `A1` with a no-break space behind it, as Excel and web forms have it, were two items."""
    items = [SOUND | {"item_id": text} for text in ("A1", "A1\u00a0", "\u2003A1", "A1\t")]
    assert clean(items).answers["item_id"].to_pylist() == ["A1"] * 4


@pytest.mark.parametrize(
    ("right", "wrong"), [("1.00", "0.00"), ("TRUE", "FALSE"), ("1,0", "0,0"), ("1", "0"), ("1.", "0e0")]
)
def test_a_score_is_a_number_however_it_is_written(right: str, wrong: str) -> None:
    rows = [SOUND | {"correct": right}, SOUND | {"correct": wrong}]
    assert clean(rows).answers["correct"].to_pylist() == [True, False]
    batch = matrix(person=["a", "b", "c"], i1=[right, wrong, ""], i2=[wrong, right, right])
    binding = bind_attempts(load_mapping("wide"), "m.csv", batch.rows.schema.names)
    assert item_columns(binding, [batch], AsGiven()).items == ["i1", "i2"]


def test_brackets_in_a_pattern_are_also_themselves() -> None:
    """`* [Score]` was a class of characters that no column fits."""
    wide = Mapping(name="m", columns={"user_id": ("person",)}, wide=Wide(items=("* [Score]", "q[12]")))
    batch = matrix(person=["a"], q1=["1"], q3=["1"], **{"q1 [Score]": ["1"], "q1 [Points]": ["1"]})
    assert item_columns(bind_attempts(wide, "m.csv", batch.rows.schema.names), [batch], AsGiven()).items == [
        "q1",
        "q1 [Score]",
    ]


def test_as_many_answers_as_rows_are_not_taken_for_the_rows() -> None:
    """A shortcut on equal lengths once gave every answer the user of another row."""
    batch = matrix(person=["ann", "bob"], i1=["1", ""], i2=["1", ""])
    binding = bind_attempts(load_mapping("wide"), "m.csv", batch.rows.schema.names)
    limits = Limits(LIMITS.first, LIMITS.now, start=micros(FIRST))
    assert Cleaner(binding, limits, "f00d", ["i1", "i2"]).clean(batch).answers["user_id"].to_pylist() == ["ann", "ann"]


def test_what_holds_no_scores_is_no_item() -> None:
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
        ["gender", "choice", "ordinal"],
        {"i1": 2},
        ("all_right",),
    )


def test_a_mapping_file_names_the_items_of_a_matrix(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text("columns: {user_id: id}\nwide: {items: ['q_*', extra]}")
    batch = matrix(id=["a"], q_1=["1"], q_2=["5"], extra=["0"], other=["1"])
    binding = bind_attempts(load_mapping(path), "m.csv", batch.rows.schema.names)
    assert item_columns(binding, [batch], AsGiven()).items == ["q_1", "q_2", "extra"]
