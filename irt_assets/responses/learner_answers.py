"""One learner's answers that count now: by their verdicts, and the attempts without one judged by the same function.

What was withdrawn or deleted is no longer in the log and drops out. What does not belong here: everybody's answers (see
`scored_answers`), and which parameters score them (see `abilities.online`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import ibis
import numpy as np
import psycopg
import pyarrow as pa
from psycopg.rows import tuple_row

from irt_assets.common.partitions import month_of, months_between
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.eligibility.attempts import judge
from irt_assets.responses.closed_months import rules_of_month
from irt_assets.responses.columns import attempts_of
from irt_assets.responses.facts import (
    COLUMNS,
    ITEM_COLUMNS,
    LATER,
    LEARNER_COLUMNS,
    LOOKBACK,
    READ_BOUNDS,
    Bounds,
    facts_within,
    judged,
    read_of,
)
from irt_assets.responses.item_status import Withdrawals, instant_of, microseconds
from irt_assets.responses.item_time import ItemTimes, ensure_item_times, times_of_day
from irt_assets.responses.scales import Scale
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
"""A learner's answers that count by their verdicts, and where log and verdicts differ: an attempt without a verdict or
written after it, a verdict without its attempt."""
AHEAD = timedelta(minutes=2)


Answer: TypeAlias = tuple[str, int, int, int | None, bool, str | None]
"""A row of `VERDICTS`: item, when (microseconds since 1970), score and highest score (None: 1); whether it differs from
its verdict, and the item of that."""


@dataclass(frozen=True)
class ScoredItems:
    """J items that learners are scored by, in order of id; `places`: where each is. `withdrawn`: when answers to which
    of them do not count."""

    item_ids: tuple[str, ...]
    places: Mapping[str, int]
    withdrawn: Withdrawals

    @classmethod
    def of(cls, items: Collection[str], withdrawn: Withdrawals) -> ScoredItems:
        item_ids = tuple(sorted(items))
        return cls(item_ids, {item: place for place, item in enumerate(item_ids)}, withdrawn)

    def responses(self, answers: Iterable[Answer], since: datetime) -> Responses:
        """The answers to these items from a time on as one person's responses, with their times, in order of items."""
        out, places, first = self.withdrawn.stretches, self.places, microseconds(since)
        rows = sorted(
            (places[item], at, score, most or 1)
            for item, at, score, most, _, _ in answers
            if item in places and at >= first
            if not (item in out and self.withdrawn.covers(item, instant_of(at)))
        )
        item, at, score, most = np.array(rows, dtype=np.int64).reshape(len(rows), 4).T
        categories = None
        if (most > 1).any():
            categories = np.full(len(self.item_ids), 2)
            np.maximum.at(categories, item, most + 1)
        person = np.zeros(len(rows), dtype=np.int32)
        return Responses(person, item.astype(np.int32), score.astype(np.int8), 1, self.item_ids, categories, at=at)


class MonthRules(NamedTuple):
    """The scales of the bank with a month's rules, and the query for the facts that these read of one learner's
    attempts. `columns`: of its rows, after item and scale."""

    scales: Mapping[str, Scale]
    query: bytes
    columns: pa.Schema


class RulesByDay:
    """What the attempts of a day to some items are judged by: the rules of its month and the items' usual times, each
    read once."""

    def __init__(self, scales: Mapping[str, Scale], items: Iterable[str], read_at: datetime) -> None:
        self.read_at = read_at
        self._scales, self._items = scales, [*items]
        self._months: dict[str, MonthRules] = {}
        self._times: dict[date, ItemTimes] = {}

    def read_ahead(self, connection: psycopg.Connection, now: datetime) -> None:
        """Read what judges the answers of yesterday, of now and of the next minutes, and take the item times of earlier
        months that have none yet, so that no request does."""
        for month in months_between(month_of(now - 2 * LOOKBACK), month_of(now).previous):
            ensure_item_times(connection, month)
        for at in (now - LATER, now, now + AHEAD):
            self.month(connection, month_of(at))
            self.times(connection, at.astimezone(UTC).date())

    def month(self, connection: psycopg.Connection, month: str) -> MonthRules:
        if (found := self._months.get(month)) is None:
            rules = rules_of_month(connection, month)
            scales = {name: replace(one, rules=rules.get(name, one.rules)) for name, one in self._scales.items()}
            found = self._months[month] = MonthRules(scales, *_facts_of_learner(tuple(scales.values())))
        return found

    def times(self, connection: psycopg.Connection, day: date) -> ItemTimes:
        if (found := self._times.get(day)) is None:
            found = self._times[day] = times_of_day(connection, day, self._items)
        return found


