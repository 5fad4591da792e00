"""Which plans are late, and since when: the only place that decides it. Alerts, `irt status` and the exporter read it.

Light to import, for the exporter. What does not belong here: the words of an alert (see `alerts`), and when a job runs
(see `plans`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
from dagster import deserialize_value

from irt_assets.common.job_names import job_of
from jobs.plans import GRACE, MADE_WITHIN, Plan, last_due, last_tick_before
from resources.dagster_compat import InstigatorState, ScheduleInstigatorData
from resources.dagster_tables import last_made, last_successes, schedules, where_dagster_ran
from resources.postgres.database import one_value


@dataclass(frozen=True)
class Known:
    """What is stored of a plan.

    Attributes:
        is_on: whether its schedule is switched on; `switched_on`: when somebody did it, None if it always was.
        last_tick: the schedule's last tick that did not fail.
        made: when each partition was last made, `succeeded`: when the job's last successful run ended.
        begun: when there was something to do: the first scale.
    """

    is_on: bool = False
    switched_on: datetime | None = None
    last_tick: datetime | None = None
    made: Mapping[str, datetime] = field(default_factory=dict)
    succeeded: datetime | None = None
    begun: datetime | None = None

    def owes(self, tick: datetime) -> bool:
        return self.is_on and (self.switched_on is None or self.switched_on <= tick)


@dataclass(frozen=True)
class Unmade:
    """A partition that a tick over 25 hours ago should have made, and did not."""

    partition: str
    tick: datetime


@dataclass(frozen=True)
class Lateness:
    """How a plan is late; nothing is set if it is in time.

    Attributes:
        silent_since: the time at which its schedule, which is on, did not tick.
        unmade: what its schedule, which is on, asked for or should have, and what is not there.
        overdue_since: since when the job's result is missing, whoever starts the job.
    """

    silent_since: datetime | None = None
    unmade: Unmade | None = None
    overdue_since: datetime | None = None

    @property
    def of_schedule(self) -> bool:
        return self.silent_since is not None or self.unmade is not None


def lateness(plan: Plan, known: Known, now: datetime, first_month: str) -> Lateness:
    """How a plan is late.

    A schedule owes nothing from before it was switched on, and a tick that requested nothing is fine if the partition
    was there. Nothing was due before the first scale.
    """
    missed, tick = last_tick_before(now - GRACE, plan), last_tick_before(now - MADE_WITHIN, plan)
    is_silent = known.owes(missed) and not _is_since(known.last_tick, missed)
    asked = plan.newest_due(tick, first_month)
    is_unmade = asked is not None and known.owes(tick) and not _is_since(known.made.get(asked[0]), asked[1])
    return Lateness(
        silent_since=missed if is_silent else None,
        unmade=Unmade(asked[0], tick) if asked is not None and is_unmade else None,
        overdue_since=_overdue_since(plan, known, now, first_month),
    )


def _overdue_since(plan: Plan, known: Known, now: datetime, first_month: str) -> datetime | None:
    tick = last_due(plan, now)
    newest = plan.newest_due(tick, first_month)
    if newest is None and plan.asset:
        return None
    partition, due = newest or ("", tick)
    made = known.made.get(partition) if plan.asset else known.succeeded
    was_due = known.begun is not None and known.begun <= due
    return due if was_due and not _is_since(made, due) else None


def read_lateness(
    connection: psycopg.Connection, plans: Sequence[Plan], first_month: str, now: datetime
) -> dict[Plan, Lateness]:
    """How each of `plans` is late, by what Dagster's tables hold; where Dagster never ran they hold nothing."""
    stored = where_dagster_ran(connection, lambda here: schedules(here, now)) or []
    ticked = [(deserialize_value(body, InstigatorState), last_tick) for body, last_tick in stored]
    states = {state.instigator_name: (state, last_tick) for state, last_tick in ticked}
    wanted = {
        (plan, newest[0])
        for plan in plans
        for tick in (last_due(plan, now), last_tick_before(now - MADE_WITHIN, plan))
        if (newest := plan.newest_due(tick, first_month)) is not None
    }
    assets = [(plan.asset, partition) for plan, partition in wanted]
    made = where_dagster_ran(connection, lambda here: last_made(here, assets)) or {}
    ended = where_dagster_ran(connection, last_successes) or {}
    succeeded = {job_of(job): datetime.fromtimestamp(end, UTC) for job, end in ended.items()}
    begun = one_value(connection, "SELECT min(initialised_at) FROM calibration_scale")
    found = {}
    for plan in plans:
        state, last_tick = states.get(plan.name) or (None, None)
        known = Known(
            is_on=state is not None and state.is_running,
            switched_on=_switched_on(state),
            last_tick=last_tick,
            made={partition: at for (asset, partition), at in made.items() if asset == plan.asset},
            succeeded=succeeded.get(plan.job),
            begun=begun,
        )
        found[plan] = lateness(plan, known, now, first_month)
    return found


def _switched_on(state: InstigatorState | None) -> datetime | None:
    """When somebody switched a schedule on; None if it always was."""
    data = state.instigator_data if state else None
    begun = data.start_timestamp if isinstance(data, ScheduleInstigatorData) else None
    return datetime.fromtimestamp(begun, UTC) if begun else None


def _is_since(time: datetime | None, since: datetime) -> bool:
    return time is not None and time >= since
