"""A company's own table as the log, the item bank or the learners: what its columns are of ours.

What does not belong here: the view over it (see `resources.postgres.own_log`), and what is wrong with its rows (see
`own_tables_check`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from irt_assets.intake.bank import LEARNERS, Kind
from irt_assets.intake.mapping import named_alike
from irt_assets.intake.take import check_zone
from resources.failures import PermanentFailure
from resources.postgres.database import named_rows, one_value
from resources.postgres.guest_reads import GUEST_MS, set_limits
from resources.postgres.own_log import CONTRACT, PARAMETER, column_types, delete_of_learner, sql_type
from resources.tables import METADATA, VIEWS

REQUIRED = ("id", "user_id", "item_id", "completed_at", "correct")
WITH_ZONE, WITHOUT_ZONE = "timestamp with time zone", "timestamp without time zone"
WHOLE = ("smallint", "integer", "bigint")
NUMBERS = (*WHOLE, "numeric", "real", "double precision")
SECONDS = re.compile(r"sec|_s$")
"""Columns of times that are seconds by their names."""
ID_ADVICE = (
    ", or --map \"id=exam_id || '/' || question_no\". An id is made of what names the answer for ever, never of a row "
    "number. Where a row holds several answers, as in JSON, give a SELECT that makes a row of each: --sql FILE"
)
IN_SQL = {
    "boolean": "{column} = 1",
    WITH_ZONE: "to_timestamp({column} / 1000.0)",
    "integer": "({column})::integer",
    "bigint": "({column})::bigint",
}
"""How a column of another type may become one of ours, as an example."""


@dataclass(frozen=True)
class Proposal:
    """`cells`: columns of ours, and what each is in SQL over the columns of `relation`, a table or a SELECT."""

    relation: str
    cells: Mapping[str, str]

    @property
    def query(self) -> str:
        """What is stored: it names the mapped columns, and reads no other."""
        cells = ", ".join(f'{value} AS "{name}"' for name, value in self.cells.items())
        return f"SELECT {cells} FROM {self.relation} s"


def table_named(connection: psycopg.Connection, name: str) -> str:
    """A table or view of the company's, with its schema. Raises PermanentFailure where there is none, or it is ours."""
    found = one_value(
        connection,
        """SELECT format('%%I.%%I', nspname, relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
           WHERE c.oid = to_regclass(%s) AND NOT (nspname = current_schema() AND relname = ANY(%s))""",
        (name, [*METADATA.tables, *VIEWS]),
    )
    if found is None:
        raise PermanentFailure(
            f"{name}: there is no such table or view of your own that this user sees. Name it with its schema, "
            "such as exam.answers, and let the user read it (GRANT USAGE ON SCHEMA …, GRANT SELECT ON …)"
        )
    return str(found)


def propose(
    connection: psycopg.Connection,
    relation: str,
    *,
    given: Mapping[str, str],
    zone: str | None = None,
    kind: Kind | None = None,
) -> Proposal:
    """What the columns of `relation` are of ours: as `given` (ours: a column or SQL; empty: none), else by their names.

    zone: of times that carry none. kind: of which it becomes a copy, all as text; None: it becomes the log.
    Raises PermanentFailure, with the way out, where a column is missing or of a type that does not say what it means.
    """
    check_zone(zone, f"--zone {zone}: unknown")
    ours_all = tuple(CONTRACT) if kind is None else kind.known
    if unknown := sorted(given.keys() - {*ours_all} if kind is not LEARNERS else ()):
        raise PermanentFailure(f"--map {unknown[0]}=…: no column of ours; they are {', '.join(ours_all)}")
    set_limits(connection, GUEST_MS)
    columns = _types(connection, f"SELECT * FROM {relation} s")
    alike = named_alike(list(columns))
    if kind is not None:
        also = {ours: name for ours, names in kind.also_called.items() for name in names if name in columns}
        alike = ({kind.key: "id"} if "id" in columns else {}) | also | alike
    named = {ours: ours if ours in columns else alike.get(ours, "") for ours in ours_all}
    raw = {ours: _expression(connection, ours, text, columns) for ours, text in {**named, **given}.items() if text}
    if kind is None and "correct" not in raw and "score" in raw:
        raw["correct"] = "NULL::boolean"
    if missing := [ours for ours in (REQUIRED if kind is None else (kind.key,)) if ours not in raw]:
        advice = "" if kind else ID_ADVICE
        raise PermanentFailure(
            f"None of the columns is {', '.join(missing)} by its name.\n"
            f"Columns: {', '.join(columns)}\n"
            f"Say what it is, a column or SQL over the columns: --map {missing[0]}=COLUMN{advice}"
        )
    types = _types(connection, Proposal(relation, raw).query)
    if kind is not None:
        return Proposal(relation, {ours: _as_text(value, types[ours]) for ours, value in raw.items()})
    return Proposal(relation, {ours: _converted(ours, value, types[ours], zone) for ours, value in raw.items()})


