"""Read and make data frames of any kind that narwhals supports, such as pandas, polars and pyarrow.

No other module imports narwhals, and this module imports it only when it reads or makes a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

    Table = IntoFrame | Mapping[str, Any] | npt.NDArray[Any] | Sequence[Sequence[Any]]
    """A data frame of any kind, a mapping column → cells, or a matrix."""

KINDS = ("pandas", "polars", "pyarrow")
"""Kinds of frames to make if the caller named no kind, in order of preference."""


@dataclass(frozen=True)
class Column:
    """N cells. Columns of text keep each distinct value once, because tables repeat few values many times.

    Attributes:
        values: N numbers, or the distinct values as Python objects.
        places: shape (N,), index of each row's value in `values`, −1 for missing cells. It is None if `values` are N
            numbers.
        missing: shape (N,), cells without a value. None, NaN and empty or blank text are missing.
    """

    values: Any
    places: Ints | None
    missing: Mask

    @classmethod
    def from_cells(cls, cells: Any) -> Column:
        """Make a column from an array or a list."""
        array = cells if isinstance(cells, np.ndarray) else _numbers(cells)
        if array is not None and array.dtype.kind in "biuf":
            return cls(array, None, np.isnan(array) if array.dtype.kind == "f" else np.zeros(len(array), dtype=bool))
        if array is not None and array.dtype.kind == "U":
            rows, places = _number_texts(array)
            return cls.from_distinct(array[rows].tolist(), places)
        return cls.from_distinct(*_number_objects(list(cells)))

    @classmethod
    def from_distinct(cls, values: Sequence[Any], places: Ints) -> Column:
        """Make a column from distinct values, some of which may be missing, and each row's place, −1 if missing."""
        has_value = np.array([not _is_missing(value) for value in values], dtype=bool)
        if not has_value.all():
            places = np.append(np.where(has_value, np.cumsum(has_value) - 1, -1), -1)[places]
            values = [value for value, kept in zip(values, has_value.tolist(), strict=True) if kept]
        return cls(list(values), places, places < 0)

    @property
    def cells(self) -> Any:
        """The value of each row, as an array or a list; any value in missing cells."""
        return self.values if self.places is None else [*map([*self.values, None].__getitem__, self.places.tolist())]

    def cell(self, row: int) -> Any:
        """Return the value of a row that is not missing, as a Python object."""
        value = self.values[row if self.places is None else self.places[row]]
        return value.item() if isinstance(value, np.generic) else value

    def distinct(self) -> tuple[list[Any], Ints]:
        """Return the distinct values and each row's place among these, shape (N,), −1 for missing cells."""
        if self.places is not None:
            return self.values, self.places
        places = np.full(len(self.missing), -1, dtype=np.int64)
        seen = self.values[~self.missing]
        rows, places[~self.missing] = number_values(seen)
        return seen[rows].tolist(), places

    def numbers(self) -> Floats:
        """Return the cells as numbers, shape (N,); NaN for missing cells and for cells that are not a number."""
        if self.places is None:
            return np.where(self.missing, np.nan, self.values)
        return np.array([*map(_number, self.values), np.nan])[self.places]

    def label(self, row: int) -> str | int:
        """Return the cell as a label: a whole number or a text."""
        return label_of(self.cell(row))


def label_of(cell: Any) -> str | int:
    """Return a cell as a label: a whole number or a text."""
    if isinstance(cell, (str, bool, np.bool_)):
        return str(cell)
    if isinstance(cell, (int, np.integer)):
        return int(cell)
    return int(cell) if isinstance(cell, (float, np.floating)) and float(cell).is_integer() else str(cell)


