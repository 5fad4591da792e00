"""Read each metric with one or two queries of stored data, so that a scrape never computes a month.

Lateness, violations and silence are decided by the functions that `irt status` uses.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.common.job_names import job_of
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.common.probes import DAEMONS
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import ledger_states
from irt_assets.intake.arrivals import source_states
from irt_assets.intake.silence import silent_sources
from irt_assets.invariants.open_violations import SEVERITY, last_backup, last_evaluated, open_violations
from irt_assets.ledger.month_verdicts import read_verdicts
from irt_assets.ledger.overview import last_linkings, last_night
from irt_assets.responses.closing_records import read_closed
from jobs.plans import PLANS
from jobs.watching.lateness import read_lateness
from resources.alerts.notifier import channels
from resources.dagster_tables import heartbeats, last_successes, run_if_dagster_exists, runs_by_status
from resources.settings import Settings
from services.exporter import families
from services.exporter.families import Sample

MONTHS = 13
MONTH_STATES = [state for state in State if state is not State.RUNNING]
"""The states that the ledger knows; Dagster knows which months are running."""


@dataclass(frozen=True)
class ScrapeContext:
    """The context of one reading: connection, settings and time."""

    connection: psycopg.Connection
    settings: Settings
    now: datetime


def runs(context: ScrapeContext) -> Iterator[Sample]:
    for status, n in (run_if_dagster_exists(context.connection, runs_by_status) or {}).items():
        yield Sample(families.RUNS, n, (status.lower(),))
    ended = run_if_dagster_exists(context.connection, last_successes) or {}
    by_job = {job_of(job): end for job, end in ended.items()}
    for plan in PLANS:
        if plan.job in by_job:
            yield Sample(families.LAST_SUCCESS, by_job[plan.job], (plan.documents_name,))


def overdue(context: ScrapeContext) -> Iterator[Sample]:
    late_plans = read_lateness(context.connection, PLANS, context.settings.irt_first_month, context.now)
    for plan in PLANS:
        yield Sample(families.OVERDUE, plan in late_plans, (plan.documents_name,))


def months(context: ScrapeContext) -> Iterator[Sample]:
    """The state of each month as the ledger knows it: a month whose run is under way has the state of before."""
    last = list(months_between(context.settings.irt_first_month, last_complete_month(context.now)))[-MONTHS:]
    verdicts = read_verdicts(context.connection, last)
    for month in ledger_states(context.connection, last):
        for state in MONTH_STATES:
            yield Sample(families.MONTH_STATE, state is month.state, (month.scale_id, month.month, state))
        judged = verdicts.get((month.month, month.scale_id))
        published = judged.step.n_published if judged and judged.step else 0
        yield Sample(families.PUBLISHED, published, (month.scale_id, month.month))
    for closed in read_closed(context.connection, last):
        for kind, n in closed.changes.items():
            yield Sample(families.CHANGED, n, (closed.scale_id, closed.month, kind))


def links(context: ScrapeContext) -> Iterator[Sample]:
    for scale, (slope, intercept) in last_linkings(context.connection).items():
        if slope is not None and intercept is not None:
            yield Sample(families.SLOPE, slope, (scale,))
            yield Sample(families.INTERCEPT, intercept, (scale,))


def violations(context: ScrapeContext) -> Iterator[Sample]:
    subjects = {violation.invariant: violation.subjects for violation in open_violations(context.connection)}
    for name, severity in SEVERITY.items():
        yield Sample(families.VIOLATIONS, subjects.get(name, 0), (name, severity))


def last_times(context: ScrapeContext) -> Iterator[Sample]:
    backup = last_backup(context.connection)
    times = {
        families.INVARIANTS_LAST: last_evaluated(context.connection),
        families.NIGHTLY_LAST: last_night(context.connection),
        families.BACKUP_LAST: backup.made_at if backup else None,
    }
    yield from (Sample(family, time.timestamp()) for family, time in times.items() if time is not None)


def undelivered(context: ScrapeContext) -> Iterator[Sample]:
    """Undelivered messages of the configured channels. Messages of a removed channel are not counted."""
    waiting: dict[str, int] = dict(
        context.connection.execute(
            "SELECT channel, count(*) FROM alert_delivery WHERE delivered_at IS NULL GROUP BY 1"
        ).fetchall()
    )
    for channel in channels(context.settings):
        yield Sample(families.UNDELIVERED, waiting.get(channel, 0), (channel,))


def daemon(context: ScrapeContext) -> Iterator[Sample]:
    beats = run_if_dagster_exists(context.connection, heartbeats) or {}
    farthest = max(abs(context.now.timestamp() - beats.get(part, float("-inf"))) for part in DAEMONS)
    yield Sample(families.HEARTBEAT_AGE, farthest)


def intake(context: ScrapeContext) -> Iterator[Sample]:
    for state in source_states(context.connection):
        yield Sample(families.INTAKE_LAST, state.last.timestamp(), (state.source,))
        for result, n in (("stored", state.stored), ("duplicate", state.duplicates), ("refused", state.refused)):
            yield Sample(families.INTAKE_ROWS, n, (state.source, result))
    for source, silence in silent_sources(context.connection, context.settings, context.now).items():
        yield Sample(families.INTAKE_SILENT, int(silence is not None), (source,))


READINGS: tuple[Callable[[ScrapeContext], Iterator[Sample]], ...] = (
    daemon,
    runs,
    overdue,
    months,
    links,
    violations,
    last_times,
    undelivered,
    intake,
)
