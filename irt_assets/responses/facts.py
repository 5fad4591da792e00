"""What eligibility needs to know of attempts, as relations: was the item met before, was a later one answered, and the
like.

One definition for nights, trials of rules and the θ API. What does not belong here: what the facts mean (see
`eligibility`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import ibis
import ibis.expr.types as ir

from irt_assets.responses.answers import Time, attempts_between, instant
from irt_assets.responses.eligibility.rules import Rules
from irt_assets.responses.scales import Scale
from resources.postgres.relations import LEARNER, QUESTION

LOOKBACK = timedelta(days=365)
"""How long before a time eligible answers give a learner an ability as of that time, where θ is constant."""
USUAL_LOOKBACK_MONTHS = Rules().eligibility.lookback_months
LATER = timedelta(days=1)
"""A session may go on after the end: how far an omission looks for a later answer."""
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
"""Columns of `question` that it reads."""
GIVEN = ("score", "max_score")
"""Those that it reads only where a scale has an item with more than right and wrong."""
SCORES = ("given_score", "max_score")
"""What is then known of an attempt, null of all other items: its score, and the highest of its item."""
LEARNER_COLUMNS = ("is_test", "user_id")
"""Columns of `learner` that it reads."""
KEY = "learner_key"
"""Column of `learner` whose number stands for a learner in files and verdicts."""


def lookback_start(start: datetime, scales: Mapping[str, Scale]) -> datetime:
    """The first time whose attempts bear on which after `start` are eligible: the longest look-back of the scales."""
    months = max((scale.rules.eligibility.lookback_months for scale in scales.values()), default=USUAL_LOOKBACK_MONTHS)
    years, month = divmod(start.year * 12 + start.month - 1 - months, 12)
    return start.replace(year=years, month=month + 1, day=min(start.day, 28))


def ability_start(end: datetime, scale: Scale) -> datetime:
    """The first time whose answers count for abilities as of `end`.

    Where ability moves it is the first day of the month 12 months before the one that holds the last instant before
    `end`, so that a filter is begun anew once a month and not every day.
    """
    if not scale.movement:
        return end - LOOKBACK
    month = first_midnight(end - timedelta(microseconds=1))
    return month.replace(year=month.year - 1)


def abilities_start(end: datetime, scales: Mapping[str, Scale]) -> datetime:
    """The first `ability_start` of the scales; of none, that of one on which θ is constant."""
    return min([end - LOOKBACK, *(ability_start(end, scale) for scale in scales.values())])


def first_midnight(at: datetime) -> datetime:
    """When the month of a time began (UTC)."""
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def read_of(columns: Sequence[str], scales: Mapping[str, Scale]) -> list[str]:
    """Those of `columns` that the facts of `scales` are made of."""
    scored = any(scale.scored for scale in scales.values())
    return [name for name in columns if scored or name not in GIVEN]


class Bounds(NamedTuple):
    """Facts are of attempts of [start, end); an item may have been met from `lookback` on, and an exam session may go
    on until `after`."""

    lookback: Time
    start: Time
    end: Time
    after: Time

    @classmethod
    def between(cls, start: datetime, end: datetime, scales: Mapping[str, Scale]) -> "Bounds":
        return cls(lookback_start(start, scales), start, end, end + LATER)


BOUNDS = ibis.table(dict.fromkeys(Bounds._fields, "timestamp('UTC')"), name="bounds")
"""A relation of one row, for a query that is prepared once and gets its bounds as parameters."""
READ_BOUNDS = Bounds(*(BOUNDS[name].as_scalar() for name in Bounds._fields))


def facts_within(bounds: Bounds, scales: Mapping[str, Scale], *also: str) -> ir.Table:
    """Every attempt within the bounds, with what eligibility needs to know of it.

    Beside columns of `attempt` (`also`: more of them, and `KEY`): scale_id ('default' if the bank does not know the
    item), the `FACTS`, and the `SCORES` if one of `scales` has scored items. An item is met where it is answered or
    left out in an exam (see `_omitted`).
    """
    scored = any(scale.scored for scale in scales.values())
    columns = dict.fromkeys((*read_of(COLUMNS, {}), *(name for name in also if name != KEY)))
    key = [KEY] if KEY in also else []
    given = {"given_score": "score"} if scored else {}
    (lookback, start, end, _), pair = bounds, ["user_id", "item_id"]
    omitted = _omitted(bounds)
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
    bank = QUESTION.select(*read_of(ITEM_COLUMNS, scales)).rename(known_item="item_id")
    attempts = attempts.left_join(bank, attempts.item_id == bank.known_item)
    learners = LEARNER.select(*LEARNER_COLUMNS, *key).rename(known_user="user_id")
    rows = attempts.left_join(learners, attempts.user_id == learners.known_user)
    rows = rows.mutate(scale_id=rows.scale_id.fill_null("default"))
    facts = {name: fact(rows, scales) for name, fact in FACTS.items()}
    if scored:
        most = ibis.ifelse(rows.max_score > 1, rows.max_score, ibis.null("int16"))
        facts |= {"given_score": ibis.ifelse(most.notnull(), rows.given_score, ibis.null("int16")), "max_score": most}
    return rows.select(*columns, *key, "scale_id", answered_later=facts.pop("answered_later"), **facts)


def _seen_before(rows: ir.Table, scales: Mapping[str, Scale]) -> ir.BooleanValue:
    """Few attempts have been seen: dates are counted back for these alone."""
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
}
"""What is true of an attempt or not, by name: is_test, of the account; seen_before: whether the learner met the item
within the look-back of the scale; answered_later: whether it was left out in an exam.

Each is a field of `Attempts`."""


JUDGED = ("form_id", "mode", "correct", "hints_used", "response_time_ms", *FACTS)
"""What the rules read of an attempt beside its learner, its item and the item's usual time."""


def judged(columns: Collection[str]) -> list[str]:
    """`JUDGED`, and those of `SCORES` that are among the columns of a relation."""
    return [*JUDGED, *(name for name in SCORES if name in columns)]


def _omitted(bounds: Bounds) -> ir.Table:
    """Attempts from the look-back to the end that were left out in an exam: unanswered, a later item of the session
    being answered.

    Later is by position, or by time where one of the two has none.
    """
    session = ["user_id", "session_id"]
    left = attempts_between(bounds.lookback, bounds.end)
    left = left.filter(left.correct.isnull(), left.form_id.notnull())
    left = left.select("id", "item_id", *session, "position", "completed_at")
    others = attempts_between(bounds.lookback, bounds.after).filter(lambda t: t.correct.notnull())
    others = others.select(*session, "position", "completed_at").semi_join(left, session)
    last = others.group_by(session).agg(
        last_position=others.position.max(),
        last_unplaced=others.completed_at.max(where=others.position.isnull()),
        last_time=others.completed_at.max(),
    )
    joined = left.join(last, session)
    later = ibis.ifelse(
        joined.position.notnull(),
        (joined.last_position > joined.position).fill_null(False)
        | (joined.last_unplaced > joined.completed_at).fill_null(False),
        joined.last_time > joined.completed_at,
    )
    return joined.filter(later).select("id", "user_id", "item_id", "completed_at")
