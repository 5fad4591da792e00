"""An installation whose log was a company's own table: the upgrade copies its answers in, or says what to run."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import pytest
import yaml

from resources.failures import PermanentFailure
from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.schema import _alembic
from resources.settings import Settings
from tests.helpers.pulled import pull
from tests.helpers.rooms import rows, run_sql

QUERY = """SELECT (s.id)::text AS "id", s.student_id AS "user_id", s.question_id AS "item_id",
    s.answered_at AS "completed_at", s.is_correct AS "correct", s.written AS "recorded_at" FROM exam.answers s"""
CONNECTED = f"""
    CREATE SCHEMA exam;
    CREATE TABLE exam.answers (id bigint PRIMARY KEY, student_id text, question_id text, answered_at timestamptz,
                               is_correct boolean, written timestamptz);
    INSERT INTO exam.answers
    SELECT n, 'u' || mod(n, 50), 'q' || mod(n, 7), '2026-06-01 08:00+00'::timestamptz + n * interval '1 hour',
           mod(n, 3) = 0, '2026-09-01 08:00:00.123456+00' FROM generate_series(1, 1000) n;
    INSERT INTO exam.answers VALUES (1001, NULL, 'q1', '2026-06-01', true, now());
    INSERT INTO log_mapping (target, source, query, options, made_by) VALUES
      ('log', 'exam.answers', $${QUERY}$$,
       '{{"zone": null, "erase_with": "DELETE FROM exam.answers WHERE student_id = :user_id"}}', 'Kim'),
      ('question', 'exam.items', 'SELECT (s.no)::text AS "item_id" FROM exam.items s', '{{}}', 'Kim');
    CREATE OR REPLACE VIEW attempt AS
    SELECT r.id, r.user_id, r.item_id, 'unknown'::text AS topic_id, NULL::text AS session_id,
           NULL::text AS form_id, NULL::integer AS position, NULL::timestamptz AS started_at, r.completed_at,
           r.correct, NULL::text AS response,
           NULL::bigint AS response_time_ms, NULL::boolean AS hint_used, NULL::integer AS hints_used,
           'live'::text AS mode, r.recorded_at, NULL::smallint AS score FROM ({QUERY}) r
"""


@pytest.fixture
def before(database: Database) -> Database:
    """A database from before the one log, in which a table of the company's is the log."""
    config = _alembic()
    config.attributes["database"] = database
    alembic.command.downgrade(config, "0053_verdicts")
    run_sql(database, CONNECTED)
    return database


def test_the_upgrade_copies_the_answers_in_and_names_the_lines_that_pull_them(
    before: Database, settings: Settings, tmp_path: Path
) -> None:
    notes = schema.upgrade(before)
    assert schema.drift(before) == []
    assert rows(before, "SELECT count(*), count(DISTINCT user_id), sum(correct::int) FROM attempt") == [(1000, 50, 333)]
    assert rows(before, "SELECT count(*) FROM learner") == [(50,)]
    assert any("1,000 answers were copied" in note and "1 have no id" in note for note in notes), notes
    file = tmp_path / "sources.yaml"
    file.write_text(notes[-1])
    file.chmod(0o600)
    sources = yaml.safe_load(notes[-1])
    assert (sources["question"]["kind"], set(sources)) == ("question", {"log", "question"})
    assert sources["log"]["erase"] == "DELETE FROM exam.answers WHERE student_id = %(user_id)s"
    run_sql(before, "UPDATE exam.answers SET is_correct = false, written = now() WHERE id = 3")
    report = pull(before, settings.model_copy(update={"irt_pull_sources": file}), "log")
    assert (report.duplicates, report.corrected, report.accepted) == (999, 1, 0)


def test_the_upgrade_stops_with_the_statements_if_it_cannot_copy(before: Database) -> None:
    run_sql(before, "ALTER TABLE exam.answers RENAME TO gone; UPDATE log_mapping SET query = query")
    with pytest.raises(PermanentFailure, match=r"(?s)GRANT SELECT ON exam\.answers TO .*DROP VIEW attempt") as failed:
        schema.upgrade(before)
    assert rows(before, "SELECT count(*) FROM response_log") == [(0,)]
    run_sql(before, str(failed.value).partition("as the owner:\n")[2].partition("\nThen")[0])
    schema.upgrade(before)
    assert schema.drift(before) == []
