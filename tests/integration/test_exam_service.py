"""docs/how-to/exam-service.md: a role that can only insert follows the page, and every answer is stored once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml

from irt_assets.definitions import build_defs
from irt_assets.intake.corrections import remove_duplicate_rows
from irt_assets.responses.snapshot import take_snapshot
from resources import doctor
from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.log_months import make_months_ahead, missing_months_ahead
from resources.settings import Settings
from resources.tables import response_log
from tests.helpers import rooms
from tests.helpers.databases import WORKER
from tests.helpers.rooms import call, folder_store, rows, run_sql
from tests.helpers.typed import Irt, IrtOf
from tests.helpers.written_commands import ROOT
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.patience import patient

PAGE = (ROOT / "docs" / "how-to" / "exam-service.md").read_text("utf-8")
ROLE = f"exam_service_{WORKER}"
"""Name of the role, which all databases of a server share."""
LAST_DAY = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
INSERT = """INSERT INTO response_log (attempt_id, user_id, item_id, completed_at, correct, revision)
            VALUES (%s, 'u1', 'q1', %s, true, %s)"""


def example(name: str) -> str:
    return PAGE.split(f"<!-- example: {name} -->\n```sql\n")[1].partition("```")[0]


@pytest.fixture
def exam_service(database: Database) -> Iterator[Database]:
    """The database with the role of the page, which may only insert into the log."""
    run_sql(database, f"DROP ROLE IF EXISTS {ROLE}")
    rights = example("rights")
    assert "exam_service" in rights
    run_sql(database, rights.replace("exam_service", ROLE))
    call(database, ensure_month_partitions, "2026-11", "2026-11")
    yield database
    run_sql(database, f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def insert(database: Database, statement: str, values: tuple[Any, ...] = ()) -> None:
    with database.connect() as connection:
        connection.execute(f"SET LOCAL ROLE {ROLE}".encode())
        connection.execute(statement.encode(), values or None)


@pytest.mark.ci
def test_inserts_of_the_page_are_stored_as_answers(exam_service: Database) -> None:
    """A repeated insert stores a single answer; the smallest insert has the required columns, and the rest is
    unknown."""
    for _ in range(2):
        insert(exam_service, example("insert"))
    must = [line.split("|")[1] for line in PAGE.splitlines() if "| must |" in line]
    names = [name.strip(" `") for cell in must for name in cell.split(",")]
    assert names == ["attempt_id", "user_id", "item_id", "completed_at", "correct"]
    smallest = ("b", "u43", "q7", "2026-11-20 09:00+00", None)
    insert(exam_service, f"INSERT INTO response_log ({', '.join(names)}) VALUES (%s, %s, %s, %s, %s)", smallest)
    assert rows(
        exam_service,
        """SELECT id, user_id, item_id, session_id, form_id, position, correct, response, response_time_ms, hints_used,
                  mode FROM attempt ORDER BY completed_at""",
    ) == [
        ("e7c1-000123", "u42", "q7", "session-9", "form-3", 12, True, "B", 29250, 0, "live"),
        ("b", "u43", "q7", None, None, None, None, None, None, None, "live"),
    ]
    assert rows(exam_service, "SELECT count(*) FROM response_log WHERE now() - recorded_at < '1 hour'") == [(2,)]
    assert rows(exam_service, "SELECT count(DISTINCT completed_at::date) FROM attempt") == [(1,)]


@pytest.mark.ci
def test_each_column_of_the_log_is_on_the_page() -> None:
    table = PAGE.split("## The columns")[1].split("##")[0]
    assert [one.name for one in response_log.columns if f"`{one.name}`" not in table] == []


@pytest.mark.ci
@pytest.mark.parametrize(
    "statement", ["SELECT * FROM response_log", "DELETE FROM response_log", "UPDATE response_log SET correct = true"]
)
def test_role_can_only_insert_answers(exam_service: Database, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        insert(exam_service, statement)


@pytest.mark.ci
def test_insert_on_the_first_day_of_a_month_works(exam_service: Database) -> None:
    """The clock is at the last day of November: the next two months have partitions, and later months have not."""
    with exam_service.connect() as connection:
        make_months_ahead(connection, LAST_DAY)
        assert missing_months_ahead(connection, LAST_DAY) == []
    for n, time in enumerate(["2026-12-01 00:00:00+00", "2027-01-01 00:00:00+00", "2027-01-31 23:59:59+00"]):
        insert(exam_service, INSERT, (f"a{n}", time, 0))
    with pytest.raises(psycopg.errors.CheckViolation, match='no partition of relation "response_log" found for row'):
        insert(exam_service, INSERT, ("late", "2031-12-01 00:00:00+00", 0))


@pytest.mark.ci
def test_upgrade_and_daily_job_create_months_and_the_doctor_reports_missing_months(
    database: Database, settings: Settings
) -> None:
    def finding() -> tuple[str, str]:
        [found] = [one for one in doctor.diagnose(settings) if one.subject == "log"]
        return found.state, found.fix

    def drop_months() -> None:
        for (name,) in rows(
            database, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'response_log'::regclass"
        ):
            run_sql(database, f"DROP TABLE {name}")
        assert finding() == ("warn", "irt db upgrade")

    drop_months()
    schema.upgrade(database)
    assert finding() == ("ok", "")
    drop_months()
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"database": database, "store": folder_store(settings)}
        job = build_defs(settings, resources=resources).resolve_job_def("judge_attempts")
        assert job.execute_in_process(instance=instance).success
    assert finding() == ("ok", "")


@pytest.mark.ci
def test_duplicate_ids_are_reduced_to_a_single_answer_by_the_next_day(exam_service: Database) -> None:
    """The earliest answer is kept, or the highest revision; deleted answers are stored as corrections."""
    inserted = [("a", "20", 0), ("a", "21", 0), ("a", "22", 0), ("b", "20", 0), ("b", "21", 1), ("c", "20", 0)]
    for id_, day, revision in inserted:
        insert(exam_service, INSERT, (id_, f"2026-11-{day} 12:00+00", revision))
    with exam_service.connect() as connection:
        assert (remove_duplicate_rows(connection), remove_duplicate_rows(connection)) == (2, 0)
    assert rows(
        exam_service, "SELECT attempt_id, extract(day FROM completed_at)::int FROM response_log ORDER BY 1"
    ) == [
        ("a", 20),
        ("b", 21),
        ("c", 20),
    ]
    assert rows(
        exam_service,
        "SELECT attempt_id, extract(day FROM completed_at)::int, how FROM attempt_correction ORDER BY 1, 2",
    ) == [("a", 21, "double"), ("a", 22, "double"), ("b", 20, "double")]


# -- killed ------------------------------------------------------------------------------------------
# An exam service continues while API, daemon and PostgreSQL are killed, at the turn of a year.

SETTING_UP_S = 60
"""Time for making the world on an idle machine. The year must not turn sooner."""


@pytest.mark.long
@pytest.mark.xdist_group("exam service")
@pytest.mark.timeout(patient(2400))
@pytest.mark.parametrize(("seconds", "kills"), [(60, 1), (600, 3)])
def test_every_acknowledged_answer_is_stored_once_and_theta_equals_the_batch(seconds: int, kills: int) -> None:
    before = patient(SETTING_UP_S) + seconds / 2
    command = [sys.executable, "-m", "tests.helpers.new_year", f"{before:.0f}", sys.executable]
    command += ["-m", "tests.testbed.exam_service", "--seconds", f"{seconds}", "--kills", f"{kills}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stderr[-3000:]


# -- exam results ------------------------------------------------------------------------------------
# The documents' own tables: exams as JSON, which are pulled, and a view of answers over them that the check corrects.

PULL_PAGE = (
    (ROOT / "docs/how-to/pull.md").read_text("utf-8").partition("## An example: exams as JSON")[2].partition("\n## ")[0]
)
[TABLE] = re.findall(r"```sql\n(.*?)```", PULL_PAGE, re.S)
SOURCES = re.findall(r"```yaml\n(.*?)```", PULL_PAGE, re.S)[0]
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


def test_exams_in_json_are_pulled_and_a_regraded_exam_makes_its_month_stale(exams: Settings, typed: Irt) -> None:
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


def test_pull_check_reports_faulty_rows_and_stores_no_answers(exams: Settings, typed: Irt) -> None:
    """The company's view has 0 as the time of answers without times."""
    checked = typed("pull", "view", "--check")
    assert (checked.code, "have a time of 0 ms" in checked.out) == (1, True), checked.out
    assert typed("pull", "exams", "--check").code == 0
    assert rows(Database(exams), "SELECT count(*) FROM response_log") == [(0,)]
    assert rows(Database(exams), "SELECT count(*) FROM pull_source") == [(0,)]
