"""The state of the platform now: the daemon, every schedule, month, open violation, alert and run.

This module only collects: `month_status` decides on months, `lateness` on late jobs, and `irt_assets.cli.status`
prints the whole overview. The dashboard's pages read only the parts that they show.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import psycopg

from irt_assets.blocks import Badge
from irt_assets.common.job_names import INVARIANT_REPORT, LAKE_EQUALS_LOG
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.decisions.proposals import Proposal, waiting_proposals
from irt_assets.gates.month_classification import MonthState
from irt_assets.gates.month_status import month_states
from irt_assets.intake.arrivals import SourceState, source_states
from irt_assets.intake.pulling.pull_state import pulls_in_words
from irt_assets.intake.silence import Silence, silent_sources
from irt_assets.invariants.open_violations import (
    LastBackup,
    OpenViolation,
    changes_since_evaluation,
    last_backup,
    last_evaluated,
    open_violations,
)
from irt_assets.item_analysis.key_evidence import suspect_keys
from irt_assets.responses.closing_records import ClosedMonth, read_closed
from irt_assets.scales.scale import read_scales
from jobs.plans import PLANS, Plan
from jobs.watching import alerts
from jobs.watching.daemons import daemon_state
from jobs.watching.lateness import Lateness, read_lateness
from jobs.watching.stuck_runs import UnfinishedRun, runs_under_way
from resources.cluster.lake import lake_to_write
from resources.dagster_compat import InstigatorTick, TickStatus, schedule_execution_time_iterator
from resources.postgres.database import Database, records
from resources.settings import Settings


@dataclass(frozen=True)
class ScheduleState:
    """State of a schedule.

    Attributes:
        result: outcome of the last tick.
        newest: the newest materialised partition, or empty.
        late: the missing result; empty if the job is in time or the schedule is off.
    """

    job: str
    on: bool
    last_tick: datetime | None
    result: str
    next_tick: datetime | None
    newest: str
    late: str

    @property
    def badge(self) -> Badge:
        if self.late:
            return Badge("late", "bad")
        return Badge("on", "good") if self.on else Badge("off")


@dataclass(frozen=True)
class OpenAlert:
    severity: str
    what: str
    partition: str
    opened_at: datetime


@dataclass(frozen=True)
class WaitingProposals:
    """Number of proposals of a month and scale that need a decision."""

    month: str
    scale_id: str
    decisions: int


@dataclass(frozen=True)
class SparkState:
    """State of Spark and of the lake.

    Attributes:
        master: address of Spark's master, or None if Spark is not configured.
        attempts: location of the answers for Spark, or None if it is not configured.
        last_day: the last day in the lake; empty if the lake is empty, None without a lake.
        equals_log: whether the last check found the lake equal to the log, or None if it has never run.
    """

    master: str | None
    attempts: str | None
    last_day: str | None = None
    equals_log: bool | None = None


@dataclass(frozen=True)
class Overview:
    """State of the platform.

    Attributes:
        now: the time of the state.
        daemon_seen: the oldest heartbeat of the daemon's parts, or None if it never ran.
        waiting: proposals that need a decision.
        waiting_by_month: their number by month and scale; recalibrations count under their last month.
        last_backup: the last backup, or None if there has never been one.
        on_spark: None if neither Spark nor a lake is configured.
        intake: sources of answers.
        silent: sources that have been silent for too long.
        pulls: the state of each pulled source, in words.
        evaluated_at: time of the last evaluation of the invariants.
        outdated: the changes since then, as a clause; empty if nothing has changed.
        suspect_keys: why the keys of items may be wrong, by item.
        changed: closed months whose answers have changed since, as the last night counted them.
    """

    now: datetime
    daemon_alive: bool
    daemon_seen: datetime | None
    schedules: list[ScheduleState]
    months: list[MonthState]
    violations: list[OpenViolation]
    alerts: list[OpenAlert]
    runs: list[UnfinishedRun]
    waiting: list[str]
    waiting_by_month: list[WaitingProposals] = field(default_factory=list)
    last_backup: LastBackup | None = None
    on_spark: SparkState | None = None
    intake: list[SourceState] = field(default_factory=list)
    silent: list[Silence] = field(default_factory=list)
    pulls: list[str] = field(default_factory=list)
    evaluated_at: datetime | None = None
    outdated: str = ""
    changed: list[ClosedMonth] = field(default_factory=list)
    suspect_keys: dict[str, str] = field(default_factory=dict)


def collect_overview(database: Database, instance: dg.DagsterInstance, settings: Settings) -> Overview:
    """Collect the state of the platform."""
    now = datetime.now(UTC)
    alive, seen = daemon_state(instance)
    months = complete_months(settings, now)
    with database.connect() as connection:
        violations, evaluated = list(open_violations(connection)), last_evaluated(connection)
        outdated = changes_since_evaluation(connection, evaluated)
        alerts_now = open_alerts(connection)
        open_proposals = waiting_proposals(connection)
        backup = last_backup(connection)
        late_plans = read_lateness(connection, PLANS, settings.irt_first_month, now)
        intake = source_states(connection)
        silences = silent_sources(connection, settings, now)
        pulls = pulls_in_words(connection)
        changed = [each for each in read_closed(connection, months) if each.changes]
        scales = read_scales(connection)
        suspect = {item: why for scale_id in scales for item, why in suspect_keys(connection, scale_id).items()}
    return Overview(
        now,
        daemon_alive=alive,
        daemon_seen=seen,
        schedules=list(read_schedules(instance, settings, now, late_plans)),
        months=month_states(database, instance, months),
        violations=violations,
        alerts=alerts_now,
        runs=runs_under_way(instance),
        waiting=[str(p.reference) for p in open_proposals],
        waiting_by_month=[
            WaitingProposals(month, scale_id, n)
            for (month, scale_id), n in sorted(count_by_month(open_proposals).items())
        ],
        last_backup=backup,
        on_spark=_spark_state(instance, settings),
        intake=intake,
        silent=[each for each in silences.values() if each is not None],
        pulls=pulls,
        evaluated_at=evaluated,
        outdated=outdated,
        changed=changed,
        suspect_keys=suspect,
    )


def complete_months(settings: Settings, now: datetime) -> list[str]:
    """List the months of the platform that have ended, oldest first."""
    return [*months_between(settings.irt_first_month, last_complete_month(now))]


def open_alerts(connection: psycopg.Connection) -> list[OpenAlert]:
    """Read the alerts that are not resolved, errors first."""
    return records(
        connection,
        OpenAlert,
        """SELECT severity, what, partition, opened_at FROM alert WHERE resolved_at IS NULL
           ORDER BY severity, alert_id DESC""",
    )


def count_by_month(waiting: Iterable[Proposal]) -> Counter[tuple[str, str]]:
    """Count proposals by month and scale; recalibrations count under their last month."""
    return Counter((proposal.window[-7:], proposal.scale_id) for proposal in waiting)


def _spark_state(instance: dg.DagsterInstance, settings: Settings) -> SparkState | None:
    """State of Spark and the lake, without starting Spark."""
    if settings.irt_spark is None and settings.irt_attempts is None:
        return None
    lake = lake_to_write(settings)
    if lake is None:
        return SparkState(settings.irt_spark, settings.irt_attempts)
    check = dg.AssetCheckKey(dg.AssetKey(INVARIANT_REPORT), LAKE_EQUALS_LOG)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([check]).get(check)
    evaluation = record.evaluation if record else None
    equals_log = evaluation.passed if isinstance(evaluation, dg.AssetCheckEvaluation) else None
    return SparkState(settings.irt_spark, lake.name, lake.last_day() or "", equals_log)


def as_dict(overview: Overview) -> dict[str, Any]:
    """The overview as a dictionary for JSON, with times in ISO format."""

    def plain(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields}

    return asdict(overview, dict_factory=plain)


def read_schedules(
    instance: dg.DagsterInstance, settings: Settings, now: datetime, late_plans: Mapping[Plan, Lateness]
) -> Iterator[ScheduleState]:
    """Yield the state of every schedule. `late_plans`: see `lateness.read_lateness`."""
    states = alerts.schedule_states(instance)
    for plan in PLANS:
        state = states.get(plan.name)
        on = state.is_running if state else settings.irt_schedules == "running"
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1) if state else []
        lateness = late_plans.get(plan)
        yield ScheduleState(
            job=plan.job,
            on=on,
            last_tick=datetime.fromtimestamp(ticks[0].timestamp, UTC) if ticks else None,
            result=_result(instance, ticks[0]) if ticks else "",
            next_tick=next(schedule_execution_time_iterator(now.timestamp(), plan.cron, plan.zone)).astimezone(UTC)
            if on
            else None,
            newest=max(instance.get_materialized_partitions(dg.AssetKey(plan.asset)), default="") if plan.asset else "",
            late=alerts.schedule_alert(plan, lateness).what if lateness and lateness.of_schedule else "",
        )


def _result(instance: dg.DagsterInstance, tick: InstigatorTick) -> str:
    """The outcome of a tick: the number of its runs by status, or `nothing` if it requested no run."""
    if tick.status is TickStatus.FAILURE:
        return "failed"
    if tick.status is TickStatus.SKIPPED or not tick.run_ids:
        return "nothing" if tick.status is TickStatus.SKIPPED else "under way"
    runs = instance.get_runs(dg.RunsFilter(run_ids=list(tick.run_ids)))
    ended = Counter(run.status.value.lower() for run in runs)
    return ", ".join(f"{n} {status}" for status, n in sorted(ended.items())) or "pruned"
