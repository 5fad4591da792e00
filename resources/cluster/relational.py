"""Where relational expressions run: on PostgreSQL, on DuckDB over Parquet, or on Spark over the lake.

An expression is written once and means the same on every backend, on PostgreSQL and on DuckDB over Parquet: no
rounding, no JSON, no function that only one of them has; days are UTC because the session is. What does not belong
here: expressions.
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
    """A kind of database that expressions run on: called with a connection, it gives what runs them there.

    The connection's relations are named as the registry names them, e.g. `attempt` for a view over Parquet snapshots.

    Attributes:
        dialect: its SQL, by Ibis' name for it.
        read: the rows of a query.
        number: SQL for the whole number that 15 hexadecimal `{digits}` write; sums of 10⁸ of them must be exact.
        prepare: makes UTC the connection's time zone, where it may be another.
        rewrite: an expression that means the same and is cheaper there.
        parts: the rows of a query in parts that fit in memory, those with equal values of some columns in one part;
            None: they come at once.
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
    """Writing the query of a window takes a third of a second, often more than running it."""
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
        """The rows in parts, each of which fits in memory; those that are equal in the columns `together` in one part.

        No part is empty; without rows there is none.
        """
        query = self.backend.sql(expression)
        found = self.backend.parts(self.connection, query, together) if self.backend.parts else [self.read(query)]
        yield from (part for part in found if part.num_rows)


def _prepare_spark(session: SparkSession) -> None:
    ibis.pyspark  # noqa: B018 - its dialect has options that are made when it is first touched
    session.conf.set("spark.sql.session.timeZone", "UTC")


on_postgres: Backend[psycopg.Connection] = Backend(
    dialect="postgres",
    read=warehouse.read_arrow,  # in the connection's transaction; `Database.connect` makes its time zone UTC
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
    """Runs over the whole log, for expressions that read attempts of [since, until): on Spark over the lake where
    IRT_SPARK is set, else on PostgreSQL, like `on_postgres(connection)`.

    On Spark, `question` and `learner` are copies of what the connection's transaction sees now.
    """
    found = lake(connection)
    if found is None:
        return on_postgres(connection)
    session = spark_session(database_settings(connection))
    if hasattr(session, "newSession"):  # not under Spark Connect
        session = session.newSession()  # its views are its own
    for name, table in (("question", QUESTION), ("learner", LEARNER)):
        columns = [column for column, kind in table.schema().items() if not kind.is_json()]
        rows = on_postgres(connection)(table.select(*columns))
        session.createDataFrame(rows).createOrReplaceTempView(name)
    found.register(session, since, until)
    return on_spark(session)


def on_nearest_log(connection: psycopg.Connection, since: datetime, until: datetime) -> Run:
    """Like `on_log`, but on PostgreSQL where it has every attempt of [since, until): no Spark is started for those."""
    if lake(connection) is not None and holds_log(connection, since, until):
        return on_postgres(connection)
    return on_log(connection, since, until)


def holds_log(connection: psycopg.Connection, since: datetime, until: datetime) -> bool:
    """Whether PostgreSQL has every attempt of [since, until).

    It has them where it has an earlier one, as the oldest are dropped first, or where the lake begins no earlier.
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
    """Raises PermanentFailure if the lake, where there is one, has attempts of [since, until) without verdicts."""
    if (whole := lake(connection)) is not None:
        whole.require_judged(since, until)


def lake(connection: psycopg.Connection) -> Lake | None:
    """What holds the whole log beside PostgreSQL; None without IRT_SPARK."""
    settings = database_settings(connection)
    return Lake.at(settings) if settings.irt_spark else None


def application(settings: Settings) -> dict[str, dg.MetadataValue]:
    """What the metadata of an asset says of this process's Spark: its id and UI; empty where none was started."""
    if settings.irt_spark is None:
        return {}
    import dagster as dg  # here, as what only reads needs none

    session = started_session(settings)
    if session is None:
        return {}
    found = application_of(session)
    return {
        **({"Spark application": dg.MetadataValue.text(found.id)} if found.id else {}),
        **({"Spark UI": dg.MetadataValue.url(found.ui_url)} if found.ui_url else {}),
    }


def in_memory(run: Run, relations: Mapping[str, ir.Table]) -> Run:
    """Runs over copies, read once, of what `relations` says each relation of that name is to hold."""
    import duckdb  # here, as only reports need it

    connection = duckdb.connect(config={"temp_directory": ""})  # what does not fit fails; spilt files would be shared
    for name, rows in relations.items():
        connection.register(name, run(rows))
    return on_duckdb(connection)
