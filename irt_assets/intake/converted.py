"""Workbooks and files of SPSS and Stata, converted to CSV in a temporary folder.

Their readers are packages of the extra `files`. The converted file is read by `delimited`, so that a sheet and its CSV
give the same columns, row numbers and answers.
"""

import csv
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_text
from irt_assets.intake.delimited import CsvSource
from irt_assets.intake.mapping import FileRules
from irt_assets.intake.sources import Source
from irt_assets.intake.workbook_child import write_sheet
from resources.failures import PermanentFailure


def open_workbook(path: Path, kind: str, rules: FileRules) -> Source:
    """A sheet of an Excel or OpenDocument workbook: the named one, or else the first that has cells.

    Raises ImportError without `python-calamine`, and PermanentFailure if the workbook is broken, has no such sheet, or
    its cells lie too far apart.
    """
    import python_calamine  # noqa: F401 - the child process needs it

    def write(target: Path) -> str:
        try:
            return f"{kind}, sheet {write_sheet(path, rules.sheet, target)}"
        except PermanentFailure as failure:
            raise PermanentFailure(f"{path} is {kind}, and {failure}") from failure

    return _as_csv(path, write, rules)


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

    def write(target: Path) -> str:
        with target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([table.column_names, *rows])
        return kind

    return _as_csv(path, write, rules)


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turn the errors of a reader, which have types of their own, into PermanentFailure."""
    try:
        yield
    except (PermanentFailure, ImportError):
        raise
    except Exception as error:
        raise PermanentFailure(f"{path} is {kind}, and it cannot be read: {error}") from error


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
