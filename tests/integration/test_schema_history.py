"""The first schema keeps its rows as it is upgraded, every later step can be taken back, the release before works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import alembic.command
import pandas as pd
import psycopg
import pytest

from irt_assets.abilities.batch import measure
from irt_assets.common.partitions import Month
from irt_assets.psychometrics.simulation.scenario import Scenario
from irt_assets.psychometrics.simulation.simulate import simulate
from irt_assets.responses import simulated
from irt_assets.responses.scales import read_scales
from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.schema_version import VERSION_TABLE, VERSIONS, newest_known, number, schema_version
from resources.settings import Settings
from resources.tables import METADATA
from tests.helpers.rooms import rows
from tests.helpers.typed import Irt

REPOSITORY = Path(__file__).parents[2]
SCHEMA_FILE = VERSIONS / "0031_newer_rules.sql"
RELEASE = "a98e52568e278b3e574ea07bc422685f363dda15"
"""A commit of main. A schema that serves it no longer, but some later code, wants that code's commit here."""

SCHEMA = (
    "requirements.lock",
    "resources/migrations/**",
    "resources/postgres/schema*.py",
    "resources/tables.py",
)
"""What may break a downgrade, or the release before: its code runs in the present environment."""
pytestmark = pytest.mark.on_change(*SCHEMA)

MONTHS, SCALES = ("2026-06", "2026-07"), ("left", "right")
RULES = ("min_responses=100", "min_anchor_responses=60")
MOVED = {"encoding", "thresholds", "newer_rules", "latent", "new_misfit", "assignment"}
"""Columns of RELEASE that the newest schema does not have."""

