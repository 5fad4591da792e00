"""Tables of text from files, and their errors: CSV and TSV (also gzipped), and Parquet.

Parquet is read by the first installed library of pyarrow, polars and pandas.
"""

import csv
import gzip
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from irt_psychometrics.cells.columns import Cells
from irt_psychometrics.core.arrays import Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.program_forms import ITEM_NAMES

PERSON_NAMES = ("user_id", "person", "person_id", "student", "student_id", "learner", "learner_id", "id", "name", "")
FAULTS_NAMED = 5
SECOND = " (2)"
"""Suffix that some readers append to the name of a column that occurs twice."""
DELIMITERS = ("\t", ",", ";")
DECLARED_DELIMITER = re.compile(r"sep=([,;\t])\r?\n")
"""First line of a file in which the delimiter is declared for Excel."""
FRAME_LIBRARIES = ("pyarrow", "polars", "pandas")
FLOAT_DIGITS = {"Float32": 24, "Float64": 53}
"""Binary digits of floating-point types, which represent every whole number below 2 to the power of these digits
exactly."""


Column = Callable[[str, bool], Cells]
"""A function of a column's name that returns the column.

The second argument says whether the cells are ids. A number that may represent several ids is then an error."""


class Batch(NamedTuple):
    """Rows of a table.

    Attributes:
        lines: line number of each row in its file; the header is counted, and numbers begin with 1.
        column: the cells.
        bad: lines that are not valid rows, each with the reason.
    """

    lines: Ints
    column: Column
    bad: Sequence[tuple[int, str]] = ()

    def text(self, name: str) -> Cells:
        return self.column(name, False)

    def ids(self, name: str) -> Cells:
        cells = self.column(name, True)
        shown = [*map(Cells.visible, cells.texts)]
        return cells if shown == [*cells.texts] else Cells.of(map(Cells.visible, cells.to_list()))


Rows = Callable[[], Iterable[Batch]]
"""A function that returns the rows of a file in batches."""


@dataclass(frozen=True)
class Table:
    """A file with its columns and its rows in batches."""

    path: Path
    columns: Sequence[str]
    read: Rows

    def batches(self) -> Iterator[Batch]:
        """Yield all batches. Raises PsychometricsError after the last batch if some lines are not valid rows."""
        bad: list[tuple[int, str]] = []
        for batch in self.read():
            bad += batch.bad
            yield batch
        if bad:
            messages = [f"line {line}: {reason}" for line, reason in bad]
            raise faults(self.path, messages, "Every row needs as many cells as the header")

    def rows(self) -> list[tuple[int, dict[str, str]]]:
        """The rows of a small table with their line numbers; empty rows are left out."""
        ids = (self.item, self.person, self.first_of(("group",)))
        rows = []
        for batch in self.batches():
            cells = [(batch.ids if name in ids else batch.text)(name).to_list() for name in self.columns]
            for line, *values in zip(batch.lines.tolist(), *cells, strict=True):
                if any(values):
                    rows.append((line, dict(zip(self.columns, values, strict=True))))
        return rows

    @property
    def person(self) -> str | None:
        """Name of the column of persons. Returns None if there is no such column."""
        return self.first_of(PERSON_NAMES)

    @property
    def item(self) -> str | None:
        """Name of the column of items. Returns None if there is no such column."""
        return self.first_of(ITEM_NAMES)

    def first_of(self, names: Sequence[str]) -> str | None:
        """Find the first of `names` that is a column, in small or capital letters. Returns None if all are absent."""
        columns = {name.lower(): name for name in reversed(self.columns)}
        return next((columns[name] for name in names if name in columns), None)

    def repeat_rows(self, frequency: str) -> "Table":
        """Write out a table of patterns: repeat each row as often as the column `frequency` says.

        Reading raises PsychometricsError for cells of this column that are neither a whole number nor empty.
        """

        def read() -> Iterator[Batch]:
            for batch in self.read():
                cells = batch.text(frequency)
                times = np.where(cells.in_words([""]), 0, cells.points({}))
                if (wrong := np.flatnonzero(~((times >= 0) & (times % 1 == 0)))).size:
                    row = int(wrong[0])
                    raise PsychometricsError(
                        f"{self.path}, line {batch.lines[row]}: {frequency} must be the number of persons who gave"
                        f" these answers, got {cells.texts[cells.places[row]]!r}. Rename or delete a column of another"
                        " meaning"
                    )
                rows = np.repeat(np.arange(len(times)), times.astype(np.int64))
                yield Batch(batch.lines[rows], partial(_cells_of_rows, batch.column, rows), batch.bad)

        return replace(self, columns=[name for name in self.columns if name != frequency], read=read)

    def require_unique_columns(self) -> None:
        """Raise PsychometricsError, which names the columns, if columns occur twice."""
        names = [*self.columns]
        repeated = [
            name.removesuffix(SECOND) for name in names if name.endswith(SECOND) and name.removesuffix(SECOND) in names
        ]
        repeated = repeated or sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise faults(
                self.path, [f"column {name} occurs twice" for name in repeated], "Give each column its own name"
            )


