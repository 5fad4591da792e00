"""The hash of rows: PostgreSQL, DuckDB and a few lines of Python that follow its description agree on it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pytest

from irt_assets.responses.facts import LATER, SCORES
from irt_assets.responses.row_hash import row_hash, sums_of
from irt_assets.responses.window import SNAPSHOT, data_hash, data_hash_by, judged_window
from resources.cluster.relational import on_duckdb, on_postgres
from resources.postgres.database import Database
from resources.postgres.relations import ATTEMPT, LEARNER, QUESTION
from tests.helpers.dirty_log import DIRTY, END, SCALES, START, TINY, load_dirty
from tests.helpers.rooms import run_sql

ONE_OF_THEM = f"{DIRTY.index('NaN')}NaN"
"""The id of an attempt of this month."""


def written(value: object) -> str:
    """A value as the description of the encoding has it."""
    match value:
        case None:
            return "|"
        case bool():
            return f"={int(value)}|"
        case int():
            return f"={value}|"
        case datetime():
            return f"={(value - datetime(1970, 1, 1, tzinfo=UTC)) // TINY}|"
        case str():
            return "=" + value.replace("\\", "\\\\").replace("|", "\\p") + "|"
    raise TypeError(value)


def by_hand(table: list[dict[str, Any]]) -> str:
    texts = ["".join(written(row[name]) for name in SNAPSHOT) for row in table]
    for place, row in enumerate(table):
        texts[place] += "".join(f"{name}={row[name]}|" for name in SCORES if row[name] is not None)
    hashes = [hashlib.md5(text.encode()).hexdigest() for text in texts]
    sums = [sum(int(h[start : start + 15], 16) for h in hashes) for start in (0, 16)]
    return "v2:" + hashlib.sha256(f"{len(hashes)} {sums[0]} {sums[1]}".encode()).hexdigest()


@pytest.fixture
def dirty(database: Database) -> Database:
    load_dirty(database)
    return database


def hash_on_duckdb(database: Database) -> str:
    """Over copies of what PostgreSQL has."""
    relations = {
        "attempt": ATTEMPT.filter(ATTEMPT.completed_at < END + LATER),
        "question": QUESTION.select("item_id", "scale_id", "topic_id", "max_score"),
        "learner": LEARNER.select("user_id", "is_test"),
    }
    with duckdb.connect() as copies, database.connect() as connection:
        copies.execute("SET TimeZone = 'America/New_York'")
        for name, relation in relations.items():
            copies.register(name, on_postgres(connection)(relation))
        return data_hash_by(on_duckdb(copies), START, END, SCALES)


def test_postgresql_duckdb_and_the_description_agree_on_dirty_rows(dirty: Database) -> None:
    with dirty.connect() as connection:
        window = judged_window(connection, START, END, SCALES)
        found = data_hash(connection, START, END, SCALES)
    table = window.table.select([*SNAPSHOT, *SCORES]).to_pylist()
    assert {row["given_score"] for row in table} == {None, 1, 3}
    assert len(table) == len(DIRTY)
    assert {row["seen_before"] for row in table} == {row["is_test"] for row in table} == {True, False}
    assert {row["unknown_item"] for row in table} == {True, False}
    assert found == window.data_hash == by_hand(table) == hash_on_duckdb(dirty)


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
def test_rows_that_differ_have_other_hashes(dirty: Database, one: str, other: str) -> None:
    found = set()
    for values in (one, other):
        run_sql(dirty, f"UPDATE response_log SET {values} WHERE attempt_id = '{ONE_OF_THEM}'")
        with dirty.connect() as connection:
            found.add(data_hash(connection, START, END, SCALES))
        assert hash_on_duckdb(dirty) in found
    assert len(found) == 2


def test_sums_of_hashes_are_those_of_their_digits_over_any_chunks() -> None:
    hashes = [hashlib.md5(str(n).encode()).hexdigest() for n in range(1000)] + ["f" * 32, "0" * 32]
    chunks = pa.chunked_array([hashes[:10], hashes[10:10], hashes[10:]])
    expected = tuple(sum(int(h[start : start + 15], 16) for h in hashes) for start in (0, 16))
    assert sums_of(chunks) == sums_of(chunks.slice(0)) == expected
    assert sums_of(chunks.slice(5)) == tuple(
        sum(int(h[start : start + 15], 16) for h in hashes[5:]) for start in (0, 16)
    )


def test_a_fraction_is_refused() -> None:
    table = ibis.table({"x": "float64"}, name="t")
    with pytest.raises(TypeError, match="x is float64"):
        row_hash(table, ["x"])
