"""State of Dagster's daemon. `irt_assets.servers.stack` starts it."""

from datetime import UTC, datetime

import dagster as dg

from irt_assets.common.probes import DAEMONS, daemon_silence


def daemon_alive(instance: dg.DagsterInstance) -> bool:
    return daemon_state(instance)[0]


def daemon_state(instance: dg.DagsterInstance) -> tuple[bool, datetime | None]:
    """Return whether the daemon is alive, and the oldest heartbeat of its parts (None if it never ran)."""
    beats = {name: beat.timestamp for name, beat in instance.get_daemon_heartbeats().items() if name in DAEMONS}
    return daemon_silence(beats) is None, datetime.fromtimestamp(min(beats.values()), UTC) if beats else None
