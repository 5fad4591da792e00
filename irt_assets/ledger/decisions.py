"""What people decided on proposals and anchors: every decision as it was made, and which of them stand.

A decision is never changed: one is undone by another. It stands until it is undone or the proposal is decided on again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import psycopg

from resources.postgres.database import named_rows, one_value, records

What = Literal["accept", "reject", "undo", "drop_anchor", "restore_anchor"]


class Decided(NamedTuple):
    """What is decided on: a proposal, or an anchor with the first month without or with it and the last linked fit."""

    window: str
    scale_id: str
    item_id: str
    fit_id: str


@dataclass(frozen=True)
class Decision:
    """A line on what was decided.

    Attributes:
        what: accept, reject, undo; drop_anchor and restore_anchor, whose `window` is the first month without or with
            it; or withdrawn and restored, of an item's use, which have no `window`.
        stands: whether it is of a proposal, and nothing was decided after it on that or accepted on the item; known of
            the newest decisions only.
    """

    window: str
    scale_id: str
    item_id: str
    what: str
    by: str
    reason: str
    effective_from: datetime | None
    at: datetime
    stands: bool = False

    @property
    def on(self) -> str:
        """The proposal, the anchor in its month, or the item that is used or not, as people name it."""
        return f"{self.window}/{self.item_id}" if self.window else self.item_id

    @property
    def in_force_from(self) -> str:
        """The day; "" where it puts nothing in force."""
        return f"{self.effective_from:%Y-%m-%d}" if self.effective_from else ""


def record(
    connection: psycopg.Connection,
    decided: Iterable[Decided],
    what: What,
    by: str,
    reason: str,
    effective_from: datetime | None,
) -> None:
    """Append one decision on each of them, in the caller's transaction."""
    connection.cursor().executemany(
        """INSERT INTO release_decision
                 (month, scale_id, item_id, fit_id, decision, decided_by, reason, effective_from)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        [(*one, what, by, reason, effective_from) for one in decided],
    )


def newest_decisions(
    connection: psycopg.Connection,
    limit: int | None = None,
    *,
    month: str | None = None,
    scale_id: str | None = None,
    item_id: str | None = None,
) -> list[Decision]:
    """The last decisions on that month, scale and item (None: on all), newest first. Those on items' use are of no
    month."""
    return records(
        connection,
        Decision,
        """SELECT "window", scale_id, item_id, what, by, reason, effective_from, at, stands FROM (
               SELECT month AS window, scale_id, item_id, decision AS what, decision_id, decided_by AS by, reason,
                      effective_from, decided_at AS at,
                      decision IN ('accept', 'reject') AND NOT EXISTS (
                        SELECT FROM release_decision n
                        WHERE (n.scale_id, n.item_id) = (d.scale_id, d.item_id) AND n.decision_id > d.decision_id
                          AND (n.decision = 'accept' OR (n.month, n.fit_id) = (d.month, d.fit_id))) AS stands
               FROM release_decision d
               WHERE (%(month)s::text IS NULL OR right(month, 7) = %(month)s)
                 AND (%(scale)s::text IS NULL OR scale_id = %(scale)s)
                 AND (%(item)s::text IS NULL OR item_id = %(item)s)
               UNION ALL
               SELECT '', scale_id, item_id, state, status_id, decided_by, reason, effective_from, decided_at, false
               FROM item_status JOIN question USING (item_id)
               WHERE %(month)s::text IS NULL AND (%(scale)s::text IS NULL OR scale_id = %(scale)s)
                 AND (%(item)s::text IS NULL OR item_id = %(item)s)
               ORDER BY at DESC, decision_id DESC LIMIT %(limit)s) newest""",
        {"month": month, "scale": scale_id, "item": item_id, "limit": limit},
    )


def decisions_on(connection: psycopg.Connection, item_id: str) -> list[dict[str, Any]]:
    """Every decision on an item, on a proposal for it or on it as an anchor, latest first."""
    return named_rows(
        connection,
        """SELECT decision_id, scale_id, month, decision, decided_by, decided_at, effective_from, reason, fit_id
               FROM release_decision WHERE item_id = %s ORDER BY decision_id DESC""",
        (item_id,),
    )


def decisions_on_month(connection: psycopg.Connection, scale_id: str, month: str, fit_id: str | None) -> list[Decision]:
    """The decisions on what the month proposed, and on anchors of its fit, as they were made."""
    return records(
        connection,
        Decision,
        """SELECT month AS "window", scale_id, item_id, decision AS what, decided_by AS by, reason, effective_from,
                      decided_at AS at FROM release_decision
               WHERE scale_id = %s AND (month = %s OR fit_id = %s) ORDER BY decision_id""",
        (scale_id, month, fit_id),
    )


def decided_windows(connection: psycopg.Connection) -> list[str]:
    """The months, and for recalibrations FIRST:LAST, on which somebody decided."""
    return [window for (window,) in connection.execute("SELECT DISTINCT month FROM release_decision")]


def last_standing(connection: psycopg.Connection, window: str, item_id: str) -> tuple[str, int] | None:
    """The fit and the id of the last decision that stands on what a window proposed for an item."""
    return connection.execute(
        """SELECT fit_id, decision_id FROM standing_decision WHERE (month, item_id) = (%s, %s)
           ORDER BY decision_id DESC LIMIT 1""",
        (window, item_id),
    ).fetchone()


def accepted_after(connection: psycopg.Connection, scale_id: str, item_id: str, decision_id: int) -> str | None:
    """The window of the last accept on an item that stands and was made after that decision."""
    return one_value(
        connection,
        """SELECT month FROM standing_decision WHERE (scale_id, item_id, decision) = (%s, %s, 'accept')
             AND decision_id > %s ORDER BY decision_id DESC LIMIT 1""",
        (scale_id, item_id, decision_id),
    )


def decided_anchors(connection: psycopg.Connection, what: What) -> set[tuple[str, str]]:
    """Scale and item of each anchor that a person ever took out of its set, or put back into it."""
    return set(
        connection.execute("SELECT scale_id, item_id FROM release_decision WHERE decision = %s", (what,)).fetchall()
    )


def decisions_on_drift(
    connection: psycopg.Connection, month: str, start: datetime, grown: float
) -> dict[tuple[str, str], str]:
    """The last decision on each item that drifted in the month, by scale and item: on which window, which, by whom.

    Only decisions that stand, on a window that saw the item's drift with the same severity or a higher one and a wABC
    that is at most `grown` smaller; whose value is not in force at the month's `start`; and after which nothing else
    of the item came into force by then.
    """
    rows = connection.execute(
        """SELECT DISTINCT ON (d.scale_id, d.item_id) d.scale_id, d.item_id, r.month, r.decision, r.decided_by
           FROM item_drift d
           JOIN standing_decision r ON (r.scale_id, r.item_id) = (d.scale_id, d.item_id)
           JOIN item_drift t ON (t.scale_id, t.item_id, t.month) = (d.scale_id, d.item_id, right(r.month, 7))
             AND t.severity <> 'none' AND d.wabc <= t.wabc + %(grown)s AND (t.severity = 'high' OR d.severity <> 'high')
           WHERE d.month = %(month)s AND d.severity <> 'none'
             AND (r.effective_from IS NULL OR r.effective_from > %(start)s)
             AND NOT EXISTS (SELECT FROM item_parameter_publication p
                             WHERE (p.scale_id, p.item_id) = (d.scale_id, d.item_id) AND p.effective_from <= %(start)s
                               AND p.effective_from > r.decided_at)
           ORDER BY d.scale_id, d.item_id, r.decision_id DESC""",
        {"month": month, "start": start, "grown": grown},
    )
    return {(scale, item): f"{window}, {decision}ed by {by}" for scale, item, window, decision, by in rows}
