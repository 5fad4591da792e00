"""Remembers the hash of a window's answers while PostgreSQL has counted no write to their tables.

For pages that show many months often: hashing a month of a million answers takes seconds. What decides about a month
hashes its answers each time (see `window.data_hash`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from irt_assets.responses.facts import LATER, lookback_start
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import data_hash

LATER_TRUSTED_S = 3600.0
"""Answers after the window's end hardly ever change it (see `facts.LATER`), and come all the time."""

Counters = tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class _Remembered:
    digest: str
    written: Counters
    written_later: Counters
    at: float


class RememberedHashes:
    """Called like `data_hash`; its answer may miss writes of the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[object, ...], _Remembered] = {}

    def __call__(
        self, connection: psycopg.Connection, start: datetime, end: datetime, scales: Mapping[str, Scale]
    ) -> str:
        since = lookback_start(start, scales)
        window = (start, end, since, *((s.scale_id, s.rules.lookback_months) for s in scales.values()))
        counters = _counters(connection)
        written = _of_months(counters, since, end)
        written_later = _of_months(counters, end, end + LATER)
        known, now = self._known.get(window), self._clock()
        if (
            known is not None
            and known.written == written
            and (known.written_later == written_later or now - known.at < LATER_TRUSTED_S)
        ):
            return known.digest
        digest = data_hash(connection, start, end, scales)
        self._known[window] = _Remembered(digest, written, written_later, now)
        return digest


def _counters(connection: psycopg.Connection) -> dict[str, tuple[object, ...]]:
    """For each table, values that change with every write, and when the table or PostgreSQL's counters are reset."""
    rows = connection.execute(
        """SELECT s.relname, s.n_tup_ins, s.n_tup_upd, s.n_tup_del, c.oid, c.relfilenode,
                  pg_postmaster_start_time(), d.stats_reset
           FROM pg_stat_user_tables s
             JOIN pg_class c ON c.oid = s.relid
             JOIN pg_stat_database d ON d.datname = current_database()
           WHERE s.relname IN ('question', 'learner') OR s.relname ~ '^response_log_'"""
    ).fetchall()
    return {row[0]: row for row in rows}


def _of_months(counters: Mapping[str, tuple[object, ...]], start: datetime, end: datetime) -> Counters:
    """The counters of the partitions that hold [start, end) or no month, and of the tables of items and learners."""
    first, last = f"response_log_{start:%Y_%m}", f"response_log_{end - timedelta(microseconds=1):%Y_%m}"
    return tuple(
        row
        for name, row in sorted(counters.items())
        if first <= name <= last or not name.removeprefix("response_log_")[:1].isdigit()
    )