def first_rows(connection: psycopg.Connection, query: str, n: int) -> list[dict[str, Any]]:
    """`n` rows as we would read them. Raises PermanentFailure where a value does not fit its column."""
    try:
        return named_rows(connection, f"SELECT * FROM ({query}) a LIMIT {n}".encode())
    except (psycopg.DataError, psycopg.ProgrammingError) as error:
        raise PermanentFailure(f"the rows cannot be read so: {error}") from error


def check_delete(connection: psycopg.Connection, text: str) -> None:
    """Raises PermanentFailure where `text` is not one DELETE with the parameter `:user_id` alone, or not one that this
    user may run. It is explained, and not run."""
    if {*re.findall(rf"{PARAMETER}([a-z_]\w*)", text)} != {"user_id"}:
        raise PermanentFailure(f"--erase-with: the learner's id is :user_id, and there is no other parameter: {text}")
    try:
        with connection.transaction(force_rollback=True):
            set_limits(connection, GUEST_MS)
            connection.execute("SET LOCAL search_path = ''")
            explain = b"EXPLAIN (FORMAT JSON) " + delete_of_learner(text)
            plans = [one_value(connection, explain, {"user_id": None})[0]["Plan"]]
    except psycopg.ProgrammingError as error:
        raise PermanentFailure(
            f"--erase-with: {error.diag.message_primary or error}. It is one DELETE; tables are named with their "
            "schema, and the user may delete there (GRANT DELETE ON …)"
        ) from error
    for plan in plans:
        plans += plan.get("Plans", [])
    writes = [plan["Operation"] for plan in plans if plan["Node Type"] == "ModifyTable"]
    if plans[0].get("Operation") != "Delete" or len(writes) > 1:
        raise PermanentFailure(f"--erase-with takes one DELETE, and nothing that writes more: {text}")


def _types(connection: psycopg.Connection, query: str) -> dict[str, str]:
    """The columns of a query that names tables with their schema. Raises PermanentFailure in the server's words."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL search_path = ''")
            return column_types(connection, query)
    except psycopg.errors.InsufficientPrivilege as error:
        raise PermanentFailure(
            f"{error.diag.message_primary}: the administrator runs what irt db roles --own-table SCHEMA.TABLE prints"
        ) from error
    except psycopg.ProgrammingError as error:
        raise PermanentFailure(
            f"{error.diag.message_primary or error}. Tables are named with their schema; columns, and SQL over them, "
            "as in a SELECT"
        ) from error


def _expression(connection: psycopg.Connection, ours: str, text: str, columns: Mapping[str, str]) -> str:
    if text not in columns:
        return text
    column = sql.Identifier(text).as_string(connection)
    in_seconds = ours == "response_time_ms" and columns[text] in NUMBERS and SECONDS.search(text)
    return f"{column} * 1000" if in_seconds else column


def _as_text(value: str, kind: str) -> str:
    """SQL of the text that an import reads: JSON of an array."""
    return f"to_jsonb({value})::text" if kind.endswith("[]") else f"({value})::text"


def _converted(ours: str, value: str, kind: str, zone: str | None) -> str:
    """SQL of a column's type."""
    wanted = sql_type(ours)
    if kind == wanted:
        return value
    if wanted == "text":
        return f"({value})::text"
    if wanted == WITH_ZONE and kind == WITHOUT_ZONE:
        if zone is None:
            raise PermanentFailure(
                f"{ours} ({value}) is a time without a zone: say whose clock it is, with --zone Asia/Seoul or "
                "--zone UTC"
            )
        return f"({value}) AT TIME ZONE {sql.quote(zone)}"
    if ours == "score" and kind in NUMBERS and kind not in WHOLE:
        return f"(CASE WHEN {value} = round({value}) THEN {value} ELSE {value} - abs({value}) - 1 END)::smallint"
    if wanted in WHOLE and kind in NUMBERS:
        return f"round({value})::{wanted}" if kind not in WHOLE else f"({value})::{wanted}"
    if wanted == "integer" and kind == "boolean":
        return f"({value})::integer"
    example = IN_SQL[wanted].format(column=value.replace('"', ""))
    raise PermanentFailure(
        f"{ours} ({value}) is {kind}, and we need {wanted}: say what it means, such as --map '{ours}={example}'"
    )
