"""The SQL by which a database's administrator makes our roles. It is printed, and never run by us.

What does not belong here: making the schemas where we may (see `schemas`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg import sql

from resources.failures import PermanentFailure


@dataclass(frozen=True)
class Roles:
    """`owner` migrates, imports and runs the daemon; `service` serves θ and the dashboard; `reader` is for people."""

    owner: str
    service: str
    reader: str


def statements(
    roles: Roles, *, database: str, schema: str, dagster_schema: str, own_tables: Sequence[str]
) -> Iterator[str]:
    """What the administrator runs, as often as something changes.

    Raises PermanentFailure where one of `own_tables`, which the owner is to read, is not written SCHEMA.TABLE.
    """
    names = {"database": database, "schema": schema, "dagster": dagster_schema} | vars(roles)
    quoted = {key: sql.Identifier(name).as_string() for key, name in names.items()}
    for role in vars(roles):
        yield (
            f"DO $$ BEGIN CREATE ROLE {quoted[role]} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
            f"  -- its password: \\password {quoted[role]}"
        )
    yield from (line.format(**quoted) for line in (_OF_PUBLIC if schema == "public" else _OF_OUR_SCHEMA, _REST))
    yield from _reading(own_tables, quoted["owner"])


def _reading(own_tables: Iterable[str], owner: str) -> Iterator[str]:
    for name in own_tables:
        parts = name.split(".")
        if len(parts) != 2 or not all(parts):
            raise PermanentFailure(f"--own-table {name} is not written SCHEMA.TABLE, such as public.exam_results")
        schema, table = (sql.Identifier(part).as_string() for part in parts)
        yield f"GRANT USAGE ON SCHEMA {schema} TO {owner};\nGRANT SELECT ON {schema}.{table} TO {owner};"


_OF_OUR_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS {schema};
ALTER SCHEMA {schema} OWNER TO {owner};"""
_OF_PUBLIC = """
GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};"""
_REST = """CREATE SCHEMA IF NOT EXISTS {dagster};
ALTER SCHEMA {dagster} OWNER TO {owner};
GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {owner}, {service};
GRANT CONNECT ON DATABASE {database} TO {reader};

ALTER ROLE {owner} IN DATABASE {database} SET search_path = {schema};
ALTER ROLE {service} IN DATABASE {database} SET search_path = {schema};
ALTER ROLE {reader} IN DATABASE {database} SET search_path = {schema};
ALTER ROLE {owner} IN DATABASE {database} SET timezone = 'UTC';
ALTER ROLE {service} IN DATABASE {database} SET timezone = 'UTC';
ALTER ROLE {reader} IN DATABASE {database} SET timezone = 'UTC';

GRANT USAGE ON SCHEMA {schema}, {dagster} TO {service};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema}, {dagster} TO {service};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema}, {dagster} TO {service};
GRANT USAGE ON SCHEMA {schema} TO {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader};

-- the same for tables and partitions to come
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}, {dagster}
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {service};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema}, {dagster} GRANT USAGE ON SEQUENCES TO {service};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader};
"""
