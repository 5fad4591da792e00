"""Workbooks and files of SPSS and Stata, converted to CSV in a temporary folder.

Their readers are packages of the extra `files`. The converted file is read by `delimited`, so that a sheet and its CSV
give the same columns, row numbers and answers.
"""

import csv
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_text
from irt_assets.intake.delimited import CsvSource
from irt_assets.intake.mapping import FileRules
from irt_assets.intake.sources import Source
from resources.failures import PermanentFailure


def open_workbook(path: Path, kind: str, rules: FileRules) -> Source:
    """A sheet of an Excel or OpenDocument workbook: the named one, or else the first that has cells.

    Raises ImportError without `python-calamine`, and PermanentFailure if the workbook is broken or has no such sheet.
    """
    from python_calamine import CalamineWorkbook

    with _readable(path, kind), path.open("rb") as file:
        book = CalamineWorkbook.from_filelike(file)
        filled = [name for name in book.sheet_names if book.get_sheet_by_name(name).total_height]
        name = rules.sheet or next(iter(filled), "")
        if name not in filled:
            raise PermanentFailure(
                f"{path}: there is no sheet {name!r} with cells; its sheets with cells: {', '.join(filled)}"
            )
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    texts = (map(_cell, row) if any(cell != "" for cell in row) else () for row in rows)
    return _as_csv(path, f"{kind}, sheet {name}", texts, rules)


def open_statistics(path: Path, kind: str, rules: FileRules) -> Source:
    """The data of an SPSS or Stata file: codes and not their labels. Missing values that it declares are empty.

    Raises ImportError without `pyreadstat`, and PermanentFailure if the file is broken.
    """
    import pyreadstat

    with _readable(path, kind):
        frame, _ = (pyreadstat.read_sav if "SPSS" in kind else pyreadstat.read_dta)(path)
        table = pa.Table.from_pandas(frame, preserve_index=False).combine_chunks()
    cells = [
        as_text(column.combine_chunks(), name) for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    rows = zip(*(pc.fill_null(column, "").to_pylist() for column in cells), strict=True)
    return _as_csv(path, kind, [table.column_names, *rows], rules)


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turn the errors of a reader, which have types of their own, into PermanentFailure."""
    try:
        yield
    except (PermanentFailure, ImportError):
        raise
    except Exception as error:
        raise PermanentFailure(f"{path} is {kind}, and it cannot be read: {error}") from error


def _as_csv(path: Path, kind: str, rows: Iterable[Iterable[str]], rules: FileRules) -> Source:
    """The rows as a file that is deleted with its source."""
    folder = tempfile.TemporaryDirectory(prefix="irt-")
    target = Path(folder.name, f"{path.name}.csv")
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    source = CsvSource(target, delimiter=",", header=rules.header)
    weakref.finalize(source, folder.cleanup)
    source.kind, source.address = kind.partition(" ")[2], str(path)
    return source


def _cell(value: Any) -> str:
    """A cell as a spreadsheet shows it, without the format: 3 and not 3.0, TRUE as true."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
