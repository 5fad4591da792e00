"""Relations with the facts that eligibility needs about attempts, e.g. whether the learner met the item before.

Nights, trials of rules and the θ API use this one definition.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import ibis
import ibis.expr.types as ir

from irt_assets.responses.answers import Time, attempts_between, instant
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from resources.postgres.relations import LEARNER, QUESTION, SEED_DRAW

LOOKBACK = timedelta(days=365)
"""Age up to which answers count for a learner's ability, if θ is constant."""
USUAL_LOOKBACK_MONTHS = Rules().eligibility.lookback_months
LATER = timedelta(days=1)
"""Time after the end of a window within which a later answer of the same session makes an unanswered item an
omission."""
COLUMNS = (
    "id",
    "user_id",
    "item_id",
    "session_id",
    "form_id",
    "position",
    "completed_at",
    "correct",
    "response_time_ms",
    "hints_used",
    "mode",
    "score",
)
"""Columns of `attempt` that eligibility reads."""
ITEM_COLUMNS = ("scale_id", "item_id", "max_score")
"""Columns of `question` that eligibility reads."""
SCORE_COLUMNS = ("score", "max_score")
"""Columns of `attempt` and `question` that eligibility reads only if a scale has scored items."""
SCORES = ("given_score", "max_score")
"""Columns of facts if a scale has scored items: an attempt's score and its item's maximum score; null for all other
items."""
LEARNER_COLUMNS = ("is_test", "user_id")
"""Columns of `learner` that eligibility reads."""
SEED_COLUMNS = ("session_id", "item_id", "user_id")
"""Columns of `seed_draw` that eligibility reads; they identify the answers to the drawn items."""
KEY = "learner_key"
"""Column of `learner`: the number of a learner in files and verdicts."""


def lookback_start(start: datetime, scales: Mapping[str, Scale]) -> datetime:
    """Start of the scales' longest look-back. Attempts before it do not turn attempts after `start` into repeats."""
    months = max((scale.rules.eligibility.lookback_months for scale in scales.values()), default=USUAL_LOOKBACK_MONTHS)
    years, month = divmod(start.year * 12 + start.month - 1 - months, 12)
    return start.replace(year=years, month=month + 1, day=min(start.day, 28))


def ability_start(end: datetime, scale: Scale) -> datetime:
    """The time from which answers count for abilities as of `end`.

    If ability moves, it is the start of a month, 12 months before the month that contains the last instant before
    `end`, so that the filter starts from the beginning once a month and not every day.
    """
    if not scale.movement:
        return end - LOOKBACK
    month = first_midnight(end - timedelta(microseconds=1))
    return month.replace(year=month.year - 1)


def abilities_start(end: datetime, scales: Mapping[str, Scale]) -> datetime:
    """The earliest `ability_start` of the scales, and at most `end - LOOKBACK`."""
    return min([end - LOOKBACK, *(ability_start(end, scale) for scale in scales.values())])


