"""The platform next to a company's own tables: one schema, roles with minimal rights, and unchanged tables."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from irt_assets.backup import programs
from irt_assets.backup.make import make_backup
from irt_assets.backup.places import FolderPlace
from irt_assets.backup.restore import restore_backup
from irt_assets.intake.pulling.erase import erase_at_sources
from irt_assets.servers.instance import dagster_instance
from resources.doctor import diagnose
from resources.failures import PermanentFailure
from resources.files.object_store import object_store
from resources.postgres import foreign_schemas, schema
from resources.postgres.daemon_lock import DaemonLock
from resources.postgres.database import Database, advisory_lock
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.own_schema import VERSION_TABLE
from resources.postgres.roles import role_statements
from resources.postgres.schemas import make_schemas
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app
from services.theta_api.access import Access
from services.theta_api.app import build_app as build_api
from services.theta_api.parameter_cache import Ledger
from tests.helpers import rooms
from tests.helpers.asgi import ask
from tests.helpers.databases import WORKER
from tests.helpers.door import serve_in_thread
from tests.helpers.sentences import missing_sentences, refusal
from tests.integration import test_documents_sql as documents
from tests.integration.conftest import IrtOf
from tests.integration.test_theta_api import TOKEN, Api
from tests.testbed.stack_harness import wait_for
from tests.unit.kubernetes_files import PODS

THEIRS = """
CREATE TABLE question (id bigint PRIMARY KEY, meta jsonb);
CREATE TABLE weekly_kpi (user_id text, week_start date, kpis jsonb, updated_at timestamptz);
CREATE TABLE mirt_item_params (item_id bigint, params jsonb, created_at timestamp);
CREATE TABLE exam_results (id bigint PRIMARY KEY, user_id text, result_json jsonb);
CREATE VIEW attempt AS SELECT id, user_id FROM exam_results;
INSERT INTO question VALUES (1, '{"irt": {"a": 1.1}}');
INSERT INTO weekly_kpi SELECT n::text, '2026-09-07', '{}', '2026-09-14' FROM generate_series(1, 12000) n;
INSERT INTO exam_results VALUES (1, 'ann', '{}');
"""
ROLES = {name: f"their_{name}_{WORKER}" for name in ("owner", "service", "reader")}


@dataclass
class Company:
    """A separate database, with tables by our names, and the addresses of its roles."""

    server: str
    name: str
    home: Path

    def url(self, role: str | None = None) -> str:
        address = conninfo_to_dict(self.server) | {"dbname": self.name}
        user, password = (role, "theirs") if role else (address["user"], address.get("password", ""))
        port = f":{address['port']}" if "port" in address else ""
        host = str(address["host"]).replace("/", "%2F")
        return f"postgresql://{user}:{password}@{host}{port}/{self.name}"

    def settings(self, role: str | None = None, **others: object) -> Settings:
        url = SecretStr(self.url(role))
        return Settings(irt_home=self.home, database_url=url, _env_file=None, **others)  # type: ignore[arg-type]

    def run(self, *texts: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for text in texts:
                connection.execute(text.encode())

    def read(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url()) as connection:
            return connection.execute(query.encode()).fetchall()

    def dump(self, *without: str) -> bytes:
        """A dump of the database without these schemas."""
        with psycopg.connect(self.url()) as connection:
            program = programs.program_for("pg_dump", connection.info.server_version // 10000)
        left_out = [f"--exclude-schema={name}" for name in without]
        made = subprocess.run([program.path, f"--dbname={self.url()}", *left_out], check=True, capture_output=True)
        return re.sub(rb"\\(un)?restrict .*", b"", made.stdout)

    def with_roles(self, own_schema: str = "irt", *own_tables: str) -> None:
        """Run the output of `irt db roles` as the administrator."""
        names = {"database": self.name, "schema": own_schema, "dagster": "dagster"}
        self.run(
            *role_statements(own_tables, **ROLES, **names),
            *(f"ALTER ROLE {role} PASSWORD 'theirs'" for role in ROLES.values()),
        )


@contextmanager
def made_database(server: str, name: str, home: Path) -> Iterator[Company]:
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template1 STRATEGY FILE_COPY".encode())
        try:
            yield Company(server, name, home)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def company(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Company]:
    """A database with the documents' tables in `public`, and without our schema."""
    with made_database(postgres.start(), f"seedtest_{WORKER}", tmp_path / "irt") as company:
        company.run(THEIRS)
        yield company
    with psycopg.connect(postgres.start(), autocommit=True) as admin:
        for role in ROLES.values():
            admin.execute(f"DROP ROLE IF EXISTS {role}".encode())


