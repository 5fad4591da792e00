"""Summaries of results for people: rounded numbers as text, as HTML for notebooks, and as LaTeX for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import east_asian_width

from irt_psychometrics.core.results import PrintedTable, html_page, html_table

Columns = Mapping[str, Sequence[Any]]
_NAMES = (r"\pm", r"\infty", r"\theta", r"\sigma", r"\tau", r"\alpha")
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **dict(zip("<>|−±∞θστα", map("${}$".format, ("<", ">", "|", "-", *_NAMES)), strict=True)),
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",
    "*": "{*}",
}
"""Characters with a meaning in LaTeX, or that its fonts lack. [ and * have one after the end of a row."""


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """A summary of a result. `print` shows it as text, a notebook as HTML.

    Attributes
    ----------
    title
        The name of the summarised result.
    facts
        Texts by name, such as the log-likelihood.
    tables
        Columns by the table's title. Their numbers are rounded only when they are shown.
    notes
        Sentences that the reader must know, such as the flags of items.
    decimals
        Digits after the decimal point.

    Examples
    --------
    >>> from irt_psychometrics.core.summary import Summary
    >>> print(Summary("two items", {"log L": "−12.30"}, {"items": {"item": ["q_1", "q_2"], "b": [-0.5, 1.25]}}, [], 2))
    two items
    <BLANKLINE>
    log L  −12.30
    <BLANKLINE>
    items
    item      b
    q_1   −0.50
    q_2    1.25
    """

    title: str
    facts: Mapping[str, str]
    tables: Mapping[str, Columns]
    notes: Sequence[str]
    decimals: int = 3

    def to_latex(self) -> str:
        r"""Render the summary as LaTeX: one `tabular` for the facts and one for each table, which need no package.

        Returns
        -------
        str
            LaTeX with all rows. Special characters of names are escaped.

        Examples
        --------
        >>> from irt_psychometrics.core.summary import Summary
        >>> print(Summary("items", {}, {"items": {"item": ["50 %"], "b": [-1.0]}}, [], 1).to_latex())
        items
        <BLANKLINE>
        \begin{tabular}{lr}
        \hline
        item & b \\
        \hline
        50 \% & $-$1.0 \\
        \hline
        \end{tabular}
        """
        parts = [_to_latex(self.title)]
        if self.facts:
            rows = [f"{_to_latex(name)} & {_to_latex(value)} \\\\" for name, value in self.facts.items()]
            parts.append("\n".join([r"\begin{tabular}{ll}", r"\hline", *rows, r"\hline", r"\end{tabular}"]))
        for columns in self.tables.values():
            table = PrintedTable.from_columns(columns, decimals=self.decimals, max_rows=None)
            lines = [f"{' & '.join(map(_to_latex, row))} \\\\" for row in (table.names, *filter(None, table.rows))]
            places = "".join("l" if is_text else "r" for is_text in table.are_texts)
            begin = [f"\\begin{{tabular}}{{{places}}}", r"\hline", lines[0], r"\hline"]
            parts.append("\n".join([*begin, *lines[1:], r"\hline", r"\end{tabular}"]))
        return "\n\n".join([*parts, *map(_to_latex, self.notes)])

    def __str__(self) -> str:
        width = max(map(len, self.facts), default=0)
        facts = "\n".join(f"{name:{width}}  {value}" for name, value in self.facts.items())
        tables = (f"{title}\n{self._text_of(columns)}" for title, columns in self.tables.items())
        notes = "\n".join(f"- {note}" for note in self.notes)
        return "\n\n".join(filter(None, [self.title, facts, *tables, notes]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        tables = [html_table(columns, title, decimals=self.decimals) for title, columns in self.tables.items()]
        return html_page(self.title, tables, self.facts, self.notes)

    def _text_of(self, columns: Columns) -> str:
        table = PrintedTable.from_columns(columns, decimals=self.decimals)
        rows = [[_printable(cell) for cell in row] for row in (table.names, *filter(None, table.rows))]
        widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            gaps = [" " * (width - _width(cell)) for width, cell in zip(widths, row, strict=True)]
            cells = (
                cell + gap if left else gap + cell for cell, gap, left in zip(row, gaps, table.are_texts, strict=True)
            )
            lines.append("  ".join(cells).rstrip())
        if table.n_hidden:
            lines.insert(1 + table.rows.index(None), f"… {table.n_hidden:,} more rows; to_frame() has all of them")
        return "\n".join(lines)


def _to_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _printable(text))


def _printable(text: str) -> str:
    """Replace characters that cannot be printed, such as line breaks, by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


def _width(text: str) -> int:
    """Return the number of columns of a terminal that a text takes."""
    return len(text) + sum(east_asian_width(character) in "WF" for character in text)
