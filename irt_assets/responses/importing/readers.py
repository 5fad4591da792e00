"""Files as streams of record batches: CSV, TSV, JSON lines (each also gzipped) and Parquet.

What belongs here: what a file is (told from its content, never from its name), its encoding, its lines.
What its columns mean is in `mapping`, what its values mean in `clean`.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from resources.failures import PermanentFailure

BLOCK = 8 * 2**20  # bytes of text a batch: about 80,000 answers, tens of megabytes while they are cleaned
HEAD = 2**20
DELIMITERS = {"\t": "TSV", ",": "CSV", ";": "CSV with semicolons"}


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read as one."""

    line: int
    reason: Literal["ragged_row", "bad_json"]
    value: str
    raw: str


@dataclass(frozen=True)
class Batch:
    """Rows as they are in the file. `lines`: int64, the line each begins at (from 1; in Parquet, its row)."""

    rows: pa.RecordBatch
    lines: np.ndarray
    bad: list[BadRow] = field(default_factory=list)


def open_source(path: Path) -> Source:
    """What `path` holds, told from its first bytes."""
    try:
        head = _head(path)
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be read: {error}") from error
    if head.startswith(b"PAR1"):
        return ParquetSource(path)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PermanentFailure(f"{path} is UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8).")
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not start:
        raise PermanentFailure(f"{path} is empty: not even a header.")
    if start.startswith(b"["):
        raise PermanentFailure(f"{path} is a JSON array: write one object per line (jq -c '.[]').")
    return JsonLinesSource(path) if start.startswith(b"{") else CsvSource(path)


class Source(ABC):
    """A file: its columns, roughly how many rows it has, and its rows, any number of times."""

    kind: str
    columns: list[str]
    rows: int  # an estimate, for progress

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def encoding(self) -> str:
        return "utf-8"

    @cached_property
    def sha256(self) -> str:
        """Of the content; the same for a file and its gzip."""
        digest = hashlib.sha256()
        for block in _blocks(self.path):
            digest.update(block)
        return digest.hexdigest()

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """The rows, some ten thousand at a time."""

    def raw(self, row: dict[str, Any]) -> str:
        """A row as the file would write it."""
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(["" if value is None else value for value in row.values()])
        return text.getvalue()


class _TextSource(Source):
    """A file of lines; reads it once at first to count them and to know its encoding."""

    @cached_property
    def _scan(self) -> _Scan:
        lines = quotes = 0
        encoding = "utf-8"
        decoder = codecs.getincrementaldecoder("utf-8")()
        for block in _blocks(self.path):
            lines += block.count(b"\n")
            quotes += block.count(b'"')
            if encoding == "utf-8":
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    encoding = "latin-1"  # every byte is a character of it
        return _Scan(lines, quotes, encoding)

    @property
    def encoding(self) -> str:
        return self._scan.encoding

    @property
    def rows(self) -> int:  # type: ignore[override]
        return self._scan.lines


@dataclass(frozen=True)
class _Scan:
    lines: int
    quotes: int
    encoding: str


