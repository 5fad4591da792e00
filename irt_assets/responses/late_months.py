"""Late answers: what has reached the log of days that are over, and which months it may concern.

`recorded_at` is the time at which the transaction that wrote an answer began; it may be committed hours later. So it
only narrows down where to look, and counts show what is new: answers are added to the log, and neither changed nor
removed.
What does not belong here: the runs requested because of them (see `jobs.late_answers_cursor`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.common.partitions import day_bounds, day_of
from irt_assets.responses.data_versions import mark_of_change
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import current_snapshot
from resources.postgres.database import first_column
from resources.postgres.own_log import reads_log


@dataclass(frozen=True)
class Arrival:
    """The answers of a day (YYYY-MM-DD) that were recorded within one hour; `latest` of their `recorded_at`.

    `attempts` are all of them, `live` those in live mode.
    """

    day: str
    hour: str
    attempts: int
    live: int
    latest: datetime


@reads_log
def arrivals(connection: psycopg.Connection, since: datetime, until: datetime) -> list[Arrival]:
    """What was recorded from `since` (a full hour) on of the days before that of `until`, by day and hour."""
    rows = connection.execute(
        """SELECT to_char(day, 'YYYY-MM-DD'), to_char(hour, 'YYYY-MM-DD"T"HH24'), n, live, latest FROM (
               SELECT (completed_at AT TIME ZONE 'UTC')::date AS day,
                      date_trunc('hour', recorded_at AT TIME ZONE 'UTC') AS hour,
                      count(*) AS n, count(*) FILTER (WHERE mode = 'live') AS live, max(recorded_at) AS latest
               FROM attempt WHERE recorded_at >= %s AND completed_at < %s GROUP BY 1, 2
           ) t ORDER BY 1, 2""",
        (since, day_bounds(day_of(until))[0]),
    ).fetchall()
    return [Arrival(*row) for row in rows]


@reads_log
def months_concerned(
    connection: psycopg.Connection, since: datetime, days: Collection[str], lookback_months: int
) -> set[str]:
    """Months (YYYY-MM) whose facts of eligibility the answers of `days`, recorded from `since` on, may have changed.

    Their own months, and those in which the same learner met the same item within `lookback_months` after. A late
    answer in an exam makes the unanswered items before it omitted, so these count like late ones.
    """
    if not days:
        return set()
    return set(
        first_column(
            connection,
            """
        WITH late AS (
            SELECT user_id, item_id, session_id, form_id, completed_at FROM attempt
            WHERE recorded_at >= %(since)s AND completed_at >= %(start)s AND completed_at < %(end)s
              AND (completed_at AT TIME ZONE 'UTC')::date = ANY(%(days)s::date[])
        ), exam AS (
            SELECT user_id, session_id, min(completed_at) AS begun, max(completed_at) AS ended
            FROM late WHERE form_id IS NOT NULL GROUP BY 1, 2
        ), met AS (
            SELECT user_id, item_id, min(completed_at) AS first, max(completed_at) AS last FROM (
                SELECT user_id, item_id, completed_at FROM late
                UNION ALL
                SELECT u.user_id, u.item_id, u.completed_at FROM attempt u JOIN exam USING (user_id, session_id)
                WHERE u.correct IS NULL AND u.form_id IS NOT NULL
                  AND u.completed_at >= begun - interval '1 day' AND u.completed_at <= ended + interval '1 day'
            ) t GROUP BY 1, 2
        )
        SELECT to_char(month, 'YYYY-MM') FROM (
            SELECT DISTINCT date_trunc('month', a.completed_at AT TIME ZONE 'UTC') AS month
            FROM attempt a JOIN met USING (user_id, item_id)
            WHERE a.completed_at >= met.first
              AND a.completed_at <= met.last + make_interval(months => %(lookback)s)
              AND a.completed_at >= %(start)s::timestamptz - interval '1 day'
        ) t
        """,
            {
                "since": since,
                "days": list(days),
                "start": day_bounds(min(days))[0],
                "end": day_bounds(max(days))[1],
                "lookback": lookback_months,
            },
        )
    )


def changed_hash(connection: psycopg.Connection, month: str) -> str | None:
    """`mark_of_change` where a month's snapshot was made from other answers than there are; None where it was not."""
    snapshot = current_snapshot(connection, month)
    if snapshot is None:
        return None
    return mark_of_change(connection, month, read_scales(connection), snapshot.data_hash)
