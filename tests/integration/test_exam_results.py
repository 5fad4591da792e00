"""The documents' own tables: exams as JSON, and a view of answers over them that says what is not known.

The SELECT is the one that the page on own tables has.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from irt_assets.responses.late_months import changed_hash
from irt_assets.responses.snapshot import take_snapshot
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import rows, run_sql
from tests.helpers.typed import Irt, IrtOf
from tests.testbed.stack_harness import ROOT

PAGE = (ROOT / "docs/how-to/own-tables.md").read_text("utf-8")
TABLE, SELECT = re.findall(r"```sql\n(.*?)```", PAGE, re.S)
JUNE, JULY = rooms.MONTHS
FILLED = """
    INSERT INTO exam.exam_results
    SELECT row_number() OVER (ORDER BY user_id, session_id), user_id, session_id, min(completed_at), min(completed_at),
           jsonb_build_object('questions', jsonb_agg(jsonb_build_object(
               'question_id', item_id,
               CASE WHEN mod(ascii(reverse(item_id)), 2) = 0 THEN 'correct' ELSE 'is_correct' END, correct,
               'time_spent_sec', coalesce(response_time_ms, 0) / 1000.0, 'used_hints', hints_used, 'topic', topic_id)
               ORDER BY completed_at, id))
    FROM attempt WHERE mode = 'live' AND session_id IS NOT NULL GROUP BY user_id, session_id;
    TRUNCATE response_log
"""
THEIR_VIEW = """
    CREATE VIEW exam.attempt AS
    SELECT r.id * 1000 + n AS id, r.user_id AS student_id, q ->> 'question_id' AS question_id, r.session_id,
           coalesce((q ->> 'is_correct')::boolean, (q ->> 'correct')::boolean, false) AS correct,
           coalesce((q ->> 'time_spent_sec')::numeric * 1000, 0)::bigint AS response_time_ms,
           coalesce(r.updated_at, r.created_at) AS completed_at,
           row_number() OVER (PARTITION BY r.user_id, q ->> 'question_id' ORDER BY r.created_at) AS attempt_no
    FROM exam.exam_results r
    CROSS JOIN LATERAL jsonb_array_elements(r.result_json -> 'questions') WITH ORDINALITY AS answer (q, n)
"""


@pytest.fixture
def typed(world: Settings, irt: IrtOf) -> Irt:
    """`irt` where the answers of the small world are the company's exams, and response_log is empty."""
    database = Database(world)
    run_sql(database, f"CREATE SCHEMA exam; {TABLE}")
    run_sql(database, FILLED)
    run_sql(database, THEIR_VIEW)
    return irt(world)


@pytest.fixture
def select(tmp_path: Path) -> Path:
    path = tmp_path / "answers.sql"
    path.write_text(SELECT)
    return path


def test_a_month_is_calibrated_from_exams_as_json(world: Settings, typed: Irt, select: Path) -> None:
    database = Database(world)
    [(exams, answers)] = rows(
        database, "SELECT count(*), sum(jsonb_array_length(result_json -> 'questions')) FROM exam.exam_results"
    )
    assert typed("connect", "log", "--sql", select, "--yes").code == 0
    assert rows(database, "SELECT count(*), count(DISTINCT (user_id, session_id)) FROM attempt") == [(answers, exams)]
    step = rooms.calibrate(world, JUNE)
    assert step.state == "done"
    assert step.n_published > 20


@pytest.mark.parametrize(
    ("change", "months"),
    [
        (
            """UPDATE exam.exam_results SET result_json = jsonb_set(result_json, '{questions,0}', result_json #>
                 '{questions,0}' || jsonb_build_object('is_correct', NOT (q ->> 'is_correct')::boolean))
               FROM (SELECT id AS chosen, result_json #> '{questions,0}' AS q FROM exam.exam_results) first
               WHERE id = chosen AND q ->> 'is_correct' IS NOT NULL AND created_at < '2026-07-01+00'""",
            {JUNE},
        ),
        ("DELETE FROM exam.exam_results WHERE id IN (SELECT min(id) FROM exam.exam_results WHERE {june})", {JUNE}),
        (
            """UPDATE exam.exam_results SET created_at = created_at - interval '1 month'
               WHERE id IN (SELECT min(id) FROM exam.exam_results WHERE NOT ({june}))""",
            {JUNE, JULY},
        ),
    ],
    ids=["regraded", "deleted", "moved"],
)
def test_exams_that_change_make_their_months_stale(
    world: Settings, typed: Irt, select: Path, change: str, months: set[str]
) -> None:
    """July looks back on June, so that it is stale with it where the same learners met the same items."""
    database, store = Database(world), rooms.folder_store(world)
    typed("connect", "log", "--sql", select, "--yes")
    for month in rooms.MONTHS:
        take_snapshot(database, store, month, "run")
    assert changed(database) == set()
    run_sql(database, change.replace("{june}", "created_at < '2026-07-01+00'"))
    assert months <= changed(database)


def changed(database: Database) -> set[str]:
    with database.connect() as connection:
        return {month for month in rooms.MONTHS if changed_hash(connection, month)}


def test_the_check_names_what_their_view_gets_wrong_and_says_to_map_the_table(typed: Irt) -> None:
    checked = typed("connect", "log", "exam.attempt", "--check")
    assert checked.code == 1, checked.err
    for fault in (
        "correct is false where it is unknown",
        "response_time_ms is 0 where it is unknown",
        "completed_at moves when the row is written again",
        "numbers rows with a window function",
        "map the table and not the view: irt connect log exam.exam_results",
    ):
        assert fault in checked.out


def test_the_check_of_the_table_names_the_indexes_alone(typed: Irt, select: Path) -> None:
    checked = typed("connect", "log", "--sql", select, "--check")
    faults = [line for line in checked.out.splitlines() if re.match(r"\d+\. ", line)]
    statements = [line.strip() for line in checked.out.splitlines() if "CREATE INDEX" in line]
    assert statements == [
        f"CREATE INDEX CONCURRENTLY ON exam.exam_results ({columns});"
        for columns in ("created_at", "user_id, created_at", "updated_at")
    ]
    assert len(faults) == 3, faults
