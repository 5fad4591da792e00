"""Partitions of the log, one per month.

A partition of `response_log` is created by the import that fills it, or ahead of time. A partition of `attempt_verdict`
is created when its first day is judged.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import psycopg
from psycopg import sql

from resources.postgres.database import advisory_lock, first_column

INCOMING = "response_log_incoming"  # visible only to the transaction that fills new months


@contextmanager
def fill_new_months(connection: psycopg.Connection, months: Iterable[str]) -> Iterator[list[str]]:
    """Yield the months without a partition in response_log; the block fills the table INCOMING with their answers.

    At the end they become partitions of response_log and are indexed at once, which is much faster than index updates
    for each row. Other creators of partitions wait until the caller's transaction ends.
    """
    advisory_lock(connection, "response_log", "partitions")
    missing = _missing_months(connection, sorted(months))
    if not missing:
        yield missing
        return
    like = sql.SQL("(LIKE response_log INCLUDING ALL EXCLUDING INDEXES)")
    incoming = sql.Identifier(INCOMING)
    connection.execute(sql.SQL("CREATE TABLE {} {} PARTITION BY RANGE (completed_at)").format(incoming, like))
    for month in missing:
        connection.execute(sql.SQL("CREATE TABLE {} {}").format(sql.Identifier(partition_of(month)), like))
        _attach(connection, month, to=INCOMING)
    yield missing
    for month in missing:
        partition = sql.Identifier(partition_of(month))
        connection.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(incoming, partition))
        _attach(connection, month, to="response_log")
        connection.execute(sql.SQL("ANALYZE {}").format(partition))
    connection.execute(sql.SQL("DROP TABLE {}").format(incoming))


def make_months_ahead(connection: psycopg.Connection, now: datetime) -> None:
    """Create the partitions for the next answers: an INSERT creates no partition, and fails without one."""
    if missing := missing_months_ahead(connection, now):
        with fill_new_months(connection, missing):
            pass  # there are no answers of these months yet


def missing_months_ahead(connection: psycopg.Connection, now: datetime) -> list[str]:
    """The months without a partition of the log, among the month of `now` (UTC) and the next two."""
    first = now.astimezone(UTC).replace(day=1)
    return _missing_months(connection, [f"{first + timedelta(days=days):%Y-%m}" for days in (0, 31, 62)])


def partitions_of_log(connection: psycopg.Connection) -> list[str]:
    """The names of response_log's partitions."""
    return first_column(
        connection,
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'response_log'::regclass",
    )


def make_verdict_month(connection: psycopg.Connection, month: str) -> None:
    """Create a month's partition of `attempt_verdict` if it is missing.

    Other creators wait until the caller's transaction ends.
    """
    name = partition_of(month, "attempt_verdict")
    if connection.execute("SELECT to_regclass(%s)", (name,)).fetchone() == (None,):
        advisory_lock(connection, "attempt_verdict", "partitions")
        query = "CREATE TABLE IF NOT EXISTS {} PARTITION OF attempt_verdict FOR VALUES FROM ({}) TO ({})"
        connection.execute(sql.SQL(query).format(sql.Identifier(name), *_bounds(month)))


def partition_of(month: str, table: str = "response_log") -> str:
    """The name of a month's partition."""
    return f"{table}_{month.replace('-', '_')}"


def _bounds(month: str) -> tuple[sql.Literal, sql.Literal]:
    first = date.fromisoformat(f"{month}-01")
    last = (first + timedelta(days=31)).replace(day=1)
    return sql.Literal(f"{first} 00:00:00+00"), sql.Literal(f"{last} 00:00:00+00")


def _missing_months(connection: psycopg.Connection, months: list[str]) -> list[str]:
    existing = partitions_of_log(connection)
    return [month for month in months if partition_of(month) not in existing]


def _attach(connection: psycopg.Connection, month: str, *, to: str) -> None:
    connection.execute(
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            sql.Identifier(to), sql.Identifier(partition_of(month)), *_bounds(month)
        )
    )
