"""Months, weeks and days: the partitions of the graph, and the times of their keys. All times are UTC."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

MONTH_FORMAT = "%Y-%m"
DAY_FORMAT = "%Y-%m-%d"


def monthly(first_month: str) -> dg.MonthlyPartitionsDefinition:
    """Complete calendar months from `first_month` (e.g. 2026-07) on."""
    return dg.MonthlyPartitionsDefinition(start_date=first_month, fmt=MONTH_FORMAT)


def daily(first_month: str, *, running: bool = False) -> dg.DailyPartitionsDefinition:
    """Days from the first of `first_month` on; the last is today if `running`, else yesterday."""
    return dg.DailyPartitionsDefinition(start_date=f"{first_month}-01", end_offset=int(running))


def weekly(first_month: str, *, running: bool) -> dg.WeeklyPartitionsDefinition:
    """Weeks by their Monday, from the week with the first of `first_month` on.

    The last is the current week if `running`, else the week before.
    """
    first = week_of(Month(first_month).start)
    return dg.WeeklyPartitionsDefinition(start_date=first, day_offset=1, end_offset=int(running))


def existing_partitions(asset: str, *, before: int = 0) -> dg.AssetDep:
    """Return a dependency on the partitions of `asset` that exist.

    They are those within the period of the dependent partition and within this number of its periods before.
    """
    mapping = dg.TimeWindowPartitionMapping(start_offset=-before, allow_nonexistent_upstream_partitions=True)
    return dg.AssetDep(asset, partition_mapping=mapping)


def day_bounds(day: str) -> tuple[datetime, datetime]:
    """Start (inclusive) and end (exclusive) of a day's key. Raises ValueError for anything but YYYY-MM-DD."""
    start = datetime.strptime(day, DAY_FORMAT).replace(tzinfo=UTC)
    if day_of(start) != day:
        raise ValueError(f"{day!r} is not a day: write {day_of(start)}")
    return start, start + timedelta(days=1)


def spans(days: Iterable[str]) -> list[tuple[str, str]]:
    """The ranges of consecutive days, as (first, last); one run can make a whole range."""
    found: list[tuple[str, str]] = []
    for day in sorted(days):
        if found and day_of(day_bounds(found[-1][1])[1]) == day:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def day_of(time: datetime) -> str:
    """The key of the day that contains `time`."""
    return time.astimezone(UTC).strftime(DAY_FORMAT)


def week_bounds(week: str) -> tuple[datetime, datetime]:
    """Start (inclusive) and end (exclusive) of a week's key. Raises ValueError unless it is a Monday, YYYY-MM-DD."""
    start = datetime.strptime(week, DAY_FORMAT).replace(tzinfo=UTC)
    if week_of(start) != week:
        raise ValueError(f"{week!r} is not a Monday: write {week_of(start)}")
    return start, start + timedelta(weeks=1)


def week_of(time: datetime) -> str:
    """The key of the week that contains `time`: its Monday."""
    day = time.astimezone(UTC)
    return (day - timedelta(days=day.weekday())).strftime(DAY_FORMAT)


def parse_week(text: str) -> str:
    """The key of a week from 2026-W46 (ISO 8601) or from any of its days. Raises ValueError for other text."""
    if "W" in text.upper():
        return datetime.strptime(f"{text.upper()}-1", "%G-W%V-%u").strftime(DAY_FORMAT)  # noqa: DTZ007 - a date
    return week_of(day_bounds(text)[0])


class Month(str):
    """A month (UTC). It is a string, its key YYYY-MM. Raises ValueError for other text."""

    __slots__ = ()

    def __new__(cls, key: str) -> "Month":
        named = month_of(datetime.strptime(key, MONTH_FORMAT).replace(tzinfo=UTC))
        if named != key:
            raise ValueError(f"{key!r} is not a month: write {named}")
        return named

    @property
    def start(self) -> datetime:
        """The first instant of the month."""
        return datetime(int(self[:4]), int(self[5:]), 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant after the month."""
        return self.next.start

    @property
    def bounds(self) -> tuple[datetime, datetime]:
        return self.start, self.end

    @property
    def next(self) -> "Month":
        return month_of(self.start + timedelta(days=31))

    @property
    def previous(self) -> "Month":
        return month_of(self.start - timedelta(days=1))


def month_of(time: datetime) -> Month:
    """The month that contains `time`."""
    return str.__new__(Month, time.astimezone(UTC).strftime(MONTH_FORMAT))


def months_between(first: str, last: str) -> Iterator[Month]:
    """Every month from `first` to `last`, both included."""
    month = Month(first)
    while month <= last:
        yield month
        month = month.next


def last_complete_month(now: datetime) -> Month:
    """The month before the month that contains `now`."""
    return month_of(now).previous


def keys_between(first: str, last: str) -> Iterator[str]:
    """Every key from `first` to `last`, both included: months if they are months, else days (also between Mondays)."""
    if len(first) == len("YYYY-MM"):
        yield from months_between(first, last)
        return
    day = first
    while day <= last:
        yield day
        day = day_of(day_bounds(day)[1])


@dataclass(frozen=True)
class Period:
    """A kind of partition (day, week or month): the key of a time, and the bounds of a key."""

    name: str
    key_of: Callable[[datetime], str]
    bounds: Callable[[str], tuple[datetime, datetime]]

    def last_keys(self, now: datetime, n: int) -> list[str]:
        """The keys of the last `n` periods that are over at `now`, oldest first."""
        start, keys = self.bounds(self.key_of(now))[0], list[str]()
        while len(keys) < n:
            keys.insert(0, self.key_of(start - timedelta(microseconds=1)))
            start = self.bounds(keys[0])[0]
        return keys


DAYS = Period("day", day_of, day_bounds)
WEEKS = Period("week", week_of, week_bounds)
MONTHS = Period("month", month_of, lambda month: Month(month).bounds)
