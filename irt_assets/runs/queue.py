"""Runs in the daemon's queue.

This module does not load the graph, because that takes time and memory, and the dashboard does not need it.
"""

from collections.abc import Callable, Mapping, Sequence

import dagster as dg

from irt_assets.common.environment import CODE_LOCATION, workspace
from irt_assets.common.job_names import JUDGE_JOB, MONTHLY_JOB
from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from jobs.launching.launched_by import LAUNCHED_BY
from jobs.plans import Plan, find_plan
from jobs.watching.daemons import daemon_alive
from jobs.watching.stuck_runs import QUEUE_STATUSES
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


def queue_judging(instance: dg.DagsterInstance, settings: Settings, database: Database) -> str:
    """Queue a run that judges the days that have changed. Returns its id, or the id of a run that is already queued.

    Runs under way do not count, because they have already chosen their days. Raises PermanentFailure if no daemon runs,
    and TransientFailure if the code server does not respond.
    """
    if not daemon_alive(instance):
        raise PermanentFailure("no daemon runs")
    plan = find_plan(JUDGE_JOB)
    with database.connect() as one_at_a_time:
        advisory_lock(one_at_a_time, "irt job", plan.job)
        if runs := instance.get_runs(dg.RunsFilter(job_name=plan.job, statuses=QUEUE_STATUSES), limit=1):
            return runs[0].run_id
        return enqueue(instance, settings, plan, None, {})


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
