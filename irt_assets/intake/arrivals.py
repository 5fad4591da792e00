"""Counts of the rows that each source has brought, and the refused rows: the tables `intake` and `intake_reject`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from irt_assets.intake.report import ImportReport, RefusedRow, Reject
from resources.postgres.database import named_rows, one_value, records

FILES = "irt import"
"""Name of all files together in lists of sources."""
SOURCE = f"CASE kind WHEN 'file' THEN '{FILES}' WHEN 'inbox' THEN 'inbox' ELSE source END"
"""SQL for the name of a source of `intake` in lists and alerts."""
MAX_PER_DAY = 10_000
DAYS_KEPT = 30
MAX_ROW_LENGTH = 10_000
UNREAD_REASONS = ("bad_json", "ragged_row", "unknown_field", "missing_field")
"""Reasons for which a row is refused before its learner is read."""
ERASURES = "SELECT count(*) FROM erasure"
"""Query for the number of erasures. Rows that were read before it grew may be of a learner who was erased since."""
ADD_COUNTS = """
    INSERT INTO intake AS i VALUES (
        %(source)s, %(kind)s, CASE %(kind)s WHEN 'http' THEN date_trunc('minute', now()) ELSE now() END,
        pg_backend_pid(), %(read)s, %(accepted)s, %(corrected)s, %(duplicates)s, %(clock_ahead)s, %(rejected)s,
        %(latest)s)
    ON CONFLICT (source, kind, arrived_at, writer) DO UPDATE SET
        read = i.read + excluded.read, accepted = i.accepted + excluded.accepted,
        corrected = i.corrected + excluded.corrected, duplicates = i.duplicates + excluded.duplicates,
        clock_ahead = i.clock_ahead + excluded.clock_ahead, latest = greatest(i.latest, excluded.latest),
        rejected = CASE excluded.rejected WHEN '{}' THEN i.rejected ELSE (
            SELECT jsonb_object_agg(key, n) FROM (
                SELECT key, sum(value::bigint) AS n FROM (
                    SELECT * FROM jsonb_each_text(i.rejected)
                    UNION ALL SELECT * FROM jsonb_each_text(excluded.rejected)) each GROUP BY key) summed) END
