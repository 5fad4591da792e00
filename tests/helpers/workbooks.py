"""Excel workbooks with given cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import xlsxwriter


def write_cells(path: Path, cells: Mapping[str, float | str]) -> Path:
    """Write a workbook of one sheet. `cells`: place of a cell, such as C3 → value."""
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for place, value in cells.items():
            sheet.write(place, value)
    return path
