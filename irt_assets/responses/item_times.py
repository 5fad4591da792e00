"""Median response times of items, which define rapid guesses: computed from the log once, then read.

The times that count are those of live answers, whoever's, of [since, as_of): of a window and the look-back before it
(`facts.first_look`). The night that ends a month and the month's abilities so read the same rows of
`item_response_time`.

Rows are stored with a hash of what they were made from. Where answers came late, it differs from that of the log: then
medians are computed again, so that it does not matter in which order months, nights and answers come. What does not
belong here: which answers are rapid (see `psychometrics.eligibility`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa

from irt_assets.psychometrics.core.models import Floats
from irt_assets.responses.answers import attempts_between
from irt_assets.responses.facts import LOOKBACK, lookback_start
from irt_assets.responses.scales import Scale, read_scales
from resources import tables
from resources.cluster.relational import Run, on_nearest_log
from resources.postgres import warehouse
from resources.postgres.database import LOCK, lock_key, one_value
from resources.postgres.sources import record_sources

ITEM_TIMES = tables.item_response_time.name
NIGHTS_KEPT = 30
"""How many nights back the times of the last night are looked for: older ones are pruned (see `jobs.retention`)."""


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
    if stored is not None and stored.made_from == _hash_now(run, as_of, since):
        return stored
    times = compute_item_times(run, as_of, since)
    if _may_store(connection, as_of, since):
        connection.execute("DELETE FROM item_response_time WHERE as_of = %s AND since = %s", (as_of, since))
        import pandas as pd  # takes half a second, only for writers

        rows = {"item_id": times.item_ids, "median_ms": times.median_ms, "n": times.n}
        frame = pd.DataFrame({"as_of": pd.Timestamp(as_of), "since": pd.Timestamp(since), **rows})
        warehouse.append(connection, tables.item_response_time, frame)
        record_sources(connection, ITEM_TIMES, {_partition(as_of, since): times.made_from})
    return times


def ability_times_since(as_of: datetime, scale: Scale) -> datetime:
    """The time from which times count for abilities on a scale as of a time."""
    return lookback_start(as_of - LOOKBACK, {scale.scale_id: scale})


def current_ability_times(connection: psycopg.Connection, as_of: datetime) -> dict[datetime, ItemTimes]:
    """The times that abilities as of a time need, by `since`, one for each look-back of the scales."""
    wanted = {ability_times_since(as_of, scale) for scale in read_scales(connection).values()}
    return {since: current_item_times(connection, as_of, since) for since in sorted(wanted)}


def ability_times_of_last_night(
    connection: psycopg.Connection, scale: Scale, now: datetime
) -> tuple[datetime, ItemTimes] | None:
    """The last night before `now` that has times for abilities on a scale, and those times; None if there is none.

    Reads stored rows only, by their keys, whatever has come to the log since.
    """
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    nights = [midnight - timedelta(days=n) for n in range(NIGHTS_KEPT)]
    by_partition = {_partition(night, ability_times_since(night, scale)): night for night in nights}
    last = one_value(
        connection,
        "SELECT max(partition) FROM partition_source WHERE asset = %s AND partition = ANY(%s)",
        (ITEM_TIMES, list(by_partition)),
    )
    if last is None:
        return None
    as_of = by_partition[last]
    times = item_times(connection, as_of, ability_times_since(as_of, scale))
    return None if times is None else (as_of, times)


def _timed(as_of: datetime, since: datetime) -> ir.Table:
    attempts = attempts_between(since, as_of)
    return attempts.filter(attempts.mode == "live", attempts.correct.notnull(), attempts.response_time_ms.notnull())


def compute_item_times(run: Run, as_of: datetime, since: datetime) -> ItemTimes:
    """The times of [since, as_of), from the log."""
    timed = _timed(as_of, since)
    found = run(
        timed.group_by("item_id").agg(
            median_ms=timed.response_time_ms.cast("float64").median(),
            n=timed.response_time_ms.count(),
            total_ms=timed.response_time_ms.sum(),
        )
    )
    return ItemTimes(
        found["item_id"].to_numpy(zero_copy_only=False),
        found["median_ms"].to_numpy(),
        found["n"].to_numpy(),
        _hash(found),
    )


def _hash_now(run: Run, as_of: datetime, since: datetime) -> str:
    """The hash of the times in the log, from a sum and a count of each item: a fraction of the cost of medians."""
    timed = _timed(as_of, since)
    sums = timed.group_by("item_id").agg(n=timed.response_time_ms.count(), total_ms=timed.response_time_ms.sum())
    return _hash(run(sums))


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
