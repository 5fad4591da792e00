"""Alerts on drifted items: one from the first month that flags an item to the first later one that does not.

They follow from `item_drift` alone, so they come out the same in whatever order months were judged. What does not
belong here: notifying people (jobs/watching/alerts.py does that for the checks).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from resources.postgres.database import advisory_lock


@dataclass(frozen=True)
class Episode:
    """A run of months that flag an item; `closed_month` is None while it lasts."""

    item_id: str
    severity: str
    opened_month: str
    closed_month: str | None
    kind: str
    details: dict[str, Any]


def episodes(judged: Iterable[tuple[str, str, str, dict[str, Any]]]) -> list[Episode]:
    """From (item, month, severity, details), in the order of item and month. An episode has the highest severity it
    reached and the kind and details of the latest month. A month in which the item was not compared does not end an
    episode, nor does a proportion correct that is as expected: few answers can miss a change."""
    found: list[Episode] = []
    lasting: Episode | None = None
    for item, month, severity, details in judged:
        if severity == "none" and "proportion_correct" in details:
            continue
        if lasting and (lasting.item_id != item or severity == "none"):
            ended = month if lasting.item_id == item else None
            found.append(Episode(**(vars(lasting) | {"closed_month": ended})))
            lasting = None
        if severity != "none":
            kind = details.get("change", {}).get("kind", "drift")
            opened = lasting.opened_month if lasting else month
            worst = "high" if "high" in (severity, lasting.severity if lasting else "") else severity
            lasting = Episode(item, worst, opened, None, kind, details)
    return [*found, lasting] if lasting else found


def first_seen(newest_first: Iterable[tuple[str, str, dict[str, Any]]]) -> str | None:
    """The ISO date on which the change seen by the newest month began; None if it sees none.

    From (month, severity, details) of one item. Later months of an episode see the change from their own first day on,
    so the first month decides; if it has no date, its first day counts.
    """
    began = None
    for month, severity, details in newest_first:
        if severity != "none":
            began = details.get("change", {}).get("onset") or f"{month}-01"
        elif "proportion_correct" not in details:
            break
    return began


def settle_alerts(connection: psycopg.Connection, scale_id: str) -> None:
    """Bring the scale's alerts in line with what its months say, in the caller's transaction.

    Opened alerts keep their number and time; one whose month, judged again, flags nothing any more is taken back.
    """
    advisory_lock(connection, "drift_alerts", scale_id)  # months judged at once see each other's rows
    rows = connection.execute(
        """SELECT item_id, month, severity, details FROM item_drift WHERE scale_id = %s ORDER BY item_id, month""",
        (scale_id,),
    ).fetchall()
    wanted = episodes(rows)
    connection.execute(
        """DELETE FROM drift_alerts WHERE scale_id = %s
             AND (item_id, opened_month) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))""",
        (scale_id, [e.item_id for e in wanted], [e.opened_month for e in wanted]),
    )
    for episode in wanted:
        values = vars(episode) | {"scale_id": scale_id, "details": json.dumps(episode.details)}
        known = connection.execute(
            """UPDATE drift_alerts SET kind = %(kind)s, severity = %(severity)s, closed_month = %(closed_month)s,
                 details = %(details)s,
                 closed_at = CASE WHEN %(closed_month)s::text IS NULL THEN NULL ELSE coalesce(closed_at, now()) END
               WHERE (scale_id, item_id, opened_month) = (%(scale_id)s, %(item_id)s, %(opened_month)s)""",
            values,
        ).rowcount
        if not known:
            connection.execute(
                """INSERT INTO drift_alerts (kind, severity, closed_month, details, closed_at, scale_id, item_id,
                                             opened_month)
                   VALUES (%(kind)s, %(severity)s, %(closed_month)s, %(details)s,
                           CASE WHEN %(closed_month)s::text IS NULL THEN NULL ELSE now() END,
                           %(scale_id)s, %(item_id)s, %(opened_month)s)""",
                values,
            )
