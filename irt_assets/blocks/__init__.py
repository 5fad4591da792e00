"""What people read, as data: sentences, tables, figures, lists, names with values, and sections of them.

Facts become blocks once, and a renderer shows them in each medium: `html` (reports and the dashboard), `pdf`,
`markdown` (Dagster's page) and `terminal`. Text is plain text, never markup: each renderer escapes it. Nothing here
imports NumPy, Dagster or a renderer. What does not belong here: what a page says (see the callers).
"""

from __future__ import annotations

import numbers as numeric_types
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from irt_psychometrics.plots import Chart, Picture

DASH = "–"
Tone: TypeAlias = Literal["good", "bad", "warning", "info", "neutral", "dark"]


@dataclass(frozen=True)
class Span:
    """Some words of a sentence. `link`: `#id` of a section of the same document, or an address."""

    text: str
    style: Literal["", "bold", "quiet", "code"] = ""
    link: str = ""


@dataclass(frozen=True)
class Badge:
    """A word in a coloured field; the colour repeats what the word says."""

    text: str
    tone: Tone = "neutral"
    link: str = ""


@dataclass(frozen=True)
class Moment:
    """A time to the minute, in a time zone that it names."""

    at: datetime
    zone: str = "UTC"

    @property
    def text(self) -> str:
        return f"{self.at.astimezone(ZoneInfo(self.zone)):%Y-%m-%d %H:%M} {self.zone}"


Text: TypeAlias = "str | Span | Badge | Moment | tuple[Text, ...]"
"""A Markup (markupsafe) is HTML that stands as it is, for pages only."""


def prose(text: str) -> tuple[str | Span, ...]:
    """A sentence in which commands stand between backticks."""
    parts = text.split("`")
    return tuple(Span(part, "code") if k % 2 and k < len(parts) - 1 else part for k, part in enumerate(parts) if part)


@dataclass(frozen=True)
class Paragraph:
    text: Text
    style: Literal["", "lead", "quiet"] = ""


@dataclass(frozen=True)
class List:
    items: tuple[Text, ...]
    numbered: bool = False


@dataclass(frozen=True)
class Details:
    """Blocks that a page shows after a click on the summary."""

    summary: str
    blocks: tuple[Block, ...]


Content: TypeAlias = "Text | List | Details"
Cell: TypeAlias = "Content | float | None"


def plain(content: Content) -> str:
    """The words alone; of details, the summary."""
    match content:
        case str():
            return content
        case tuple():
            return "".join(map(plain, content))
        case List():
            return "; ".join(map(plain, content.items))
        case Details():
            return content.summary
        case _:
            return content.text


@dataclass(frozen=True)
class Pairs:
    """Names and values; `small`: two side by side on paper, if both are short."""

    rows: tuple[tuple[str, Content], ...]
    small: bool = False


@dataclass(frozen=True)
class Column:
    """`number`: aligned at the right and never broken; `format`: of its numbers, as in `format(value, …)`; `share`: of
    the width that the numbers leave, 0 for as little as its longest cell takes."""

    name: Text
    number: bool = False
    format: str = ""
    share: float = 0.0

    def written(self, cell: Cell, minus: str) -> Content:
        """The cell's text: a dash if there is no value, and a number as the column writes it."""
        if cell is None or cell != cell:
            return DASH
        if isinstance(cell, numeric_types.Real):
            return format(cell, self.format).replace("-", minus)
        return cell  # type: ignore[return-value]  # all but numbers


