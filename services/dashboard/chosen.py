"""Which month and scale an address names, of those there are."""

from __future__ import annotations

from irt_assets.calibration.green import MonthState
from irt_assets.wording import listed
from jobs.overview import Overview
from services.dashboard.elements import shortened
from services.dashboard.page import Asked, NotFound


def scales_of(overview: Overview) -> list[str]:
    return list(dict.fromkeys(state.scale_id for state in overview.months))


def months_of(overview: Overview) -> list[str]:
    """Newest first."""
    return list(dict.fromkeys(state.month for state in reversed(overview.months)))


def scale_named(asked: Asked, overview: Overview) -> str:
    """The scale that the address names, else the first. Raises NotFound for one that does not exist."""
    scales = scales_of(overview)
    if not scales:
        raise NotFound("No scale has any item yet: import the bank with irt import questions FILE.")
    named = asked.field("scale", scales[0])
    if named not in scales:
        raise NotFound(f"There is no scale {shortened(named)!r}: there are {listed(scales, 10)}.")
    return named


def month_named(asked: Asked, overview: Overview, field: str, otherwise: str) -> str:
    """The month that a field of the address names. Raises NotFound for one that is not calibrated here."""
    months = months_of(overview)
    if not months:
        raise NotFound("No month is over yet: there is nothing to see.")
    named = asked.field(field, otherwise)
    if named not in months:
        raise NotFound(f"There is no month {shortened(named)!r}: there are {months[-1]} to {months[0]}.")
    return named


def state_of(overview: Overview, month: str, scale_id: str) -> MonthState:
    return next(state for state in overview.months if (state.month, state.scale_id) == (month, scale_id))


def decisions_waiting(overview: Overview, month: str, scale_id: str) -> int:
    """How many proposals of the month ask for a decision."""
    return sum(w.decisions for w in overview.waiting_by_month if (w.month, w.scale_id) == (month, scale_id))
