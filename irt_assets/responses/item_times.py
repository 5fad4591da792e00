"""Median response times of items, which define rapid guesses: computed from the log once, then read.

The times that count are those of live answers, whoever's, of [since, as_of): of a window and the look-back before it
(`facts.first_look`). The night that ends a month and the month's abilities so read the same rows of
`item_response_time`.

Rows are stored with a hash of what they were made from. Where answers came late, it differs from that of the log: then
medians are computed again, so that it does not matter in which order months, nights and answers come. What does not
belong here: which answers are rapid (see `psychometrics.eligibility`).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.psychometrics.core.arrays import Floats, Ints
from irt_assets.responses.answers import attempts_between, instant
from irt_assets.responses.facts import LOOKBACK, ability_start, first_midnight, lookback_start
from irt_assets.responses.item_status import DAY, microseconds
from irt_assets.responses.scales import Scale, read_scales
from resources import tables
from resources.cluster.relational import Run, on_nearest_log
from resources.postgres import warehouse
from resources.postgres.database import LOCK, lock_key, one_value
from resources.postgres.sources import record_sources

ITEM_TIMES = tables.item_response_time.name
NAMED_IN_QUERY = 100
"""Items that a query may name: to write and plan one with thousands takes longer than to read the times of all."""
NIGHTS_KEPT = 30
"""How many nights times are kept (see `jobs.retention.unused`)."""


class UsualTimes(NamedTuple):
    """Median response time (ms; NaN where no time is known) and number of times, by the code of the item; or by the
    place of each answer in them."""

    median_ms: Floats
    n: npt.NDArray[np.int64]
    place: Ints | None


@dataclass(frozen=True)
class TimesOfItems:
    """The usual times of J items in an order: as of one time, arrays of shape (J,); or as of `months`, one array after
    the other, and then those as of midnights (`DatedTimes`), whose `keys` say of which item and day.

    `months`: microseconds since 1970, ascending.
    """

    median_ms: Floats
    n: npt.NDArray[np.int64]
    months: Ints | None = None
    keys: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def of(self, item: npt.NDArray[np.int32], at: Ints) -> UsualTimes:
        """For answers to items (codes) given at a time (microseconds since 1970)."""
        if self.months is None:
            return UsualTimes(self.median_ms, self.n, None)
        dated = self.median_ms.size - self.keys.size
        month = np.maximum(np.searchsorted(self.months, at, side="right") - 1, 0)
        place = month * (dated // self.months.size) + item.astype(np.int64)
        new = np.flatnonzero(self.n[place] == 0)
        if self.keys.size:
            before = np.searchsorted(self.keys, _key(item[new], at[new] // DAY), side="right") - 1
            known = (before >= 0) & (self.keys[before] >> 32 == item[new])
            place[new[known]] = dated + before[known]
        return UsualTimes(self.median_ms, self.n, place)


def _key(item: npt.NDArray[np.integer[Any]], day: Ints | int) -> Ints:
    """Item and day as one number, in order of both."""
    return (item.astype(np.int64) << 32) + day


@dataclass(frozen=True)
class ItemTimes:
    """Id, median response time (ms) and number of times of J items; arrays of shape (J,). `made_from`: hash of the
    times in the log."""

    item_ids: npt.NDArray[np.object_]
    median_ms: Floats
    n: npt.NDArray[np.int64]
    made_from: str = ""

    @cached_property
    def _places(self) -> dict[str, int]:
        return {item: place for place, item in enumerate(self.item_ids)}

    def of(self, items: Sequence[str] | npt.NDArray[np.object_]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Median (NaN where no time is known) and number of times of each of `items`."""
        place = np.array([self._places.get(item, -1) for item in items], dtype=np.intp)
        known = place >= 0
        median, n = np.full(place.size, np.nan), np.zeros(place.size, dtype=np.int64)
        median[known], n[known] = self.median_ms[place[known]], self.n[place[known]]
        return median, n

    def among(self, items: Sequence[str] | npt.NDArray[np.object_]) -> TimesOfItems:
        """Those of `items`, in their order."""
        return TimesOfItems(*self.of(items))


