"""Workbooks and files of SPSS and Stata, converted to CSV in a temporary folder.

The reader of SPSS and Stata is in the extra `files`. The converted file is read by `delimited`, so that a sheet and its
CSV give the same columns, row numbers and answers.
"""

import csv
import json
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_text
from irt_assets.intake.delimited import CsvSource
from irt_assets.intake.mapping import FileRules
from irt_assets.intake.sources import Source
from resources.failures import PermanentFailure

READER_DIED = (
    "its reader ended without a result. Usually a cell far from the table makes the sheet too large: delete the rows "
    "and columns beyond the table, or save the sheet as CSV UTF-8"
)


def open_workbook(path: Path, kind: str, rules: FileRules) -> Source:
    """A sheet of an Excel or OpenDocument workbook: the named one, or else the first that has cells.

    Raises PermanentFailure if the workbook is broken, has no such sheet, or its cells lie too far apart.
    """

    def write(target: Path) -> str:
        command = [sys.executable, "-m", "irt_assets.intake.workbook_child", str(target), rules.sheet or ""]
        with path.open("rb") as workbook:
            child = subprocess.run(command, stdin=workbook, capture_output=True, check=False)
        name, fault = json.loads(child.stdout) if child.returncode == 0 else ("", READER_DIED)
        if fault:
            raise PermanentFailure(f"{path} is {kind}, and {fault}")
        return f"{kind}, sheet {name}"

    return _as_csv(path, write, rules)


def open_statistics(path: Path, kind: str, rules: FileRules) -> Source:
    """The data of an SPSS or Stata file: codes and not their labels. Missing values that it declares are empty.

    Raises ImportError without `pyreadstat`, and PermanentFailure if the file is broken.
    """
    import pyreadstat

    try:
        frame, _ = (pyreadstat.read_sav if "SPSS" in kind else pyreadstat.read_dta)(path)
        table = pa.Table.from_pandas(frame, preserve_index=False).combine_chunks()
    except Exception as error:  # the reader's errors have types of their own
        raise PermanentFailure(f"{path} is {kind}, and it cannot be read: {error}") from error
    cells = [
        as_text(column.combine_chunks(), name) for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    rows = zip(*(pc.fill_null(column, "").to_pylist() for column in cells), strict=True)

    def write(target: Path) -> str:
        with target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([table.column_names, *rows])
        return kind

    return _as_csv(path, write, rules)


def _as_csv(path: Path, write: Callable[[Path], str], rules: FileRules) -> Source:
    """The file that `write` makes, which is deleted with its source. `write` returns the kind of the converted file."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="irt-"))
        target = Path(folder, f"{path.name}.csv")
        kind = write(target)
        source = CsvSource(target, delimiter=",", header=rules.header)
        weakref.finalize(source, stack.pop_all().close)
    source.kind, source.address = kind.partition(" ")[2], str(path)
    return source
