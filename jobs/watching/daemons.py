"""Whether the daemon is running. What does not belong here: starting it (see `irt_assets.servers.stack`)."""

import time

import dagster as dg

from irt_assets.common.probes import SILENT_S
from resources.dagster_compat import daemon_statuses


def daemon_alive(instance: dg.DagsterInstance) -> bool:
    return daemon_state(instance)[0]


def daemon_state(instance: dg.DagsterInstance) -> tuple[bool, float | None]:
    """Whether the daemon is there, and its oldest heartbeat that counts; None where it never ran. One that is
    ahead of the clock, which was set back, says nothing."""
    statuses = daemon_statuses(instance, SILENT_S)
    beats = [status.last_heartbeat.timestamp if status.last_heartbeat else None for status in statuses]
    seen = min((beat for beat in beats if beat is not None), default=None)
    ahead = seen is not None and seen > time.time() + SILENT_S
    return all(status.healthy for status in statuses) and not ahead, seen