def first_midnight(at: datetime) -> datetime:
    """Start of the month that contains a time (UTC)."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def columns_to_read(columns: Sequence[str], scales: Mapping[str, Scale]) -> list[str]:
    """The columns among `columns` that the facts need. `SCORE_COLUMNS` are left out if no scale has scored items."""
    scored = any(scale.scored for scale in scales.values())
    return [name for name in columns if scored or name not in SCORE_COLUMNS]


class Bounds(NamedTuple):
    """Times that bound a query for facts.

    Attributes:
        lookback: time from which earlier attempts make an attempt a repeat.
        start, end: the attempts of [start, end) get facts.
        after: time until which later answers of an exam session are read.
    """

    lookback: Time
    start: Time
    end: Time
    after: Time

    @classmethod
    def from_window(cls, start: datetime, end: datetime, scales: Mapping[str, Scale]) -> "Bounds":
        return cls(lookback_start(start, scales), start, end, end + LATER)


BOUNDS = ibis.table(dict.fromkeys(Bounds._fields, "timestamp('UTC')"), name="bounds")
"""A relation of one row, for a query that is prepared once and gets its bounds as parameters."""
READ_BOUNDS = Bounds(*(BOUNDS[name].as_scalar() for name in Bounds._fields))


def facts_within(bounds: Bounds, scales: Mapping[str, Scale], *also: str) -> ir.Table:
    """Every attempt within the bounds, with the facts that eligibility needs.

    Has columns of `attempt` (`also` adds more, or `KEY`), scale_id ('default' if the item is not in the bank), the
    `FACTS`, and the `SCORES` if one of `scales` has scored items. A learner meets an item by answering it or by
    omitting it in an exam (see `_omissions`).
    """
    scored = any(scale.scored for scale in scales.values())
    columns = dict.fromkeys((*columns_to_read(COLUMNS, {}), *(name for name in also if name != KEY)))
    key = [KEY] if KEY in also else []
    given = {"given_score": "score"} if scored else {}
    (lookback, start, end, _), pair = bounds, ["user_id", "item_id"]
    omitted = _omissions(bounds)
    answered = attempts_between(lookback, start).filter(lambda t: t.correct.notnull())
    attempts = attempts_between(start, end)
    met = answered.select(*pair, "completed_at").union(
        omitted.filter(omitted.completed_at < instant(start)).select(*pair, "completed_at")
    )
    earlier = met.group_by(pair).agg(seen_at=met.completed_at.max())
    attempts, left_out = attempts.select(*columns, **given), omitted.select(omitted_id="id")
    attempts = attempts.left_join(left_out, attempts.id == left_out.omitted_id)
    attempts = attempts.mutate(answered_later=attempts.omitted_id.notnull())
    before = ibis.window(group_by=pair, order_by=["completed_at", "id"], preceding=(None, 1))
    is_met = attempts.correct.notnull() | attempts.answered_later
    attempts = attempts.mutate(seen_in_window=attempts.completed_at.max(where=is_met).over(before))
    attempts = attempts.left_join(earlier, pair).drop("user_id_right", "item_id_right")
    bank = QUESTION.select(*columns_to_read(ITEM_COLUMNS, scales)).rename(known_item="item_id")
    attempts = attempts.left_join(bank, attempts.item_id == bank.known_item)
    learners = LEARNER.select(*LEARNER_COLUMNS, *key).rename(known_user="user_id")
    rows = attempts.left_join(learners, attempts.user_id == learners.known_user)
    drawn = SEED_DRAW.select(*SEED_COLUMNS, drawn=True)
    rows = rows.left_join(drawn, SEED_COLUMNS).drop(*(f"{name}_right" for name in SEED_COLUMNS))
    rows = rows.mutate(scale_id=rows.scale_id.fill_null("default"))
    facts = {name: fact(rows, scales) for name, fact in FACTS.items()}
    if scored:
        max_score = ibis.ifelse(rows.max_score > 1, rows.max_score, ibis.null("int16"))
        facts |= {
            "given_score": ibis.ifelse(max_score.notnull(), rows.given_score, ibis.null("int16")),
            "max_score": max_score,
        }
    return rows.select(*columns, *key, "scale_id", answered_later=facts.pop("answered_later"), **facts)


def _seen_before(rows: ir.Table, scales: Mapping[str, Scale]) -> ir.BooleanValue:
    # Most attempts are not repeats, so the date is calculated only for attempts whose item was met earlier.
    seen_at = ibis.coalesce(rows.seen_in_window, rows.seen_at)
    return ibis.ifelse(seen_at.notnull(), seen_at >= _since(rows, scales), False)


def _since(rows: ir.Table, scales: Mapping[str, Scale]) -> ir.TimestampColumn:
    """Start of the look-back of each row's scale."""
    since = rows.completed_at - ibis.interval(months=USUAL_LOOKBACK_MONTHS)
    for scale_id, scale in scales.items():
        if (months := scale.rules.eligibility.lookback_months) != USUAL_LOOKBACK_MONTHS:
            since = ibis.ifelse(rows.scale_id == scale_id, rows.completed_at - ibis.interval(months=months), since)
    return since


FACTS: dict[str, Callable[[ir.Table, Mapping[str, Scale]], ir.BooleanValue]] = {
    "is_test": lambda rows, _: rows.is_test.fill_null(False),
    "unknown_item": lambda rows, _: rows.known_item.isnull(),
    "seen_before": _seen_before,
    "answered_later": lambda rows, _: rows.answered_later,
    "seeded": lambda rows, _: rows.drawn.notnull(),
}
"""Boolean facts about an attempt, each a field of `Attempts`.

- is_test: the account is a test account.
- unknown_item: the item is not in the bank.
- seen_before: the learner met the item earlier within the look-back of the scale.
- answered_later: the item was omitted in an exam.
- seeded: a seed draw chose the item for the session.
"""
JUDGED = ("form_id", "mode", "correct", "hints_used", "response_time_ms", *FACTS)
"""Columns from which an attempt is judged, apart from its learner, its item and the item's usual time."""


def judged_columns(columns: Collection[str]) -> list[str]:
    """`JUDGED`, and the `SCORES` that are among the columns of a relation."""
    return [*JUDGED, *(name for name in SCORES if name in columns)]


def _omissions(bounds: Bounds) -> ir.Table:
    """Omissions from the look-back to the end: unanswered attempts of exams in which a later item was answered.

    Later means a higher position, or a later time if one of the two has no position.
    """
    session = ["user_id", "session_id"]
    unanswered = attempts_between(bounds.lookback, bounds.end)
    unanswered = unanswered.filter(unanswered.correct.isnull(), unanswered.form_id.notnull())
    unanswered = unanswered.select("id", "item_id", *session, "position", "completed_at")
    answered = attempts_between(bounds.lookback, bounds.after).filter(lambda t: t.correct.notnull())
    answered = answered.select(*session, "position", "completed_at").semi_join(unanswered, session)
    last = answered.group_by(session).agg(
        last_position=answered.position.max(),
        last_unplaced=answered.completed_at.max(where=answered.position.isnull()),
        last_time=answered.completed_at.max(),
    )
    joined = unanswered.join(last, session)
    later = ibis.ifelse(
        joined.position.notnull(),
        (joined.last_position > joined.position).fill_null(False)
        | (joined.last_unplaced > joined.completed_at).fill_null(False),
        joined.last_time > joined.completed_at,
    )
    return joined.filter(later).select("id", "user_id", "item_id", "completed_at")
