"""Stale months made again on request: a run of each in the daemon's queue, in a person's name.

What does not belong here: which months are stale (see `gates.month_status`), and who may ask.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from irt_assets.common.environment import CODE_LOCATION, workspace
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.gates.month_judged import State
from irt_assets.gates.month_status import month_states
from jobs.daemons import daemon_alive
from jobs.launched_by import LAUNCHED_BY
from resources.dagster_compat import queue_run
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock
from resources.settings import Settings


def make_again(
    instance: dg.DagsterInstance, database: Database, settings: Settings, months: Sequence[str], by: str
) -> list[str]:
    """Queue a run of each of `months` that is stale, in the name of `by`; the months that were queued.

    One caller at a time, and a month whose run is queued or under way is not stale: asking twice counts once. Raises
    PermanentFailure where there is no daemon, and TransientFailure where the code server does not answer.
    """
    if not daemon_alive(instance):
        raise PermanentFailure("no daemon runs, so nothing was queued")
    with database.connect() as one_at_a_time:
        advisory_lock(one_at_a_time, "irt job", MONTHLY_JOB)
        states = month_states(database, instance, months)
        stale = sorted({one.month for one in states if one.state is State.STALE})
        for month in stale:
            tags = {PARTITION_TAG: month, LAUNCHED_BY: by}
            queue_run(instance, workspace(settings), CODE_LOCATION, MONTHLY_JOB, tags)
    return stale
