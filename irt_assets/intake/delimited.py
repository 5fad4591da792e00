"""Files of rows and cells: CSV with commas or semicolons, and TSV."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from irt_assets.intake import sources
from irt_assets.intake.cells import SPACE
from irt_assets.intake.sources import BadRow, Batch, TextSource, check_columns, unique_names
from resources.failures import PermanentFailure

DELIMITERS = {"\t": "TSV", ",": "CSV", ";": "CSV with semicolons"}


DECLARED_DELIMITER = re.compile(r"sep=([,;\t])\r?\n")
"""First line of a file in which the delimiter is declared for Excel."""
SAMPLED_ROWS = 20
"""Rows from which the delimiter is inferred."""
_LINE_BREAK = re.compile(r"[\r\n]")


class CsvSource(TextSource):
    """A delimited file: one text column per name in the header. Repeated names get the suffixes ` (2)`, ` (3)` …

    `delimiter` is inferred if it is None. `header`: row of the names, from 1; None: the first row that has any.
    """

    def __init__(
        self, path: Path, encoding: str | None = None, *, delimiter: str | None = None, header: int | None = None
    ) -> None:
        super().__init__(path, encoding)
        head = sources.head(path)
        text = head.removeprefix(codecs.BOM_UTF8).decode(self.encoding, errors="ignore")
        lines = io.StringIO(text, newline="")
        declared = DECLARED_DELIMITER.match(text)
        before = 1 if declared else 0
        if declared:
            lines.readline()
        self._delimiter = delimiter or (declared[1] if declared else _delimiter_of(text))
        self.kind = DELIMITERS.get(self._delimiter, f"CSV with {self._delimiter}")
        reader = csv.reader(lines, delimiter=self._delimiter)
        try:
            rows = ((n, names) for n, names in enumerate(reader, 1) if header is None or n + before >= header)
            filled = ((n, names) for n, names in rows if len(names) > 1 or "".join(names).strip())
            header_row, names = next(filled, (1, []))
        except csv.Error as error:
            raise PermanentFailure(f"{path}: its header cannot be read: {error}. Is it a table?") from error
        self._header_lines = before + reader.line_num
        self._header_rows = before + header_row
        if not names:
            raise PermanentFailure(f"{path}: its header names no column. Is it a table?")
        if _LINE_BREAK.search(names[-1]) and self.quotes % 2:
            raise self._unclosed_quotation(1, "the last name in the header contains the rest of the file")
        if len(head) == sources.HEAD and not lines.read(1):
            raise PermanentFailure(f"{path}: its header is longer than {sources.HEAD:,} bytes. Is it a table?")
        check_columns(path, names)
        self.columns = unique_names(name.strip(SPACE) for name in names)
        # An empty line is a row with a cell for every column.
        if self.empty_lines * max(len(self.columns), sources.MIN_COLUMNS_COUNTED) > sources.MAX_EMPTY_CELLS:
            raise PermanentFailure(
                f"{path}: more than {self.empty_lines:,} empty lines in {sources.BLOCK:,} bytes. Delete them"
                " (grep -v '^\\s*$' FILE > NEW)."
            )

    def batches(self) -> Iterator[Batch]:
        # The last line may lack a line break, so a file may have a row although all of its line breaks are in the
        # header.
        if self.rows <= self._header_lines >= len(sources.head(self.path).splitlines()):
            return
        skipped: list[Any] = []  # pyarrow's objects: number (from 1, with the header), text, actual_columns

        def skip(row: Any) -> str:
            skipped.append(row)
            return "skip" if len(skipped) <= sources.MAX_UNREADABLE_ROWS else "error"

        read_options = pacsv.ReadOptions(
            column_names=self.columns,
            skip_rows=self._header_lines,
            block_size=sources.BLOCK,
            use_threads=False,  # with threads, pyarrow does not number bad rows
            encoding=self.encoding,
        )
        parse_options = pacsv.ParseOptions(
            delimiter=self._delimiter,
            newlines_in_values=True,
            ignore_empty_lines=False,  # empty lines are counted; `clean` drops empty rows
            invalid_row_handler=skip,
        )
        convert_options = pacsv.ConvertOptions(column_types=dict.fromkeys(self.columns, pa.string()))
        row_numbers = _RowNumbers(self._header_lines, self._header_rows)
        rows = None
        try:
            for rows in pacsv.open_csv(sources.stream(self.path), read_options, parse_options, convert_options):
                yield row_numbers.number_rows(rows, skipped)
        except pa.ArrowInvalid as error:
            if len(skipped) > sources.MAX_UNREADABLE_ROWS:
                raise PermanentFailure(
                    f"{self.path}, after row {row_numbers.last}: {len(skipped):,} rows have more or fewer cells"
                    f" than the header ({len(self.columns):,}). Is a delimiter inside a value, without quotes?"
                ) from error
            if self.quotes % 2:
                raise self._unclosed_quotation(row_numbers.last, "a row cannot be read") from error
            raise PermanentFailure(
                f"{self.path}, after row {row_numbers.last}: a row cannot be read. A row holds at most"
                f" {sources.BLOCK // 2**20} MiB: shorten its cells, or close the quotation mark that opens in it."
            ) from error
        except OSError as error:
            raise PermanentFailure(f"{self.path} cannot be read after row {row_numbers.last}: {error}") from error
        empty = pa.RecordBatch.from_pylist([], schema=pa.schema([(name, pa.string()) for name in self.columns]))
        rest = row_numbers.number_rows(empty, skipped, everything=True)
        self._check_end(rows, rest, row_numbers.last)
        if rest.bad:
            yield rest

    def _check_end(self, rows: pa.RecordBatch | None, rest: Batch, last: int) -> None:
        """Raise PermanentFailure if a quotation is not closed. The parser itself ends it with the file, without an
        error."""
        if self.quotes % 2 == 0:
            return
        ends = [bad.raw for bad in rest.bad[-1:]]
        if rows is not None and rows.num_rows:
            ends += [str(value) for value in rows.slice(rows.num_rows - 1).to_pylist()[0].values()]
        if any(map(_LINE_BREAK.search, ends)):
            raise self._unclosed_quotation(last, "the file ends within quotation marks")

    def _unclosed_quotation(self, last: int, why: str) -> PermanentFailure:
        return PermanentFailure(
            f"{self.path}, about row {last}: {why}. Usually a quotation mark is never closed, or is not doubled."
        )


def _delimiter_of(text: str) -> str:
    """The delimiter with which most rows have as many cells as the header. Ties are broken by its frequency in the
    header outside quotation marks."""
    first = next((line for line in re.split(r"[\r\n]", text) if line.strip()), "")
    unquoted = re.sub('"[^"]*("|$)', "", first)

    def fits(delimiter: str) -> tuple[float, int]:
        filled = (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if "".join(row).strip())
        try:
            header, *rows = [len(row) for row in islice(filled, SAMPLED_ROWS)]
        except (csv.Error, ValueError):
            return 0.0, unquoted.count(delimiter)
        alike = sum(width == header for width in rows) / max(1, len(rows)) if header > 1 else 0.0
        return alike, unquoted.count(delimiter)

    return max(DELIMITERS, key=fits)


class _RowNumbers:
    """Row numbers as a spreadsheet counts them, including empty rows and the header's rows."""

    def __init__(self, header_lines: int, header_rows: int) -> None:
        self._header_lines = header_lines
        self._header_rows = header_rows
        self._sound = 0
        self._bad = 0

    @property
    def last(self) -> int:
        return self._header_rows + self._sound + self._bad

    def number_rows(self, rows: pa.RecordBatch, skipped: list[Any], *, everything: bool = False) -> Batch:
        """The batch with its row numbers. Removes from `skipped` the bad rows before its last row, or all of them."""
        numbers = np.array([bad.number for bad in skipped], dtype=np.int64) - self._header_lines + self._header_rows
        sound_before = numbers - 1 - self.last + self._sound - np.arange(len(numbers))
        sound = np.arange(self._sound, self._sound + rows.num_rows)
        bad_before = self._bad + np.searchsorted(sound_before, sound, side="right")
        self._sound += rows.num_rows
        until = len(skipped) if everything else int((sound_before < self._sound).sum())
        bad = [
            BadRow(number, "ragged_row", f"{row.actual_columns} columns, not {row.expected_columns}", row.text)
            for row, number in zip(skipped[:until], numbers.tolist(), strict=False)
        ]
        del skipped[:until]
        self._bad += until
        return Batch(rows, sound + bad_before + self._header_rows + 1, bad)
