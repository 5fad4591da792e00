"""Usual response times of items: the medians of the previous month, by which the answers of a day are judged.

They are stored once that month is over and again when it closes. Then they no longer change, so that an answer that is
judged again is judged by the same times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.arrays import Floats
from irt_assets.common.partitions import Month, day_bounds, month_of
from irt_assets.responses.answers import Time, attempts_between
from irt_assets.scales.rules import Rules
from resources.cluster.relational import Run, on_nearest_log
from resources.postgres.database import advisory_lock, named_rows, one_value
from resources.postgres.warehouse import copy_arrow

NAMED_IN_QUERY = 100
"""Maximum number of items that a query names. Planning a query that names thousands takes longer than reading the times
of all items."""


@dataclass(frozen=True)
class ItemTimes:
    """Ids, median response times (ms) and numbers of times of J items; arrays of shape (J,)."""

    item_ids: npt.NDArray[np.object_]
    median_ms: Floats
    n: npt.NDArray[np.int64]

    def lookup(self, items: Sequence[str] | npt.NDArray[np.object_]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Median (NaN if no time is known) and number of times of each of `items`."""
        index_of = {item: index for index, item in enumerate(self.item_ids)}
        index = np.array([index_of.get(item, -1) for item in items], dtype=np.intp)
        known = index >= 0
        median, n = np.full(index.size, np.nan), np.zeros(index.size, dtype=np.int64)
        median[known], n[known] = self.median_ms[index[known]], self.n[index[known]]
        return median, n


def median_times(start: Time, end: Time) -> ir.Table:
    """Median (ms) and number of the response times of all live answers of [start, end), by item."""
    answers = attempts_between(start, end)
    timed = answers.filter(answers.mode == "live", answers.correct.notnull(), answers.response_time_ms.notnull())
    times = timed.response_time_ms
    return timed.group_by("item_id").agg(median_ms=times.cast("float64").median(), n=times.count())


def compute_item_times(run: Run, end: datetime, start: datetime, items: Sequence[str] | None = None) -> ItemTimes:
    """Compute the times of `items` (None: all) from all live answers of [start, end), including test accounts."""
    times = median_times(start, end)
    if items is not None and len(items) <= NAMED_IN_QUERY:
        times = times.filter(times.item_id.isin(list(items)))
    found = run(times)
    if items is not None:
        found = found.filter(pc.is_in(found["item_id"], pa.array(items, found["item_id"].type)))
    ids = found["item_id"].to_numpy(zero_copy_only=False)
    return ItemTimes(ids, found["median_ms"].to_numpy(), found["n"].to_numpy())


def take_item_times(connection: psycopg.Connection, month: str) -> None:
    """Compute and store the median times of a month's live answers, replacing the stored ones."""
    start, end = Month(month).bounds
    times = compute_item_times(on_nearest_log(connection, start, end), end, start)
    rows = {"item_id": pa.array(times.item_ids, pa.string()), "median_ms": times.median_ms, "n": times.n}
    advisory_lock(connection, "item_time", month)
    connection.execute("DELETE FROM item_time WHERE month = %s", (month,))
    copy_arrow(connection, "item_time", pa.table({"month": pa.repeat(month, times.n.size), **rows}))


def ensure_item_times(connection: psycopg.Connection, month: str) -> None:
    """Store the times of a month that is over, unless they are stored already or the transaction is read-only."""
    may_take = one_value(
        connection,
        """SELECT current_setting('transaction_read_only') = 'off'
             AND NOT EXISTS (SELECT FROM item_time WHERE month = %s)""",
        (month,),
    )
    if may_take and Month(month).end <= datetime.now(UTC):
        take_item_times(connection, month)


def times_of_day(
    connection: psycopg.Connection,
    day: date,
    items: Sequence[str],
    rules: Mapping[str, Rules],
) -> ItemTimes:
    """The times by which the answers of a day (UTC) to `items` are judged, by the `rules` of each scale.

    An item has the median of the previous month. If it has fewer times there than its scale's `rapid_min_times`, it has
    the median of the day's own month up to the end of the day. Times of the previous month are computed and stored if
    they are missing, unless the transaction is read-only.
    """
    start, end = day_bounds(day.isoformat())
    month = month_of(start)
    ensure_item_times(connection, month.previous)
    enough = _sufficient_times(connection, month, rules)
    new = [item for item in items if item not in enough]
    own = _NO_TIMES
    if new:
        own = compute_item_times(on_nearest_log(connection, month.start, end), end, month.start, new)
    rows = [(item, *enough[item]) for item in items if item in enough]
    rows += [row for row in zip(own.item_ids, own.median_ms, own.n, strict=True) if row[0] not in enough]
    if not rows:
        return _NO_TIMES
    ids, medians, counts = zip(*rows, strict=True)
    return ItemTimes(np.array(ids, object), np.array(medians, float), np.array(counts, np.int64))


_NO_TIMES = ItemTimes(np.empty(0, object), np.empty(0), np.empty(0, np.int64))


def _sufficient_times(
    connection: psycopg.Connection, month: Month, rules: Mapping[str, Rules]
) -> dict[str, tuple[float, int]]:
    """Item → median and number of times in the previous month, for items with enough times by their scale's rules."""
    rows = named_rows(
        connection,
        """SELECT t.item_id, t.median_ms, t.n, coalesce(q.scale_id, 'default') AS scale_id
           FROM item_time t LEFT JOIN question q USING (item_id) WHERE t.month = %s""",
        (month.previous,),
    )
    minimum = {scale_id: scale_rules.eligibility.rapid_min_times for scale_id, scale_rules in rules.items()}
    usual = Rules().eligibility.rapid_min_times
    return {r["item_id"]: (r["median_ms"], r["n"]) for r in rows if r["n"] >= minimum.get(r["scale_id"], usual)}
