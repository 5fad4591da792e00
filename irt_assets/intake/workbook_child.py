"""A sheet of a workbook as CSV, written by a child process, because a small workbook may need any amount of memory.

    python -m irt_assets.intake.workbook_child FOLDER TARGET [SHEET]

reads `workbook` in the folder, and writes the target and then `answer`, which has the sheet's name or a fault.
"""

import csv
import json
import resource
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from irt_assets.engines.child import GIB, EngineFailure, Limits, die_with_parent, run
from resources.failures import PermanentFailure

BYTES_PER_BYTE = 4
"""Memory for each byte of an unpacked workbook: a cell has at least 30 bytes of XML, and takes up to 110 in memory."""
MAX_MEMORY = 8 * GIB


def write_sheet(path: Path, sheet: str | None, target: Path) -> str:
    """Write a sheet of a workbook, by default the first one that has cells, to a CSV file. Returns the sheet's name.

    Raises PermanentFailure, which does not name the file, if the workbook is broken, has no such sheet, or spans too
    many rows and columns for its content.
    """
    with tempfile.TemporaryDirectory(prefix="irt-") as name:
        folder = Path(name)
        shutil.copyfile(path, folder / "workbook")
        command = [sys.executable, "-m", __name__, name, str(target), *([sheet] if sheet else [])]
        try:
            run(command, name="reader", answer=folder / "answer", log=folder / "log", limits=Limits())
        except EngineFailure as failure:
            raise PermanentFailure(
                "its reader ended without a result. Usually a cell far from the table makes the sheet too large: "
                "delete the rows and columns beyond the table, or save the sheet as CSV UTF-8"
            ) from failure
        answer = json.loads((folder / "answer").read_text("utf-8"))
    if "fault" in answer:
        raise PermanentFailure(answer["fault"])
    return str(answer["sheet"])


def _convert(workbook: Path, target: Path, wanted: str | None) -> dict[str, str]:
    """Write the sheet to `target`, with the row and column numbers of the workbook."""
    from python_calamine import CalamineWorkbook

    book = CalamineWorkbook.from_path(workbook)
    filled = [name for name in book.sheet_names if book.get_sheet_by_name(name).total_height]
    name = wanted or next(iter(filled), "")
    if name not in filled:
        return {"fault": f"there is no sheet {name!r} with cells; its sheets with cells: {', '.join(filled)}"}
    sheet = book.get_sheet_by_name(name)
    before = [""] * (sheet.start or (0, 0))[1]
    rows = ([*before, *map(_cell, row)] if any(cell != "" for cell in row) else () for row in sheet.iter_rows())
    with target.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return {"sheet": name}


def _cell(value: Any) -> str:
    """A cell as a spreadsheet shows it, without the format: 3 and not 3.0, TRUE as true."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _memory_for(workbook: Path) -> int:
    """Return the memory in bytes that reading a workbook may take: in proportion to its content, not to its span."""
    unpacked = workbook.stat().st_size
    with suppress(BadZipFile), ZipFile(workbook) as archive:
        unpacked += sum(part.file_size for part in archive.infolist())
    return min(MAX_MEMORY, GIB + BYTES_PER_BYTE * unpacked)


def main(folder: Path, target: Path, sheet: str | None = None) -> None:
    """Convert the workbook under a limit of memory. If the limit is reached, the process aborts."""
    die_with_parent()
    limit = _memory_for(folder / "workbook")
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = _convert(folder / "workbook", target, sheet)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the reader's errors have types of their own
        answer = {"fault": f"it cannot be read: {error}"}
    (folder / "answer").write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
