"""The hash of rows, which PostgreSQL and DuckDB compute alike; `test_stored_window` has its description in Python."""

from __future__ import annotations

import hashlib

import duckdb
import ibis
import pyarrow as pa
import pytest

from irt_assets.responses.answers import attempts_between
from irt_assets.responses.row_hash import query_of_sums, row_hash, sums_of
from resources.cluster.relational import on_duckdb, on_postgres
from resources.postgres.database import Database
from tests.helpers.dirty_log import DIRTY, END, START, load_dirty
from tests.helpers.rooms import run_sql

ONE_OF_THEM = f"{DIRTY.index('NaN')}NaN"
"""The id of an attempt of this month."""


@pytest.fixture
def dirty(database: Database) -> Database:
    load_dirty(database)
    return database


def hash_of_log(database: Database) -> str:
    """The count and sums of the month's rows, which PostgreSQL and DuckDB compute alike."""
    rows = attempts_between(START, END).drop("recorded_at")  # a trigger sets it
    with duckdb.connect() as copies, database.connect() as connection:
        copies.execute("SET TimeZone = 'America/New_York'")
        copies.register("attempt", on_postgres(connection)(attempts_between(START, END)))
        runs = on_postgres(connection), on_duckdb(copies)
        sums = "SELECT concat(a, ' ', b, ' ', c) AS sums FROM ({}) t(a, b, c)"
        found = {run.read(sums.format(query_of_sums(rows, run.backend)))["sums"][0].as_py() for run in runs}
    (digest,) = found
    return digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("response = ''", "response = NULL"),
        ("response = 'a|', session_id = 'b'", "response = 'a', session_id = '|b'"),
        ("response = '\\p'", "response = '|'"),
        ("response = 'a', form_id = NULL", "response = NULL, form_id = 'a'"),
        ("hints_used = 0", "hints_used = NULL"),
        ("correct = false", "correct = NULL"),
        ("started_at = '2026-03-01 00:00:00.000001+00'", "started_at = '2026-03-01 00:00:00.000002+00'"),
        ("response = 'é'", "response = U&'e\\0301'"),
    ],
)
def test_rows_that_differ_have_different_hashes(dirty: Database, one: str, other: str) -> None:
    found = set()
    for values in (one, other):
        run_sql(dirty, f"UPDATE response_log SET {values} WHERE attempt_id = '{ONE_OF_THEM}'")
        found.add(hash_of_log(dirty))
    assert len(found) == 2


def test_sums_of_hashes_do_not_depend_on_the_chunks() -> None:
    hashes = [hashlib.md5(str(n).encode()).hexdigest() for n in range(1000)] + ["f" * 32, "0" * 32]
    chunks = pa.chunked_array([hashes[:10], hashes[10:10], hashes[10:]])
    expected = tuple(sum(int(h[start : start + 15], 16) for h in hashes) for start in (0, 16))
    assert sums_of(chunks) == sums_of(chunks.slice(0)) == expected
    assert sums_of(chunks.slice(5)) == tuple(
        sum(int(h[start : start + 15], 16) for h in hashes[5:]) for start in (0, 16)
    )


def test_row_hash_of_a_float_column_is_refused() -> None:
    table = ibis.table({"x": "float64"}, name="t")
    with pytest.raises(TypeError, match="x is float64"):
        row_hash(table, ["x"])
