"""Start of runs, for people, timers and CronJobs: in the queue of a daemon if one is alive, else in this process.

A command may be repeated at any time: it waits for runs of the same job and partition that are under way, and for runs
that it requested before under the same IRT_RUN_KEY, and requests no partition twice. A pod executes no runs itself, but
waits ten minutes for a daemon. What does not belong here: the partitions that a tick requests (see `jobs.plans`), and
the execution of a run in this process (see `in_process_runs`).
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import dagster as dg

from irt_assets.common.job_names import job_of, same_job
from irt_assets.common.retries import first_cause
from irt_assets.common.run_progress import PARTITION_TAG, is_to_be_repeated, repetition, runs_to_repeat
from irt_assets.runs.in_process_runs import (
    Progress,
    RunOutcome,
    follow_up,
    name_of_run,
    outcome_of,
    require_free,
    run_here,
)
from irt_assets.runs.queue import enqueue
from jobs.plans import Plan, find_plan, last_tick_before
from jobs.schedules import find_missing, has_run_since
from jobs.watching.alerts import schedule_states
from jobs.watching.daemons import daemon_alive
from jobs.watching.stuck_runs import QUEUE_STATUSES, fail_lost_runs
from resources.dagster_compat import NOT_FINISHED_STATUSES, SCHEDULE_NAME_TAG, TickStatus
from resources.failures import PermanentFailure, TransientFailure, is_transient
from resources.postgres.database import Database, advisory_lock
from resources.settings import Settings, in_a_pod

LOG = logging.getLogger("irt.run")
RUN_KEY_TAG = "irt/run_key"
"""Run tag: the IRT_RUN_KEY under which a run was requested."""
TIMEOUT_S = 600.0
RETRY_INTERVAL_S = 5.0
POLL_INTERVAL_S = 1.0
MAX_TICK_S = 90.0
"""Time to wait for a tick. Dagster allows a schedule 60 s; if the daemon is killed meanwhile, the tick never ends."""
EVENTS_PER_POLL = 1000
NO_DAEMON = (
    "for ten minutes {why}, and a pod executes no run itself: check that the daemon and the code server run "
    "(irt health --probe daemon), then start this job again; it does not request a run twice"
)
JOB_OF_A_CRON_JOB = re.compile(r"-\d{8}$")
"""End of a Job's name if a CronJob created it: the time in minutes."""
UNIT = "IRT_UNIT"
"""The variable with the unit's name that a unit of systemd passes to its process."""
T = TypeVar("T")


def start(
    instance: dg.DagsterInstance,
    settings: Settings,
    database: Database,
    job: str,
    partitions: Sequence[str] | None = None,
    *,
    here: bool = False,
    quiet: bool = False,
    progress: Progress | None = None,
    if_missing: bool = False,
) -> Iterator[RunOutcome]:
    """Run a job, and yield the result of each run.

    Without a daemon, the runs that sensors and automation request follow, and their results are yielded too.

    Args:
        partitions: the partitions to make, one after the other, even if they exist. None: the partitions that a tick of
            the schedule would request now; if a person started the unit or the Job, also the last complete partition.
        here: run in this process even if a daemon is alive.
        quiet: on a terminal, do not show the log of a run in this process.
        progress: takes the numbers of ended and of all steps of a run in this process.
        if_missing: do not make a partition again only because a person started the unit or the Job.

    Raises PermanentFailure if there is no such job or partition, if another process runs it, and in a pod if there is
    no daemon or code server for ten minutes.
    """
    plan, pod = find_plan(job), in_a_pod()
    if pod and here:
        raise PermanentFailure("--here executes runs in this process, but a pod executes none: omit --here")
    if not pod:
        fail_lost_runs(instance)
    if partitions is None and plan.asset and started_by_hand(settings) and not if_missing:
        partitions = _missing_and_last(instance, settings, database, plan)
    for requested in [None] if partitions is None else partitions:
        if pod or (not here and daemon_alive(instance)):
            yield from _run_on_daemon(instance, settings, database, plan, requested, pod=pod)
        else:
            for partition in partitions_to_run(instance, settings, database, plan, requested):
                yield run_here(
                    instance, settings, plan, partition, log_level=None if quiet else "INFO", progress=progress
                )
    if not pod and not daemon_alive(instance):
        yield from follow_up(instance, settings)


def started_by_hand(settings: Settings) -> bool:
    """Whether a person, and not a timer or a CronJob, started this unit of systemd or this Job of Kubernetes.

    A unit that systemd restarts after it was killed keeps the TRIGGER_UNIT of its start (systemd 252).
    """
    in_unit_or_job = bool(settings.irt_run_key) if in_a_pod() else UNIT in os.environ
    return in_unit_or_job and not started_by_the_clock(settings)


def started_by_the_clock(settings: Settings) -> bool:
    return "TRIGGER_UNIT" in os.environ or bool(JOB_OF_A_CRON_JOB.search(settings.irt_run_key or ""))


