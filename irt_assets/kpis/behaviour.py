"""Learners' behaviour as relations: presence, response times, and wrong answers that were corrected later.

Each relation has one row per learner, or per learner and scale. Its columns are sums, medians and spans, from which
`record` computes the KPIs.
"""

from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from irt_assets.responses.answers import instant, live_answers, microseconds_before, with_scale
from resources.postgres.relations import LEARNER

YEAR = timedelta(days=365)
FOUR_WEEKS = timedelta(days=28)
EIGHT_WEEKS = 2 * FOUR_WEEKS
HALF_YEAR = timedelta(days=180)


def learners(end: datetime) -> ir.Table:
    """Every learner with a live answer in the 365 days before `end`: target_scale_id, target_theta, idle (µs since)."""
    answers = live_answers(end - YEAR, end)
    last = answers.group_by("user_id").agg(last=answers.completed_at.max())
    last = last.select("user_id", idle=microseconds_before(end, last.last))
    goals = LEARNER.select("user_id", "target_scale_id", "target_theta")
    return last.left_join(goals, "user_id").drop("user_id_right")


def scales_answered(end: datetime) -> ir.Table:
    """Every learner and scale with a live answer in the 365 days before `end`."""
    return with_scale(live_answers(end - YEAR, end)).select("user_id", "scale_id").distinct()


def presence(end: datetime) -> ir.Table:
    """A row per learner with a live answer in the 56 days before `end`, with columns over these and the last 28 days.

    - sessions_56, sessions_28: sessions.
    - days_56, days_28: active UTC days.
    - spread_56, spread_28: days from the first to the last active day.
    - hints: hints per answer in the last 28 days, over the answers whose hints are known.
    - dwell: mean µs of a session in the last 28 days, from its first `started_at` to its last `completed_at`, at least
      0, over the sessions whose start is known.

    spread_28, hints and dwell are null if they are over nothing.
    """
    answers = live_answers(end - EIGHT_WEEKS, end)
    answers = answers.select(
        "user_id",
        "session_id",
        "day",
        "started_at",
        "completed_at",
        "hints_used",
        recent=answers.completed_at >= instant(end - FOUR_WEEKS),
    )
    visits = (
        answers.filter(answers.session_id.notnull())
        .group_by("user_id", "session_id")
        .agg(first=answers.started_at.min(where=answers.recent), last=answers.completed_at.max(where=answers.recent))
    )
    dwell = visits.last.delta(visits.first, unit="microsecond")
    sessions = visits.group_by("user_id").agg(
        sessions_56=visits.count(),
        sessions_28=visits.count(where=visits.last.notnull()),
        dwell=ibis.ifelse(dwell < 0, 0, dwell).cast("float64").mean(),
    )
    days = answers.group_by("user_id", "day").agg(
        recent=answers.count(where=answers.recent) > 0,
        hints=answers.hints_used.cast("float64").sum(where=answers.recent),
        known=answers.hints_used.count(where=answers.recent),
    )
    by_learner = days.group_by("user_id").agg(
        days_56=days.count(),
        days_28=days.count(where=days.recent),
        spread_56=days.day.max().delta(days.day.min(), unit="day"),
        spread_28=days.day.max(where=days.recent).delta(days.day.min(where=days.recent), unit="day"),
        hints=days.hints.sum() / days.known.sum().nullif(0),
    )
    joined = by_learner.left_join(sessions, "user_id").drop("user_id_right")
    return joined.mutate(sessions_56=joined.sessions_56.fill_null(0), sessions_28=joined.sessions_28.fill_null(0))


def pace(end: datetime) -> ir.Table:
    """A row per learner and scale: slowness of correct answers with a time, in the last 28 days and the 28 before them.

    timed_recent, timed_previous: numbers of answers. slow_recent, slow_previous: median of the log time minus the
    item's median log time (null over nothing). The item's median is over all learners' correct answers of the 180 days
    before `end`.
    """
    everyone = _log_times(end - HALF_YEAR, end)
    usual = everyone.group_by("item_id").agg(usual=everyone.log_time.median())
    own = with_scale(_log_times(end - EIGHT_WEEKS, end).join(usual, "item_id"))
    own = own.mutate(slow=own.log_time - own.usual, recent=own.completed_at >= instant(end - FOUR_WEEKS))
    return own.group_by("user_id", "scale_id").agg(
        timed_recent=own.count(where=own.recent),
        timed_previous=own.count(where=~own.recent),
        # Not `median(where=…)`, because Spark rejects the SQL that Ibis generates for it.
        slow_recent=ibis.ifelse(own.recent, own.slow, ibis.null("float64")).median(),
        slow_previous=ibis.ifelse(own.recent, ibis.null("float64"), own.slow).median(),
    )


def _log_times(start: datetime, end: datetime) -> ir.Table:
    """Correct answers with a time, and the logarithm of the time."""
    answers = live_answers(start, end)
    timed = answers.filter(answers.correct, answers.time.notnull())
    return timed.select("user_id", "item_id", "completed_at", log_time=timed.time.ln())


def recovery(end: datetime) -> ir.Table:
    """A row per learner and scale with an item whose last answer 28 to 56 days before `end` was wrong.

    wrong: number of such items. again: such items that were answered again since. recovered: such items whose last
    answer since is correct. If two answers have the same time, the wrong one counts as the last.
    """
    answers = live_answers(end - EIGHT_WEEKS, end)
    recent, time = answers.completed_at >= instant(end - FOUR_WEEKS), answers.completed_at
    items = answers.group_by("user_id", "item_id").agg(
        right_before=time.max(where=answers.correct & ~recent),
        wrong_before=time.max(where=~answers.correct & ~recent),
        right_since=time.max(where=answers.correct & recent),
        wrong_since=time.max(where=~answers.correct & recent),
    )
    wrong = with_scale(
        items.filter(items.wrong_before.notnull() & ~_none_later(items.right_before, items.wrong_before))
    )
    return wrong.group_by("user_id", "scale_id").agg(
        wrong=wrong.count(),
        again=wrong.count(where=wrong.right_since.notnull() | wrong.wrong_since.notnull()),
        recovered=wrong.count(where=_none_later(wrong.right_since, wrong.wrong_since)),
    )


def _none_later(time: ir.TimestampColumn, other: ir.TimestampColumn) -> ir.BooleanColumn:
    """Whether there is a `time` without an `other` at this time or later."""
    return (time > other).fill_null(time.notnull())


def microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
