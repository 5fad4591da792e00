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
from irt_assets.gates.month_classification import GateStatus, State, classify_month, first_newer
from irt_assets.intake.arrivals import source_states
from irt_assets.intake.silence import silent_sources
from irt_assets.invariants.open_violations import SEVERITY, last_backup, last_evaluated, open_violations
from irt_assets.ledger.overview import SettledMonth, decisions_since, last_linkings, last_night, settled_months
from irt_assets.ledger.steps import Step
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.open_months import scales_with_changed_verdicts
from jobs.plans import PLANS
from jobs.watching.lateness import read_lateness
from resources.alerts.notifier import channels
from resources.dagster_tables import heartbeats, last_successes, runs_by_status, where_dagster_ran
from resources.settings import Settings
from services.exporter import families
from services.exporter.families import Sample

MONTHS = 13
MONTH_STATES = (State.GREEN, State.RED, State.STALE, State.PENDING, State.MISSING)


@dataclass(frozen=True)
class ScrapeContext:
    """The context of one reading: connection, settings and time."""

    connection: psycopg.Connection
    settings: Settings
    now: datetime


def runs(look: ScrapeContext) -> Iterator[Sample]:
    for status, n in (where_dagster_ran(look.connection, runs_by_status) or {}).items():
        yield Sample(families.RUNS, n, (status.lower(),))
    ended = where_dagster_ran(look.connection, last_successes) or {}
    by_job = {job_of(job): end for job, end in ended.items()}
    for plan in PLANS:
        if plan.job in by_job:
            yield Sample(families.LAST_SUCCESS, by_job[plan.job], (plan.documents_name,))


def overdue(look: ScrapeContext) -> Iterator[Sample]:
    late = read_lateness(look.connection, PLANS, look.settings.irt_first_month, look.now)
    for plan in PLANS:
        yield Sample(families.OVERDUE, plan in late, (plan.documents_name,))


def months(look: ScrapeContext) -> Iterator[Sample]:
    """The state of each month, from its fit, its publication step, and decisions and verdicts since.

    Changed rules are not included; only `irt status` reports them.
    """
    last = list(months_between(look.settings.irt_first_month, last_complete_month(look.now)))[-MONTHS:]
    decided, others = decisions_since(look.connection, last), scales_with_changed_verdicts(look.connection, last)
    for one in settled_months(look.connection, last):
        now = month_state(
            one,
            decided.get((one.month, one.scale_id)),
            has_other_answers=one.scale_id in others.get(one.month, ()),
        )
        for state in MONTH_STATES:
            yield Sample(families.MONTH_STATE, state is now, (one.scale_id, one.month, state))
        yield Sample(families.PUBLISHED, one.n_published or 0, (one.scale_id, one.month))
    for closed in read_closed(look.connection, last):
        for kind, n in closed.changes.items():
            yield Sample(families.CHANGED, n, (closed.scale_id, closed.month, kind))


def month_state(one: SettledMonth, decided: str | None, *, has_other_answers: bool = False) -> State:
    """State of a month as in `irt status`, from the tables alone. decided: a person's decisions since, as a reason."""
    refit = one.newest_fit is not None and one.newest_fit != one.published_fit
    unlinked = refit and one.error is not None
    changed = first_newer(
        {
            "other_answers": "its answers were judged otherwise" if has_other_answers else None,
            "other_anchors": decided,
            "linked_alone": "it was fitted again" if refit else None,
        }
    )
    return classify_month(
        one.month,
        one.scale_id,
        {"held": GateStatus(passed=not unlinked and one.step != "held", why="")},
        one.step and Step(month=one.month, scale_id=one.scale_id, fit_id=one.published_fit, state=one.step),
        changed,
        running=False,
        answers="scored" if one.step is not None or unlinked else "unscored",
    ).state


def links(look: ScrapeContext) -> Iterator[Sample]:
    for scale, (slope, intercept) in last_linkings(look.connection).items():
        if slope is not None and intercept is not None:
            yield Sample(families.SLOPE, slope, (scale,))
            yield Sample(families.INTERCEPT, intercept, (scale,))


def violations(look: ScrapeContext) -> Iterator[Sample]:
    n = {one.invariant: one.subjects for one in open_violations(look.connection)}
    for name, severity in SEVERITY.items():
        yield Sample(families.VIOLATIONS, n.get(name, 0), (name, severity))


def last_times(look: ScrapeContext) -> Iterator[Sample]:
    backup = last_backup(look.connection)
    times = {
        families.INVARIANTS_LAST: last_evaluated(look.connection),
        families.NIGHTLY_LAST: last_night(look.connection),
        families.BACKUP_LAST: backup.made_at if backup else None,
    }
    yield from (Sample(family, time.timestamp()) for family, time in times.items() if time is not None)


def undelivered(look: ScrapeContext) -> Iterator[Sample]:
    """Undelivered messages of the configured channels. Messages of a removed channel are not counted."""
    waiting: dict[str, int] = dict(
        look.connection.execute(
            "SELECT channel, count(*) FROM alert_delivery WHERE delivered_at IS NULL GROUP BY 1"
        ).fetchall()
    )
    for channel in channels(look.settings):
        yield Sample(families.UNDELIVERED, waiting.get(channel, 0), (channel,))


def daemon(look: ScrapeContext) -> Iterator[Sample]:
    beats = where_dagster_ran(look.connection, heartbeats) or {}
    farthest = max(abs(look.now.timestamp() - beats.get(part, float("-inf"))) for part in DAEMONS)
    yield Sample(families.HEARTBEAT_AGE, farthest)


def intake(look: ScrapeContext) -> Iterator[Sample]:
    for one in source_states(look.connection):
        yield Sample(families.INTAKE_LAST, one.last.timestamp(), (one.source,))
        for result, n in (("stored", one.stored), ("duplicate", one.duplicates), ("refused", one.refused)):
            yield Sample(families.INTAKE_ROWS, n, (one.source, result))
    for source, silence in silent_sources(look.connection, look.settings, look.now).items():
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
