"""The company's own tables as the log: connected by `irt connect log`, kept through upgrades and backups, let go."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from irt_assets.backup.places import FolderPlace
from irt_assets.backup.restore import restore_backup
from irt_assets.common.partitions import Month
from irt_assets.intake.own_tables import propose, table_named
from irt_assets.intake.own_tables_check import Finding as Fault
from irt_assets.intake.own_tables_check import check
from irt_assets.responses.answers import attempts_between
from irt_assets.responses.data_versions import data_version
from irt_assets.responses.late_months import months_concerned
from irt_assets.responses.learner_answers import answered_at_all
from irt_assets.responses.observe import answer_versions, day_versions
from irt_assets.responses.observed_days import look_again
from resources.cluster.relational import on_postgres
from resources.doctor import Finding, diagnose
from resources.failures import PermanentFailure
from resources.postgres import own_log, schema
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.guest_reads import as_guest
from resources.postgres.own_log import empty_view, make_log_view_again, require_response_log
from resources.postgres.warehouse import read_arrow, read_parts
from resources.settings import Settings
from tests.helpers.rooms import rows, run_sql
from tests.helpers.typed import Irt, IrtOf
from tests.integration.backups import back_up, empty_database
from tests.testbed.patience import patient

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


def test_a_view_that_was_made_by_hand_gives_way(typed: Irt, database: Database) -> None:
    run_sql(database, "DROP VIEW attempt; CREATE VIEW attempt AS SELECT id, student_id AS user_id FROM exam.answers")
    assert typed("connect", "log", "exam.answers", "--yes").code == 0
    assert rows(database, OWN)[0][0] == 1000


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


def test_answers_are_neither_scored_again_nor_withdrawn_where_nobody_reads(connected: Irt) -> None:
    by = ("--by", "Kim", "--reason", "x")
    for words in (("rescore", "--item", "q1", "--key", "A"), ("withdraw", "--item", "q1")):
        refused = connected("attempts", *words, *by)
        assert (refused.code, "exam.answers" in refused.err) == (2, True), refused.err


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
        run_sql(there, f"CREATE VIEW attempt AS {empty_view()}")  # as a restore leaves it that was killed
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


# -- the contract, a rule a test ---------------------------------------------------------------------


def found(database: Database, table: str = "exam.answers", **given: str) -> tuple[list[Fault], list[str]]:
    """What the check finds, and what it notes."""
    with database.connect() as connection:
        proposal = propose(connection, table_named(connection, table), given=given, zone=None)
        notes: list[str] = []
        faults = check(connection, proposal.query, list(proposal.cells), notes.append)
        connection.rollback()
    return faults, notes


@pytest.mark.parametrize(
    ("damage", "given", "said"),
    [
        ("UPDATE exam.answers SET remarks = ''", {"id": "remarks"}, "1,000 answers of 1,000 without an id"),
        ("SELECT", {"id": "question_id"}, "an id stands more than once: there are 993 answers more than ids"),
        ("SELECT", {"id": "row_number() OVER ()"}, "the mapping numbers rows with a window function"),
        ("UPDATE exam.answers SET student_id = '' WHERE id = 7", {}, "one answer of 1,000 without a user_id"),
        ("UPDATE exam.answers SET question_id = '' WHERE id = 7", {}, "one answer of 1,000 without an item_id"),
        (
            "SELECT",
            {"completed_at": "nullif(answered_at, '2026-06-01 15:00+00')"},
            "one answer of 1,000 without a complet",
        ),
        (
            "UPDATE exam.answers SET answered_at = now() + interval '1 day' WHERE id = 7",
            {},
            "one answer of 1,000 in the fu",
        ),
        (
            "ALTER TABLE exam.answers ADD updated_at timestamptz DEFAULT '2026-06-05 00:00+00'",
            {"completed_at": "coalesce(updated_at, answered_at)"},
            "completed_at moves when the row is written again",
        ),
        ("SELECT", {"correct": "coalesce(is_correct, false)"}, "correct is false where it is unknown"),
        (
            "UPDATE exam.answers SET is_correct = false, time_spent_sec = NULL WHERE id <= 200",
            {},
            "100% of the answers without a time are wrong",
        ),
        (
            "UPDATE exam.answers SET time_spent_sec = 0 WHERE id <= 200",
            {},
            "200 answers of 1,000 with a time of 0 ms",
        ),
        ("SELECT", {"response_time_ms": "coalesce(time_spent_sec, 0)"}, "response_time_ms is 0 where it is unknown"),
        ("SELECT", {"mode": "'test'"}, "1,000 answers of 1,000 in a mode that is none"),
        ("SELECT", {"score": "mod(id, 2) * 2"}, "500 answers of 1,000 with a score above 1"),
        ("SELECT", {"score": "id / 1000.0"}, "999 answers of 1,000 with a score that is not a whole number"),
        (
            "SELECT",
            {"recorded_at": "nullif(answered_at, '2026-06-01 15:00+00')"},
            "one answer of 1,000 without a recorded_at",
        ),
        (
            "UPDATE exam.answers SET answered_at = date_trunc('day', answered_at)",
            {"session_id": "answered_at::text", "user_id": "answered_at::text"},
            "sessions have one time for all their answers",
        ),
    ],
)
def test_the_check_names_a_broken_rule_with_a_row_and_what_to_do(
    typed: Irt, database: Database, damage: str, given: dict[str, str], said: str
) -> None:
    sound, _ = found(database)
    run_sql(database, damage)
    faults, _ = found(database, **given)
    new = [one for one in faults if one.what not in {fault.what for fault in sound}]
    fitting = [one for one in new if said in one.what]
    assert len(fitting) == 1, [one.what for one in faults]
    assert fitting[0].consequence
    assert "irt connect log" in fitting[0].statement


@pytest.mark.parametrize(
    ("change", "given", "said"),
    [
        ("ALTER TABLE exam.answers ALTER answered_at TYPE timestamp", {}, "--zone Asia/Seoul"),
        (
            "ALTER TABLE exam.answers ALTER is_correct TYPE integer USING is_correct::integer",
            {},
            "correct=is_correct = 1",
        ),
        ("ALTER TABLE exam.answers ALTER answered_at TYPE bigint USING 1", {}, "to_timestamp(answered_at / 1000.0)"),
        ("ALTER TABLE exam.answers RENAME id TO number", {}, "--map id=COLUMN"),
        ("SELECT", {"topic_id": "remarks"}, "--map topic_id=…: no column of ours"),
        ("SELECT", {"hint_used": "true"}, "--map hint_used=…: no column of ours"),
        ("SELECT", {"correct": "is_right"}, 'column "is_right" does not exist'),
    ],
)
def test_what_does_not_say_what_it_means_is_refused_with_the_way_out(
    typed: Irt, database: Database, change: str, given: dict[str, str], said: str
) -> None:
    run_sql(database, change)
    with pytest.raises(PermanentFailure) as refused:
        found(database, **given)
    assert said in str(refused.value)


def test_columns_that_are_null_are_named_with_what_is_off(typed: Irt, database: Database) -> None:
    _, notes = found(database)
    always = {note.split()[0]: note for note in notes if "always null" in note}
    assert always.keys() == {"form_id", "session_id", "position", "started_at", "response", "hints_used"}
    assert "A_t" in always["hints_used"]


def test_full_credit_is_the_banks_maximum_where_correct_is_not_mapped(typed: Irt, database: Database) -> None:
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('q1', '{"irt": {"max_score": 4}}')""")
    scored = typed("connect", "log", "exam.answers", "--map", "correct=", "--map", "score=mod(id, 5)", "--yes")
    assert scored.code == 0, scored.err
    found = "SELECT DISTINCT score, correct FROM attempt WHERE item_id = '{}' ORDER BY 1"
    assert rows(database, found.format("q1")) == [(score, score == 4) for score in range(5)]
    assert rows(database, found.format("q2"))[:2] == [(0, False), (1, True)]


