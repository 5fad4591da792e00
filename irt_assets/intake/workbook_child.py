"""Convert a sheet of a workbook to CSV, in a process of its own, because a small workbook may need much memory.

    python -m irt_assets.intake.workbook_child TARGET SHEET < WORKBOOK

writes the target, and prints the sheet's name and why the workbook cannot be read, as a JSON list of two texts.
"""

import csv
import json
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

from python_calamine import CalamineSheet, CalamineWorkbook

BYTES_PER_BYTE = 4
"""Memory for each byte of an unpacked workbook: a cell has 16 to 30 bytes of XML, and takes about 70 in memory."""
MIN_MEMORY, MAX_MEMORY = 2**30, 2**33


def limit_memory(workbook: BinaryIO) -> None:
    """Limit the memory of this process in proportion to the workbook's content, not to the rows and columns it spans.

    A reader that needs more aborts the process.
    """
    unpacked = os.fstat(workbook.fileno()).st_size
    with suppress(BadZipFile), ZipFile(workbook) as archive:
        unpacked += sum(part.file_size for part in archive.infolist())
    limit = min(MAX_MEMORY, MIN_MEMORY + BYTES_PER_BYTE * unpacked)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def convert(workbook: BinaryIO, target: Path, wanted: str) -> tuple[str, str]:
    """Write a sheet to `target`: the wanted one, or if "", the first that has cells. Returns its name, and a fault."""
    try:
        book = CalamineWorkbook.from_filelike(workbook)
        filled = [name for name in book.sheet_names if book.get_sheet_by_name(name).total_height]
        name = wanted or next(iter(filled), "")
        if name not in filled:
            return name, f"there is no sheet {name!r} with cells; its sheets with cells: {', '.join(filled)}"
        with target.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(_rows(book.get_sheet_by_name(name)))
    except Exception as error:  # noqa: BLE001 - the reader's errors have types of their own
        return "", f"it cannot be read: {error}"
    return name, ""


def _rows(sheet: CalamineSheet) -> Iterator[list[str]]:
    """Yield the rows of a sheet from its first row and column on. Rows without cells are empty."""
    left = [""] * (sheet.start or (0, 0))[1]
    return ([*left, *map(_cell, row)] if any(cell != "" for cell in row) else [] for row in sheet.iter_rows())


def _cell(value: Any) -> str:
    """Return a cell as a spreadsheet shows it, without the format: 3 and not 3.0, TRUE as true."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    limit_memory(sys.stdin.buffer)
    sys.stdin.buffer.seek(0)
    sys.stdout.write(json.dumps(convert(sys.stdin.buffer, Path(sys.argv[1]), sys.argv[2])))
