"""Which reader a source has, by its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irt_assets.intake.pulling.rows import SqlRows
from irt_assets.intake.pulling.sources_file import PARQUET, PullSource
from resources.failures import PermanentFailure
from resources.postgres.database import Database

if TYPE_CHECKING:
    from irt_assets.intake.pulling.iceberg import IcebergRows

    Reader = SqlRows | IcebergRows


def open_source(source: PullSource, database: Database) -> Reader:
    """`database`: ours, which a source may be in, too. Raises TransientFailure where the source cannot be reached."""
    if source.is_iceberg:
        try:
            from irt_assets.intake.pulling.iceberg import IcebergRows  # of the extra lake
        except ImportError:
            raise PermanentFailure(f"{source.name} is an Iceberg table: install the extra lake (pyiceberg)") from None
        return IcebergRows(source)
    if source.address.get_secret_value().startswith(PARQUET):
        from irt_assets.intake.pulling.parquet_folder import ParquetRows  # DuckDB says at every exit what it left

        return ParquetRows(source)
    return SqlRows(source, database)
