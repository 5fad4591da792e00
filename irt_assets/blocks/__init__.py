"""Content of reports and pages as data: sentences, tables, figures, lists, name-value pairs, and sections of them.

Content is turned into blocks once, and a renderer shows them in each medium: `html` (reports and the dashboard), `pdf`,
`markdown` (the Dagster UI) and `terminal`. Text is plain text, never markup: each renderer escapes it. Nothing here
imports NumPy, Dagster or a renderer. What does not belong here: the wording of a page (see the callers).
"""

from __future__ import annotations

import numbers as numeric_types
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from irt_psychometrics.plots import Chart, Picture

DASH = "–"
Tone: TypeAlias = Literal["good", "bad", "warning", "info", "neutral", "dark"]


@dataclass(frozen=True)
class Span:
    """Part of a sentence. `link` is `#id` of a section of the same document, or a URL."""

    text: str
    style: Literal["", "bold", "quiet", "code"] = ""
    link: str = ""


@dataclass(frozen=True)
class Badge:
    """A word on a coloured background. The colour only repeats the meaning of the word."""

    text: str
    tone: Tone = "neutral"
    link: str = ""


@dataclass(frozen=True)
class Moment:
    """A time to the minute, followed by the name of its time zone."""

    at: datetime
    zone: str = "UTC"

    @property
    def text(self) -> str:
        return f"{self.at.astimezone(ZoneInfo(self.zone)):%Y-%m-%d %H:%M} {self.zone}"


Text: TypeAlias = "str | Span | Badge | Moment | tuple[Text, ...]"
"""Text of a block. A Markup (markupsafe) is HTML that is not escaped, for pages only."""


def prose(text: str) -> tuple[str | Span, ...]:
    """Turn a sentence with commands in backticks into spans of text and code."""
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
    """Return the content as a string without styles and links; for details, only the summary."""
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
    """Names and values. If `small`, a PDF puts two short pairs next to each other."""

    rows: tuple[tuple[str, Content], ...]
    small: bool = False


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        number: whether cells are aligned at the right and never broken.
        format: format specification of numbers, as in `format(value, …)`.
        share: relative share of the width that the columns of numbers leave; 0: the width of the longest cell.
        hint: explanation of the name, which pages show when the pointer is on it.
        bar: whether the dashboard draws a bar behind each number, relative to the largest one; behind
            a percentage, relative to 100 %.
    """

    name: Text
    number: bool = False
    format: str = ""
    share: float = 0.0
    hint: str = ""
    bar: bool = False

    def format_cell(self, cell: Cell, minus: str) -> Content:
        """The cell's content. A missing value becomes a dash, and a number is formatted with `minus` as its sign."""
        if cell is None or cell != cell:
            return DASH
        if isinstance(cell, numeric_types.Real):
            return _NEGATIVE_ZERO.sub("", format(cell, self.format)).replace("-", minus)
        return cell  # type: ignore[return-value]  # not a number


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: subject of the table.
        empty: text shown instead of the rows if there are none.
        sortable: whether a reader of an HTML report can sort it by a click on a heading.
        sorted_by: index of the column by which the rows are sorted, and the direction.
        filter_id: HTML id of a long table whose rows a reader of an HTML report can filter; "" for no filter.
        small: whether it is dense and in small print. On a phone such a table scrolls, and the rows of any other
            table become cards of names and values.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    empty: str = "none"
    sortable: bool = False
    sorted_by: tuple[int, Literal["ascending", "descending"]] | None = None
    filter_id: str = ""
    small: bool = False

    def body(self, minus: str = "−") -> Iterator[list[Content]]:
        """Yield the rows with their numbers formatted and their missing values as dashes."""
        for row in self.rows:
            yield [column.format_cell(cell, minus) for column, cell in zip(self.columns, row, strict=True)]

    def with_column(self, name: Text, cells: Iterable[Cell], *, first: bool = False) -> Table:
        """Return the table with one more column, after the other columns or, if `first`, before them."""
        columns = [Column(name), *self.columns] if first else [*self.columns, Column(name)]
        rows = [(cell, *row) if first else (*row, cell) for row, cell in zip(self.rows, cells, strict=True)]
        return replace(self, columns=tuple(columns), rows=tuple(rows))


@dataclass(frozen=True)
class Figure:
    """A chart with its caption.

    Attributes:
        wide: whether it takes the whole width.
        numbers: its values as a table, which the dashboard shows after a click.
        alt: description for readers who cannot see it, if the chart's own description is not good enough.
    """

    chart: Chart | Picture
    caption: str = ""
    wide: bool = False
    numbers: Table | None = None
    alt: str = ""

    @property
    def description(self) -> str:
        """Description for readers who cannot see the figure."""
        return self.alt or (self.chart.described if isinstance(self.chart, Chart) else self.chart.title)

    @property
    def svg(self) -> str:
        """The chart as SVG for a page."""
        return self.chart.to_svg(bare=True) if isinstance(self.chart, Chart) else self.chart.to_svg()


