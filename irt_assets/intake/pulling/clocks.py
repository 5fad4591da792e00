"""How a source writes times: with a zone, without one, or as seconds or milliseconds since 1970."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from math import inf, isfinite
from typing import Any

from irt_assets.intake.times import EARLIEST, LATEST, find_zone
from resources.failures import PermanentFailure

UNITS_PER_SECOND = {"s": 1, "ms": 1000}


@dataclass(frozen=True)
class Clock:
    """How a column writes times. `zone`: zone of times without a zone. `unit`: units per second if times are numbers
    since 1970."""

    zone: tzinfo | None = None
    unit: int | None = None

    def micros(self, value: Any) -> int:
        """Microseconds since 1970. If clocks are set back and a local time occurs twice, it is read as the first
        occurrence."""
        if self.unit is not None:
            if not isfinite(value):
                return EARLIEST if value == -inf else LATEST
            return int(value) * 1_000_000 // self.unit
        at = value if value.tzinfo else value.replace(tzinfo=self.zone)
        return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def to_source_time(self, at: datetime) -> Any:
        """An instant as the source writes it."""
        if self.unit is not None:
            return int(at.timestamp() * self.unit)
        return at if self.zone is None else at.astimezone(self.zone).replace(tzinfo=None)

    def not_after(self, at: datetime) -> Any:
        """Like `to_source_time`, but subtract the change of the clocks if that local time occurs twice."""
        local = self.to_source_time(at)
        if self.zone is None:
            return local
        first, again = (local.replace(tzinfo=self.zone, fold=fold).utcoffset() for fold in (0, 1))
        return local - max(first - again, timedelta(0))


def clock_of(value: Any, subject: str, unit: str | None, zone: str | None, *, in_utc: bool) -> Clock | None:
    """The clock of the column that contains `value`. Returns None if the column does not contain times.

    `subject`: name of the column in the message. `in_utc`: times without a zone are in UTC. Raises PermanentFailure if
    the zone of the times is unknown.
    """
    if isinstance(value, datetime):
        if value.tzinfo:
            return Clock()
        if in_utc:
            return Clock(UTC)
        if zone is None:
            raise PermanentFailure(
                f"{subject} contains times without a zone: name the zone, such as zone: Europe/Berlin"
            )
        return Clock(find_zone(zone))
    if isinstance(value, int | float | Decimal) and unit is not None:
        return Clock(None, UNITS_PER_SECOND[unit])
    return None
