"""Late answers: what has reached the log of days that are over or was changed there, and which months it may concern.

`recorded_at` is the time at which the transaction that wrote an answer began; it may be committed hours later. So it
only narrows down where to look, and counts show what is new: of answers, of corrections, and of changes, which triggers
count whoever writes. An answer that was changed or deleted by hand is among these alone.
What does not belong here: the runs requested because of them (see `jobs.watching.late_answers_cursor`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.common.partitions import day_bounds, day_of
from irt_assets.responses.closed_months import scales_to_compare
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.data_versions import mark_of_change
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import current_snapshot
from resources.postgres.database import first_column, records


@dataclass(frozen=True)
class Arrival:
    """What happened within one hour to the answers of a day (YYYY-MM-DD); `latest`: when the last of it began.

    `attempts` are all that were recorded or corrected, `live` those in live mode, `corrected` former rows of those that
    were corrected or withdrawn, `changes` transactions.
    """

    day: str
    hour: str
    attempts: int
    live: int
    corrected: int
    changes: int
    latest: datetime

    @property
    def counts(self) -> tuple[int, int]:
        """Another pair: something has happened since; another second number: perhaps to live answers."""
        return self.attempts + self.changes, self.live + self.changes

    @property
    def is_new(self) -> bool:
        """Whether no earlier answer was corrected, withdrawn, or changed by hand."""
        return self.attempts > 0 and not self.corrected


def arrivals(connection: psycopg.Connection, since: datetime, until: datetime) -> list[Arrival]:
    """What was recorded or changed from `since` (a full hour) on, of the days before that of `until`."""
    return records(
        connection,
        Arrival,
        """WITH happened AS (
               SELECT (completed_at AT TIME ZONE 'UTC')::date AS day,
                      date_trunc('hour', recorded_at AT TIME ZONE 'UTC') AS hour, count(*) AS attempts,
                      count(*) FILTER (WHERE mode = 'live') AS live, 0 AS corrected, 0 AS changes,
                      max(recorded_at) AS latest
               FROM attempt WHERE recorded_at >= %(since)s AND completed_at < %(today)s GROUP BY 1, 2
               UNION ALL
               SELECT (completed_at AT TIME ZONE 'UTC')::date, date_trunc('hour', corrected_at AT TIME ZONE 'UTC'),
                      count(*), count(*) FILTER (WHERE mode = 'live'), count(*), 0, max(corrected_at)
               FROM attempt_correction WHERE corrected_at >= %(since)s AND completed_at < %(today)s GROUP BY 1, 2
               UNION ALL
               SELECT part::date, date_trunc('hour', changed_at AT TIME ZONE 'UTC'), 0, 0, 0, changes, changed_at
               FROM data_change WHERE changed_at >= %(since)s AND part ~ '^[0-9]' AND part < %(day)s)
           SELECT to_char(day, 'YYYY-MM-DD') AS day, to_char(hour, 'YYYY-MM-DD"T"HH24') AS hour,
                  sum(attempts)::bigint AS attempts, sum(live)::bigint AS live, sum(corrected)::bigint AS corrected,
                  sum(changes)::bigint AS changes, max(latest) AS latest
           FROM happened h GROUP BY h.day, h.hour ORDER BY 1, 2""",
        {"since": since, "today": day_bounds(day_of(until))[0], "day": day_of(until)},
    )


def months_concerned(connection: psycopg.Connection, since: datetime, days: Collection[str]) -> set[str]:
    """Months (YYYY-MM) whose facts of eligibility may have changed with answers of `days` that came from `since` on.

    Their own months, and those in which the same learner met the same item within a scale's look-back after. A late
    answer in an exam makes the unanswered items before it omitted, so these count like late ones.
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


def changed_hash(connection: psycopg.Connection, month: str) -> str | None:
    """`mark_of_change` of a month whose snapshot was made from other answers of open scales than there are now.

    Returns None if it was not, and if the month is closed.
    """
    snapshot, scales = current_snapshot(connection, month), read_scales(connection)
    closed = {one.scale_id for one in read_closed(connection, [month])}
    if snapshot is None or scales.keys() <= closed:
        return None
    changed = mark_of_change(connection, month, scales, snapshot.data_hash)
    return changed if changed and scales_to_compare(connection, month, snapshot.counts, scales, closed) else None