@dataclass(frozen=True)
class DatedTimes:
    """The times that judge answers where ability moves, so that what an answer says does not change with later ones:
    those as of the first midnight of its month; of an item that had none then, as of the midnight before the answer, or
    the last one that is known.

    months: by their first midnights, ascending. days: by midnights within these months, of items without a time at the
    month's first.
    """

    months: Mapping[datetime, ItemTimes]
    days: Mapping[datetime, ItemTimes]

    def among(self, items: Sequence[str] | npt.NDArray[np.object_]) -> TimesOfItems:
        """Those of `items`, in their order."""
        place = {item: code for code, item in enumerate(items)}
        parts = [times.of(items) for times in self.months.values()]
        keys = []
        for midnight, times in self.days.items():
            known = [j for j, item in enumerate(times.item_ids) if item in place]
            codes = np.array([place[times.item_ids[j]] for j in known], dtype=np.int32)
            keys.append(_key(codes, microseconds(midnight) // DAY))
            parts.append((times.median_ms[known], times.n[known]))
        median, n = (np.concatenate(of) for of in zip(*parts, strict=True))
        key = np.concatenate([np.empty(0, np.int64), *keys])
        order, dated = np.argsort(key), median.size - key.size
        kept = np.concatenate([np.arange(dated), dated + order])
        months = np.array([microseconds(midnight) for midnight in self.months])
        return TimesOfItems(median[kept], n[kept], months, key[order])


NOT_DATED: Mapping[str, DatedTimes] = MappingProxyType({})
"""The dated times of scales on which θ is constant."""


def current_item_times(
    connection: psycopg.Connection, as_of: datetime, since: datetime, run: Run | None = None
) -> ItemTimes:
    """The times of [since, as_of) as the log has them now: read if they are stored, else computed and stored.

    They are stored in the caller's transaction. One that may not write, or meets another that is storing the same
    rows, computes them for itself instead of waiting.

    run: where the log is read; None: `on_nearest_log`, so that nights start no Spark for what PostgreSQL has.
    """
    stored = item_times(connection, as_of, since)
    run = run or on_nearest_log(connection, since, as_of)
    if stored is not None and stored.made_from == _hash(_sums_between(run, [since, as_of])):
        return stored
    return _computed(connection, run, {as_of: since})[as_of]


def _computed(
    connection: psycopg.Connection, run: Run, since: Mapping[datetime, datetime]
) -> dict[datetime, ItemTimes]:
    """By as_of, the times of [since, as_of): computed by one look at the log, and stored."""
    found = dict(zip(since, _times_of(run, [(begin, as_of) for as_of, begin in since.items()]), strict=True))
    for as_of, times in found.items():
        begin = since[as_of]
        if _may_store(connection, as_of, begin):
            connection.execute("DELETE FROM item_response_time WHERE as_of = %s AND since = %s", (as_of, begin))
            _store(connection, {as_of: times}, begin)
            record_sources(connection, ITEM_TIMES, {_partition(as_of, begin): times.made_from})
    return found


def _store(connection: psycopg.Connection, times: Mapping[datetime, ItemTimes], since: datetime) -> None:
    import pandas as pd  # takes half a second, only for writers

    for as_of, of_time in times.items():
        rows = {"item_id": of_time.item_ids, "median_ms": of_time.median_ms, "n": of_time.n}
        frame = pd.DataFrame({"as_of": pd.Timestamp(as_of), "since": pd.Timestamp(since), **rows})
        warehouse.append(connection, tables.item_response_time, frame)


def times_for_scoring(
    connection: psycopg.Connection, start: datetime, end: datetime, scale: Scale, run: Run | None = None
) -> ItemTimes | DatedTimes:
    """What the eligible answers of [start, end) are judged by when a scale's learners are measured: the times up to the
    end, with the look-back; where ability moves, `DatedTimes`."""
    if scale.movement:
        return _current_dated_times(connection, start, end, scale, run)
    return current_item_times(connection, end, lookback_start(start, {scale.scale_id: scale}), run)


def dated_times(connection: psycopg.Connection, end: datetime, scales: Mapping[str, Scale]) -> dict[str, DatedTimes]:
    """By scale on which ability moves, what the answers that count at the end are judged by."""
    return {
        scale_id: _current_dated_times(connection, ability_start(end, scale), end, scale, None)
        for scale_id, scale in scales.items()
        if scale.movement
    }


def _current_dated_times(
    connection: psycopg.Connection, start: datetime, end: datetime, scale: Scale, run: Run | None
) -> DatedTimes:
    """As `current_item_times`, with two looks at the log for all months, and two for each that has new items."""
    firsts = _first_midnights(start, end)
    since = {first: ability_times_since(first, scale) for first in firsts}
    run = run or on_nearest_log(connection, min(since.values()), end)
    points = sorted({*firsts, *since.values(), end})
    sums = _sums_between(run, points)
    before = {first: _added(sums, points.index(since[first]), points.index(first)) for first in firsts}
    months: dict[datetime, ItemTimes] = {}
    for first in firsts:
        stored = item_times(connection, first, since[first])
        if stored is not None and stored.made_from == _hash(before[first]):
            months[first] = stored
    if missing := {first: since[first] for first in firsts if first not in months}:
        months = dict(sorted((months | _computed(connection, run, missing)).items()))
    days: dict[datetime, ItemTimes] = {}
    for first, after in zip(firsts, [*firsts[1:], end], strict=True):
        of_month = _added(sums, points.index(first), points.index(after))
        new = sorted({*of_month["item_id"].to_pylist()} - {*before[first]["item_id"].to_pylist()})
        days |= _current_days(connection, run, first, end, new)
    return DatedTimes(months, days)


def _by_midnight(rows: Iterable[tuple[Any, ...]]) -> dict[datetime, ItemTimes]:
    """The times of rows of as_of, item, median and number, in order of the first."""
    found = {}
    for midnight, of_day in groupby(rows, itemgetter(0)):
        items, medians, counts = zip(*(row[1:] for row in of_day), strict=True)
        found[midnight] = ItemTimes(np.array(items, object), np.array(medians, float), np.array(counts, np.int64))
    return found


def _first_midnights(start: datetime, end: datetime) -> list[datetime]:
    """When the months that [start, end) touches began."""
    found = [first_midnight(start)]
    while (after := first_midnight(found[-1] + timedelta(days=31))) < end:
        found.append(after)
    return found


def _since_of_days(first: datetime) -> datetime:
    """Since when times as of the days of a month are counted: its first microsecond is left out, so that no window has
    rows of the same key."""
    return first + timedelta(microseconds=1)


def _current_days(
    connection: psycopg.Connection, run: Run, first: datetime, end: datetime, new: Sequence[str]
) -> dict[datetime, ItemTimes]:
    """The times of the `new` items of a month as of its later midnights until `end`: read if they are stored as the log
    has them now, else computed and stored."""
    after, since = first_midnight(first + timedelta(days=31)), _since_of_days(first)
    midnights = [first + timedelta(days=n) for n in range(1, 31)]
    midnights = [midnight for midnight in midnights if midnight < after and midnight <= end]
    if not new or not midnights:
        return {}
    sums = _sums_between(run, [since, *midnights], new)
    hashes = [_hash(_added(sums, 0, n + 1)) for n in range(len(midnights))]
    digest = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    rows = connection.execute(
        """SELECT t.as_of, t.item_id, t.median_ms, t.n FROM partition_source s
           LEFT JOIN item_response_time t ON t.since = %(since)s AND t.as_of = ANY(%(midnights)s)
             AND t.item_id = ANY(%(new)s)
           WHERE s.asset = %(asset)s AND s.partition = %(partition)s AND s.data_hash = %(digest)s
           ORDER BY t.as_of, t.item_id""",
        {"since": since, "midnights": midnights, "new": list(new), "asset": ITEM_TIMES, "digest": digest}
        | {"partition": _partition(after, since)},
    ).fetchall()
    if rows:
        found = _by_midnight(row for row in rows if row[1] is not None)
    else:
        of_days = _times_of(run, [(since, midnight) for midnight in midnights], new)
        found = dict(zip(midnights, of_days, strict=True))
        if _may_store(connection, after, since):
            connection.execute(
                "DELETE FROM item_response_time WHERE since = %s AND as_of = ANY(%s) AND item_id = ANY(%s)",
                (since, midnights, list(new)),
            )
            _store(connection, found, since)
            record_sources(connection, ITEM_TIMES, {_partition(after, since): digest})
    return {midnight: times for midnight, times in found.items() if times.item_ids.size}


def ability_times_since(as_of: datetime, scale: Scale) -> datetime:
    """The time from which times count for abilities on a scale as of a time."""
    return lookback_start(as_of - LOOKBACK, {scale.scale_id: scale})


def current_ability_times(connection: psycopg.Connection, as_of: datetime) -> dict[datetime, ItemTimes]:
    """The times up to a time that abilities need, by `since`, one for each look-back of the scales; those of earlier
    times are stored, too, where ability moves."""
    scales = read_scales(connection, as_of)
    dated_times(connection, as_of, scales)
    wanted = {ability_times_since(as_of, scale) for scale in scales.values()}
    return {since: current_item_times(connection, as_of, since) for since in sorted(wanted)}


def _timed(as_of: datetime, since: datetime, items: Sequence[str] | None = None) -> ir.Table:
    attempts = attempts_between(since, as_of)
    if items is not None and len(items) <= NAMED_IN_QUERY:
        attempts = attempts.filter(attempts.item_id.isin(list(items)))
    return attempts.filter(attempts.mode == "live", attempts.correct.notnull(), attempts.response_time_ms.notnull())


def compute_item_times(run: Run, as_of: datetime, since: datetime, items: Sequence[str] | None = None) -> ItemTimes:
    """The times of [since, as_of), from the log; of some `items`, or of all."""
    [found] = _times_of(run, [(since, as_of)], items)
    return found


def _times_of(
    run: Run, windows: Sequence[tuple[datetime, datetime]], items: Sequence[str] | None = None
) -> list[ItemTimes]:
    """The times of each of the windows [since, as_of), by one look at the log; of some `items`, or of all."""
    timed = _timed(max(as_of for _, as_of in windows), min(since for since, _ in windows), items)
    sums = {}
    for k, (since, as_of) in enumerate(windows):
        inside = (timed.completed_at >= instant(since)) & (timed.completed_at < instant(as_of))
        times = ibis.ifelse(inside, timed.response_time_ms, ibis.null(timed.response_time_ms.type()))
        sums[f"median_ms{k}"] = times.cast("float64").median()
        sums[f"n{k}"], sums[f"total_ms{k}"] = times.count(), times.sum()
    every = _only(run(timed.group_by("item_id").agg(**sums)), items)
    found = []
    for k in range(len(windows)):
        columns = ["item_id", "median_ms", "n", "total_ms"]
        some = every.select(["item_id", *(f"{name}{k}" for name in columns[1:])]).rename_columns(columns)
        some = some.filter(pc.greater(some["n"], 0))
        item_ids = some["item_id"].to_numpy(zero_copy_only=False)
        found.append(ItemTimes(item_ids, some["median_ms"].to_numpy(), some["n"].to_numpy(), _hash(some)))
    return found


def _sums_between(run: Run, points: Sequence[datetime], items: Sequence[str] | None = None) -> pa.Table:
    """By item and stretch of time, from each of `points` to the next, the number and sum of times: for a fraction of
    the cost of medians. Columns: item_id, stretch (from 0 on), n, total_ms."""
    timed = _timed(points[-1], points[0], items)
    stretches = [(timed.completed_at < instant(until), n) for n, until in enumerate(points[1:])]
    timed = timed.mutate(stretch=ibis.cases(*stretches))
    grouped = timed.group_by("item_id", "stretch")
    return _only(run(grouped.agg(n=timed.response_time_ms.count(), total_ms=timed.response_time_ms.sum())), items)


def _only(found: pa.Table, items: Sequence[str] | None) -> pa.Table:
    """The rows of some items, or of all."""
    if items is None:
        return found
    return found.filter(pc.is_in(found["item_id"], pa.array(items, found["item_id"].type)))


def _added(sums: pa.Table, first: int, last: int) -> pa.Table:
    """By item, the sums of the stretches from `first` to before `last`."""
    some = sums.filter(pc.and_(pc.greater_equal(sums["stretch"], first), pc.less(sums["stretch"], last)))
    added = some.group_by("item_id").aggregate([("n", "sum"), ("total_ms", "sum")])
    return added.rename_columns(["item_id", "n", "total_ms"])


def _hash(sums: pa.Table) -> str:
    lines = zip(sums["item_id"].to_pylist(), sums["n"].to_pylist(), sums["total_ms"].to_pylist(), strict=True)
    return hashlib.sha256(
        "\n".join(f"{item}\t{n}\t{int(total)}" for item, n, total in sorted(lines)).encode()
    ).hexdigest()


def item_times(connection: psycopg.Connection, as_of: datetime, since: datetime) -> ItemTimes | None:
    """The stored times of [since, as_of), None if they were never computed; in one statement, so that whoever replaces
    or prunes them meanwhile is not seen."""
    rows = (
        connection.cursor(binary=True)
        .execute(
            """SELECT s.data_hash, t.item_id, t.median_ms, t.n
               FROM partition_source s LEFT JOIN item_response_time t ON t.as_of = %s AND t.since = %s
               WHERE s.asset = %s AND s.partition = %s""",
            (as_of, since, ITEM_TIMES, _partition(as_of, since)),
        )
        .fetchall()
    )
    if not rows:
        return None
    digests, items, medians, counts = zip(*rows, strict=True)
    if items[0] is None:  # there was no answer with a time
        items = medians = counts = ()
    return ItemTimes(
        np.array(items, dtype=object), np.array(medians, dtype=float), np.array(counts, dtype=np.int64), digests[0]
    )


def _may_store(connection: psycopg.Connection, as_of: datetime, since: datetime) -> bool:
    return one_value(
        connection,
        f"SELECT current_setting('transaction_read_only') = 'off' AND pg_try_advisory_xact_lock({LOCK})",
        (lock_key(ITEM_TIMES, _partition(as_of, since)),),
    )


def _partition(as_of: datetime, since: datetime) -> str:
    """The key of a set of rows in `partition_source`; later times sort after earlier ones."""
    return f"{as_of.astimezone(UTC).isoformat()}/{since.astimezone(UTC).isoformat()}"