@dataclass(frozen=True)
class Table:
    """`caption`: what it shows. `empty`: stands in place of the rows if there are none. `sortable`: by a click on a
    heading of a report. `sorted_by`: the column by which the rows are sorted. `filter_id`: names a long table whose
    rows a reader of a report can filter. `small`: dense, in small print; on a phone it is scrolled, and each row of
    any other table becomes a card of names and values."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    empty: str = "none"
    sortable: bool = False
    sorted_by: tuple[int, Literal["ascending", "descending"]] | None = None
    filter_id: str = ""
    small: bool = False

    def body(self, minus: str = "−") -> Iterator[list[Content]]:
        """The rows as texts."""
        for row in self.rows:
            yield [column.written(cell, minus) for column, cell in zip(self.columns, row, strict=True)]

    def beside(self, name: Text, cells: Iterable[Cell], *, first: bool = False) -> Table:
        """With one more column, after the others or before them."""
        columns = [Column(name), *self.columns] if first else [*self.columns, Column(name)]
        rows = [(cell, *row) if first else (*row, cell) for row, cell in zip(self.rows, cells, strict=True)]
        return replace(self, columns=tuple(columns), rows=tuple(rows))


@dataclass(frozen=True)
class Figure:
    """`wide`: it takes the whole width. `numbers`: its values, which the dashboard folds. `alt`: what it shows, where
    the chart does not say so well."""

    chart: Chart | Picture
    caption: str = ""
    wide: bool = False
    numbers: Table | None = None
    alt: str = ""

    @property
    def described(self) -> str:
        """What it shows, for those who do not see it."""
        return self.alt or (self.chart.described if isinstance(self.chart, Chart) else self.chart.title)

    @property
    def svg(self) -> str:
        """The chart as a page places it, in SVG."""
        return self.chart.to_svg(bare=True) if isinstance(self.chart, Chart) else self.chart.to_svg()


@dataclass(frozen=True)
class Figures:
    """Figures side by side if there is room."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Section:
    """Blocks under a title. `together`: a page break does not part them, as long as they fit on a page."""

    title: str
    blocks: tuple[Block, ...]
    id: str = ""
    level: int = 2
    together: bool = False


@dataclass(frozen=True)
class Box:
    """Blocks set apart: good or bad news in a frame, a remark next to a line."""

    blocks: tuple[Block, ...]
    tone: Tone = "info"


Block: TypeAlias = "Paragraph | List | Pairs | Table | Figure | Figures | Section | Box | Details"


@dataclass(frozen=True)
class Document:
    """A report. `subtitle` stands under the title, `running` at the top of each further page of a PDF; `contents`:
    whether the HTML begins with links to the sections.

    `kind`: a bank's report is dense and has page numbers, a learner's is a page in larger print.
    """

    title: str
    language: str
    kind: Literal["bank", "learner"]
    blocks: tuple[Block, ...]
    subtitle: str = ""
    running: str = ""

    @property
    def contents(self) -> tuple[Section, ...]:
        """Sections that have an id, which the HTML of a bank's report links to at its top."""
        return tuple(block for block in self.blocks if isinstance(block, Section) and block.id)


def table(
    names: Sequence[Text],
    rows: Iterable[Sequence[Cell]],
    *,
    numbers: Mapping[str, str] | Collection[str] = (),
    caption: str = "",
    empty: str = "none",
    small: bool = False,
    sortable: bool = False,
) -> Table:
    """A table in which the columns `numbers` hold numbers, of a mapping in these formats. Words share the width that
    the numbers leave; the last of them, a reason as a rule, takes the most."""
    formats = numbers if isinstance(numbers, Mapping) else dict.fromkeys(numbers, "")
    words = [name for name in names if name not in formats]
    columns = tuple(
        Column(name, number=True, format=formats[str(name)])
        if name in formats
        else Column(name, share=4 if not small and name == words[-1] else 1)
        for name in names
    )
    return Table(columns, tuple(map(tuple, rows)), caption, empty, sortable=sortable, small=small)


def notice(text: Text, tone: Tone) -> Box:
    """A sentence in a frame."""
    return Box((Paragraph(text),), tone)


def pairs(known: Mapping[str, Content | None] | Iterable[tuple[str, Content | None]], *, small: bool = False) -> Pairs:
    """Names and values; those without a value are left out."""
    rows = known.items() if isinstance(known, Mapping) else known
    return Pairs(tuple((name, value) for name, value in rows if value), small)


def value_with_error(value: float | None, error: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """For example −0.52 ± 0.08; the error is left out where it is not known. `sign`: of a change, with a plus."""
    written = (signed if sign else number)(value, digits)
    return written if error is None or error != error or written == DASH else f"{written} ± {number(error, digits)}"


_MINUS = re.compile(r"(?<=[ (±])-(?=\.?\d[\d.,]*(?:[\s)%;:·–]|$))")


def with_minus(text: str) -> str:
    """The text with a true minus sign before its numbers: hyphens in ids, days and addresses stay."""
    return _MINUS.sub("−", text)


def number(value: float | None, digits: int = 2) -> str:
    """With a true minus sign; a dash if there is no number."""
    return DASH if value is None or value != value else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    return DASH if value is None or value != value else f"{value:+.{digits}f}".replace("-", "−")


def percent(share: float | None) -> str:
    return DASH if share is None or share != share else f"{100 * share:.0f} %"


def chance(value: float | None) -> str:
    """A probability: small ones as a power of ten, never as 0."""
    if value is None:
        return DASH
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}".replace("-", "−")
