"""Files with one JSON object per line."""

import codecs
import io
import json
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from irt_assets.intake import sources
from irt_assets.intake.sources import BadRow, Batch, TextSource, check_columns
from irt_psychometrics.commands import parse_json as parse_strictly
from resources.failures import PermanentFailure

SAMPLE = 100  # lines that show which keys and types a block has
ARROW_TYPES = {str: pa.string(), int: pa.int64(), bool: pa.bool_()}


class JsonLinesSource(TextSource):
    """A file of JSON lines.

    A block of flat objects in which each key has values of one type is parsed as a whole. Its table is kept in a
    temporary file, because the keys of all blocks are needed before the first row. Other blocks are read line by line.
    """

    kind = "JSON lines"

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        super().__init__(path, encoding)
        self._tables = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the source exists
        weakref.finalize(self, self._tables.close)
        self._offsets: list[int | None] = []  # of each block's table; None: read by line

    @cached_property
    def columns(self) -> list[str]:  # type: ignore[override]
        """The keys of the whole file: a key that first occurs in the last line is a column too."""
        names: dict[str, None] = {}
        for line, text in self._texts():
            table = _parse_block(text)
            self._offsets.append(None if table is None else self._tables.tell())
            if table is not None:
                names.update(dict.fromkeys(table.column_names))
                with pa.ipc.new_stream(self._tables, table.schema) as stream:
                    stream.write_table(table)
            else:
                self._add_keys(names, text, line)
        check_columns(self.path, names)
        return list(names)

    def _add_keys(self, names: dict[str, None], text: bytes, line: int) -> None:
        """Add the keys of a block's objects. Raises PermanentFailure if there are too many."""
        for number, raw in enumerate(text.decode().split("\n"), start=line):
            if not raw.strip():
                continue
            with suppress(ValueError):
                names.update(dict.fromkeys(_parse_object(raw)))
            if len(names) > sources.MAX_COLUMNS:
                raise PermanentFailure(
                    f"{self.path}: {len(names):,} different keys up to line {number}; at most {sources.MAX_COLUMNS:,}"
                    " are columns. Objects whose keys are data are written as one row each."
                )

    def batches(self) -> Iterator[Batch]:
        columns = self.columns
        for offset, (line, text) in zip(self._offsets, self._texts(), strict=False):  # the file may have grown since
            if offset is None:
                yield from self._parse_lines(text, line)
                continue
            self._tables.seek(offset)
            table = pa.ipc.open_stream(self._tables).read_all()
            texts = {name: pc.cast(table[name], pa.string()).combine_chunks() for name in table.column_names}
            whole = Batch(self._rows(texts, table.num_rows), np.arange(line, line + table.num_rows))
            yield from whole.split(_rows_at_once(columns))

    def _rows(self, texts: dict[str, pa.StringArray], count: int) -> pa.RecordBatch:
        """Rows with all columns of the file. Absent columns share one array of nulls."""
        absent = pa.nulls(count, pa.string())
        return pa.RecordBatch.from_arrays([texts.get(name, absent) for name in self.columns], names=self.columns)

    def raw(self, row: dict[str, Any]) -> str:
        return json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False)

    def _parse_lines(self, text: bytes, line: int) -> Iterator[Batch]:
        numbered = [(n, raw) for n, raw in enumerate(text.decode().split("\n"), start=line) if raw.strip()]
        step = _rows_at_once(self.columns)
        for start in range(0, len(numbered), step):
            rows: dict[int, dict[str, str | None]] = {}
            bad: list[BadRow] = []
            for number, raw in numbered[start : start + step]:
                try:
                    rows[number] = {name: as_cell(value) for name, value in _parse_object(raw).items()}
                except ValueError as error:
                    bad.append(BadRow(number, "bad_json", str(error), raw))
            named = {name for row in rows.values() for name in row}
            texts = {name: pa.array([row.get(name) for row in rows.values()], pa.string()) for name in named}
            yield Batch(self._rows(texts, len(rows)), np.array([*rows], dtype=np.int64), bad)

    def _texts(self) -> Iterator[tuple[int, bytes]]:
        """Yield whole lines as UTF-8, some megabytes at a time, with the number of their first line."""
        line = 1
        rest = b""
        for number, block in enumerate(sources.blocks(self.path)):
            content = block.removeprefix(codecs.BOM_UTF8) if number == 0 else block
            cut = content.rfind(b"\n") + 1
            if cut:
                yield line, self._utf8(rest + content[:cut])
                line += rest.count(b"\n") + content.count(b"\n")
                rest = content[cut:]
            else:
                rest += content
                if len(rest) > 2 * sources.BLOCK:
                    raise PermanentFailure(f"{self.path}, line {line}: longer than {sources.BLOCK:,} bytes")
        if rest:
            yield line, self._utf8(rest)

    def _utf8(self, text: bytes) -> bytes:
        return text if self.encoding == "utf-8" else text.decode(self.encoding).encode()


def _parse_block(text: bytes) -> pa.Table | None:
    """Parse lines that are flat objects of text, whole numbers, booleans and nulls. Returns None if some are not.

    Nested values are never given to this parser, because deep nesting crashes it.
    """
    lines = text.rstrip(b"\n").split(b"\n")
    flat = text.count(b"{") == len(lines) and b"[" not in text
    if not flat or not text.startswith(b"{") or text.count(b"\n{") != len(lines) - 1:
        return None
    try:
        schema = _schema([_parse_object(line.decode()) for line in [*lines[:: len(lines) // SAMPLE + 1], lines[-1]]])
        if len(lines) * len(schema) > len(text):
            return None
        table = pajson.read_json(
            io.BytesIO(text),
            read_options=pajson.ReadOptions(use_threads=False, block_size=max(len(text), 1)),
            parse_options=pajson.ParseOptions(
                explicit_schema=schema,
                newlines_in_values=False,
                unexpected_field_behavior="error",  # keys that are data would make a column for each line
            ),
        )
    except (ValueError, pa.ArrowInvalid):
        return None
    return table if table.num_rows == len(lines) else None


def _schema(sample: list[dict[str, Any]]) -> pa.Schema:
    """Return the type of each key's values. Raises ValueError if a key has several types, or an unsupported one."""
    types: dict[str, set[type]] = {}
    for row in sample:
        for name, value in row.items():
            types.setdefault(name, set()).update([] if value is None else [type(value)])
    if any(len(found) > 1 or not found <= ARROW_TYPES.keys() for found in types.values()):
        raise ValueError("values are not of one type")
    return pa.schema([(name, ARROW_TYPES[found.pop()] if found else pa.null()) for name, found in types.items()])


def _rows_at_once(columns: list[str]) -> int:
    return max(1, sources.MAX_CELLS // max(1, len(columns)))


class _Number(float):
    """A number with a decimal point or an exponent, with its digits as the file has them."""

    def __new__(cls, digits: str) -> "_Number":
        number = super().__new__(cls, digits)
        number.digits = digits
        return number

    digits: str


def parse_json(text: str) -> Any:
    """Parse JSON, and keep the digits of its numbers. Raises ValueError with the reason if it cannot be stored."""
    return parse_strictly(text, parse_float=_Number)


def _parse_object(line: str) -> dict[str, Any]:
    parsed = parse_json(line)
    if not isinstance(parsed, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the text is at fault
    return parsed


def as_cell(value: Any) -> str | None:
    """Convert a value to the text of a cell. Raises ValueError for an infinite number."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, _Number):
        return value.digits
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ValueError("a number too large to be one") from None
