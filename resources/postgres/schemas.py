"""Creation of the two schemas of an installation: ours, and Dagster's, which is marked as ours by a comment."""

import psycopg
from psycopg import sql

from resources.failures import PermanentFailure
from resources.postgres.database import Database, first_column, one_value
from resources.postgres.own_schema import VERSION_TABLE, relations_in

MARK = "Dagster of irt-assets in the schema "
"""Beginning of the comment on Dagster's schema; the name of our schema follows."""
MISSING_SCHEMAS = "SELECT name FROM unnest(%s::text[]) name WHERE to_regnamespace(quote_ident(name)) IS NULL"
SCHEMAS_EXIST = """
SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL
   AND obj_description(to_regnamespace(quote_ident(%s)), 'pg_namespace') IS NOT DISTINCT FROM %s
"""
COMMENT = "SELECT obj_description(to_regnamespace(quote_ident(%s)), 'pg_namespace')"


def make_schemas(database: Database) -> list[str]:
    """Create the missing schemas, and mark Dagster's as ours. Returns the names of the created schemas.

    Raises PermanentFailure if this role lacks the rights, if Dagster's schema belongs to another installation of
    Dagster, or if DATABASE_URL is a pooler that would lead Dagster into our schema.
    """
    own, dagster = database.schema, database.settings.irt_dagster_schema
    if not database.own.takes_options:
        raise PermanentFailure(
            "DATABASE_URL leads to a pooler that accepts no options, so that Dagster would not find its schema: give "
            "this process the server's own address; the θ API works through a pooler"
        )
    try:
        with database.connect() as connection:
            if one_value(connection, SCHEMAS_EXIST, (own, dagster, MARK + own)):
                return []
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('schemas of irt-assets'))")
            created = first_column(connection, MISSING_SCHEMAS, ([own, dagster],))
            for name in created:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
            if not one_value(connection, "SELECT has_schema_privilege(%s, 'CREATE')", (own,)):
                raise psycopg.errors.InsufficientPrivilege(f"permission denied for schema {own}")
            _claim(connection, own, dagster)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PermanentFailure(
            f"{error}: let the database's administrator run the output of `irt db roles`, and connect as the owner "
            "that it names"
        ) from None
    return created


def _claim(connection: psycopg.Connection, own: str, dagster: str) -> None:
    """Mark Dagster's schema as ours. Raises PermanentFailure if it is not.

    A schema with tables but without a mark was made by an earlier version of ours if our schema has our tables and no
    other schema has our mark.
    """
    marked = "SELECT nspname FROM pg_namespace WHERE obj_description(oid, 'pg_namespace') = %s"
    marked_schemas = first_column(connection, marked, (MARK + own,))
    mark = str(one_value(connection, COMMENT, (dagster,)) or "")
    is_others = mark.startswith(MARK) and _has_our_tables(connection, mark.removeprefix(MARK))
    if is_others or ((marked_schemas or not _has_our_tables(connection, own)) and relations_in(connection, dagster)):
        raise PermanentFailure(
            f"The schema {dagster} cannot hold this installation's Dagster: "
            + (f"it is of {mark}" if is_others else "its tables are of a Dagster that is not ours")
            + ". Set IRT_DAGSTER_SCHEMA to the name of another schema"
            + (f"; it was {marked_schemas[0]}" if marked_schemas else "")
        )
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(dagster), MARK + own))


def _has_our_tables(connection: psycopg.Connection, schema: str) -> bool:
    return one_value(
        connection, "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text)) IS NOT NULL", (schema, VERSION_TABLE)
    )
