"""Finds the schema that contains our tables, and ensures that connections see only this schema."""

import re
from dataclasses import dataclass

import psycopg

from resources.failures import PermanentFailure
from resources.settings import Settings

VERSION_TABLE = "irt_alembic_version"
DEFAULT_SCHEMA = "irt"
"""The schema of a new installation if `public` already contains tables."""
SERVERS_PATH = '"$user", public'
"""PostgreSQL's default search path."""
PROOF = "-c irt.options=taken"
"""An option that shows whether the server has received the options: some poolers drop all of them."""
_PATH_OPTION = re.compile(r"(?:-c\s*|--)search[_-]path=((?:\\.|\S)+)")
_NAME = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s,"]+))\s*(?:,|$)')
_STATE = """
SELECT current_schemas(false), current_setting('search_path'), current_setting('TimeZone'),
       current_setting('irt.options', true) = 'taken', ARRAY(
         SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relname = %s AND c.relkind = 'r' ORDER BY 1)
"""
_RELATIONS = """
SELECT format('%%I.%%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE nspname = ANY(%s) AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e') ORDER BY 1
"""


@dataclass(frozen=True)
class OwnSchema:
    """Our schema. `takes_options`: whether connections can set their search path; if not, the role's must be right."""

    name: str
    takes_options: bool


def named_schema(settings: Settings, options: str) -> str | None:
    """The schema that IRT_DB_SCHEMA names or, if it is unset, the search path in the options of DATABASE_URL."""
    paths = _PATH_OPTION.findall(options)
    return settings.irt_db_schema or (first_of(re.sub(r"\\(.)", r"\1", paths[-1])) if paths else None)


def path_option(schema: str) -> str:
    """The option with which a connection sees only this schema."""
    return "-c search_path=" + re.sub(r"([\\\s])", r"\\\1", quote_name(schema))


def quote_name(schema: str) -> str:
    """The name in SQL, with quotation marks if it needs them."""
    return schema if re.fullmatch("[a-z_][a-z0-9_]*", schema) else '"' + schema.replace('"', '""') + '"'


def first_of(search_path: str) -> str | None:
    """The first schema of a search path, without `$user` and `pg_catalog`. Returns None if it names no schema."""
    names = [(quotes or plain.lower()).replace('""', '"') for quotes, plain in _NAME.findall(search_path)]
    return next((name for name in names if name not in ("$user", "pg_catalog", "")), None)


def relations_in(connection: psycopg.Connection, *schemas: str) -> list[str]:
    """Tables, views and sequences in the schemas, except relations of extensions."""
    return [name for (name,) in connection.execute(_RELATIONS, (list(schemas),))]


def find_own_schema(connection: psycopg.Connection, named: str | None) -> OwnSchema:
    """Find our schema, and set it as the connection's search path if the server takes options.

    Raises PermanentFailure if the schema cannot be determined, or if the server takes no options and the role has
    another search path or time zone.
    """
    row = connection.execute(_STATE, (VERSION_TABLE,)).fetchone()
    assert row is not None
    visible, path, zone, takes_options, holders = row
    of_role = None if path == SERVERS_PATH else first_of(path)
    schema = named or _schema_with_tables(holders, of_role) or _new_schema(connection, of_role)
    if takes_options and visible != [schema]:
        connection.execute("SELECT set_config('search_path', %s, false)", (quote_name(schema),))
    if not takes_options and (visible, zone) != ([schema], "UTC"):
        role, database = (quote_name(name) for name in (connection.info.user, connection.info.dbname))
        change = f"ALTER ROLE {role} IN DATABASE {database} SET"
        raise PermanentFailure(
            f"The pooler that DATABASE_URL leads to takes no options, and {role} works in {path} there, at {zone}, "
            f"not in {schema} at UTC. Let the database's administrator run: {change} search_path = "
            f"{quote_name(schema)}; "
            f"{change} timezone = 'UTC';"
        )
    return OwnSchema(schema, bool(takes_options))


def _schema_with_tables(holders: list[str], preferred: str | None) -> str | None:
    """The schema with our tables, or None. If several have them, it is the first of the role's search path."""
    if len(holders) > 1 and preferred not in holders:
        raise PermanentFailure(
            f"Several schemas hold tables of irt-assets: {', '.join(holders)}. Set IRT_DB_SCHEMA to the schema of "
            "this installation"
        )
    return preferred if preferred in holders else next(iter(holders), None)


def _new_schema(connection: psycopg.Connection, preferred: str | None) -> str:
    """The schema for a new installation: the role's (default: `public`) if it is empty, else DEFAULT_SCHEMA."""
    candidates = (preferred or "public", DEFAULT_SCHEMA)
    for schema in candidates:
        if not relations_in(connection, schema):
            return schema
    raise PermanentFailure(
        f"The schemas {' and '.join(candidates)} hold tables that are not of irt-assets: set IRT_DB_SCHEMA to the name "
        "of a schema for our tables"
    )
