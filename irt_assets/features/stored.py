"""Queries of `features_topic_daily` for one learner."""

from dataclasses import dataclass
from datetime import date

import psycopg

from resources.postgres.database import records


@dataclass(frozen=True)
class ActiveDay:
    """Counts of a learner's live answers on a day, over all topics."""

    date: date
    attempts: int
    correct: int


def active_days(connection: psycopg.Connection, user_id: str, since: date) -> list[ActiveDay]:
    """A learner's days with live answers from `since` on, oldest first."""
    return records(
        connection,
        ActiveDay,
        """SELECT date, sum(attempts)::int AS attempts, sum(correct)::int AS correct FROM features_topic_daily
               WHERE user_id = %s AND date >= %s GROUP BY 1 ORDER BY 1""",
        (user_id, since),
    )
