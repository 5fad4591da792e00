"""People's decisions on proposals and anchors: all of them, and the ones that stand.

A decision is never changed; it can be undone by a later one. It stands until it is undone or somebody decides on the
proposal again.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import psycopg

from irt_assets.scales.scale_decisions import KEY_OF, require_text
from resources.postgres.database import named_rows, one_value, records

DecisionKind = Literal["accept", "reject", "undo", "drop_anchor", "restore_anchor"]


class DecisionSubject(NamedTuple):
    """The subject of a decision: a proposal or an anchor.

    For an anchor, `window` is the first month without it (or with it again) and `fit_id` the last linked fit.
    """

    window: str
    scale_id: str
    item_id: str
    fit_id: str


@dataclass(frozen=True)
class Decision:
    """A decision, for lists.

    Attributes:
        window: the month, or FIRST:LAST, that made the proposal. For drop_anchor and restore_anchor it is the first
            month without or with the anchor; otherwise it is empty.
        item_id: the item or test; for scores, equating and form the form; empty for other decisions on a scale.
        kind: name of a kind in `irt_assets.decision_kinds`, or accept, reject or undo (a proposal), drop_anchor or
            restore_anchor, or the subject of a decision on a scale (see `scales.scale_decisions`): key, scores (a
            score table), equating, form, standard (a pass mark), model, guessing, a rule, …; with undo_ if a decision
            was undone. The reason of a decision on a scale begins with its value.
        stands: whether this is the last decision on its proposal, and no later proposal for the item was accepted.
            Set by `newest_decisions` only.
        decision_id: number in the table `decision`, or None if the decision is in another table.
    """

    window: str
    scale_id: str
    item_id: str
    kind: str
    by: str
    reason: str
    effective_from: datetime | None
    at: datetime
    stands: bool = False
    decision_id: int | None = None

    @property
    def subject(self) -> str:
        """The subject in words: window/item for a proposal or an anchor, otherwise the item, test or month."""
        return "/".join(filter(None, (self.window, self.item_id)))

    @property
    def in_force_from(self) -> str:
        """First day on which the decision takes effect. Returns "" if it puts nothing in force."""
        return f"{self.effective_from:%Y-%m-%d}" if self.effective_from else ""


def record_release_decisions(
    connection: psycopg.Connection,
    subjects: Iterable[DecisionSubject],
    kind: DecisionKind,
    by: str,
    reason: str,
    effective_from: datetime | None,
) -> None:
    """Append one decision per subject, in the caller's transaction.

    Raises PermanentFailure without a person or a reason.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    connection.cursor().executemany(
        """INSERT INTO release_decision
                 (month, scale_id, item_id, fit_id, decision, decided_by, reason, effective_from)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        [(*subject, kind, by, reason, effective_from) for subject in subjects],
    )


def newest_decisions(
    connection: psycopg.Connection,
    limit: int | None = None,
    *,
    month: str | None = None,
    scale_id: str | None = None,
    item_id: str | None = None,
    item_kinds: Collection[str] = (),
) -> list[Decision]:
    """The last decisions on the month, scale and item (None: any), newest first.

    Decisions on the use of items, keys, tests and score tables belong to no month, so they are left out if `month` is
    given. `item_kinds`: kinds of decisions on items, if `item_id` is given; a test may have the name of an item.
    """
    return records(
        connection,
        Decision,
        """SELECT "window", scale_id, item_id, kind, by, reason, effective_from, at, stands, decision_id FROM (
               SELECT month AS window, scale_id, item_id, decision AS kind, decision_id AS place, decided_by AS by,
                      reason, effective_from, decided_at AS at, NULL::bigint AS decision_id,
                      decision IN ('accept', 'reject') AND NOT EXISTS (
                        SELECT FROM release_decision n
                        WHERE (n.scale_id, n.item_id) = (d.scale_id, d.item_id) AND n.decision_id > d.decision_id
                          AND (n.decision = 'accept' OR (n.month, n.fit_id) = (d.month, d.fit_id))) AS stands
               FROM release_decision d
               WHERE (%(month)s::text IS NULL OR right(month, 7) = %(month)s)
                 AND (%(scale)s::text IS NULL OR scale_id = %(scale)s)
                 AND (%(item)s::text IS NULL OR item_id = %(item)s)
               UNION ALL
               SELECT coalesce("window", ''), scale_id, subject, kind, decision_id, decided_by, reason, effective_from,
                      decided_at, decision_id, false
               FROM decision
               WHERE (%(month)s::text IS NULL OR "window" = %(month)s)
                 AND (%(scale)s::text IS NULL OR scale_id = %(scale)s)
                 AND (%(item)s::text IS NULL OR subject = %(item)s AND kind = ANY(%(item_kinds)s))
               UNION ALL
               SELECT '', scale_id,
                      CASE WHEN subject LIKE '%%:%%' THEN substr(subject, strpos(subject, ':') + 1) ELSE '' END,
                      CASE WHEN value = 'null' OR known->>'undoes' IS NOT NULL THEN 'undo_' ELSE '' END
                        || split_part(split_part(subject, ':', 1), ' in ', 1), decision_id, decided_by,
                      concat((known->>'change') || ': ', 'table ' || (known->>'table') || ': ',
                             'to ' || (known->>'old') || ': ', plain || ': ') || reason,
                      CASE WHEN plain IS NOT NULL THEN effective_from END, decided_at, NULL, false
               FROM scale_decision CROSS JOIN LATERAL (
                 SELECT CASE WHEN value LIKE '{%%' THEN value::jsonb END AS known,
                        CASE WHEN value NOT LIKE '{%%' AND value <> 'null' THEN value END AS plain) parts
               WHERE %(month)s::text IS NULL AND (%(scale)s::text IS NULL OR scale_id = %(scale)s)
                 AND (%(item)s::text IS NULL OR subject = 'key:' || %(item)s)
               ORDER BY at DESC, place DESC LIMIT %(limit)s) newest""",
        {"month": month, "scale": scale_id, "item": item_id, "item_kinds": [*item_kinds], "limit": limit},
    )


def decisions_on(connection: psycopg.Connection, item_id: str) -> list[dict[str, Any]]:
    """All decisions on proposals for the item or on the item as an anchor, newest first."""
    return named_rows(
        connection,
        """SELECT decision_id, scale_id, month, decision, decided_by, decided_at, effective_from, reason, fit_id
               FROM release_decision WHERE item_id = %s ORDER BY decision_id DESC""",
        (item_id,),
    )


def decisions_on_month(connection: psycopg.Connection, scale_id: str, month: str, fit_id: str | None) -> list[Decision]:
    """Decisions on the month's proposals and on anchors of its fit, oldest first."""
    return records(
        connection,
        Decision,
        """SELECT month AS "window", scale_id, item_id, decision AS kind, decided_by AS by, reason, effective_from,
                      decided_at AS at FROM release_decision
               WHERE scale_id = %s AND (month = %s OR fit_id = %s) ORDER BY decision_id""",
        (scale_id, month, fit_id),
    )


def decided_windows(connection: psycopg.Connection) -> list[str]:
    """Windows on which somebody decided: months, and FIRST:LAST for recalibrations."""
    return [window for (window,) in connection.execute("SELECT DISTINCT month FROM release_decision")]


def last_standing_decision(connection: psycopg.Connection, window: str, item_id: str) -> tuple[str, int] | None:
    """Fit and id of the last standing decision on the window's proposal for the item."""
    return connection.execute(
        """SELECT fit_id, decision_id FROM standing_decision WHERE (month, item_id) = (%s, %s)
           ORDER BY decision_id DESC LIMIT 1""",
        (window, item_id),
    ).fetchone()


def window_accepted_after(connection: psycopg.Connection, scale_id: str, item_id: str, decision_id: int) -> str | None:
    """Window of the item's last standing accept that was made after the decision `decision_id`."""
    return one_value(
        connection,
        """SELECT month FROM standing_decision WHERE (scale_id, item_id, decision) = (%s, %s, 'accept')
             AND decision_id > %s ORDER BY decision_id DESC LIMIT 1""",
        (scale_id, item_id, decision_id),
    )


def decided_anchors(connection: psycopg.Connection, kind: DecisionKind) -> set[tuple[str, str]]:
    """Scale and item of each anchor on which a person ever made a decision of this kind."""
    return set(
        connection.execute("SELECT scale_id, item_id FROM release_decision WHERE decision = %s", (kind,)).fetchall()
    )


def decisions_on_drift(
    connection: psycopg.Connection, month: str, start: datetime, grown: float
) -> dict[tuple[str, str], str]:
    """The last decision on each item that drifted in the month, as text (window, decision, person), by scale and item.

    A decision counts if it stands and already covers the drift: its window found the item's drift with the same or a
    higher severity, and the wABC has grown by at most `grown` since. Decisions whose value is in force at the month's
    `start` do not count, nor do decisions after which another value came into force by then.
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


def key_decisions(connection: psycopg.Connection, item_id: str) -> list[dict[str, Any]]:
    """Read the decisions on an item's key, oldest first: decision_id, scale_id, former, key, `undoes` (the number of
    the decision that it undoes, or None), decided_by, reason and decided_at."""
    return named_rows(
        connection,
        """SELECT decision_id, scale_id, value::jsonb->'former' AS former, value::jsonb->'key' AS key,
                  (value::jsonb->>'undoes')::bigint AS undoes, decided_by, reason, decided_at FROM scale_decision
           WHERE subject = %s ORDER BY decision_id""",
        (KEY_OF + item_id,),
    )


def has_other_key(connection: psycopg.Connection, item_id: str, at: datetime) -> bool:
    """Whether decisions after `at` have changed the item's key, and have not restored it."""
    later = [decision for decision in key_decisions(connection, item_id) if decision["decided_at"] > at]
    return bool(later) and later[0]["former"] != later[-1]["key"]
