"""A log of values that are easily written wrongly: dirty texts, nulls, and times at the edges of a window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from irt_assets.common.partitions import Month
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from resources.postgres.database import Database
from tests.helpers.rooms import SCALE, add_attempts, add_items, add_learners, attempt, run_sql

MONTH = "2026-03"
START, END = Month(MONTH).bounds
SCALES = {
    SCALE: Scale(SCALE, rules=Rules()),
    "other": Scale("other", rules=Rules.from_settings({"lookback_months": 2}), scored=True),
}
TINY = timedelta(microseconds=1)
DIRTY = [
    "o'neill", 'say "hi"', "a|b", "a\\pb", "\\", "\\\\", "|", "=", "", " ", "a,b\nc\t\r", "NULL", "\\N", "null",
    "0.1", "-0.0",
    "NaN", "🦉", "e\u0301", "é", "Straße", "\u200b", "名前", "x" * 500, "%s {} $1",
]  # fmt: skip
"""Texts for ids and options."""


def dirty_log() -> list[dict[str, Any]]:
    """Returns attempts with every text as learner, item, session and option, and with nulls.

    Times include the window's edges, fractions of a second, and an hour that New York's clocks skip (2026-03-08 02:30
    is 07:30 UTC).
    """
    times = [
        START,
        START + TINY,
        END - TINY,
        datetime(2026, 3, 8, 7, 30, 0, 1, UTC),
        START + timedelta(days=9, microseconds=999_999),
    ]
    log = []
    for n, text in enumerate(DIRTY):
        log.append(
            attempt(
                text,
                DIRTY[-n - 1],
                times[n % len(times)],
                attempt_id=f"{n}{text}",
                session_id=text if n % 3 else None,
                form_id=text if n % 2 else None,
                position=n or None,
                started_at=None if n % 4 else datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC) - n * TINY,
                correct=(True, False, None)[n % 3],
                response=text if n % 5 else None,
                response_time_ms=None if n % 3 == 0 else 2**40 + n,
                hints_used=(None, 0, 2)[n % 3],
                mode="sandbox" if n % 7 == 0 else "live",
            )
        )
        log.append(attempt(text, DIRTY[-n - 1], START - timedelta(days=20 * n + 1), attempt_id=f"before {n}"))
    return log


def load_dirty(database: Database) -> None:
    """Load the dirty log.

    Some items are missing from the bank or scored; some learners are test accounts or unknown.
    """
    add_items(database, dict.fromkeys(DIRTY[::2]))
    add_items(database, dict.fromkeys(DIRTY[1::4]), "other")
    run_sql(database, "UPDATE question SET topic_id = NULL WHERE item_id < 'a'")
    run_sql(database, "UPDATE question SET topic_id = item_id WHERE item_id > 'm'")
    add_learners(database, DIRTY[:9])
    add_learners(database, DIRTY[9:12], is_test=True)
    add_attempts(database, dirty_log())
    run_sql(database, """UPDATE question SET meta = '{"irt": {"max_score": 3}}' WHERE scale_id = 'other'""")
    run_sql(database, "UPDATE response_log SET score = CASE WHEN correct THEN 3 ELSE 1 END WHERE correct IS NOT NULL")
    run_sql(database, "UPDATE response_log SET score = NULL WHERE attempt_id > '2'")
