"""The run launcher: starts run workers through the code server and notices when one is gone.

What belongs here: who a run's worker is, whether it lives, how it is stopped. What does not: how often
the daemon asks and what it does with the answer (`run_monitoring` in dagster.yaml).

Dagster's own launcher leaves a run "started" for ever when its worker and the code server that would
have reported it die together. Here a worker is known by host, boot, process id and start time, so that
neither a reused process id nor another machine's processes are mistaken for it. Start times are counted
from boot, because the wall clock may be set while a run is going on; after a reboot nothing lives on.
"""

import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from dagster import DagsterError, DagsterEventType, DagsterInstance, DagsterRun, DefaultRunLauncher

from resources.dagster_compat import (
    HIDDEN_TAG_PREFIX,
    MAX_RETRIES_TAG,
    CheckRunHealthResult,
    LaunchRunContext,
    WorkerStatus,
)
from resources.serving import logs

WORKER_TAG = f"{HIDDEN_TAG_PREFIX}irt_run_worker"
"""Run tag, hidden in the UI: JSON with `host` and `boot` and, once it was seen alive, `pid` and `started`."""

WORKER_OOM_SCORE_ADJ = "500"
START_TOLERANCE_S = 3.0
"""Seconds. The time of boot is cut to a whole second, so it moves by one when the clock is adjusted; it is read four
times."""


def process_start(pid: int) -> float | None:
    """Seconds from boot to the start of a living process; None where there is none, or only a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return process.create_time() - psutil.boot_time()
    except psutil.NoSuchProcess:
        return None


def boot_id() -> str:
    """The id of this machine's boot; empty if the kernel has none."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text("ascii").strip() if path.exists() else ""


def own_worker_tags() -> dict[str, str]:
    """Tags for a run that this very process executes.

    Its death is noticed like any other's, but the run is not repeated: the person who started it sees that it ended.
    """
    pid = os.getpid()
    worker = {**_here(), "pid": pid, "started": process_start(pid)}
    return {WORKER_TAG: json.dumps(worker), MAX_RETRIES_TAG: "0"}


def be_the_first_to_go() -> None:
    """In a run worker: let the kernel end this process before the code server, whose memory limit it shares."""
    with suppress(OSError):  # no Linux
        Path("/proc/self/oom_score_adj").write_text(WORKER_OOM_SCORE_ADJ, "ascii")


def _here() -> dict[str, str]:
    return {"host": socket.gethostname(), "boot": boot_id()}


class HealthCheckedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, and a worker that was killed fails its run within one monitoring poll."""

    def register_instance(self, instance: DagsterInstance) -> None:
        """The first of our code that runs in the daemon and the webserver: it sets up their logs."""
        logs.configure()
        super().register_instance(instance)

    def launch_run(self, context: LaunchRunContext) -> None:
        self._instance.add_run_tags(context.dagster_run.run_id, {WORKER_TAG: json.dumps(_here())})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED where the worker is known to be gone, else RUNNING: the daemon fails a run on anything else.

        A worker on another host cannot be seen from here, so its run is left to `max_runtime_seconds`.
        """
        if not self.sees(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"worker on {self.host_of(run)}: not seen from here")
        worker = self._worker(run)
        if _alive(worker):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED,
            f"the run worker (pid {worker.get('pid')}) died without an error message: killed, or out of memory",
        )

    def host_of(self, run: DagsterRun) -> str:
        """Where the run's worker is; `an unknown host` where it left no record."""
        return self._worker(run).get("host", "an unknown host")

    def sees(self, run: DagsterRun) -> bool:
        """Whether the run's worker is on this host, where it can be seen whether it lives."""
        return self.host_of(run) == socket.gethostname()

    def was_seen(self, run: DagsterRun) -> bool:
        """Whether the run's worker was ever heard of."""
        return "pid" in self._worker(run)

    def is_lost(self, run: DagsterRun) -> bool:
        """Whether the run's worker is on this host and does not live: gone, or not there yet."""
        return self.sees(run) and not _alive(self._worker(run))

    def terminate(self, run_id: str) -> bool:
        """Ask the code server to stop the run; a worker that outlived its code server is asked directly."""
        with suppress(DagsterError):
            if super().terminate(run_id):
                return True
        run = self._instance.get_run_by_id(run_id)
        worker = self._worker(run) if run else {}
        if worker.get("host") != socket.gethostname() or not _alive(worker):
            return False
        os.kill(worker["pid"], signal.SIGINT)
        return True

    def _worker(self, run: DagsterRun) -> dict[str, Any]:
        """The worker on record; one of this host is put on record when it is first seen."""
        worker: dict[str, Any] = json.loads(run.tags.get(WORKER_TAG, "{}"))
        if worker.get("host") != socket.gethostname() or "pid" in worker:
            return worker
        for event in self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
            pid = event.get_dagster_event().engine_event_data.metadata.get("pid")
            if pid is None:
                continue
            worker["pid"] = int(str(pid.value))
            worker["started"] = process_start(worker["pid"])
            first_word = event.timestamp - psutil.boot_time()
            if worker["started"] is not None and worker["started"] > first_word + START_TOLERANCE_S:
                worker["started"] = None  # a later process was given the worker's id
            self._instance.add_run_tags(run.run_id, {WORKER_TAG: json.dumps(worker)})
            break
        return worker


def _alive(worker: dict[str, Any]) -> bool:
    if worker.get("started") is None or worker.get("boot") != boot_id():
        return False
    started = process_start(worker["pid"])
    return started is not None and abs(started - worker["started"]) < START_TOLERANCE_S
