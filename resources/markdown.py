"""Markdown, as Dagster's page and the docs show it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Collection[str] = ()) -> str:
    """Columns, those named in `numeric` aligned to the right, and a line a row, whatever its cells hold."""
    alignment = "".join("--:|" if name in numeric else "---|" for name in columns)
    return "\n".join([_line(columns), f"|{alignment}", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    texts = (re.sub(r"(?<!\\)\|", r"\\|", " ".join(cell.split())) for cell in cells)
    return "|" + "".join(f" {text} |" if text else " |" for text in texts)
