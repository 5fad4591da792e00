"""When the invariants were last evaluated and abilities last measured, without Dagster, as monitors ask often.

What does not belong here: what they found (see `history`).
"""

from __future__ import annotations

from datetime import datetime

import psycopg


def last_evaluated(connection: psycopg.Connection) -> datetime | None:
    """The time of the newest report, by the schedule or by hand; None if there is none."""
    row = connection.execute("SELECT max(evaluated_at) FROM invariant_result WHERE subject = ''").fetchone()
    assert row is not None
    newest: datetime | None = row[0]
    return newest


def last_night(connection: psycopg.Connection) -> datetime | None:
    """When the last nightly calibration wrote; None where there is none.

    A night with too few answers to fit anything has measured everyone.
    """
    row = connection.execute(
        """SELECT greatest((SELECT max(fitted_at) FROM mirt_fit_meta WHERE kind = 'nightly'),
                           (SELECT fitted_at FROM mirt_ability WHERE kind = 'nightly'
                            ORDER BY window_end DESC LIMIT 1))"""
    ).fetchone()
    assert row is not None
    newest: datetime | None = row[0]
    return newest