def _missing_and_last(instance: dg.DagsterInstance, settings: Settings, database: Database, plan: Plan) -> list[str]:
    """The missing partitions, and the last complete one."""
    now = datetime.now(UTC)
    due, unmade = find_missing(instance, database, plan, now, settings.irt_first_month)
    last = [key for key in due if plan.period.bounds(key)[1] <= now][-1:]
    return [*(key for key in unmade if key not in last), *last]


def partitions_to_run(
    instance: dg.DagsterInstance, settings: Settings, database: Database, plan: Plan, requested: str | None
) -> Sequence[str | None]:
    """The partitions that a tick would request now, or only `requested`; a single None for a job without partitions.

    Returns an empty list if a timer or a CronJob starts a job without partitions that has run since its last tick.
    Raises PermanentFailure if there is no partition `requested`, or if a run of it is under way.
    """
    now = datetime.now(UTC)
    if plan.asset and requested is None:
        return find_missing(instance, database, plan, now, settings.irt_first_month)[1]
    if plan.asset and requested is not None:
        require_free(instance, settings, plan, requested)
        return [requested]
    if requested is not None:
        raise PermanentFailure(f"the job {plan.job} has no partitions: omit --partition")
    by_the_clock = started_by_the_clock(settings)
    return [] if by_the_clock and has_run_since(instance, plan, last_tick_before(now, plan)) else [None]


def _run_on_daemon(
    instance: dg.DagsterInstance,
    settings: Settings,
    database: Database,
    plan: Plan,
    requested: str | None,
    *,
    pod: bool,
) -> Iterator[RunOutcome]:
    """Request the runs, then follow them one after the other and repeat their logs.

    If the daemon was stopped and left a run in the queue, the run is executed in this process, except in a pod.
    """
    request = partial(_request_runs, instance, settings, database, plan, requested)
    runs = call_with_daemon(instance, request) if pod else request()
    for partition, run_id in runs.items():
        outcome = _retry_outages(partial(await_run, instance, run_id, plan.job, partition, TIMEOUT_S if pod else 0.0))
        if pod or not _cancel_if_queued(instance, run_id):
            yield outcome
        else:
            LOG.warning("The daemon has stopped: %s leaves its queue and runs in this process.", outcome.name)
            yield run_here(instance, settings, plan, partition, log_level="INFO")


def _request_runs(
    instance: dg.DagsterInstance, settings: Settings, database: Database, plan: Plan, requested: str | None
) -> dict[str | None, str]:
    """The run of each partition: a run under way, a run that was requested before under this key, or a new run.

    A lock admits one caller at a time, so that two commands for one job do not both request a partition.
    """
    before = _newest_schedule_run(instance, plan)
    with database.connect() as one_at_a_time:
        advisory_lock(one_at_a_time, "irt job", plan.job)
        own_runs = _own_runs(instance, settings, plan)
        found = own_runs | _runs_under_way(instance, plan)
        if requested is not None or not plan.asset:
            chosen = {requested: found[requested]} if requested in found else {}
            wanted = [] if chosen else partitions_to_run(instance, settings, database, plan, requested)
        else:
            due, wanted = find_missing(instance, database, plan, datetime.now(UTC), settings.irt_first_month)
            chosen = {key: run_id for key, run_id in found.items() if key in own_runs or key in due}
        for partition, run_id in chosen.items():
            LOG.info("%s: waiting for the run %s", name_of_run(plan.job, partition), run_id)
        tags = {RUN_KEY_TAG: settings.irt_run_key} if settings.irt_run_key else {}
        new = {
            partition: enqueue(
                instance, settings, plan, partition, tags, instead=partial(_schedule_run_since, instance, plan, before)
            )
            for partition in wanted
            if partition not in chosen
        }
    return chosen | new


def _schedule_run_since(instance: dg.DagsterInstance, plan: Plan, before: str | None) -> str | None:
    """The run that the schedule of a job without partitions has requested since the run `before`, if there is one.

    This waits for a tick that has started. The schedule stores its tick and a command stores its run before either
    looks for the other, so only one run is made even if both start at the same moment.
    """
    state = None if plan.asset else schedule_states(instance).get(plan.name)
    if state is None:
        return None
    deadline = time.monotonic() + MAX_TICK_S
    while time.monotonic() < deadline:
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        if not ticks or ticks[0].status is not TickStatus.STARTED:
            break
        time.sleep(POLL_INTERVAL_S)
    newest = _newest_schedule_run(instance, plan)
    return newest if newest != before else None


def _newest_schedule_run(instance: dg.DagsterInstance, plan: Plan) -> str | None:
    runs = instance.get_runs(dg.RunsFilter(tags={SCHEDULE_NAME_TAG: plan.name}), limit=1)
    return runs[0].run_id if runs else None


def _own_runs(instance: dg.DagsterInstance, settings: Settings, plan: Plan) -> dict[str | None, str]:
    """The runs that were requested before under this key, by partition.

    If a run was repeated, this is the first run, from which its repetitions can be found.
    """
    if not settings.irt_run_key:
        return {}
    tag = {RUN_KEY_TAG: settings.irt_run_key}
    return {  # the newest come first
        run.tags.get(PARTITION_TAG): run.run_id
        for name in same_job(plan.job)
        for run in instance.get_runs(dg.RunsFilter(job_name=name, tags=tag))
    }


