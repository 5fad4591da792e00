"""The tables that relational expressions read, as Ibis relations made from the registry, and where such run.

An expression is written once and means the same on PostgreSQL and on DuckDB over Parquet: no rounding, no JSON, no
function that only one of them has; days are UTC because the session is. What does not belong here: expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb
import ibis
import ibis.expr.types as ir
import psycopg
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from resources import tables, warehouse

Run = Callable[[ir.Table], pa.Table]
"""Executes an expression: `on_postgres` or `on_duckdb` with its connection."""

_TYPES = {
    sa.Text: "string",
    sa.Integer: "int32",
    sa.BigInteger: "int64",
    sa.Double: "float64",
    sa.Boolean: "boolean",
    sa.Date: "date",
    TIMESTAMP: "timestamp('UTC')",
    JSONB: "json",
}


def _columns(table: sa.Table) -> dict[str, str]:
    return {column.name: _TYPES[type(column.type)] for column in table.columns}


def relation(table: sa.Table) -> ir.Table:
    """A table of the registry, bound to no database."""
    return ibis.table(_columns(table), name=table.name)


def _attempt() -> ir.Table:
    """The view `attempt`: the log's columns, the id under its own name, the topic, whether a hint was used."""
    columns = _columns(tables.response_log)
    return ibis.table(
        {"id": columns.pop("attempt_id"), **columns, "topic_id": "string", "hint_used": "boolean"}, name="attempt"
    )


ATTEMPT = _attempt()
QUESTION = relation(tables.question)
LEARNER = relation(tables.learner)


def on_postgres(connection: psycopg.Connection) -> Run:
    """Runs in the connection's transaction, whose time zone must be UTC (`Database.connect` sees to that)."""
    return lambda expression: warehouse.read_arrow(connection, ibis.to_sql(expression, dialect="postgres"))


def on_duckdb(connection: duckdb.DuckDBPyConnection) -> Run:
    """Runs over relations named as the registry names them, e.g. a view `attempt` over the Parquet snapshots."""
    connection.execute("SET TimeZone = 'UTC'")
    return lambda expression: connection.sql(ibis.to_sql(expression, dialect="duckdb")).to_arrow_table()


def in_memory(run: Run, relations: Mapping[str, ir.Table]) -> Run:
    """Runs over copies, read once, of what `relations` says each relation of that name is to hold."""
    connection = duckdb.connect(config={"temp_directory": ""})  # what does not fit fails; spilt files would be shared
    for name, rows in relations.items():
        connection.register(name, run(rows))
    return on_duckdb(connection)
