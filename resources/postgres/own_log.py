"""Tables of the company's own: the mappings that are stored, and the view `attempt` over those that are the log.

What does not belong here: proposing a mapping, and judging what it reads (see `irt_assets.intake.own_tables`).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy.dialects import postgresql

from resources.failures import PermanentFailure
from resources.postgres.database import first_column, one_value, record
from resources.postgres.guest_reads import reads_own_tables
from resources.tables import VIEWS, response_log

READ = re.findall(r"\br\.(\w+)", VIEWS["attempt"])
CONTRACT = {"id" if name == "attempt_id" else name: response_log.columns[name] for name in READ}
"""The columns that a mapping gives, by their names in the view `attempt`."""


PARAMETER = r"(?<![:\w]):"
"""How the name of a parameter begins; `::text` and `12:30` have none."""


@dataclass(frozen=True)
class LogMapping:
    """`target`: log, question or learner. `source`: the table, or the file of a SELECT. `query`: a SELECT over it with
    columns of CONTRACT, or of the copy."""

    target: str
    source: str
    query: str
    options: dict[str, Any]
    made_by: str
    made_at: datetime

    @property
    def erase_with(self) -> str | None:
        """The DELETE that removes a learner from the company's tables."""
        return self.options.get("erase_with")


def sql_type(name: str) -> str:
    """The type that a column of the view has."""
    return CONTRACT[name].type.compile(dialect=postgresql.dialect()).lower()


def answers_query(query: str, given: Collection[str]) -> str:
    """The rows of `query`, which has the columns `given`, with all columns of CONTRACT in their types."""
    defaults = {
        name: str(column.server_default.arg)
        for name, column in CONTRACT.items()
        if not column.nullable and isinstance(column.server_default, sa.DefaultClause)
    }
    defaults["recorded_at"] = "m.completed_at" if "completed_at" in given else "NULL"
    values = {name: f'm."{name}"' if name in given else defaults.get(name, "NULL") for name in CONTRACT}
    cells = ", ".join(f'({value})::{sql_type(name)} AS "{name}"' for name, value in values.items())
    return f"SELECT {cells} FROM ({query}\n) m"


def log_view(query: str, given: Collection[str]) -> str:
    """The view `attempt` over a mapping, with the columns that it has over `response_log`."""
    named = VIEWS["attempt"].replace("r.attempt_id AS id", "r.id")
    if "score" in given:
        named = named.replace("r.correct", "coalesce(r.correct, r.score = coalesce(q.max_score, 1)) AS correct")
    return named.replace("response_log r", f"({answers_query(query, given)}) r")


def empty_view() -> str:
    """The view `attempt` without rows, which reads no table."""
    nobody = "(SELECT NULL::text AS item_id, NULL::text AS topic_id) q"
    return log_view("SELECT WHERE false", ()).replace("question q", nobody)


def column_types(connection: psycopg.Connection, query: str) -> dict[str, str]:
    """The columns of a query and their types, with nothing read."""
    cursor = connection.execute(f"SELECT * FROM ({query}\n) described LIMIT 0".encode())
    columns = cursor.description or []
    names = first_column(
        connection, "SELECT format_type(oid, NULL) FROM unnest(%s::oid[]) oid", ([c.type_code for c in columns],)
    )
    return {column.name: name for column, name in zip(columns, names, strict=True)}


def read_mapping(connection: psycopg.Connection, target: str = "log") -> LogMapping | None:
    """The mapping of the log, or of a copy; None where the log is `response_log`, or the table is not copied."""
    if one_value(connection, "SELECT to_regclass('log_mapping')") is None:
        return None  # a schema from before it
    return record(
        connection,
        LogMapping,
        "SELECT target, source, query, options, made_by, made_at FROM log_mapping WHERE target = %s",
        (target,),
    )


def delete_of_learner(text: str) -> bytes:
    """A DELETE with the parameter `:user_id`, as psycopg runs it."""
    return re.sub(f"{PARAMETER}user_id\\b", "%(user_id)s", text.replace("%", "%%")).encode()


def wanted_view(connection: psycopg.Connection) -> str:
    """The view `attempt` as it should be. Raises psycopg.ProgrammingError where the mapping's tables are others now."""
    mapping = read_mapping(connection)
    if mapping is None:
        return VIEWS["attempt"]
    return log_view(mapping.query, column_types(connection, mapping.query))


def store_mapping(
    connection: psycopg.Connection, target: str, source: str, query: str, options: Mapping[str, Any], by: str
) -> None:
    """Store a mapping in the place of any other; of the log, make the view."""
    connection.execute("DELETE FROM log_mapping WHERE target = %s", (target,))
    connection.execute(
        "INSERT INTO log_mapping (target, source, query, options, made_by) VALUES (%s, %s, %s, %s, %s)",
        (target, source, query, Jsonb(options), by),
    )
    if target == "log":
        _make_view(connection, wanted_view(connection))


def drop_mapping(connection: psycopg.Connection, target: str) -> None:
    """Let go of the company's tables; of the log, make the view over ours, also where one was made by hand. Raises
    PermanentFailure where there are none."""
    by_hand = target == "log" and reads_own_tables(connection)
    if not connection.execute("DELETE FROM log_mapping WHERE target = %s", (target,)).rowcount and not by_hand:
        raise PermanentFailure(f"no table of your own is connected as the {target}")
    if target == "log":
        _make_view(connection, VIEWS["attempt"])


def make_log_view_again(connection: psycopg.Connection) -> str | None:
    """Make the view that the mapping says; where its tables are not there, one without rows, and the reason."""
    mapping = read_mapping(connection)
    if mapping is None:
        return None
    try:
        with connection.transaction():
            _make_view(connection, wanted_view(connection))
    except psycopg.ProgrammingError as error:
        _make_view(connection, empty_view())
        return (
            f"the log is read from {mapping.source}, and that cannot be read as it was connected "
            f"({error.diag.message_primary}): until `irt db upgrade` finds it, or `irt connect log` names another, the "
            "view attempt has no rows"
        )
    return None


def _make_view(connection: psycopg.Connection, query: str) -> None:
    try:
        with connection.transaction():
            connection.execute(f"CREATE OR REPLACE VIEW attempt AS {query}".encode())
    except psycopg.errors.InvalidTableDefinition:  # one that was made by hand may have other types
        connection.execute(f"DROP VIEW attempt; CREATE VIEW attempt AS {query}".encode())


def own_relations(connection: psycopg.Connection) -> list[str]:
    """The tables and views outside this schema that the view `attempt` reads."""
    return first_column(
        connection,
        """SELECT DISTINCT format('%I.%I', nspname, relname) FROM pg_depend d
             JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class = to_regclass('attempt')
             JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE d.refclassid = 'pg_class'::regclass AND nspname <> current_schema() ORDER BY 1""",
    )


def require_response_log(connection: psycopg.Connection) -> None:
    """Raises PermanentFailure where the log is not `response_log`: what is written there would be read by nobody."""
    if reads_own_tables(connection):
        mapping = read_mapping(connection)
        source = f"{mapping.source} (irt connect log)" if mapping else "read by a view attempt that was made by hand"
        raise PermanentFailure(
            f"The log of this installation is {source}, and it has one log: answers that are stored here would be "
            "read by nobody. Write them there; or let go of it first, if answers are to be imported from now on: irt "
            "connect log --drop"
        )
