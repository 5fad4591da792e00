"""Dagster's daemon, once per database: `python -m irt_assets.servers.daemon run -w WORKSPACE`.

It replaces `dagster-daemon`. It waits a minute for another daemon to end, and then refuses to start. On SIGHUP, and
when it has lost its lock (see `daemon_lock`), it shuts down cleanly and starts again with the same process id.
"""

import logging
import os
import signal
import sys
import threading
import time
from functools import partial

from irt_assets.common.probes import DAEMONS, daemon
from resources.dagster_compat import reconfigure_logs, run_daemon
from resources.failures import PermanentFailure, TransientFailure
from resources.files.folder_claim import open_store
from resources.postgres.daemon_lock import REFUSED_STATUS, TIMEOUT_S, DaemonLock
from resources.postgres.database import Database
from resources.postgres.open_database import open_database
from resources.serving import logs, metrics
from resources.serving.service_manager import report_to_service_manager, restart_process, stop_on_hangup
from resources.settings import get_settings

LOG = logging.getLogger(__name__)
CHECK_INTERVAL_S = 3.0
STOP_TIMEOUT_S = 6.0
"""Seconds for a clean shutdown. With the lock's `tcp_user_timeout` added, this stays below the 25 s after which the
server gives the lock to another daemon."""


def main(patience_s: float = TIMEOUT_S) -> None:
    os.umask(0o077)
    logs.configure()
    reconfigure_logs(logs.configure)
    settings = get_settings()
    database = Database(settings)
    lock = DaemonLock(database)
    report_to_service_manager(ended_part, ready=partial(daemon, database, time.time()))
    try:
        _acquire(lock, patience_s)  # first, because it waits for a database that is still starting
        open_database(settings)
        open_store(settings, database)
    except PermanentFailure as refusal:
        LOG.error("%s", refusal)  # noqa: TRY400 - people read the sentence, without a traceback
        sys.exit(REFUSED_STATUS)
    metrics.serve(metrics.server_registry(), settings.metrics_port("daemon"), "IRT_EXPORTER_METRICS_PORT")
    restart = stop_on_hangup(lambda: os.kill(os.getpid(), signal.SIGTERM))
    threading.Thread(target=_watch, args=(lock, restart), daemon=True).start()
    try:
        run_daemon()
    finally:
        if restart.is_set():
            restart_process()


def ended_part() -> str | None:
    """A message that names the parts of the daemon whose threads have ended while others run. Returns None if all parts
    run, or no part."""
    alive = {thread.name for thread in threading.enumerate()}
    ended = [part for part in DAEMONS if f"dagster-daemon-{part}" not in alive]
    return None if len(ended) in (0, len(DAEMONS)) else f"{', '.join(ended)} of the daemon ended"


def _acquire(lock: DaemonLock, patience_s: float) -> None:
    """Acquire the lock. If the database does not answer, wait without limit, because a restart would not help."""
    while True:
        try:
            return lock.acquire(patience_s)
        except TransientFailure:
            continue


def _watch(lock: DaemonLock, restart: threading.Event) -> None:
    """Restart this process when the lock is lost, because another daemon may hold it by now."""
    while lock.is_held():
        time.sleep(CHECK_INTERVAL_S)
    LOG.error("The connection that holds the daemon's lock was lost: restarting.")
    restart.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_TIMEOUT_S)
    restart_process()


if __name__ == "__main__":
    main()
