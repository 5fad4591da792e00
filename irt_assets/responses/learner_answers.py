"""One learner's answers that count now, by their verdicts. Attempts without a verdict are judged by the same function.

Withdrawn and deleted answers are no longer in the log and do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import ibis
import numpy as np
import psycopg
import pyarrow as pa
from psycopg.rows import tuple_row

from irt_assets.common.partitions import Month, month_of, months_between
from irt_assets.responses.closed_months import apply_closed_rules
from irt_assets.responses.columns import attempts_of
from irt_assets.responses.eligibility.attempts import judge
from irt_assets.responses.facts import (
    COLUMNS,
    ITEM_COLUMNS,
    LATER,
    LEARNER_COLUMNS,
    READ_BOUNDS,
    SEED_COLUMNS,
    Bounds,
    columns_to_read,
    facts_within,
    judged_columns,
    lookback_start,
)
from irt_assets.responses.item_time import ensure_item_times, median_times
from irt_assets.scales.item_status import DAY, Withdrawals, instant_of, microseconds
from irt_assets.scales.scale import Scale
from irt_psychometrics import Responses
from resources.postgres.database import one_value

VERDICTS = b"""SELECT coalesce(l.item_id, v.item_id),
  (date_part('epoch', coalesce(l.completed_at, v.completed_at)) * 1000000)::bigint, v.score, v.max_score,
  l.recorded_at IS DISTINCT FROM v.recorded_at, v.item_id
FROM (
  SELECT attempt_id, completed_at, item_id, reason, score, max_score, recorded_at FROM attempt_verdict
  WHERE learner_key = (SELECT learner_key FROM learner WHERE user_id = %(user)s)
    AND completed_at >= %(start)s AND completed_at < %(end)s) v
FULL JOIN (
  SELECT id, completed_at, item_id, recorded_at FROM attempt
  WHERE user_id = %(user)s AND completed_at >= %(start)s AND completed_at < %(end)s) l
ON (l.id, l.completed_at) = (v.attempt_id, v.completed_at)
WHERE v.reason IS NULL OR l.recorded_at IS DISTINCT FROM v.recorded_at"""
"""A learner's answers that count by their verdicts, and the differences between log and verdicts.

A difference is an attempt without a verdict, an attempt that was written after its verdict, or a verdict without its
attempt.
"""
AHEAD = timedelta(minutes=5)
"""Time for which item times are read ahead: as long as a `Judging` is used."""


Answer: TypeAlias = tuple[str, int, int, int | None, bool, str | None]
"""A row of `VERDICTS`: item, time (microseconds since 1970), score, maximum score (None: 1), whether the attempt
differs from its verdict, and the verdict's item."""


@dataclass(frozen=True)
class ScoredItems:
    """J items by which learners are scored.

    Attributes:
        item_ids: in sorted order.
        places: item → its index in `item_ids`.
        withdrawn: periods during which answers to items do not count.
    """

    item_ids: tuple[str, ...]
    places: Mapping[str, int]
    withdrawn: Withdrawals

    @classmethod
    def from_item_ids(cls, items: Collection[str], withdrawn: Withdrawals) -> ScoredItems:
        item_ids = tuple(sorted(items))
        return cls(item_ids, {item: index for index, item in enumerate(item_ids)}, withdrawn)

    def responses(self, answers: Iterable[Answer], since: datetime) -> Responses:
        """The answers to these items since a time as responses of one person, with their times, in order of items."""
        out, places, first = self.withdrawn.stretches, self.places, microseconds(since)
        rows = sorted(
            (places[item], at, score, max_score or 1)
            for item, at, score, max_score, _, _ in answers
            if item in places and at >= first
            if not (item in out and self.withdrawn.covers(item, instant_of(at)))
        )
        item, at, score, max_score = np.array(rows, dtype=np.int64).reshape(len(rows), 4).T
        categories = None
        if (max_score > 1).any():
            categories = np.full(len(self.item_ids), 2)
            np.maximum.at(categories, item, max_score + 1)
        person = np.zeros(len(rows), dtype=np.int32)
        return Responses(person, item.astype(np.int32), score.astype(np.int8), 1, self.item_ids, categories, at=at)


class MonthRules(NamedTuple):
    """Rules and queries by which one learner's attempts of a month are judged.

    Attributes:
        before: the previous month, whose item times are used for items with enough of them.
        scales: the scales of the bank with the rules of the month.
        lookback: time from which earlier attempts can make attempts of the month repeats.
        query: reads attempts, their facts and the times of their items in the previous month.
        columns: schema of the facts, which are the last columns of `query`.
    """

    start: datetime
    end: datetime
    before: Month
    scales: Mapping[str, Scale]
    lookback: datetime
    query: bytes
    columns: pa.Schema


