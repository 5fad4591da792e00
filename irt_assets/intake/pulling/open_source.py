"""Opens a source by its address."""

from irt_assets.intake.pulling.rows import SqlRows
from irt_assets.intake.pulling.sources_file import PARQUET, PullSource
from resources.postgres.database import Database


def open_source(source: PullSource, database: Database) -> SqlRows:
    """`database`: ours, which a source may be in, too. Raises TransientFailure if the source cannot be reached."""
    if source.address.get_secret_value().startswith(PARQUET):
        from irt_assets.intake.pulling.parquet_folder import ParquetRows  # DuckDB says at every exit what it left

        return ParquetRows(source)
    return SqlRows(source, database)
