"""Which reader a source has, by its address."""

from __future__ import annotations

from irt_assets.responses.pulling.lake import IcebergRows, ParquetRows
from irt_assets.responses.pulling.rows import SqlRows
from irt_assets.responses.pulling.sources_file import PARQUET, PullSource

Reader = SqlRows | IcebergRows


def open_source(source: PullSource) -> Reader:
    """Raises TransientFailure where the source cannot be reached."""
    if source.is_iceberg:
        return IcebergRows(source)
    return ParquetRows(source) if source.address.get_secret_value().startswith(PARQUET) else SqlRows(source)
