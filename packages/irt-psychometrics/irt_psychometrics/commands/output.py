"""Write files, and reports as sentences and tables."""

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import finite
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.results import html_page, html_table


@dataclass(frozen=True)
class ReportTable:
    """A table in a report.

    Attributes:
        headings: the names of the columns.
        rows: the cells; numbers may be None.
        formats: heading of a column of numbers → its format, as in `format(value, …)`.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    formats: Mapping[str, str]

    def __str__(self) -> str:
        """The table as text: numbers are right-aligned, and None is a dash."""
        formats = [self.formats.get(heading) for heading in self.headings]
        written = [
            [
                "–" if cell is None else str(cell) if form is None else format(cell, form)
                for cell, form in zip(row, formats, strict=True)
            ]
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(self.headings, *written, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if form is None else cell.rjust(width)
                for cell, width, form in zip(row, widths, formats, strict=True)
            ).rstrip()
            for row in [self.headings, *written]
        ]
        return "\n".join(lines)


Report = list[str | ReportTable]


@dataclass(frozen=True)
class FileResult:
    """Result of a command that is one table, for the screen, for JSON, and for a file of any kind.

    Attributes:
        title: the subject of the table.
        columns: column → its cells.
        formats: column of numbers → its format for people, as in `format(value, …)`. JSON and CSV have all digits.
        facts: name → value, about the table as a whole.
        notes: sentences for the reader of the table.
    """

    title: str
    columns: Mapping[str, Sequence[Any]]
    formats: Mapping[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict for each row, with None instead of numbers that are not finite."""
        return rows_of(self.columns)

    @property
    def table(self) -> ReportTable:
        """The table for people, without columns that are empty in all rows."""
        rows = self.rows
        names = [name for name in self.columns if any(row[name] not in (None, "") for row in rows)]
        words = {True: "yes", False: "no"}
        cells = [[words[x] if isinstance(x := row[name], bool) else x for name in names] for row in rows]
        return ReportTable(names, cells, self.formats)

    @property
    def sentences(self) -> list[str]:
        """The facts and the notes."""
        return [*(f"{name}: {value}" for name, value in self.facts.items()), *self.notes]

    def as_dict(self) -> dict[str, Any]:
        """Return the content for JSON."""
        return {"title": self.title, "facts": {**self.facts}, "rows": self.rows, "notes": [*self.notes]}

    def report(self) -> Report:
        """Report the title, the table, the facts and the notes."""
        return [self.title, self.table, *self.sentences]

    def to_csv(self) -> bytes:
        """Return the rows as CSV."""
        return csv_of_columns(self.columns).encode()

    def to_html(self) -> bytes:
        """Return the result as an HTML page."""
        shown = self.table
        columns = {
            name: ["" if x is None else format(x, shown.formats.get(name, "")) for x in cells]
            for name, cells in zip(shown.headings, zip(*shown.rows, strict=True), strict=True)
        }
        table = html_table(columns, self.title, max_rows=None)
        body = html_page(self.title, [table], self.facts, self.notes)
        head = f'<meta charset="utf-8"><title>{escape(self.title)}</title>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'.encode()


Writers = Mapping[str, Callable[[FileResult], bytes]]
"""Ending of a file's name → the function that returns the file's content."""
WRITERS: Writers = {".csv": FileResult.to_csv, ".html": FileResult.to_html}


def rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a dict for each row of the columns, with None instead of numbers that are not finite."""
    cells = [cells.tolist() if isinstance(cells, np.ndarray) else cells for cells in columns.values()]
    finite_cells = [[finite(x) if isinstance(x, float) else x for x in column] for column in cells]
    return [dict(zip(columns, row, strict=True)) for row in zip(*finite_cells, strict=True)]


def csv_of_columns(columns: Mapping[str, Any]) -> str:
    """Write columns as CSV, as `csv_of` writes rows."""
    return csv_of(rows_of(columns), [*columns])


def csv_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV: None is blank, lists are joined by spaces, and numbers have all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(name) for name in columns]
        writer.writerow([" ".join(cell) if isinstance(cell, list | tuple) else cell for cell in cells])
    return text.getvalue()


def write_whole(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write `files` (name: content) into `folder`, which is created if it is missing.

    All files are written under temporary names first and then renamed, so each name has either the old or the new file.
    Raises PsychometricsError if they cannot be written.
    """
    parts: list[tuple[Path, Path]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            handle, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
            parts.append((Path(part), folder / name))
            with os.fdopen(handle, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
                file.flush()
                os.fsync(file.fileno())
            Path(part).chmod(0o644)
        for fresh, target in parts:
            fresh.replace(target)
    except OSError as error:
        raise PsychometricsError(f"{folder}: results cannot be written there: {error}") from error
    finally:
        for fresh, _ in parts:
            fresh.unlink(missing_ok=True)


def check_folder(folder: Path | None) -> None:
    """Raise PsychometricsError if results cannot be written to the folder; commands check this before they compute.

    None: the command writes no files.
    """
    if folder is None:
        return
    existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    if not existing.is_dir():
        raise PsychometricsError(f"{folder}: results go into a folder, and {existing} is a file")
    if not os.access(existing, os.W_OK):
        raise PsychometricsError(f"{folder}: results cannot be written there: no permission to write in {existing}")
