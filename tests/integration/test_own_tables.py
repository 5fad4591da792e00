"""The company's own tables as the log: connected by `irt connect log`, kept through upgrades and backups, let go."""

from __future__ import annotations

from pathlib import Path

import pytest

from irt_assets.backup.places import FolderPlace
from irt_assets.backup.restore import restore_backup
from resources.doctor import Finding, diagnose
from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.own_log import make_log_view_again
from resources.settings import Settings
from tests.helpers.rooms import rows, run_sql
from tests.helpers.typed import Irt, IrtOf
from tests.integration.backups import back_up, empty_database

ANSWERS = """
    CREATE SCHEMA exam;
    CREATE TABLE exam.answers (
        id bigint PRIMARY KEY, student_id varchar(20) NOT NULL, question_id text NOT NULL,
        answered_at timestamptz NOT NULL, is_correct boolean, time_spent_sec numeric, remarks text);
    INSERT INTO exam.answers
    SELECT n, 'u' || mod(n, 50), 'q' || mod(n, 7), '2026-06-01 08:00+00'::timestamptz + n * interval '1 hour',
           mod(n, 3) = 0, n / 10.0
    FROM generate_series(1, 1000) n
"""
OWN = "SELECT count(*), min(id), sum(response_time_ms) FROM attempt"


@pytest.fixture
def typed(settings: Settings, database: Database, irt: IrtOf) -> Irt:
    """`irt` in a database in which the company has a table of answers."""
    run_sql(database, ANSWERS)
    return irt(settings)


@pytest.fixture
def connected(typed: Irt) -> Irt:
    done = typed("connect", "log", "exam.answers", "--yes")
    assert done.code == 0, done.err
    return typed


def log_finding(settings: Settings) -> Finding | None:
    return next((one for one in diagnose(settings) if one.subject == "log"), None)


def test_a_mapping_is_shown_before_it_is_stored(typed: Irt, database: Database) -> None:
    before = rows(database, "SELECT pg_get_viewdef('attempt'::regclass)")
    shown = typed("connect", "log", "exam.answers")
    assert (shown.code, "--yes" in shown.err) == (2, True)
    assert "student_id" in shown.out
    assert "2026-06-01 09:00" in shown.out
    assert rows(database, "SELECT count(*) FROM log_mapping") == [(0,)]
    assert rows(database, "SELECT pg_get_viewdef('attempt'::regclass)") == before


def test_the_view_has_the_columns_and_types_that_it_has_over_our_log(
    connected: Irt, database: Database, tmp_path: Path
) -> None:
    columns = """SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
                 WHERE attrelid = 'attempt'::regclass AND attnum > 0 ORDER BY attnum"""
    own = rows(database, columns)
    assert rows(database, OWN) == [(1000, "1", 50_050_000)]
    assert rows(database, "SELECT recorded_at = completed_at, mode, hints_used, topic_id FROM attempt LIMIT 1") == [
        (True, "live", None, "unknown")
    ]
    assert connected("connect", "log", "--drop", "--yes").code == 0
    assert rows(database, columns) == own
    assert rows(database, OWN) == [(0, None, None)]
    assert schema.drift(database) == []


def test_only_mapped_columns_leave_the_table(connected: Irt, database: Database) -> None:
    [(query,)] = rows(database, "SELECT query FROM log_mapping")
    assert "remarks" not in query
    run_sql(database, "ALTER TABLE exam.answers DROP COLUMN remarks")
    assert connected("doctor", "--json").code is not None
    assert rows(database, OWN)[0][0] == 1000


def test_an_import_is_refused_as_nobody_would_read_it(connected: Irt, database: Database, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,completed_at,correct\nu1,q1,2026-07-01T08:00:00Z,1\n")
    refused = connected("import", "attempts", log)
    said = " ".join(refused.err.split())
    assert (refused.code, "exam.answers" in said, "irt connect log --drop" in said) == (2, True, True)
    assert rows(database, "SELECT count(*) FROM response_log") == [(0,)]
    connected("connect", "log", "--drop", "--yes")
    assert connected("import", "attempts", log).code == 0


def test_an_upgrade_makes_the_view_from_the_mapping_and_never_ours(
    connected: Irt, settings: Settings, database: Database
) -> None:
    assert (schema.drift(database), log_finding(settings).state) == ([], "ok")  # type: ignore[union-attr]
    run_sql(database, "DROP VIEW attempt")
    assert log_finding(settings).state == "error"  # type: ignore[union-attr]
    assert connected("db", "upgrade").code == 0
    assert rows(database, OWN)[0][0] == 1000
    run_sql(database, "ALTER TABLE exam.answers RENAME TO old_answers")
    assert log_finding(settings).state == "error"  # type: ignore[union-attr]
    upgraded = connected("db", "upgrade")
    assert (upgraded.code, "exam.answers" in upgraded.err) == (0, True)
    assert rows(database, OWN)[0][0] == 0
    run_sql(database, "ALTER TABLE exam.old_answers RENAME TO answers")
    connected("db", "upgrade")
    assert rows(database, OWN)[0][0] == 1000
    assert log_finding(settings).state == "ok"  # type: ignore[union-attr]


def test_the_next_migration_keeps_the_log(
    connected: Irt, database: Database, next_version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_sql(database, "DROP VIEW attempt")  # as a migration would that changes it
    schema.upgrade(database)
    assert rows(database, OWN)[0][0] == 1000


def test_a_backup_is_restored_where_the_tables_are_not(
    connected: Irt, settings: Settings, database: Database, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Views of people's own that read `attempt` come along."""
    run_sql(database, "CREATE VIEW answers_of_june AS SELECT * FROM attempt WHERE completed_at < '2026-07-01+00'")
    made = Path(back_up(settings, tmp_path / "backups").address)
    with empty_database(postgres.start(), tmp_path / "copy") as copy:
        there = Database(copy)
        restored = restore_backup(copy, there, FolderPlace(made.parent), made.name, verify=False)
        assert restored.differences == []
        assert any("exam.answers" in note for note in restored.notes)
        assert rows(there, OWN)[0][0] == rows(there, "SELECT count(*) FROM answers_of_june")[0][0] == 0
        run_sql(there, ANSWERS)
        with there.connect() as connection:
            assert make_log_view_again(connection) is None
        assert rows(there, OWN)[0][0] == 1000
        assert (
            rows(there, "SELECT count(*) FROM answers_of_june")[0][0]
            == rows(database, "SELECT count(*) FROM answers_of_june")[0][0]
        )
