"""The outbox of alerts: notifications for people, kept in PostgreSQL until every channel has delivered them.

An alert is opened once and resolved once, however often it is found. What belongs here: the two tables `alert` and
`alert_delivery`. What does not: how a message is made and sent (see `notifier`).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg

from resources.postgres.database import records

Severity = Literal["error", "warning", "info"]
Event = Literal["opened", "resolved"]

FIRST_WAIT_S, LONGEST_WAIT_S = 60, 3600
"""Pauses between two tries of a message: doubled from the first to the longest."""


@dataclass(frozen=True)
class Alert:
    """What happened, to whom, and what to do.

    Attributes:
        key: what it is about; while an alert of this key is open, there is no second one.
        kind, subjects: what is affected, e.g. "items" and their ids, all of them.
        link: where to look, a path below the UI's address.
    """

    key: str
    severity: Severity
    what: str
    fix: str
    partition: str = ""
    kind: str = ""
    subjects: Sequence[str] = ()
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class Due(Alert):
    """A message that is to be tried now; without a channel, past the outbox."""

    alert_id: int = 0
    event: Event = "opened"
    channel: str = ""


@dataclass(frozen=True, kw_only=True)
class RecordedAlert(Alert):
    """An alert from the table. `deliveries`: each message's channel and event, whether it arrived, and why not."""

    alert_id: int
    opened_at: datetime
    resolved_at: datetime | None
    deliveries: list[dict[str, Any]]


def open_alert(connection: psycopg.Connection, alert: Alert, *, is_over: bool = False) -> bool:
    """Open `alert` unless one with its key is open; returns whether it was opened.

    is_over: it is resolved at once: nothing stays open, and no channel is notified of its end.
    """
    inserted = connection.execute(
        """INSERT INTO alert (key, severity, what, partition, kind, subjects, fix, link, resolved_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)
           ON CONFLICT (key) WHERE resolved_at IS NULL DO NOTHING""",
        (alert.key, alert.severity, alert.what, alert.partition, alert.kind)
        + (json.dumps(alert.subjects), alert.fix, alert.link, is_over),
    )
    return inserted.rowcount == 1


def resolve_alert(connection: psycopg.Connection, key: str) -> bool:
    """Resolve the open alert of `key`; returns whether there was one."""
    return (
        connection.execute(
            "UPDATE alert SET resolved_at = now() WHERE key = %s AND resolved_at IS NULL", (key,)
        ).rowcount
        == 1
    )


def open_keys(connection: psycopg.Connection, prefix: str) -> dict[str, list[str]]:
    """The keys of open alerts that begin with `prefix`, and the subjects of each."""
    return dict(
        connection.execute(
            "SELECT key, subjects FROM alert WHERE resolved_at IS NULL AND starts_with(key, %s) ORDER BY alert_id",
            (prefix,),
        ).fetchall()
    )


def settle_alerts(connection: psycopg.Connection, prefix: str, alerts: Sequence[Alert]) -> None:
    """Open `alerts`, and resolve every other open alert whose key begins with `prefix`."""
    for key in open_keys(connection, prefix).keys() - {alert.key for alert in alerts}:
        resolve_alert(connection, key)
    for alert in alerts:
        open_alert(connection, alert)


def queue(connection: psycopg.Connection, channels: Iterable[str]) -> None:
    """Address every alert that is new to all `channels`, and to a channel that is new what is open.

    A channel gets the end of an alert if it got its beginning. An alert of severity info has no end, and does not go
    to PagerDuty, which would open an incident that someone must close.
    """
    connection.execute(
        """INSERT INTO alert_delivery (alert_id, event, channel)
           SELECT a.alert_id, 'opened', c FROM alert a CROSS JOIN unnest(%s::text[]) c
           WHERE (a.resolved_at IS NULL OR a.queued_at IS NULL) AND (a.severity <> 'info' OR c <> 'pagerduty')
           ON CONFLICT DO NOTHING""",
        (list(channels),),
    )
    connection.execute("UPDATE alert SET queued_at = now() WHERE queued_at IS NULL")
    connection.execute(
        """INSERT INTO alert_delivery (alert_id, event, channel)
           SELECT d.alert_id, 'resolved', d.channel FROM alert_delivery d JOIN alert a USING (alert_id)
           WHERE d.event = 'opened' AND a.resolved_at IS NOT NULL AND a.severity <> 'info'
           ON CONFLICT DO NOTHING"""
    )


def due(connection: psycopg.Connection, channels: Sequence[str], limit: int) -> dict[str, list[Due]]:
    """At most `limit` messages of each channel that may be tried now, in the order in which they arose.

    The end of an alert waits until its beginning has arrived.
    """
    found: dict[str, list[Due]] = {}
    for channel in channels:
        found[channel] = records(
            connection,
            Due,
            """SELECT alert_id, event, channel, key, severity, what, fix, partition, kind, subjects, link
                   FROM alert_delivery d JOIN alert USING (alert_id)
                   WHERE channel = %s AND delivered_at IS NULL AND next_attempt_at <= now()
                     AND (event = 'opened' OR EXISTS (
                       SELECT 1 FROM alert_delivery o WHERE o.alert_id = d.alert_id AND o.channel = d.channel
                         AND o.event = 'opened' AND o.delivered_at IS NOT NULL))
                   ORDER BY alert_id, event LIMIT %s""",
            (channel, limit),
        )
    return found


def recent_alerts(connection: psycopg.Connection, most: int) -> list[RecordedAlert]:
    """Alerts, open ones first and errors before warnings, then those that are over; the newest first."""
    return records(
        connection,
        RecordedAlert,
        """SELECT a.alert_id, key, severity, what, fix, partition, kind, link, opened_at, resolved_at,
                      coalesce(jsonb_agg(jsonb_build_object('channel', channel, 'event', event, 'arrived',
                        delivered_at IS NOT NULL, 'why', last_error) ORDER BY channel, event)
                        FILTER (WHERE channel IS NOT NULL), '[]') AS deliveries
               FROM (SELECT * FROM alert ORDER BY resolved_at IS NOT NULL,
                       CASE WHEN resolved_at IS NULL THEN severity END, alert_id DESC LIMIT %s) a
               LEFT JOIN alert_delivery USING (alert_id)
               GROUP BY a.alert_id, key, severity, what, fix, partition, kind, link, opened_at, resolved_at
               ORDER BY resolved_at IS NOT NULL, CASE WHEN resolved_at IS NULL THEN severity END, a.alert_id DESC""",
        (most,),
    )


def record(connection: psycopg.Connection, message: Due, error: str | None) -> None:
    """Record that `message` arrived, or why it did not and when to try again."""
    connection.execute(
        """UPDATE alert_delivery
           SET attempts = attempts + 1, last_error = %(error)s,
               delivered_at = CASE WHEN %(error)s::text IS NULL THEN now() END,
               next_attempt_at = CASE WHEN %(error)s::text IS NULL THEN next_attempt_at ELSE
                 now() + make_interval(secs => least(%(first)s * 2.0 ^ least(attempts, 20), %(longest)s)) END
           WHERE (alert_id, event, channel) = (%(alert)s, %(event)s, %(channel)s)""",
        {
            "error": error,
            "first": FIRST_WAIT_S,
            "longest": LONGEST_WAIT_S,
            "alert": message.alert_id,
            "event": message.event,
            "channel": message.channel,
        },
    )