@dataclass(frozen=True)
class Figures:
    """Figures next to each other if there is room."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Section:
    """Blocks under a title. If `together`, no page break divides them, provided that they fit on a page.

    `language` is set if it may differ from the document's language, as in letters.
    """

    title: str
    blocks: tuple[Block, ...]
    id: str = ""
    level: int = 2
    together: bool = False
    language: str = ""


@dataclass(frozen=True)
class Box:
    """Blocks in a frame: good or bad news, or a remark."""

    blocks: tuple[Block, ...]
    tone: Tone = "info"


Block: TypeAlias = "Paragraph | List | Pairs | Table | Figure | Figures | Section | Box | Details"


@dataclass(frozen=True)
class Letterhead:
    """The sender's part of a letter.

    Attributes:
        logo: a picture, PNG or JPEG; empty: no logo.
        address: the lines of the sender's address.
        closing: the paragraphs at the end of a letter, by language; the language "" is for all other languages.
    """

    logo: bytes = b""
    address: tuple[str, ...] = ()
    closing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """A report, or letters.

    Attributes:
        kind: "bank" for a dense report with page numbers, "learner" for one in larger print, "letter" for letters: each
            block is a section with its language, and begins on a page of its own below the letterhead.
        subtitle: line below the title.
        running: header of every page of a PDF except the first.
    """

    title: str
    language: str
    kind: Literal["bank", "learner", "letter"]
    blocks: tuple[Block, ...]
    subtitle: str = ""
    running: str = ""
    letterhead: Letterhead = Letterhead()

    @property
    def contents(self) -> tuple[Section, ...]:
        """Sections with an id. The HTML of a bank's report begins with links to them."""
        return tuple(block for block in self.blocks if isinstance(block, Section) and block.id)


def walk(blocks: Iterable[Block], section: str = "") -> Iterator[tuple[str, Block]]:
    """Yield the blocks of all depths, each with the title of its innermost section; a section has its own title.

    A box and figures next to each other are not yielded, only their blocks.
    """
    for block in blocks:
        match block:
            case Figures():
                yield from walk(block.figures, section)
            case Section(title=title) | Details(summary=title):
                yield title, block
                yield from walk(block.blocks, title)
            case Box():
                yield from walk(block.blocks, section)
            case _:
                yield section, block


def table(
    names: Sequence[Text | Column],
    rows: Iterable[Sequence[Cell]],
    *,
    numbers: Mapping[str, str] | Collection[str] = (),
    caption: str = "",
    empty: str = "none",
    small: bool = False,
    sortable: bool = False,
) -> Table:
    """Return a table whose columns `numbers` contain numbers. If `numbers` is a mapping, its values are their formats.
    A `Column` among the names is kept.

    The columns of words share the width that the numbers leave. The last of them, usually a reason, is the widest,
    unless the table is small.
    """
    formats = numbers if isinstance(numbers, Mapping) else dict.fromkeys(numbers, "")
    words = [name for name in names if name not in formats and not isinstance(name, Column)]
    columns = tuple(
        name
        if isinstance(name, Column)
        else Column(name, number=True, format=formats[str(name)])
        if name in formats
        else Column(name, share=4 if not small and name == words[-1] else 1)
        for name in names
    )
    return Table(columns, tuple(map(tuple, rows)), caption, empty, sortable=sortable, small=small)


def without_page_links(content: Any) -> Any:
    """Return a copy of blocks or texts without links to pages of the dashboard; links to sections (`#id`) stay."""
    if isinstance(content, tuple):
        return tuple(map(without_page_links, content))
    if isinstance(content, Span | Badge):
        return content if content.link.startswith("#") else replace(content, link="")
    if not is_dataclass(content) or isinstance(content, type | Chart | Picture):
        return content
    return replace(content, **{name: without_page_links(value) for name, value in vars(content).items()})


def filled_sections(*parts: tuple[str, Iterable[Block]]) -> Iterator[Section]:
    """Yield a section for each title whose blocks are not empty."""
    for title, blocks in parts:
        if shown := tuple(blocks):
            yield Section(title, shown)


def notice(text: Text, tone: Tone) -> Box:
    """Return a box with one sentence."""
    return Box((Paragraph(text),), tone)


def pairs(known: Mapping[str, Content | None] | Iterable[tuple[str, Content | None]], *, small: bool = False) -> Pairs:
    """Return the names and values, without names whose value is empty."""
    rows = known.items() if isinstance(known, Mapping) else known
    return Pairs(tuple((name, value) for name, value in rows if value), small)


def value_with_error(value: float | None, error: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """A number such as −0.52 ± 0.08, without an unknown error. If `sign`, positive numbers have a plus."""
    written = (signed_number if sign else number)(value, digits)
    return written if error is None or error != error or written == DASH else f"{written} ± {number(error, digits)}"


_MINUS = re.compile(r"(?<=[ (±])-(?=\.?\d[\d.,]*(?:[\s)%;:·–]|$))")
_NEGATIVE_ZERO = re.compile(r"(?:(?<=[ (±])|^)-(?=[0.,]+(?:[\s)%;:·–]|$))")


def with_minus(text: str) -> str:
    """Replace hyphens before numbers by minus signs, and remove them before 0. Hyphens in ids, dates and URLs stay."""
    return _MINUS.sub("−", _NEGATIVE_ZERO.sub("", text))


def number(value: float | None, digits: int = 2) -> str:
    """Format a number with a true minus sign; None and NaN become a dash."""
    return DASH if value is None or value != value else f"{value:z.{digits}f}".replace("-", "−")


def signed_number(value: float | None, digits: int = 2) -> str:
    return DASH if value is None or value != value else f"{value:+z.{digits}f}".replace("-", "−")


def percent(share: float | None) -> str:
    return DASH if share is None or share != share else f"{100 * share:.0f} %"


def chance(value: float | None) -> str:
    """Format a probability; below 0.001 in scientific notation, so never as 0."""
    if value is None:
        return DASH
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}".replace("-", "−")
