"""Relations of attempts: all attempts of a period, and the live answers, defined once for all database engines."""

from datetime import datetime
from typing import TypeAlias

import ibis
import ibis.expr.types as ir

from resources.postgres.relations import ATTEMPT, LAKE_ATTEMPT, LEARNER, QUESTION, VERDICT

Time: TypeAlias = datetime | ir.TimestampScalar
"""A given time, or an expression that the query reads from a row."""


def instant(time: Time) -> ir.TimestampScalar:
    """The time as an expression. Raises ValueError for a datetime without a time zone."""
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return ibis.literal(time, type="timestamp('UTC')")


def microseconds_before(end: datetime, time: ir.TimestampColumn) -> ir.IntegerColumn:
    return instant(end).delta(time, unit="microsecond")


def attempts_between(start: Time, end: Time) -> ir.Table:
    """Attempts with completed_at in [start, end)."""
    return _rows_between(ATTEMPT, start, end)


def attempts_with_verdicts(start: Time, end: Time, *, in_lake: bool, verdicts: ir.Table = VERDICT) -> ir.Table:
    """The rows of `attempts_between` with the `VERDICT_COLUMNS`, which are null for an attempt without a verdict.

    `verdicts` is the relation of verdicts. It is not used if `in_lake`, because the lake's rows contain theirs.
    """
    if in_lake:
        return _rows_between(LAKE_ATTEMPT, start, end)
    verdicts = _rows_between(verdicts, start, end).select(
        "attempt_id", "learner_key", "scale_id", "reason", "max_score", verdict_score="score", at="completed_at"
    )
    log = attempts_between(start, end)
    joined = log.left_join(verdicts, [log.id == verdicts.attempt_id, log.completed_at == verdicts.at])
    return joined.select(LAKE_ATTEMPT.columns)


def _rows_between(rows: ir.Table, start: Time, end: Time) -> ir.Table:
    return rows.filter(rows.completed_at >= instant(start), rows.completed_at < instant(end))


def live_answers(start: datetime, end: datetime, *also: str) -> ir.Table:
    """Answers of [start, end): attempts in live mode with `correct` known, without attempts of test accounts.

    Has columns of `attempt` (`also` adds more), `day` (UTC), and `time`, the response time in ms, which is null if
    it is unknown or zero.
    """
    attempts = attempts_between(start, end)
    live = attempts.filter(attempts.mode == "live", attempts.correct.notnull())
    answers = live.anti_join(LEARNER.filter(LEARNER.is_test), "user_id")
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
    """Add `scale_id`, the scale of the item in the bank; 'default' if the item is not in the bank."""
    scales = QUESTION.select("item_id", "scale_id")
    joined = answers.left_join(scales, "item_id").drop("item_id_right")
    return joined.mutate(scale_id=joined.scale_id.fill_null("default"))
