"""Months that are stale, made again on request: a run of each in the daemon's queue, and how far it is.

What does not belong here: which months are stale (see `calibration.month_status`), and who may ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dagster as dg

from irt_assets.calibration.month_status import MonthState, State, month_states
from irt_assets.environment import CODE_LOCATION, workspace
from irt_assets.job_names import MONTHLY_JOB
from irt_assets.partitions import months_between
from irt_assets.run_progress import PARTITION_TAG
from irt_assets.wording import listed
from jobs.daemons import daemon_alive
from jobs.launched_by import LAUNCHED_BY
from resources.dagster_compat import queue_run
from resources.database import Database, advisory_lock
from resources.failures import PermanentFailure
from resources.settings import Settings

MOST_NAMED = 5


def months_in(states: Iterable[MonthState], state: State) -> list[str]:
    """The months that are in this state on any scale, oldest first."""
    return sorted({one.month for one in states if one.state is state})


def span(months: Sequence[str]) -> str:
    """Months in a row by the first and the last, others one by one."""
    in_a_row = len(months) > 1 and [*months_between(months[0], months[-1])] == [*months]
    return f"{months[0]} … {months[-1]}" if in_a_row else listed(months, MOST_NAMED)


def command(months: Sequence[str]) -> str:
    """What makes them here and now, without a daemon."""
    if "…" in span(months):
        return f"`irt backfill --from {months[0]} --to {months[-1]}`"
    return ", ".join(f"`irt calibrate --month {month}`" for month in months)


def make_again(
    instance: dg.DagsterInstance, database: Database, settings: Settings, months: Sequence[str], by: str
) -> list[str]:
    """Queue a run of each of `months` that is stale, in the name of `by`; the months that were queued.

    One caller at a time, and a month whose run is queued or under way is not stale: asking twice counts once. Raises
    PermanentFailure where there is no daemon, and TransientFailure where the code server does not answer.
    """
    if not daemon_alive(instance):
        raise PermanentFailure(f"no daemon runs, so nothing was queued: {command(months)}")
    with database.connect() as one_at_a_time:
        advisory_lock(one_at_a_time, "irt job", MONTHLY_JOB)
        stale = months_in(month_states(database, instance, months), State.STALE)
        for month in stale:
            tags = {PARTITION_TAG: month, LAUNCHED_BY: by}
            queue_run(instance, workspace(settings), CODE_LOCATION, MONTHLY_JOB, tags)
    return stale


def newest_runs(instance: dg.DagsterInstance, months: Iterable[str]) -> dict[str, dg.RunRecord]:
    """The newest run of the monthly job for each month that has one."""
    found: dict[str, dg.RunRecord] = {}
    for month in months:
        chosen = dg.RunsFilter(job_name=MONTHLY_JOB, tags={PARTITION_TAG: month})
        found.update((month, record) for record in instance.get_run_records(chosen, limit=1))
    return found