class _Columns(Mapping[str, Column]):
    """Columns by name, each of which is read when it is needed."""

    def __init__(self, names: Sequence[Any], read: Callable[[Any], Column]) -> None:
        self._names = {str(name): name for name in names}
        if len(self._names) < len(names):
            texts = [str(name) for name in names]
            twice = next(name for name in self._names if texts.count(name) > 1)
            raise PsychometricsError(f"two columns are called {twice!r}; rename one of them")
        self._read = read

    def __getitem__(self, name: str) -> Column:
        return self._read(self._names[name])

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without reading the column

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class Frame:
    """The columns of a frame.

    Attributes:
        columns: column by name, as text.
        kind: the kind of frame, such as "pandas". It is None for a mapping or a matrix.
        index: the index of a pandas frame, or None.
    """

    columns: Mapping[str, Column]
    kind: str | None
    index: Any = None

    @classmethod
    def from_matrix(cls, cells: npt.NDArray[Any], names: Sequence[str]) -> Frame:
        """Make a frame whose columns are the columns of a matrix."""
        place = {name: j for j, name in enumerate(names)}
        return cls(_Columns(names, lambda name: Column.from_cells(cells[:, place[name]])), None)

    @property
    def index_name(self) -> str | None:
        """The name of a pandas frame's index, or None."""
        names = [] if self.index is None else [str(name) for name in self.index.names if name is not None]
        return ", ".join(names) or None

    @property
    def labels(self) -> Column | None:
        """The index as a column, or None if the index has no name and only counts rows or repeats."""
        if self.index is None:
            return None
        column = Column.from_cells(self.index.tolist())
        if self.index_name is not None:
            return column
        is_count = column.places is None and np.array_equal(column.values, np.arange(len(self.index)))
        return None if is_count or column.missing.any() or not self.index.is_unique else column

    def column(self, name: str | int, use: str) -> Column:
        """Return the column, or the index, with this name.

        Raises PsychometricsError, which lists the columns, if it does not exist.
        """
        if str(name) not in self.columns and str(name) == self.index_name:
            return Column.from_cells(self.index.tolist())
        if str(name) not in self.columns:
            raise PsychometricsError(
                f"there is no column {name!r} for {use}; the columns are {', '.join(map(str, self.columns))}"
            )
        return self.columns[str(name)]


def read_frame(data: Any) -> Frame | None:
    """Read the columns of a data frame of any kind. Returns None if `data` is not a data frame."""
    if isinstance(data, (np.ndarray, list, tuple)):
        return None
    if isinstance(data, Mapping):
        return Frame(_Columns([*data], lambda name: Column.from_cells(data[name])), None)
    import narwhals as nw  # takes a tenth of a second to load

    try:
        frame: Any = nw.from_native(data, pass_through=True)
        if isinstance(frame, nw.LazyFrame):
            frame = frame.collect()
        if not isinstance(frame, nw.DataFrame):
            return None
        names = frame.columns
    except nw.exceptions.DuplicateError as error:
        raise PsychometricsError("two columns of the frame have one name; rename one of them") from error
    return Frame(
        _Columns(names, lambda name: _read_series(frame.get_column(name))),
        frame.implementation.value,
        nw.maybe_get_index(frame),
    )


def _read_series(series: Any) -> Column:
    """Read a column of a narwhals frame."""
    import narwhals as nw

    if series.dtype.is_integer():  # labels of persons may exceed the whole numbers that floats represent
        empty = series.is_null().to_numpy()
        return Column(series.fill_null(0).to_numpy() if empty.any() else series.to_numpy(), None, empty)
    if series.dtype.is_numeric() or series.dtype == nw.Boolean:
        return Column.from_cells(series.cast(nw.Float64).to_numpy())
    if series.dtype != nw.String or not len(series):
        cells = zip(series.to_list(), series.is_null().to_list(), strict=True)
        return Column.from_distinct(*_number_objects([None if empty else cell for cell, empty in cells]))
    native = series.to_native()
    if series.implementation.is_pandas_like():
        places, values = native.factorize()
        return Column.from_distinct(values.tolist(), places)
    if series.implementation.is_pyarrow():
        encoded = native.combine_chunks().dictionary_encode()
        places = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
        return Column.from_distinct(encoded.dictionary.to_pylist(), places)
    texts = series.fill_null("")
    rows, places = number_values(texts.cast(nw.Categorical).to_native().to_physical().to_numpy())  # of polars
    return Column.from_distinct(texts[rows].to_list(), places)


