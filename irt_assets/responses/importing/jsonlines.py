"""Files of one JSON object a line."""

from __future__ import annotations

import codecs
import io
import json
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from irt_assets.responses.importing import sources
from irt_assets.responses.importing.sources import BadRow, Batch, TextSource, check_names
from resources.failures import PermanentFailure

MOST_KEYS = 10_000


class JsonLinesSource(TextSource):
    """A block of flat objects whose values have one type each is parsed once and as a whole, and kept in a temporary
    file, as its keys are needed before its rows are. Others are read line by line."""

    kind = "JSON lines"

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        super().__init__(path, encoding)
        self._tables = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the source is there
        weakref.finalize(self, self._tables.close)
        self._places: list[int | None] = []  # of each block's table; None: it is read line by line

    @cached_property
    def columns(self) -> list[str]:  # type: ignore[override]
        """The keys of the whole file: one that first comes in its last line is a column too."""
        names: dict[str, None] = {}
        for line, text in self._texts():
            table = _at_once(text)
            self._places.append(None if table is None else self._tables.tell())
            if table is not None:
                names.update(dict.fromkeys(table.column_names))
                with pa.ipc.new_stream(self._tables, table.schema) as stream:
                    stream.write_table(table)
            else:
                for raw in text.decode().split("\n"):
                    names.update(dict.fromkeys(_keys(raw)))
            if len(names) > MOST_KEYS:
                raise PermanentFailure(
                    f"{self.path}: {len(names):,} different keys up to the block that begins in line {line}; at most"
                    f" {MOST_KEYS:,} are columns. Objects whose keys are data are written as one row each."
                )
        check_names(self.path, names)
        return list(names)

    def batches(self) -> Iterator[Batch]:
        columns = self.columns
        for place, (line, text) in zip(self._places, self._texts(), strict=False):  # the file may have grown since
            if place is None:
                yield self._one_by_one(text, line)
                continue
            self._tables.seek(place)
            table = pa.ipc.open_stream(self._tables).read_all()
            count = table.num_rows
            texts = {name: pc.cast(table[name], pa.string()) for name in table.column_names}
            arrays = [texts.get(name, pa.nulls(count, pa.string())) for name in columns]
            whole = pa.table(arrays, names=columns).combine_chunks()
            yield Batch(whole.to_batches()[0], np.arange(line, line + count))

    def raw(self, row: dict[str, Any]) -> str:
        return json.dumps(row, ensure_ascii=False)

    def _one_by_one(self, text: bytes, line: int) -> Batch:
        rows, lines, bad = [], [], []
        for number, raw in enumerate(text.decode().split("\n"), start=line):
            if not raw.strip():
                continue
            try:
                rows.append({name: as_cell(value) for name, value in _parsed(raw).items()})
                lines.append(number)
            except NotKept as error:
                bad.append(BadRow(number, "bad_json", str(error), raw))
        schema = pa.schema([(name, pa.string()) for name in self.columns])
        return Batch(pa.RecordBatch.from_pylist(rows, schema), np.array(lines, dtype=np.int64), bad)

    def _texts(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines as UTF-8, some megabytes at a time, and the number of the first of them."""
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
                    raise PermanentFailure(f"{self.path}, line {line}: longer than {sources.BLOCK:,} bytes.")
        if rest:
            yield line, self._utf8(rest)

    def _utf8(self, text: bytes) -> bytes:
        return text if self.encoding == "utf-8" else text.decode(self.encoding).encode()


def _at_once(text: bytes) -> pa.Table | None:
    """Lines that each are one object of texts, whole numbers, booleans and nulls; None where there are others.

    Nested values are never given to this parser, which a deep one crashes.
    """
    count = text.count(b"\n") + (not text.endswith(b"\n"))
    flat = text.count(b"{") == count and b"[" not in text
    if not flat or not text.startswith(b"{") or text.count(b"\n{") != count - 1:
        return None
    lines = text.rstrip(b"\n")
    try:
        first, last = (_parsed(line.decode()) for line in (lines.partition(b"\n")[0], lines.rpartition(b"\n")[2]))
    except NotKept:
        return None
    if list(first) != list(last):  # keys that are data would make a column for each line
        return None
    strings = pa.schema([(name, pa.string()) for name, value in first.items() if isinstance(value, str)])
    try:
        table = pajson.read_json(
            io.BytesIO(text),
            read_options=pajson.ReadOptions(use_threads=False, block_size=max(len(text), 1)),
            parse_options=pajson.ParseOptions(explicit_schema=strings, newlines_in_values=False),
        )
    except pa.ArrowInvalid:
        return None
    simple = all(
        pa.types.is_string(t) or pa.types.is_integer(t) or pa.types.is_boolean(t) or pa.types.is_null(t)
        for t in table.schema.types
    )
    return table if simple and table.num_rows == count else None


class NotKept(Exception):
    """JSON that would not be kept as it is written, or is none; the message says why."""


class _Number(float):
    """A number with a decimal point or an exponent, with its digits as the file has them."""

    def __new__(cls, digits: str) -> _Number:
        number = super().__new__(cls, digits)
        number.digits = digits
        return number

    digits: str


def parse(text: str) -> Any:
    """The value of a JSON text. Raises NotKept, also for keys that occur twice, NaN and half a character."""
    try:
        parsed = json.loads(text, parse_float=_Number, parse_constant=_refuse, object_pairs_hook=_of_pairs)
    except RecursionError:
        raise NotKept("nested too deeply") from None
    except ValueError:
        raise NotKept("not JSON") from None
    if "\\u" in text and not _is_text(parsed):
        raise NotKept("half of a surrogate pair is not a character")
    return parsed


def _parsed(line: str) -> dict[str, Any]:
    parsed = parse(line)
    if not isinstance(parsed, dict):
        raise NotKept("not a JSON object")
    return parsed


def _keys(line: str) -> Iterable[str]:
    try:
        return _parsed(line)
    except NotKept:
        return ()


def _of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        raise NotKept(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return document


def _refuse(constant: str) -> float:
    raise NotKept(f"{constant} is not JSON")


def _is_text(document: Any) -> bool:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_cell(value: Any) -> str | None:
    """A value as a file's cell has it. Raises NotKept for a number that is none."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, _Number):
        return value.digits
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise NotKept("a number too large to be one") from None