@cache
def _facts_of_learner(scales: tuple[Scale, ...]) -> tuple[bytes, pa.Schema]:
    """The query for the facts of one learner's attempts, with the parameters user, items and `Bounds`, and the columns
    of its rows after item and scale.

    `attempt` and `learner` mean that learner's rows in it, `question` those of the items met, as a CTE hides the
    relation of its name.
    """
    by_id = {scale.scale_id: scale for scale in scales}
    facts = facts_within(READ_BOUNDS, by_id)
    columns = ["completed_at", *judged(facts.columns)]
    bounds = ", ".join(f'%({name})s::timestamptz AS "{name}"' for name in Bounds._fields)
    query = f"""WITH bounds AS (SELECT {bounds}),
attempt AS MATERIALIZED (
  SELECT {", ".join(read_of(COLUMNS, by_id))} FROM attempt
  WHERE user_id = %(user)s AND completed_at >= %(lookback)s AND completed_at < %(after)s),
learner AS MATERIALIZED (SELECT {", ".join(LEARNER_COLUMNS)} FROM learner WHERE user_id = %(user)s),
question AS MATERIALIZED (
  SELECT {", ".join(read_of(ITEM_COLUMNS, by_id))} FROM question
  WHERE item_id = ANY(ARRAY(SELECT item_id FROM attempt)))
SELECT item_id, scale_id, {", ".join(columns)} FROM ({ibis.to_sql(facts, dialect="postgres").replace("%", "%%")}) f
WHERE item_id = ANY(%(items)s) OR item_id IN (
  SELECT item_id FROM attempt WHERE correct IS NULL AND form_id IS NOT NULL AND completed_at >= %(start)s)"""
    return query.encode(), facts.select(*columns).schema().to_pyarrow()


def learner_answers(
    connection: psycopg.Connection, user_id: str, start: datetime, end: datetime, by_day: RulesByDay
) -> list[Answer]:
    """One learner's answers of [start, end) that count, of every scale, in any order."""
    answers = _rows(connection, VERDICTS, {"user": user_id, "start": start, "end": end})
    differing = [row for row in answers if row[4]]
    if not differing:
        return answers
    since = max(start, instant_of(min(row[1] for row in differing)) - LATER)
    items = {item for row in differing for item in (row[0], row[5]) if item is not None}
    judged_again, newer = set[tuple[str, int]](), list[Answer]()
    while since < end:
        month = month_of(since)
        until, rules = min(end, month.end), by_day.month(connection, month)
        bounds = Bounds.between(since, until, rules.scales)._asdict()
        rows = _rows(connection, rules.query, bounds | {"user": user_id, "items": list(items)})
        items |= {row[0] for row in rows}  # answers of later months to items omitted in this one are repeats
        judged_again |= {(row[0], microseconds(row[2])) for row in rows}
        newer += _judge(connection, rows, rules, by_day)
        since = until
    return [row for row in answers if not row[4] and row[:2] not in judged_again] + newer


def _judge(
    connection: psycopg.Connection, rows: list[tuple[Any, ...]], rules: MonthRules, by_day: RulesByDay
) -> Iterator[Answer]:
    """The answers among rows of a month's query that count by the rules of their scales."""
    for scale_id in {row[1] for row in rows}:
        some = [row for row in rows if row[1] == scale_id]
        times = [by_day.times(connection, row[2].astimezone(UTC).date()).of([row[0]]) for row in some]
        facts = pa.table([*zip(*(row[2:] for row in some), strict=True)], schema=rules.columns)
        same, place = np.zeros(len(some), dtype=np.int32), np.arange(len(some))
        median, n = (np.concatenate(of) for of in zip(*times, strict=True))
        attempts = attempts_of(facts, same, same, median, n, place)
        scale = rules.scales.get(scale_id, Scale(scale_id))
        score = judge(attempts, scale.rules, min_learner=False, min_item=False).score
        for k in np.flatnonzero(score >= 0):
            most = None if attempts.max_score is None else int(attempts.max_score[k])
            item, _, at = some[k][:3]
            yield item, microseconds(at), int(score[k]), most, False, item


def _rows(connection: psycopg.Connection, query: bytes, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        return cursor.execute(query, values, prepare=True).fetchall()


def last_live_answer(connection: psycopg.Connection, user_id: str) -> datetime | None:
    """When a learner last answered in live mode; None if they never did."""
    return one_value(
        connection,
        """SELECT completed_at FROM attempt WHERE user_id = %s AND mode = 'live' AND correct IS NOT NULL
           ORDER BY completed_at DESC LIMIT 1""",
        (user_id,),
    )


def answered_at_all(connection: psycopg.Connection, user_id: str) -> bool:
    """Whether the log has any attempt of a learner, eligible or not."""
    return one_value(connection, "SELECT EXISTS (SELECT FROM attempt WHERE user_id = %s)", (user_id,))
