"""When the invariants were last looked at, read without Dagster: for monitors, which ask often.

What does not belong here: what they found (see `history`).
"""

from __future__ import annotations

from datetime import datetime

import psycopg


def last_evaluated(connection: psycopg.Connection) -> datetime | None:
    """When the newest report was taken, by the schedule or by hand; None where there is none."""
    row = connection.execute("SELECT max(evaluated_at) FROM invariant_result WHERE subject = ''").fetchone()
    assert row is not None
    newest: datetime | None = row[0]
    return newest
