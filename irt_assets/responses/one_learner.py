"""One learner's eligible responses, by everybody's query and rules, without a scan of the log.

The facts are those of `eligibility_facts`, read from that learner's attempts in the place of all; the SQL is made once
for a scale and prepared by the server. What does not belong here: which parameters score them (see
`abilities.online`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import Any

import ibis
import numpy as np
import psycopg
import pyarrow as pa
from psycopg.rows import tuple_row

from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.eligibility.attempts import judge
from irt_assets.responses.columns import attempts_of, instants
from irt_assets.responses.facts import (
    COLUMNS,
    ITEM_COLUMNS,
    LATER,
    LEARNER_COLUMNS,
    eligibility_facts,
    judged,
    lookback_start,
    read_of,
)
from irt_assets.responses.item_status import Withdrawals
from irt_assets.responses.item_times import DatedTimes, ItemTimes, TimesOfItems
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import categories_of
from resources.postgres.database import one_value

_START, _END = datetime(2001, 2, 3, 4, 5, 6, 7, UTC), datetime(2001, 3, 5, 7, 9, 11, 13, UTC)
"""Placeholder times in the text of the query, to be replaced by its parameters."""


@cache
def learner_query(scale: Scale) -> str:
    """The facts of one learner's attempts, with parameters: user, begin, start, end, after.

    `attempt` and `learner` mean that learner's rows in it, `question` those of the items met, as a CTE hides the
    relation of its name.
    """
    return f"""WITH attempt AS MATERIALIZED (
  SELECT {", ".join(read_of(COLUMNS, {scale.scale_id: scale}))} FROM attempt
  WHERE user_id = %(user)s AND completed_at >= %(begin)s::timestamptz AND completed_at < %(after)s::timestamptz),
{_facts_of_attempt(scale)}"""


@cache
def recent_query(scale: Scale) -> str:
    """The same of the attempts from `start` on, without a look at earlier ones but of the same items and sessions, and
    beside each what `Recent` says of the log; a further parameter: `from`, when the log begins to bear on θ."""
    of_log = f"SELECT {', '.join(read_of(COLUMNS, {scale.scale_id: scale}))}, recorded_at FROM attempt"
    newer = """user_id = %(user)s
    AND completed_at >= %(start)s::timestamptz AND completed_at < %(after)s::timestamptz"""
    older = "user_id = %(user)s AND completed_at >= %({since})s::timestamptz AND completed_at < %(start)s::timestamptz"
    beside = ", e.n, e.recorded_at, e.reopened, last.day, e.n + s.n, greatest(e.recorded_at, s.recorded_at)"
    return f"""WITH newer AS MATERIALIZED (SELECT item_id, session_id FROM attempt WHERE {newer}),
earlier AS MATERIALIZED (
  SELECT count(*) AS n, max(recorded_at) AS recorded_at, coalesce(bool_or(
    correct IS NULL AND form_id IS NOT NULL AND session_id IN (SELECT session_id FROM newer)), false) AS reopened
  FROM attempt WHERE {older.format(since="from")}),
attempt AS MATERIALIZED (
  {of_log} WHERE {newer}
  UNION ALL {of_log} WHERE {older.format(since="begin")}
    AND (item_id IN (SELECT item_id FROM newer) OR session_id IN (SELECT session_id FROM newer))),
