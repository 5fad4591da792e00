"""Open months, and the open months whose verdicts have changed since their snapshot.

Light to import, because the exporter uses it.
"""

from collections.abc import Collection, Mapping

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.responses.closing_records import NEWEST, read_closed
from irt_assets.responses.verdict_states import states_of_months
from resources.postgres.database import first_column

SCALES = "SELECT scale_id FROM question UNION SELECT scale_id FROM calibration_scale ORDER BY 1"


def open_months(connection: psycopg.Connection, before: str) -> list[str]:
    """The months before `before` that have a snapshot and are open for at least one of its scales."""
    return first_column(
        connection,
        f"""SELECT month FROM scored_snapshot s WHERE superseded_at IS NULL AND month < %s AND EXISTS (
              SELECT FROM jsonb_object_keys(counts) scale WHERE NOT EXISTS (
                SELECT FROM {NEWEST} n WHERE (n.month, n.scale_id, n.state) = (s.month, scale, 'closed')))
            ORDER BY month""",
        (before,),
    )


def scales_with_changed_verdicts(
    connection: psycopg.Connection, months: Collection[str] | None = None
) -> dict[str, set[str]]:
    """The months among `months` (None: all) whose verdicts have changed since their snapshot, oldest first.

    Returns month → the scales that may be stale because of it (see `scales_to_compare`).
    """
    snapshots = connection.execute(
        """SELECT month, verdict_state, counts FROM scored_snapshot
           WHERE superseded_at IS NULL
             AND (%(months)s::text[] IS NULL OR month = ANY(%(months)s)) ORDER BY month""",
        {"months": None if months is None else [*months]},
    ).fetchall()
    now = states_of_months(connection, [month for month, *_ in snapshots])
    changed = {month: counts for month, state, counts in snapshots if state != now[month]}
    if not changed:
        return {}
    scales, closed = first_column(connection, SCALES), read_closed(connection, changed)
    found = {
        month: scales_to_compare(
            connection, month, counts, scales, {record.scale_id for record in closed if record.month == month}
        )
        for month, counts in changed.items()
    }
    return {month: differing for month, differing in found.items() if differing}


def scales_to_compare(
    connection: psycopg.Connection,
    month: str,
    counts: Mapping[str, Mapping[str, int]],
    scales: Collection[str],
    closed: Collection[str],
) -> set[str]:
    """The scales among `scales` whose answers may make the month stale: the month is open for them, and they have
    answers, or had some in the snapshot.

    `counts`: attempts of the month's snapshot by scale and reason.
    """
    open_scales = {*scales} - {*closed}
    new = {scale for scale in open_scales if not sum(counts.get(scale, {}).values())}
    if not closed or not new:
        return open_scales
    start, end = Month(month).bounds
    answered = first_column(
        connection,
        """SELECT DISTINCT coalesce(q.scale_id, 'default') FROM attempt a LEFT JOIN question q USING (item_id)
           WHERE completed_at >= %s AND completed_at < %s""",
        (start, end),
    )
    return open_scales - (new - {*answered})