def _cells_of_rows(column: Column, rows: Ints, name: str, ids: bool) -> Cells:
    cells = column(name, ids)
    return Cells(cells.texts, cells.places[rows])


def faults(path: Path, messages: Sequence[str], remedy: str) -> PsychometricsError:
    """One error for all faults of a file, with the first five, their number, and the remedy."""
    more = f"; and {len(messages) - FAULTS_NAMED} more" if len(messages) > FAULTS_NAMED else ""
    return PsychometricsError(f"{path}: {'; '.join(messages[:FAULTS_NAMED])}{more}. {remedy}")


# -- files ---------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> tuple[Sequence[str], Rows]:
    """Columns and rows of a file: Parquet, or UTF-8 text with commas, semicolons or tabs, optionally gzipped.

    Raises PsychometricsError, which names the file and the line, if the file is not such a table.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise PsychometricsError(f"{path} cannot be read: {error}") from error
    if content.startswith(b"PAR1"):
        return _parquet(path, content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PsychometricsError(f"{path}, line {line}: this is not UTF-8. Save the file as CSV UTF-8") from error
    return _csv(path, text)


def _csv(path: Path, text: str) -> tuple[Sequence[str], Rows]:
    rows = iter(enumerate(_csv_rows(path, text), start=1))
    header = next((row for _, row in rows if any(cell.strip() for cell in row)), None)
    if header is None:
        raise PsychometricsError(f"{path} is empty: not even a header")
    columns = [name.strip() for name in header]
    lines, cells, bad = [], [], []
    for line, row in rows:
        if len(row) == len(columns):
            lines.append(line)
            cells.append(row)
        elif not row:
            lines.append(line)
            cells.append([""] * len(columns))
        else:
            bad.append((line, f"{len(row)} columns, not {len(columns)}"))
    of_column = [*zip(*cells, strict=True)] if cells else [()] * len(columns)

    def column(name: str, _ids: bool) -> Cells:
        return Cells.of(map(str.strip, of_column[columns.index(name)]))

    batch = Batch(np.array(lines, dtype=np.int64), column, bad)
    return columns, lambda: [batch]


def _csv_rows(path: Path, text: str) -> Iterator[list[str]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    declared = DECLARED_DELIMITER.match(text)
    delimiter = (
        declared[1] if declared else max(DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one), [])))
    )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        if declared:
            next(reader)
            yield []
        yield from reader
    except csv.Error as error:
        raise PsychometricsError(f"{path}, line {reader.line_num}: {error}. Is it a table?") from error


def _parquet(path: Path, content: bytes) -> tuple[Sequence[str], Rows]:
    library: Any = next((name for name in FRAME_LIBRARIES if find_spec(name)), None)
    if library is None:
        raise PsychometricsError(
            f"{path}: reading Parquet needs pyarrow, polars or pandas. Install one of them, or save the file as CSV"
        )
    import narwhals as nw  # slow to import, and not needed for CSV

    try:
        frame = nw.read_parquet(io.BytesIO(content), backend=library)
    except Exception as error:  # each library raises its own errors
        raise PsychometricsError(f"{path} is not Parquet that {library} can read: {error}") from error
    texts = {name: partial(_texts, frame[name]) for name in frame.columns}
    batch = Batch(np.arange(2, len(frame) + 2), lambda name, ids: Cells.of(texts[name](ids)))
    return frame.columns, lambda: [batch]


def _texts(series: Any, ids: bool) -> list[str]:
    kind = str(series.dtype)
    digits = FLOAT_DIGITS.get(kind)
    values = series.to_list()
    found = []
    for value in values:
        if value is None or (digits and not math.isfinite(value)):
            found.append("")
        elif digits and value == round(value) and abs(value) < 2.0**digits:
            found.append(str(int(value)))
        elif digits and ids:
            raise PsychometricsError(
                f"column {series.name!r} stores ids as {kind}, and {value} is not a whole number that this type stores"
                " exactly: different ids may have become equal. Write the column as text or as whole numbers."
            )
        elif isinstance(value, list | dict):
            raise PsychometricsError(f"column {series.name!r} has the type {kind}, which is not a plain value")
        else:
            found.append(str(int(value) if isinstance(value, bool) else value).strip())
    return found
