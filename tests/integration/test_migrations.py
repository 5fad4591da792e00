"""The schema's history leads to the registry, and a difference is named."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from resources.postgres import schema
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema_version import schema_version
from resources.settings import Settings
from tests.helpers.rooms import run_sql
from tests.testbed.partitions import ensure_month_partitions

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


def test_from_nothing_to_head_is_what_the_registry_says(database: Database) -> None:
    assert schema.drift(database) == []


def test_upgrading_again_changes_nothing(database: Database) -> None:
    run_sql(database, "INSERT INTO question (item_id) VALUES ('q1')")
    schema.upgrade(database)
    assert schema_version(database).fault is None
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM question").fetchone() == (1,)


def test_postgresql_15_takes_the_same_schema(tmp_path: Path, require: Callable[[bool, str], None]) -> None:
    require(DEBIAN_15.is_dir(), f"Debian's PostgreSQL 15 in {DEBIAN_15}")
    server = EmbeddedPostgres(tmp_path / "postgres", bin_folder=DEBIAN_15)
    try:
        database = Database(Settings(database_url=SecretStr(server.start()), _env_file=None))
        schema.upgrade(database)
        assert schema.drift(database) == []
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("damage", "said"),
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
def test_a_difference_from_the_registry_is_named(database: Database, damage: str, said: str) -> None:
    run_sql(database, damage)
    differences = schema.drift(database)
    assert len(differences) == 1
    assert said in differences[0]


def test_partitions_are_made_once_however_many_ask(database: Database) -> None:
    def ask(last_month: str) -> list[str]:
        with database.connect() as connection:
            return ensure_month_partitions(connection, "2025-11", last_month)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(ask, ["2026-02", "2026-02", "2026-01", "2026-03"]))
    assert sorted(month for months in made for month in months) == [
        "2025-11",
        "2025-12",
        "2026-01",
        "2026-02",
        "2026-03",
    ]
    assert ask("2026-03") == []
    assert schema.drift(database) == []


def test_a_month_holds_its_first_and_its_last_microsecond(database: Database) -> None:
    with database.connect() as connection:
        ensure_month_partitions(connection, "2025-12", "2025-12")
        for n, time in enumerate(["2025-12-01 00:00:00+00", "2025-12-31 23:59:59.999999+00"]):
            connection.execute(
                "INSERT INTO response_log (attempt_id, user_id, item_id, completed_at) VALUES (%s, 'u', 'q', %s)",
                (str(n), time),
            )
        assert connection.execute("SELECT count(*) FROM response_log_2025_12").fetchone() == (2,)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(
                "INSERT INTO response_log (attempt_id, user_id, item_id, completed_at)"
                " VALUES ('x', 'u', 'q', '2026-01-01 00:00:00+00')"
            )


def test_making_a_partition_does_not_hold_up_readers_and_writers(database: Database) -> None:
    with database.connect() as connection:
        ensure_month_partitions(connection, "2026-01", "2026-01")
    with database.connect() as maker, database.connect() as other:
        ensure_month_partitions(maker, "2026-02", "2026-02")
        other.execute("SET lock_timeout = '2s'")
        other.execute(
            "INSERT INTO response_log (attempt_id, user_id, item_id, completed_at)"
            " VALUES ('1', 'u', 'q', '2026-01-05 00:00:00+00')"
        )
        assert other.execute("SELECT count(*) FROM attempt").fetchone() == (1,)


def test_dagsters_storage_shares_the_database(database: Database) -> None:
    """Dagster keeps its own alembic_version, in a schema of its own: neither disturbs the other."""
    from dagster_postgres import DagsterPostgresStorage

    storage = DagsterPostgresStorage(database.dagster_url, should_autocreate_tables=True)
    try:
        current, head = storage.run_storage.alembic_version()
        assert current == head is not None
        schema.upgrade(database)
        assert schema.drift(database) == []
        assert storage.run_storage.alembic_version() == (current, head)
        with database.connect() as connection:
            rows = connection.execute("SELECT version_num FROM dagster.alembic_version").fetchall()
        assert rows == [(current,)]
    finally:
        for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
            part.dispose()
