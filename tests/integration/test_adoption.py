"""A company adopts the platform next to its own database: from the roles to the restored backup, in the pages' order.

Other tests cover the steps one by one. Here the steps follow each other in one database, typed by the owner that
`irt db roles` makes, with exams in JSON as answers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from irt_assets.decisions.origin import initialise
from resources.postgres import schema
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import rows
from tests.helpers.typed import Irt, IrtOf
from tests.integration.test_exam_service import FILLED, SOURCES, TABLE
from tests.integration.test_own_database import ROLES, Company, company as company

JUNE, JULY = rooms.MONTHS
OWN = ("exam.exam_results", "exam.questions", "exam.students")
BANK = """
    CREATE TABLE exam.questions AS SELECT item_id AS id, topic_id, meta FROM question;
    CREATE TABLE exam.students AS SELECT user_id AS id, is_test FROM learner
"""
BANK_SOURCES = """
bank:
  kind: question
  address: this
  table: exam.questions
  mapping: {columns: {item_id: id, topic_id: topic_id, meta: meta}}
students:
  {kind: learner, address: this, table: exam.students, mapping: {columns: {user_id: id, is_test: is_test}}}
theirs:
  {address: this, table: public.attempt, cursor: {column: id, key: id}}
"""
REGRADED = """
    UPDATE exam.exam_results SET updated_at = now(), result_json = jsonb_build_object('questions', (
        SELECT jsonb_agg(q || jsonb_build_object(CASE WHEN q ? 'correct' THEN 'correct' ELSE 'is_correct' END, true)
                         ORDER BY n)
        FROM jsonb_array_elements(result_json -> 'questions') WITH ORDINALITY AS answer (q, n)))
    WHERE id IN (SELECT id FROM exam.exam_results WHERE created_at < '2026-07-01+00' ORDER BY id LIMIT 60)
"""
PUBLISHED = "SELECT * FROM item_parameter_publication ORDER BY publication_id"
SOMEBODY = "SELECT min(user_id) FROM exam.exam_results WHERE created_at < '2026-07-01+00'"


@pytest.fixture
def adopting(company: Company) -> Company:
    """The documents' tables, and exams, items and learners in a schema of the company, without any of our tables."""
    made = company.settings(irt_db_schema="made", irt_dagster_schema="made_too")
    schema.upgrade(Database(made))
    rooms.load_small_world(Database(made))
    company.run(f"CREATE SCHEMA exam; {TABLE}; SET search_path = made; {FILLED}; {BANK}")
    company.run("DROP SCHEMA made, made_too CASCADE")
    return company


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    path = tmp_path / "sources.yaml"
    path.write_text(SOURCES + BANK_SOURCES)
    path.chmod(0o600)
    return path


def stale(settings: Settings) -> set[str]:
    return {month for month in rooms.MONTHS if rooms.is_stale(Database(settings), month)}


def run_successfully(typed: Irt, *words: object) -> str:
    ran = typed(*words)
    assert ran.code == 0, (words, ran.out, ran.err)
    return ran.out


@pytest.mark.ci
def test_company_installs_pulls_regrades_erases_backs_up_and_restores(
    adopting: Company, irt: IrtOf, sources: Path, tmp_path: Path
) -> None:
    company = adopting
    company.with_roles("irt", *OWN)
    owner = company.settings(ROLES["owner"], irt_first_month=JUNE, irt_pull_sources=sources)
    database, typed = Database(owner), irt(owner)
    before = company.dump("irt", "dagster")
    for _ in range(2):
        run_successfully(typed, "db", "upgrade")
    refused = typed("pull", "theirs", "--check")
    assert (refused.code, "irt db roles --own-table" in " ".join(refused.err.split())) == (2, True), refused.err
    assert typed("pull", "exams", "--check").code == 0
    for name in ("exams", "bank", "students"):
        run_successfully(typed, "pull", name)
    initialise(database, rooms.SCALE, first_month=JUNE, thresholds=rooms.LOWERED)
    steps = [rooms.calibrate(owner, month) for month in rooms.MONTHS]
    assert [(step.state, step.n_published > 0) for step in steps] == [("done", True), ("done", False)]
    assert stale(owner) == set()
    assert company.dump("irt", "dagster") == before

    published = rows(database, PUBLISHED)
    company.run(REGRADED)
    run_successfully(typed, "pull", "exams")
    assert JUNE in stale(owner)
    for month in rooms.MONTHS:
        assert rooms.calibrate(owner, month).n_published == 0
    assert (stale(owner), rows(database, PUBLISHED)) == (set(), published)

    [(user,)] = company.read(SOMEBODY)
    erase = ("learner", "erase", user, "--by", "Kim", "--reason", "asked", "--yes")
    erased = typed(*erase)
    assert (erased.code, "exams still has" in " ".join(erased.err.split())) == (0, True), erased.err
    assert stale(owner) == {*rooms.MONTHS}, "open months have a learner fewer"

    before = company.dump("irt", "dagster")
    run_successfully(typed, "backup", "--out", tmp_path / "backups")
    [backup] = (tmp_path / "backups").glob("irt-*")
    answers, in_force = rows(database, "SELECT count(*) FROM attempt"), rows(database, PUBLISHED)
    company.run("DROP SCHEMA irt, dagster CASCADE")
    company.with_roles("irt", *OWN)
    run_successfully(typed, "restore", backup)
    owner_database = Database(owner)
    assert (rows(owner_database, "SELECT count(*) FROM attempt"), rows(owner_database, PUBLISHED)) == (
        answers,
        in_force,
    )
    assert stale(owner) == {*rooms.MONTHS}
    assert company.dump("irt", "dagster") == before
    run_successfully(typed, "pull", "exams")
    assert rows(owner_database, "SELECT count(*) FROM attempt") == answers, "rows of the erased learner are refused"
