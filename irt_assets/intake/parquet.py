"""Parquet files: columns keep their types."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from irt_assets.intake.sources import MAX_CELLS, Batch, Source, check_columns, unique_names
from resources.failures import PermanentFailure

BROKEN = (pa.ArrowException, OSError, UnicodeError)  # what pyarrow raises for a damaged file, wherever it is damaged
DICTIONARIES = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}
SHARED_BEGINNINGS = "DELTA_BYTE_ARRAY"  # a text is a part of the one before, and its own end
MAX_BATCH = 65_536  # rows
SMALL_TEXT = 2**20  # bytes
MAX_TEXT = 2**28  # bytes of a batch's texts
MAX_ROW_GROUP = 2**31  # bytes, unpacked


class ParquetSource(Source):
    """Batches of rows, each checked whole: text that is not UTF-8 is refused where it stands.

    A few bytes of Parquet can be many values. Texts are measured before they are repeated; nested values, which no
    column of ours holds, are not read: their columns are null and keep their types.
    """

    kind = "Parquet"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with pq.ParquetFile(path) as file:
                self._schema = file.schema_arrow
                self.rows = file.metadata.num_rows
                self.columns = self._unique_columns()
                self._check_sizes(file.metadata)
            self._check_texts()
        except BROKEN as error:
            raise PermanentFailure(f"{path} is a broken Parquet file: {error}") from error

    def _unique_columns(self) -> list[str]:
        check_columns(self.path, self._schema.names)
        if not self._schema.names:
            raise PermanentFailure(f"{self.path} has no column.")
        return unique_names(self._schema.names)

    def _check_sizes(self, metadata: pq.FileMetaData) -> None:
        sizes = (metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        if (largest := max(sizes, default=0)) > MAX_ROW_GROUP:
            raise PermanentFailure(
                f"{self.path}: a row group unpacks to {largest:,} bytes; at most {MAX_ROW_GROUP:,} are read. Write it"
                " with smaller row groups."
            )

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
            raise PermanentFailure(f"{self.path} is a broken Parquet file: it has {done:,} of its {self.rows:,} rows.")

    @property
    def _batch_size(self) -> int:
        return max(1, min(MAX_BATCH, MAX_CELLS // sum(map(_cells_of, self._schema.types))))

    def _check_texts(self) -> None:
        """Raises PermanentFailure if the texts of a batch unpack to too many bytes. Texts that are stored once and
        referred to by rows are read as such, a column of a row group at a time."""
        texts, size = {field.name for field in self._schema if _is_text(field.type)}, self._batch_size
        with pq.ParquetFile(self.path, read_dictionary=list(texts)) as file:
            places = [k for k in range(len(file.schema)) if file.schema.column(k).path in texts]
            for number in range(file.num_row_groups):
                group, unpacked = file.metadata.row_group(number), 0
                for chunk in map(group.column, places):
                    rows = min(chunk.num_values, size)
                    if rows * chunk.total_uncompressed_size < SMALL_TEXT:
                        continue
                    if SHARED_BEGINNINGS in chunk.encodings:
                        unpacked += _most_bytes(self._lengths(number, chunk), size)
                    elif not DICTIONARIES.isdisjoint(chunk.encodings):
                        [cells, *_] = file.read_row_group(number, columns=[chunk.path_in_schema], use_threads=False)
                        unpacked += max((_largest_batch(some, size) for some in cells.chunks), default=0)
                    if unpacked > MAX_TEXT:
                        raise PermanentFailure(
                            f"{self.path}, column {chunk.path_in_schema!r}, row group {number + 1}: {rows:,} rows"
                            f" unpack to more than {MAX_TEXT:,} bytes. Shorten the texts."
                        )

    def _lengths(self, group: int, chunk: pq.ColumnChunkMetaData) -> np.ndarray:
        """Bytes of each text of a column chunk, shape (rows,). It is read few rows at a time, as each may repeat all
        bytes of the chunk."""
        size = max(1, MAX_TEXT // chunk.total_uncompressed_size)
        with pq.ParquetFile(self.path) as file:
            read = file.iter_batches(size, row_groups=[group], columns=[chunk.path_in_schema], use_threads=False)
            return np.concatenate([pc.fill_null(pc.binary_length(cells.column(0)), 0) for cells in read])

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


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    )
    return any(test(kind) for test in tests)


def _cells_of(kind: pa.DataType) -> int:
    """The memory of a value in units of eight bytes, without texts."""
    if pa.types.is_nested(kind):
        return 1 + sum(_cells_of(kind.field(k).type) for k in range(kind.num_fields))
    return 1 + kind.byte_width // 8 if pa.types.is_fixed_size_binary(kind) else 1


def _largest_batch(cells: pa.Array, size: int) -> int:
    """Bytes of the texts of the largest `size` rows that are read at once, when each is repeated."""
    if not (pa.types.is_dictionary(cells.type) and len(cells)):
        return 0
    lengths = pc.cast(pc.binary_length(cells.dictionary), pa.int64()).take(cells.indices)
    return _most_bytes(np.asarray(pc.fill_null(lengths, 0)), size)


def _most_bytes(lengths: np.ndarray, size: int) -> int:
    """The largest sum of `size` lengths that are read at once."""
    return int(np.add.reduceat(lengths, np.arange(0, len(lengths), size), dtype=np.int64).max())
