"""Random files for tests of readers: intact files with a known number of rows, and damaged copies of them.

`test_import_readers` reads them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

Row = dict[str, str | None]
KINDS = ("csv", "semicolons", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz")

# Cells that people and programs write, and cells that break parsers.
ODD = [
    *("", " ", "0", "1", "-1", "1.0", "1e19", "1e999", "NaN", "inf", "NULL", "NA", "true", "\\N", "007", "1_000", "١"),
    *(
        "é" * 3,
        "😀",
        "a,b;c\td",
        'say "hi"',
        "two\nlines",
        "two\r\nlines",
        "\u2028",
        "\x85",
        "\ufeff",
        "a\0b",
        "x" * 700,
    ),
    *('{"a": 1}', '{"a": NaN}', '"', "[1, 2]", '{"x": "\\u0000"}', '{"x": "\\ud800"}', "=1+1", "a;b", "D" * 20),
    *("2026-07-01T12:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2026-07-01", "1782907200"),
]
odd = st.sampled_from(ODD) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@dataclass(frozen=True)
class File:
    """A file's content. `rows`: number of rows that are not blank, or None if the damage makes the number ambiguous."""

    kind: str
    content: bytes
    rows: int | None = None


def is_blank(row: Row) -> bool:
    return all(cell in (None, "") for cell in row.values())


def write_rows(kind: str, rows: list[Row]) -> bytes:
    """Write rows, which have the same columns, as a file of this kind."""
    packed = kind.endswith(".gz")
    kind = kind.removesuffix(".gz")
    names = list(rows[0])
    if kind == "parquet":
        sink = pa.BufferOutputStream()
        table = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in names})
        pq.write_table(table, sink, compression="none", write_page_checksum=True)
        content = bytes(sink.getvalue())
    elif kind == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=len(row) % 2 == 0) + "\n" for row in rows).encode()
    else:
        text = io.StringIO(newline="")
        delimiter = {"csv": ",", "semicolons": ";", "tsv": "\t"}[kind]
        writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([[cell or "" for cell in row.values()] for row in rows])
        content = text.getvalue().encode()
    return gzip.compress(content, mtime=0) if packed else content


# Bytes that damage a file: inserted, or written over the same number of bytes.
PIECES = [
    *(b"", b"\r", b"\n", b"\r\n", b'"', b",", b";", b"\t", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf"),
    *(b'""', b'"\n"', b"\n\n", b",,,,", b"{", b"}", b"[", b"]", b"\\", b":", b"\\ud800", b"\\u0000", b"NaN", b"1e999"),
    *(
        b"-Infinity",
        b"null",
        b"true",
        b"[" * 2_000,
        b'{"a":' * 2_000,
        b"9" * 5_000,
        b"x" * 150_000,
        b"PAR1",
        b"\x1f\x8b",
    ),
    *(
        b'{"user_id": 1, "user_id": 2}',
        b'{"items": 3, "latent": [1]}',
        b"&a [*a]",
        b"!!python/object:os.system",
        b"%Y %Y",
    ),
]
damage = st.tuples(
    st.sampled_from(["insert", "overwrite", "delete", "repeat", "cut", "flip"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 40),
    st.sampled_from(PIECES) | st.binary(max_size=6),
)


def damage_bytes(content: bytes, damages: list[tuple[str, float, int, bytes]]) -> bytes:
    for kind, position, length, piece in damages:
        at = int(position * len(content))
        end = at + length
        if kind == "insert":
            content = content[:at] + piece + content[at:]
        elif kind == "overwrite":
            content = content[:at] + piece + content[at + len(piece) :]
        elif kind == "delete":
            content = content[:at] + content[end:]
        elif kind == "repeat":
            content = content[:end] + content[at:]
        elif kind == "cut":
            content = content[:at]
        elif at < len(content):
            content = content[:at] + bytes([content[at] ^ (1 << length % 8)]) + content[at + 1 :]
    return content


@st.composite
def tables(draw: st.DrawFn, columns: dict[str, st.SearchStrategy[str | None]], most: int = 12) -> File:
    """Draw a file of rows with these columns, of any kind, damaged or not."""
    kind = draw(st.sampled_from(KINDS))
    rows = draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=most))
    damages = draw(st.just([]) | st.lists(damage, min_size=1, max_size=3))
    return damage_file(File(kind, write_rows(kind, rows), sum(not is_blank(row) for row in rows)), damages)


def damage_file(file: File, damages: list[tuple[str, float, int, bytes]]) -> File:
    """Damage a file. If it is packed, half of the time the unpacked content is damaged and packed again."""
    if not damages:
        return file
    if file.kind.endswith(".gz") and damages[0][2] % 2:
        content = gzip.compress(damage_bytes(gzip.decompress(file.content), damages), mtime=0)
    else:
        content = damage_bytes(file.content, damages)
    return File(file.kind, content, _count_rows(file.kind, content))


def _count_rows(kind: str, content: bytes) -> int | None:
    """Count the rows of a text with Python's own parsers. Returns None if they cannot parse it either."""
    try:
        if kind.endswith(".gz"):
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (OSError, EOFError, ValueError, gzip.zlib.error):
        return None
    kind = kind.removesuffix(".gz")
    if kind == "jsonl" and text.lstrip().startswith("{"):
        return sum(not _is_blank_object(line) for line in text.split("\n") if line.strip())
    if kind in ("csv", "tsv", "semicolons") and not text.lstrip().startswith(("{", "[")):
        delimiter = {"csv": ",", "semicolons": ";", "tsv": "\t"}[kind]
        header = text.lstrip("\r\n").split("\n")[0]
        if any(header.count(other) >= header.count(delimiter) for other in ",;\t" if other != delimiter):
            return None  # the delimiter has become ambiguous
        try:
            records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        except csv.Error:
            return None
        # A ragged row is counted, and rejected, if only a pair of quotes is left of it.
        return sum(any(record) or len(record) not in (0, len(records[0])) for record in records) - 1
    return None


def _is_blank_object(line: str) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and is_blank(row)


FAR = 2**62
TYPED: list[Callable[[], pa.Array]] = [
    lambda: pa.array([1e19, 2e19]),
    lambda: pa.array([float("inf"), float("nan")]),
    lambda: pa.array(np.array([1, 2048], dtype=np.float16)),
    lambda: pa.array([FAR, -FAR]).cast(pa.timestamp("ms")),
    lambda: pa.array([FAR, -FAR]).cast(pa.timestamp("ns", "UTC")),
    lambda: pa.array([2**31 - 1, -(2**31)], pa.int32()).cast(pa.date32()),
    lambda: pa.array([[1], [2]]),
    lambda: pa.array([{"a": 1}, None]),
    lambda: pa.array([b"\xff", b"ok"]),
    lambda: pa.array(["a", "b"]).dictionary_encode(),
    lambda: pa.array(["1", "0"], pa.large_string()),
    lambda: pa.array([True, None]),
    lambda: pa.array([1, 0], pa.decimal128(10, 2)),
    lambda: pa.nulls(2),
    lambda: pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 2, 4], np.int32)), pa.py_buffer(b"\xff\xfeab")]
    ),
]


@st.composite
def typed_parquet(draw: st.DrawFn, sound: dict[str, list[Any]]) -> File:
    """Draw a Parquet file of two rows in which one or two columns have an unexpected type."""
    columns = {name: pa.array(cells) for name, cells in sound.items()}
    for name in draw(st.lists(st.sampled_from(sorted(sound)), min_size=1, max_size=2)):
        columns[name] = draw(st.sampled_from(TYPED))()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return File("parquet", bytes(sink.getvalue()))
