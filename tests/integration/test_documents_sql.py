"""The verification SQL of the requirement documents, word for word, on a database with data until today.

The statements are read from the documents. The allowed values of every column are listed here, so that a statement
with an unknown column fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from irt_assets.abilities.batch import judge_until, measure
from irt_assets.calibration.nightly import calibrate_night
from irt_assets.common.partitions import Month, day_of, last_complete_month, month_of, week_of
from irt_assets.decisions.origin import initialise
from irt_assets.engines.em import EmEngine
from irt_assets.features.daily import write_features
from irt_assets.kpis.weekly import write_quiet, write_week
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.worlds import not_before_midnight

MAY_BE_EMPTY = "report_artifacts"
FENCED = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
ONE_LINE = re.compile(r"psql .* -c \"([^\"]+)\"")


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def number(low: float, high: float) -> Callable[[Any], bool]:
    """Check that a value is a number in this range, or such a number as text, as `->>` returns it."""
    return lambda value: value is not None and low <= float(value) <= high


def number_or_null(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: value is None or number(low, high)(value)


def recent(now: datetime, days: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        day = value.date() if isinstance(value, datetime) else value
        return isinstance(day, date) and now.date() - timedelta(days=days) <= day <= now.date()

    return check


def constants(value: Any) -> bool:
    return 0.3 < value["slope"] < 3 and -3 < value["intercept"] < 3 and value["anchors_used"] != []


def result(now: datetime) -> Callable[[Any], bool]:
    """Check of a count as text, or of the time of the last calibration."""
    return lambda value: int(value) > 0 if value.isdigit() else now - timedelta(hours=1) < datetime.fromisoformat(value)


def columns(now: datetime) -> dict[str, Callable[[Any], bool]]:
    return {
        "?column?": lambda value: value == 1 or constants(value),  # SELECT 1, and expressions without a name
        "user_id": text,
        "item_id": text,
        "topic_id": text,
        "week_start": recent(now, 7),
        "date": recent(now, 7),
        "improvement": number_or_null(-1, 1),
        "goal_prob": number_or_null(0, 1),
        "churn_risk": number(0, 1),
        "attempts": number(1, 10_000),
        "correct": number(0, 10_000),
        "rt_median": number_or_null(100, 3_600_000),
        "discrimination": number(0.05, 5),
        "difficulty": number(-6, 6),
        "theta": number(-5, 5),
        "se": number(0.01, 2),
        "fitted_at": recent(now, 1),
        "updates": number(1, 10**9),
        "count": number(1, 10**9),
        "check_type": text,
        "result": result(now),
    }


def statements(shared: Path) -> list[str]:
    """All statements of the documents, unchanged."""
    found = []
    for document in sorted((shared / "requirements").glob("*.md")):
        content = document.read_text("utf-8")
        blocks = [part + ";" for block in FENCED.findall(content) for part in re.split(r";\s*$", block, flags=re.M)]
        found += [part for part in (*blocks, *ONE_LINE.findall(content)) if re.search(r"^\s*SELECT", part, re.M)]
    return found


@pytest.fixture
def lived(settings: Settings) -> tuple[Database, datetime]:
    return live(settings)


def live(settings: Settings) -> tuple[Database, datetime]:
    """Two complete months and the running month, with the platform's results until now, and the present time."""
    now = not_before_midnight(120.0)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    before = last_complete_month(now)
    months = (last_complete_month(Month(before).start), before, month_of(now))
    database = Database(settings)
    rooms.load_small_world(database, months=months, now=now)
    initialise(database, rooms.SCALE, first_month=months[0], thresholds=rooms.LOWERED)
    for month in months[:2]:
        rooms.calibrate(settings, month)
        measure(database, month, month)
    calibrate_night(database, day_of(today - timedelta(days=1)), "run", lambda _: EmEngine(1))
    judge_until(database, now)
    with database.connect() as connection:
        write_features(connection, today - timedelta(days=14), today)
        for week in (week_of(now - timedelta(days=7)), week_of(now)):
            write_week(connection, week, now)
    with database.connect() as connection:  # in a separate transaction, whose time is later
        assert len(write_quiet(connection, week_of(now), now)) > 0
        connection.execute(
            """INSERT INTO report_file ("window", format, url, sha256)
               VALUES ('2026-09/all', 'pdf', 'file:///x', '0')"""
        )
    return database, now


def test_every_statement_of_the_documents_is_extracted(shared: Path) -> None:
    """The expected number is from a second count: lines at which a statement begins."""
    n_beginnings = 0
    for document in (shared / "requirements").glob("*.md"):
        for line in document.read_text("utf-8").splitlines():
            n_beginnings += line.startswith(("SELECT", "WITH ")) or 'c "SELECT' in line
    unions = sum(statement.count("UNION ALL") for statement in statements(shared))
    assert len(statements(shared)) == n_beginnings - unions > 10


def test_the_documents_sql_runs_unchanged_and_gives_sensible_rows(
    shared: Path, lived: tuple[Database, datetime]
) -> None:
    """A KPI may be null for one learner, but not in all of the ten newest rows, which a reader takes for the result."""
    database, now = lived
    known, problems = columns(now), []
    for statement in statements(shared):
        with database.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
            try:
                rows = cursor.execute(statement.encode()).fetchall()
            except psycopg.Error as error:
                problems.append(f"{statement}\n{error}")
                continue
        if not rows and MAY_BE_EMPTY not in statement:
            problems.append(f"{statement}\nno row")
        for row in rows:
            for name, value in row.items():
                if name not in known or not known[name](value):
                    problems.append(f"{statement}\n{name} = {value!r}")
        for name in ("improvement", "goal_prob"):
            if rows and name in rows[0] and all(row[name] is None for row in rows):
                problems.append(f"{statement}\n{name} is null in every row")
        if rows and "correct" in rows[0]:
            assert all(row["correct"] <= row["attempts"] for row in rows)
    assert not problems, "\n\n".join(problems)
    assert rooms.rows(database, "SELECT max(updated_at) < max(inactivity_at) FROM weekly_kpi") == [(True,)]
    assert rooms.rows(database, "SELECT count(*) FROM report_artifacts WHERE week_start IS NULL") == [(0,)]
    (n_known,) = rooms.rows(
        database, "SELECT count(kpis->>'I_t'), count(kpis->>'P'), count(kpis->>'S') FROM weekly_kpi"
    )
    assert min(n_known) > 0
