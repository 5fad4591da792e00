"""The first schema keeps its rows as it is upgraded, every later step can be taken back, the release before works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import alembic.command
import psycopg
import pytest

from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.log_months import make_verdict_month
from resources.postgres.own_schema import VERSION_TABLE
from resources.postgres.schema_version import VERSIONS, newest_known, number, schema_version
from resources.settings import Settings
from resources.tables import METADATA
from tests.helpers.rooms import rows, run_sql
from tests.helpers.typed import IrtOf
from tests.testbed.partitions import ensure_month_partitions

REPOSITORY = Path(__file__).parents[2]
SCHEMA_FILE = VERSIONS / "0031_newer_rules.sql"
RELEASE = "186a055ff5c6dacd05c8f728a5ac52fb02e4bc9a"
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
COUNTED = {"data_change", "partition_source"}
"""Tables with more rows: triggers counted changes, and a migration wrote a row for each week."""
COMPLETED = {"spec", "model_spec", "params"}
"""Columns whose objects get the keys that they lack (see test_whole_specs, test_mixed_fit)."""
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
RENAMED = {"report_artifacts": "report_file"}
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


def contents(database: Database) -> dict[str, list[dict[str, object]]]:
    with database.connect() as connection:
        return {
            table: [row for (row,) in connection.execute(f"SELECT to_jsonb(t) FROM {table} t ORDER BY 1".encode())]
            for table in counted(connection)
        }


def test_the_registry_makes_the_same_tables_keys_and_indexes(database: Database) -> None:
    """With all that Alembic does not compare, such as what an index leaves out."""

    def tables() -> set[tuple[object, ...]]:
        return {row for row in catalog(database) if row[0] == "sequence" or row[1] in METADATA.tables}

    migrated = tables()
    run_sql(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    engine = database.engine()
    METADATA.create_all(engine)
    engine.dispose()
    assert migrated == tables()


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


def test_the_first_schema_is_brought_to_the_newest_with_its_rows(database: Database, next_version: str) -> None:
    config = schema._alembic()
    config.attributes["database"] = database
    run_sql(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    alembic.command.upgrade(config, SCHEMA_FILE.stem)
    filled(database)
    before = contents(database)
    schema.upgrade(database)
    after = contents(database)
    assert schema_version(database).revision == next_version
    gone = {"data_change", "data_version"}  # by which triggers counted changes
    assert gone <= before.keys() - after.keys()
    for table, rows_then in before.items():
        if table in gone or table in COUNTED:
            continue
        kept = [name for name in rows_then[0] if name not in COMPLETED]
        rows_now = [{name: row[name] for name in kept if name in row} for row in after[RENAMED.get(table, table)]]
        assert rows_now == [{name: row[name] for name in rows_now[0]} for row in rows_then], table


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
        assert {n for table, n in before.items() if table not in COUNTED} <= {2}, before
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


@pytest.mark.ci
def test_the_release_before_runs_on_the_newest_schema(
    release: Path, world: Settings, tmp_path: Path, irt: IrtOf
) -> None:
    """Its code, in the present environment: what rolls back is the code, and the schema stays. Code that the newest
    schema does not serve is refused, and told what to install."""
    database = Database(world)
    environment = {name: value for name, value in os.environ.items() if name != "IRT_ENV_FILE"} | {
        "DATABASE_URL": database.url,
        "IRT_HOME": str(world.irt_home),
        "IRT_FIRST_MONTH": world.irt_first_month,
        "IRT_THREADS": "1",
        "PYTHONPATH": str(release),
    }

    def run(words: Sequence[str], code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=release, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout or done.stderr

    def earlier(*words: str, code: int = 0) -> str:
        return run(["-m", "irt_assets.cli", *words], code)

    oldest = number(schema_version(database).oldest_code)
    if oldest == newest_known():  # it serves no earlier code
        assert "install the newer irt-assets" in " ".join(earlier("calibrate", "--month", "2026-06", code=2).split())
        return
    present = irt(world)
    assert present("status").code == 1  # Dagster's tables are made by the present code, too
    before = catalog(database)
    versions = "from resources.postgres import schema_version as v; print(v.__file__, v.newest_known())"
    known = run(["-c", versions]).split()
    assert Path(known[0]).is_relative_to(release)
    assert oldest <= int(known[1]) < newest_known(), f"pin a release of a schema from {oldest} to the last but one"

    earlier("db", "upgrade")
    learners = tmp_path / "learners.csv"
    learners.write_text("user_id,lang\nsomebody new,ko\n", "utf-8")
    earlier("import", "learners", str(learners))
    earlier("calibrate", "--month", "2026-06")
    [june] = [m for m in json.loads(earlier("status", "--json", code=1))["months"] if m["month"] == "2026-06"]
    assert june["state"] == "green", june
    item = rows(database, "SELECT min(item_id) FROM item_parameter_publication WHERE rule = 'first'")[0][0]
    assert "2026-06" in earlier("lineage", item)

    assert catalog(database) == before
    [june] = [m for m in present("status", "--json").json["months"] if m["month"] == "2026-06"]
    assert june["state"] == "green", june
