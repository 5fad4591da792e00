"""Data versions of what the platform does not write itself: the bank, and the log day by day.

What was computed from a version is kept in `resources.postgres.sources`.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import ibis
import psycopg

from irt_assets.common.partitions import day_bounds, spans
from irt_assets.responses.answers import attempts_between, live_answers
from irt_assets.responses.row_hash import row_hash, sums_by
from resources.cluster.relational import Run, lake, on_log
from resources.postgres.database import one_value
from resources.postgres.relations import ATTEMPT


def bank_version(connection: psycopg.Connection) -> str:
    """Changes whenever an item, its topic, its scale or its meta does."""
    query = """SELECT md5(string_agg(md5(q::text), '' ORDER BY item_id))
               FROM (SELECT item_id, scale_id, topic_id, testlet_id, meta FROM question) q"""
    return one_value(connection, query) or "empty"


def day_versions(connection: psycopg.Connection, start: datetime, end: datetime) -> dict[str, str]:
    """A hash of the answers of every day in [start, end), by day (UTC, YYYY-MM-DD); days without are absent.

    In a lake, that of its manifests; of a table of Spark's catalogue, which has none, it is computed.
    """
    if (whole := lake(connection)) is not None:
        if (stored := whole.days(start, end)) is not None:
            return stored
        attempts = attempts_between(start, end)
        hashed = attempts.select(day=attempts.completed_at.date(), h=row_hash(attempts, ATTEMPT.columns))
        sums = sums_by(on_log(connection, start, end), hashed, "day")
        return {str(day): _short(text) for day, text in sums}
    rows = connection.execute(
        """
        SELECT to_char(t.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count(*),
               sum(('x' || left(md5(a::text || coalesce('|' || score, '')), 16))::bit(64)::bigint::numeric)
        FROM attempt t CROSS JOIN LATERAL (
          SELECT t.id, t.user_id, t.item_id, t.session_id, t.form_id, t.position, t.completed_at, t.correct, t.response,
                 t.response_time_ms, t.hints_used, t.mode) a
        WHERE t.completed_at >= %s AND t.completed_at < %s
        GROUP BY 1
        """,
        (start, end),
    ).fetchall()
    return {day: _short(f"{n} {total}") for day, n, total in rows}


def answer_versions(
    connection: psycopg.Connection, start: datetime, end: datetime, run: Run | None = None
) -> dict[str, str]:
    """A hash of the live answers of every day of [start, end), two midnights, by day (UTC, YYYY-MM-DD).

    Changes with anything that features and KPIs read of a day (`answers.live_answers`), and with nothing else: not with
    sandbox answers or those of test accounts. It is of the log that these are made from (`relational.on_log`), and not
    the same without Spark and with it.

    run: where it is read with Spark, the same wherever the same answers are; None: `on_log`.
    """
    if lake(connection) is not None:
        rows = live_answers(start, end, "topic_id")
        rows = rows.mutate(time=rows.time.cast("int64"))  # milliseconds
        hashed = rows.select("day", h=row_hash(rows, [name for name in rows.columns if name != "day"]))
        sums = sums_by(run or on_log(connection, start, end), hashed, "day")
        return _of_days(start, end, {str(day): text for day, text in sums})
    answers = ibis.to_sql(live_answers(start, end, "topic_id"), dialect="postgres").replace("%", "%%")
    # Rows are hashed as they are and not as text, which takes a quarter of the time.
    rows = connection.execute(
        f"""
        SELECT to_char(day, 'YYYY-MM-DD'), n, total
        FROM (SELECT day, count(*) AS n, sum(hash_record_extended(a, 0)) AS total FROM ({answers}) a
              GROUP BY 1) hashed
        """.encode()
    ).fetchall()
    return _of_days(start, end, {day: f"{n} {total}" for day, n, total in rows})


def answer_versions_of(connection: psycopg.Connection, days: Iterable[str], run: Run | None = None) -> dict[str, str]:
    """`answer_versions` of some days."""
    found: dict[str, str] = {}
    for first, last in spans(days):
        found |= answer_versions(connection, day_bounds(first)[0], day_bounds(last)[1], run)
    return found


def _of_days(start: datetime, end: datetime, found: Mapping[str, str]) -> dict[str, str]:
    days = [str((start + timedelta(days=n)).date()) for n in range((end - start).days)]
    return {day: _short(found.get(day, "empty")) for day in days}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
