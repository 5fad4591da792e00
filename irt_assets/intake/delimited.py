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
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from irt_assets.intake import sources
from irt_assets.intake.cells import SPACE
from irt_assets.intake.sources import BadRow, Batch, TextSource, check_columns, unique_names
from resources.failures import PermanentFailure

DELIMITERS = {"\t": "TSV", ",": "CSV", ";": "CSV with semicolons"}


DECLARED = re.compile(r"sep=([,;\t])\r?\n")
"""Excel's first line, if it says the delimiter."""
SAMPLED = 20
"""Rows by which a delimiter is judged."""


class CsvSource(TextSource):
    """Text columns, one per name of the header; a name that returns gets ` (2)`, ` (3)` … behind it."""

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        super().__init__(path, encoding)
        head = sources.head(path)
        text = head.removeprefix(codecs.BOM_UTF8).decode(self.encoding, errors="ignore")
        lines = io.StringIO(text, newline="")
        declared = DECLARED.match(text)
        before = 1 if declared else 0
        if declared:
            lines.readline()
        self._delimiter = declared[1] if declared else _delimiter_of(text)
        self.kind = DELIMITERS[self._delimiter]
        reader = csv.reader(lines, delimiter=self._delimiter)
        try:
            names = next((names for names in reader if len(names) > 1 or "".join(names).strip()), [])
        except csv.Error as error:
            raise PermanentFailure(f"{path}: its header cannot be read: {error}. Is it a table?") from error
        self._header_lines = before + reader.line_num
        if not names:
            raise PermanentFailure(f"{path}: its header names no column. Is it a table?")
        if "\n" in names[-1] and self.quotes % 2:
            raise self._unclosed(1, "the header's last name holds all that follows")
        if len(head) == sources.HEAD and not lines.read(1):
            raise PermanentFailure(f"{path}: its header is longer than {sources.HEAD:,} bytes. Is it a table?")
        check_columns(path, names)
        self.columns = unique_names(name.strip(SPACE) for name in names)
        self.check_empty_lines(len(self.columns))

    def batches(self) -> Iterator[Batch]:
        # A last line need not end in a line break, so a file with few of them may hold a row yet.
        if self.rows <= self._header_lines >= len(sources.head(self.path).splitlines()):
            return
        skipped: list[Any] = []  # of pyarrow's: number (from 1, the header's too), text, actual_columns

        def skip(row: Any) -> str:
            skipped.append(row)
            return "skip" if len(skipped) <= sources.MAX_UNREADABLE_ROWS else "error"

        read_options = pacsv.ReadOptions(
            column_names=self.columns,
            skip_rows=self._header_lines,
            block_size=sources.BLOCK,
            use_threads=False,  # with threads, bad rows come without their number
            encoding=self.encoding,
        )
        parse_options = pacsv.ParseOptions(
            delimiter=self._delimiter,
            newlines_in_values=True,
            ignore_empty_lines=False,  # they count as lines; `clean` drops rows of nothing
            invalid_row_handler=skip,
        )
        convert_options = pacsv.ConvertOptions(column_types=dict.fromkeys(self.columns, pa.string()))
        lines = _Lines(self._header_lines)
        rows = None
        try:
            for rows in pacsv.open_csv(sources.stream(self.path), read_options, parse_options, convert_options):
                yield lines.of(rows, skipped)
        except pa.ArrowInvalid as error:
            if len(skipped) > sources.MAX_UNREADABLE_ROWS:
                raise PermanentFailure(
                    f"{self.path}, after line {lines.last}: {len(skipped):,} rows have another number of cells than the"
                    f" header, which has {len(self.columns):,}. Is a delimiter inside a value, without quotes?"
                ) from error
            if self.quotes % 2:
                raise self._unclosed(lines.last, "a row cannot be read") from error
            raise PermanentFailure(
                f"{self.path}, after line {lines.last}: a row cannot be read. A row holds at most"
                f" {sources.BLOCK // 2**20} MiB: shorten its cells, or close the quotation mark that opens in it."
            ) from error
        except OSError as error:
            raise PermanentFailure(f"{self.path} cannot be read after line {lines.last}: {error}") from error
        empty = pa.RecordBatch.from_pylist([], schema=pa.schema([(name, pa.string()) for name in self.columns]))
        rest = lines.of(empty, skipped, everything=True)
        self._check_end(rows, rest, lines.last)
        if rest.bad:
            yield rest

    def _check_end(self, rows: pa.RecordBatch | None, rest: Batch, last: int) -> None:
        """The parser takes the end of the file for the end of an unclosed quotation."""
        if self.quotes % 2 == 0:
            return
        ends = [bad.raw for bad in rest.bad[-1:]]
        if rows is not None and rows.num_rows:
            ends += [str(value) for value in rows.slice(rows.num_rows - 1).to_pylist()[0].values()]
        if any("\n" in end for end in ends):
            raise self._unclosed(last, "the file ends within quotation marks")

    def _unclosed(self, last: int, why: str) -> PermanentFailure:
        return PermanentFailure(
            f"{self.path}, about line {last}: {why}. Most often a quotation mark is never closed, or should be doubled."
        )


