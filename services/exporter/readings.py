"""How each metric is read: a query or two of stored data, so that a scrape never computes a month.

The same functions as for `irt status` decide what is late, violated or silent. What does not belong here: how often it
is read, and what happens where the database is away (see `collector`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import psycopg
from dagster import deserialize_value

from irt_assets.common.job_names import job_of
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.common.probes import DAEMONS
from irt_assets.gates.month_judged import GateStatus, Newer, State, classify_month
from irt_assets.invariants.open_violations import SEVERITY, last_backup, last_evaluated, open_violations
from irt_assets.ledger.overview import SettledMonth, decided_since, last_linkings, last_night, settled_months
from irt_assets.ledger.steps import Step
from jobs.plans import PLANS, last_due, overdue_since, schedule_keys, switched_on_at
from resources.alerts.notifier import channels
from resources.dagster_compat import InstigatorState
from resources.dagster_tables import heartbeats, last_made, runs_by_status, schedules
from resources.postgres.database import one_value
from resources.settings import Settings
from services.exporter import families
from services.exporter.families import Family, Sample

T = TypeVar("T")
MONTHS = 13
MONTH_STATES = (State.GREEN, State.RED, State.STALE, State.PENDING, State.MISSING)


@dataclass(frozen=True)
class Look:
    """The context of one reading: connection, settings and time."""

    connection: psycopg.Connection
    settings: Settings
    now: datetime


def runs(look: Look) -> Iterator[Sample]:
    found = _of_dagster(look.connection, runs_by_status) or {}
    by_status: Counter[str] = Counter()
    for (_, status), (n, _) in found.items():
        by_status[status.lower()] += n
    for status, n in by_status.items():
        yield Sample(families.RUNS, n, (status,))
    ended = {job_of(job): end for (job, status), (_, end) in found.items() if status == "SUCCESS" and end is not None}
    for plan in PLANS:
        if plan.job in ended:
            yield Sample(families.LAST_SUCCESS, ended[plan.job], (plan.documents_name,))


def late_schedules(look: Look) -> Iterator[Sample]:
    """Schedules that did not tick are found here; those that ticked and made nothing, by the daemon's open alerts."""
    found = {
        (state := deserialize_value(body, InstigatorState)).instigator_name: (state, last_tick)
        for body, last_tick in _of_dagster(look.connection, schedules) or []
    }
    open_alerts = look.connection.execute(
        "SELECT key FROM alert WHERE resolved_at IS NULL AND starts_with(key, 'schedule ')"
    ).fetchall()
    alerted = {key for (key,) in open_alerts}
    for plan in PLANS:
        late = False
        if plan.name in found:
            state, last_tick = found[plan.name]
            last = last_tick.replace(tzinfo=UTC) if last_tick else None
            silent = overdue_since(plan, look.now, last, switched_on_at(state)) is not None
            late = state.is_running and (silent or schedule_keys(plan)[1] in alerted)
        yield Sample(families.LATE, late, (plan.documents_name,))


def overdue_jobs(look: Look) -> Iterator[Sample]:
    """Jobs that have not made what they should have, whoever starts them; none was due before there was a scale."""
    ticks = {plan: last_due(plan, look.now) for plan in PLANS}
    since = {plan.job: tick for plan, tick in ticks.items() if not plan.asset}
    wanted = []
    for plan, tick in ticks.items():
        if newest := plan.newest_due(tick, look.settings.irt_first_month):
            partition, since[plan.job] = newest
            wanted.append((plan.job, json.dumps([plan.asset]), partition))
    made = _of_dagster(look.connection, lambda connection: last_made(connection, wanted)) or {}
    begun = one_value(look.connection, "SELECT min(initialised_at) FROM calibration_scale") or look.now
    for plan in PLANS:
        was_due = plan.job in since and begun <= since[plan.job]
        is_overdue = was_due and made.get(plan.job, begun) < since[plan.job]
        yield Sample(families.OVERDUE, is_overdue, (plan.documents_name,))


