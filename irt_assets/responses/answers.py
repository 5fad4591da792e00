"""Attempts as relations: the live answers, and those that eligibility may let count. One definition for every engine.

`responses.window` finds the same facts for a window that is to be stored, with a reason for every attempt; here only
what may count comes back. What does not belong here: judging hints and times (see `eligible`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from irt_assets.psychometrics.eligibility import Rules
from resources.relational import ATTEMPT, LEARNER, QUESTION

LATER = timedelta(days=1)
"""A session may go on after the end: how far an omission looks for a later answer (as `responses.window` does)."""


def instant(time: datetime) -> ir.TimestampScalar:
    """A time as a literal. Raises ValueError for one without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return ibis.literal(time, type="timestamp('UTC')")


def microseconds_before(end: datetime, time: ir.TimestampColumn) -> ir.IntegerColumn:
    return instant(end).delta(time, unit="microsecond")


def between(start: datetime, end: datetime) -> ir.Table:
    """Attempts with completed_at in [start, end)."""
    return ATTEMPT.filter(ATTEMPT.completed_at >= instant(start), ATTEMPT.completed_at < instant(end))


def live_answers(start: datetime, end: datetime, *also: str) -> ir.Table:
    """Answers of [start, end): attempts in live mode with `correct` known, those of test accounts left out.

    Beside columns of `attempt` (`also`: more of them): `day` (UTC), and `time`, the response time in ms where one above
    zero is known (a time of zero is none).
    """
    attempts = between(start, end)
    answers = _of_real_learners(attempts.filter(attempts.mode == "live", attempts.correct.notnull()))
    return answers.select(
        "user_id",
        "item_id",
        "session_id",
        "started_at",
        "completed_at",
        "correct",
        "hints_used",
        *also,
        time=answers.response_time_ms.nullif(0).cast("float64"),
        day=answers.completed_at.date(),
    )


def with_scale(answers: ir.Table) -> ir.Table:
    """The answers with `scale_id`, that of the item in the bank, 'default' where the bank does not know the item."""
    scales = QUESTION.select("item_id", "scale_id")
    joined = answers.left_join(scales, "item_id").drop("item_id_right")
    return joined.mutate(scale_id=joined.scale_id.fill_null("default"))


def candidates(lookback: datetime, start: datetime, end: datetime, months: Mapping[str, int]) -> ir.Table:
    """What of [start, end) may be eligible as far as SQL can say; hints and times are still to be judged.

    `months` are the look-backs by scale. Columns: user_id, item_id, correct (null: omitted in an exam), hints_used,
    response_time_ms, age.
    """
    attempts = _met(lookback, end)
    in_order = ibis.window(group_by=["user_id", "item_id"], order_by=["completed_at", "id"])
    attempts = attempts.mutate(seen_at=attempts.completed_at.lag().over(in_order))
    rows = _of_real_learners(attempts.filter(attempts.completed_at >= instant(start), attempts.mode == "live"))
    bank = QUESTION.select("item_id", "scale_id")
    rows = rows.join(bank, "item_id")
    usual = Rules().lookback_months
    since = rows.completed_at - ibis.interval(months=usual)
    for scale_id, n in months.items():
        if n != usual:
            since = ibis.ifelse(rows.scale_id == scale_id, rows.completed_at - ibis.interval(months=n), since)
    rows = rows.filter(rows.seen_at.isnull() | (rows.seen_at < since))
    return rows.select(
        "user_id",
        "item_id",
        "correct",
        "hints_used",
        "response_time_ms",
        age=microseconds_before(end, rows.completed_at),
    )


def item_times(start: datetime, end: datetime) -> ir.Table:
    """Median response time and number of times of each item over the live answers of [start, end), whoever's."""
    attempts = between(start, end)
    timed = attempts.filter(attempts.mode == "live", attempts.correct.notnull(), attempts.response_time_ms.notnull())
    return timed.group_by("item_id").agg(
        median_ms=timed.response_time_ms.cast("float64").median(), n=timed.response_time_ms.count()
    )


def _met(start: datetime, end: datetime) -> ir.Table:
    """Attempts of [start, end) that were answered, or omitted: unanswered in an exam, a later item being answered.

    Later is by position, or by time where one of the two has none.
    """
    attempts = between(start, end)
    answered, unanswered = attempts.filter(attempts.correct.notnull()), attempts.filter(attempts.correct.isnull())
    columns = ["id", "user_id", "item_id", "completed_at", "correct", "hints_used", "response_time_ms", "mode"]
    unanswered = unanswered.filter(unanswered.form_id.notnull()).select(*columns, "session_id", "position")
    session = ["user_id", "session_id"]
    others = between(start, end + LATER).filter(lambda t: t.correct.notnull())
    others = others.select(*session, "position", "completed_at").semi_join(unanswered, session)
    last = others.group_by(session).agg(
        last_position=others.position.max(),
        last_unplaced=others.completed_at.max(where=others.position.isnull()),
        last_time=others.completed_at.max(),
    )
    joined = unanswered.join(last, session)
    later = ibis.ifelse(
        joined.position.notnull(),
        (joined.last_position > joined.position).fill_null(False)
        | (joined.last_unplaced > joined.completed_at).fill_null(False),
        joined.last_time > joined.completed_at,
    )
    return answered.select(columns).union(joined.filter(later).select(columns))


def _of_real_learners(attempts: ir.Table) -> ir.Table:
    return attempts.anti_join(LEARNER.filter(LEARNER.is_test), "user_id")
