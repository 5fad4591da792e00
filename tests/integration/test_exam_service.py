"""docs/how-to/exam-service.md: a role that may only insert does so as the page says, and one answer stays one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import psycopg
import pytest

from irt_assets.definitions import build_defs
from irt_assets.intake.corrections import keep_one_of_each
from resources import doctor
from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.log_months import make_months_ahead, months_ahead_missing
from resources.settings import Settings
from resources.tables import response_log
from tests.helpers.databases import WORKER
from tests.helpers.rooms import folder_store, rows, run_sql
from tests.helpers.written_commands import ROOT
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.patience import patient

PAGE = (ROOT / "docs" / "how-to" / "exam-service.md").read_text("utf-8")
ROLE = f"exam_service_{WORKER}"
"""A server's databases have their roles in common."""
LAST_DAY = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
INSERT = """INSERT INTO response_log (attempt_id, user_id, item_id, completed_at, correct, revision)
            VALUES (%s, 'u1', 'q1', %s, true, %s)"""


def example(name: str) -> str:
    return PAGE.split(f"<!-- example: {name} -->\n```sql\n")[1].partition("```")[0]


@pytest.fixture
def exam_service(database: Database) -> Iterator[Database]:
    """The database with the role of the page, which may insert into the log and nothing else."""
    run_sql(database, f"DROP ROLE IF EXISTS {ROLE}")
    rights = example("rights")
    assert "exam_service" in rights
    run_sql(database, rights.replace("exam_service", ROLE))
    with database.connect() as connection:
        ensure_month_partitions(connection, "2026-11", "2026-11")
    yield database
    run_sql(database, f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")


def insert(database: Database, statement: str, values: tuple[Any, ...] = ()) -> None:
    with database.connect() as connection:
        connection.execute(f"SET LOCAL ROLE {ROLE}".encode())
        connection.execute(statement.encode(), values or None)


@pytest.mark.ci
def test_the_inserts_of_the_page_are_answers(exam_service: Database) -> None:
    """Sent twice they are one; the smallest one holds what the page says that it must, and the rest is unknown."""
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
def test_the_role_may_do_nothing_else(exam_service: Database, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        insert(exam_service, statement)


@pytest.mark.ci
def test_on_the_first_of_a_month_an_insert_works(exam_service: Database) -> None:
    """With the clock of the last day of November: the month that begins and the one after are there, no later one."""
    with exam_service.connect() as connection:
        make_months_ahead(connection, LAST_DAY)
        assert months_ahead_missing(connection, LAST_DAY) == []
    for n, time in enumerate(["2026-12-01 00:00:00+00", "2027-01-01 00:00:00+00", "2027-01-31 23:59:59+00"]):
        insert(exam_service, INSERT, (f"a{n}", time, 0))
    with pytest.raises(psycopg.errors.CheckViolation, match='no partition of relation "response_log" found for row'):
        insert(exam_service, INSERT, ("late", "2031-12-01 00:00:00+00", 0))


@pytest.mark.ci
def test_an_upgrade_and_the_daily_job_make_the_months_and_the_doctor_misses_them(
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
def test_one_id_at_two_times_is_one_answer_by_the_next_day(exam_service: Database) -> None:
    """The one that came first stays, or that with the highest revision; what went is kept."""
    inserted = [("a", "20", 0), ("a", "21", 0), ("a", "22", 0), ("b", "20", 0), ("b", "21", 1), ("c", "20", 0)]
    for id_, day, revision in inserted:
        insert(exam_service, INSERT, (id_, f"2026-11-{day} 12:00+00", revision))
    with exam_service.connect() as connection:
        assert keep_one_of_each(connection) == 2
        assert keep_one_of_each(connection) == 0
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

SETTING_UP_S = 60
"""Until the world is made, on an idle machine; a turn of the year that comes sooner is an error."""


@pytest.mark.long
@pytest.mark.xdist_group("exam service")
@pytest.mark.timeout(patient(2400))
@pytest.mark.parametrize(("seconds", "kills"), [(60, 1), (600, 3)])
def test_every_acknowledged_answer_is_there_once_and_theta_is_the_batchs(seconds: int, kills: int) -> None:
    before = patient(SETTING_UP_S) + seconds / 2
    command = [sys.executable, "-m", "tests.helpers.new_year", f"{before:.0f}", sys.executable]
    command += ["-m", "tests.testbed.exam_service", "--seconds", f"{seconds}", "--kills", f"{kills}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stderr[-3000:]
