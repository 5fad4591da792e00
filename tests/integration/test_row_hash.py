"""The hash of rows: PostgreSQL, DuckDB and a few lines of Python that follow its description agree on it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pytest

from irt_assets.partitions import month_bounds
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses.facts import LATER
from irt_assets.responses.row_hash import row_hash, sums_of
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import SNAPSHOT, data_hash, data_hash_on_duckdb, judged_window
from resources.database import Database
from resources.relational import ATTEMPT, LEARNER, QUESTION, on_postgres
from tests.helpers.rooms import SCALE, add_attempts, add_items, add_learners, attempt, run_sql

MONTH = "2026-03"
START, END = month_bounds(MONTH)
SCALES = {SCALE: Scale(SCALE, rules=Rules()), "other": Scale("other", rules=Rules(lookback_months=2))}
TINY = timedelta(microseconds=1)
DIRTY = [
    "o'neill", 'say "hi"', "a|b", "a\\pb", "\\", "\\\\", "|", "=", "", " ", "a,b\nc\t\r", "NULL", "\\N", "null",
    "0.1", "-0.0",
    "NaN", "🦉", "e\u0301", "é", "Straße", "\u200b", "名前", "x" * 500, "%s {} $1",
]  # fmt: skip
"""Texts, as ids and as options."""
ONE_OF_THEM = f"{DIRTY.index('NaN')}NaN"
"""The id of an attempt of this month."""


def dirty_log() -> list[dict[str, Any]]:
    """Every text as learner, item, session and option; nulls; the window's edges, fractions of a second, and an hour
    that New York's clocks left out (2026-03-08 02:30 is 07:30 UTC)."""
    times = [
        START,
        START + TINY,
        END - TINY,
        datetime(2026, 3, 8, 7, 30, 0, 1, UTC),
        START + timedelta(days=9, microseconds=999_999),
    ]
    log = []
    for n, text in enumerate(DIRTY):
        log.append(
            attempt(
                text,
                DIRTY[-n - 1],
                times[n % len(times)],
                attempt_id=f"{n}{text}",
                session_id=text if n % 3 else None,
                form_id=text if n % 2 else None,
                position=n or None,
                started_at=None if n % 4 else datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC) - n * TINY,
                correct=(True, False, None)[n % 3],
                response=text if n % 5 else None,
                response_time_ms=None if n % 3 == 0 else 2**40 + n,
                hints_used=(None, 0, 2)[n % 3],
                mode="sandbox" if n % 7 == 0 else "live",
            )
        )
        log.append(attempt(text, DIRTY[-n - 1], START - timedelta(days=20 * n + 1), attempt_id=f"before {n}"))
    return log


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
    hashes = [hashlib.md5("".join(written(row[name]) for name in SNAPSHOT).encode()).hexdigest() for row in table]
    sums = [sum(int(h[start : start + 15], 16) for h in hashes) for start in (0, 16)]
    return "v2:" + hashlib.sha256(f"{len(hashes)} {sums[0]} {sums[1]}".encode()).hexdigest()


@pytest.fixture
def dirty(database: Database) -> Database:
    """A log of dirty texts; some items are in no bank, some learners are test accounts, some nobody knows."""
    add_items(database, dict.fromkeys(DIRTY[::2]))
    add_items(database, dict.fromkeys(DIRTY[1::4]), "other")
    run_sql(database, "UPDATE question SET topic_id = NULL WHERE item_id < 'a'")
    run_sql(database, "UPDATE question SET topic_id = item_id WHERE item_id > 'm'")
    add_learners(database, DIRTY[:9])
    add_learners(database, DIRTY[9:12], is_test=True)
    add_attempts(database, dirty_log())
    return database


def hash_on_duckdb(database: Database) -> str:
    """Over copies of what PostgreSQL has."""
    relations = {
        "attempt": ATTEMPT.filter(ATTEMPT.completed_at < END + LATER),
        "question": QUESTION.select("item_id", "scale_id", "topic_id"),
        "learner": LEARNER.select("user_id", "is_test"),
    }
    with duckdb.connect() as copies, database.connect() as connection:
        copies.execute("SET TimeZone = 'America/New_York'")
        for name, relation in relations.items():
            copies.register(name, on_postgres(connection)(relation))
        return data_hash_on_duckdb(copies, START, END, SCALES)


def test_postgresql_duckdb_and_the_description_agree_on_dirty_rows(dirty: Database) -> None:
    with dirty.connect() as connection:
        window = judged_window(connection, START, END, SCALES)
        found = data_hash(connection, START, END, SCALES)
    table = window.table.select(SNAPSHOT).to_pylist()
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
