"""Columns of a file as text and as ids, cell by cell, whatever type held them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from resources.failures import PermanentFailure


def as_text(cells: pa.Array, name: str) -> pa.StringArray:
    """Any column as text, cell by cell: whole numbers without a decimal point, whatever type held them."""
    if pa.types.is_string(cells.type):
        return cells
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    try:
        if not pa.types.is_floating(cells.type):
            return pc.cast(cells, pa.string())
        whole = pc.cast(pc.if_else(_exact(cells), pc.cast(cells, pa.float64()), None), pa.int64())
        return pc.coalesce(pc.cast(whole, pa.string()), pc.cast(cells, pa.string()))
    except pa.ArrowException as error:
        raise PermanentFailure(f"Column {name!r} holds {cells.type}, which is not a plain value: {error}") from error


def as_ids(cells: pa.Array, name: str) -> pa.StringArray:
    """Any column as ids. A float is one only where it is a whole number that its type holds exactly; NaN is none."""
    if not pa.types.is_floating(cells.type):
        return as_text(cells, name)
    cells = pc.if_else(pc.is_nan(cells), None, cells)
    inexact = cells.filter(pc.invert(_exact(cells)))
    if inexact.drop_null():
        raise PermanentFailure(
            f"Column {name!r} holds ids as {cells.type}, and {inexact.drop_null()[0]} is not a whole number that this"
            " type holds exactly: other ids may have become the same. Write the column as text or as whole numbers."
        )
    return as_text(cells, name)


def _exact(cells: pa.FloatingPointArray) -> pa.BooleanArray:
    """Whole numbers below which all whole numbers have a place of their own in this type."""
    numbers = pc.cast(cells, pa.float64())
    bits = np.finfo(cells.type.to_pandas_dtype()).nmant + 1
    return pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**bits))
