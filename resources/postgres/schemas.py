"""The two schemas of an installation, made where they are missing: ours, and Dagster's, which bears our mark.

What does not belong here: which one is ours (see `own_schema`), and the tables in it (see `schema`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, one_value
from resources.postgres.own_schema import VERSION_TABLE, relations_in

MARK = "Dagster of irt-assets in the schema {schema}"
"""The comment on Dagster's schema."""


def make_schemas(database: Database) -> list[str]:
    """Those that were missing are made: their names.

    Raises PermanentFailure where this role may not, or Dagster's is another one's.
    """
    with _one_at_a_time(database) as connection:
        names = (database.schema, database.settings.irt_dagster_schema)
        made = [name for name in names if _make(connection, name)]
        if not one_value(connection, "SELECT has_schema_privilege(%s, 'CREATE')", (database.schema,)):
            raise _not_allowed(connection, f"make tables in the schema {database.schema}")
        _claim(connection, database, is_new=not _has_our_tables(connection, database.schema))
    return made


def claim_dagster_schema(database: Database) -> None:
    """Make Dagster's schema where it is missing, and mark one of an earlier version as ours.

    Raises PermanentFailure where it is of another Dagster, and where a pooler would lead Dagster into our schema.
    """
    if not database.own.takes_options:
        raise PermanentFailure(
            "DATABASE_URL leads to a pooler that takes no options, so that Dagster would not find its schema: give "
            "this process the server's own address; the θ API works through a pooler"
        )
    with database.connect() as connection:
        if _mark_of(connection, database.settings.irt_dagster_schema) == MARK.format(schema=database.schema):
            return
    with _one_at_a_time(database) as connection:
        _make(connection, database.settings.irt_dagster_schema)
        _claim(connection, database, is_new=not _has_our_tables(connection, database.schema))


@contextmanager
def _one_at_a_time(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('schemas of irt-assets'))")
        yield connection


def _claim(connection: psycopg.Connection, database: Database, *, is_new: bool) -> None:
    """A schema without a mark is an earlier version's if that has worked here, and no other one has our mark."""
    name, ours = database.settings.irt_dagster_schema, MARK.format(schema=database.schema)
    mark = _mark_of(connection, name)
    if mark == ours:
        return
    marked = first_column(
        connection, "SELECT nspname FROM pg_namespace WHERE obj_description(oid, 'pg_namespace') = %s", (ours,)
    )
    _, is_mark, other = (mark or "").partition(MARK.format(schema=""))
    of_irt = bool(is_mark) and _has_our_tables(connection, other)
    if of_irt or ((is_new or marked) and relations_in(connection, name)):
        whose = f"it belongs to the {mark}" if of_irt else "its tables are of a Dagster that is not ours"
        raise PermanentFailure(
            f"The schema {name} cannot hold this installation's Dagster: {whose}. Set IRT_DAGSTER_SCHEMA to the name "
            "of another schema" + (f"; it was {marked[0]}" if marked else "")
        )
    try:
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(name), ours))
    except psycopg.errors.InsufficientPrivilege:
        raise _not_allowed(connection, f"mark the schema {name} as ours") from None


def _make(connection: psycopg.Connection, name: str) -> bool:
    """Whether it was missing."""
    if one_value(connection, "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", (name,)):
        return False
    try:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        raise _not_allowed(connection, f"make the schema {name}") from None
    return True


def _mark_of(connection: psycopg.Connection, name: str) -> str | None:
    return one_value(connection, "SELECT obj_description(to_regnamespace(quote_ident(%s)), 'pg_namespace')", (name,))


def _has_our_tables(connection: psycopg.Connection, schema: str) -> bool:
    return one_value(
        connection, "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text)) IS NOT NULL", (schema, VERSION_TABLE)
    )


def _not_allowed(connection: psycopg.Connection, what: str) -> PermanentFailure:
    return PermanentFailure(
        f"The role {connection.info.user} may not {what}: let the database's administrator run what `irt db roles` "
        "prints, and connect as the owner that it names"
    )
