"""The first schema equals the former history's, every later step has a downgrade, and the previous release works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alembic.command
import psycopg
import pytest
from alembic.config import Config
from dagster import DagsterInstance
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from irt_assets.decisions.origin import initialise
from irt_assets.decisions.proposals import Reference
from irt_assets.responses.open_months import scales_with_changed_verdicts
from resources.doctor import diagnose
from resources.failures import PermanentFailure
from resources.migrations.first_schema import schema_as_sql
from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.log_months import make_verdict_month
from resources.postgres.open_database import open_database
from resources.postgres.own_schema import VERSION_TABLE
from resources.postgres.schema_version import (
    COMMIT_OF_FIRST_SCHEMA,
    REMEDY,
    VERSIONS,
    SchemaVersion,
    newest_revision,
    number,
    schema_version,
)
from resources.settings import Settings
from resources.tables import irreplaceable_rows
from services.dashboard.data_access import Reader
from services.dashboard.decisions import DecisionForm, review
from services.dashboard.downloads import download
from services.dashboard.login import DEMO
from services.dashboard.page import ViewRequest
from services.dashboard.server import make_page
from services.theta_api.parameter_cache import DatabaseUnavailable, Ledger
from tests.helpers.decided import WITHDRAWN
from tests.helpers.rooms import SCALE, add_items, call, rows, run_sql
from tests.helpers.score_world import item_values
from tests.helpers.sentences import missing_sentences, refusal
from tests.helpers.typed import IrtOf
from tests.integration.test_adaptive_sessions import PLACEMENT, running
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.stack_harness import wait_for

REPOSITORY = Path(__file__).parents[2]
(SCHEMA_FILE,) = VERSIONS.glob("*.sql")
RELEASE = COMMIT_OF_FIRST_SCHEMA
"""A commit of main whose code works on the newest schema. Replace it once a schema no longer supports it."""

SCHEMA = (
    "requirements.lock",
    "resources/migrations/**",
    "resources/postgres/log_months.py",
    "resources/postgres/schema*.py",
    "resources/tables.py",
)
"""Files that may break a downgrade or the previous release, whose code runs in the present environment."""

CATALOG = (
    """SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
              concat(a.attidentity, a.attgenerated), pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
       FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
       WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')""",
    """SELECT 'relation', relname, relkind::text, pg_get_partkeydef(oid), pg_get_viewdef(oid), obj_description(oid)
       FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')""",
    "SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
       FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "SELECT 'sequence', sequencename, data_type::text FROM pg_sequences WHERE schemaname = 'public'",
    "SELECT 'function', proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
)
VALUES = {
    "text": ("'first'", "'second'"),
    "timestamp with time zone": ("'2026-06-15 12:00+00'", "'2026-06-16 12:00+00'"),
    "date": ("'2026-06-15'", "'2026-06-22'"),
    "jsonb": ("'{}'", "'[]'"),
    "boolean": ("true", "false"),
    "bytea": (r"'\x01'", r"'\x02'"),
    "smallint": ("1", "2"),
    "integer": ("1", "2"),
    "bigint": ("1", "2"),
    "double precision": ("0.5", "1"),
    "numeric": ("1", "2"),
}
"""Column type → value in the first row, value in the second row."""
PARAMETERS = """'{"a": 0.5, "b": 0.5, "c": 0.5, "a_se": 0.5, "b_se": 0.5, "c_se": 0.5, "cov_ab": 0.5}'"""


def catalog(database: Database) -> set[tuple[object, ...]]:
    """Rows of the server's catalog, with comments, without the log's partitions, which depend on the clock."""
    with database.connect() as connection:
        found = [row for query in CATALOG for row in connection.execute(query.encode()).fetchall()]
    others = (VERSION_TABLE, "response_log_2", "attempt_verdict_2")
    return {row for row in found if not any(name in str(row) for name in others)}


def structure(known: set[tuple[object, ...]]) -> set[tuple[object, ...]]:
    """The catalog without comments. A downgrade may leave comments, as no code reads them."""
    return {(*row[:-1], None) if row[0] in ("column", "relation") else row for row in known}


def count_rows(connection: psycopg.Connection) -> dict[str, int]:
    names = connection.execute(
        """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
           AND NOT relispartition AND relname <> %s ORDER BY 1""",
        (VERSION_TABLE,),
    ).fetchall()
    return {name: connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchall()[0][0] for (name,) in names}