ItemTime: TypeAlias = tuple[float, int]
"""Median response time (ms) of an item, and number of times."""


@dataclass(frozen=True)
class Judging:
    """Rules of each month and usual times of items, by which one learner's attempts are judged.

    Attributes:
        months: every month until a day after `read_at`, in order.
        items: items whose times are read.
    """

    read_at: datetime
    months: Sequence[MonthRules] = ()
    items: Collection[str] = ()
    _own_times: dict[int, dict[str, ItemTime]] = field(default_factory=dict)

    def read_ahead(self, connection: psycopg.Connection) -> None:
        """Read the times for answers of yesterday, now and the next minutes, so that no request waits for them."""
        for at in (self.read_at - LATER, self.read_at, self.read_at + AHEAD):
            for month in self.months:
                if month.start <= at < month.end:
                    self.own_times(connection, month, microseconds(at))

    def own_times(self, connection: psycopg.Connection, month: MonthRules, at: int) -> Mapping[str, ItemTime]:
        """Times from the month's start to the end of the day of `at`, for items with too few in the previous month."""
        until = (at // DAY + 1) * DAY
        if until not in self._own_times:
            least = max((scale.rules.eligibility.rapid_min_times for scale in month.scales.values()), default=0)
            values = {"items": [*self.items], "before": month.before, "least": least}
            bounds = Bounds(month.start, month.start, instant_of(until), instant_of(until))._asdict()
            rows = _rows(connection, _query_of_own_times(), values | bounds)
            self._own_times[until] = {item: (median, n) for item, median, n in rows}
        return self._own_times[until]


def read_judging(
    connection: psycopg.Connection,
    scales: Mapping[str, Scale],
    items: Collection[str],
    start: datetime,
    now: datetime,
) -> Judging:
    """Read the rules and queries for judging attempts on `items` since `start`. Stores missing item times of months."""
    months = []
    for month in months_between(month_of(start), month_of(now + LATER)):
        ensure_item_times(connection, month.previous)
        month_scales = apply_closed_rules(connection, scales, month)
        query, columns = _query_of_learner(tuple(month_scales.values()))
        lookback = lookback_start(month.start, month_scales)
        months.append(MonthRules(*month.bounds, month.previous, month_scales, lookback, query, columns))
    return Judging(now, months, items)


_BOUNDS = "bounds AS (SELECT " + ", ".join(f'%({name})s::timestamptz AS "{name}"' for name in Bounds._fields) + ")"


@cache
def _query_of_learner(scales: tuple[Scale, ...]) -> tuple[bytes, pa.Schema]:
    """`MonthRules.query` and its columns. Its parameters are user, items, before (the previous month) and `Bounds`.

    Its CTEs `attempt`, `learner`, `seed_draw` and `question` hide the tables of the same names: they contain only the
    learner's rows and the items to judge.
    """
    by_id = {scale.scale_id: scale for scale in scales}
    facts = facts_within(READ_BOUNDS, by_id)
    columns = judged_columns(facts.columns)
    query = f"""WITH {_BOUNDS},
attempt AS MATERIALIZED (
  SELECT {", ".join(columns_to_read(COLUMNS, by_id))} FROM attempt
  WHERE user_id = %(user)s AND completed_at >= %(lookback)s AND completed_at < %(after)s),
learner AS MATERIALIZED (SELECT {", ".join(LEARNER_COLUMNS)} FROM learner WHERE user_id = %(user)s),
seed_draw AS MATERIALIZED (SELECT {", ".join(SEED_COLUMNS)} FROM seed_draw WHERE user_id = %(user)s),
question AS MATERIALIZED (
  SELECT {", ".join(columns_to_read(ITEM_COLUMNS, by_id))} FROM question
  WHERE item_id = ANY(ARRAY(SELECT item_id FROM attempt WHERE completed_at >= %(start)s)))
SELECT item_id, (date_part('epoch', completed_at) * 1000000)::bigint, scale_id,
  (SELECT ARRAY[t.median_ms, t.n] FROM item_time t WHERE t.month = %(before)s AND t.item_id = f.item_id),
  {", ".join(columns)}
FROM ({ibis.to_sql(facts, dialect="postgres").replace("%", "%%")}) f
WHERE item_id = ANY(%(items)s) OR item_id IN (
  SELECT item_id FROM attempt WHERE correct IS NULL AND form_id IS NOT NULL AND completed_at >= %(start)s)"""
    return query.encode(), facts.select(*columns).schema().to_pyarrow()


@cache
def _query_of_own_times() -> bytes:
    """The query of `Judging.own_times`."""
    times = ibis.to_sql(median_times(READ_BOUNDS.start, READ_BOUNDS.end), dialect="postgres").replace("%", "%%")
    return f"""WITH {_BOUNDS} SELECT item_id, median_ms, n FROM ({times}) f WHERE item_id = ANY(ARRAY(
  SELECT item_id FROM unnest(%(items)s::text[]) i (item_id)
  WHERE NOT EXISTS (
    SELECT FROM item_time t WHERE t.month = %(before)s AND t.item_id = i.item_id AND t.n >= %(least)s)))""".encode()


def learner_answers(
    connection: psycopg.Connection, user_id: str, start: datetime, end: datetime, judging: Judging
) -> list[Answer]:
    """One learner's answers of [start, end) that count, of every scale, in any order."""
    answers = _rows(connection, VERDICTS, {"user": user_id, "start": start, "end": end})
    differing = [row for row in answers if row[4]]
    if not differing:
        return answers
    since = max(start, instant_of(min(row[1] for row in differing)) - LATER)
    items = {item for row in differing for item in (row[0], row[5]) if item is not None}
    judged_again, newer = set[tuple[str, int]](), list[Answer]()
    for month in judging.months:
        first, until = max(since, month.start), min(end, month.end)
        if first < until:
            values = {"user": user_id, "items": [*items], "before": month.before}
            bounds = Bounds(month.lookback, first, until, until + LATER)._asdict()
            rows = _rows(connection, month.query, values | bounds)
            items |= {row[0] for row in rows}  # answers of later months to items omitted in this one are repeats
            judged_again.update(row[:2] for row in rows)
            newer += _judge(connection, judging, month, rows)
    return [row for row in answers if not row[4] and row[:2] not in judged_again] + newer


def _judge(
    connection: psycopg.Connection, judging: Judging, month: MonthRules, rows: Sequence[tuple[Any, ...]]
) -> Iterator[Answer]:
    """The answers among rows of `month.query` that count by the rules of their scales."""
    for scale_id, scale in month.scales.items():
        some = [row for row in rows if row[2] == scale_id]
        if not some:
            continue
        times, minimum = [], scale.rules.eligibility.rapid_min_times
        for item, at, _, before, *_ in some:
            enough = before is not None and before[1] >= minimum
            times.append(before if enough else judging.own_times(connection, month, at).get(item, (np.nan, 0)))
        facts = pa.table([*zip(*(row[4:] for row in some), strict=True)], schema=month.columns)
        same, index = np.zeros(len(some), dtype=np.int32), np.arange(len(some))
        median, n = np.array(times, dtype=np.float64).T
        attempts = attempts_of(facts, same, same, median, n.astype(np.int64), index)
        score = judge(attempts, scale.rules, min_learner=False, min_item=False).score
        for k in np.flatnonzero(score >= 0):
            max_score = None if attempts.max_score is None else int(attempts.max_score[k])
            yield some[k][0], some[k][1], int(score[k]), max_score, False, None


def _rows(connection: psycopg.Connection, query: bytes, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        return cursor.execute(query, values, prepare=True).fetchall()


def last_live_answer(connection: psycopg.Connection, user_id: str) -> datetime | None:
    """Time of a learner's last answer in live mode. Returns None if there is no such answer."""
    return one_value(
        connection,
        """SELECT completed_at FROM attempt WHERE user_id = %s AND mode = 'live' AND correct IS NOT NULL
           ORDER BY completed_at DESC LIMIT 1""",
        (user_id,),
    )


class MonthPoints(NamedTuple):
    """The points of a learner's answers that count in a month (UTC), and the maximum."""

    month: str
    points: int
    maximum: int


def points_of_last_month(
    connection: psycopg.Connection, user_ids: Collection[str]
) -> dict[tuple[str, str], MonthPoints]:
    """Points of each learner in the month of the last answers that count.

    The keys are learner and scale. Meant for a few learners, because all verdicts of each are read.
    """
    rows = connection.execute(
        """SELECT DISTINCT ON (user_id, scale_id) user_id, scale_id,
                  to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month, sum(score), sum(coalesce(max_score, 1))
           FROM learner JOIN attempt_verdict USING (learner_key)
           WHERE user_id = ANY(%s) AND reason IS NULL
           GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 DESC""",
        (list(user_ids),),
    )
    return {(user, scale): MonthPoints(*last) for user, scale, *last in rows}


def has_attempts(connection: psycopg.Connection, user_id: str) -> bool:
    """Whether the log has any attempt of a learner, eligible or not."""
    return one_value(connection, "SELECT EXISTS (SELECT FROM attempt WHERE user_id = %s)", (user_id,))
