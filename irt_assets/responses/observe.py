"""Data versions of what the platform does not write itself: the bank, and the log day by day."""

from __future__ import annotations

import hashlib
from datetime import datetime

import psycopg


def bank_version(connection: psycopg.Connection) -> str:
    """Changes whenever an item, its topic, its scale or its meta does."""
    row = connection.execute("SELECT md5(string_agg(md5(q::text), '' ORDER BY item_id)) FROM question q").fetchone()
    return (row and row[0]) or "empty"


def day_versions(connection: psycopg.Connection, start: datetime, end: datetime) -> dict[str, str]:
    """A hash of the answers of every day in [start, end), by day (UTC, YYYY-MM-DD); days without are absent."""
    rows = connection.execute(
        """
        SELECT to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count(*),
               sum(('x' || left(md5(a::text), 16))::bit(64)::bigint::numeric)
        FROM (SELECT id, user_id, item_id, session_id, form_id, position, completed_at, correct, response,
                     response_time_ms, hints_used, mode
              FROM attempt WHERE completed_at >= %s AND completed_at < %s) a
        GROUP BY 1
        """,
        (start, end),
    ).fetchall()
    return {day: hashlib.sha256(f"{n} {total}".encode()).hexdigest()[:16] for day, n, total in rows}
