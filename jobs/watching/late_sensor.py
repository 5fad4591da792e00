"""The sensor that requests what late answers have made stale. It fetches and packs; `late_answers_cursor` decides."""

import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import dagster as dg
import psycopg

from irt_assets.common.job_names import KPI_JOB, MONTHLY_JOB
from irt_assets.common.partitions import Month, day_bounds, month_of, spans
from irt_assets.common.run_progress import RANGE_TAGS
from irt_assets.gates.month_status import unsettled_months
from irt_assets.intake.pulling.standing import first_pull_under_way
from irt_assets.responses.late_months import Arrival, arrivals, changed_hash, months_concerned
from irt_assets.responses.observe import answer_versions_of
from irt_assets.responses.snapshot import current_snapshots
from irt_assets.spark.lake import days_behind
from jobs.schedules import Job
from jobs.watching.late_answers_cursor import Memory, digest, late_days, waits, weeks_to_ask
from resources.cluster.lake import Lake
from resources.cluster.relational import lake, on_postgres
from resources.postgres.database import Database, one_value
from resources.postgres.sources import recorded_sources
from resources.settings import Settings

FEATURES = "aggregate_features_daily"
EXPORT = "observe_attempts"
"""Writes days that are over to the lake, where there is one."""
SECONDS_A_TICK = 40
"""Seconds of a tick; Dagster allows 60. Months that cannot be read in time count as changed."""
SECONDS_BEFORE_A_MONTH = 20
"""Seconds after which a tick starts no further comparison of a month with its snapshot: the next tick does."""
S = TypeVar("S")
T = TypeVar("T")


def build_late_sensor(jobs: dict[str, Job], settings: Settings) -> dg.SensorDefinition:
    """Days of features, weeks of KPIs and months that were made without answers which have come since."""
    stopped = settings.irt_schedules == "stopped"

    @dg.sensor(
        name="late_answers",
        description="Asks again for the days and weeks that answers which came late concern, when no more of them have "
        "come for five minutes, or after an hour, and for their months once a night.",
        jobs=[jobs[FEATURES], jobs[KPI_JOB], jobs[MONTHLY_JOB], jobs[EXPORT]],
        minimum_interval_seconds=120,
        default_status=dg.DefaultSensorStatus.STOPPED if stopped else dg.DefaultSensorStatus.RUNNING,
    )
    def late_answers(context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]) -> dg.SensorResult:
        read = _Reader(database)
        with database.connect() as connection:
            if first_pull_under_way(connection):
                return dg.SensorResult(skip_reason="a first pull is under way: what follows from it is asked for once")
            now: datetime = one_value(connection, "SELECT now()")
            whole = lake(connection)
            memory = Memory.read(context.cursor, now)
            arrived = arrivals(connection, memory.since, now)
            sources = recorded_sources(connection, "features_topic_daily")
        new = memory.new(arrived)
        if waits(new, memory.noticed, now):
            return dg.SensorResult(
                skip_reason=f"answers of {len({one.day for one in new})} days keep coming",
                cursor=memory.waiting(now).write(),
            )
        behind = _not_in_lake(read, whole, {one.day for one in new})
        if behind:
            key = f"lake {digest(*(f'{one.day} {one.hour} {one.counts[0]}' for one in new))}"
            return dg.SensorResult(
                run_requests=[dg.RunRequest(run_key=key, job_name=EXPORT)], cursor=memory.waiting(now).write()
            )
        days = memory.live_days(new)
        versions = read.run_in_time(  # of PostgreSQL, which has their answers whatever else holds the log
            lambda connection: answer_versions_of(connection, days, on_postgres(connection)),
            otherwise=dict.fromkeys(days, _unread(now)),
        )
        late = late_days(versions, sources, now, fresh=memory.fresh)
        made = context.instance.get_materialized_partitions(dg.AssetKey("weekly_kpi"))
        begin = Month(settings.irt_first_month).start
        asked = [
            *_days(late, [day for day in late if day in sources and day_bounds(day)[0] >= begin]),
            *(
                dg.RunRequest(run_key=f"week {week} {why}", job_name=KPI_JOB, partition_key=week)
                for week, why in weeks_to_ask(late, made).items()
            ),
        ]
        months, tonight = memory.months_due(
            _months(read, memory.since, [one for one in new if not one.is_new]),
            _months(read, memory.since, [one for one in new if one.is_new]),
            now,
        )
        if months:
            found, months = _compare(read, months, unsettled_months(context.instance), now)
            asked += found
        return dg.SensorResult(
            run_requests=asked,
            skip_reason=None if asked else f"{len(new)} new arrivals, nothing is to be made again before the night",
            cursor=memory.mark_handled(arrived, now, months, tonight).write(),
        )

    return late_answers


