"""Schedules as Dagster stores them, switched on and with their ticks, and a daemon that is alive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from irt_assets.common.probes import DAEMONS
from jobs.plans import Plan
from resources.dagster_compat import InstigatorState, InstigatorType, ScheduleInstigatorData, TickStatus
from tests.helpers.dagster_private import (
    DaemonHeartbeat,
    InstigatorStatus,
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
    TickData,
)


def daemon_lives(instance: dg.DagsterInstance) -> None:
    """Every part of the daemon has just sent a heartbeat."""
    for part in DAEMONS:
        instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp(), part, "d", []))


def switch_on(instance: dg.DagsterInstance, plan: Plan, since: datetime) -> InstigatorState:
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("irt_assets"), "__repository__")
    state = InstigatorState(
        RemoteInstigatorOrigin(location, plan.name),
        InstigatorType.SCHEDULE,
        InstigatorStatus.RUNNING,
        ScheduleInstigatorData(plan.cron, since.timestamp()),
    )
    if not instance.get_instigator_state(state.instigator_origin_id, state.selector_id):
        instance.add_instigator_state(state)
    return state


def tick(
    instance: dg.DagsterInstance, state: InstigatorState, at: datetime, status: TickStatus, runs: Sequence[str] = ()
) -> None:
    instance.create_tick(
        TickData(
            state.instigator_origin_id,
            state.instigator_name,
            InstigatorType.SCHEDULE,
            status,
            at.timestamp(),
            run_ids=list(runs),
            error=SerializableErrorInfo("made up", [], None) if status is TickStatus.FAILURE else None,
            selector_id=state.selector_id,
        )
    )
