"""Bulk writes to PostgreSQL: values return unchanged, and unsuitable values are refused by column."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from resources import tables
from resources.dagster_schema import stored_in
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.warehouse import append, frame_schema, read_arrow, read_frame, replace
from tests.helpers.rooms import call
from tests.helpers.sentences import missing_sentences, refusal

NASTY = [
    "",
    " ",
    '"',
    "'",
    "a,b",
    "two\nlines",
    "cr\r\nlf",
    "\\N",
    "\\.",
    "NULL",
    "nan",
    "🦉 émoji",
    "x" * 500,
    "\t",
    "t",
]


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect() as connection:
        yield connection


def learners(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"user_id": ["u1", "u2"]} | columns)


def kpis(count: int, **columns: object) -> pd.DataFrame:
    day = dt.date(2026, 9, 7)
    return pd.DataFrame(
        {"user_id": [f"u{n}" for n in range(count)], "week_start": day, "kpis": [{"P": n} for n in range(count)]}
        | columns
    )


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "params", "values"),
    [
        ("SELECT t FROM (VALUES (1, ''), (2, NULL), (3, 'x')) v(n, t) ORDER BY n", (), ["", None, "x"]),
        ("SELECT * FROM (VALUES (1), (NULL), (3), (NULL)) v(n)", (), [1, None, 3, None]),
        ("SELECT 'ab' LIKE 'a%' AS yes -- the end", (), [True]),
        (
            psycopg.sql.SQL("SELECT n FROM generate_series(1, 9) {} WHERE n = ANY(%s) ORDER BY n").format(
                psycopg.sql.Identifier("n")
            ),
            [[2, 4]],
            [2, 4],
        ),
    ],
    ids=["null and empty text", "nulls of a single column, empty lines in CSV", "a percent sign", "composed"],
)
def test_column_is_read_unchanged(connection: psycopg.Connection, query: Any, params: Any, values: list[Any]) -> None:
    (column,) = read_arrow(connection, query, params).columns
    assert column.to_pylist() == values


def test_every_type_reads_as_documented(connection: psycopg.Connection) -> None:
    frame = read_frame(
        connection,
        "SELECT true AS b, NULL::boolean AS b0, 1::smallint AS i2, 2::integer AS i4, 9007199254740993 AS i8,"
        " 0.1::float8 AS f, 'NaN'::float8 AS nan, '-Infinity'::float8 AS inf, 2.5::numeric AS n,"
        " '2026-03-29 01:30:00.000001+02'::timestamptz AS z, '1969-12-31'::date AS d,"
        """ '{"a": [1, null, "ü"]}'::jsonb AS j, NULL::jsonb AS j0, '\\x00ff'::bytea AS y, 'x'::text AS t""",
    )
    row = frame.iloc[0]
    assert row["b"] is np.True_ or row["b"] is True
    assert (row["b0"] is pd.NA, math.isnan(row["nan"])) == (True, True)
    assert row.drop(["b", "b0", "nan"]).to_dict() == {
        "i2": 1,
        "i4": 2,
        "i8": 9007199254740993,
        "f": 0.1,
        "inf": -math.inf,
        "n": 2.5,
        "z": pd.Timestamp("2026-03-28 23:30:00.000001", tz="UTC"),
        "d": dt.date(1969, 12, 31),
        "j": {"a": [1, None, "ü"]},
        "j0": None,
        "y": b"\x00\xff",
        "t": "x",
    }
    assert [str(frame[name].dtype) for name in ("b", "i4", "f", "z", "t")] == [
        "boolean",
        "Int64",
        "float64",
        "datetime64[us, UTC]",
        "str",
    ]


def test_empty_result_has_its_columns_and_types(connection: psycopg.Connection) -> None:
    frame = read_frame(connection, "SELECT 1 AS n, 'x' AS t, now() AS z WHERE false")
    assert frame.empty
    assert [str(dtype) for dtype in frame.dtypes] == ["Int64", "str", "datetime64[us, UTC]"]


def test_two_columns_with_the_same_name_are_refused(connection: psycopg.Connection) -> None:
    with pytest.raises(ValueError, match="two columns one name"):
        read_frame(connection, "SELECT 1 AS n, 2 AS n")


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("SELECT 1 / (n - 90000) AS q FROM generate_series(1, 100000) n", "division by zero"),
        (
            """SELECT repeat('x', 1000) AS t, CASE n WHEN 5 THEN 'infinity'::timestamptz END AS z
               FROM generate_series(1, 200000) n""",
            "infinity",
        ),
    ],
)
def test_error_during_a_read_is_raised_and_the_connection_stays_usable(
    connection: psycopg.Connection, query: str, error: str
) -> None:
    with pytest.raises((psycopg.errors.DivisionByZero, ValueError), match=error):
        read_frame(connection, query)
    connection.rollback()
    assert read_frame(connection, "SELECT 1 AS n")["n"].tolist() == [1]


def test_many_chunks_are_read_as_a_single_table(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.postgres.warehouse.CHUNK_BYTES", 1000)
    text = 'two\nlines, "quoted"'
    frame = read_frame(connection, "SELECT n, %s::text AS t FROM generate_series(1, 5000) n", [text])
    assert (frame["n"].tolist(), set(frame["t"])) == (list(range(1, 5001)), {text})


# -- writing ---------------------------------------------------------------------------------------


def test_frame_is_written_and_read_back_unchanged(connection: psycopg.Connection) -> None:
    frame = pd.DataFrame(
        {
            "user_id": NASTY,
            "attributes": [{"lang": text, "n": np.int64(3), "x": [np.float64(0.1), None]} for text in NASTY],
            "is_test": [n % 2 == 0 for n in range(len(NASTY))],
            "target_scale_id": pd.array([None, *NASTY[1:]], dtype="str"),
            "target_theta": [math.nan, *np.linspace(-1e-300, 1 / 3, len(NASTY) - 1)],
        }
    )
    assert append(connection, tables.learner, frame) == len(NASTY)
    back = read_frame(connection, "SELECT * FROM learner").set_index("user_id").loc[NASTY].reset_index()
    assert back["is_test"].tolist() == frame["is_test"].tolist()
    assert back["attributes"].tolist() == [{"lang": text, "n": 3, "x": [0.1, None]} for text in NASTY]
    assert back["target_scale_id"].isna().tolist() == [True] + [False] * (len(NASTY) - 1)
    assert back["target_scale_id"].tolist()[1:] == NASTY[1:]
    pd.testing.assert_series_equal(back["target_theta"], frame["target_theta"], check_exact=True)
    assert connection.execute("SELECT count(*) FROM learner WHERE target_theta IS NULL").fetchone() == (1,)


@hypothesis_settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), min_size=1, max_size=5))
def test_texts_are_written_and_read_back_unchanged(connection: psycopg.Connection, texts: list[str]) -> None:
    connection.execute("DELETE FROM learner")
    frame = pd.DataFrame(
        {
            "user_id": [str(n) for n in range(len(texts))],
            "target_scale_id": texts,
            "attributes": [{"t": t} for t in texts],
        }
    )
    append(connection, tables.learner, frame)
    back = read_frame(connection, "SELECT * FROM learner ORDER BY user_id::integer")
    assert back["target_scale_id"].tolist() == texts
    assert [attributes["t"] for attributes in back["attributes"]] == texts


def test_bytes_are_written_and_read_back_unchanged(connection: psycopg.Connection) -> None:
    frame = pd.DataFrame(
        {
            "fit_id": ["f"],
            "month": ["2026-09"],
            "scale_id": ["s"],
            "engine": ["em"],
            "snapshot_hash": ["h"],
            "calibration": [bytes(range(256))],
            "spec": [{}],
            "code_version": ["1"],
        }
    )
    append(connection, tables.fit_staging, frame)
    assert read_frame(connection, "SELECT calibration FROM fit_staging")["calibration"].tolist() == [bytes(range(256))]


def test_missing_columns_have_their_defaults_and_an_empty_frame_writes_no_rows(connection: psycopg.Connection) -> None:
    assert append(connection, tables.learner, pd.DataFrame()) == 0
    append(connection, tables.learner, learners())
    rows = connection.execute("SELECT attributes, is_test, target_theta FROM learner").fetchall()
    assert rows == [({}, False, None)] * 2


def test_all_problems_of_a_frame_are_reported_together_and_no_rows_are_written(connection: psycopg.Connection) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["u1", None, "u3"],
            "date": [dt.date(2026, 9, 1)] * 3,
            "attempts": [1, -2, -3],
            "correct": ["1", "2", "many"],
            "computed_at": [dt.datetime(2026, 9, 1)] * 3,  # noqa: DTZ001
            "colour": ["red"] * 3,
        }
    )
    with pytest.raises(PermanentFailure) as refused:
        append(connection, tables.features_topic_daily, frame)
    assert not missing_sentences(
        str(refused.value),
        "3 rows do not fit table features_topic_daily",
        "column topic_id is missing",
        "column colour is not in the table",
        "column user_id: 1 rows have no value, the first is row 1",
        "column attempts: 2 rows fail",
        "-2",
        "column correct: holds text",
        "column computed_at: holds timestamp[us], expected TIMESTAMP, with its zone",
    )
    assert connection.execute("SELECT count(*) FROM features_topic_daily").fetchone() == (0,)


def attempts(number: float) -> pd.DataFrame:
    row = {"user_id": "u", "topic_id": "t", "date": dt.date(2026, 9, 1), "attempts": number, "correct": 0}
    return pd.DataFrame([row])


@pytest.mark.parametrize(
    ("table", "frame", "message"),
    [
        (tables.learner, learners(user_id=[1, 2]), "column user_id: holds int64, expected TEXT"),
        (tables.learner, learners(target_theta=["1", "2"]), "column target_theta: holds text, expected DOUBLE"),
        (tables.learner, learners(is_test=[0, 1]), "column is_test: holds int64, expected BOOLEAN"),
        (tables.learner, learners(attributes=[{"se": math.nan}, {}]), "column attributes: Out of range float values"),
        (tables.learner, learners(attributes=[{"se": object()}, {}]), "column attributes: object"),
        (tables.features_topic_daily, attempts(2.5), r"column attempts: .*truncated"),
        (tables.features_topic_daily, attempts(3_000_000_000), r"column attempts: .*3000000000"),
    ],
)
def test_values_outside_a_columns_range_are_refused_by_name(
    connection: psycopg.Connection, table: sa.Table, frame: pd.DataFrame, message: str
) -> None:
    assert re.search(message, refusal(append, connection, table, frame))


def test_times_in_any_zone_are_stored_as_the_same_moment(connection: psycopg.Connection) -> None:
    moment = pd.Timestamp("2026-10-25 02:30:00+02:00").tz_convert("Europe/Berlin")  # 02:30 comes twice that night
    append(connection, tables.weekly_kpi, kpis(1, updated_at=moment))
    assert connection.execute("SELECT updated_at FROM weekly_kpi").fetchone() == (
        dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC),
    )


def test_replacing_a_partition_keeps_neighbouring_partitions(connection: psycopg.Connection) -> None:
    day, other = dt.date(2026, 9, 7), dt.date(2026, 9, 14)
    append(connection, tables.weekly_kpi, kpis(3))
    append(connection, tables.weekly_kpi, kpis(3, week_start=other))
    assert replace(connection, tables.weekly_kpi, {"week_start": day}, kpis(2)) == 2
    counts = "SELECT week_start, count(*) FROM weekly_kpi GROUP BY 1 ORDER BY 1"
    assert connection.execute(counts).fetchall() == [(day, 2), (other, 3)]
    assert replace(connection, tables.weekly_kpi, {"week_start": day}, pd.DataFrame()) == 0
    assert connection.execute(counts).fetchall() == [(other, 3)]


def test_rows_outside_the_partition_are_refused_and_the_old_rows_stay(connection: psycopg.Connection) -> None:
    append(connection, tables.weekly_kpi, kpis(3))
    assert "column week_start: 2 rows are not" in refusal(
        replace, connection, tables.weekly_kpi, {"week_start": dt.date(2026, 9, 14)}, kpis(2)
    )
    assert "column month is missing" in refusal(replace, connection, tables.weekly_kpi, {"month": "2026-09"}, kpis(2))
    with pytest.raises(ValueError, match="values of the rows to be replaced"):
        replace(connection, tables.weekly_kpi, {}, kpis(1))
    assert connection.execute("SELECT count(*) FROM weekly_kpi").fetchone() == (3,)


def test_rows_of_a_partition_with_a_null_value_are_replaced(connection: psycopg.Connection) -> None:
    reports = pd.DataFrame({"window": ["w"], "format": ["pdf"], "url": ["file:///x"], "sha256": ["0"]})
    append(connection, tables.report_file, reports.assign(user_id="u"))
    for _ in range(2):
        replace(connection, tables.report_file, {"user_id": None}, reports.assign(user_id=None))
    assert connection.execute("SELECT count(*), count(user_id) FROM report_file").fetchone() == (2, 1)


def test_second_concurrent_writer_of_a_partition_waits(database: Database) -> None:
    """Both writers would find no rows to delete, and then insert the same keys, without the lock."""
    owned = {"week_start": dt.date(2026, 9, 7)}

    def second() -> None:
        call(database, replace, tables.weekly_kpi, owned, kpis(5))

    with ThreadPoolExecutor(1) as thread, database.connect() as connection:
        replace(connection, tables.weekly_kpi, owned, kpis(3))
        waiting = thread.submit(second)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
    waiting.result()
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM weekly_kpi").fetchone() == (5,)


# -- schemas from the registry -----------------------------------------------------------------------


@pytest.mark.parametrize("table", tables.METADATA.sorted_tables, ids=lambda table: table.name)
def test_every_table_of_the_registry_has_a_frame_schema_and_a_dagster_schema(table: sa.Table) -> None:
    names = [column.name for column in table.columns]
    assert list(frame_schema(table).columns) == [column.name for column in table.columns if column.computed is None]
    assert [column.name for column in stored_in(table)["dagster/column_schema"].columns] == names
    assert all(column.description for column in stored_in(table)["dagster/column_schema"].columns)


def test_dagster_schema_contains_units_and_ranges() -> None:
    (guessing,) = (
        column for column in stored_in(tables.anchor_set)["dagster/column_schema"].columns if column.name == "c"
    )
    assert (guessing.description, guessing.type, guessing.constraints.nullable) == (
        "lower asymptote (probability, ≥ 0, ≤ 1)",
        "DOUBLE PRECISION",
        False,
    )
