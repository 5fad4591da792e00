"""A folder of Parquet files as a source, which DuckDB reads as one table."""

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import duckdb
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from irt_assets.responses.pulling.rows import BATCH, SqlRows
from irt_assets.responses.pulling.sources_file import PARQUET
from resources.failures import TransientFailure

AS_POSTGRESQL = postgresql.dialect(paramstyle="qmark")
"""DuckDB reads its SQL."""


class ParquetRows(SqlRows):
    """All files `*.parquet` of a folder and the folders in it, as one table. A file that is written there in place is
    refused until it is whole."""

    def _open(self) -> None:
        self._duckdb = duckdb.connect()
        self._duckdb.execute("SET TimeZone = 'UTC'")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._duckdb.close()

    def _relation(self, names: Sequence[str]) -> sa.FromClause:
        folder = self.source.address.get_secret_value().removeprefix(PARQUET).replace("'", "''").replace(":", r"\:")
        files = f"SELECT * FROM read_parquet('{folder}/**/*.parquet', union_by_name = true, hive_partitioning = false)"
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
                yield [*zip(*(column.to_pylist() for column in batch.columns), strict=True)]
        except duckdb.Error as error:
            raise TransientFailure(f"{self.source.name}: the folder cannot be read: {error}") from None
