"""The SQL with which a database's administrator creates our roles. It is only printed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from psycopg import sql

from resources.failures import PermanentFailure

TEMPLATE = Path(__file__).with_suffix(".sql")
OWN_SCHEMA = "CREATE SCHEMA IF NOT EXISTS {schema};\nALTER SCHEMA {schema} OWNER TO {owner};"
IN_PUBLIC = "GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner};"


def role_statements(own_tables: Sequence[str], **names: str) -> Iterator[str]:
    """Yield the statements for the administrator.

    Args:
        own_tables: the company's tables that the owner may read.
        names: names of the roles `owner` (migrates, imports and runs the daemon), `service` (θ API and dashboard) and
            `reader` (people), of the `database`, of our `schema` and of Dagster's schema `dagster`.

    Raises PermanentFailure if a name in `own_tables` is not written SCHEMA.TABLE.
    """
    quoted = {key: sql.Identifier(name).as_string() for key, name in names.items()}
    own_schema = IN_PUBLIC if names["schema"] == "public" else OWN_SCHEMA
    yield TEMPLATE.read_text("utf-8").format(own_schema=own_schema.format(**quoted), **quoted)
    for name in own_tables:
        parts = name.split(".")
        if len(parts) != 2 or not all(parts):
            raise PermanentFailure(f"--own-table {name} is not written SCHEMA.TABLE, such as public.exam_results")
        schema, table = (sql.Identifier(*some).as_string() for some in (parts[:1], parts))
        yield f"GRANT USAGE ON SCHEMA {schema} TO {quoted['owner']};\nGRANT SELECT ON {table} TO {quoted['owner']};\n"
