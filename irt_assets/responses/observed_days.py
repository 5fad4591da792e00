"""A log in tables that are not ours (`attempt` is a view over them): what of it has changed, where no trigger counts.

Nights hash the days that are over again, the last 62 each night and on Sundays all of them. What a month's log is now
follows from what they found and from what has been recorded since. A row that is written again with a new `recorded_at`
is therefore noticed at once; a row that is deleted, moved to another month, or changed under its old `recorded_at`, by
the next night that looks at its day.

What does not belong here: our own log, whose changes triggers count (see `data_versions`).
"""

import re
from datetime import datetime, timedelta

import psycopg

from irt_assets.common.partitions import day_bounds, day_of
from irt_assets.responses.observe import day_versions
from resources.postgres.database import one_value
from resources.postgres.sources import record_sources, recorded_sources
from resources.tables import VIEWS

ASSET = "attempts"
NIGHTLY = timedelta(days=62)
SUNDAY = 6
LONGEST_WRITE = timedelta(hours=1)
"""How long a transaction may take to commit rows whose `recorded_at` is its beginning."""


def is_our_view(text: str | None) -> bool:
    """Whether the view `attempt` with this text is that of the registry, over `response_log`."""
    return _words(text or "") == _words(VIEWS["attempt"])


def look_again(connection: psycopg.Connection, now: datetime) -> dict[str, str]:
    """Hash the days that are over again, and store what they have; the versions of all, by day (UTC, YYYY-MM-DD).

    Days that were never looked at are always among them: the first time, those since the first answer. A day that has
    changed is noted as triggers note one of our own log, so that what was made from it is made again.
    """
    known = recorded_sources(connection, ASSET)
    end = day_bounds(day_of(now))[0]
    since = end - NIGHTLY
    if now.weekday() == SUNDAY or not known:
        since = one_value(connection, "SELECT min(completed_at) FROM attempt") or since
    else:
        since = min(since, day_bounds(max(known))[1])
    since = day_bounds(day_of(since))[0]
    found = day_versions(connection, since, end)
    days = (day_of(since + timedelta(days=n)) for n in range((end - since).days))
    looked_at = {day: found.get(day, "empty") for day in days}
    record_sources(connection, ASSET, looked_at)
    changed = [(day,) for day, version in looked_at.items() if known.get(day, version) != version]
    connection.cursor().executemany("INSERT INTO data_change (part, changes) VALUES (%s, 1)", changed)
    return known | looked_at


def state_between(connection: psycopg.Connection, since: datetime, until: datetime) -> str | None:
    """What the log has in [since, until), two midnights: as nights found it, and what was recorded since; None where no
    night has looked.

    The answers of days that no night has looked at count as recorded since.
    """
    rows = connection.execute(
        """SELECT partition, data_hash, computed_at FROM partition_source
           WHERE asset = %s AND partition >= %s AND partition < %s ORDER BY partition""",
        (ASSET, day_of(since), day_of(until)),
    ).fetchall()
    if not rows:
        return None
    days, found, looked_at = zip(*rows, strict=True)
    recorded = one_value(
        connection,
        """SELECT string_agg(concat_ws(' ', day, n, rows), E'\\n' ORDER BY day) FROM (
             SELECT (completed_at AT TIME ZONE 'UTC')::date AS day, count(*) AS n,
                    sum(hashtextextended(concat_ws(' ', id, recorded_at), 0)) AS rows
             FROM attempt
             WHERE completed_at >= %(since)s AND completed_at < %(until)s
               AND (recorded_at >= %(looked_at)s OR completed_at < %(first)s OR completed_at >= %(last)s)
             GROUP BY 1) t""",
        {
            "since": since,
            "until": until,
            "looked_at": min(looked_at) - LONGEST_WRITE,
            "first": day_bounds(days[0])[0],
            "last": day_bounds(days[-1])[1],
        },
    )
    return f"{days} {found}\nrecorded since\n{recorded}"


def _words(query: str) -> str:
    """What a query says, however it is written."""
    return re.sub(r'::text|[\s();"]', "", query.lower())
