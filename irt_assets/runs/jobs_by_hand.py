"""The tick of a schedule on request, for a timer, a CronJob or a person: what it would make is queued or made here.

What does not belong here: which partitions a tick asks for (see `jobs.plans`), and what follows a run (see
`without_daemon`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from irt_assets.common.environment import CODE_LOCATION, workspace
from irt_assets.common.job_names import job_of
from irt_assets.common.retries import first_cause, why_it_failed
from irt_assets.common.run_progress import PARTITION_TAG, is_to_be_repeated, repetition, under_way
from irt_assets.runs.in_process_runs import Outcome, execute, why_it_ended
from jobs.daemons import daemon_alive
from jobs.plans import PLANS, Plan
from jobs.schedules import missing
from jobs.stuck_runs import IN_THE_QUEUE
from resources.dagster_compat import coerce_valid_log_level, queue_run
from resources.failures import PermanentFailure
from resources.settings import Settings

LOG = logging.getLogger("irt.run")
SECONDS_BETWEEN_LOOKS = 1.0
EVENTS_A_LOOK = 1000


def plan_of(job: str) -> Plan:
    """The schedule of a job, by any of its names. Raises PermanentFailure if it has none."""
    for plan in PLANS:
        if plan.job == job_of(job):
            return plan
    raise PermanentFailure(f"no job {job} has a schedule; these have: {', '.join(plan.job for plan in PLANS)}")


def partitions_to_run(
    instance: dg.DagsterInstance, settings: Settings, plan: Plan, asked: str | None
) -> Sequence[str | None]:
    """The partitions that a tick would request now, or only `asked`; a single None for a job without partitions.

    Raises PermanentFailure if there is no partition `asked` yet, or a run of it is under way.
    """
    if not plan.asset:
        if asked is not None:
            raise PermanentFailure(f"the job {plan.job} has no partitions: omit --partition")
        return [None]
    if asked is None:
        return missing(instance, plan, datetime.now(UTC), settings.irt_first_month)[1]
    now, period = datetime.now(UTC), plan.period
    try:
        begins, ends = period.bounds(asked)
    except ValueError:
        (last,) = period.back(now, 1)
        raise PermanentFailure(f"{asked!r} is not a {period.name}: write it as {last}") from None
    if begins > now or (ends > now and not plan.running):
        raise PermanentFailure(f"the {period.name} {asked} is not over yet")
    if asked in under_way(instance, plan.job, [plan.asset]):
        raise PermanentFailure(f"a run of {asked} is queued or under way: see `irt runs list`")
    return [asked]


def through_the_queue(
    instance: dg.DagsterInstance, settings: Settings, plan: Plan, partitions: Sequence[str | None]
) -> Iterator[Outcome]:
    """Queue a run of each partition for the daemon, then follow them one by one, repeating their logs as they come.

    A run that a daemon left in the queue, as it was stopped meanwhile, is made here.
    """
    for partition, run_id in [(partition, enqueue(instance, settings, plan, partition)) for partition in partitions]:
        outcome = await_run(instance, run_id, name_of_run(plan, partition))
        if withdrawn(instance, run_id):
            LOG.warning("The daemon is gone: %s leaves its queue and runs here.", outcome.name)
            yield from run_here(instance, settings, plan, [partition])
        else:
            yield outcome


def withdrawn(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Cancel a run that is still queued; returns whether it was."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status is not dg.DagsterRunStatus.QUEUED:
        return False
    return instance.run_coordinator.cancel_run(run_id)


def enqueue(
    instance: dg.DagsterInstance,
    settings: Settings,
    plan: Plan,
    partition: str | None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Queue a run of a partition for the daemon; its id."""
    tags = {**(tags or {}), **({PARTITION_TAG: partition} if partition else {})}
    return queue_run(instance, workspace(settings), CODE_LOCATION, plan.job, tags)


def run_here(
    instance: dg.DagsterInstance, settings: Settings, plan: Plan, partitions: Sequence[str | None]
) -> Iterator[Outcome]:
    """Make each partition here, oldest first."""
    for partition in partitions:
        result = execute(instance, settings, job=plan.job, partition=partition, log_level="INFO")
        yield Outcome(
            name_of_run(plan, partition), result.success, "" if result.success else why_it_ended(result.all_events)
        )


def name_of_run(plan: Plan, partition: str | None) -> str:
    return f"{plan.job} {partition}" if partition else plan.job


def await_run(instance: dg.DagsterInstance, run_id: str, name: str, patience_s: float = 0.0) -> Outcome:
    """How a run ends; if its worker was killed, how its last repetition ends.

    patience_s: for how long the daemon may be gone while the run needs it.
    """
    cursor, why, worker_fault, daemon_seen = None, "", "", time.monotonic()
    while True:
        run = instance.get_run_by_id(run_id)
        if run is None:
            return Outcome(name, success=False, why=f"its run {run_id} was deleted")
        page = instance.get_records_for_run(run_id, cursor, limit=EVENTS_A_LOOK)
        cursor = page.cursor
        for record in page.records:
            _say(record.event_log_entry, run)
            event = record.event_log_entry.dagster_event
            if event is not None and event.is_step_failure:
                why = why or why_it_failed(event.step_failure_data)
            elif event is not None and event.is_engine_event and event.engine_event_data.error is not None:
                worker_fault = f": {first_cause(event.engine_event_data.error)}"
        if page.has_more:
            continue
        waits_for_repetition = run.is_finished and is_to_be_repeated(instance, run_id)
        # Asked second: what is not to be repeated any more may just have been.
        if run.status is dg.DagsterRunStatus.FAILURE and (again := repetition(instance, run)) is not None:
            LOG.warning("The run %s of %s was killed; the daemon repeats it as %s.", run_id, name, again.run_id)
            run_id, cursor, why, worker_fault = again.run_id, None, "", ""
            continue
        if run.is_finished and not waits_for_repetition:
            success = run.status is dg.DagsterRunStatus.SUCCESS
            why = "" if success else why or f"its run {run_id} ended as {run.status.value}{worker_fault}"
            return Outcome(name, success, why, run_id)
        if not (run.is_finished or run.status in IN_THE_QUEUE) or daemon_alive(instance):
            daemon_seen = time.monotonic()
        elif time.monotonic() - daemon_seen >= patience_s:
            waits = "is to be repeated" if run.is_finished else "waits for it in the queue"
            return Outcome(name, success=False, why=f"the daemon is gone; the run {run_id} {waits}")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _say(entry: dg.EventLogEntry, run: dg.DagsterRun) -> None:
    """Log a line of the run's log, as a run in this process would."""
    level = coerce_valid_log_level(entry.level)
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
