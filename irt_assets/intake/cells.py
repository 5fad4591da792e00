"""Conversion of a file's columns of any type to text and to ids."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_psychometrics.cells import Cells
from resources.failures import PermanentFailure

SPACE = " \t\r\n\v\f\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""White space in files: ASCII white space and Unicode blanks, such as the no-break space of Excel and web forms."""


def as_text(cells: pa.Array, name: str) -> pa.StringArray:
    """A column of any type as text. Whole numbers have no decimal point, even if they are stored as floats."""
    if pa.types.is_string(cells.type):
        return cells
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    try:
        if not pa.types.is_floating(cells.type):
            return pc.cast(cells, pa.string())
        whole = pc.cast(pc.if_else(_are_exact(cells), pc.cast(cells, pa.float64()), None), pa.int64())
        return pc.coalesce(pc.cast(whole, pa.string()), pc.cast(cells, pa.string()))
    except pa.ArrowException as error:
        raise PermanentFailure(
            f"column {name!r} has the type {cells.type}, which is not a plain value: {error}"
        ) from error


def as_ids(cells: pa.Array, name: str) -> pa.StringArray:
    """A column of any type as ids. NaN and infinity become null, so that only their rows are refused.

    Raises PermanentFailure for any other float that is not a whole number, or is too large to be exact in its type.
    """
    if not pa.types.is_floating(cells.type):
        return as_text(cells, name)
    cells = pc.if_else(pc.is_finite(cells), cells, None)
    inexact = cells.filter(pc.invert(_are_exact(cells)))
    if inexact.drop_null():
        raise PermanentFailure(
            f"column {name!r} stores ids as {cells.type}, and {inexact.drop_null()[0]} is not a whole number that this"
            " type stores exactly: different ids may have become equal. Write the column as text or as whole numbers."
        )
    return as_text(cells, name)


def visible_ids(ids: pa.StringArray) -> tuple[pa.StringArray, set[str]]:
    """Return ids without invisible characters (see `Cells.visible`), and the ids that had some, as they are now."""
    if _bytes(ids).isascii():
        return ids, set()
    coded = ids.dictionary_encode()
    shown = {text: Cells.visible(text) for text in coded.dictionary.to_pylist()}
    changed = {text for written, text in shown.items() if text != written.strip(SPACE)}
    return pa.array([*shown.values()], pa.string()).take(coded.indices) if changed else ids, changed


def trim_cells(cells: pa.StringArray) -> pa.StringArray:
    """Text without `SPACE` around it."""
    if _bytes(cells).isascii():
        return pc.ascii_trim_whitespace(cells)
    return pc.utf8_trim(cells, characters=SPACE)


def encode(cells: pa.StringArray) -> Cells:
    """Return trimmed text, shape (N,), in the library's form; nulls are empty."""
    texts = pc.fill_null(cells, "").dictionary_encode()
    return Cells(texts.dictionary.to_pylist(), np.asarray(texts.indices).astype(np.int64))


def find_shortened_ids(ids: pa.StringArray) -> set[str]:
    """Find the few ids that may be long numbers as Excel shortens them, such as 2.026E+11, for `describe_cells`."""
    if b"E+" not in _bytes(ids):
        return set()
    return set(ids.filter(pc.match_substring(ids, "E+")).unique().drop_null().to_pylist())


def _bytes(cells: pa.StringArray) -> bytes:
    """Bytes that contain all cells. For a few cells, searching these bytes is faster than a compute kernel."""
    data = cells.buffers()[2]
    return b"" if data is None else data.to_pybytes()


def _are_exact(cells: pa.FloatingPointArray) -> pa.BooleanArray:
    """Whether numbers are whole and in the range in which this type holds every whole number exactly."""
    numbers = pc.cast(cells, pa.float64())
    bits = np.finfo(cells.type.to_pandas_dtype()).nmant + 1
    return pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**bits))