class CsvSource(_TextSource):
    """Text columns, one per name of the header; a name that returns gets ` (2)`, ` (3)` … behind it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        head = _head(path).removeprefix(codecs.BOM_UTF8).decode(self.encoding, errors="ignore")
        first = head.splitlines()[0]
        self._delimiter = max(DELIMITERS, key=first.count)
        self.kind = DELIMITERS[self._delimiter]
        reader = csv.reader(io.StringIO(head), delimiter=self._delimiter)
        self.columns = _unique([name.strip() for name in next(reader)])
        self._header_lines = reader.line_num

    def batches(self) -> Iterator[Batch]:
        if self.rows <= self._header_lines and not _has_rows(self.path, self._header_lines):
            return
        skipped: list[Any] = []  # of pyarrow's: number (from 1, the header's too), text, actual_columns

        def skip(row: Any) -> str:
            skipped.append(row)
            return "skip"

        read_options = pacsv.ReadOptions(
            column_names=self.columns,
            skip_rows=self._header_lines,
            block_size=BLOCK,
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
            for rows in pacsv.open_csv(_stream(self.path), read_options, parse_options, convert_options):
                yield lines.of(rows, skipped)
        except pa.ArrowInvalid as error:
            raise self._unclosed(lines.last, str(error)) from error
        except OSError as error:
            raise PermanentFailure(f"{self.path} cannot be read after line {lines.last}: {error}") from error
        empty = pa.RecordBatch.from_pylist([], schema=pa.schema([(name, pa.string()) for name in self.columns]))
        rest = lines.of(empty, skipped, everything=True)
        self._check_end(rows, rest, lines.last)
        if rest.bad:
            yield rest

    def _check_end(self, rows: pa.RecordBatch | None, rest: Batch, last: int) -> None:
        """The parser takes the end of the file for the end of a quotation that nobody closed."""
        if self._scan.quotes % 2 == 0:
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


class _Lines:
    """Which line of a CSV each record begins at, given that quoted values may hold line breaks."""

    def __init__(self, header_lines: int) -> None:
        self._header_lines = header_lines
        self._records = 0  # sound ones so far
        self._judged = 0  # bad ones so far
        self._broken: list[np.ndarray] = [np.zeros((0, 2), dtype=np.int64)]  # record, line breaks in it
        self.last = header_lines

    def of(self, rows: pa.RecordBatch, skipped: list[Any], *, everything: bool = False) -> Batch:
        ordinals = np.arange(self._records, self._records + rows.num_rows)
        numbers = np.array([bad.number for bad in skipped], dtype=np.int64)
        sound_before = numbers - self._header_lines - 1 - np.arange(len(numbers))
        records = ordinals + np.searchsorted(sound_before, ordinals, side="right") + self._header_lines + 1
        self._records += rows.num_rows
        until = len(skipped) if everything else int((sound_before < self._records).sum())
        bad, self._judged = skipped[self._judged : until], until
        breaks = _line_breaks(rows)
        self._broken += [
            np.stack([records[breaks > 0], breaks[breaks > 0]], axis=1),
            np.array([(b.number, n) for b in bad if (n := b.text.count("\n"))], dtype=np.int64).reshape(-1, 2),
        ]
        broken = np.concatenate(self._broken)
        self._broken = [broken[np.argsort(broken[:, 0])]]
        lines = self._lines(records)
        self.last = max([self.last, *lines[-1:].tolist()])
        return Batch(rows, lines, [self._bad_row(row) for row in bad])

    def _bad_row(self, row: Any) -> BadRow:
        over = f" over {row.text.count(chr(10)) + 1} lines" if "\n" in row.text else ""
        counts = f"{row.actual_columns} columns, not {row.expected_columns}{over}"
        return BadRow(int(self._lines(np.array([row.number]))[0]), "ragged_row", counts, row.text)

    def _lines(self, records: np.ndarray) -> np.ndarray:
        at, breaks = self._broken[0].T
        return records + np.concatenate([[0], np.cumsum(breaks)])[np.searchsorted(at, records)]


def _line_breaks(rows: pa.RecordBatch) -> np.ndarray:
    """How many each row holds; looked for in the columns' bytes first, where there are hardly ever any."""
    counts = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        data = column.buffers()[2]
        if data is not None and (np.frombuffer(data, np.uint8) == ord("\n")).any():
            counts += np.asarray(pc.fill_null(pc.count_substring(column, "\n"), 0))
    return counts