def _delimiter_of(text: str) -> str:
    """The delimiter by which most rows are as long as the header; of several, the most frequent one in the header
    outside quotation marks."""
    first = next((line for line in re.split(r"[\r\n]", text) if line.strip()), "")
    unquoted = re.sub('"[^"]*("|$)', "", first)

    def fits(delimiter: str) -> tuple[float, int]:
        filled = (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if "".join(row).strip())
        try:
            header, *rows = [len(row) for row in islice(filled, SAMPLED)]
        except (csv.Error, ValueError):
            return 0.0, unquoted.count(delimiter)
        alike = sum(width == header for width in rows) / max(1, len(rows)) if header > 1 else 0.0
        return alike, unquoted.count(delimiter)

    return max(DELIMITERS, key=fits)


class _Lines:
    """Which line of a CSV each record begins at, given that quoted values may hold line breaks."""

    def __init__(self, header_lines: int) -> None:
        self._header_lines = header_lines
        self._records = 0  # sound ones so far
        self._judged = 0  # bad ones so far
        self._breaks = 0  # line breaks in all of these
        self._broken = np.zeros((0, 2), dtype=np.int64)  # record, line breaks in it; of this batch
        self.last = header_lines

    def of(self, rows: pa.RecordBatch, skipped: list[Any], *, everything: bool = False) -> Batch:
        """The batch with its lines. Takes from `skipped` the bad rows that stand before its last row, or everything."""
        ordinals = np.arange(self._records, self._records + rows.num_rows)
        numbers = np.array([bad.number for bad in skipped], dtype=np.int64)
        sound_before = numbers - self._header_lines - 1 - self._judged - np.arange(len(numbers))
        bad_before = self._judged + np.searchsorted(sound_before, ordinals, side="right")
        records = ordinals + bad_before + self._header_lines + 1
        self._records += rows.num_rows
        until = len(skipped) if everything else int((sound_before < self._records).sum())
        bad = skipped[:until]
        del skipped[:until]
        self._judged += until
        breaks = _line_breaks(rows)
        broken = [
            np.stack([records[breaks > 0], breaks[breaks > 0]], axis=1),
            np.array([(b.number, n) for b in bad if (n := b.text.count("\n"))], dtype=np.int64).reshape(-1, 2),
        ]
        self._broken = np.concatenate(broken)
        self._broken = self._broken[np.argsort(self._broken[:, 0])]
        lines = self._lines(records)
        self.last = max([self.last, *lines[-1:].tolist()])
        found = Batch(rows, lines, [self._bad_row(row) for row in bad])
        self._breaks += int(self._broken[:, 1].sum())
        return found

    def _bad_row(self, row: Any) -> BadRow:
        over = f" over {row.text.count(chr(10)) + 1} lines" if "\n" in row.text else ""
        counts = f"{row.actual_columns} columns, not {row.expected_columns}{over}"
        return BadRow(int(self._lines(np.array([row.number]))[0]), "ragged_row", counts, row.text)

    def _lines(self, records: np.ndarray) -> np.ndarray:
        at, breaks = self._broken.T
        return records + self._breaks + np.concatenate([[0], np.cumsum(breaks)])[np.searchsorted(at, records)]


def _line_breaks(rows: pa.RecordBatch) -> np.ndarray:
    """How many each row holds; looked for in the columns' bytes first, where there are hardly ever any."""
    counts = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        data = column.buffers()[2]
        if data is not None and (np.frombuffer(data, np.uint8) == ord("\n")).any():
            counts += np.asarray(pc.fill_null(pc.count_substring(column, "\n"), 0))
    return counts