class _Reader:
    """Queries that share the time of a tick."""

    def __init__(self, database: Database) -> None:
        self._database, self._begun = database, time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the tick has taken."""
        return time.monotonic() - self._begun

    def run_in_time(self, query: Callable[[psycopg.Connection], T], otherwise: S) -> T | S:
        """The query's result, or `otherwise` if there is no time for it."""
        left = max(1, int(SECONDS_A_TICK - self.seconds))
        with self._database.connect() as connection:
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (f"{left}s",))
            try:
                return query(connection)
            except psycopg.errors.QueryCanceled:
                return otherwise


def _days(late: dict[str, str], days: Iterable[str]) -> list[dg.RunRequest]:
    requests = []
    for first, last in spans(days):
        why = digest(*(f"{day} {version}" for day, version in sorted(late.items()) if first <= day <= last))
        if first == last:
            requests.append(dg.RunRequest(run_key=f"{first} {why}", job_name=FEATURES, partition_key=first))
        else:
            tags = dict(zip(RANGE_TAGS, (first, last), strict=True))
            requests.append(dg.RunRequest(run_key=f"{first}…{last} {why}", job_name=FEATURES, tags=tags))
    return requests


def _not_in_lake(read: _Reader, whole: Lake | None, days: Collection[str]) -> list[str]:
    """The days whose answers Spark does not see yet: what they concern is made without them until they are exported."""
    if whole is None:
        return []
    return read.run_in_time(
        lambda connection: [
            day
            for first, last in spans(days)
            for day in days_behind(connection, whole, day_bounds(first)[0], day_bounds(last)[1])
        ],
        otherwise=sorted(days),
    )


def _months(read: _Reader, since: datetime, new: Collection[Arrival]) -> set[str]:
    """The months that have a snapshot, and that the new arrivals may concern."""
    if not new:
        return set()
    days = {one.day for one in new}
    earliest = month_of(day_bounds(min(days))[0] - timedelta(days=1))
    later = {month for month in read.run_in_time(current_snapshots, set[str]()) if month >= earliest}
    if not all(one.attempts for one in new):  # what was changed or deleted by hand names no learner
        return later
    return later & read.run_in_time(partial(months_concerned, since=since, days=days), later)


def _compare(
    read: _Reader, months: Iterable[str], unsettled: set[str], now: datetime
) -> tuple[list[dg.RunRequest], set[str]]:
    """Requests for the months that have changed, and the months that are still to be compared: earliest first.

    A month that is under way may have been read before the answers came: it is compared when it is done.
    """
    requests, left = list[dg.RunRequest](), set[str]()
    for month in sorted(months):
        if month in unsettled or read.seconds > SECONDS_BEFORE_A_MONTH:
            left.add(month)
            continue
        changed = read.run_in_time(partial(changed_hash, month=month), otherwise=_unread(now))
        if changed:
            requests.append(
                dg.RunRequest(run_key=f"month {month} {changed}", job_name=MONTHLY_JOB, partition_key=month)
            )
    return requests, left


def _unread(now: datetime) -> str:
    return f"not read at {now:%Y-%m-%dT%H:%M}"
