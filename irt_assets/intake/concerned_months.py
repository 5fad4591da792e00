"""The months whose verdicts a correction may change."""

from collections.abc import Collection
from datetime import datetime

import psycopg

from irt_assets.common.partitions import day_bounds
from irt_assets.scales.scale import read_scales
from resources.postgres.database import first_column


def months_concerned(connection: psycopg.Connection, since: datetime, days: Collection[str]) -> set[str]:
    """Months (YYYY-MM) whose eligibility may have changed through answers of `days` recorded from `since` on.

    These are the answers' own months, and the months in which the same learner met the same item later, within a
    scale's look-back. A late answer in an exam makes the unanswered items before it omitted, so they count like late
    answers.
    """
    if not days:
        return set()
    scales = read_scales(connection).values()
    lookback = max((scale.rules.eligibility.lookback_months for scale in scales), default=0)
    return set(
        first_column(
            connection,
            """
        WITH late AS (
            SELECT user_id, item_id, session_id, form_id, completed_at FROM attempt
            WHERE recorded_at >= %(since)s AND completed_at >= %(start)s AND completed_at < %(end)s
              AND (completed_at AT TIME ZONE 'UTC')::date = ANY(%(days)s::date[])
            UNION ALL
            SELECT user_id, item_id, session_id, form_id, completed_at FROM attempt_correction
            WHERE corrected_at >= %(since)s AND (completed_at AT TIME ZONE 'UTC')::date = ANY(%(days)s::date[])
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
            SELECT date_trunc('month', completed_at AT TIME ZONE 'UTC') AS month FROM late
            UNION
            SELECT date_trunc('month', a.completed_at AT TIME ZONE 'UTC')
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
                "lookback": lookback,
            },
        )
    )
