"""What pages are built of: tables, links, badges of a state, numbers and times as text.

Markup comes from htmltools, which escapes every text. What does not belong here: what a page shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import count
from zoneinfo import ZoneInfo

from htmltools import Tag, TagChild, TagList, tags

from services.dashboard.page import address

DASH = "–"
TONES = {
    "green": "success",
    "pending": "info",
    "running": "info",
    "stale": "warning",
    "missing": "secondary",
    "red": "danger",
}
"""Of a month's state, as Bootstrap has its colours; the word always stands beside the colour."""
_numbers = count()


def link(text: TagChild, view: str, **fields: str | None) -> Tag:
    return tags.a(text, href=address(view, **fields))


def badge(text: str, tone: str | None = None) -> Tag:
    """A word in a coloured field. tone: one of Bootstrap's; without one, that of the month's state `text`."""
    return tags.span(text, class_=f"badge text-bg-{tone or TONES.get(text, 'secondary')}")


def table(caption: str, headers: Sequence[str], rows: Iterable[Sequence[TagChild]], *, numbers: str = "") -> Tag:
    """A table that scrolls sideways where the window is narrow, by keyboard too.

    numbers: a letter a column, `n` for one of numbers, which stand on the right; any other for text.
    """
    kind = ["text-end pe-3" if k < len(numbers) and numbers[k] == "n" else None for k in range(len(headers))]
    head = tags.tr(*(tags.th(name, scope="col", class_=of) for name, of in zip(headers, kind, strict=True)))
    body = [tags.tr(*(tags.td(cell, class_=of) for cell, of in zip(row, kind, strict=True))) for row in rows]
    if not body:
        body = [tags.tr(tags.td("none", colspan=str(len(headers)), class_="text-body-secondary"))]
    name = f"table-{next(_numbers)}"
    return tags.div(
        tags.table(
            tags.caption(caption, id=name, class_="caption-top"),
            tags.thead(head),
            tags.tbody(*body),
            class_="table table-sm table-hover",
        ),
        class_="table-responsive",
        tabindex="0",
        role="region",
        aria_labelledby=name,
    )


def facts(pairs: Iterable[tuple[str, TagChild]]) -> Tag:
    """What is known of one thing: names and values."""
    return tags.dl(
        *(TagList(tags.dt(name, class_="col-sm-3"), tags.dd(value, class_="col-sm-9")) for name, value in pairs),
        class_="row",
    )


def section(title: str, *body: TagChild) -> Tag:
    return tags.section(tags.h2(title, class_="h4 mt-4"), *body)


def notice(*body: TagChild, tone: str = "info") -> Tag:
    return tags.div(*body, class_=f"alert alert-{tone}", role="status")


def shortened(text: str, most: int = 60) -> str:
    """The beginning of an id, which may be as long as whoever made it up liked."""
    return text if len(text) <= most else f"{text[:most]}…"


def prose(text: str) -> TagList:
    """A sentence; what stands between backticks is a command."""
    parts = text.split("`")
    return TagList(*(tags.code(part) if k % 2 and k < len(parts) - 1 else part for k, part in enumerate(parts) if part))


def choice(label: str, name: str, options: Iterable[str], chosen: str) -> Tag:
    """A field of a form whose value is one of `options`."""
    return tags.div(
        tags.label(label, for_=name, class_="form-label mb-0"),
        tags.select(
            *(tags.option(option, value=option, selected="" if option == chosen else None) for option in options),
            name=name,
            id=name,
            class_="form-select",
        ),
        class_="col-auto",
    )


def asking_form(view: str, *inputs: TagChild, button: str = "Show") -> Tag:
    """A form that leads to the address of a view with its inputs as fields."""
    return tags.form(
        tags.input(type="hidden", name="view", value=view),
        *inputs,
        tags.div(tags.button(button, type="submit", class_="btn btn-primary"), class_="col-auto"),
        method="get",
        class_="row g-3 align-items-end mb-3",
    )


def number(value: float | None, places: int = 2) -> str:
    """With a real minus sign; a dash where there is none."""
    return DASH if value is None or value != value else f"{value:.{places}f}".replace("-", "−")


def percent(share: float | None) -> str:
    return DASH if share is None or share != share else f"{100 * share:.0f} %"


def moment(at: datetime | None, zone: str = "UTC") -> TagChild:
    """To the minute, in the zone of displays, which it names."""
    if at is None:
        return DASH
    return tags.time(
        f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}", datetime=at.isoformat(), class_="text-nowrap"
    )
