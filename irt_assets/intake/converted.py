"""Workbooks and files of SPSS and Stata, converted to CSV in a temporary folder.

Their readers are packages of the extra `files`. The converted file is read by `delimited`, so that a sheet and its CSV
give the same columns, row numbers and answers.
"""

import csv
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from irt_assets.intake.cells import as_text
from irt_assets.intake.delimited import CsvSource
from irt_assets.intake.mapping import FileRules
from irt_assets.intake.sources import Source, unique_names
from resources.failures import PermanentFailure


def open_workbook(path: Path, kind: str, rules: FileRules) -> Source:
    """A sheet of an Excel or OpenDocument workbook: the named one, or else the first that has cells.

    Raises ImportError without `python-calamine`, and PermanentFailure if the workbook is broken or has no such sheet.
    """
    from python_calamine import CalamineWorkbook

    with _readable(path, kind), path.open("rb") as file:
        book = CalamineWorkbook.from_filelike(file)
        sheets = {name: book.get_sheet_by_name(name) for name in book.sheet_names}
        filled = [name for name, sheet in sheets.items() if sheet.total_height]
        name = rules.sheet or (filled[0] if filled else "")
        if name not in filled:
            raise PermanentFailure(f"{path}: no sheet {name!r} with cells; it has {', '.join(filled) or 'none'}")
        rows = sheets[name].to_python(skip_empty_area=False)
    target = _target(path)
    with target.open("w", encoding="utf-8", newline="") as file_of_rows:
        writer = csv.writer(file_of_rows)
        for row in rows:
            writer.writerow(map(_cell, row) if any(cell != "" for cell in row) else [])
    return _converted(path, target, f"{kind.partition(' ')[2]}, sheet {name}", rules.header)


def open_statistics(path: Path, kind: str, rules: FileRules) -> Source:
    """The data of an SPSS or Stata file: codes and not their labels. Missing values that it declares are empty.

    Raises ImportError without `pyreadstat`, and PermanentFailure if the file is broken.
    """
    import pyreadstat

    with _readable(path, kind):
        read = pyreadstat.read_sav if "SPSS" in kind else pyreadstat.read_dta
        frame, _ = read(path)
        table = pa.Table.from_pandas(frame, preserve_index=False).combine_chunks()
    target = _target(path)
    names = unique_names(table.column_names)
    texts = [as_text(cells.combine_chunks(), name) for name, cells in zip(names, table.columns, strict=True)]
    pacsv.write_csv(pa.table(texts, names=names), target)
    return _converted(path, target, kind.partition(" ")[2], rules.header)


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turn the errors of a reader, which have types of their own, into PermanentFailure."""
    try:
        yield
    except (PermanentFailure, ImportError):
        raise
    except Exception as error:
        raise PermanentFailure(f"{path} is {kind}, and it cannot be read: {error}") from error


def _target(path: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix="irt-")) / f"{path.name}.csv"


def _converted(path: Path, target: Path, kind: str, header: int | None) -> Source:
    try:
        source = CsvSource(target, delimiter=",", header=header)
    except PermanentFailure:
        _delete(target)
        raise
    weakref.finalize(source, _delete, target)
    source.kind, source.address = kind, str(path)
    return source


def _delete(target: Path) -> None:
    target.unlink(missing_ok=True)
    target.parent.rmdir()


def _cell(value: Any) -> str:
    """A cell as a spreadsheet shows it, without the format: 3 and not 3.0, TRUE as true."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)