CATALOG = (
    """SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
              a.attidentity::text, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
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
COUNTED_BY_TRIGGERS = "data_change"
VALUES = {
    "text": ("'first'", "'second'"),
    "timestamp with time zone": ("'2026-06-15 12:00+00'", "'2026-06-16 12:00+00'"),
    "date": ("'2026-06-15'", "'2026-06-22'"),
    "jsonb": ("'{}'", "'[]'"),
    "boolean": ("true", "false"),
    "bytea": (r"'\x01'", r"'\x02'"),
    "integer": ("1", "2"),
    "bigint": ("1", "2"),
    "double precision": ("0.5", "1"),
}
"""Of each type a value of the first row, and one of the second."""


def catalog(database: Database) -> set[tuple[object, ...]]:
    """All that the server knows of the schema, comments too; the log's partitions come with its rows."""
    with database.connect() as connection:
        found = [row for query in CATALOG for row in connection.execute(query.encode()).fetchall()]
    return {row for row in found if not any(name in str(row) for name in (VERSION_TABLE, "response_log_2026"))}


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
            schema.ensure_month_partitions(connection, "2026-06", "2026-06")
        for table in (name for name, n in counted(connection).items() if not n):
            columns = connection.execute(
                """SELECT column_name, data_type FROM information_schema.columns
                   WHERE table_schema = 'public' AND table_name = %s AND is_identity = 'NO'""",
                (table,),
            ).fetchall()
            names = ", ".join(f'"{name}"' for name, _ in columns)
            for row in (0, 1):
                values = ", ".join(VALUES[type_][row] for _, type_ in columns)
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
    with database.connect() as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    engine = database.engine()
    METADATA.create_all(engine)
    engine.dispose()
    assert migrated == tables()


def test_the_migrations_work_in_any_schema(database: Database) -> None:
    """The one that comes first on the search path gets everything, and the triggers find it from anywhere."""
    with database.connect() as connection:
        connection.execute('DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE SCHEMA "Five\'s own"')
        connection.execute(f'ALTER DATABASE {connection.info.dbname} SET search_path = "Five\'s own"'.encode())
    schema.upgrade(database)
    with database.connect() as connection:
        connection.execute("INSERT INTO question (item_id) VALUES ('q1')")
        connection.execute("SET search_path = public")
        connection.execute("INSERT INTO \"Five's own\".learner (user_id, is_test) VALUES ('u1', true)")
        found = connection.execute('SELECT part, changes FROM "Five\'s own".data_change ORDER BY 1').fetchall()
        assert found == [("learner", 1), ("question", 1)]
        assert connection.execute("SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchall() == []
    assert "public" not in re.sub("publication|publish", "", SCHEMA_FILE.read_text("utf-8"))


def test_the_first_schema_is_brought_to_the_newest_with_its_rows(database: Database, next_version: str) -> None:
    config = schema._alembic()
    config.attributes["database"] = database
    with database.connect() as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    alembic.command.upgrade(config, SCHEMA_FILE.stem)
    filled(database)
    before = contents(database)
    schema.upgrade(database)
    after = contents(database)
    assert schema_version(database).revision == next_version
    for table, rows_then in before.items():
        rows_now = [{name: row[name] for name in rows_then[0] if name in row} for row in after[table]]
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
        assert {n for table, n in before.items() if table != COUNTED_BY_TRIGGERS} <= {2}, before
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


TYPED = """
import contextlib, io, json, sys
from irt_assets import cli
commands, said = json.loads(sys.argv[1]), []
for words in commands:
    sys.argv = ["irt", *words]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        cli.main()
    said.append(out.getvalue())
print(json.dumps(said))
"""
"""Types commands one after the other in one process, and prints what each printed."""


class Earlier:
    """The code of RELEASE, in the present environment, on the database of `settings`."""

    def __init__(self, release: Path, settings: Settings) -> None:
        self._release = release
        self._environment = {name: value for name, value in os.environ.items() if name != "IRT_ENV_FILE"} | {
            "DATABASE_URL": Database(settings).url,
            "IRT_HOME": str(settings.irt_home),
            "IRT_FIRST_MONTH": MONTHS[0],
            "IRT_THREADS": "1",
            "PYTHONPATH": str(release),
        }

    def run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=self._release,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def typed(self, *commands: Sequence[str]) -> list[str]:
        """What each of the commands prints."""
        return list(json.loads(self.run(TYPED, json.dumps(commands)).splitlines()[-1]))


def write_bank(folder: Path) -> list[tuple[str, Path]]:
    """Files of questions and attempts of two scales, each of 24 items and 200 learners a month."""
    found = []
    for scale in SCALES:
        scenario = Scenario(MONTHS, datetime(2026, 8, 2, tzinfo=UTC), seed=len(scale), learners_per_month=200,
                            items_per_block=8, anchors_per_block=5)  # fmt: skip
        files = simulated.write(*simulate(scenario), folder / scale)
        questions = [json.loads(line) for line in files.questions.read_text("utf-8").splitlines()]
        renamed = [one | {"item_id": f"{scale}-{one['item_id']}", "scale_id": scale} for one in questions]
        files.questions.write_text("\n".join(map(json.dumps, renamed)), "utf-8")
        attempts = pd.read_parquet(files.attempts)
        for name in ("attempt_id", "user_id", "item_id", "session_id"):
            attempts[name] = scale + "-" + attempts[name]
        attempts.to_parquet(files.attempts)
        found += [("questions", files.questions), ("attempts", files.attempts)]
    return found


def within(kept: Any, found: Any) -> bool:
    """Whether `found` is `kept` but for keys that were not there."""
    if isinstance(kept, dict) and isinstance(found, dict):
        return all(name in found and within(value, found[name]) for name, value in kept.items())
    if isinstance(kept, list) and isinstance(found, list):
        return len(kept) == len(found) and all(map(within, kept, found))
    return bool(kept == found)


def plain(row: dict[str, Any]) -> str:
    """What orders rows alike: their columns that are not JSON, but for those of one release only."""
    return json.dumps({name: value for name, value in row.items() if not isinstance(value, dict | list)})


@pytest.mark.ci
def test_a_home_of_the_release_before_is_upgraded_with_all_that_was_found_and_decided(
    release: Path, settings: Settings, tmp_path: Path, irt: Callable[[Settings], Irt]
) -> None:
    """Ledger, verdicts, hashes and θ are the same, and no month asks to be made again."""
    database, earlier, present = Database(settings), Earlier(release, settings), irt(settings)
    with database.connect() as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    why = ("--by", "Ann", "--reason", "seen", "--yes")
    *_, listed = earlier.typed(
        ("db", "upgrade"),
        *(("import", kind, str(file)) for kind, file in write_bank(tmp_path)),
        *(("scale", "init", "--scale", scale, *(f"--set={rule}" for rule in RULES)) for scale in SCALES),
        ("scale", "set", "max_rmsd=0.08", "--scale", SCALES[1], *why),
        *(("calibrate", "--month", month) for month in MONTHS),
        ("release", "list", "--all", "--json"),
    )
    accepted, rejected, withdrawn = [one["proposal"] for one in json.loads(listed)][:3]
    asked = (
        ("status", "--json"),
        ("release", "list", "--all", "--json"),
        *(("lineage", name.partition("/")[2], "--json") for name in (accepted, rejected)),
        ("items", "list", "--json"),
        ("learner", "erasures", "--json"),
        *(("scale", "decisions", "--scale", scale, "--json") for scale in SCALES),
    )
    (learner,) = rows(database, "SELECT min(user_id) FROM mirt_ability")[0]
    *_, done = earlier.typed(
        ("release", "accept", accepted, *why),
        ("release", "reject", rejected, *why),
        ("items", "withdraw", withdrawn.partition("/")[2], *why),
        ("learner", "erase", learner, *why),
        ("status", "--json"),
    )
    assert {month["state"] for month in json.loads(done)["months"]} <= {"green", "red"}, done
    for table, n in {"release_decision": 2, "item_status": 1, "erasure": 1, "calibration_scale": 2}.items():
        assert rows(database, f"SELECT count(*) FROM {table}") == [(n,)], table

    said, before = earlier.typed(*asked), contents(database)
    schema.upgrade(database)
    after = contents(database)
    for table, then in before.items():
        kept = [{name: value for name, value in row.items() if name not in MOVED} for row in then]
        assert within(sorted(kept, key=plain), sorted(after[table], key=plain)), table
    for words, one in zip(asked, said, strict=True):
        then, now = json.loads(one), present(*words).json
        if words[0] == "status":  # the rest is of the moment
            then, now = then["months"], now["months"]
        assert now == then, words
    with database.connect() as connection:
        rules = {scale: one.rules.changed() for scale, one in read_scales(connection).items()}
    usual = {"min_responses": 100, "min_anchor_responses": 60, "latent": "auto", "new_misfit": "hold"}
    assert rules == {SCALES[0]: usual, SCALES[1]: usual | {"max_rmsd": 0.08}}
    theta = "SELECT user_id, scale_id, theta, se, set_hash FROM mirt_ability WHERE update_id = ANY(%s) ORDER BY 1, 2"
    ran = "SELECT DISTINCT update_id FROM mirt_ability WHERE window_end = %s"
    window = (Month(MONTHS[1]).end,)
    then = rows(database, theta, ([one for (one,) in rows(database, ran, window)],))
    measure(database, MONTHS[1], "again")
    assert rows(database, theta, (["again"],)) == then


@pytest.mark.ci
def test_the_release_before_runs_on_the_newest_schema(
    release: Path, world: Settings, tmp_path: Path, irt: Callable[[Settings], Irt]
) -> None:
    """What rolls back is the code, and the schema stays."""
    database, earlier = Database(world), Earlier(release, world)
    oldest = number(schema_version(database).oldest_code)
    if oldest == newest_known():
        pytest.skip("the newest schema serves no earlier code")
    present = irt(world)
    assert present("status").code == 1  # Dagster's tables are made by the present code, too
    before = catalog(database)
    known = earlier.run(
        "from resources.postgres import schema_version as v; print(v.__file__, v.newest_known())"
    ).split()
    assert Path(known[0]).is_relative_to(release)
    assert oldest <= int(known[1]) < newest_known(), f"pin a release of a schema from {oldest} to the last but one"

    learners = tmp_path / "learners.csv"
    learners.write_text("user_id,lang\nsomebody new,ko\n", "utf-8")
    *_, status = earlier.typed(
        ("db", "upgrade"),
        ("import", "learners", str(learners)),
        ("calibrate", "--month", "2026-06"),
        ("status", "--json"),
    )
    [june] = [m for m in json.loads(status)["months"] if m["month"] == "2026-06"]
    assert june["state"] == "green", june
    item = rows(database, "SELECT min(item_id) FROM item_parameter_publication WHERE rule = 'first'")[0][0]
    assert "2026-06" in earlier.typed(("lineage", item))[0]

    assert catalog(database) == before
    [june] = [m for m in present("status", "--json").json["months"] if m["month"] == "2026-06"]
    assert june["state"] == "green", june
