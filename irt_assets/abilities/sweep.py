"""Update learners whose answers are newer than their θ on request, because the request was lost or failed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from irt_assets.abilities.online import read_measures, update
from resources.postgres.database import Database, one_value

GRACE = timedelta(minutes=1)
"""Minimum age of answers: by then the session hook has requested θ, and the answers are committed.

A request may have come while a pull stored answers: only a θ that is younger than the pulled answers by this much has
certainly used them.
"""
MAX_AGE = timedelta(days=1)
"""Maximum age of answers: older ones come from imports, and the next night measures their learners."""


def record_online_updates(connection: psycopg.Connection, on: bool) -> None:
    """Record whether the exam service calls the θ API after each session, so that sweeps make up for lost requests."""
    connection.execute(
        """INSERT INTO server_setting (name, value) VALUES ('ENABLE_IRT_ONLINE_UPDATE', %s)
           ON CONFLICT (name) DO UPDATE SET value = excluded.value, recorded_at = now()""",
        (str(on).lower(),),
    )


def online_updates_are_on(database: Database) -> bool:
    """Whether online updates are on, as the θ API last recorded it."""
    return database.call(
        one_value,
        """SELECT EXISTS (SELECT FROM server_setting
                          WHERE name = 'ENABLE_IRT_ONLINE_UPDATE' AND value = 'true')""",
    )


@dataclass(frozen=True)
class Mark:
    """The point where the next sweep continues: after all answers recorded before `time` and, at `time`, after learner
    `user_id`."""

    time: datetime
    user_id: str = ""

    @classmethod
    def from_cursor(cls, text: str | None, now: datetime) -> Mark:
        """Parse the mark of a cursor. If there is no cursor, or its mark is older than `MAX_AGE`, the mark is `MAX_AGE`
        ago."""
        first = cls(now - MAX_AGE)
        if not text:
            return first
        time_text, user_id = json.loads(text)
        return max(first, cls(datetime.fromisoformat(time_text), user_id), key=lambda mark: mark.time)

    def write(self) -> str:
        return json.dumps([self.time.astimezone(UTC).isoformat(), self.user_id])


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep: `updated` of `looked_at` learners got a θ. `why`: reason why no learner was examined."""

    mark: Mark
    looked_at: int
    updated: int
    why: str = ""


def sweep(database: Database, cursor: str | None, seconds: float) -> SweepResult:
    """Update learners whose answers are newer than their last θ on request, for at most this many seconds.

    Each learner is updated in a transaction, in the order in which the answers came, so that the next sweep continues
    from the mark.
    """
    started = time.monotonic()
    with database.connect() as connection:
        now: datetime = one_value(connection, "SELECT now()")
        mark = Mark.from_cursor(cursor, now)
        measures = read_measures(connection, now)
        if not measures.scales:
            return SweepResult(mark, 0, 0, "nothing is published")
        behind = connection.execute(
            """SELECT user_id, latest FROM (
                 SELECT r.user_id, max(r.recorded_at) AS latest, max(
                          r.recorded_at + CASE WHEN r.pulled_from IS NULL THEN interval '0' ELSE %(grace)s END
                        ) AS committed
                 FROM response_log r LEFT JOIN learner l USING (user_id)
                 WHERE r.recorded_at >= %(since)s AND r.recorded_at < %(until)s AND r.completed_at >= %(oldest)s
                   AND r.mode = 'live' AND NOT coalesce(l.is_test, false)
                 GROUP BY 1) came
               WHERE (latest, user_id) > (%(since)s, %(user)s) AND NOT EXISTS (
                 SELECT FROM mirt_ability m
                 WHERE m.user_id = came.user_id AND m.kind = 'online' AND m.fitted_at >= came.committed)
               ORDER BY latest, user_id""",
            {"since": mark.time, "user": mark.user_id, "until": now - GRACE, "oldest": now - MAX_AGE, "grace": GRACE},
        ).fetchall()
    updated = 0
    for n_done, (user_id, latest) in enumerate(behind):
        if time.monotonic() - started > seconds:
            return SweepResult(mark, n_done, updated)
        with database.connect() as connection:
            updated += bool(update(connection, measures, user_id, None, datetime.now(UTC)))
        mark = Mark(latest, user_id)
    return SweepResult(max(mark, Mark(now - GRACE), key=lambda mark: mark.time), len(behind), updated)