def test_a_time_without_a_zone_is_read_by_the_clock_that_is_named(typed: Irt, database: Database) -> None:
    run_sql(database, "ALTER TABLE exam.answers ALTER answered_at TYPE timestamp USING answered_at AT TIME ZONE 'UTC'")
    assert typed("connect", "log", "exam.answers", "--zone", "Asia/Seoul", "--yes").code == 0
    assert rows(database, "SELECT to_char(min(completed_at), 'DD HH24:MI') FROM attempt") == [("01 00:00",)]


def test_the_statements_of_the_check_make_a_month_and_a_learner_quick(connected: Irt, database: Database) -> None:
    checked = connected("connect", "log", "--check")
    statements = [line.strip() for line in checked.out.splitlines() if "CREATE INDEX CONCURRENTLY" in line]
    assert (checked.code, len(statements)) == (1, 2)
    with database.connect() as connection:
        connection.autocommit = True
        connection.execute(statements[1].encode())
        still = connected("connect", "log", "--check")
        assert (still.code, "1. a month is read by reading all" in still.out) == (1, True)  # by the second column alone
        connection.execute(statements[0].encode())
    assert connected("connect", "log", "--check").code == 0


def test_a_read_of_the_view_waits_two_seconds_for_a_lock_and_then_gives_way(connected: Irt, database: Database) -> None:
    with database.connect() as theirs, database.connect() as ours:
        theirs.execute("ALTER TABLE exam.answers ADD COLUMN marked_by text")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            read_arrow(ours, "SELECT count(*) FROM attempt")
        theirs.rollback()
    with database.connect() as ours:
        ours.execute("SET LOCAL statement_timeout = '1min'")
        with as_guest(ours):
            assert shown(ours) == ("2s", "1min")
        assert shown(ours) == ("0", "1min")


