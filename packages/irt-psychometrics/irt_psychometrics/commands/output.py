"""Write files, and reports as sentences and tables."""

import csv
import io
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irt_psychometrics.core.errors import PsychometricsError


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


def csv_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV: None is blank, lists are joined by spaces, and numbers have all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(name) for name in columns]
        writer.writerow([" ".join(cell) if isinstance(cell, list | tuple) else cell for cell in cells])
    return text.getvalue()


def write_whole(folder: Path, files: Mapping[str, str]) -> None:
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
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(content)
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
