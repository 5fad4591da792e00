"""When the invariants were last evaluated and a backup last made, without Dagster, as monitors ask often.

What does not belong here: what they found (see `history`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from resources.postgres.database import one_value, record

BACKUP_AGE = timedelta(hours=25)
"""Age after which a daily backup is late."""


@dataclass(frozen=True)
class LastBackup:
    made_at: datetime
    address: str


def last_backup(connection: psycopg.Connection) -> LastBackup | None:
    """The newest backup; None if none was ever made, and then none is expected."""
    return record(connection, LastBackup, "SELECT made_at, address FROM backup ORDER BY made_at DESC LIMIT 1")


def last_evaluated(connection: psycopg.Connection) -> datetime | None:
    """The time of the newest report, by the schedule or by hand; None if there is none."""
    return one_value(connection, "SELECT max(evaluated_at) FROM invariant_result WHERE subject = ''")
