"""The verification SQL of the requirement documents, word for word, on a database that lives today.

The statements are read from the documents; what every column may hold is said here, so that a statement with a column
that nobody thought of fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg.rows import dict_row

from irt_assets.calibration.abilities import measure
from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.calibration.nightly import calibrate_night
from irt_assets.calibration.origin import initialise
from irt_assets.engines.em import EmEngine
from irt_assets.features.daily import write_features
from irt_assets.kpis.weekly import write_quiet, write_week
from irt_assets.partitions import day_of, last_complete_month, month_bounds, month_of, week_of
from irt_assets.psychometrics.simulation.scenario import Scenario
from irt_assets.psychometrics.simulation.simulate import simulate
from irt_assets.responses import simulated
from irt_assets.responses.snapshot import take_snapshot
from resources import tables, warehouse
from resources.database import Database
from resources.embedded_postgres import EmbeddedPostgres
from resources.schema import ensure_month_partitions
from tests.helpers import rooms

NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
MAY_BE_EMPTY = "report_artifacts"
FENCED = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
ONE_LINE = re.compile(r"psql .* -c \"([^\"]+)\"")


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def number(low: float, high: float) -> Callable[[Any], bool]:
    """Of what `->>` gives too: a number as text."""
    return lambda value: value is not None and low <= float(value) <= high


def number_or_null(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: value is None or number(low, high)(value)


def recent(days: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        day = value.date() if isinstance(value, datetime) else value
        return isinstance(day, date) and TODAY.date() - timedelta(days=days) <= day <= NOW.date()

    return check


def constants(value: Any) -> bool:
    return 0.3 < value["slope"] < 3 and -3 < value["intercept"] < 3 and value["anchors_used"] != []


def result(value: Any) -> bool:
    """A count as text, or when the last calibration was."""
    return int(value) > 0 if value.isdigit() else NOW - timedelta(hours=1) < datetime.fromisoformat(value)


COLUMNS: dict[str, Callable[[Any], bool]] = {
    "?column?": lambda value: value == 1 or constants(value),  # SELECT 1, and what has no name of its own
    "user_id": text,
    "item_id": text,
    "topic_id": text,
    "week_start": recent(7),
    "date": recent(7),
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
    "fitted_at": recent(1),
    "updates": number(1, 10**9),
    "count": number(1, 10**9),
    "check_type": text,
    "result": result,
}


def statements(shared: Path) -> list[str]:
    """Every statement of every document, as it stands there."""
    found = []
    for document in sorted((shared / "requirements").glob("*.md")):
        content = document.read_text("utf-8")
        blocks = [part + ";" for block in FENCED.findall(content) for part in re.split(r";\s*$", block, flags=re.M)]
        found += [part for part in (*blocks, *ONE_LINE.findall(content)) if re.search(r"^\s*SELECT", part, re.M)]
    return found


@pytest.fixture(scope="module")
def lived(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """Two months that are over and the running one, and what the platform makes of them until now."""
    before = last_complete_month(NOW)
    months = (last_complete_month(month_bounds(before)[0]), before, month_of(NOW))
    home = tmp_path_factory.mktemp("lived")
    with rooms.copied(postgres.start(), migrated_template, "documents", home) as settings:
        database, store = Database(settings), rooms.folder_store(settings)
        _import(database, months)
        initialise(database, rooms.SCALE, first_month=months[0], thresholds=rooms.LOWERED)
        for month in months[:2]:
            take_snapshot(database, store, month, "run")
            fit_month(database, store, month, EmEngine(1), "run")
            link_month(database, month, "run")
            publish_month(database, store, month, (), "run")
            measure(database, month, month)
        calibrate_night(database, day_of(TODAY - timedelta(days=1)), "run", lambda _: EmEngine(1))
        with database.connect() as connection:
            write_features(connection, TODAY - timedelta(days=14), TODAY)
            for week in (week_of(NOW - timedelta(days=7)), week_of(NOW)):
                write_week(connection, week, NOW)
            write_quiet(connection, week_of(NOW), NOW)
        yield database


def _import(database: Database, months: tuple[str, ...]) -> None:
    scenario = Scenario(
        months=months, now=NOW, seed=20260601, learners_per_month=300, items_per_block=12, anchors_per_block=5
    )
    with TemporaryDirectory() as folder, database.connect() as connection:
        files = simulated.write(*simulate(scenario), Path(folder))
        ensure_month_partitions(connection, months[0], months[-1])
        for table, path in ((tables.question, files.questions), (tables.learner, files.learners)):
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            warehouse.append(connection, table, pd.DataFrame(lines))
        warehouse.append(connection, tables.response_log, pq.read_table(files.attempts).to_pandas())


def test_every_statement_of_the_documents_is_found(shared: Path) -> None:
    """By another count than the one that extracts them: lines on which a statement begins."""
    begun = 0
    for document in (shared / "requirements").glob("*.md"):
        for line in document.read_text("utf-8").splitlines():
            begun += line.startswith(("SELECT", "WITH ")) or 'c "SELECT' in line
    unions = sum(statement.count("UNION ALL") for statement in statements(shared))
    assert len(statements(shared)) == begun - unions > 10


def test_the_documents_sql_runs_unchanged_and_gives_sensible_rows(shared: Path, lived: Database) -> None:
    problems = []
    for statement in statements(shared):
        with lived.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
            try:
                rows = cursor.execute(statement.encode()).fetchall()
            except psycopg.Error as error:
                problems.append(f"{statement}\n{error}")
                continue
        if not rows and MAY_BE_EMPTY not in statement:
            problems.append(f"{statement}\nno row")
        for row in rows:
            for name, value in row.items():
                if name not in COLUMNS or not COLUMNS[name](value):
                    problems.append(f"{statement}\n{name} = {value!r}")
        if rows and "correct" in rows[0]:
            assert all(row["correct"] <= row["attempts"] for row in rows)
    assert not problems, "\n\n".join(problems)


def test_the_kpis_that_the_documents_ask_for_are_known_of_some_learner(shared: Path, lived: Database) -> None:
    """Null is allowed of a learner, but not of all: the ten newest rows must not hide that nothing is ever computed."""
    rows = rooms.rows(lived, "SELECT count(kpis->>'I_t'), count(kpis->>'P'), count(kpis->>'S') FROM weekly_kpi")
    assert min(rows[0]) > 0
