"""The documents' own tables: exams as JSON, which are pulled, and a view of answers over them that the check corrects.

The table, the SELECT and the lines of the file of sources are the page's.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from irt_assets.responses.snapshot import take_snapshot
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import rows, run_sql
from tests.helpers.typed import Irt, IrtOf
from tests.testbed.stack_harness import ROOT

PAGE = (
    (ROOT / "docs/how-to/pull.md").read_text("utf-8").partition("## An example: exams as JSON")[2].partition("\n## ")[0]
)
[TABLE] = re.findall(r"```sql\n(.*?)```", PAGE, re.S)
SOURCES = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0]
JUNE, JULY = rooms.MONTHS
FILLED = """
    INSERT INTO exam.exam_results
    SELECT row_number() OVER (ORDER BY user_id, session_id), user_id, session_id, min(completed_at), min(completed_at),
           jsonb_build_object('questions', jsonb_agg(jsonb_build_object(
               'question_id', item_id,
               CASE WHEN mod(ascii(reverse(item_id)), 2) = 0 THEN 'correct' ELSE 'is_correct' END, correct,
               'time_spent_sec', coalesce(response_time_ms, 0) / 1000.0, 'used_hints', hints_used, 'topic', topic_id)
               ORDER BY completed_at, id))
    FROM (SELECT DISTINCT ON (user_id, session_id, item_id) * FROM attempt ORDER BY user_id, session_id, item_id, id) a
    WHERE mode = 'live' AND session_id IS NOT NULL GROUP BY user_id, session_id;
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
OF_VIEW = {
    "address": "this",
    "table": "exam.attempt",
    "mapping": {
        "columns": {
            "attempt_id": "id",
            "user_id": "student_id",
            "item_id": "question_id",
            "session_id": "session_id",
            "completed_at": "completed_at",
            "correct": "correct",
            "response_time_ms": "response_time_ms",
        }
    },
    "cursor": {"column": "completed_at", "key": "id"},
}


@pytest.fixture
def exams(world: Settings, tmp_path: Path) -> Settings:
    """The small world's answers as the company's exams, response_log empty, and the page's file of sources."""
    database = Database(world)
    run_sql(database, f"CREATE SCHEMA exam; {TABLE}")
    run_sql(database, FILLED)
    run_sql(database, THEIR_VIEW)
    file = tmp_path / "sources.yaml"
    file.write_text(SOURCES + yaml.safe_dump({"view": OF_VIEW}))
    file.chmod(0o600)
    return world.model_copy(update={"irt_pull_sources": file})


@pytest.fixture
def typed(exams: Settings, irt: IrtOf) -> Irt:
    return irt(exams)


def test_exams_as_json_are_pulled_and_a_regraded_one_makes_its_month_stale(exams: Settings, typed: Irt) -> None:
    database, store = Database(exams), rooms.folder_store(exams)
    [(n, answers)] = rows(
        database, "SELECT count(*), sum(jsonb_array_length(result_json -> 'questions')) FROM exam.exam_results"
    )
    done = typed("pull", "exams")
    assert done.code == 0, done.err
    assert rows(database, "SELECT count(*), count(DISTINCT (user_id, session_id)) FROM attempt") == [(answers, n)]
    assert rows(database, "SELECT count(*) FROM attempt WHERE response_time_ms = 0") == [(0,)]
    for month in rooms.MONTHS:
        take_snapshot(database, store, month, "run")
    run_sql(
        database,
        """UPDATE exam.exam_results SET updated_at = now(), result_json = jsonb_set(result_json, '{questions,0}',
             result_json #> '{questions,0}' || jsonb_build_object('is_correct', NOT (q ->> 'is_correct')::boolean))
           FROM (SELECT id AS chosen, result_json #> '{questions,0}' AS q FROM exam.exam_results) first
           WHERE id = chosen AND q ->> 'is_correct' IS NOT NULL AND created_at < '2026-07-01+00'""",
    )
    again = typed("pull", "exams")
    assert " 0 rejected" in again.out or "rejected: none" in again.out or "corrected" in again.out
    assert rooms.is_stale(database, JUNE)


def test_the_check_names_what_their_view_gets_wrong_and_says_to_pull_the_table(typed: Irt) -> None:
    checked = typed("pull", "view", "--check")
    assert checked.code == 1, checked.err
    for fault in (
        "correct is false where it is unknown",
        "response_time_ms is 0 where it is unknown",
        "completed_at moves when the row is written again",
        "numbers rows with a window function",
        "table: exam.exam_results",
    ):
        assert fault in checked.out


def test_the_check_of_the_table_names_the_indexes_and_stores_nothing(exams: Settings, typed: Irt) -> None:
    checked = typed("pull", "exams", "--check")
    statements = [line.strip() for line in checked.out.splitlines() if "CREATE INDEX" in line]
    assert statements == [
        f"CREATE INDEX CONCURRENTLY ON exam.exam_results ({column});" for column in ("updated_at", "created_at")
    ], checked.out
    assert "two faults found" in checked.out
    run_sql(Database(exams), "CREATE INDEX ON exam.exam_results (updated_at)")
    run_sql(Database(exams), "CREATE INDEX ON exam.exam_results (created_at)")
    assert typed("pull", "exams", "--check").code == 0
    assert rows(Database(exams), "SELECT count(*) FROM response_log") == [(0,)]
    assert rows(Database(exams), "SELECT count(*) FROM pull_source") == [(0,)]