def number_values(values: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Number the distinct values of an array in the order in which they first occur.

    Returns the row where each value first occurs, and the place of each row's value among these, shape (N,).
    """
    whole = _whole(values)
    low = int(whole.min()) if whole is not None and whole.size else 0
    if whole is None or (span := int(whole.max(initial=low)) - low) > 4 * len(values) + 1_000:
        _, rows, places = np.unique(values, return_index=True, return_inverse=True)
        order = np.argsort(rows)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return rows[order], rank[places]
    offsets, n = (whole - low).astype(np.int64), len(values)  # a table of all numbers needs no sorting
    first = np.full(span + 1, n)
    first[offsets[::-1]] = np.arange(n)[::-1]
    present = np.flatnonzero(first < n)
    present = present[np.argsort(first[present])]
    rank = np.empty(span + 1, dtype=np.int64)
    rank[present] = np.arange(len(present))
    return first[present], rank[offsets]


def sort_rows(keys: Ints) -> tuple[Ints, Ints]:
    """Return the order of rows by key, from 0 on, and the sorted keys.

    Rows with equal keys keep their order.
    """
    n = max(len(keys), 1)
    if int(keys.max(initial=0)) >= np.iinfo(np.int64).max // n - 1:
        order = np.argsort(keys, kind="stable")
        return order, keys[order]
    packed = keys * np.int64(n) + np.arange(len(keys))  # to sort numbers takes half as long as to find their order
    packed.sort()
    return packed % n, packed // n


def _whole(values: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return the values as whole numbers whose differences do not overflow, or None if some are not whole."""
    if values.dtype.kind in "bui":
        return values.astype(np.int64) if values.dtype.itemsize < 8 else values
    near = np.abs(values) < 2**53
    return values.astype(np.int64) if near.all() and (values == np.floor(values)).all() else None


def _number_texts(texts: npt.NDArray[Any]) -> tuple[Ints, Ints]:
    """Number the distinct texts of an array, as `number_values` does, letter by letter."""
    letters = np.ascontiguousarray(texts).view(np.uint32).reshape(len(texts), texts.dtype.itemsize // 4)
    rows, places = number_values(letters[:, 0])
    for k in range(1, letters.shape[1]):
        rows, places = number_values(places * np.int64(0x110000) + letters[:, k])
    return rows, places


def _number_objects(cells: list[Any]) -> tuple[list[Any], Ints]:
    """Return the distinct Python objects of a list and the place of each row's object among these.

    Objects of different types are distinct, although 1, 1.0 and True are equal.
    """
    is_text = {*map(type, cells)} <= {str, type(None)}
    keys: Sequence[Any] = cells if is_text else [*zip(map(type, cells), cells, strict=True)]
    try:
        place = {key: k for k, key in enumerate(dict.fromkeys(keys))}
    except TypeError:  # lists have no hash
        return cells, np.arange(len(cells))
    values = [*place] if is_text else [value for _, value in place]
    return values, np.fromiter(map(place.__getitem__, keys), np.int64, len(keys))


def _numbers(cells: Any) -> npt.NDArray[Any] | None:
    """Return cells as an array, or None if some are not numbers of a type that NumPy has."""
    cells = list(cells)
    if not all(issubclass(kind, (int, float, np.number, np.bool_)) for kind in {*map(type, cells)}):
        return None
    array = np.array(cells)
    return array if array.dtype.kind in "biuf" else None


def make(columns: Mapping[str, Any], kind: str | None, index: Any = None) -> Any:
    """Make a data frame of this `kind`. If it is None, the first installed one of `KINDS` is used.

    `index` becomes the index of a pandas frame.

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
        frame = nw.from_dict({name: _plain(cells) for name, cells in columns.items()}, backend=backend).to_native()
    except (ImportError, ValueError, TypeError) as error:
        raise PsychometricsError(
            f"cannot make a data frame of the kind {kind!r}; choose one that is installed of {', '.join(KINDS)}"
        ) from error
    if index is not None and backend.is_pandas_like():
        frame.index = index
    return frame


def _plain(cells: Any) -> Any:
    """Arrays unchanged, other cells as a list."""
    return cells if isinstance(cells, np.ndarray) and cells.dtype != object else list(cells)


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return np.nan


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    if cell is None or isinstance(cell, (list, tuple, set, frozenset)):
        return not cell
    return isinstance(cell, (float, np.floating)) and bool(np.isnan(cell))