def fill_tables(database: Database) -> dict[str, int]:
    """Insert two rows, with a value in every column, into each empty table. Returns the number of rows per table."""
    with database.connect() as connection:
        if connection.execute("SELECT to_regclass('response_log') IS NOT NULL").fetchone() == (True,):
            ensure_month_partitions(connection, "2026-06", "2026-06")
        if connection.execute("SELECT to_regclass('attempt_verdict') IS NOT NULL").fetchone() == (True,):
            make_verdict_month(connection, "2026-06")
        for table in (name for name, n in count_rows(connection).items() if not n):
            columns = connection.execute(
                """SELECT column_name, data_type FROM information_schema.columns
                   WHERE table_schema = 'public' AND table_name = %s AND is_identity = 'NO'
                     AND is_generated = 'NEVER'""",
                (table,),
            ).fetchall()
            names = ", ".join(f'"{name}"' for name, _ in columns)
            for row in (0, 1):
                values = ", ".join(
                    PARAMETERS if name == "parameters" else VALUES[type_][row] for name, type_ in columns
                )
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values})".encode())
        return count_rows(connection)


def drop_tables(database: Database) -> Config:
    """Drop all tables. Returns Alembic's configuration for creating them."""
    run_sql(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    config = schema._alembic()
    config.attributes["database"] = database
    return config


@pytest.mark.on_change(*SCHEMA)
def test_registry_as_sql_creates_the_same_schema_as_the_migrations(database: Database) -> None:
    """The comparison includes catalog objects that Alembic ignores, such as triggers and partial indexes."""
    migrated = catalog(database)
    drop_tables(database)
    with database.connect() as connection:
        connection.execute(schema_as_sql().replace("{schema}", "public").encode())
    assert catalog(database) == migrated


@pytest.mark.on_change(*SCHEMA)
def test_the_migrations_work_in_any_schema(database: Database) -> None:
    """The first schema on the role's search path gets all objects, and triggers find it from any search path."""
    with database.connect() as connection:
        connection.execute('DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE SCHEMA "Five\'s own"')
        connection.execute(f'ALTER DATABASE {connection.info.dbname} SET search_path = "Five\'s own"'.encode())
    database = Database(database.settings)
    schema.upgrade(database)
    with database.connect() as connection:
        connection.execute("INSERT INTO question (item_id) VALUES ('q1')")
        connection.execute("SET search_path = public")
        connection.execute("INSERT INTO \"Five's own\".learner (user_id, is_test) VALUES ('u1', true)")
        connection.execute(
            'INSERT INTO "Five\'s own".response_log (attempt_id, completed_at, user_id, item_id) '
            "VALUES ('a1', now(), 'u2', 'q1')"
        )
        found = connection.execute('SELECT user_id FROM "Five\'s own".learner ORDER BY 1').fetchall()
        assert found == [("u1",), ("u2",)]
        assert connection.execute("SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchall() == []
    assert "public" not in re.sub("publication|publish", "", SCHEMA_FILE.read_text("utf-8"))


@pytest.mark.on_change(*SCHEMA)
def test_every_downgrade_works_with_rows_in_every_table(database: Database, next_version: str) -> None:
    """Down to the first schema and up again, step by step: each revision has one schema, however it is reached."""
    config = schema._alembic()
    config.attributes["database"] = database
    *later, first = [script.revision for script in schema.ScriptDirectory.from_config(config).walk_revisions()]
    schema.upgrade(database)
    before = fill_tables(database)
    newest = catalog(database)
    going_down = {}
    for name in later:
        assert {*before.values()} == {2}, before
        going_down[name] = structure(catalog(database))
        alembic.command.downgrade(config, "-1")
        with database.connect() as connection:
            remaining = count_rows(connection)
        lost = {table for table in irreplaceable_rows() if table in remaining and remaining[table] < before[table]}
        assert not lost, f"the downgrade of {name} loses rows of {lost}"
        before = fill_tables(database)
    assert schema_version(database).revision == first
    for name in reversed(later):
        alembic.command.upgrade(config, "+1")
        assert structure(catalog(database)) == going_down[name], name
        fill_tables(database)
    assert catalog(database) == newest


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of RELEASE. A clone without its history fetches that commit. If that fails, the
    test is skipped with the reason."""

    def git(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", "-C", REPOSITORY, *words], capture_output=True, check=False)

    archive = git("archive", RELEASE)
    if archive.returncode:
        fetched = git("fetch", "--quiet", "--depth=1", "origin", RELEASE)
        archive = git("archive", RELEASE)
        if archive.returncode:
            reason = (fetched.stderr or archive.stderr).decode(errors="replace").strip()
            pytest.skip(f"the release {RELEASE[:12]} is not in this clone and cannot be fetched: {reason}")
    folder = tmp_path_factory.mktemp("release")
    # Debian's Python 3.11.2 has no filter for extractall, and a later Python warns without one
    subprocess.run(["tar", "--extract", "--directory", folder], input=archive.stdout, check=True)
    return folder


@pytest.fixture
def earlier(release: Path) -> Callable[[Settings], Callable[..., str]]:
    """`earlier(settings)` returns a function that runs a command of RELEASE in the present environment."""

    def of(settings: Settings) -> Callable[..., str]:
        environment = {name: value for name, value in os.environ.items() if name != "IRT_ENV_FILE"} | {
            "DATABASE_URL": Database(settings).url,
            "IRT_HOME": str(settings.irt_home),
            "IRT_FIRST_MONTH": settings.irt_first_month,
            "IRT_THREADS": "1",
            "PYTHONPATH": str(release),
        }

        def run(*words: str, code: int = 0, python: Sequence[str] = ("-m", "irt_assets.cli")) -> str:
            done = subprocess.run(
                [sys.executable, *python, *words],
                cwd=release,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout or done.stderr

        return run

    return of


@pytest.mark.on_change(*SCHEMA)
def test_home_of_the_former_history_is_upgraded_to_the_same_schema_as_a_new_home(
    database: Database, settings: Settings, earlier: Callable[[Settings], Callable[..., str]]
) -> None:
    alembic.command.upgrade(drop_tables(database), SCHEMA_FILE.stem)
    first = catalog(database)
    drop_tables(database)
    assert f"schema is at {SCHEMA_FILE.stem}" in earlier(settings)("db", "upgrade")
    assert catalog(database) == first
    schema.upgrade(database)
    assert (schema_version(database).fault, schema.drift(database)) == (None, [])


@pytest.mark.on_change(*SCHEMA)
def test_upgrade_adds_missing_states_to_snapshots_and_deletes_partitions_without_a_state(database: Database) -> None:
    schema.downgrade(database, SCHEMA_FILE.stem)
    run_sql(
        database,
        """INSERT INTO scored_snapshot (month, snapshot_hash, uri, data_hash, n_attempts, counts, rules)
           SELECT month, 'h', 'u', 'v1:d', 1, '{"math": {"scored": 1}}', '{}'
           FROM unnest(ARRAY['2026-06', '2026-07']) month;
           INSERT INTO judged_day (day, n, recorded_sum, revision_sum, test_accounts, items, rules)
           VALUES ('2026-06-01', 1, 1, 1, '', '', '');
           INSERT INTO question (item_id, scale_id) VALUES ('i1', 'math');
           INSERT INTO partition_source VALUES ('features_topic_daily', '2026-06-01', 'earlier'),
             ('features_topic_daily', '2026-06-02', 'state')""",
    )
    schema.upgrade(database)
    assert rows(database, "SELECT partition FROM partition_source") == [("2026-06-02",)]
    assert call(database, scales_with_changed_verdicts) == {"2026-06": {"math"}}, "no day of July has been judged yet"


@pytest.mark.on_change(*SCHEMA)
@pytest.mark.ci
def test_previous_release_runs_on_the_newest_schema(
    world: Settings, earlier: Callable[[Settings], Callable[..., str]], tmp_path: Path, irt: IrtOf
) -> None:
    """The old code runs in the present environment: a rollback replaces the code and keeps the schema."""
    database, present, run = Database(world), irt(world), earlier(world)
    assert present("status").code == 1  # Dagster's tables are made by the present code, too
    before = catalog(database)
    known = run(python=["-c", "from resources.postgres import schema_version as v; print(v.newest_known())"])
    oldest = number(schema_version(database).oldest_code)
    assert oldest <= int(known) <= newest_revision(), f"pin a release of a schema from {oldest} on"

    run("db", "upgrade")
    learners = tmp_path / "learners.csv"
    learners.write_text("user_id,lang\nsomebody new,ko\n", "utf-8")
    run("import", "learners", str(learners))
    run("calibrate", "--month", "2026-06")
    [june] = [m for m in json.loads(run("status", "--json", code=1))["months"] if m["month"] == "2026-06"]
    assert june["state"] == "green", june
    item = rows(database, "SELECT min(item_id) FROM item_parameter_publication WHERE rule = 'first'")[0][0]
    assert "2026-06" in run("lineage", item)
    run("prune", "--dry-run")

    assert catalog(database) == before
    [june] = [m for m in present("status", "--json").json["months"] if m["month"] == "2026-06"]
    assert june["state"] == "green", june


# -- the version of the schema -----------------------------------------------------------------------
# Code and schema of different ages: commands that run, commands that are refused with their sentence, and downgrades.

FIRST, BEFORE_THE_FIRST = "0057_verdict_state", "0039_learner_reports"
COMMANDS = (
    ("status",),
    ("prune", "--dry-run"),
    ("calibrate", "--month", "2026-06"),
    ("lineage", "A01"),
    ("import", "attempts", "answers.csv"),
    ("import", "questions", "answers.csv"),
    ("import", "learners", "answers.csv"),
    ("scale", "pass-mark", "1", "--by", "ann", "--reason", "board"),
    ("release", "list"),
    ("report", "drift", "--month", "2026-06"),
    ("runs", "list"),
)


@pytest.fixture
def typed(settings: Settings, irt: IrtOf) -> Callable[..., tuple[int, str]]:
    """Run `irt` with these arguments. Returns the exit code and the output."""

    def run(*words: str) -> tuple[int, str]:
        done = irt(settings)(*words)
        return done.code, done.out + done.err

    return run


def set_revision(database: Database, revision: str, oldest_code: str | None) -> None:
    """Mark the schema as the result of a migration that this code lacks."""
    run_sql(database, "UPDATE irt_alembic_version SET version_num = %s, oldest_code = %s", (revision, oldest_code))


def test_every_command_names_the_upgrade_to_the_newer_schema(
    database: Database, next_version: str, typed: Callable[..., tuple[int, str]]
) -> None:
    before = str(schema_version(database).revision)
    for words in COMMANDS:
        code, printed = typed(*words)
        assert (code, "run `irt db upgrade`" in printed, before in printed) == (2, True, True), (words, printed)
    assert typed("db", "upgrade") == (0, f"schema is at {next_version}, with its tables in public\n")
    assert schema_version(database).fault is None


@pytest.mark.parametrize("had_oldest_code", [True, False])
def test_schema_older_than_the_first_is_refused_by_every_command_and_by_an_upgrade(
    had_oldest_code: bool, database: Database, settings: Settings, typed: Callable[..., tuple[int, str]]
) -> None:
    """The message names the commit that can upgrade to the first schema, as this code cannot."""
    set_revision(database, BEFORE_THE_FIRST, None)
    if not had_oldest_code:
        run_sql(database, "ALTER TABLE irt_alembic_version DROP COLUMN oldest_code")
    before = catalog(database)
    for words in (
        *COMMANDS,
        ("db", "upgrade"),
        ("serve",),
        ("run", "code-server"),
        ("run", "daemon"),
        ("run", "webserver"),
    ):
        code, printed = typed(*words)
        missing = missing_sentences(
            printed, f"at {BEFORE_THE_FIRST}", f"git checkout {COMMIT_OF_FIRST_SCHEMA}", "irt db upgrade"
        )
        assert (code, missing) == (2, []), (words, printed)
    [finding] = [each for each in diagnose(settings) if each.subject == "schema"]
    assert (finding.state, finding.fix) == ("error", REMEDY)
    assert (schema_version(database).revision, catalog(database)) == (BEFORE_THE_FIRST, before)


def test_newer_schema_that_supports_this_code_is_used_unchanged(database: Database, settings: Settings) -> None:
    set_revision(database, "0999_from_tomorrow", schema_version(database).revision)
    assert open_database(settings).url == database.url
    schema.upgrade(database)
    assert schema_version(database).revision == "0999_from_tomorrow"


@pytest.mark.parametrize("oldest_code", ["0998_breaks_it", None])
def test_newer_schema_that_does_not_support_this_code_is_refused(
    oldest_code: str | None, database: Database, settings: Settings, typed: Callable[..., tuple[int, str]]
) -> None:
    set_revision(database, "0999_from_tomorrow", oldest_code)
    for words in (("release", "list"), ("db", "upgrade")):
        code, printed = typed(*words)
        assert (code, "install the newer irt-assets" in printed) == (2, True), words


def test_downgrade_is_refused_if_the_ledger_would_lose_values(
    database: Database, next_version: str, typed: Callable[..., tuple[int, str]]
) -> None:
    earlier = str(schema_version(database).revision)
    schema.upgrade(database)
    run_sql(
        database,
        "INSERT INTO anchor_set (scale_id, version, item_id, parameters, errors_assumed, anchor_hash, note) "
        "VALUES ('default', 1, 'A01', '{\"a\": 1, \"b\": 0, \"c\": 0}', false, 'x', 'kept')",
    )
    before = schema_version(database), catalog(database)
    code, printed = typed("db", "downgrade", earlier[:4], "--yes")
    assert (code, "1 values of anchor_set.note" in printed) == (2, True)
    assert (schema_version(database), catalog(database)) == before
    run_sql(database, "UPDATE anchor_set SET note = NULL")
    assert typed("db", "downgrade", earlier[:4], "--yes")[1].endswith(f"schema is at {earlier}\n")
    assert schema.drift(database) == []


def test_downgrade_is_refused_if_it_drops_rows_that_no_job_recomputes(
    database: Database, typed: Callable[..., tuple[int, str]]
) -> None:
    """Issued scores, score tables, forms, policies and sessions once went without a word.

    Rows that a job recomputes, such as item analyses, do not prevent the downgrade.
    """
    newest = str(schema_version(database).revision)
    schema.downgrade(database, FIRST)
    with database.connect() as connection:
        earlier = count_rows(connection)
    schema.upgrade(database)
    fill_tables(database)
    run_sql(database, "UPDATE inbox_file SET begun = 0")  # the default, which is not lost
    run_sql(database, "UPDATE decision SET former_table = NULL")  # made since; earlier ones have a place
    protected = irreplaceable_rows().keys() - earlier.keys()
    assert {"issued_score", "score_table", "form", "form_item", "adaptive_test", "adaptive_session"} <= protected
    before = catalog(database)

    code, printed = typed("db", "downgrade", FIRST[:4], "--yes")

    assert code == 2
    assert {*re.findall(r"2 rows of (\w+)", printed)} == protected
    assert "restore the backup" in printed
    assert "values of" not in printed
    assert (schema_version(database).revision, catalog(database)) == (newest, before)
    run_sql(database, f"TRUNCATE {', '.join(protected)}")
    assert typed("db", "downgrade", FIRST[:4], "--yes")[1].endswith(f"schema is at {FIRST}\n")


DECISIONS_BEFORE = """
    INSERT INTO question (item_id, scale_id) VALUES ('i1', 'math');
    INSERT INTO month_state
      (month, scale_id, since, state, decided_by, reason, snapshot_hash, rules, items, test_accounts)
    VALUES ('2026-06', 'math', '2026-07-15', 'closed', 'nightly', 'late_days have passed', 'h', '{}', '{}', '[]'),
           ('2026-06', 'math', '2026-07-16', 'reopened', 'Ann', 'a paper form', 'h', '{}', '{}', '[]');
    INSERT INTO item_status (item_id, state, effective_from, reason, decided_by, decided_at)
    VALUES ('gone', 'withdrawn', '2026-01-01', 'leaked', 'Bo', '2026-08-02');
    DELETE FROM item_status;
    INSERT INTO item_status (item_id, state, effective_from, reason, decided_by, decided_at)
    VALUES ('i1', 'withdrawn', '2026-09-01', 'leaked', 'Bo', '2026-08-02'),
           ('i1', 'restored', '2026-09-01', 'not leaked', 'Cy', '2026-07-01');
    INSERT INTO adaptive_test (test_id, scale_id, policy, undoes, effective_from, decided_by, reason, decided_at)
    VALUES ('placement', 'math', '{"test": "placement"}', NULL, '2026-07-20', 'Ann', 'new', '2026-07-20'),
           ('placement', 'math', NULL, 1, '2026-08-20', 'Ann', 'too long', '2026-08-20');
"""
"""Decisions of the first kinds in the table `decision`, of a home whose clock was set back before the restoration."""
STATUS = "SELECT status_id, item_id, state, effective_from, reason, decided_by, decided_at FROM item_status ORDER BY 1"
VERSIONS_OF_TESTS = """SELECT version, test_id, policy, undoes, effective_from, decided_by, reason, decided_at
                       FROM adaptive_test ORDER BY 1"""


def test_former_decisions_get_new_numbers_in_order_and_keep_former_numbers(database: Database) -> None:
    schema.downgrade(database, "0065")
    run_sql(database, DECISIONS_BEFORE)
    before = rows(database, STATUS), rows(database, VERSIONS_OF_TESTS)

    schema.upgrade(database)

    decided = "SELECT kind, subject, undoes, former_table, former_id FROM decision ORDER BY decision_id"
    assert rows(database, decided) == [
        ("reopen a month", "", None, "month_state", 2),
        ("set the policy of a test", "placement", None, "adaptive_test", 1),
        ("withdraw an item", "i1", None, "item_status", 2),
        ("restore an item", "i1", None, "item_status", 3),
        ("set the policy of a test", "placement", 2, "adaptive_test", 2),
    ]
    assert (rows(database, STATUS), rows(database, VERSIONS_OF_TESTS)) == before
    links = "SELECT former_id, version FROM decision JOIN adaptive_test USING (decision_id) ORDER BY 1"
    assert rows(database, links) == [(1, 1), (2, 2)]
    assert rows(database, "SELECT since, until FROM item_withdrawal") == [], "restored from the same time on"
    schema.downgrade(database, "0065")
    assert (rows(database, STATUS), rows(database, VERSIONS_OF_TESTS)) == before


def test_downgrade_is_refused_once_a_decision_is_made_after_the_upgrade(database: Database) -> None:
    schema.downgrade(database, "0065")
    run_sql(database, DECISIONS_BEFORE)
    schema.upgrade(database)
    run_sql(database, WITHDRAWN, ("i1", "2026-10-01"))
    assert rows(database, STATUS)[-1][:2] == (6, "i1"), "numbered after the five former decisions"
    with pytest.raises(PermanentFailure, match="no place for 1 rows of decision"):
        schema.downgrade(database, "0065")


@pytest.mark.parametrize(
    "written",
    [
        """INSERT INTO item_status (item_id, state, effective_from, reason, decided_by)
           VALUES ('i1', 'restored', now(), 'new', 'Ann')""",
        """INSERT INTO adaptive_test (test_id, scale_id, effective_from, decided_by, reason)
           VALUES ('placement', 'math', now(), 'Ann', 'new')""",
        """INSERT INTO month_state
             (month, scale_id, state, decided_by, reason, snapshot_hash, rules, items, test_accounts)
           VALUES ('2026-06', 'math', 'reopened', 'Ann', 'a paper form', 'h', '{}', '{}', '[]')""",
    ],
)
def test_decision_of_the_former_code_is_refused_by_the_database(database: Database, written: str) -> None:
    with pytest.raises(psycopg.Error, match=r"cannot insert into|violates (not-null|check) constraint"):
        run_sql(database, written)


def test_upgrade_is_refused_if_a_version_undoes_an_unknown_one(database: Database) -> None:
    schema.downgrade(database, "0065")
    run_sql(database, DECISIONS_BEFORE)
    run_sql(database, "UPDATE adaptive_test SET undoes = 7 WHERE version = 2")
    with pytest.raises(DBAPIError, match="must name a version, got: 7"):
        schema.upgrade(database)


@pytest.mark.parametrize(
    ("revision", "now_at", "reason"),
    [
        *((revision, None, "does not name one of the earlier") for revision in ("0999", "", "0", "base", "head")),
        ("0013", FIRST, r"'0013' does not name one of the earlier \(there is none\)"),
    ],
)
def test_downgrade_is_refused_unless_the_target_is_an_earlier_schema(
    database: Database, next_version: str, revision: str, now_at: str | None, reason: str
) -> None:
    schema.upgrade(database)
    if now_at is not None:
        run_sql(database, "UPDATE irt_alembic_version SET version_num = %s", (now_at,))
    assert re.search(reason, refusal(schema.downgrade, database, revision))


def test_downgrade_without_confirmation_names_the_backup_command(
    database: Database, next_version: str, typed: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = str(schema_version(database).revision)
    schema.upgrade(database)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, printed = typed("db", "downgrade", earlier)
    assert (code, "irt backup" in printed) == (2, True)
    assert schema_version(database).revision == next_version


def test_first_command_creates_the_embedded_database_with_its_schema(tmp_path: Path) -> None:
    """`irt doctor` promises a database at first use, but the first import used to demand `irt db upgrade`."""
    settings = Settings(irt_home=tmp_path / "home", _env_file=None)
    try:
        database = open_database(settings)
        assert schema_version(database).fault is None
        assert rows(database, "SELECT count(*) FROM response_log") == [(0,)]
    finally:
        EmbeddedPostgres(settings.irt_home / "postgres").stop()


def test_database_of_an_external_server_is_not_migrated_without_a_command(
    database: Database, settings: Settings
) -> None:
    run_sql(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert "has no schema yet: run `irt db upgrade`" in refusal(open_database, settings)
    assert rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


# -- servers that run while the schema is downgraded -------------------------------------------------


def drop_newest_tables(database: Database) -> None:
    """Downgrade to the first schema without the guard, as if the tables were empty."""
    config = schema._alembic()
    config.attributes["database"] = database
    alembic.command.downgrade(config, FIRST)


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.mark.xdist_group("theta api")
def test_theta_api_refuses_requests_with_503_after_a_downgrade(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against a status of 500 and a traceback for each request."""
    add_items(database, item_values())
    initialise(database, SCALE, first_month="2026-06")
    with running(database, PLACEMENT) as exam:
        assert exam.ask("s1", []).status_code == 200
        drop_newest_tables(database)
        for _ in range(2):
            refused = exam.ask("s1", [])
            assert refused.status_code == 503
            assert missing_sentences(refused.json()["detail"], f"is at {FIRST}", "run `irt db upgrade`") == []
        wait_for("the ledger to notice", lambda: not exam.ledger.ready)
        with pytest.raises(DatabaseUnavailable, match="run `irt db upgrade`"):
            wait_for("θ to be refused", lambda: not exam.ledger.measures())
        schema.upgrade(database)
        wait_for("the ledger to recover", lambda: exam.ledger.ready)
    assert tracebacks(caplog) == []


def test_dashboard_refuses_pages_and_downloads_with_503_after_a_downgrade(
    database: Database, settings: Settings, instance: DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    drop_newest_tables(database)
    request = ViewRequest("equate", {"what": "issued", "new": "F2", "old": "F1"}, DEMO, Reader(settings, instance))
    add_items(database, item_values())
    initialise(database, SCALE, first_month="2026-06")
    status, page = make_page(request)
    refused = download(request)
    decision = review(request, DecisionForm("issue", (Reference("2026-06", "F1"),), "results of June", scale_id=SCALE))
    assert (int(status), refused.status_code, decision.ok) == (503, 503, False)
    for text in (str(page.body), bytes(refused.body).decode()):
        assert missing_sentences(text, f"is at {FIRST}", "irt db upgrade") == []
    assert "does not fit this dashboard" in decision.sentences[0]
    assert tracebacks(caplog) == []


def test_servers_answer_503_if_the_database_is_lost_after_a_downgrade(
    database: Database,
    settings: Settings,
    instance: DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The comparison of versions meets the lost database, after the error of the query."""
    add_items(database, item_values())
    initialise(database, SCALE, first_month="2026-06")
    ledger = Ledger(database, 1)
    ledger.start()
    try:
        wait_for("the first reading", lambda: ledger.ready)
        drop_newest_tables(database)

        def lose_database(_: Database) -> SchemaVersion:
            raise psycopg.OperationalError("server closed the connection")

        monkeypatch.setattr("resources.postgres.schema_version.schema_version", lose_database)
        with pytest.raises(DatabaseUnavailable, match="closed the connection"), ledger.connect() as connection:
            connection.execute("SELECT 1 FROM adaptive_bank")
        request = ViewRequest("equate", {"what": "issued", "new": "F2", "old": "F1"}, DEMO, Reader(settings, instance))
        status, page = make_page(request)
        assert (int(status), page.title) == (503, "The database does not answer")
        refused = download(request)
        assert (refused.status_code, "does not answer" in bytes(refused.body).decode()) == (503, True)
    finally:
        ledger.stop()
    assert tracebacks(caplog) == []


# -- migrations --------------------------------------------------------------------------------------
# The schema's history leads to the registry, and a difference is named.

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


def test_postgresql_15_accepts_the_same_schema(tmp_path: Path, require: Callable[[bool, str], None]) -> None:
    require(DEBIAN_15.is_dir(), f"Debian's PostgreSQL 15 in {DEBIAN_15}")
    server = EmbeddedPostgres(tmp_path / "postgres", bin_folder=DEBIAN_15)
    try:
        database = Database(Settings(database_url=SecretStr(server.start()), _env_file=None))
        schema.upgrade(database)
        assert schema.drift(database) == []
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("DROP TABLE anchor_set", "table anchor_set is missing"),
        ("ALTER TABLE learner DROP COLUMN target_theta", "column learner.target_theta is missing"),
        ("ALTER TABLE learner ADD COLUMN age integer", "column learner.age is not in the registry"),
        ("ALTER TABLE learner ALTER COLUMN target_theta TYPE text", "type of learner.target_theta"),
        ("ALTER TABLE learner ALTER COLUMN is_test DROP NOT NULL", "nullable of learner.is_test"),
        ("ALTER TABLE learner ALTER COLUMN is_test DROP DEFAULT", "default of learner.is_test"),
        ("COMMENT ON COLUMN learner.is_test IS 'x'", "comment of learner.is_test is 'x'"),
        ("COMMENT ON TABLE learner IS 'x'", "comment of table learner"),
        ("ALTER TABLE anchor_set ALTER COLUMN a DROP EXPRESSION", "Computed default on anchor_set.a differs"),
        ("DROP INDEX mirt_ability_user", "index mirt_ability_user of mirt_ability is missing"),
        ("ALTER TABLE learner DROP CONSTRAINT learner_pkey", "primary key of learner is []"),
        ("DROP VIEW attempt", "view attempt is missing"),
        ("CREATE OR REPLACE VIEW standing_decision AS SELECT * FROM release_decision", "view standing_decision is"),
    ],
)
def test_difference_from_the_registry_is_named(database: Database, damage: str, message: str) -> None:
    run_sql(database, damage)
    [difference] = schema.drift(database)
    assert message in difference


def test_concurrent_requests_create_each_partition_once(database: Database) -> None:
    def ask(last_month: str) -> list[str]:
        return call(database, ensure_month_partitions, "2025-11", last_month)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(ask, ["2026-02", "2026-02", "2026-01", "2026-03"]))
    existing = ["2025-11", "2025-12", "2026-01", "2026-02", "2026-03"]
    assert (sorted(month for months in made for month in months), ask("2026-03")) == (existing, [])
    assert schema.drift(database) == []


def add_answer(connection: psycopg.Connection, at: str) -> None:
    connection.execute(
        "INSERT INTO response_log (attempt_id, user_id, item_id, completed_at) VALUES (%s, 'u', 'q', %s)", (at, at)
    )


def test_partition_of_a_month_includes_its_first_and_last_microsecond(database: Database) -> None:
    with database.connect() as connection:
        ensure_month_partitions(connection, "2025-12", "2025-12")
        add_answer(connection, "2025-12-01 00:00:00+00")
        add_answer(connection, "2025-12-31 23:59:59.999999+00")
        assert connection.execute("SELECT count(*) FROM response_log_2025_12").fetchone() == (2,)
        with pytest.raises(psycopg.errors.CheckViolation):
            add_answer(connection, "2026-01-01 00:00:00+00")


def test_creating_a_partition_does_not_block_readers_and_writers(database: Database) -> None:
    call(database, ensure_month_partitions, "2026-01", "2026-01")
    with database.connect() as maker, database.connect() as other:
        ensure_month_partitions(maker, "2026-02", "2026-02")
        other.execute("SET lock_timeout = '2s'")
        add_answer(other, "2026-01-05 00:00:00+00")
        assert other.execute("SELECT count(*) FROM attempt").fetchone() == (1,)


def test_dagsters_storage_shares_the_database(database: Database) -> None:
    """Dagster has a separate alembic_version, in a separate schema, so the two do not interfere."""
    from dagster_postgres import DagsterPostgresStorage

    storage = DagsterPostgresStorage(database.dagster_url, should_autocreate_tables=True)
    try:
        current, head = storage.run_storage.alembic_version()
        assert current == head is not None
        schema.upgrade(database)
        assert schema.drift(database) == []
        assert storage.run_storage.alembic_version() == (current, head)
        assert rows(database, "SELECT version_num FROM dagster.alembic_version") == [(current,)]
    finally:
        for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
            part.dispose()
