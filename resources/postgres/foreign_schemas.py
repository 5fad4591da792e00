"""Our names in other schemas: our own views of our tables, and foreign tables with the same names.

Of foreign tables, only the number of rows and the time of the last write are read.
"""

from collections.abc import Iterator
from contextlib import suppress

import psycopg
from psycopg import sql

from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.postgres.own_schema import VERSION_TABLE
from resources.tables import METADATA, VIEWS

NAMES = (*METADATA.tables, *VIEWS)
TIME_LIMITS = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '2s'"
"""Time limits in foreign schemas: if counting takes longer, the number of rows is estimated."""
_OUR_RELATIONS = """
SELECT relname, coalesce(relkind = 'v' AND obj_description(oid, 'pg_class') = %s, false) FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(%s)) AND relname = ANY(%s) ORDER BY 1
"""
_FOREIGN_RELATIONS = """
SELECT n.nspname, c.relname, nullif(nullif(c.reltuples, -1), 0)::bigint, (
         SELECT format('SELECT count(*), to_char(greatest(%%s), ''FMMonth YYYY'') FROM %%s',
                       coalesce(string_agg(format('max(%%I)::timestamptz', attname), ', '), 'NULL::timestamptz'),
                       c.oid::regclass) FROM pg_attribute
         WHERE attrelid = c.oid AND attname IN ('updated_at', 'completed_at', 'created_at') AND NOT attisdropped)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY(%s) AND c.relkind IN ('r', 'p', 'f', 'm', 'v') AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('information_schema', current_schema(), %s)
  AND obj_description(c.oid, 'pg_class') IS DISTINCT FROM %s
  AND NOT EXISTS (SELECT FROM pg_class v WHERE v.relnamespace = n.oid AND v.relname = %s)
ORDER BY 1, 2
"""


def make_views(database: Database, schema: str) -> list[str]:
    """Create views of our tables and views in another schema, and replace the views that we created there before.

    Returns their names. Raises PermanentFailure, and creates no view, if the schema has foreign relations with these
    names.
    """
    with database.connect() as connection:
        if conflicts := [name for name, is_ours in _relations(connection, database, schema) if not is_ours]:
            raise PermanentFailure(
                f"The schema {schema} has tables or views by these names already: {', '.join(conflicts)}. No view was "
                "created: name another schema, or rename them"
            )
        for name in NAMES:
            view, table = sql.Identifier(schema, name), sql.Identifier(database.schema, name)
            connection.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT * FROM {}").format(view, table))
            connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, _mark(database)))
    return list(NAMES)


def drop_views(database: Database, schema: str) -> list[str]:
    """Drop the views that `make_views` created in another schema, and nothing else. Returns their names."""
    with database.connect() as connection:
        ours = [name for name, is_ours in _relations(connection, database, schema) if is_ours]
        for name in ours:
            connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(schema, name)))
    return ours


def describe_foreign_relations(database: Database) -> Iterator[str]:
    """Yield a line for each foreign table or view with one of our names: its rows, and the month of its last write."""
    values = (list(NAMES), database.settings.irt_dagster_schema, _mark(database), VERSION_TABLE)
    with database.connect() as connection:
        for schema, name, estimate, query in connection.execute(_FOREIGN_RELATIONS, values).fetchall():
            rows, month = estimate, None
            with suppress(psycopg.Error), connection.transaction():
                connection.execute(TIME_LIMITS)
                rows, month = connection.execute(query).fetchone() or (estimate, None)
            size = "rows unknown" if rows is None else f"{rows:,} rows"
            yield f"{schema}.{name}: {size}{f', last written in {month}' if month else ''}: not ours"


def _relations(connection: psycopg.Connection, database: Database, schema: str) -> list[tuple[str, bool]]:
    """The relations with our names in a schema, each with whether it is a view that we created there."""
    return connection.execute(_OUR_RELATIONS, (_mark(database), schema, list(NAMES))).fetchall()


def _mark(database: Database) -> str:
    return f"Made by irt db views, of the schema {database.schema}"