def shown(connection: psycopg.Connection) -> tuple[str, str]:
    return tuple(connection.execute(f"SHOW {name}").fetchone()[0] for name in ("lock_timeout", "statement_timeout"))


def all_rows(connection: psycopg.Connection) -> None:
    assert read_arrow(connection, "SELECT * FROM attempt").num_rows == 1000


def first_part(connection: psycopg.Connection) -> None:
    parts = read_parts(connection, "SELECT * FROM attempt")
    assert [next(parts).num_rows, next(parts).num_rows] == [0, 1000]


JUNE = Month("2026-06").bounds
READS = {
    "one learner": lambda c: c.execute("SELECT count(*) FROM attempt WHERE user_id = %s", ("u1",), prepare=True),
    "whether there is a learner": lambda c: answered_at_all(c, "nobody"),
    "all rows": all_rows,
    "rows in parts": first_part,
    "versions of days": lambda c: day_versions(c, *JUNE),
    "answers of days": lambda c: answer_versions(c, *JUNE),
    "a month's hash": lambda c: data_version(c, "2026-06", {}),
    "the look for late answers": lambda c: months_concerned(c, JUNE[0], ["2026-06-02"]),
    "a night": lambda c: look_again(c, JUNE[1]),
    "an expression": lambda c: on_postgres(c)(attempts_between(*JUNE).select("item_id").distinct()),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_their_change_waits_for_no_transaction_that_has_read(
    read: Callable[[psycopg.Connection], object], connected: Irt, database: Database
) -> None:
    with database.connect() as ours, database.connect() as theirs:
        ours.execute("INSERT INTO learner (user_id) VALUES ('new')")
        read(ours)
        theirs.execute("SET LOCAL lock_timeout = '1s'; ALTER TABLE exam.answers ADD COLUMN marked_by text")
        assert shown(ours) == ("0", "0")
        ours.execute("UPDATE learner SET is_test = true WHERE user_id = 'new'")
    assert rows(database, "SELECT is_test FROM learner WHERE user_id = 'new'") == [(True,)]


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_every_read_gives_way_after_two_seconds(
    read: Callable[[psycopg.Connection], object], connected: Irt, database: Database
) -> None:
    with database.connect() as theirs, database.connect() as ours:
        theirs.execute("ALTER TABLE exam.answers ADD COLUMN marked_by text")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            read(ours)
        assert 1.9 < time.monotonic() - began < patient(4)
        assert ours.execute("SELECT count(*) FROM learner").fetchone() == (0,)  # the transaction goes on
        theirs.rollback()


def test_an_import_hears_at_once_that_the_log_is_theirs(connected: Irt, database: Database) -> None:
    with database.connect() as theirs, database.connect() as ours:
        theirs.execute("ALTER TABLE exam.answers ADD COLUMN marked_by text")
        ours.execute("SET LOCAL lock_timeout = '1ms'")
        with pytest.raises(PermanentFailure, match=r"exam\.answers"):
            require_response_log(ours)
        theirs.rollback()


def test_what_is_read_as_a_guest_writes_nothing_and_keeps_what_is_prepared(connected: Irt, database: Database) -> None:
    with database.connect() as ours:
        for _ in range(2):
            ours.execute("SELECT count(*) FROM attempt WHERE user_id = %s", ("u1",), prepare=True)
        assert "FROM attempt" in str(ours.execute("SELECT statement FROM pg_prepared_statements").fetchall())
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            ours.execute(
                "WITH new AS (INSERT INTO learner (user_id) SELECT user_id FROM attempt RETURNING 1) TABLE new"
            )
    with database.open() as alone:
        alone.autocommit = True
        assert alone.execute("SELECT count(*) FROM attempt").fetchone() == (1000,)
        assert alone.info.transaction_status == TransactionStatus.IDLE


@pytest.mark.parametrize(
    "view",
    [
        "SELECT id::text, student_id AS user_id FROM exam.answers",
        "SELECT 'x' AS id, 'u' AS user_id",
        "SELECT attempt_id AS id, user_id FROM response_log UNION ALL SELECT id::text, student_id FROM exam.answers",
    ],
    ids=["theirs", "nothing", "both"],
)
def test_an_import_under_a_view_that_was_made_by_hand_is_refused(
    view: str, typed: Irt, database: Database, tmp_path: Path
) -> None:
    run_sql(database, f"DROP VIEW attempt; CREATE VIEW attempt AS {view}")
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,completed_at,correct\nu1,q1,2026-07-01T08:00:00Z,1\n")
    refused = typed("import", "attempts", log)
    assert (refused.code, "made by hand" in " ".join(refused.err.split())) == (2, True), refused.err
    assert typed("connect", "log", "--drop", "--yes").code == 0
    assert typed("import", "attempts", log).code == 0
    assert rows(database, OWN)[0][0] == 1


def test_an_upgrade_makes_the_view_once(connected: Irt, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = own_log._make_view
    monkeypatch.setattr(own_log, "_make_view", lambda connection, query: made.append(make(connection, query)))
    assert connected("db", "upgrade").code == 0
    assert len(made) == 1


def test_a_backup_holds_nothing_of_theirs(
    connected: Irt, settings: Settings, database: Database, tmp_path: Path
) -> None:
    with database.connect() as theirs:
        theirs.execute("ALTER TABLE exam.answers ADD COLUMN marked_by text")
        assert back_up(settings, tmp_path / "backups").size > 0
        theirs.rollback()


DELETE = "DELETE FROM exam.answers WHERE student_id = :user_id"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM exam.answers", ":user_id"),
        ("DELETE FROM exam.answers WHERE student_id = :user_id AND id = :id", ":user_id"),
        (f"{DELETE}; DROP TABLE exam.answers", "multiple commands"),
        ("UPDATE exam.answers SET student_id = '' WHERE student_id = :user_id", "one DELETE"),
        ("WITH gone AS (DELETE FROM exam.answers WHERE student_id = :user_id RETURNING 1) TABLE gone", "one DELETE"),
        ("WITH gone AS (DELETE FROM exam.answers RETURNING 1) " + DELETE, "one DELETE"),
        ("DELETE FROM answers WHERE student_id = :user_id", "does not exist"),
        ("DELETE FROM exam.answers WHERE learner = :user_id", "learner"),
    ],
)
def test_the_delete_of_an_erasure_is_one_delete_of_the_learners_rows(
    statement: str, said: str, typed: Irt, database: Database
) -> None:
    refused = typed("connect", "log", "exam.answers", "--erase-with", statement, "--yes")
    assert (refused.code, said in " ".join(refused.err.split())) == (2, True), refused.err
    assert rows(database, "SELECT count(*) FROM log_mapping") == [(0,)]


def test_the_delete_of_an_erasure_is_shown_and_stored_and_not_run(typed: Irt, database: Database) -> None:
    done = typed("connect", "log", "exam.answers", "--erase-with", f"{DELETE} AND id::text <> '12:30%'", "--yes")
    assert (done.code, DELETE in done.out) == (0, True), done.err
    assert rows(database, OWN)[0][0] == 1000
