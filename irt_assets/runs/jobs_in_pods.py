"""`irt job` and the commands that make a month, a night or a week, in a pod: the daemon executes, and they wait.

They may be started again at any time: they wait for runs of the same job and partition that are under way, and for
those that they asked for before under the same IRT_RUN_KEY, and ask for no partition twice. What does not belong here:
which partitions a tick asks for (see `jobs.plans`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import dagster as dg

from irt_assets.common.job_names import job_of, same_job
from irt_assets.common.run_progress import PARTITION_TAG, to_be_repeated
from irt_assets.runs.in_process_runs import Outcome, RunOutcome, job_with_partition, run_outcome
from irt_assets.runs.jobs_by_hand import await_run, enqueue, name_of_run, partitions_to_run, plan_of
from jobs.daemons import daemon_alive
from jobs.plans import Plan
from jobs.schedules import missing
from resources.dagster_compat import NOT_FINISHED_STATUSES
from resources.failures import PermanentFailure, TransientFailure, is_transient
from resources.postgres.database import Database, advisory_lock
from resources.settings import Settings

LOG = logging.getLogger("irt.run")
RUN_KEY_TAG = "irt/run_key"
"""Run tag: the IRT_RUN_KEY under which a run was requested."""
PATIENCE_S = 600.0
BETWEEN_LOOKS_S = 5.0
NO_DAEMON = (
    "for ten minutes {why}, and a pod executes no run itself: see that the daemon and the code server run "
    "(irt health --probe daemon), then start this job again; what it has asked for is not asked for twice"
)
T = TypeVar("T")


def through_the_daemon(
    instance: dg.DagsterInstance, settings: Settings, database: Database, plan: Plan, asked: str | None
) -> Iterator[Outcome]:
    """Have a run of each missing partition, or of the one that is `asked`; how each ends.

    Raises PermanentFailure where for ten minutes no daemon, or no code server, is there.
    """
    runs = _with_daemon(instance, partial(_asked_for, instance, settings, database, plan, asked))
    if not runs:
        LOG.info("%s: nothing is missing. %s", plan.job, plan.description)
    for partition, run_id in runs.items():
        yield _through_outages(partial(await_run, instance, run_id, name_of_run(plan, partition), PATIENCE_S))


def make_partition(
    instance: dg.DagsterInstance, settings: Settings, database: Database, job: str, partition: str
) -> RunOutcome:
    """Have a run of a partition of a job, though it was made already. Raises PermanentFailure as `run_month` does."""
    plan = plan_of(job)
    job_with_partition(settings, job, partition, plan.period)
    (outcome,) = through_the_daemon(instance, settings, database, plan, partition)
    entries = instance.all_logs(outcome.run_id) if outcome.run_id else []
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    found = run_outcome(partition, outcome.run_id, outcome.success, events)
    return found if outcome.success or found.held else replace(found, error=outcome.why)


def wait_for_the_daemon(instance: dg.DagsterInstance) -> None:
    """Raises PermanentFailure where there is none for ten minutes."""
    _with_daemon(instance, lambda: None)


def _with_daemon(instance: dg.DagsterInstance, do: Callable[[], T]) -> T:
    """Call `do` once a daemon runs, again until it reaches what it needs."""
    given_up, why = time.monotonic() + PATIENCE_S, ""
    while True:
        before, why = why, "there was no daemon"
        try:
            if daemon_alive(instance):
                return do()
        except Exception as error:
            if not is_transient(error):
                raise
            why = str(error) if isinstance(error, TransientFailure) else "the database did not answer"
        if time.monotonic() >= given_up:
            raise PermanentFailure(NO_DAEMON.format(why=why))
        if why != before:
            LOG.warning("Waiting for ten minutes at most, as %s.", why)
        time.sleep(BETWEEN_LOOKS_S)


def _asked_for(
    instance: dg.DagsterInstance, settings: Settings, database: Database, plan: Plan, asked: str | None
) -> dict[str | None, str]:
    """The run of each partition: one under way, one that was asked for before under this key, or a new one.

    One caller at a time, so that two pods of one job do not both ask for a partition.
    """
    with database.connect() as one_at_a_time:
        advisory_lock(one_at_a_time, "irt job", plan.job)
        mine = _mine(instance, settings, plan)
        found = mine | _under_way(instance, plan)
        if asked is not None or not plan.asset:
            chosen = {asked: found[asked]} if asked in found else {}
            wanted = [] if chosen else partitions_to_run(instance, settings, plan, asked)
        else:
            due, wanted = missing(instance, plan, datetime.now(UTC), settings.irt_first_month)
            chosen = {key: run_id for key, run_id in found.items() if key in mine or key in due}
        for partition, run_id in chosen.items():
            LOG.info("%s: waiting for the run %s", name_of_run(plan, partition), run_id)
        tags = {RUN_KEY_TAG: settings.irt_run_key} if settings.irt_run_key else {}
        new = {
            partition: enqueue(instance, settings, plan, partition, tags)
            for partition in wanted
            if partition not in chosen
        }
    return chosen | new


def _mine(instance: dg.DagsterInstance, settings: Settings, plan: Plan) -> dict[str | None, str]:
    """What was asked for before under this key; of a run and its repetitions the first, which leads to the others."""
    if not settings.irt_run_key:
        return {}
    tag = {RUN_KEY_TAG: settings.irt_run_key}
    return {  # the newest come first
        run.tags.get(PARTITION_TAG): run.run_id
        for name in same_job(plan.job)
        for run in instance.get_runs(dg.RunsFilter(job_name=name, tags=tag))
    }


def _under_way(instance: dg.DagsterInstance, plan: Plan) -> dict[str | None, str]:
    repeated = [record.dagster_run for record in to_be_repeated(instance)]
    runs = [*repeated, *instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))]
    return {run.tags.get(PARTITION_TAG): run.run_id for run in runs if job_of(run.job_name) == plan.job}


def _through_outages(do: Callable[[], T]) -> T:
    """Call `do`, again while the database does not answer, for at most ten minutes."""
    outage_began: float | None = None
    while True:
        began = time.monotonic()
        try:
            return do()
        except Exception as error:
            now = time.monotonic()
            if outage_began is None or now - began > PATIENCE_S:
                outage_began = now
            if not is_transient(error) or now - outage_began > PATIENCE_S:
                raise
            LOG.warning("%s; looking again", error)
        time.sleep(BETWEEN_LOOKS_S)
