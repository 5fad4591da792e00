"""Texts in a CSV file that people open in a spreadsheet."""

from typing import TypeVar

T = TypeVar("T")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""First characters of texts that spreadsheets run as formulas (OWASP, CSV injection)."""


def no_formula(cell: T) -> T | str:
    """The cell, with an apostrophe before it if it is a text that a spreadsheet would run."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