def assert_refused(connection: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(statement.encode())


def tables_in(company: Company, name: str) -> set[object]:
    return {row[0] for row in company.read(f"SELECT relname FROM pg_class WHERE relnamespace = '{name}'::regnamespace")}


def test_unprivileged_owner_upgrades_twice_without_touching_the_companys_tables(
    company: Company, irt: IrtOf, tmp_path: Path
) -> None:
    company.run("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    company.with_roles("irt", "public.exam_results")
    before = company.dump("irt", "dagster")
    owner = company.settings(ROLES["owner"])
    for _ in range(2):
        typed = irt(owner)("db", "upgrade")
        assert (typed.code, typed.out.endswith("with its tables in irt\n")) == (0, True), typed.err
    rooms.add_items(Database(owner), {"q1": None})
    log = tmp_path / "log.csv"
    rows = [f"u,q1,2026-0{month}-01T12:00:00Z,1" for month in (5, 6)]
    log.write_text("\n".join(["user_id,item_id,completed_at,correct", *rows]))
    typed = irt(owner)("import", "attempts", log)
    assert typed.code == 0, typed.err
    assert {"response_log_2026_05", "response_log_2026_06"} <= tables_in(company, "irt")
    with dagster_instance(owner, Database(owner)):
        pass
    assert company.dump("irt", "dagster") == before
    assert VERSION_TABLE in tables_in(company, "irt")
    assert {"runs", "event_logs", "alembic_version"} <= tables_in(company, "dagster")
    assert schema.drift(Database(owner)) == []
    with psycopg.connect(company.url(ROLES["owner"])) as connection:
        assert connection.execute("SELECT id FROM public.exam_results").fetchall() == [(1,)]
        not_theirs = "CREATE TABLE public.more (id int)", "CREATE SCHEMA more", "SELECT * FROM public.question"
        assert_refused(connection, *not_theirs)


def test_role_without_the_right_to_create_schemas_is_refused_with_the_command(company: Company, irt: IrtOf) -> None:
    company.run(f"CREATE ROLE {ROLES['reader']} LOGIN PASSWORD 'theirs'")
    typed = irt(company.settings(ROLES["reader"]))
    for permission in ("for database", "for schema irt"):
        refused = typed("db", "upgrade")
        assert (refused.code, refused.out) == (2, "")
        assert not missing_sentences(refused.err, f"permission denied {permission}", "irt db roles")
        company.run("CREATE SCHEMA IF NOT EXISTS irt; CREATE SCHEMA IF NOT EXISTS dagster")
    assert tables_in(company, "irt") == set()


def test_each_role_has_exactly_the_rights_for_its_purpose(company: Company, shared: Path) -> None:
    """The owner calibrates a month, the service serves θ and the dashboard without DDL, and people only read."""
    company.with_roles()
    owner, service = company.settings(ROLES["owner"]), company.settings(ROLES["service"])
    schema.upgrade(Database(owner))
    database, now = documents.live(owner)
    with dagster_instance(owner, database):
        pass

    ledger = Ledger(Database(service), 1, clock=lambda: now)
    listening = socket.create_server(("127.0.0.1", 0))
    with serve_in_thread(build_api(Access(TOKEN, None), ledger, 1), [listening]):
        api = Api(f"http://127.0.0.1:{listening.getsockname()[1]}", ledger, Database(service))
        wait_for("it to be ready", lambda: api.is_ready, pause=0.02)
        ((someone,),) = rooms.rows(database, "SELECT min(user_id) FROM mirt_ability WHERE kind = 'monthly'")
        assert api.update(str(someone)).status_code == 200
        with ledger.connect() as connection:
            assert connection.execute("SELECT current_schemas(false)").fetchone() == (["irt"],)
            assert connection.execute("SHOW statement_timeout").fetchone() != ("0",)
    with dagster_instance(service, Database(service)) as instance:
        reader = Reader(service, instance)
        page = ask(build_app(reader, None, service), "GET", "/", query="view=months")
        assert (page.status, rooms.SCALE in page.text) == (200, True)
    with Database(service).connect() as connection:
        connection.execute("UPDATE learner SET is_test = false WHERE user_id = 'nobody'")
        assert_refused(
            connection, "CREATE TABLE more (id int)", "CREATE TABLE dagster.more (id int)", "DROP TABLE learner"
        )

    with psycopg.connect(company.url(ROLES["reader"])) as connection:
        found = {text: connection.execute(text.encode()).fetchall() for text in documents.statements(shared)}
        assert [text for text, rows in found.items() if not rows and documents.MAY_BE_EMPTY not in text] == []
        assert_refused(
            connection, "DELETE FROM weekly_kpi", "INSERT INTO question VALUES ('q')", "SELECT * FROM dagster.runs"
        )


def test_erasure_deletes_in_the_companys_table_only_if_the_owner_has_the_right(
    company: Company, tmp_path: Path
) -> None:
    company.with_roles("irt", "public.exam_results")
    file = tmp_path / "sources.yaml"
    file.write_text(
        "exams: {kind: learner, address: this, table: public.exam_results, mapping: {columns: {user_id: user_id}},"
        " erase: DELETE FROM public.exam_results WHERE user_id = %(user_id)s}"
    )
    file.chmod(0o600)
    database = Database(company.settings(ROLES["owner"], irt_pull_sources=file))
    schema.upgrade(database)
    assert not missing_sentences(refusal(erase_at_sources, database, "ann"), "permission denied", "Nothing was deleted")
    assert company.read("SELECT count(*) FROM exam_results") == [(1,)]
    company.run(f"GRANT DELETE ON public.exam_results TO {ROLES['owner']}")
    erase_at_sources(database, "ann")
    assert company.read("SELECT count(*) FROM exam_results") == [(0,)]


def test_printed_address_and_roles_can_be_used_in_psql(company: Company, irt: IrtOf) -> None:
    schema.upgrade(Database(company.settings()))
    typed = irt(company.settings())
    with psycopg.connect(typed("db", "url").out.strip()) as connection:
        assert connection.execute("SELECT count(*) FROM weekly_kpi").fetchone() == (0,)
        assert connection.execute("SHOW search_path").fetchone() == ("irt",)
    printed = typed("db", "roles", "--own-table", "public.question")
    path = f"IN DATABASE {company.name} SET search_path = irt"
    assert not missing_sentences(printed.out.replace('"', ""), path, "public.question")
    assert "SCHEMA.TABLE" in typed("db", "roles", "--own-table", "question").err
    assert company.read("SELECT FROM pg_roles WHERE rolname LIKE 'irt\\_%'") == []


@pytest.mark.parametrize("own", ["irt", "public"])
def test_two_installations_in_the_same_database_are_separate(company: Company, own: str) -> None:
    company.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    first = company.settings(irt_db_schema=own)
    second = company.settings(irt_db_schema="other", irt_dagster_schema="other_dagster")
    for settings, months in ((first, ("2026-06",)), (second, ("2026-06", "2026-07"))):
        schema.upgrade(Database(settings))
        rooms.load_small_world(Database(settings), months=months)
    counts = [
        rooms.rows(Database(one), "SELECT count(*), count(DISTINCT tableoid) FROM response_log")
        for one in (first, second)
    ]
    assert counts[0] != counts[1]
    with ExitStack() as both:
        one, other = (both.enter_context(Database(settings).connect()) for settings in (first, second))
        advisory_lock(one, "theta", "ann")
        other.execute("SET lock_timeout = '2s'")
        advisory_lock(other, "theta", "ann")
        third = both.enter_context(Database(second).connect())
        third.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            advisory_lock(third, "theta", "ann")
    locks = [DaemonLock(Database(settings)) for settings in (first, second)]
    for lock in locks:
        lock.acquire(0)
    assert "Another daemon works" in refusal(DaemonLock(Database(second)).acquire, 0)
    for lock in locks:
        lock.release()
    with dagster_instance(first, Database(first)) as instance:
        instance.add_dynamic_partitions("theirs", ["one"])
    with dagster_instance(second, Database(second)) as instance:
        assert instance.get_dynamic_partitions("theirs") == []
    with pytest.raises(PermanentFailure, match=f"{', '.join(sorted((own, 'other')))}.*IRT_DB_SCHEMA"):
        _ = Database(company.settings()).own
    assert not missing_sentences(
        refusal(schema.upgrade, Database(company.settings(irt_db_schema="third"))),
        "dagster",
        "in the schema",
        "IRT_DAGSTER_SCHEMA",
    )


def test_init_containers_find_their_installation_in_a_database_with_two(
    company: Company, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes gives the init container the ConfigMaps that it names; only irt-config contains IRT_DB_SCHEMA."""
    schemas = {"irt": "dagster", "other": "other_dagster"}
    for own, dagster in schemas.items():
        schema.upgrade(Database(company.settings(irt_db_schema=own, irt_dagster_schema=dagster)))
    inits = [pod.spec["initContainers"][0] for pod in PODS.values() if "initContainers" in pod.spec]
    assert len(inits) >= 6
    (command,) = {container["args"][2] for container in inits}
    words = re.fullmatch(r"until irt (.*); do sleep \d+; done", command)[1].split()  # type: ignore[index]
    for own, dagster in schemas.items():
        config_maps = {"irt-config": {"IRT_DB_SCHEMA": own, "IRT_DAGSTER_SCHEMA": dagster}}
        for container in inits:
            named = [source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source]
            with monkeypatch.context() as environment:
                for name, value in (pair for one in named for pair in config_maps.get(one, {}).items()):
                    environment.setenv(name, value)
                done = irt(company.settings())(*words)
            assert (done.code, done.out.strip()) == (0, "schema: well"), container


def test_schema_is_from_the_setting_else_the_address_else_our_tables(company: Company) -> None:
    def own(settings: Settings) -> str:
        return Database(settings).own.name

    def at(options: str, **others: object) -> Settings:
        url = SecretStr(f"{company.url()}?options={options}")
        return Settings(irt_home=company.home, database_url=url, _env_file=None, **others)  # type: ignore[arg-type]

    assert own(company.settings()) == "irt"
    assert own(at("-csearch_path%3D%22%24user%22%2Cexam")) == "exam"
    assert own(at("-c%20search_path%3Dexam", irt_db_schema="named")) == "named"
    company.run("CREATE TABLE irt_holder (); CREATE SCHEMA irt; CREATE TABLE irt.taken ()")
    assert "public and irt hold tables that are not of irt-assets" in refusal(own, company.settings())
    schema.upgrade(Database(company.settings(irt_db_schema="exam")))
    assert own(company.settings()) == "exam"
    with Database(at("-c%20statement_timeout%3D7s%20-c%20TimeZone%3DAsia/Seoul")).connect() as connection:
        shown = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in ("statement_timeout", "timezone")]
        assert shown == [("7s",), ("UTC",)]
        connection.execute("CREATE TEMPORARY TABLE staged (id int)")
        assert connection.execute("SELECT current_schemas(false)").fetchone() == (["exam"],)


def test_pooler_without_options_is_accepted_only_if_the_roles_search_path_is_right(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pooler answers like PgBouncer, the second ignores options."""
    company.with_roles()
    schema.upgrade(Database(company.settings(ROLES["owner"])))
    real, refuses = psycopg.Connection.connect.__func__, [True]  # type: ignore[attr-defined]

    def connect(cls: type, *arguments: object, **named: object) -> object:
        if refuses[0] and "options" in named:
            raise psycopg.OperationalError("FATAL: unsupported startup parameter: options")
        named.pop("options", None)
        return real(cls, *arguments, **named)

    monkeypatch.setattr(psycopg.Connection, "connect", classmethod(connect))
    for refuses[0] in (True, False):
        database = Database(company.settings(ROLES["owner"]))
        for _ in range(2):
            assert rooms.rows(database, "SELECT current_schema()") == [("irt",)]
        assert "accepts no options, so that Dagster" in refusal(make_schemas, database)
        with pytest.raises(PermanentFailure, match=r"ALTER ROLE \S+ IN DATABASE \S+ SET search_path = irt;"):
            Database(company.settings()).open()


def test_foreign_dagster_schema_is_refused_and_our_earlier_schema_is_accepted(company: Company) -> None:
    foreign = "CREATE SCHEMA dagster; CREATE TABLE dagster.runs (id int)"
    company.run(foreign)
    assert "a Dagster that is not ours. Set IRT_DAGSTER_SCHEMA" in refusal(schema.upgrade, Database(company.settings()))
    assert company.read("SELECT FROM pg_class WHERE relname = 'irt_alembic_version'") == []
    ours = company.settings(irt_dagster_schema="ours")
    schema.upgrade(Database(ours))
    with dagster_instance(ours, Database(ours)):
        pass
    assert not missing_sentences(refusal(make_schemas, Database(company.settings())), "not ours", "it was ours")
    company.run("COMMENT ON SCHEMA ours IS NULL")  # as an earlier version left it
    with dagster_instance(ours, Database(ours)):
        pass
    assert company.read("SELECT obj_description('ours'::regnamespace)") == [
        ("Dagster of irt-assets in the schema irt",)
    ]


def test_backup_contains_exactly_both_schemas_and_their_names(company: Company, tmp_path: Path) -> None:
    """The backup is made and restored as the unprivileged owner."""
    company.with_roles()
    settings = company.settings(ROLES["owner"])
    schema.upgrade(Database(settings))
    rooms.load_small_world(Database(settings))
    with dagster_instance(settings, Database(settings)) as instance:
        instance.add_dynamic_partitions("ours", ["one"])
    location = FolderPlace(tmp_path / "backups")
    made = make_backup(settings, Database(settings), object_store(settings), location)
    name = Path(made.address.removeprefix("file://")).name
    with made_database(company.server, f"{company.name}_copy", tmp_path / "copy") as copy:
        copy.run(THEIRS)
        copy.with_roles()
        other = copy.settings(ROLES["owner"], irt_db_schema="exam", irt_dagster_schema="exam_dagster")
        refused = "contains the schemas irt and dagster, but this installation has exam and exam_dagster"
        assert re.search(refused, refusal(restore_backup, other, Database(other), location, name, verify=False))
        copy_settings = copy.settings(ROLES["owner"])
        assert restore_backup(copy_settings, Database(copy_settings), location, name, verify=False).differences == []
        assert copy.read("SELECT count(*) FROM public.weekly_kpi") == [(12000,)]
        with dagster_instance(copy_settings, Database(copy_settings)) as instance:
            assert instance.get_dynamic_partitions("ours") == ["one"]
        assert "not empty" in refusal(
            restore_backup, copy_settings, Database(copy_settings), location, name, verify=False
        )


def test_views_are_refused_if_their_names_exist_and_are_dropped_completely(company: Company, irt: IrtOf) -> None:
    company.run("CREATE SCHEMA people; CREATE TABLE people.more (id int)")
    schema.upgrade(Database(company.settings()))
    typed = irt(company.settings())
    refused = typed("db", "views", "--in", "public")
    assert (refused.code, refused.out) == (2, "")
    assert "attempt, mirt_item_params, question, weekly_kpi" in refused.err
    before = company.dump("irt", "dagster")
    assert [typed("db", "views", "--in", "people").code for _ in range(2)] == [0, 0]
    rooms.run_sql(Database(company.settings()), "INSERT INTO question (item_id) VALUES ('q1')")
    assert company.read("SELECT item_id FROM people.question") == [("q1",)]
    assert foreign_schemas.NAMES[0] in tables_in(company, "people")
    assert typed("db", "views", "--in", "people", "--drop").code == 0
    assert company.dump("irt", "dagster") == before


def test_doctor_reports_foreign_tables_with_our_names(company: Company) -> None:
    """Row counts are shown if the role can read the table, else from the last ANALYZE."""

    def found(settings: Settings) -> list[str]:
        (one,) = [finding for finding in diagnose(settings) if finding.subject == "tables of our names"]
        return one.detail.split("; ")

    company.with_roles()
    company.run("CREATE SCHEMA people", "ANALYZE weekly_kpi")
    schema.upgrade(Database(company.settings(ROLES["owner"])))
    foreign_schemas.make_views(Database(company.settings(irt_db_schema="irt")), "people")
    assert found(company.settings(ROLES["owner"])) == [
        "public.attempt: rows unknown: not ours",
        "public.mirt_item_params: rows unknown: not ours",
        "public.question: rows unknown: not ours",
        "public.weekly_kpi: 12,000 rows: not ours",
    ]
    assert found(company.settings()) == [
        "public.attempt: 1 rows: not ours",
        "public.mirt_item_params: 0 rows: not ours",
        "public.question: 1 rows: not ours",
        "public.weekly_kpi: 12,000 rows, last written in September 2026: not ours",
    ]
