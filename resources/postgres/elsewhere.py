"""Our names in other schemas: views of our tables that we made there, and tables that are not ours.

What does not belong here: reading anything of the latter but how much there is, and how old.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, one_value
from resources.postgres.own_schema import VERSION_TABLE
from resources.tables import METADATA, VIEWS

NAMES = (*METADATA.tables, *VIEWS)
WAIT = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '2s'"
"""We are guests there: what takes longer to read stays unknown."""
WHEN_WRITTEN = ("updated_at", "completed_at", "created_at")
_OURS_THERE = """
SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s)) AND relkind = 'v'
  AND obj_description(oid, 'pg_class') = %s ORDER BY 1
"""
_NOT_OURS = """
SELECT n.nspname, c.relname, nullif(c.reltuples, -1)::bigint, ARRAY(
         SELECT attname::text FROM pg_attribute
         WHERE attrelid = c.oid AND attname = ANY(%(when)s) AND NOT attisdropped)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY(%(names)s) AND c.relkind IN ('r', 'p', 'f', 'm', 'v') AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', current_schema(), %(dagster)s)
  AND obj_description(c.oid, 'pg_class') IS DISTINCT FROM %(mark)s
  AND NOT EXISTS (SELECT FROM pg_class v WHERE v.relnamespace = n.oid AND v.relname = %(version)s)
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 1, 2
"""


def make_views(database: Database, schema: str) -> list[str]:
    """Views of our tables and views in another schema, by their names; those that we made there are made again.

    Raises PermanentFailure, and makes none, where a name is taken there by something else.
    """
    with database.connect() as connection:
        ours = first_column(connection, _OURS_THERE, (schema, _mark(database)))
        there = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(%s)) ORDER BY 1"
        taken = set(first_column(connection, there, (schema,))) & set(NAMES) - set(ours)
        if taken:
            raise PermanentFailure(
                f"The schema {schema} has tables or views by these names already: {', '.join(sorted(taken))}. No view "
                "was made: name another schema, or rename those"
            )
        for name in NAMES:
            view, table = sql.Identifier(schema, name), sql.Identifier(database.schema, name)
            connection.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT * FROM {}").format(view, table))
            connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, _mark(database)))
    return list(NAMES)


def drop_views(database: Database, schema: str) -> list[str]:
    """Remove from another schema the views that `make_views` made there, and nothing else: their names."""
    with database.connect() as connection:
        ours = first_column(connection, _OURS_THERE, (schema, _mark(database)))
        for name in ours:
            connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(schema, name)))
    return ours


def not_ours(database: Database) -> Iterator[str]:
    """Each table or view by one of our names in another schema, with its rows and when it was last written."""
    values = {
        "names": list(NAMES),
        "when": list(WHEN_WRITTEN),
        "dagster": database.settings.irt_dagster_schema,
        "mark": _mark(database),
        "version": VERSION_TABLE,
    }
    with database.connect() as connection:
        for schema, name, estimate, columns in connection.execute(_NOT_OURS, values).fetchall():
            table = sql.Identifier(schema, name)
            counted = _read_in_time(connection, sql.SQL("SELECT count(*) FROM {}").format(table))
            rows = estimate if counted is None else counted
            size = "rows unknown" if rows is None else f"{rows:,} rows"
            yield f"{schema}.{name}: {size}{_last_write(connection, table, columns)}: not ours"


def _last_write(connection: psycopg.Connection, table: sql.Identifier, columns: list[str]) -> str:
    times = sql.SQL(", ").join(sql.SQL("max({})::timestamptz").format(sql.Identifier(column)) for column in columns)
    newest = sql.SQL("SELECT to_char(greatest({}), 'FMMonth YYYY') FROM {}").format(times, table)
    month = _read_in_time(connection, newest) if columns else None
    return f", last written in {month}" if month else ""


def _read_in_time(connection: psycopg.Connection, query: sql.Composed) -> Any:
    """The value of a query; None where that takes longer than `WAIT`, or is refused."""
    try:
        with connection.transaction():
            connection.execute(WAIT)
            return one_value(connection, query)
    except psycopg.Error:
        return None


def _mark(database: Database) -> str:
    return f"Made by irt db views, of the schema {database.schema}"
