"""One learner's eligible responses, by everybody's query and rules, without a scan of the log.

The facts are those of `facts`, read from that learner's attempts in the place of all; the SQL is made once for a scale
and prepared by the server. What does not belong here: which parameters score them (see `calibration.online`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from functools import cache

import ibis
import psycopg
import pyarrow as pa
from psycopg.rows import tuple_row

from irt_assets.psychometrics.models import Responses
from irt_assets.responses.facts import COLUMNS, LATER, facts, first_look
from irt_assets.responses.item_status import Withdrawals
from irt_assets.responses.item_times import ItemTimes
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import scored_for_abilities

READ = {
    "item_id": pa.string(),
    "form_id": pa.string(),
    "correct": pa.bool_(),
    "response_time_ms": pa.int64(),
    "hints_used": pa.int64(),
    "mode": pa.string(),
    "is_test": pa.bool_(),
    "unknown_item": pa.bool_(),
    "seen_before": pa.bool_(),
    "answered_later": pa.bool_(),
}
"""The facts that the rules read, besides the learner."""
_START, _END = datetime(2001, 2, 3, 4, 5, 6, 7, UTC), datetime(2001, 3, 5, 7, 9, 11, 13, UTC)
"""Placeholder times in the text of the query, to be replaced by its parameters."""


@cache
def learner_query(scale: Scale) -> str:
    """The facts of one learner's attempts, with parameters: user, begin, start, end, after.

    `attempt` and `learner` mean that learner's rows in it, `question` those of the items met, as a CTE hides the
    relation of its name.
    """
    scales = {scale.scale_id: scale}
    text = ibis.to_sql(facts(_START, _END, scales), dialect="postgres").replace("%", "%%")
    places = {first_look(_START, scales): "begin", _START: "start", _END: "end", _END + LATER: "after"}
    for time, name in places.items():
        literal = f"CAST('{time.isoformat()}' AS TIMESTAMPTZ)"
        if literal not in text:
            raise AssertionError(f"ibis writes times otherwise than as {literal}")
        text = text.replace(literal, f"%({name})s::timestamptz")
    return f"""WITH attempt AS MATERIALIZED (
  SELECT {", ".join(COLUMNS)} FROM attempt
  WHERE user_id = %(user)s AND completed_at >= %(begin)s::timestamptz AND completed_at < %(after)s::timestamptz),
learner AS MATERIALIZED (SELECT user_id, is_test FROM learner WHERE user_id = %(user)s),
question AS MATERIALIZED (
  SELECT item_id, scale_id FROM question WHERE item_id = ANY(ARRAY(SELECT item_id FROM attempt)))
SELECT {", ".join(READ)}, completed_at FROM ({text}) f"""


def learner_responses(
    connection: psycopg.Connection,
    query: str,
    user_id: str,
    start: datetime,
    end: datetime,
    scale: Scale,
    items: Collection[str],
    times: ItemTimes,
    withdrawn: Withdrawals,
) -> Responses:
    """One learner's eligible responses to `items` in [start, end); without a person if there are none.

    `query` is the scale's `learner_query`; `withdrawn`: when answers to which items do not count.
    """
    wanted = {
        "user": user_id,
        "begin": first_look(start, {scale.scale_id: scale}),
        "start": start,
        "end": end,
        "after": end + LATER,
    }
    with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        rows = cursor.execute(query.encode(), wanted, prepare=True).fetchall()
    out = withdrawn.stretches
    found = [row[:-1] for row in rows if row[0] in items and not (row[0] in out and withdrawn.covers(row[0], row[-1]))]
    columns = list(zip(*found, strict=True)) or [()] * len(READ)
    table = pa.table(
        {
            "user_id": pa.array([user_id] * len(found), pa.string()),
            **{name: pa.array(column, kind) for (name, kind), column in zip(READ.items(), columns, strict=True)},
        }
    )
    return scored_for_abilities(table, scale, times)[0]


def last_live_answer(connection: psycopg.Connection, user_id: str) -> datetime | None:
    """When a learner last answered in live mode; None where that never was."""
    row = connection.execute(
        """SELECT completed_at FROM attempt WHERE user_id = %s AND mode = 'live' AND correct IS NOT NULL
           ORDER BY completed_at DESC LIMIT 1""",
        (user_id,),
    ).fetchone()
    return None if row is None else row[0]


def answered_at_all(connection: psycopg.Connection, user_id: str) -> bool:
    """Whether the log has any attempt of a learner, eligible or not."""
    row = connection.execute("SELECT EXISTS (SELECT FROM attempt WHERE user_id = %s)", (user_id,)).fetchone()
    return row is not None and bool(row[0])