def months(look: Look) -> Iterator[Sample]:
    """As the fit and the publication step left the month, and what a person decided since. Only `irt status` sees that
    answers or rules changed."""
    last = list(months_between(look.settings.irt_first_month, last_complete_month(look.now)))[-MONTHS:]
    decided = decided_since(look.connection, last)
    for one in settled_months(look.connection, last):
        now = month_state(one, decided.get((one.month, one.scale_id)))
        for state in MONTH_STATES:
            yield Sample(families.MONTH_STATE, state is now, (one.scale_id, one.month, state))
        yield Sample(families.PUBLISHED, one.n_published or 0, (one.scale_id, one.month))


def month_state(one: SettledMonth, decided: str | None) -> State:
    """As `irt status` judges it, from what the tables alone know. decided: what a person decided since."""
    refit = one.newest_fit is not None and one.newest_fit != one.published_fit
    unlinked = refit and one.error is not None
    changed = Newer(decided or "it was fitted again", "", decided=decided is not None) if decided or refit else None
    return classify_month(
        one.month,
        one.scale_id,
        {"held": GateStatus(passed=not unlinked and one.step != "held", why="")},
        one.step and Step(month=one.month, scale_id=one.scale_id, fit_id=one.published_fit, state=one.step),
        changed,
        running=False,
        has_snapshot=one.step is not None or unlinked,
    ).state


def links(look: Look) -> Iterator[Sample]:
    for scale, (slope, intercept) in last_linkings(look.connection).items():
        if slope is not None and intercept is not None:
            yield Sample(families.SLOPE, slope, (scale,))
            yield Sample(families.INTERCEPT, intercept, (scale,))


def violations(look: Look) -> Iterator[Sample]:
    n = {one.invariant: one.subjects for one in open_violations(look.connection)}
    for name, severity in SEVERITY.items():
        yield Sample(families.VIOLATIONS, n.get(name, 0), (name, severity))


def last_report(look: Look) -> Iterator[Sample]:
    yield from _time(families.INVARIANTS_LAST, last_evaluated(look.connection))


def last_nightly(look: Look) -> Iterator[Sample]:
    yield from _time(families.NIGHTLY_LAST, last_night(look.connection))


def backup(look: Look) -> Iterator[Sample]:
    last = last_backup(look.connection)
    yield from _time(families.BACKUP_LAST, last.made_at if last else None)


def undelivered(look: Look) -> Iterator[Sample]:
    """Only configured channels: nothing waits for one that was removed."""
    waiting: dict[str, int] = dict(
        look.connection.execute(
            "SELECT channel, count(*) FROM alert_delivery WHERE delivered_at IS NULL GROUP BY 1"
        ).fetchall()
    )
    for channel in channels(look.settings):
        yield Sample(families.UNDELIVERED, waiting.get(channel, 0), (channel,))


def daemon(look: Look) -> Iterator[Sample]:
    try:
        with look.connection.transaction():
            beats = heartbeats(look.connection)
    except psycopg.errors.UndefinedTable:
        beats = {}
    farthest = max(abs(look.now.timestamp() - beats.get(part, float("-inf"))) for part in DAEMONS)
    yield Sample(families.HEARTBEAT_AGE, farthest)


READINGS: tuple[Callable[[Look], Iterator[Sample]], ...] = (
    daemon,
    runs,
    late_schedules,
    overdue_jobs,
    months,
    links,
    violations,
    last_report,
    last_nightly,
    backup,
    undelivered,
)


def _time(family: Family, time: datetime | None) -> Iterator[Sample]:
    if time is not None:
        yield Sample(family, time.timestamp())


def _of_dagster(connection: psycopg.Connection, read: Callable[[psycopg.Connection], T]) -> T | None:
    """What is read from Dagster's tables; None if it never ran."""
    try:
        with connection.transaction():
            return read(connection)
    except psycopg.errors.UndefinedTable:
        return None
