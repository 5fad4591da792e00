"""Late answers of a month: whether it is made without them, by the rule `late_days` of their scale.

A month that is over and published is not to be made again for a handful of answers, such as those of a phone that comes
back from a holiday. Who reads a month's log takes the scales from `scales_of_month`: `facts.eligibility_facts` leaves
out what they say. What does not belong here: the reading itself, and the runs that late answers cause (see
`jobs.late_answers_cursor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.responses.answers import attempts_between, instant, with_scale
from irt_assets.responses.facts import late_attempts
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import whole_log
from resources.cluster.relational import Run, holds_log, lake, on_postgres
from resources.postgres.database import record
from resources.postgres.guest_reads import reads_own_tables

BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
OTHERS_FOR_ONE = 1000
"""With this many answers in time for each late one, a month is made without the late ones."""


@dataclass(frozen=True)
class Made:
    """What a month's snapshot was made from: its attempts by scale and reason, and when."""

    counts: dict[str, dict[str, int]]
    created_at: datetime


@dataclass(frozen=True)
class LeftOut:
    """How many new answers a month of a scale is made without: those recorded after `until`."""

    n: int
    until: datetime


@dataclass(frozen=True)
class Late:
    """The answers of a month of a scale that were recorded after `since`, when it closed to new ones.

    Attributes:
        n: how many they are, and `attempts` how many answers there are with them.
        made: how many the month was last made from, None where it never was; `made_at`: when.
        newer: how many of the late ones have come since then.
        new_for_sure: none of them is an earlier answer that was corrected. Where a company's own table does not say so,
            only answers that the month was made without are new.
    """

    n: int
    attempts: int
    since: datetime
    newer: int = 0
    made: int | None = None
    made_at: datetime = BEGIN
    new_for_sure: bool = True

    def left_out(self, *, again: bool) -> LeftOut | None:
        """Those that the month is made without; None: it is made with all of them.

        again: the month is being made. Else those with which it was made once, by another rule, are not left out.
        """
        if self.n * OTHERS_FOR_ONE > self.attempts - self.n:
            return None
        if self.made == self.attempts - self.newer and not again:
            return LeftOut(self.newer, max(self.since, self.made_at)) if self.newer else None
        if self.new_for_sure or self.made == self.attempts - self.n:
            return LeftOut(self.n, self.since)
        return None


def late_since(scale: Scale, month: str) -> datetime | None:
    """New answers of the month that are recorded after this are late; None: none ever is."""
    days = scale.rules.answers.late_days
    return None if days is None else Month(month).end + timedelta(days=days)


def late_answers(
    connection: psycopg.Connection, month: str, scales: Mapping[str, Scale], run: Run | None = None
) -> dict[str, Late]:
    """The late answers of a month by scale; scales without any are absent. `run`: where the log is read; None:
    `whole_log`."""
    bounds, now = Month(month).bounds, datetime.now(UTC)
    limits = {scale_id: late_since(scale, month) for scale_id, scale in scales.items()}
    closed = {scale_id: since for scale_id, since in limits.items() if since and since < now}
    if not closed:
        return {}
    made = record(
        connection,
        Made,
        "SELECT counts, created_at FROM scored_snapshot WHERE month = %s AND superseded_at IS NULL",
        (month,),
    )
    made_at = made.created_at if made else BEGIN
    run = run or whole_log(connection, *bounds, scales)
    late = late_attempts(*bounds, closed)
    newer = (late.recorded_at > instant(made_at)).sum()
    found = run(late.group_by("scale_id").agg(n=late.count(), newer=newer)).to_pylist()
    if not found:
        return {}
    answers = with_scale(attempts_between(*bounds).select("item_id"))
    rows = run(answers.group_by("scale_id").agg(n=answers.count())).to_pylist()
    attempts = {row["scale_id"]: int(row["n"]) for row in rows}
    new_for_sure = lake(connection) is not None or not reads_own_tables(connection)
    return {
        row["scale_id"]: Late(
            n=int(row["n"]),
            attempts=attempts[row["scale_id"]],
            since=closed[row["scale_id"]],
            newer=int(row["newer"]),
            made=sum(made.counts.get(row["scale_id"], {}).values()) if made else None,
            made_at=made_at,
            new_for_sure=new_for_sure,
        )
        for row in found
    }


def n_left_out(connection: psycopg.Connection, month: str, scale: Scale, made: int) -> int:
    """How many late answers a month, which was made from `made` answers of the scale, is made without; 0 where
    PostgreSQL does not have its log. Quick even where all are late."""
    bounds, since = Month(month).bounds, late_since(scale, month)
    if since is None or not holds_log(connection, *bounds):
        return 0
    run, most = on_postgres(connection), made // OTHERS_FOR_ONE
    if not 0 < run(late_attempts(*bounds, {scale.scale_id: since}).limit(most + 1)).num_rows <= most:
        return 0
    [late] = late_answers(connection, month, {scale.scale_id: scale}, run).values()
    left_out = late.left_out(again=False)
    return left_out.n if left_out else 0


def scales_of_month(
    connection: psycopg.Connection,
    month: str,
    scales: Mapping[str, Scale],
    run: Run | None = None,
    *,
    again: bool = False,
) -> dict[str, Scale]:
    """The scales, with `answers_until` where the month is made without late answers.

    run: as in `late_answers`. again: as in `Late.left_out`.
    """
    without = {
        scale_id: left_out.until
        for scale_id, late in late_answers(connection, month, scales, run).items()
        if (left_out := late.left_out(again=again))
    }
    return {
        scale_id: replace(scale, answers_until=without[scale_id]) if scale_id in without else scale
        for scale_id, scale in scales.items()
    }
