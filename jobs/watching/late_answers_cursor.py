"""Late answers: which days, weeks and months are computed again because of them. Decisions only.

What does not belong here: reading the log (see `responses.late_months`), and asking Dagster (see `late_sensor`).
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from irt_assets.common.partitions import day_bounds, day_of, week_bounds, week_of
from irt_assets.responses.late_months import Arrival

OVERLAP = timedelta(hours=24)
"""A longer transaction is noticed only when other answers of its days arrive."""
QUIET = timedelta(minutes=5)
LONGEST_WAIT = timedelta(hours=1)
WEEKS_AFTER = 8
"""KPIs look back 56 days."""
CLOSED_AFTER = timedelta(hours=3)
"""Time after a day's end by which the schedules have made its features and its week."""


@dataclass(frozen=True)
class Memory:
    """What the sensor remembers between ticks: its cursor.

    Attributes:
        since: how far back it looks at `recorded_at`; a full hour.
        seen: the counts of the days and hours that it has handled.
        noticed: when it first saw the answers that it holds back.
        months: months that are still to be compared with their snapshots.
        tonight: months that are to be, when the next night begins.
        night: the last night that has begun: the day before it.
        fresh: nothing was seen before.
    """

    since: datetime
    seen: Mapping[str, tuple[int, int]]
    noticed: datetime | None = None
    months: tuple[str, ...] = ()
    tonight: tuple[str, ...] = ()
    night: str = ""
    fresh: bool = False

    @classmethod
    def read(cls, cursor: str | None, now: datetime) -> "Memory":
        return TypeAdapter(cls).validate_json(cursor) if cursor else cls(_looks_back_to(now), {}, fresh=True)

    def write(self) -> str:
        return TypeAdapter(Memory).dump_json(self).decode()

    def new(self, arrived: Iterable[Arrival]) -> list[Arrival]:
        """The new arrivals; a day and hour that was seen before with other counts is returned whole."""
        return [one for one in arrived if self.seen.get(_cell(one)) != one.counts]

    def live_days(self, new: Iterable[Arrival]) -> set[str]:
        """The days with new answers in live mode, or with changes."""
        return {one.day for one in new if self.seen.get(_cell(one), (0, 0))[1] != one.counts[1]}

    def waiting(self, now: datetime) -> "Memory":
        return replace(self, noticed=self.noticed or now)

    def months_due(self, changed: Collection[str], late: Collection[str], now: datetime) -> tuple[set[str], set[str]]:
        """The months to compare now, and those that new answers alone concern (`late`): they wait for the night."""
        now_due, tonight = {*self.months, *changed}, {*self.tonight, *late}
        return (now_due, tonight) if self.night == night_of(now) else (now_due | tonight, set())

    def mark_handled(
        self, arrived: Iterable[Arrival], now: datetime, months: Iterable[str] = (), tonight: Iterable[str] = ()
    ) -> "Memory":
        since = _looks_back_to(now)
        hour = since.strftime("%Y-%m-%dT%H")
        seen = {_cell(one): one.counts for one in arrived if one.hour >= hour}
        return Memory(since, seen, None, tuple(sorted(months)), tuple(sorted(tonight)), night_of(now))


def night_of(now: datetime) -> str:
    """The night that has last begun, by the day that is over: at 03:00, with the nightly calibration."""
    return day_of(now - CLOSED_AFTER - timedelta(days=1))


def waits(new: Sequence[Arrival], noticed: datetime | None, now: datetime) -> bool:
    """Whether answers keep coming: one was recorded within five minutes, and the first was noticed within an hour."""
    return any(now - one.latest < QUIET for one in new) and (noticed is None or now - noticed < LONGEST_WAIT)


def late_days(versions: Mapping[str, str], sources: Mapping[str, str], now: datetime, *, fresh: bool) -> dict[str, str]:
    """The days with late answers, each with its version: days that may have been read without them.

    Args:
        versions: of days with new answers, the hash of their answers now. sources: the hashes that days of features
            were computed from. fresh: nothing is known about earlier answers, so only a hash can decide.
    """
    closed = night_of(now)
    return {
        day: version
        for day, version in versions.items()
        if (sources[day] != version if day in sources else not fresh and day <= closed)
    }


def weeks_to_ask(late: Mapping[str, str], made: Collection[str]) -> dict[str, str]:
    """Weeks of the late days and the eight after each, of those that were made; each with a digest of its reasons."""
    reasons: dict[str, list[str]] = {}
    for day, version in sorted(late.items()):
        first = week_bounds(week_of(day_bounds(day)[0]))[0]
        for n in range(WEEKS_AFTER + 1):
            week = week_of(first + timedelta(weeks=n))
            if week in made:
                reasons.setdefault(week, []).append(f"{day} {version}")
    return {week: digest(*why) for week, why in sorted(reasons.items())}


def digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _cell(one: Arrival) -> str:
    return f"{one.day} {one.hour}"


def _looks_back_to(now: datetime) -> datetime:
    return (now - OVERLAP).replace(minute=0, second=0, microsecond=0)
