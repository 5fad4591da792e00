"""Alerts on drifted items. An alert opens with the first month that flags an item and closes with the first later month
that does not.

Alerts depend on `item_drift` alone, so the order in which months are judged does not matter.
jobs/watching/alerts.py notifies people.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg

from resources.postgres.database import advisory_lock


@dataclass(frozen=True)
class Episode:
    """A sequence of months that flag an item. `closed_month` is None as long as it has not ended."""

    item_id: str
    severity: str
    opened_month: str
    closed_month: str | None
    kind: str
    details: dict[str, Any]


def episodes(judged: Iterable[tuple[str, str, str, dict[str, Any]]]) -> list[Episode]:
    """Find the episodes in rows of (item, month, severity, details), ordered by item and month.

    An episode has the highest severity of its months, and the kind and details of the latest. A month without a
    comparison of the item does not end an episode. Neither does a month in which only the proportion correct was tested
    and is as expected, because a test on few answers can miss a change.
    """
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
    """ISO date on which the change in the newest month began. Returns None if the newest month does not flag the item.

    The rows are (month, severity, details) of one item. Later months of an episode date the change from their own first
    day, so the date of the episode's first month is returned or, if it has none, that month's first day.
    """
    began = None
    for month, severity, details in newest_first:
        if severity != "none":
            began = details.get("change", {}).get("onset") or f"{month}-01"
        elif "proportion_correct" not in details:
            break
    return began


def settle_alerts(connection: psycopg.Connection, scale_id: str) -> None:
    """Update the scale's alerts from its rows of `item_drift`, in the caller's transaction.

    Existing alerts keep their id and time. An alert is deleted if its month, judged again, no longer flags the item.
    """
    advisory_lock(connection, "drift_alerts", scale_id)  # months judged at the same time all read these rows
    rows = connection.execute(
        """SELECT item_id, month, severity, details FROM item_drift WHERE scale_id = %s ORDER BY item_id, month""",
        (scale_id,),
    ).fetchall()
    current = episodes(rows)
    connection.execute(
        """DELETE FROM drift_alerts WHERE scale_id = %s
             AND (item_id, opened_month) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))""",
        (scale_id, [e.item_id for e in current], [e.opened_month for e in current]),
    )
    for episode in current:
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
