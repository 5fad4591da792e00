"""What a report is made of: headings, sentences, tables and charts, the same for HTML and PDF.

A document has a report's content in order; text in it is plain text, never markup. What does not belong here: the
content (see the callers), and how a block looks (`render`, `templates/report.*`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from markupsafe import Markup

from irt_assets.charts.chart import Chart
from irt_assets.charts.svg import svg


@dataclass(frozen=True)
class Span:
    """Some words of a sentence. `link`: `#id` of a heading or group of the same document, or an address."""

    text: str
    style: Literal["", "bold", "quiet", "code"] = ""
    link: str = ""


Text: TypeAlias = "str | Span | tuple[str | Span, ...]"


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2
    id: str = ""


@dataclass(frozen=True)
class Paragraph:
    text: Text
    style: Literal["", "lead", "quiet"] = ""


@dataclass(frozen=True)
class Numbered:
    """A list of things to do, in this order."""

    items: tuple[Text, ...]


@dataclass(frozen=True)
class Pairs:
    """Names and values; `small`: two side by side on paper, if both are short."""

    rows: tuple[tuple[str, Text], ...]
    small: bool = False


@dataclass(frozen=True)
class Column:
    """`number`: aligned at the right and never broken; `share`: of the width that the numbers leave, 0 for as little
    as its longest cell takes."""

    name: str
    number: bool = False
    share: float = 0.0


@dataclass(frozen=True)
class Table:
    """`narrow`: on a phone each row becomes a card of names and values, or the table scrolls. `filter_id`: names a long
    table whose rows a reader of the HTML can filter."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Text, ...], ...]
    narrow: Literal["cards", "scroll"] = "cards"
    sortable: bool = False
    filter_id: str = ""
    small: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart as SVG; `described`: what it shows, for those who do not see it. `wide`: it takes the whole width."""

    svg: Markup
    described: str
    caption: str = ""
    wide: bool = False


def figure(chart: Chart, caption: str = "", *, wide: bool = False) -> Figure:
    return Figure(svg(chart), chart.described, caption, wide)


@dataclass(frozen=True)
class Figures:
    """Charts side by side if there is room."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Group:
    """Blocks that a page break does not part, as long as they fit on a page."""

    blocks: tuple[Block, ...]
    id: str = ""


@dataclass(frozen=True)
class Box:
    """Blocks set apart: good or bad news in a frame, a remark next to a line, or one about what is missing."""

    blocks: tuple[Block, ...]
    tone: Literal["good", "bad", "remark", "missing"]


Block: TypeAlias = "Heading | Paragraph | Numbered | Pairs | Table | Figures | Group | Box"


@dataclass(frozen=True)
class Document:
    """A report. `subtitle` stands under the title, `running` at the top of each further page of a PDF.

    `kind`: a bank's report is dense and has page numbers, a learner's is a page in larger print.
    """

    title: str
    language: str
    kind: Literal["bank", "learner"]
    blocks: tuple[Block, ...]
    subtitle: str = ""
    running: str = ""
    contents: tuple[tuple[str, str], ...] = ()
    """Links at the top of the HTML: what, and the id of its heading."""


def table_of(
    names: Sequence[str],
    rows: Sequence[tuple[Text, ...]],
    *,
    numbers: Sequence[str] = (),
    sortable: bool = False,
    narrow: Literal["cards", "scroll"] = "cards",
) -> Table:
    """Words share the width that the numbers leave; the last of them, a reason as a rule, takes the most."""
    words = [name for name in names if name not in numbers]
    columns = tuple(
        Column(name, True)
        if name in numbers
        else Column(name, share=4 if narrow == "cards" and name == words[-1] else 1)
        for name in names
    )
    return Table(columns, tuple(rows), narrow, sortable, small=narrow == "scroll")