def _runs_under_way(instance: dg.DagsterInstance, plan: Plan) -> dict[str | None, str]:
    repeated = [record.dagster_run for record in runs_to_repeat(instance)]
    runs = [*repeated, *instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))]
    return {run.tags.get(PARTITION_TAG): run.run_id for run in runs if job_of(run.job_name) == plan.job}


def _cancel_if_queued(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Cancel a run if it is still queued. Returns whether it was cancelled."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status is not dg.DagsterRunStatus.QUEUED:
        return False
    return instance.run_coordinator.cancel_run(run_id)


def await_run(
    instance: dg.DagsterInstance, run_id: str, job: str, partition: str | None, patience_s: float = 0.0
) -> RunOutcome:
    """Wait for a run, or for its last repetition if its worker was killed. Returns its result.

    patience_s: time for which the daemon may be down while the run needs it.
    """
    cursor, events, worker_fault, daemon_seen = None, list[dg.DagsterEvent](), "", time.monotonic()
    while True:
        run = instance.get_run_by_id(run_id)
        if run is None:
            return RunOutcome(job, partition, success=False, why=f"its run {run_id} was deleted")
        page = instance.get_records_for_run(run_id, cursor, limit=EVENTS_PER_POLL)
        cursor = page.cursor
        for record in page.records:
            _log_entry(record.event_log_entry, run)
            event = record.event_log_entry.dagster_event
            if event is not None:
                events.append(event)
                if event.is_engine_event and event.engine_event_data.error is not None:
                    worker_fault = f": {first_cause(event.engine_event_data.error)}"
        if page.has_more:
            continue
        waits_for_repetition = run.is_finished and is_to_be_repeated(instance, run_id)
        # Checked second, because the run may have been repeated just before the first check.
        if run.status is dg.DagsterRunStatus.FAILURE and (again := repetition(instance, run)) is not None:
            name = name_of_run(job, partition)
            LOG.warning("The run %s of %s was killed; the daemon repeats it as %s.", run_id, name, again.run_id)
            run_id, cursor, worker_fault = again.run_id, None, ""
            events.clear()
            continue
        if run.is_finished and not waits_for_repetition:
            fallback = f"its run {run_id} ended as {run.status.value}{worker_fault}"
            success = run.status is dg.DagsterRunStatus.SUCCESS
            return outcome_of(job, partition, run_id, success, events, fallback)
        if not (run.is_finished or run.status in QUEUE_STATUSES) or daemon_alive(instance):
            daemon_seen = time.monotonic()
        elif time.monotonic() - daemon_seen >= patience_s:
            waits = "is to be repeated" if run.is_finished else "waits for it in the queue"
            return RunOutcome(job, partition, success=False, why=f"the daemon has stopped; the run {run_id} {waits}")
        time.sleep(POLL_INTERVAL_S)


def _log_entry(entry: dg.EventLogEntry, run: dg.DagsterRun) -> None:
    """Log an entry of the run's log as a run in this process would."""
    level = int(entry.level)
    if level < LOG.getEffectiveLevel():
        return
    event = entry.dagster_event
    message = entry.message or (event.event_type.name.replace("_", " ").lower() if event is not None else "")
    record = LOG.makeRecord(LOG.name, level, "", 0, message, (), None)
    record.created = entry.timestamp
    of_run = {
        "run_id": run.run_id,
        "job": run.job_name,
        "step": entry.step_key,
        "partition": run.tags.get(PARTITION_TAG),
        "event": event.event_type_value if event is not None else None,
    }
    vars(record).update({name: value for name, value in of_run.items() if value is not None})
    LOG.handle(record)


def call_with_daemon(instance: dg.DagsterInstance, do: Callable[[], T]) -> T:
    """Call `do` once a daemon runs, and again after transient errors.

    Raises PermanentFailure if there is no daemon, or `do` fails, for ten minutes.
    """
    deadline, why = time.monotonic() + TIMEOUT_S, ""
    while True:
        before, why = why, "there was no daemon"
        try:
            if daemon_alive(instance):
                return do()
        except Exception as error:
            if not is_transient(error):
                raise
            why = str(error) if isinstance(error, TransientFailure) else "the database did not answer"
        if time.monotonic() >= deadline:
            raise PermanentFailure(NO_DAEMON.format(why=why))
        if why != before:
            LOG.warning("Waiting for ten minutes at most, as %s.", why)
        time.sleep(RETRY_INTERVAL_S)


def _retry_outages(do: Callable[[], T]) -> T:
    """Call `do`, and again after transient errors, for at most ten minutes."""
    outage_began: float | None = None
    while True:
        began = time.monotonic()
        try:
            return do()
        except Exception as error:
            now = time.monotonic()
            if outage_began is None or now - began > TIMEOUT_S:
                outage_began = now
            if not is_transient(error) or now - outage_began > TIMEOUT_S:
                raise
            LOG.warning("%s; trying again", error)
        time.sleep(RETRY_INTERVAL_S)
