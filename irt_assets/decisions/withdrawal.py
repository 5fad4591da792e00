"""Withdraw items from use and restore them, by a person's decision, from a future day on.

Answers to a withdrawn item do not count towards θ, in the month, the night and the θ API alike; values of θ reported
before do not change. The item's published parameters stay in the ledger, and it needs no other decision.
`scales.item_status` applies the decisions to answers.
"""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import psycopg
from pydantic import BaseModel

from irt_assets.common.wording import first_sentences
from irt_assets.ledger.anchors import anchors_among
from irt_assets.ledger.decision_rows import DecisionRow, Entry, Kind, Plan, no_effects
from irt_assets.scales.item_status import Status, item_status
from resources.failures import PermanentFailure

Use = Literal["withdrawn", "restored"]
MIN_LEAD_TIME = timedelta(minutes=1)
"""Smallest time between a decision and its effect, so that every server has read the decision by then."""
MAX_NAMED = 10
"""Number of items that are named one by one; the others are counted."""
EFFECTS_OF_USE: Mapping[Use, str] = {
    "withdrawn": "item {item} is out of use from {day:%Y-%m-%d} 00:00 UTC on: answers from then on count towards no "
    "ability, and nothing about it asks for a decision. What was reported until then stays as it is.",
    "restored": "item {item} is in use again from {day:%Y-%m-%d} 00:00 UTC on; answers given while it was withdrawn "
    "never count.",
}
Effects = Callable[[psycopg.Connection, Collection[str], datetime], Sequence[str]]
"""Further effects of items' use from a time on, in words."""


class ItemUse(BaseModel):
    """Value of a decision on an item's use."""

    state: Use


@dataclass(frozen=True)
class UseRequest:
    """Items to withdraw or restore.

    Attributes:
        since: None for the next midnight UTC or, for a restoration, the earliest time that changes no reported value. A
            withdrawal that has not begun by then never takes effect.
    """

    items: Sequence[str]
    since: datetime | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class ChangeOfUse(Kind):
    """Withdraw the items of a `UseRequest` from use, or restore them.

    Attributes:
        effects: computes further effects of a withdrawal, such as on adaptive tests.
    """

    name: str
    state: Use
    opposite: str
    effects: Effects | None = None
    value = ItemUse
    subject = "item"

    def plan(self, connection: psycopg.Connection, request: UseRequest) -> Plan:
        """Plan the change. Raises PermanentFailure, naming the items, if items are unknown, anchors or withdrawn
        already, or not withdrawn when they are restored, or if `since` is not in the future or before the withdrawal.
        """
        known, scales = item_status(connection), _scales_of(connection, request.items)
        begins = _find_beginnings(connection, request, self.state, known, scales)
        day, effects = max(begins.values()), self.effects
        return Plan(
            entries=[
                Entry(scales[item], ItemUse(state=self.state), item, effective_from=begin)
                for item, begin in begins.items()
            ],
            sentences=first_sentences(
                [EFFECTS_OF_USE[self.state].format(item=item, day=begin) for item, begin in begins.items()], MAX_NAMED
            ),
            basis={
                **{f"the use of {item}": known[item].sentence if item in known else "in use" for item in begins},
                "the first day": f"{day:%Y-%m-%d %H:%M}",
            },
            effects=no_effects if effects is None else lambda connection: effects(connection, [*begins], day),
        )

    def inverse(self, _connection: psycopg.Connection, decision: DecisionRow) -> tuple[str, UseRequest]:
        return self.opposite, UseRequest([decision.subject])


def next_day(now: datetime) -> datetime:
    """Return the next midnight UTC, at which a decision on an item takes effect by default."""
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)


def _scales_of(connection: psycopg.Connection, items: Sequence[str]) -> dict[str, str]:
    rows = connection.execute("SELECT item_id, scale_id FROM question WHERE item_id = ANY(%s)", ([*items],))
    return dict(rows.fetchall())


def _find_beginnings(
    connection: psycopg.Connection,
    request: UseRequest,
    state: Use,
    known: Mapping[str, Status],
    scales: Collection[str],
) -> dict[str, datetime]:
    """Find the time from which each item is withdrawn or restored. Raises PermanentFailure if an item cannot be."""
    distinct = list(dict.fromkeys(request.items))
    if not distinct:
        raise PermanentFailure("no item is named")
    first = next_day(request.now)
    begins = {
        item: request.since or (max(first, known[item].effective_from) if item in known else first) for item in distinct
    }
    problems = _find_problems(connection, distinct, state, known, scales)
    problems += [_too_early(item, begins[item], known.get(item), request.now) for item in distinct]
    if found := [problem for problem in problems if problem]:
        raise PermanentFailure(f"nothing was decided: {'; '.join(dict.fromkeys(found))}")
    return begins


def _find_problems(
    connection: psycopg.Connection, items: list[str], state: str, known: Mapping[str, Status], existing: Collection[str]
) -> list[str]:
    """Reasons why items cannot be withdrawn or restored (`state`), one sentence each."""
    problems = [f"the bank has no item {item!r} (ids are case-sensitive)" for item in items if item not in existing]
    if state == "restored":
        out = {item for item, status in known.items() if status.is_withdrawn}
        return problems + [f"{item} is not withdrawn" for item in items if item in existing and item not in out]
    anchors = anchors_among(connection, items)
    problems += [
        f"{item} is an anchor, by which months are linked: `irt release drop-anchors {shlex.quote(item)}` first"
        for item in items
        if item in anchors
    ]
    return problems + [
        f"{item} is {known[item].sentence}" for item in items if item in known and known[item].is_withdrawn
    ]


def _too_early(item: str, since: datetime, last: Status | None, now: datetime) -> str:
    if since < now + MIN_LEAD_TIME:
        return (
            f"{since:%Y-%m-%d %H:%M} UTC is not in the future: answers since then count in θ that were reported. "
            f"The next day begins at {next_day(now):%Y-%m-%d %H:%M} UTC"
        )
    if last is not None and since < last.effective_from:
        return f"{item} is {last.state} from {last.effective_from:%Y-%m-%d} on: name that day or a later one"
    return ""
