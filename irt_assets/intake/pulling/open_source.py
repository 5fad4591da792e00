"""Opening a source by its address."""

from irt_assets.intake.pulling.rows import SqlRows
from irt_assets.intake.pulling.sources_file import PARQUET, PullSource
from resources.postgres.database import Database


def open_source(source: PullSource, database: Database) -> SqlRows:
    """Open a source. `database`: the platform's, which may also contain the source. Raises TransientFailure if the
    source cannot be reached."""
    if source.address.get_secret_value().startswith(PARQUET):
        from irt_assets.intake.pulling.parquet_folder import ParquetRows  # only this source needs DuckDB

        return ParquetRows(source)
    return SqlRows(source, database)
