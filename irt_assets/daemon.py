"""Dagster's daemon, once for a database: `python -m irt_assets.daemon run -w WORKSPACE`, instead of `dagster-daemon`.

It waits a minute for another one to end, then refuses. On SIGHUP it shuts down cleanly and starts again. What does not
belong here: the lock (see `daemon_lock`), who starts the daemon again (see `stack`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import psycopg
from dagster._daemon.cli import main as dagster_daemon
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from irt_assets.probes import daemon, heartbeats
from resources import logs, metrics
from resources.daemon_lock import PATIENCE_S, REFUSED, DaemonLock
from resources.database import Database
from resources.failures import PermanentFailure
from resources.folder_claim import open_store
from resources.schema_version import open_database
from resources.service_manager import keep_told, start_anew, stop_on_hangup
from resources.settings import get_settings

LOG = logging.getLogger(__name__)
LOOK_S = 3.0
STOPS_WITHIN_S = 6.0
"""Together with the lock's `tcp_user_timeout` less than the 25 s after which the server gives the lock to another."""


def main(patience_s: float = PATIENCE_S) -> None:
    os.umask(0o077)
    logs.configure()
    settings = get_settings()
    database = Database(settings)
    lock = DaemonLock(database)
    try:
        lock.acquire(patience_s)  # first, as it waits for a database that is being started
        open_database(settings)
        open_store(settings, database)
    except PermanentFailure as refusal:
        LOG.error("%s", refusal)  # noqa: TRY400 - a sentence for people
        sys.exit(REFUSED)
    threading.Thread(target=_watch, args=(lock,), daemon=True).start()
    registry = metrics.server_registry()
    registry.register(Heartbeats(database))
    metrics.show(registry, settings.irt_daemon_metrics_port, "IRT_DAEMON_METRICS_PORT")
    keep_told(partial(daemon, database, time.time()))
    again = stop_on_hangup(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        dagster_daemon()
    finally:
        if again.is_set():
            start_anew()


class Heartbeats(Collector):
    """The age of each part's, as the database has it; none where that is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "irt_daemon_part_heartbeat_age_seconds", "Since the part's last sign of life.", labels=["part"]
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        (ages,) = self.describe()
        try:
            with self._database.connect() as connection:
                beats = heartbeats(connection)
        except (psycopg.Error, PermanentFailure):
            beats = {}
        for part, beat in beats.items():
            ages.add_metric([part], time.time() - beat)
        yield ages


def _watch(lock: DaemonLock) -> None:
    """Stop this process when the lock is lost: another daemon may have it by now."""
    while lock.is_held():
        time.sleep(LOOK_S)
    LOG.error("The connection that holds the daemon's lock is gone; stopping, to be started again.")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOPS_WITHIN_S)
    os._exit(1)


if __name__ == "__main__":
    main()
