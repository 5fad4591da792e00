"""How answers are read that lie in the company's own tables: as a guest, who neither waits long nor stays.

Every statement that reads the view `attempt` comes through here, by the cursor that all connections have, and bulk
reads by `warehouse`. What does not belong here: which tables these are (see `own_log`).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import Row

GUEST_MS = {"lock_timeout": 2_000, "statement_timeout": 300_000}
"""How long a read of the company's tables waits for a lock, and lasts: what queues behind would stop their service."""
_BEGINS = re.compile(r"\s*(?:SELECT|WITH)\b", re.I)
_LOG = re.compile(r'\b(?:FROM|JOIN)\s+"?attempt\b', re.I)
_OUR_LOG = """
SELECT bool_and(refobjid IN (to_regclass('response_log'), to_regclass('question')))
   AND bool_or(refobjid = (SELECT oid FROM pg_class WHERE oid = to_regclass('response_log') AND relkind = 'p'))
FROM pg_depend
WHERE classid = 'pg_rewrite'::regclass AND objid = (SELECT oid FROM pg_rewrite WHERE ev_class = to_regclass('attempt'))
  AND refclassid = 'pg_class'::regclass AND refobjid <> to_regclass('attempt')
"""
"""True where `attempt` reads our table, and no other than that and the bank. The θ API may only hash joins, and it
has none."""
_LIMIT = """
SELECT set_config(name, (1000 * extract(epoch FROM least(nullif(current_setting(name)::interval, '0'),
                                                         most * interval '1 ms')))::bigint::text, true)
FROM unnest(%s::text[], %s::int[]) AS limits (name, most)
UNION ALL SELECT set_config('transaction_read_only', 'on', true)
"""
_LET_GO = b"ROLLBACK TO SAVEPOINT guest; RELEASE SAVEPOINT guest"


class GuestCursor(psycopg.Cursor[Row]):
    """A `cursor_factory`: a SELECT of the log runs `as_guest`."""

    def execute(
        self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        text = query.as_string(self) if isinstance(query, sql.Composable) else query
        if not reads_log(text.decode() if isinstance(text, bytes) else text):
            return super().execute(query, params, prepare=prepare, binary=binary)
        with as_guest(self.connection):
            return super().execute(query, params, prepare=prepare, binary=binary)


@lru_cache(256)
def reads_log(query: str) -> bool:
    """Whether a statement is a SELECT of the view `attempt`."""
    return "attempt" in query and bool(_BEGINS.match(query) and _LOG.search(query))


def reads_own_tables(connection: psycopg.Connection) -> bool:
    """Whether the view `attempt` reads other tables than `response_log` and the bank: by a mapping, or made by hand."""
    row = connection.execute(_OUR_LOG, prepare=True).fetchone()
    return not (row and row[0])


def log_has_scores(connection: psycopg.Connection) -> bool:
    """Whether the view `attempt` has the column `score`, which one that was made by hand may lack."""
    query = "SELECT FROM pg_attribute WHERE attrelid = to_regclass('attempt') AND attname = 'score'"
    return connection.execute(query).rowcount > 0


@contextmanager
def as_guest(connection: psycopg.Connection) -> Iterator[bool]:
    """Within the block, where the log is in tables that are not ours, no statement waits longer for a lock, nor takes
    longer, than GUEST_MS, and none writes; whether it is.

    At its end their locks are given back, although the caller's transaction goes on: those of a savepoint end with it.
    """
    if not reads_own_tables(connection):
        yield False
        return
    if connection.info.transaction_status == TransactionStatus.IDLE:  # with autocommit
        with connection.transaction(force_rollback=True):
            connection.execute(_LIMIT, ([*GUEST_MS], [*GUEST_MS.values()]), prepare=True)
            yield True
        return
    connection.execute("SAVEPOINT guest")
    try:
        connection.execute(_LIMIT, ([*GUEST_MS], [*GUEST_MS.values()]), prepare=True)
        yield True
    finally:
        if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            connection.pgconn.exec_(_LET_GO)  # from psycopg, a rollback drops all prepared statements


def set_limits(connection: psycopg.Connection, values: Mapping[str, int]) -> None:
    """For the rest of the caller's transaction, in ms."""
    for name, value in values.items():
        connection.execute("SELECT set_config(%s, %s, true)", (name, str(value)))