class JsonLinesSource(_TextSource):
    """One JSON object per line. A block whose values have one type each is read at once, others line by line."""

    kind = "JSON lines"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        head = _head(path).removeprefix(codecs.BOM_UTF8).decode(self.encoding, errors="ignore").splitlines()
        names: dict[str, None] = {}
        for line in head[: max(1, len(head) - 1)]:  # the last one may be cut off
            parsed = _object(line)
            names.update(dict.fromkeys(parsed or ()))
        self.columns = list(names)

    def batches(self) -> Iterator[Batch]:
        line = 1
        for block in _whole_lines(self.path):
            text = block if self.encoding == "utf-8" else block.decode(self.encoding).encode()
            count = text.count(b"\n") + (not text.endswith(b"\n"))
            batch = self._at_once(text, line, count) or self._one_by_one(text, line)
            line += count
            yield batch

    def _at_once(self, text: bytes, line: int, count: int) -> Batch | None:
        first = _object(text[: text.find(b"\n") + 1 or None].decode()) or {}
        texts = pa.schema([(name, pa.string()) for name, value in first.items() if isinstance(value, str)])
        try:
            table = pajson.read_json(
                io.BytesIO(text),
                read_options=pajson.ReadOptions(use_threads=False, block_size=max(len(text), 1)),
                parse_options=pajson.ParseOptions(explicit_schema=texts, newlines_in_values=False),
            )
        except pa.ArrowInvalid:
            return None
        simple = all(
            pa.types.is_string(t) or pa.types.is_integer(t) or pa.types.is_boolean(t) or pa.types.is_null(t)
            for t in table.schema.types
        )
        if not simple or table.num_rows != count:
            return None
        columns = {name: pc.cast(table[name], pa.string()) for name in table.column_names}
        arrays = [columns.get(name, pa.nulls(count, pa.string())) for name in self.columns]
        table = pa.table(arrays, names=self.columns).combine_chunks()
        return Batch(table.to_batches()[0], np.arange(line, line + count))

    def _one_by_one(self, text: bytes, line: int) -> Batch:
        cells: dict[str, list[str | None]] = {name: [] for name in self.columns}
        lines, bad = [], []
        for number, raw in enumerate(text.decode().split("\n"), start=line):
            if not raw.strip():
                continue
            row = _object(raw)
            if row is None:
                bad.append(BadRow(number, "bad_json", "not a JSON object", raw))
                continue
            lines.append(number)
            for name, values in cells.items():
                values.append(_json_text(row.get(name)))
        arrays = [pa.array(values, pa.string()) for values in cells.values()]
        return Batch(pa.record_batch(arrays, names=self.columns), np.array(lines, dtype=np.int64), bad)

    def raw(self, row: dict[str, Any]) -> str:
        return json.dumps(row, ensure_ascii=False)


class ParquetSource(Source):
    """Columns keep their types."""

    kind = "Parquet"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with pq.ParquetFile(path) as file:
                self.columns = file.schema_arrow.names
                self.rows = file.metadata.num_rows
        except pa.ArrowInvalid as error:
            raise PermanentFailure(f"{path} is a broken Parquet file: {error}") from error

    def batches(self) -> Iterator[Batch]:
        done = 0
        with pq.ParquetFile(self.path) as file:
            for rows in file.iter_batches(batch_size=65_536):
                yield Batch(rows, np.arange(done + 1, done + rows.num_rows + 1))
                done += rows.num_rows


def _stream(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression="gzip" if _is_gzip(path) else None)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _head(path: Path) -> bytes:
    with _stream(path) as stream:
        return bytes(stream.read(HEAD))


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with _stream(path) as stream:
            while block := stream.read(BLOCK):
                yield block
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be read to its end: {error}") from error


def _whole_lines(path: Path) -> Iterator[bytes]:
    rest = b""
    for number, block in enumerate(_blocks(path)):
        block = block.removeprefix(codecs.BOM_UTF8) if number == 0 else block
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
    if rest:
        yield rest


def _has_rows(path: Path, header_lines: int) -> bool:
    """Whether anything follows the header; a last line need not end in a line break."""
    with _stream(path) as stream:
        return len(bytes(stream.read(HEAD)).splitlines()) > header_lines


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _object(line: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
