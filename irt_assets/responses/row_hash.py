"""A hash of rows that is the same in every database engine.

A row is written as the text of its columns, in order, each followed by `|`:

- null: nothing; every other value begins with `=`, so that an empty text differs from null;
- text: unchanged, except that a backslash is doubled and `|` becomes `\\p`;
- whole numbers: in decimal; true and false: 1 and 0;
- times: microseconds since 1970 (UTC), in decimal;
- a score (`LATER_COLUMNS`): with its name before the `=`. A null score adds nothing, not even `|`, so that rows without
  scores keep the hash that they had before scores were introduced.

Fractions are not supported, because engines write them differently. In the md5 of that text (UTF-8, hexadecimal), the
digits 1 to 15 and 17 to 31 are two numbers of 60 bits. The hash is made from the number of rows and the sums of both
numbers, so it does not depend on the order of the rows.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from irt_assets.responses.answers import instant
from irt_assets.scales.item_status import EPOCH
from resources.cluster.relational import Backend, Run

MARK = "v3:"
"""Prefix of the hash of a window; hashes of earlier releases have other prefixes."""
LATER_COLUMNS = ("score", "given_score", "max_score")
_VALUE_OF_DIGIT = np.zeros(256, dtype=np.uint8)
_VALUE_OF_DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


@ibis.udf.scalar.builtin(name="md5")
def md5(text: str) -> str:  # type: ignore[empty-body]
    """Return the MD5 of the text, in hexadecimal digits."""


def row_hash(rows: ir.Table, columns: Sequence[str], later: Collection[str] = LATER_COLUMNS) -> ir.StringValue:
    """The md5 of each row's text. Columns in `later` are written like scores (see the module's docstring).

    Raises TypeError if a column is not text, whole number, boolean or time.
    """
    text = ibis.literal("")
    for name in columns:
        if name in later:
            text = text + (f"{name}=" + _written(rows[name]) + "|").fill_null("")
        else:
            text = text + ("=" + _written(rows[name]) + "|").fill_null("|")
    return md5(text)


def _written(column: ir.Column) -> ir.StringValue:
    """A column's values as text; nulls stay null."""
    kind = column.type()
    if kind.is_string():
        return column.replace("\\", "\\\\").replace("|", "\\p")
    if kind.is_boolean():
        return ibis.ifelse(column.isnull(), ibis.null("string"), ibis.ifelse(column, "1", "0"))
    if kind.is_integer():
        return column.cast("string")
    if kind.is_timestamp():
        return column.delta(instant(EPOCH), unit="microsecond").cast("string")
    raise TypeError(f"{column.get_name()} is {kind}: only text, whole numbers, booleans and times are hashed")


def _numbers(backend: Backend[Any]) -> tuple[str, str]:
    """SQL expressions of both 60-bit numbers of the column `h`."""
    first, second = (backend.number.format(digits=f"substr(h, {start}, 15)") for start in (1, 17))
    return first, second


def query_of_sums(rows: ir.Table, backend: Backend[Any]) -> str:
    """SQL query for the number of rows and the sums of both numbers of their hashes."""
    first, second = _numbers(backend)
    hashed = backend.sql(rows.select(h=row_hash(rows, rows.columns)))
    # OFFSET 0 keeps PostgreSQL from computing the hash again for each sum.
    return f"SELECT count(*), coalesce(sum({first}), 0), coalesce(sum({second}), 0) FROM ({hashed} OFFSET 0) hashed"


def sums_by(run: Run, rows: ir.Table, key: str, **also: str) -> Iterator[tuple[Any, ...]]:
    """Yield, for each value of the column `key` in order: the value, and "count sum sum" of its rows as text.

    The column `h` of `rows` is a `row_hash`. `also`: names and SQL of further aggregates, which follow in each tuple.
    """
    first, second = _numbers(run.backend)
    hashed = run.backend.sql(rows)
    sums = f"concat(count(*), ' ', sum({first}), ' ', sum({second})) AS sums"
    columns = ", ".join([key, sums, *(f"{sql} AS {name}" for name, sql in also.items())])
    found = run.read(f"SELECT {columns} FROM ({hashed} OFFSET 0) hashed GROUP BY {key} ORDER BY {key}")
    yield from zip(*(column.to_pylist() for column in found.columns), strict=True)


def digest_of(count_and_sums: Sequence[Any]) -> str:
    """The hash of a window from the number of its rows and the two sums of their hashes."""
    return MARK + hashlib.sha256(" ".join(str(int(n)) for n in count_and_sums).encode()).hexdigest()


def sums_of(hashes: pa.ChunkedArray) -> tuple[int, int]:
    """The exact sums of both 60-bit numbers of md5 hashes in hexadecimal."""
    sums = [0, 0]
    for chunk in hashes.chunks:
        _, ends, text = chunk.buffers()
        first = np.frombuffer(ends, np.int32)[chunk.offset]
        digits = _VALUE_OF_DIGIT[np.frombuffer(text, np.uint8)[first:][: 32 * len(chunk)]].reshape(-1, 16, 2)
        halves = (digits[:, :, 0] * 16 + digits[:, :, 1]).reshape(-1, 2, 8).view(">u8")[:, :, 0] >> 4
        for half in (0, 1):
            value = halves[:, half].astype(np.int64)
            sums[half] += int(np.sum(value >> 32)) * 2**32 + int(np.sum(value & 0xFFFFFFFF))
    return sums[0], sums[1]
