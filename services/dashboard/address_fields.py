"""Read the fields of a page's address. A field that names nothing raises NotFound, with the names that exist."""

from collections.abc import Collection
from datetime import datetime

from irt_assets.common.partitions import Month
from irt_assets.common.wording import join_names
from irt_assets.gates.month_classification import MonthState
from jobs.watching.overview import Overview
from services.dashboard.elements import shorten
from services.dashboard.page import NotFound, ViewRequest

CHOSEN = "chosen:"
"""Prefix of a ticked box's name in the fields of an address."""


def names_in(asked: ViewRequest, field: str) -> list[str]:
    """The names in the ticked boxes and in a field of the address, without repetitions."""
    names = [name.removeprefix(CHOSEN) for name in asked.fields if name.startswith(CHOSEN)]
    return list(dict.fromkeys([*names, *filter(None, [asked.field(field)])]))


def require_known(what: str, named: str, known: Collection[str]) -> None:
    if named not in known:
        there = f" {shorten(named)!r}, only {join_names(known, 10)}" if known else " yet"
        raise NotFound(f"There is no {what}{there}.")


def whole_number(asked: ViewRequest, field: str, what: str, otherwise: int, lowest: int, highest: int) -> int:
    """The number in a field of the address, or `otherwise` if the field is empty."""
    text = asked.field(field, str(otherwise))
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and lowest <= int(text) <= highest):
        raise NotFound(f"{shorten(text)!r} is not a {what}: write {lowest} to {highest}.")
    return int(text)


def bounds_of_month(text: str) -> tuple[datetime, datetime]:
    """Start (inclusive) and end (exclusive) of the month that the text names."""
    try:
        return Month(text).bounds
    except ValueError:
        raise NotFound(f"{shorten(text)!r} is not a month: write one like 2026-08.") from None


def scales_of(overview: Overview) -> list[str]:
    return list(dict.fromkeys(state.scale_id for state in overview.months))


def months_of(overview: Overview) -> list[str]:
    """The months of the overview, newest first."""
    return list(dict.fromkeys(state.month for state in reversed(overview.months)))


def scale_named(asked: ViewRequest, overview: Overview) -> str:
    """The scale that the address names, or else the first scale."""
    scales = scales_of(overview)
    if not scales:
        raise NotFound("No scale has any item yet: import the bank with irt import questions FILE.")
    named = asked.field("scale", scales[0])
    require_known("scale", named, scales)
    return named


def month_named(asked: ViewRequest, overview: Overview, field: str, otherwise: str) -> str:
    """The month that a field of the address names, or `otherwise` if the field is empty."""
    months = months_of(overview)
    if not months:
        raise NotFound("No month is over yet: there is nothing to see.")
    named = asked.field(field, otherwise)
    if named not in months:
        raise NotFound(f"There is no month {shorten(named)!r}: there are {months[-1]} to {months[0]}.")
    return named


def state_of(overview: Overview, month: str, scale_id: str) -> MonthState:
    return next(state for state in overview.months if (state.month, state.scale_id) == (month, scale_id))


def decisions_waiting(overview: Overview, month: str, scale_id: str) -> int:
    """Number of proposals of the month that need a decision."""
    return sum(w.decisions for w in overview.waiting_by_month if (w.month, w.scale_id) == (month, scale_id))
