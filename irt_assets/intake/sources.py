"""Common parts of all readers of files: batches of numbered rows, and blocks of bytes."""

import codecs
import csv
import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from irt_assets.common.wording import some_of
from irt_assets.intake.text_encoding import SAMPLE, not_utf8_error
from resources.failures import PermanentFailure

BLOCK = 8 * 2**20  # bytes of text per batch: about 80,000 answers, tens of megabytes while they are cleaned
HEAD = 2**20
MAX_COLUMNS = 20_000
MAX_NAMED = 200  # columns that a message names
MAX_CELLS = 2**22  # cells of a batch, for nulls and repeated values, which need no bytes in the file
MAX_EMPTY_CELLS = 2**24  # cells of the empty lines of a block
MIN_COLUMNS_COUNTED = 16  # so that 2^20 empty lines of a block are too many in any file
MAX_UNREADABLE_ROWS = 200_000  # in a block


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be split into cells."""

    line: int
    reason: str
    value: str
    raw: str


@dataclass(frozen=True)
class Batch:
    """Rows as they are in the file. `lines`: int64, the number of each row from 1; in a table the header and empty rows
    count too, as in spreadsheets."""

    rows: pa.RecordBatch
    lines: np.ndarray
    bad: list[BadRow] = field(default_factory=list)

    def split(self, size: int) -> Iterator["Batch"]:
        """The same rows, at most `size` at a time; the bad rows come with the first."""
        for start in range(0, max(1, self.rows.num_rows), size):
            end = start + size
            yield Batch(self.rows[start:end], self.lines[start:end], [] if start else self.bad)


class Source(ABC):
    """A file: its columns, roughly how many rows it has, and its rows, any number of times."""

    kind: str
    encoding: str = "utf-8"
    address: str = ""  # its origin, if `path` is a copy
    columns: list[str]
    rows: int  # an estimate, for progress

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Name in reports and messages."""
        return self.address or str(self.path)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content; the same for a file and its gzip."""
        digest = hashlib.sha256()
        for block in blocks(self.path):
            digest.update(block)
        return digest.hexdigest()

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Yield the rows, some ten thousand at a time."""

    def raw(self, row: dict[str, Any]) -> str:
        """A row of `plain_rows` as the file would write it."""
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(["" if value is None else value for value in row.values()])
        return text.getvalue()


class TableSource(Source):
    """Rows that are not in a file. `read` returns them and may be called several times; lines are row numbers."""

    kind = "table"

    def __init__(self, name: str, columns: list[str], rows: int, read: Callable[[], Iterable[pa.RecordBatch]]) -> None:
        super().__init__(Path(name))
        self.columns, self.rows, self._read = columns, rows, read

    def batches(self) -> Iterator[Batch]:
        done = 0
        for rows in self._read():
            yield Batch(rows, np.arange(done + 1, done + rows.num_rows + 1))
            done += rows.num_rows


class TextSource(Source):
    """A file of lines. It is read once when it is opened, to count its lines and to check its encoding.

    `quotes`, `empty_lines`: number of quotation marks, and the largest number of empty lines in a block.

    `encoding`: encoding of a file that is not UTF-8. Raises PermanentFailure if the file is neither UTF-8 nor in this
    encoding.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        super().__init__(path)
        self.rows = self.quotes = self.empty_lines = returns = 0
        fitting = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8", encoding) if name}
        for block in chain(blocks(path), [b""]):
            self.rows += block.count(b"\n")
            self.empty_lines = max(self.empty_lines, sum(map(block.count, (b"\n\n", b"\n\r", b"\r\r"))))
            self.quotes += block.count(b'"')
            returns += block.count(b"\r")
            for name in [*fitting]:
                try:
                    fitting[name].decode(block, final=not block)
                except UnicodeDecodeError:
                    del fitting[name]
        if not fitting:
            line, sample = _first_wrong_line(path, encoding or "utf-8")
            if encoding is None:
                raise not_utf8_error(path, line, sample)
            raise PermanentFailure(f"{path}, line {line}: this is neither {encoding} nor UTF-8")
        self.encoding = next(iter(fitting))
        self.rows = self.rows or returns


def _first_wrong_line(path: Path, encoding: str) -> tuple[int, bytes]:
    """Return the number of the first line that is not in the encoding, and lines from this line on."""
    number, rest = 1, b""
    for block in chain(blocks(path), [b"\n"]):
        text = rest + block
        end = text.rfind(b"\n") + 1
        try:
            text[:end].decode(encoding)
        except UnicodeDecodeError as error:
            start = text.rfind(b"\n", 0, error.start) + 1
            whole, _, part = text[start : start + SAMPLE].rpartition(b"\n")
            return number + text.count(b"\n", 0, start), whole or part
        number, rest = number + text.count(b"\n"), text[end:]
    return number, rest


def plain(cells: pa.Array | pa.Scalar) -> Any:
    """Cells as Python values. Times that Python's datetime cannot hold become text."""
    try:
        return cells.as_py() if isinstance(cells, pa.Scalar) else cells.to_pylist()
    except (ArithmeticError, ValueError):
        return plain(cells.cast(pa.string()))


def plain_rows(rows: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as {column: value}."""
    columns = [plain(cells) for cells in rows.columns]
    return (dict(zip(rows.schema.names, values, strict=True)) for values in zip(*columns, strict=True))


def stream(path: Path) -> pa.NativeFile:
    """The bytes of a file, unpacked; UTF-16 with a byte order mark becomes UTF-8."""
    with path.open("rb") as file:
        packing = "gzip" if file.read(2) == b"\x1f\x8b" else None
    with pa.input_stream(str(path), compression=packing) as opened:
        has_mark = opened.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    opened = pa.input_stream(str(path), compression=packing)
    return pa.transcoding_input_stream(opened, "utf-16", "utf-8") if has_mark else opened


def head(path: Path) -> bytes:
    with stream(path) as opened:
        return bytes(opened.read(HEAD))


def blocks(path: Path) -> Iterator[bytes]:
    try:
        with stream(path) as opened:
            while block := opened.read(BLOCK):
                yield block
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be read to its end: {error}") from error


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, with the suffixes ` (2)`, ` (3)` … if they repeat."""
    unique: dict[str, None] = {}
    numbers: dict[str, int] = {}
    for name in names:
        free = name
        while free in unique:
            numbers[name] = numbers.get(name, 1) + 1
            free = f"{name} ({numbers[name]})"
        unique[free] = None
    return list(unique)


def names_of(columns: Sequence[str], most: int = MAX_NAMED) -> str:
    """List the first columns of a file, each cut to a readable length."""
    return some_of([name if len(name) <= 100 else f"{name[:99]}…" for name in columns], most)


def check_columns(path: Path, names: Collection[str]) -> None:
    """Raise PermanentFailure for too many columns, and for a name that the database cannot store."""
    if len(names) > MAX_COLUMNS:
        raise PermanentFailure(f"{path}: {len(names):,} columns; a file has at most {MAX_COLUMNS:,}")
    if any("\0" in name for name in names):
        raise PermanentFailure(f"{path}: a column's name contains the character NUL. Is it the right file?")
