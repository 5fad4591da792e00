"""The run launcher: it starts run workers through the code server, and detects dead workers.

Dagster's own launcher leaves a run "started" forever if its worker dies together with the code server that would have
reported it. Here a worker is identified by host, boot, process id and start time, so that neither a reused process id
nor a process of another machine is mistaken for it. Start times count from boot, because the wall clock may be changed
during a run; no worker survives a reboot. `run_monitoring` in dagster.yaml sets how often the daemon checks workers.
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
"""Run tag, hidden in the UI: JSON with the worker's `host` and `boot` and, once known, its `pid` and `started`."""

WORKER_OOM_SCORE_ADJ = "500"
START_TOLERANCE_S = 3.0
"""Seconds by which two readings of a process's start may differ. The time of boot is truncated to a whole second, so it
may change by one when the clock is adjusted; a comparison depends on several readings."""


def process_start(pid: int) -> float | None:
    """Seconds from boot to the start of a process. Returns None if the process does not exist or is a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return process.create_time() - psutil.boot_time()
    except psutil.NoSuchProcess:
        return None


def boot_id() -> str:
    """The id of this machine's current boot; empty if the kernel does not provide it."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text("ascii").strip() if path.exists() else ""


def own_worker_tags() -> dict[str, str]:
    """Tags for a run that this process executes itself.

    If the process dies, the run fails as usual but is not repeated: the person who started it sees that it ended.
    """
    pid = os.getpid()
    worker = {**_this_boot(), "pid": pid, "started": process_start(pid)}
    return {WORKER_TAG: json.dumps(worker), MAX_RETRIES_TAG: "0"}


def prefer_as_oom_victim() -> None:
    """Let the kernel kill this run worker before the code server, which shares its memory limit."""
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text(WORKER_OOM_SCORE_ADJ, "ascii")


def _this_boot() -> dict[str, str]:
    return {"host": socket.gethostname(), "boot": boot_id()}


class HealthCheckedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher with a health check: a run whose worker was killed fails at the next poll."""

    def register_instance(self, instance: DagsterInstance) -> None:
        """Set up logging: in the daemon and the webserver, this is the first call of our code."""
        logs.configure()
        super().register_instance(instance)

    def launch_run(self, context: LaunchRunContext) -> None:
        self._instance.add_run_tags(context.dagster_run.run_id, {WORKER_TAG: json.dumps(_this_boot())})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return FAILED if the worker is known to be dead, else RUNNING: the daemon fails a run with any other status.

        A worker on another host cannot be checked from here, so only `max_runtime_seconds` limits its run.
        """
        if not self.can_see(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"worker on {self.host_of(run)}: not seen from here")
        worker = self._worker(run)
        if _is_alive(worker):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.FAILED,
            f"the run worker (pid {worker.get('pid')}) died without an error message: killed, or out of memory",
        )

    def host_of(self, run: DagsterRun) -> str:
        """Host of the run's worker; `an unknown host` if there is no record of it."""
        return self._worker(run).get("host", "an unknown host")

    def can_see(self, run: DagsterRun) -> bool:
        """Whether the run's worker is on this host, so that its process can be checked."""
        return self.host_of(run) == socket.gethostname()

    def has_process_id(self, run: DagsterRun) -> bool:
        """Whether the process id of the run's worker is known."""
        return "pid" in self._worker(run)

    def is_lost(self, run: DagsterRun) -> bool:
        """Whether the run's worker is on this host and is not alive: it is dead, or has not started yet."""
        return self.can_see(run) and not _is_alive(self._worker(run))

    def terminate(self, run_id: str) -> bool:
        """Stop the run through the code server. If that fails, interrupt a worker on this host directly.

        Returns whether the run was asked to stop.
        """
        with suppress(DagsterError):
            if super().terminate(run_id):
                return True
        run = self._instance.get_run_by_id(run_id)
        worker = self._worker(run) if run else {}
        if worker.get("host") != socket.gethostname() or not _is_alive(worker):
            return False
        os.kill(worker["pid"], signal.SIGINT)
        return True

    def _worker(self, run: DagsterRun) -> dict[str, Any]:
        """The record of the run's worker. The process id and start of a worker on this host are added when known."""
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
                worker["started"] = None  # a later process got the worker's id
            self._instance.add_run_tags(run.run_id, {WORKER_TAG: json.dumps(worker)})
            break
        return worker


def _is_alive(worker: dict[str, Any]) -> bool:
    if worker.get("started") is None or worker.get("boot") != boot_id():
        return False
    started = process_start(worker["pid"])
    return started is not None and abs(started - worker["started"]) < START_TOLERANCE_S
