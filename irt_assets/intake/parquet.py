"""Parquet files: columns keep their types."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from irt_assets.intake import sources
from irt_assets.intake.sources import Batch, Source, check_columns, unique_names
from resources.failures import PermanentFailure

BROKEN = (pa.ArrowException, OSError, UnicodeError)  # errors that pyarrow raises for damaged files
MAX_BATCH = 65_536  # rows
MAX_ROW_GROUP = 2**31  # bytes, unpacked


class ParquetSource(Source):
    """A Parquet file. Each batch is validated completely, so that an error names the column and the rows.

    Nested columns are not read, because no column of the log needs them: they are null and keep their types.
    """

    kind = "Parquet"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with pq.ParquetFile(path) as file:
                self._schema = file.schema_arrow
                self.rows = file.metadata.num_rows
                self._batch_size = max(1, min(MAX_BATCH, sources.MAX_CELLS // max(1, file.metadata.num_columns)))
                sizes = [file.metadata.row_group(n).total_byte_size for n in range(file.metadata.num_row_groups)]
        except BROKEN as error:
            raise PermanentFailure(f"{path} is a broken Parquet file: {error}") from error
        check_columns(path, self._schema.names)
        if not self._schema.names:
            raise PermanentFailure(f"{path} has no column")
        if (largest := max(sizes, default=0)) > MAX_ROW_GROUP:
            raise PermanentFailure(
                f"{path}: a row group unpacks to {largest:,} bytes; at most {MAX_ROW_GROUP:,} are read. Write it with"
                " smaller row groups."
            )
        self.columns = unique_names(self._schema.names)

    def batches(self) -> Iterator[Batch]:
        done = 0
        flat = [field.name for field in self._schema if not pa.types.is_nested(field.type)]
        names = None if len(flat) == len(self.columns) else flat
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                for read in file.iter_batches(batch_size=self._batch_size, columns=names):
                    rows = self._whole(read, done)
                    lines = np.arange(done + 1, done + rows.num_rows + 1)
                    done += rows.num_rows
                    yield Batch(rows, lines)
        except BROKEN as error:
            raise PermanentFailure(f"{self.path} is a broken Parquet file after row {done:,}: {error}") from error
        if done != self.rows:
            raise PermanentFailure(f"{self.path} is a broken Parquet file: it has {done:,} of its {self.rows:,} rows")

    def _whole(self, read: pa.RecordBatch, done: int) -> pa.RecordBatch:
        """The rows with all columns of the file and plain values."""
        rest = iter(read.columns)
        columns = []
        for name, field in zip(self.columns, self._schema, strict=True):
            if pa.types.is_nested(field.type):
                columns.append(pa.nulls(read.num_rows, field.type))
                continue
            cells = next(rest)
            try:
                cells.validate(full=True)
            except BROKEN as error:
                raise PermanentFailure(
                    f"{self.path}, column {name!r}, rows {done + 1:,} to {done + read.num_rows:,}: {error}. Text in"
                    " Parquet is UTF-8: write the column again."
                ) from error
            columns.append(cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells)
        return pa.RecordBatch.from_arrays(columns, names=self.columns)
