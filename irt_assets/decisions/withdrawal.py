"""Withdraw items from use and restore them, by a person's decision, from a future day on.

Answers to a withdrawn item do not count towards θ, in the month, the night and the θ API alike; values of θ reported
before do not change. The item's published parameters stay in the ledger, and it needs no other decision.
`responses.item_status` applies the decisions to answers.
"""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import psycopg

from irt_assets.ledger.anchors import anchors_among
from irt_assets.scales.item_status import Status, item_status
from irt_assets.scales.scale_decisions import require_text
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock

Use = Literal["withdrawn", "restored"]
MIN_LEAD_TIME = timedelta(minutes=1)
"""Smallest time between a decision and its effect, so that every server has read the decision by then."""


def next_day(now: datetime) -> datetime:
    """The next midnight UTC, at which a decision on an item takes effect by default."""
    return datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)


def preview(
    connection: psycopg.Connection, items: Sequence[str], state: Use, *, since: datetime | None = None, now: datetime
) -> dict[str, datetime]:
    """The time at which each item would be withdrawn or restored. Raises the PermanentFailure of that decision."""
    distinct = list(dict.fromkeys(items))
    if not distinct:
        raise PermanentFailure("no item is named")
    known = item_status(connection)
    first = next_day(now)
    begins = {item: since or (max(first, known[item].effective_from) if item in known else first) for item in distinct}
    problems = _find_problems(connection, distinct, state, known)
    problems += [_too_early(item, begins[item], known.get(item), now) for item in distinct]
    if found := [problem for problem in problems if problem]:
        raise PermanentFailure(f"nothing was decided: {'; '.join(dict.fromkeys(found))}")
    return begins


def decide_use(
    database: Database,
    items: Sequence[str],
    state: Use,
    *,
    since: datetime | None = None,
    by: str,
    reason: str,
    now: datetime,
) -> list[Status]:
    """Record that `by` withdraws the items from `since` on, or restores them. On any error, nothing is recorded.

    `since`: None for the next midnight UTC or, for a restoration, the earliest time that changes no reported value. A
    withdrawal that has not begun by then never takes effect.

    Raises PermanentFailure, naming the items, if items are unknown, anchors or withdrawn already, or not withdrawn when
    they are restored, or if `since` is not in the future or is before the withdrawal.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        advisory_lock(connection, "item_status", "")
        begins = preview(connection, items, state, since=since, now=now)
        connection.cursor().executemany(
            """INSERT INTO item_status (item_id, state, effective_from, reason, decided_by)
                   VALUES (%s, %s, %s, %s, %s)""",
            [(item, state, begin, reason, by) for item, begin in begins.items()],
        )
        decided = item_status(connection)
        return [decided[item] for item in begins]


def _find_problems(connection: psycopg.Connection, items: list[str], state: str, known: dict[str, Status]) -> list[str]:
    """Reasons why items cannot be withdrawn or restored (`state`), one sentence each."""
    existing = {
        item
        for (item,) in connection.execute("SELECT item_id FROM question WHERE item_id = ANY(%s)", (items,)).fetchall()
    }
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
