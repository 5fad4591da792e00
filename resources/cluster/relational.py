"""Backends of relational expressions: PostgreSQL, DuckDB over Parquet, or Spark over the lake.

An expression is written once and means the same on every backend: it contains no rounding, no JSON, and no function
that only one backend has. Days are UTC days, because every session's time zone is UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import psycopg
import pyarrow as pa

from resources.cluster import spark_rows
from resources.cluster.lake import Lake
from resources.cluster.spark import application_of, spark_session, started_session
from resources.cluster.spark_medians import medians_of_learners_by_lists
from resources.postgres import warehouse
from resources.postgres.database import database_settings
from resources.postgres.relations import LEARNER, QUESTION
from resources.settings import Settings

if TYPE_CHECKING:
    import dagster as dg
    import duckdb
    from pyspark.sql import SparkSession

C = TypeVar("C")


@dataclass(frozen=True)
class Backend(Generic[C]):
    """A kind of database on which expressions run. A call with a connection returns a `Run`.

    The connection's relations have the registry's names, e.g. `attempt` for a view over Parquet snapshots.

    Attributes:
        dialect: Ibis' name of the SQL dialect.
        read: returns the rows of a query.
        number: SQL for the integer that 15 hexadecimal `{digits}` represent; sums of 10⁸ of them must be exact.
        prepare: sets the connection's time zone to UTC. It is None if the time zone is UTC already.
        rewrite: returns an equivalent expression that is cheaper on this backend, or None if none is needed.
        parts: yields the rows of a query in parts that fit in memory; rows with equal values in the given columns are
            in the same part. None if the backend returns all rows at once.
    """

    dialect: str
    read: Callable[[C, str], pa.Table]
    number: str
    prepare: Callable[[C], object] | None = None
    rewrite: Callable[[ir.Table], ir.Table] | None = None
    parts: Callable[[C, str, Sequence[str]], Iterator[pa.Table]] | None = None

    def __call__(self, connection: C) -> Run:
        if self.prepare is not None:
            self.prepare(connection)
        return Run(self, connection)

    def sql(self, expression: ir.Table) -> str:
        rewritten = expression if self.rewrite is None else self.rewrite(expression)
        return _sql(rewritten.op(), self.dialect)


@lru_cache(maxsize=32)
def _sql(expression: ops.Node, dialect: str) -> str:
    """The expression as SQL. It is cached, because this takes 0.3 s, often longer than the query itself."""
    return ibis.to_sql(expression.to_expr(), dialect=dialect)


@dataclass(frozen=True)
class Run:
    """Executes expressions on a connection."""

    backend: Backend[Any]
    connection: Any

    def __call__(self, expression: ir.Table) -> pa.Table:
        return self.read(self.backend.sql(expression))

    def read(self, query: str) -> pa.Table:
        """The rows of a query in the backend's SQL."""
        return self.backend.read(self.connection, query)

    def parts(self, expression: ir.Table, *together: str) -> Iterator[pa.Table]:
        """Yield the rows in parts that fit in memory. Rows that are equal in the columns `together` are in one part.

        No part is empty.
        """
        query = self.backend.sql(expression)
        tables = self.backend.parts(self.connection, query, together) if self.backend.parts else [self.read(query)]
        yield from (part for part in tables if part.num_rows)


def _prepare_spark(session: SparkSession) -> None:
    ibis.pyspark  # noqa: B018 - the first access creates the options of its dialect
    session.conf.set("spark.sql.session.timeZone", "UTC")


on_postgres: Backend[psycopg.Connection] = Backend(
    dialect="postgres",
    read=warehouse.read_arrow,  # in the connection's transaction; `Database.connect` sets its time zone to UTC
    number="('x' || {digits})::bit(60)::bigint",
)
on_duckdb: Backend[duckdb.DuckDBPyConnection] = Backend(
    dialect="duckdb",
    read=lambda connection, query: connection.sql(query).to_arrow_table(),
    number="('0x' || {digits})::bigint",
    prepare=lambda connection: connection.execute("SET TimeZone = 'UTC'"),
)
on_spark: Backend[SparkSession] = Backend(
    dialect="pyspark",
    read=spark_rows.read,
    number="cast(conv({digits}, 16, 10) as decimal(38, 0))",
    prepare=_prepare_spark,
    rewrite=medians_of_learners_by_lists,
    parts=spark_rows.parts,
)


