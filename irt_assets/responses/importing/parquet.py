"""Parquet files: columns keep their types."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from irt_assets.responses.importing.sources import Batch, Source, check_names, unique_names
from resources.failures import PermanentFailure

BROKEN = (pa.ArrowException, OSError, UnicodeError)  # what pyarrow raises for a damaged file, wherever it is damaged


class ParquetSource(Source):
    """Batches of rows, each checked whole: text that is not UTF-8 is refused where it stands."""

    kind = "Parquet"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with pq.ParquetFile(path) as file:
                self.columns = unique_names(file.schema_arrow.names)
                self.rows = file.metadata.num_rows
        except BROKEN as error:
            raise PermanentFailure(f"{path} is a broken Parquet file: {error}") from error
        check_names(path, self.columns)

    def batches(self) -> Iterator[Batch]:
        done = 0
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                for rows in file.iter_batches(batch_size=65_536):
                    self._check(rows, done)
                    lines = np.arange(done + 1, done + rows.num_rows + 1)
                    done += rows.num_rows
                    yield Batch(rows.rename_columns(self.columns), lines)
        except BROKEN as error:
            raise PermanentFailure(f"{self.path} is a broken Parquet file after row {done:,}: {error}") from error
        if done != self.rows:
            raise PermanentFailure(f"{self.path} is a broken Parquet file: it has {done:,} of its {self.rows:,} rows.")

    def _check(self, rows: pa.RecordBatch, done: int) -> None:
        for name, cells in zip(self.columns, rows.columns, strict=True):
            try:
                cells.validate(full=True)
            except BROKEN as error:
                raise PermanentFailure(
                    f"{self.path}, column {name!r}, rows {done + 1:,} to {done + rows.num_rows:,}: {error}. Text in"
                    " Parquet is UTF-8: write the column again."
                ) from error
