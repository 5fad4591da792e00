"""What a run's pod does: `irt run worker RUN`, which executes the run in a child process and looks after it.

The run is cancelled where its status says so, even if nothing else can be reached. A pod that is removed without that,
because its node is drained or someone deleted it, ends as if killed: then the run is repeated instead of just stopped.
What does not belong here: making the pod (see `jobs.launching.kubernetes_launcher`).
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from irt_assets.common.environment import instance_environment
from resources.dagster_tables import run_status
from resources.failures import explain
from resources.postgres.database import Database
from resources.settings import Settings, in_a_pod

LOG = logging.getLogger("irt.run")
QUEUED = ("QUEUED", "NOT_STARTED")
STOPPED = ("CANCELED", "FAILURE")
LOOK_S = 5.0
"""How often the status is read."""
LAST_WORDS_S = 30.0
"""How long a run that has ended may take to report it."""
WITHOUT_DATABASE_S = 600.0
TERMINATION_MESSAGE = Path("/dev/termination-log")
"""Kubernetes shows this file's content as the container's termination message."""


def supervise(settings: Settings, database: Database, run_id: str) -> int:
    """Execute the run when it has been launched; the exit code: 0 where it succeeded, or was over before."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    status = _await_launch(database, run_id, stopping)
    if status != "STARTING":
        LOG.info("the run %s is not executed: %s", run_id, (status or "it was not launched in time").lower())
        return 0 if status else 1
    environment = {**os.environ, **instance_environment(settings, database)}
    child = subprocess.Popen([sys.executable, "-m", "irt_assets.runs.run_worker", run_id], env=environment)
    interrupted, over_since, next_look = False, None, 0.0
    while True:
        with suppress(subprocess.TimeoutExpired):
            return _exit_code(child.wait(LOOK_S / 10), expected=over_since is not None or stopping.is_set())
        now = time.monotonic()
        if now < next_look and not stopping.is_set():
            continue
        next_look, status = now + LOOK_S, _status(database, run_id)
        if status == "CANCELING":
            if not interrupted:
                child.send_signal(signal.SIGINT)
            interrupted = True
        elif status in STOPPED:
            over_since = over_since or now
            if now - over_since > LAST_WORDS_S:
                child.kill()
        elif stopping.is_set():
            child.kill()


def _await_launch(database: Database, run_id: str, stopping: threading.Event) -> str | None:
    """The run's status as soon as it is not in the queue; None where this process is to stop, or nobody answers.

    While the API server is away a run may be queued again whose pod was made, and is launched anew in a moment.
    """
    given_up = time.monotonic() + WITHOUT_DATABASE_S
    while True:
        status = _status(database, run_id)
        if status is not None:
            given_up = time.monotonic() + WITHOUT_DATABASE_S
            if status not in QUEUED:
                return status
        if stopping.wait(LOOK_S / 5) or time.monotonic() > given_up:
            return None


def _status(database: Database, run_id: str) -> str | None:
    """None where the database does not answer, or knows no such run."""
    try:
        with database.connect() as connection:
            return run_status(connection, run_id)
    except psycopg.Error as error:
        LOG.warning("the status of the run %s is not known: %s", run_id, explain(error) or error)
        return None


def _exit_code(code: int, *, expected: bool) -> int:
    """This process's exit code. A container's memory limit ends the child first, so this process can report why."""
    if code >= 0:
        return code
    if not expected:
        message = f"the run's process was ended by {signal.Signals(-code).name}: if not by hand, it was out of memory"
        LOG.error("%s", message)
        if in_a_pod():
            with suppress(OSError):
                TERMINATION_MESSAGE.write_text(message, "utf-8")
    return 128 - code


def main() -> None:
    """The child."""
    # Here, as the process that supervises starts without Dagster.
    from jobs.launching.launcher import be_the_first_to_go
    from resources.dagster_compat import execute_launched_run

    be_the_first_to_go()
    sys.exit(execute_launched_run(sys.argv[1]))


if __name__ == "__main__":
    main()
