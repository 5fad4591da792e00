"""Markdown, as Dagster's page and the docs show it."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Collection[str] = ()) -> str:
    """Columns, those named in `numeric` aligned to the right, and a line a row. What a cell holds is shown as text."""
    alignment = "".join("--:|" if name in numeric else "---|" for name in columns)
    return "\n".join([_line(columns), f"|{alignment}", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {text} |" if text else " |" for text in map(escaped, cells))


def escaped(text: str) -> str:
    """`text` as Markdown that shows it. An underscore within a word is one anyway."""
    return re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))", r"\\\1", html.escape(" ".join(text.split()), quote=False))
