"""Read and make data frames of any kind that narwhals supports, such as pandas, polars and pyarrow.

No other module imports narwhals, and this module imports it only when it reads or makes a frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from irt_psychometrics.core.errors import PsychometricsError

KINDS = ("pandas", "polars", "pyarrow")
"""Kinds of frames to make if the caller named no kind, in order of preference."""


@dataclass(frozen=True)
class Column:
    """N cells, numbers or Python values; `missing` (N,) marks cells without a value, among them NaN."""

    cells: Any
    missing: Any

    @classmethod
    def from_cells(cls, cells: Any) -> Column:
        """Make a column from an array or a list. None, NaN and empty or blank text are missing."""
        values = np.asarray(cells)
        if values.dtype.kind in "biuf":
            return cls(values, np.isnan(values.astype(float)))
        values = np.array(list(cells), dtype=object)
        return cls(values.tolist(), np.array([_is_missing(cell) for cell in values], dtype=bool))

    def label(self, row: int) -> str | int:
        """The cell as the name of a person: a whole number or a text."""
        cell = self.cells[row]
        if isinstance(cell, (bool, np.bool_)):
            return str(cell)
        if isinstance(cell, (int, np.integer)):
            return int(cell)
        return int(cell) if isinstance(cell, (float, np.floating)) and float(cell).is_integer() else str(cell)


@dataclass(frozen=True)
class Frame:
    """The columns of a frame by name, and its kind, such as "pandas"; the kind of a mapping is None."""

    columns: Mapping[str, Column]
    kind: str | None

    def column(self, name: str, use: str) -> Column:
        """The column with this name. Raises PsychometricsError, which lists the columns, if it does not exist."""
        if name not in self.columns:
            raise PsychometricsError(
                f"there is no column {name!r} for {use}; the columns are {', '.join(map(str, self.columns))}"
            )
        return self.columns[name]


def read_frame(data: Any) -> Frame | None:
    """The columns of a data frame of any kind. Returns None if `data` is not one."""
    if isinstance(data, (np.ndarray, list, tuple)):
        return None
    if isinstance(data, Mapping):
        return Frame({str(name): Column.from_cells(cells) for name, cells in data.items()}, None)
    import narwhals as nw  # takes a tenth of a second to load

    found: Any = nw.from_native(data, pass_through=True)
    if isinstance(found, nw.LazyFrame):
        found = found.collect()
    if not isinstance(found, nw.DataFrame):
        return None
    columns = {}
    for name in found.columns:
        series = found[name]
        if series.dtype.is_integer() and not series.is_null().any():
            columns[str(name)] = Column.from_cells(series.to_numpy())  # labels of persons may exceed what floats hold
        elif (series.dtype.is_numeric() and not series.dtype.is_integer()) or series.dtype == nw.Boolean:
            columns[str(name)] = Column.from_cells(series.cast(nw.Float64).to_numpy())
        else:
            cells = series.to_list()
            missing = np.array(series.is_null().to_list(), dtype=bool)
            missing |= np.array([_is_missing(cell) for cell in cells], dtype=bool)
            columns[str(name)] = Column(cells, missing)
    return Frame(columns, found.implementation.value)


def make(columns: Mapping[str, Any], kind: str | None) -> Any:
    """Make a data frame of this `kind`. If it is None, the first installed one of `KINDS` is used.

    Raises PsychometricsError if no data frame of this kind can be made.
    """
    import narwhals as nw

    if kind is None:
        kind = next((name for name in KINDS if find_spec(name)), None)
        if kind is None:
            raise PsychometricsError(f"a data frame needs one of {', '.join(KINDS)}; install one of them")
    try:
        named: Any = kind
        backend: Any = nw.Implementation.from_backend(named)
        return nw.from_dict({name: _plain(cells) for name, cells in columns.items()}, backend=backend).to_native()
    except (ImportError, ValueError, TypeError) as error:
        raise PsychometricsError(
            f"cannot make a data frame of the kind {kind!r}; choose one that is installed of {', '.join(KINDS)}"
        ) from error


def _plain(cells: Any) -> Any:
    """Arrays unchanged, other cells as a list."""
    return cells if isinstance(cells, np.ndarray) and cells.dtype != object else list(cells)


def _is_missing(cell: Any) -> bool:
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return True
    return isinstance(cell, (float, np.floating)) and bool(np.isnan(cell))