last AS MATERIALIZED (
  SELECT date_trunc('day', max(completed_at) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS day
  FROM attempt WHERE completed_at < %(end)s::timestamptz),
since AS MATERIALIZED (
  SELECT count(*) AS n, max(recorded_at) AS recorded_at FROM attempt, last
  WHERE completed_at >= %(start)s::timestamptz AND completed_at < last.day),
{_facts_of_attempt(scale, beside)}
CROSS JOIN earlier e CROSS JOIN last CROSS JOIN since s"""


def _facts_of_attempt(scale: Scale, also: str = "") -> str:
    """The rest of a query that has defined what `attempt` is."""
    scales = {scale.scale_id: scale}
    facts = eligibility_facts(_START, _END, scales)
    of_bank = ", ".join(read_of(ITEM_COLUMNS, scales))
    text = ibis.to_sql(facts, dialect="postgres").replace("%", "%%")
    places = {lookback_start(_START, scales): "begin", _START: "start", _END: "end", _END + LATER: "after"}
    for time, name in places.items():
        literal = f"CAST('{time.isoformat()}' AS TIMESTAMPTZ)"
        if literal not in text:
            raise AssertionError(f"ibis writes times otherwise than as {literal}")
        text = text.replace(literal, f"%({name})s::timestamptz")
    return f"""learner AS MATERIALIZED (SELECT {", ".join(LEARNER_COLUMNS)} FROM learner WHERE user_id = %(user)s),
question AS MATERIALIZED (
  SELECT {of_bank} FROM question WHERE item_id = ANY(ARRAY(SELECT item_id FROM attempt)))
SELECT item_id, completed_at, {", ".join(judged(facts.columns))}{also} FROM ({text}) f"""


@cache
def _read_columns(scale: Scale) -> pa.Schema:
    facts = eligibility_facts(_START, _END, {scale.scale_id: scale})
    return facts.select("completed_at", *judged(facts.columns)).schema().to_pyarrow()


@dataclass(frozen=True)
class ScoredItems:
    """J items that learners are scored by, in order of id, and what the rules ask of each.

    `places`: where each is. `times`: their usual ones. `withdrawn`: when answers to which of them do not count.
    """

    item_ids: tuple[str, ...]
    places: Mapping[str, int]
    times: TimesOfItems
    withdrawn: Withdrawals

    @classmethod
    def of(cls, items: Collection[str], times: ItemTimes | DatedTimes, withdrawn: Withdrawals) -> ScoredItems:
        item_ids = tuple(sorted(items))
        return cls(item_ids, {item: place for place, item in enumerate(item_ids)}, times.among(item_ids), withdrawn)


def learner_responses(
    connection: psycopg.Connection,
    query: str,
    user_id: str,
    start: datetime,
    end: datetime,
    scale: Scale,
    items: ScoredItems,
) -> Responses:
    """One learner's eligible responses to `items` in [start, end) with their times, in order of items; `query`: the
    `learner_query`."""
    return _responses_of(_rows(connection, query, user_id, start, end, scale), scale, items)


@dataclass(frozen=True)
class Recent:
    """A learner's eligible `responses` of [start, end), and what of the log they and a state rest on.

    Attributes:
        n, recorded_at: of the attempts before the start, with the look-back: how many there are, and when the last was
            written. reopened: one of them is of a session that goes on, and may now be an omission.
        day: when the day of the last attempt began; n_until and recorded_until are as n and recorded_at, of the
            attempts before it.
    """

    responses: Responses
    n: int
    recorded_at: datetime | None
    reopened: bool
    day: datetime
    n_until: int
    recorded_until: datetime | None


def recent_responses(
    connection: psycopg.Connection,
    query: str,
    user_id: str,
    counts_from: datetime,
    start: datetime,
    end: datetime,
    scale: Scale,
    items: ScoredItems,
) -> Recent | None:
    """`learner_responses` by the `recent_query`; None where there is no attempt in [start, end). counts_from: the first
    time whose answers count, at most the start."""
    since = lookback_start(counts_from, {scale.scale_id: scale})
    rows = _rows(connection, query, user_id, start, end, scale, {"from": since})
    if not rows:
        return None
    return Recent(_responses_of(rows, scale, items), *rows[0][-6:])


def _rows(
    connection: psycopg.Connection,
    query: str,
    user_id: str,
    start: datetime,
    end: datetime,
    scale: Scale,
    also: Mapping[str, datetime] = MappingProxyType({}),
) -> list[tuple[Any, ...]]:
    wanted = {
        "user": user_id,
        "begin": lookback_start(start, {scale.scale_id: scale}),
        "start": start,
        "end": end,
        "after": end + LATER,
        **also,
    }
    with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        return cursor.execute(query.encode(), wanted, prepare=True).fetchall()


def _responses_of(rows: list[tuple[Any, ...]], scale: Scale, items: ScoredItems) -> Responses:
    places, out = items.places, items.withdrawn.stretches
    rows = [row for row in rows if row[0] in places and not (row[0] in out and items.withdrawn.covers(row[0], row[1]))]
    if not rows:
        nothing = np.empty(0, dtype=np.int32)
        at = nothing.astype(np.int64)
        return Responses(nothing, nothing, nothing.astype(np.int8), 1, items.item_ids, at=at)
    schema, (item_ids, *columns) = _read_columns(scale), zip(*rows, strict=True)
    found = pa.table(columns[: len(schema)], schema=schema)
    item = np.array([places[item_id] for item_id in item_ids], dtype=np.int32)
    at = instants(found["completed_at"])
    attempts = attempts_of(found, np.zeros(item.size, dtype=np.int32), item, *items.times.of(item, at))
    score = judge(attempts, scale.rules, min_learner=False, min_item=False).score
    scored = np.flatnonzero(score >= 0)
    scored = scored[np.argsort(item[scored], kind="stable")]
    most = attempts.max_score
    categories = None if most is None else categories_of(item, most, items.item_ids)
    person = np.zeros(scored.size, dtype=np.int32)
    return Responses(person, item[scored], score[scored], 1, items.item_ids, categories, at=at[scored])


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
