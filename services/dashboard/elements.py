"""What pages are built of: tables, links, badges of a state, numbers and times as text.

Markup comes from htmltools, which escapes every text. What does not belong here: what a page shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

from htmltools import Tag, TagChild, TagList, tags
from markupsafe import Markup

from irt_assets import blocks
from irt_assets.blocks import DASH as DASH
from irt_assets.blocks import Block, Column, Moment, Pairs, Span, Table
from irt_assets.blocks import number as number
from irt_assets.blocks import percent as percent
from irt_assets.common.dashboard_pages import address
from irt_assets.common.wording import shortened as shortened
from services.dashboard.figures import shown
from services.dashboard.page import file_address

TONES = {
    "green": "success",
    "pending": "info",
    "running": "info",
    "stale": "warning",
    "missing": "secondary",
    "red": "danger",
}
"""Bootstrap's colour of each state of a month; a badge always has the word too."""


def link(text: TagChild, view: str, **fields: str | None) -> Tag:
    return tags.a(text, href=address(view, **fields))


def badge(text: str, tone: str | None = None) -> Tag:
    """A word in a coloured field. tone: one of Bootstrap's; None: that of the month's state `text`."""
    return tags.span(text, class_=f"badge text-bg-{tone or TONES.get(text, 'secondary')}")


def table(
    caption: str,
    headers: Sequence[TagChild],
    rows: Iterable[Sequence[TagChild]],
    *,
    numbers: str = "",
    sorted_by: tuple[int, Literal["ascending", "descending"]] | None = None,
) -> Tag:
    """A table of elements (one of text and numbers is a block). numbers: a letter a column, `n` for one of numbers, any
    other for text. sorted_by: the column by which the rows are sorted, and how."""
    columns = [Column(markup(name), number=numbers[k : k + 1] == "n") for k, name in enumerate(headers)]
    body = tuple(tuple(map(markup, row)) for row in rows)
    return tags.div(shown(Table(tuple(columns), body, caption, narrow="scroll", sorted_by=sorted_by)))


def markup(child: TagChild) -> Markup:
    """An element as the cell of a table or the words of a paragraph."""
    return Markup(TagList(child).get_html_string())  # noqa: S704 - htmltools has escaped it


def text_field(label: str, name: str, value: str) -> Tag:
    """A field of a form for a search."""
    return tags.div(
        tags.label(label, for_=name, class_="form-label mb-0"),
        tags.input(id=name, name=name, type="search", value=value, class_="form-control"),
        class_="col-auto",
    )


def facts(pairs: Iterable[tuple[str, TagChild]]) -> Tag:
    """Facts about one thing: names and values."""
    return tags.div(shown(Pairs(tuple((name, markup(value)) for name, value in pairs))))


def section(title: str, *body: Block | TagChild) -> Tag:
    return tags.section(tags.h2(title, class_="h4 mt-4"), shown(*body))


def notice(*body: TagChild, tone: str = "info") -> Tag:
    return tags.div(*body, class_=f"alert alert-{tone}", role="status")


def prose(text: str) -> TagList:
    """A sentence; what stands between backticks is a command."""
    return TagList(*(tags.code(part.text) if isinstance(part, Span) else part for part in blocks.prose(text)))


def choice(label: str, name: str, options: Iterable[str] | Mapping[str, str], chosen: str) -> Tag:
    """A field of a form whose value is one of `options`; of a mapping, whose names are shown."""
    named = options if isinstance(options, Mapping) else {option: option for option in options}
    return tags.div(
        tags.label(label, for_=name, class_="form-label mb-0"),
        tags.select(
            *(
                tags.option(text, value=value, selected="" if value == chosen else None)
                for value, text in named.items()
            ),
            name=name,
            id=name,
            class_="form-select",
        ),
        class_="col-auto",
    )


def tick_box(label: str, name: str, *, ticked: bool) -> Tag:
    """A field of a form that is `1` where it is ticked."""
    return tags.div(
        tags.div(
            tags.input(
                type="checkbox",
                name=name,
                value="1",
                id=name,
                class_="form-check-input",
                checked="" if ticked else None,
            ),
            tags.label(label, for_=name, class_="form-check-label ms-1"),
            class_="form-check",
        ),
        class_="col-auto",
    )


def asking_form(view: str, *inputs: TagChild, kept: Mapping[str, str] | None = None, button: str = "Show") -> Tag:
    """A form that leads to the address of a view with its inputs as fields; `kept`: hidden fields."""
    return tags.form(
        *(
            tags.input(type="hidden", name=name, value=value)
            for name, value in ({"view": view} | dict(kept or {})).items()
            if value
        ),
        *inputs,
        tags.div(tags.button(button, type="submit", class_="btn btn-primary"), class_="col-auto"),
        method="get",
        class_="row g-3 align-items-end mb-3",
    )


def table_files(text: str, what: str, **fields: str | None) -> Tag:
    """Links to a table as a file of each kind."""
    kinds = {"csv": "CSV", "xlsx": "Excel", "parquet": "Parquet"}
    links = [tags.a(name, href=file_address(what, kind, **fields), download="") for kind, name in kinds.items()]
    return tags.p(text, *(TagList(" ", one) for one in links))


def moment(at: datetime | None, zone: str = "UTC") -> TagChild:
    """The time to the minute, in `zone`, which it names; a dash for None."""
    if at is None:
        return DASH
    return tags.time(Moment(at, zone).text, datetime=at.isoformat(), class_="text-nowrap")
