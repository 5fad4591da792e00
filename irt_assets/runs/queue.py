"""Runs in the daemon's queue.

This module does not load the graph, because that takes time and memory, and the dashboard does not need it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from irt_assets.common.environment import CODE_LOCATION, workspace
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from jobs.launching.launched_by import LAUNCHED_BY
from jobs.plans import Plan, find_plan
from jobs.watching.daemons import daemon_alive
from resources.dagster_compat import queue_run
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock
from resources.settings import Settings


def queue_stale_months(
    instance: dg.DagsterInstance, settings: Settings, database: Database, months: Sequence[str], by: str
) -> list[str]:
    """Queue a run, in the name of `by`, for each of `months` that is stale. Returns the queued months.

    A month whose run is queued or under way is not stale, so a second call queues nothing. Raises PermanentFailure if
    there is no daemon, and TransientFailure if the code server does not respond.
    """
    if not daemon_alive(instance):
        raise PermanentFailure("no daemon runs, so nothing was queued: start the daemon")
    plan = find_plan(MONTHLY_JOB)
    with database.connect() as one_at_a_time:
        advisory_lock(one_at_a_time, "irt job", plan.job)
        states = month_states(database, instance, months)
        stale = sorted({state.month for state in states if state.state is State.STALE})
        for month in stale:
            enqueue(instance, settings, plan, month, {LAUNCHED_BY: by})
    return stale


def queue_once(
    instance: dg.DagsterInstance,
    settings: Settings,
    database: Database,
    job: str,
    statuses: Sequence[dg.DagsterRunStatus],
    tags: Mapping[str, str],
) -> str:
    """Queue a run of the job, for the newest partition that is due if the job has partitions, so that it runs once.

    Returns the run's id, or the id of an earlier run of the job that has one of `statuses`. Raises PermanentFailure if
    no daemon runs, and TransientFailure if the code server does not respond.
    """
    if not daemon_alive(instance):
        raise PermanentFailure("no daemon runs")
    plan = find_plan(job)
    newest, _ = plan.newest_due(datetime.now(UTC), settings.irt_first_month) or (None, None)
    with database.connect() as one_at_a_time:
        advisory_lock(one_at_a_time, "irt job", plan.job)
        if runs := instance.get_runs(dg.RunsFilter(job_name=plan.job, statuses=statuses), limit=1):
            return runs[0].run_id
        return enqueue(instance, settings, plan, newest, tags)


def enqueue(
    instance: dg.DagsterInstance,
    settings: Settings,
    plan: Plan,
    partition: str | None,
    tags: Mapping[str, str],
    *,
    instead: Callable[[], str | None] = lambda: None,
) -> str:
    """Queue a run of a partition for the daemon.

    Returns its id, or the id of the run that `instead` finds before it is queued.
    """
    tags = {**tags, **({PARTITION_TAG: partition} if partition else {})}
    return queue_run(instance, workspace(settings), CODE_LOCATION, plan.job, tags, instead=instead)
