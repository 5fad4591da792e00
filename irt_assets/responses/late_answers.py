"""Late answers of a month: whether it is made without them, by the rule `late_days` of their scale.

A month that is over and published is not to be made again for a handful of answers, such as those of a phone that comes
back from a holiday. Who reads a month's log takes the scales from `scales_of_month`: `facts.eligibility_facts` leaves
out what they say. What does not belong here: the reading itself, and the runs that late answers cause (see
`jobs.watching.late_answers_cursor`).
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.responses.answers import attempts_between, instant, with_scale
from irt_assets.responses.facts import late_attempts
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import whole_log
from resources.cluster.relational import Run, holds_log, on_postgres
from resources.postgres.database import record

BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
OTHERS_FOR_ONE = 1000
"""With this many answers in time for each late one, a month is made without the late ones."""


@dataclass(frozen=True)
class Made:
    """What a month was last made from: attempts by scale and reason, and when."""

    counts: dict[str, dict[str, int]]
    created_at: datetime

    def attempts(self, scale_id: str) -> int:
        return sum(self.counts.get(scale_id, {}).values())


@dataclass(frozen=True)
class Late:
    """The answers of a month of a scale that were recorded after `since`, when it closed to new ones.

    Attributes:
        n: how many they are, and `attempts` how many answers there are with them.
        made: how many the month was last made from, 0 where it never was; `made_at`: when.
        newer: how many of the late ones have come since then.
    """

    n: int
    attempts: int
    since: datetime
    newer: int
    made: int
    made_at: datetime

    def limit(self, *, again: bool) -> datetime | None:
        """The time after which those that the month is made without were recorded; None: it is made with all of them.

        again: the month is being made. Else it keeps those with which it was made once, by another rule.
        """
        if self.n * OTHERS_FOR_ONE > self.attempts - self.n:
            return None
        if self.made == self.attempts - self.newer and not again:
            return max(self.since, self.made_at)
        return self.since


def late_since(scale: Scale, month: str) -> datetime | None:
    """New answers of the month that are recorded after this are late; None: none ever is."""
    days = scale.rules.answers.late_days
    return None if days is None else Month(month).end + timedelta(days=days)


def scales_of_month(
    connection: psycopg.Connection, month: str, scales: Mapping[str, Scale], run: Run | None = None, again: bool = False
) -> dict[str, Scale]:
    """The scales, with `answers_until` where the month is made without late answers.

    run: where the log is read; None: `whole_log`. again: as in `Late.limit`.
    """
    bounds, now = Month(month).bounds, datetime.now(UTC)
    limits = {scale_id: late_since(scale, month) for scale_id, scale in scales.items()}
    closed = {scale_id: since for scale_id, since in limits.items() if since and since < now}
    if not closed:
        return {**scales}
    made, run = _made(connection, month), run or whole_log(connection, *bounds, scales)
    late = late_attempts(*bounds, closed)
    newer = (late.recorded_at > instant(made.created_at)).sum()
    counted = run(late.group_by("scale_id").agg(n=late.count(), newer=newer)).to_pylist()
    if not counted:
        return {**scales}
    answers = with_scale(attempts_between(*bounds).select("item_id"))
    attempts = run(answers.group_by("scale_id").agg(n=answers.count()))
    attempts_of = dict(zip(attempts["scale_id"].to_pylist(), attempts["n"].to_pylist(), strict=True))
    found = {**scales}
    for scale_id, n, newer_ones in (row.values() for row in counted):
        of_scale = Late(
            n=int(n),
            attempts=attempts_of[scale_id],
            since=closed[scale_id],
            newer=int(newer_ones),
            made=made.attempts(scale_id),
            made_at=made.created_at,
        )
        found[scale_id] = replace(scales[scale_id], answers_until=of_scale.limit(again=again))
    return found


def n_left_out(connection: psycopg.Connection, month: str, scale: Scale) -> int:
    """How many late answers the month is made without; 0 where PostgreSQL does not have its log."""
    bounds, since, made = Month(month).bounds, late_since(scale, month), _made(connection, month)
    most = made.attempts(scale.scale_id) // OTHERS_FOR_ONE
    if since is None or not most or not holds_log(connection, *bounds):
        return 0
    run = on_postgres(connection)
    late = late_attempts(*bounds, {scale.scale_id: since}).select("recorded_at")
    times = run(late.limit(most + 1))["recorded_at"].to_pylist()
    if not 0 < len(times) <= most:
        return 0
    if min(times) > made.created_at:
        return len(times)  # as it was made before they came
    until = scales_of_month(connection, month, {scale.scale_id: scale}, run)[scale.scale_id].answers_until
    return sum(time > until for time in times) if until else 0


def n_left_out_at_once(connection: psycopg.Connection, month: str, scale: Scale) -> int:
    """`n_left_out`; 0 where the log cannot be read at once, for which no page and no command waits."""
    not_at_once = psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled
    with suppress(*not_at_once), connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '1s'")
        return n_left_out(connection, month, scale)
    return 0


def _made(connection: psycopg.Connection, month: str) -> Made:
    query = "SELECT counts, created_at FROM scored_snapshot WHERE month = %s AND superseded_at IS NULL"
    return record(connection, Made, query, (month,)) or Made({}, BEGIN)
