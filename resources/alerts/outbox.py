"""The outbox of alerts: notifications for people, kept in PostgreSQL until every channel has delivered them.

An alert is opened once and resolved once, however often its cause is found. Its text is updated while it is open. This
module reads and writes the tables `alert` and `alert_delivery`; `notifier` sends the messages.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import psycopg

from resources.postgres.database import records
from resources.postgres.distinctive_ids import is_distinctive

Severity = Literal["error", "warning", "info"]
Event = Literal["opened", "resolved"]

FIRST_WAIT_S, MAX_WAIT_S = 60, 3600
"""Pauses in seconds between two attempts to send a message: doubled from the first to the longest."""
AROUND_IDS = "'\"“”‘’`()[]{}<>,;:.!?…="
"""Punctuation around an id in a sentence."""


@dataclass(frozen=True)
class Alert:
    """A notification about a problem.

    Attributes:
        key: identifies the problem; there is at most one open alert per key.
        what: the problem, in words.
        fix: the remedy, in words.
        kind: kind of the affected things, e.g. "items".
        subjects: the ids of all affected things.
        link: path below the UI's address.
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
    """A message that is due; `channel` is empty if it is sent without the outbox.

    `n_unnamed`: number of subjects that are missing in `subjects`, because they are learners whom no message names.
    """

    n_unnamed: int = 0
    alert_id: int = 0
    event: Event = "opened"
    channel: str = ""


@dataclass(frozen=True, kw_only=True)
class RecordedAlert(Alert):
    """An alert from the table. `deliveries`: for each message `channel`, `event`, `arrived`, and `why` if it failed."""

    alert_id: int
    opened_at: datetime
    resolved_at: datetime | None
    deliveries: list[dict[str, Any]]


def open_alert(connection: psycopg.Connection, alert: Alert, *, is_over: bool = False) -> bool:
    """Open `alert`, or update the open alert with its key. Returns whether it was opened.

    The update is sent to the channels only if it adds a subject.

    is_over: resolve it at once, so that nothing stays open.
    """
    values = {**vars(alert), "subjects": json.dumps(alert.subjects), "is_over": is_over}
    connection.execute(
        """WITH news AS (
             UPDATE alert_delivery d SET delivered_at = NULL, next_attempt_at = now() FROM alert a
             WHERE a.alert_id = d.alert_id AND d.event = 'opened' AND d.delivered_at IS NOT NULL
               AND a.key = %(key)s AND a.resolved_at IS NULL AND NOT a.subjects @> %(subjects)s::jsonb)
           UPDATE alert SET (severity, what, kind, subjects, fix, link) =
             (%(severity)s, %(what)s, %(kind)s, %(subjects)s, %(fix)s, %(link)s)
           WHERE key = %(key)s AND resolved_at IS NULL AND (severity, what, kind, subjects, fix, link)
             IS DISTINCT FROM (%(severity)s, %(what)s, %(kind)s, %(subjects)s::jsonb, %(fix)s, %(link)s)""",
        values,
    )
    inserted = connection.execute(
        """INSERT INTO alert (key, severity, what, partition, kind, subjects, fix, link, resolved_at)
           SELECT %(key)s, %(severity)s, %(what)s, %(partition)s, %(kind)s, %(subjects)s, %(fix)s, %(link)s,
                  CASE WHEN %(is_over)s THEN now() END
           WHERE NOT EXISTS (SELECT FROM alert WHERE key = %(key)s AND resolved_at IS NULL)  -- uses no number
           ON CONFLICT (key) WHERE resolved_at IS NULL DO NOTHING""",
        values,
    )
    return inserted.rowcount == 1


def resolve_alert(connection: psycopg.Connection, key: str) -> bool:
    """Resolve the open alert of `key`. Returns whether there was one."""
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
    """Queue messages: every new alert for all `channels`, and all open alerts for a new channel.

    A channel gets the resolution of an alert if the opening was queued for it. Alerts of severity info have no
    resolution, and are not sent to PagerDuty, which would open an incident that somebody must close.
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


def due(
    connection: psycopg.Connection, channels: Sequence[str], limit: int, learners: Literal["count", "key", "id"] = "id"
) -> dict[str, list[Due]]:
    """Return at most `limit` due messages of each channel, in the order of their alerts.

    The resolution of an alert is due only after the opening has arrived. `learners`: the rule by which messages name
    learners. A learner who is not in the database has the key "unknown".
    """
    messages: dict[str, list[Due]] = {}
    for channel in channels:
        messages[channel] = records(
            connection,
            Due,
            """SELECT alert_id, event, channel, key, severity, what, fix, partition, kind, link,
                      CASE WHEN kind <> 'learners' OR %(learners)s = 'id' THEN subjects
                           WHEN %(learners)s = 'count' THEN '[]' ELSE keys END AS subjects,
                      CASE WHEN kind = 'learners' AND %(learners)s = 'count' THEN jsonb_array_length(subjects)
                           ELSE 0 END AS n_unnamed
                   FROM alert_delivery d JOIN alert USING (alert_id) CROSS JOIN LATERAL (
                     SELECT coalesce(jsonb_agg(coalesce((
                       SELECT learner_key::text FROM learner
                       WHERE user_id IN (subject, regexp_replace(subject, '^[^:]*: ', ''))  -- after the scale
                       ORDER BY user_id = subject DESC LIMIT 1), 'unknown') ORDER BY place), '[]') AS keys
                     FROM jsonb_array_elements_text(subjects) WITH ORDINALITY named (subject, place)
                     WHERE kind = 'learners' AND %(learners)s = 'key') keys_of_learners
                   WHERE channel = %(channel)s AND delivered_at IS NULL AND next_attempt_at <= now()
                     AND (event = 'opened' OR EXISTS (
                       SELECT 1 FROM alert_delivery o WHERE o.alert_id = d.alert_id AND o.channel = d.channel
                         AND o.event = 'opened' AND o.delivered_at IS NOT NULL))
                   ORDER BY alert_id, event LIMIT %(limit)s""",
            {"channel": channel, "limit": limit, "learners": learners},
        )
        if learners != "id":
            messages[channel] = [_without_ids(connection, message, learners) for message in messages[channel]]
    return messages


def _without_ids(connection: psycopg.Connection, message: Due, learners: Literal["count", "key"]) -> Due:
    """Replace learners' ids in the text, such as the reason of a failed run, by their keys or by "a learner"."""
    words = {word.strip(AROUND_IDS) for word in f"{message.what} {message.fix}".split()}
    keys = connection.execute("SELECT user_id, learner_key::text FROM learner WHERE user_id = ANY(%s)", [[*words]])
    names = {user: key if learners == "key" else "a learner" for user, key in keys if is_distinctive(connection, user)}
    word = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names)) or '(?!)'})(?![\w-])")
    what, fix = (word.sub(lambda found: names[found[0]], text) for text in (message.what, message.fix))
    return replace(message, what=what, fix=fix)


def recent_alerts(connection: psycopg.Connection, limit: int) -> list[RecordedAlert]:
    """At most `limit` alerts: open alerts first, by severity, then resolved alerts; each group newest first."""
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
        (limit,),
    )


def record(connection: psycopg.Connection, message: Due, error: str | None) -> None:
    """Record that `message` arrived, or the error and the time of the next attempt."""
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
            "longest": MAX_WAIT_S,
            "alert": message.alert_id,
            "event": message.event,
            "channel": message.channel,
        },
    )
