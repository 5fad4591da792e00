"""The first schema is what the history before it made, every later step can be taken back, the release before works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import alembic.command
import psycopg
import pytest
from alembic.config import Config

from irt_assets.responses.open_months import scales_of_other_verdicts
from resources.migrations.first_schema import schema_as_sql
from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.log_months import make_verdict_month
from resources.postgres.own_schema import VERSION_TABLE
from resources.postgres.schema_version import COMMIT_OF_FIRST_SCHEMA, VERSIONS, newest_known, number, schema_version
from resources.settings import Settings
from tests.helpers.rooms import rows, run_sql
from tests.helpers.typed import IrtOf
from tests.testbed.partitions import ensure_month_partitions

REPOSITORY = Path(__file__).parents[2]
(SCHEMA_FILE,) = VERSIONS.glob("*.sql")
RELEASE = COMMIT_OF_FIRST_SCHEMA
"""A commit of main whose code the newest schema serves. One that no longer serves it wants a later one here."""

SCHEMA = (
    "requirements.lock",
    "resources/migrations/**",
    "resources/postgres/log_months.py",
    "resources/postgres/schema*.py",
    "resources/tables.py",
)
"""What may break a downgrade, or the release before: its code runs in the present environment."""
pytestmark = pytest.mark.on_change(*SCHEMA)

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
"""Of each type a value of the first row, and one of the second."""
PARAMETERS = """'{"a": 0.5, "b": 0.5, "c": 0.5, "a_se": 0.5, "b_se": 0.5, "c_se": 0.5, "cov_ab": 0.5}'"""


def catalog(database: Database) -> set[tuple[object, ...]]:
    """All that the server knows of the schema, comments too; the log's partitions come with its rows and the clock."""
    with database.connect() as connection:
        found = [row for query in CATALOG for row in connection.execute(query.encode()).fetchall()]
    others = (VERSION_TABLE, "response_log_2", "attempt_verdict_2")
    return {row for row in found if not any(name in str(row) for name in others)}


def structure(known: set[tuple[object, ...]]) -> set[tuple[object, ...]]:
    """Without the comments, which a downgrade may leave: no code reads them."""
    return {(*row[:-1], None) if row[0] in ("column", "relation") else row for row in known}


def counted(connection: psycopg.Connection) -> dict[str, int]:
    names = connection.execute(
        """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
           AND NOT relispartition AND relname <> %s ORDER BY 1""",
        (VERSION_TABLE,),
    ).fetchall()
    return {name: connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchall()[0][0] for (name,) in names}


def filled(database: Database) -> dict[str, int]:
    """Two rows, with a value in every column, in each table that had none; how many rows each has."""
    with database.connect() as connection:
        if connection.execute("SELECT to_regclass('response_log') IS NOT NULL").fetchone() == (True,):
            ensure_month_partitions(connection, "2026-06", "2026-06")
        if connection.execute("SELECT to_regclass('attempt_verdict') IS NOT NULL").fetchone() == (True,):
            make_verdict_month(connection, "2026-06")
        for table in (name for name, n in counted(connection).items() if not n):
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
        return counted(connection)


def emptied(database: Database) -> Config:
    """Drop all tables. Returns what Alembic needs to make them again."""
    run_sql(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    config = schema._alembic()
    config.attributes["database"] = database
    return config


def test_the_registry_as_sql_makes_what_the_migrations_make(database: Database) -> None:
    """With all that Alembic does not compare, such as triggers, and what an index leaves out."""
    migrated = catalog(database)
    emptied(database)
    with database.connect() as connection:
        connection.execute(schema_as_sql().replace("{schema}", "public").encode())
    assert catalog(database) == migrated


def test_the_migrations_work_in_any_schema(database: Database) -> None:
    """The one that comes first on the role's search path gets everything, and the triggers find it from anywhere."""
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


def test_every_downgrade_works_with_rows_in_every_table(database: Database, next_version: str) -> None:
    """Down to the first schema and up again, step by step: each revision has one schema, however it is reached."""
    config = schema._alembic()
    config.attributes["database"] = database
    *later, first = [script.revision for script in schema.ScriptDirectory.from_config(config).walk_revisions()]
    schema.upgrade(database)
    before = filled(database)
    newest = catalog(database)
    going_down = {}
    for name in later:
        assert {*before.values()} == {2}, before
        going_down[name] = structure(catalog(database))
        alembic.command.downgrade(config, "-1")
        with database.connect() as connection:
            left = counted(connection)
        lost = {table for table in schema.KEPT if table in left and left[table] < before[table]}
        assert not lost, f"the downgrade of {name} loses rows of {lost}"
        before = filled(database)
    assert schema_version(database).revision == first
    for name in reversed(later):
        alembic.command.upgrade(config, "+1")
        assert structure(catalog(database)) == going_down[name], name
        filled(database)
    assert catalog(database) == newest


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of RELEASE. A clone without its history fetches that commit; where that fails, a skip says why."""

    def git(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", "-C", REPOSITORY, *words], capture_output=True, check=False)

    archive = git("archive", RELEASE)
    if archive.returncode:
        fetched = git("fetch", "--quiet", "--depth=1", "origin", RELEASE)
        archive = git("archive", RELEASE)
        if archive.returncode:
            why = (fetched.stderr or archive.stderr).decode(errors="replace").strip()
            pytest.skip(f"the release {RELEASE[:12]} is not in this clone and cannot be fetched: {why}")
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


@pytest.fixture
def earlier(release: Path) -> Callable[[Settings], Callable[..., str]]:
    """`earlier(settings)` gives the command line of RELEASE, in the present environment; it returns the output."""

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


def test_a_home_of_the_history_before_is_upgraded_as_a_new_one(
    database: Database, settings: Settings, earlier: Callable[[Settings], Callable[..., str]]
) -> None:
    alembic.command.upgrade(emptied(database), SCHEMA_FILE.stem)
    first = catalog(database)
    emptied(database)
    assert f"schema is at {SCHEMA_FILE.stem}" in earlier(settings)("db", "upgrade")
    assert catalog(database) == first
    schema.upgrade(database)
    assert schema_version(database).fault is None
    assert schema.drift(database) == []


def test_upgrade_gives_a_state_to_snapshots_without_one_and_drops_partitions_without_one(database: Database) -> None:
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
    with database.connect() as connection:
        assert scales_of_other_verdicts(connection) == {"2026-06": {"math"}}, "no day of July has been judged yet"


@pytest.mark.ci
def test_the_release_before_runs_on_the_newest_schema(
    world: Settings, earlier: Callable[[Settings], Callable[..., str]], tmp_path: Path, irt: IrtOf
) -> None:
    """Its code, in the present environment: what rolls back is the code, and the schema stays."""
    database, present, run = Database(world), irt(world), earlier(world)
    assert present("status").code == 1  # Dagster's tables are made by the present code, too
    before = catalog(database)
    known = run(python=["-c", "from resources.postgres import schema_version as v; print(v.newest_known())"])
    oldest = number(schema_version(database).oldest_code)
    assert oldest <= int(known) <= newest_known(), f"pin a release of a schema from {oldest} on"

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
