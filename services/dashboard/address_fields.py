"""Read the fields of a page's address. An unknown name raises NotFound, which lists the names that exist."""

from collections.abc import Collection, Sequence
from datetime import datetime

from htmltools import TagChild, tags

from irt_assets.common.dashboard_pages import address
from irt_assets.common.partitions import Month
from irt_assets.common.wording import join_names
from irt_assets.gates.month_classification import MonthState
from services.dashboard.elements import shorten
from services.dashboard.page import NotFound, ViewRequest

BOX_PREFIX = "chosen:"
"""Prefix of a ticked box's name in the fields of an address."""


def chosen_names(request: ViewRequest, field: str) -> list[str]:
    """The names in the ticked boxes and in a field of the address, without repetitions."""
    names = [name.removeprefix(BOX_PREFIX) for name in request.fields if name.startswith(BOX_PREFIX)]
    return list(dict.fromkeys([*names, *filter(None, [request.field(field)])]))


def require_known(noun: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        message = f" {shorten(name)!r}, only {join_names(names, 10)}" if names else " yet"
        raise NotFound(f"There is no {noun}{message}.")


def changed_address(request: ViewRequest, **changes: str | None) -> str:
    """The page's address with some fields changed or, if None, left out."""
    fields = {**request.fields, **changes}
    return address(request.view, **{name: value for name, value in fields.items() if name != "view"})


def paginate(request: ViewRequest, n_rows: int, size: int) -> tuple[int, TagChild]:
    """The index of the first row on the page of a table that the address chooses, and links to the other pages."""
    pages = max(1, -(-n_rows // size))
    text = request.field("page", "1")
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= pages):
        raise NotFound(f"{shorten(text)!r} is not a page: write 1 to {pages}.")
    current = int(text)
    if pages == 1:
        return 0, None
    near = sorted({1, pages, *range(max(1, current - 3), min(pages, current + 3) + 1)})
    entries = [
        tags.li(
            tags.a(
                str(k),
                href=changed_address(request, page=str(k)),
                class_="page-link",
                aria_current="page" if k == current else None,
            ),
            class_="page-item active" if k == current else "page-item",
        )
        for k in near
    ]
    links = tags.nav(tags.ul(*entries, class_="pagination flex-wrap"), aria_label="Pages of the table")
    return (current - 1) * size, links


def bounds_of_month(text: str) -> tuple[datetime, datetime]:
    """Start (inclusive) and end (exclusive) of the month that the text names."""
    try:
        return Month(text).bounds
    except ValueError:
        raise NotFound(f"{shorten(text)!r} is not a month: write one like 2026-08.") from None


def scales_of(states: Sequence[MonthState]) -> list[str]:
    return list(dict.fromkeys(state.scale_id for state in states))


def months_of(states: Sequence[MonthState]) -> list[str]:
    """List the months of the states, newest first."""
    return list(dict.fromkeys(state.month for state in reversed(states)))


def find_scale(request: ViewRequest, states: Sequence[MonthState]) -> str:
    """Return the scale that the address names, or else the first scale."""
    scales = scales_of(states)
    if not scales:
        raise NotFound("No scale has any item yet: import the bank with irt import questions FILE.")
    name = request.field("scale", scales[0])
    require_known("scale", name, scales)
    return name


def find_month(request: ViewRequest, states: Sequence[MonthState], field: str, default: str) -> str:
    """Return the month that a field of the address names, or `default` if the field is empty."""
    months = months_of(states)
    if not months:
        raise NotFound("No month has ended yet: there is nothing to show.")
    name = request.field(field, default)
    if name not in months:
        raise NotFound(f"There is no month {shorten(name)!r}: there are {months[-1]} to {months[0]}.")
    return name


def state_of(states: Sequence[MonthState], month: str, scale_id: str) -> MonthState:
    return next(state for state in states if (state.month, state.scale_id) == (month, scale_id))