def on_log(connection: psycopg.Connection, since: datetime, until: datetime) -> Run:
    """A `Run` over the whole log, for expressions that read attempts of [since, until).

    It uses Spark over the lake if IRT_SPARK is set, else PostgreSQL, like `on_postgres(connection)`. On Spark,
    `question` and `learner` are copies of the rows that the connection's transaction sees now.
    """
    whole = lake(connection)
    if whole is None:
        return on_postgres(connection)
    session = spark_session(database_settings(connection))
    if hasattr(session, "newSession"):  # not under Spark Connect
        session = session.newSession()  # views belong to a session
    for name, table in (("question", QUESTION), ("learner", LEARNER)):
        columns = [column for column, kind in table.schema().items() if not kind.is_json()]
        rows = on_postgres(connection)(table.select(*columns))
        session.createDataFrame(rows).createOrReplaceTempView(name)
    whole.register(session, since, until)
    return on_spark(session)


def on_nearest_log(connection: psycopg.Connection, since: datetime, until: datetime) -> Run:
    """Like `on_log`, but on PostgreSQL, without starting Spark, if it has every attempt of [since, until)."""
    if lake(connection) is not None and holds_log(connection, since, until):
        return on_postgres(connection)
    return on_log(connection, since, until)


def holds_log(connection: psycopg.Connection, since: datetime, until: datetime) -> bool:
    """Whether PostgreSQL has every attempt of [since, until).

    It has them if it has an earlier attempt, because the oldest are dropped first, or if the lake's first day with
    attempts in [since, until) is not earlier than PostgreSQL's.
    """
    whole = lake(connection)
    if whole is None:
        return True
    [(has_earlier, first)] = connection.execute(
        """SELECT EXISTS (SELECT FROM attempt WHERE completed_at < %(since)s),
                  (SELECT (min(completed_at) AT TIME ZONE 'UTC')::date::text FROM attempt
                   WHERE completed_at >= %(since)s AND completed_at < %(until)s)""",
        {"since": since, "until": until},
    ).fetchall()
    if has_earlier:
        return True
    days = whole.days(since, until)
    return not days or (first is not None and first <= min(days))


def require_judged(connection: psycopg.Connection, since: datetime, until: datetime) -> None:
    """Raise PermanentFailure if there is a lake and it has attempts of [since, until) without verdicts."""
    if (whole := lake(connection)) is not None:
        whole.require_judged(since, until)


def lake(connection: psycopg.Connection) -> Lake | None:
    """The lake, which contains the whole log. Returns None if IRT_SPARK is not set."""
    settings = database_settings(connection)
    return Lake.at(settings) if settings.irt_spark else None


def application(settings: Settings) -> dict[str, dg.MetadataValue]:
    """Metadata of an asset about this process's Spark: application id and UI; empty if no session was started."""
    if settings.irt_spark is None:
        return {}
    import dagster as dg  # here, because processes that only read do not need it

    session = started_session(settings)
    if session is None:
        return {}
    details = application_of(session)
    return {
        **({"Spark application": dg.MetadataValue.text(details.id)} if details.id else {}),
        **({"Spark UI": dg.MetadataValue.url(details.ui_url)} if details.ui_url else {}),
    }


def copy_to_memory(run: Run, relations: Mapping[str, ir.Table]) -> Run:
    """A `Run` on DuckDB over copies of `relations`, which map names to expressions. Each is read once."""
    import duckdb  # here, because only reports need it

    # Without a folder for temporary files, data that does not fit fails; processes would share such files.
    connection = duckdb.connect(config={"temp_directory": ""})
    for name, rows in relations.items():
        connection.register(name, run(rows))
    return on_duckdb(connection)
