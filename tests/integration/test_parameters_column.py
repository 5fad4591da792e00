"""An item's parameters as one column: what an upgrade makes of the old columns, and what a downgrade makes of it."""

from __future__ import annotations

import struct

import alembic.command
import psycopg
import pytest

from resources.failures import PermanentFailure
from resources.postgres import schema
from resources.postgres.database import Database
from tests.helpers.rooms import rows, run_sql

BEFORE, REVISION = "0034_data_version", "0036_parameters"
NAMES = ("a", "b", "c", "a_se", "b_se", "c_se", "cov_ab")
BITS = (
    (1.2345678901234567, -0.1, 0.0, 5e-324, 1e308, None, -0.0),
    (0.1 + 0.2, -0.0, 0.25, 2.2250738585072014e-308, 1.7976931348623157e308, 1e-20, 1 / 3),
    (1.0, 2.0, 0.0, None, None, None, None),
    (float("nan"), 0.5, 0.0, float("inf"), 0.1, None, None),
)
TABLES = {
    "item_parameter_publication": (
        "scale_id, effective_from, rule, reason, anchor_hash, code_version",
        "'s', now(), 'first', 'r', 'h', 'v'",
    ),
    "item_parameter_proposal": ("month, scale_id, fit_id, why", "'2026-06', 's', 'f', 'w'"),
    "anchor_set": ("scale_id, version, errors_assumed, anchor_hash", "'s', 1, false, 'h'"),
}


@pytest.fixture
def before(database: Database) -> Database:
    """The schema before, with the same items in each table."""
    _to(database, BEFORE)
    names = ", ".join(NAMES)
    with database.connect() as connection:
        for table, (columns, values) in TABLES.items():
            connection.cursor().executemany(
                f"INSERT INTO {table} ({columns}, item_id, {names}) VALUES ({values}, %s{', %s' * 7})".encode(),
                [(f"item {k}", *row) for k, row in enumerate(BITS)],
            )
    return database


def _to(database: Database, revision: str) -> None:
    config = schema._alembic()
    config.attributes["database"] = database
    (alembic.command.downgrade if revision == BEFORE else alembic.command.upgrade)(config, revision)


def bits(database: Database, table: str) -> list[tuple[bytes | None, ...]]:
    found = rows(database, f"SELECT {', '.join(NAMES)} FROM {table} ORDER BY item_id")
    return [tuple(None if x is None else struct.pack("d", x) for x in row) for row in found]


@pytest.mark.parametrize("digits", [None, 0])
def test_every_value_comes_through_and_back_to_the_last_bit(before: Database, digits: int | None) -> None:
    """Whatever the server is told of how it writes numbers."""
    if digits is not None:
        with before.connect() as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET extra_float_digits = {digits}".encode())
    wanted = [tuple(None if x is None else struct.pack("d", x) for x in row) for row in BITS]
    _to(before, REVISION)
    if digits is not None:
        with before.connect() as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} RESET extra_float_digits".encode())
    assert [bits(before, table) for table in TABLES] == [wanted] * 3
    assert rows(before, "SELECT DISTINCT parameters FROM anchor_set WHERE item_id = 'item 2'") == [
        ({"a": 1, "b": 2, "c": 0},)
    ]
    _to(before, BEFORE)
    assert [bits(before, table) for table in TABLES] == [wanted] * 3


def test_views_of_the_columns_stay_as_they_were(before: Database) -> None:
    """Those of people, too, with their columns in order, grants, comments and options."""
    run_sql(
        before,
        "CREATE VIEW hard WITH (security_barrier=true) AS SELECT item_id, b FROM anchor_set"
        " WHERE b > 1 AND item_id LIKE '%%2'",
    )
    run_sql(before, "CREATE VIEW now_in_force AS SELECT item_id, a, b, cov_ab FROM item_parameter_current")
    run_sql(before, "COMMENT ON VIEW hard IS 'those above 1'")
    run_sql(before, "GRANT SELECT ON item_parameter_current, hard TO PUBLIC")
    views = """SELECT c.relname, c.reloptions, c.relacl::text, obj_description(c.oid), pg_get_viewdef(c.oid)
               FROM pg_class c WHERE c.relname IN ('hard', 'now_in_force', 'item_parameter_current') ORDER BY 1"""
    columns = "SELECT * FROM item_parameter_current LIMIT 0"
    with before.connect() as connection:
        then, named = rows(before, views), [c.name for c in connection.execute(columns).description or ()]
    _to(before, REVISION)
    now = rows(before, views)
    assert [row[:4] for row in now] == [row[:4] for row in then]
    assert [now[0], now[2]] == [then[0], then[2]]
    assert rows(before, "SELECT item_id FROM hard") == [("item 2",)]
    assert len(rows(before, "SELECT * FROM now_in_force")) == len(BITS)
    with before.connect() as connection:
        assert [c.name for c in connection.execute(columns).description or ()] == [*named, "parameters"]
    run_sql(before, "DROP VIEW now_in_force")
    _to(before, BEFORE)
    assert [row for row in rows(before, views) if row[0] != "now_in_force"] == [
        row for row in then if row[0] != "now_in_force"
    ]


def test_the_way_back_is_refused_where_a_models_own_parameter_would_be_lost(before: Database) -> None:
    _to(before, REVISION)
    run_sql(before, "UPDATE anchor_set SET parameters = parameters || '{\"u\": 0.95}' WHERE item_id = 'item 0'")
    with pytest.raises(PermanentFailure, match="1 rows of anchor_set have parameters of another model"):
        schema.downgrade(before, BEFORE)
    run_sql(before, "UPDATE anchor_set SET parameters = parameters - 'u'")
    schema.downgrade(before, BEFORE)


def test_an_item_without_a_difficulty_is_refused(before: Database) -> None:
    _to(before, REVISION)
    with pytest.raises(psycopg.errors.NotNullViolation):
        run_sql(before, "UPDATE anchor_set SET parameters = parameters - 'b'")