"""


class Arrival:
    """Counts and refused rows of one arrival, stored in the transaction of `connection`.

    `reject` is also called with the refused rows.
    """

    def __init__(self, connection: psycopg.Connection, kind: str, source: str, reject: Reject) -> None:
        self._connection, self._kind, self._source, self._reject = connection, kind, source, reject
        self._refused: list[RefusedRow] = []
        self._latest: datetime | None = None
        self._erasures = connection.execute(ERASURES)  # in a pipeline, the result arrives with a later statement's
        self.report = ImportReport()

    def update_latest(self, latest: datetime | None) -> None:
        self._latest = max(filter(None, (self._latest, latest)), default=None)

    def refuse(self, rows: Iterable[RefusedRow]) -> None:
        refused = list(rows)
        self._refused += refused[: MAX_PER_DAY - len(self._refused)]
        self._reject(refused)

    def store_counts(self) -> None:
        """Store the counts of the report, and the refused rows for which the day has room."""
        values = vars(self.report) | {"source": self._source, "kind": self._kind, "latest": self._latest}
        self._connection.execute(ADD_COUNTS, values | {"rejected": Jsonb(self.report.rejected)})
        if self._refused:
            self._store_refused()

    def _store_refused(self) -> None:
        today = one_value(
            self._connection,
            "SELECT count(*) FROM intake_reject WHERE source = %s AND arrived_at >= date_trunc('day', now())",
            (self._source,),
        )
        erasures = one_value(self._connection, ERASURES)
        [(before,)] = self._erasures.fetchall()
        unread = frozenset(UNREAD_REASONS if erasures == before else {row.reason for row in self._refused})
        rows = [
            (self._source, self._kind, line, reason, "", "")
            if erasures and reason in unread
            else (self._source, self._kind, line, reason, _storable(value), _storable(row))
            for _, line, reason, value, row in self._refused[: max(0, MAX_PER_DAY - today)]
        ]
        with self._connection.cursor() as cursor:
            cursor.executemany(
                """INSERT INTO intake_reject (source, kind, line, reason, value, "row")
                   VALUES (%s, %s, %s, %s, %s, %s)""",
                rows,
            )


def _storable(text: str) -> str:
    return text[:MAX_ROW_LENGTH].replace("\0", "\N{SYMBOL FOR NULL}")


@dataclass(frozen=True)
class SourceState:
    """Counts of a source over the last day, the time of its last arrival and of its latest answer. All files are one
    source."""

    source: str
    kind: str
    last: datetime
    latest: datetime | None
    read: int
    stored: int
    duplicates: int
    refused: int


def source_states(connection: psycopg.Connection) -> list[SourceState]:
    """The sources that have brought answers in the last 28 days, latest arrival first."""
    return records(
        connection,
        SourceState,
        f"""SELECT {SOURCE} AS source, kind, max(arrived_at) AS last,
             max(latest) AS latest, coalesce(sum(read) FILTER (WHERE today), 0)::bigint AS read,
             coalesce(sum(accepted + corrected) FILTER (WHERE today), 0)::bigint AS stored,
             coalesce(sum(duplicates) FILTER (WHERE today), 0)::bigint AS duplicates,
             coalesce(sum(read - accepted - corrected - duplicates) FILTER (WHERE today), 0)::bigint AS refused
           FROM (SELECT *, arrived_at > now() - interval '1 day' AS today FROM intake
                 WHERE arrived_at > now() - interval '28 days' AND kind NOT IN ('question', 'learner')) recent
           GROUP BY 1, 2 ORDER BY last DESC""",
    )


def arrivals(connection: psycopg.Connection, most: int) -> list[dict[str, Any]]:
    """The last `most` arrivals (a file, a pull, or a minute of posts), newest first."""
    return named_rows(
        connection,
        """SELECT arrived_at, source, kind, sum(read)::bigint AS read, sum(accepted)::bigint AS accepted,
             sum(corrected)::bigint AS corrected, sum(duplicates)::bigint AS duplicates,
             sum(read - accepted - corrected - duplicates)::bigint AS rejected,
             sum(clock_ahead)::bigint AS clock_ahead, max(latest) AS latest
           FROM intake GROUP BY 1, 2, 3 ORDER BY 1 DESC, 2 LIMIT %s""",
        (most,),
    )


def refused_rows(connection: psycopg.Connection, source: str | None = None) -> Iterator[RefusedRow]:
    """The stored refused rows, of all sources or one, in order of arrival."""
    with connection.cursor(name="refused") as cursor:
        kept = cursor.execute(
            """SELECT source, line, reason, value, "row" FROM intake_reject
               WHERE %(source)s::text IS NULL OR source = %(source)s ORDER BY reject_id""",
            {"source": source},
        )
        yield from (RefusedRow(*row) for row in kept)


def delete_old_rejects(connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM intake_reject WHERE arrived_at < now() - make_interval(days => %s)", (DAYS_KEPT,))


def drop_refused(connection: psycopg.Connection, matches: Callable[[Sequence[str]], bool]) -> int:
    """Delete the refused rows for whose value and row `matches` is true. Returns their number."""
    with connection.cursor(name="refused") as cursor:
        rows = cursor.execute('SELECT reject_id, value, "row" FROM intake_reject')
        matching = [number for number, *texts in rows if matches(texts)]
    connection.execute("DELETE FROM intake_reject WHERE reject_id = ANY(%s)", (matching,))
    return len(matching)


def days_of_sources(connection: psycopg.Connection, first: date) -> list[dict[str, Any]]:
    """Counts of rows by source and day of arrival (UTC) from `first` on. Days without arrivals are absent."""
    return named_rows(
        connection,
        f"""SELECT {SOURCE} AS source, (arrived_at AT TIME ZONE 'UTC')::date AS day, sum(read)::bigint AS read,
              sum(accepted)::bigint AS accepted, sum(corrected)::bigint AS corrected,
              sum(duplicates)::bigint AS duplicates,
              sum(read - accepted - corrected - duplicates)::bigint AS rejected
            FROM intake
            WHERE arrived_at >= %(first)s::timestamp AT TIME ZONE 'UTC' AND kind NOT IN ('question', 'learner')
            GROUP BY 1, 2""",
        {"first": first},
    )


def refusals_by_reason(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """The number `n` of stored refused rows by source, kind and reason, and the time of the `last` one."""
    return named_rows(
        connection,
        f"""SELECT {SOURCE} AS source, kind, reason, count(*) AS n, max(arrived_at) AS last
            FROM intake_reject GROUP BY 1, 2, 3 ORDER BY last DESC, 1, 3""",
    )
