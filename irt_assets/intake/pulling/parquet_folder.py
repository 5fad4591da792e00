"""A folder of Parquet files as a source, which DuckDB reads as one table."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from irt_assets.intake.clean import DAY
from irt_assets.intake.pulling.rows import BATCH, SqlRows
from irt_assets.intake.pulling.sources_file import PARQUET
from irt_assets.intake.times import EARLIEST, LATEST
from resources.failures import TransientFailure
from resources.postgres.database import Database

AS_POSTGRESQL = postgresql.dialect(paramstyle="qmark")
"""SQL dialect that DuckDB understands."""
ZONED_NS = "timestamptz_ns"
"""Type of the times that pandas writes. DuckDB cannot compare it with other types of times."""


class ParquetRows(SqlRows):
    """All files `*.parquet` in a folder and its subfolders, as one table. The folder cannot be read while a file in it
    is incomplete."""

    def _open(self, _database: Database | None) -> None:
        self._duckdb = duckdb.connect()
        self._duckdb.execute("SET TimeZone = 'UTC'")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._duckdb.close()

    def _relation(self, names: Sequence[str]) -> sa.FromClause:
        folder = self.source.address.get_secret_value().removeprefix(PARQUET).replace("'", "''").replace(":", r"\:")
        quoted = ['"' + name.replace('"', '""') + '"' for name in names if self._column_types[name] == ZONED_NS]
        cast = ", ".join(f"CAST({name} AS TIMESTAMPTZ) AS {name}" for name in quoted).replace(":", r"\:")
        read = f"read_parquet('{folder}/**/*.parquet', union_by_name = true, hive_partitioning = false)"
        files = f"SELECT *{cast and f' REPLACE ({cast})'} FROM {read}"
        return sa.text(files).columns(*(sa.column(name) for name in names or ["*"])).subquery("pulled")

    def _run(self, statement: sa.Select[Any]) -> duckdb.DuckDBPyRelation:
        compiled = statement.compile(dialect=AS_POSTGRESQL)
        values = [compiled.params[name] for name in compiled.positiontup or ()]
        try:
            return self._duckdb.sql(str(compiled), params=values)
        except duckdb.Error as error:
            raise TransientFailure(f"{self.source.name}: the folder cannot be read: {error}") from None

    def _describe(self, statement: sa.Select[Any]) -> dict[str, str]:
        found = self._run(statement)
        return {name: str(type_).lower() for name, type_ in zip(found.columns, found.types, strict=True)}

    def _fetch(self, statement: sa.Select[Any]) -> Iterator[Sequence[Any]]:
        try:
            for batch in self._run(statement).to_arrow_reader(BATCH):
                yield [*zip(*(_within_calendars(column).to_pylist() for column in batch.columns), strict=True)]
        except duckdb.Error as error:
            raise TransientFailure(f"{self.source.name}: the folder cannot be read: {error}") from None


def _within_calendars(column: pa.Array) -> pa.Array:
    """Replace times for which Python has no datetime by times at which nobody has answered."""
    if not pa.types.is_timestamp(column.type):
        return column
    if column.type.unit == "ns":  # nanoseconds reach only from 1677 to 2262
        return column
    of_us = {"s": 10**6, "ms": 10**3, "us": 1}[column.type.unit]
    first, last = (EARLIEST - DAY) // of_us, LATEST // of_us
    counts = pc.max_element_wise(column.cast(pa.int64()), first, skip_nulls=False)
    return pc.min_element_wise(counts, last, skip_nulls=False).cast(column.type)
