"""A running stack, with methods that launch runs and backfills over GraphQL, wait, and find and kill processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import psutil
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter

from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.servers import run_workers, supervisor as supervisor_module
from irt_assets.servers.claims import StackError
from irt_assets.servers.instance import dagster_instance
from irt_assets.servers.server_commands import DAEMON
from irt_assets.servers.stack import Stack
from resources.dagster_compat import MAX_RETRIES_TAG
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.open_database import open_database
from resources.settings import Settings
from tests.testbed.patience import patient

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "irt_assets"}
FINISHED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
QUEUE_IS_LOOKED_AT = b"Priority sorting"
"""Text that Dagster's daemon logs on each pass through a queue with runs."""
T = TypeVar("T")


def wait_for(subject: str, probe: Callable[[], T | None], timeout: float = 60.0, pause: float = 0.1) -> T:
    """Wait until `probe` returns a true value, and return it. Raises TimeoutError, which names `subject`.

    `timeout` applies to an idle machine, in seconds.
    """
    timeout = patient(timeout)
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{subject}: not within {timeout:.0f} s")
        time.sleep(pause)


@dataclass
class Harness:
    """A self-supervising stack and its Dagster instance."""

    settings: Settings
    database: Database
    stack: Stack
    instance: DagsterInstance

    # -- requests, as from the UI -----------------------------------------------------------------
    def launch(self, job: str, month: str, assets: Sequence[str] = (), **tags: str) -> str:
        """Queue a run of a month: the whole job with its checks, or some assets without checks. Returns its id.

        Unless `tags` say otherwise, the run is not repeated if its worker is killed, so a test can examine the state.
        """
        selection: dict[str, Any] = {}
        if assets:
            selection = {"assetSelection": [{"path": [name]} for name in assets], "assetCheckSelection": []}
        answer = self.stack.graphql(
            """mutation ($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) { __typename
               ... on LaunchRunSuccess { run { runId } } ... on Error { message }
               ... on RunConfigValidationInvalid { errors { message } } } }""",
            {
                "p": {
                    "selector": {**REPOSITORY, "jobName": job, **selection},
                    "runConfigData": "{}",
                    "executionMetadata": {"tags": _pairs({PARTITION_TAG: month, MAX_RETRIES_TAG: 0, **tags})},
                }
            },
        )["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def launch_when_up(self, job: str, month: str, assets: Sequence[str] = (), timeout: float = 60, **tags: str) -> str:
        """Launch as soon as the servers respond again."""

        def attempt() -> str | None:
            try:
                return self.launch(job, month, assets, **tags)
            except (OSError, AssertionError, StackError):
                # The daemon fails a run that was created and not queued after start_timeout_seconds.
                for run in self.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.NOT_STARTED])):
                    self.instance.delete_run(run.run_id)
                return None

        return wait_for("the servers to come back", attempt, timeout, pause=0.5)

    def backfill(self, assets: Sequence[str], months: Sequence[str]) -> str:
        """Request a backfill. Returns its id."""
        answer = self.stack.graphql(
            """mutation ($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) { __typename
               ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            {"p": {"assetSelection": [{"path": [name]} for name in assets], "partitionNames": list(months)}},
        )["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return answer["backfillId"]

    def backfill_status(self, backfill_id: str) -> str:
        return self.stack.graphql(
            "query ($id: String!) { partitionBackfillOrError(backfillId: $id) {"
            " ... on PartitionBackfill { status } } }",
            {"id": backfill_id},
        )["partitionBackfillOrError"]["status"]

    def terminate(self, run_id: str) -> str:
        return self.stack.graphql(
            "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }", {"id": run_id}
        )["terminateRun"]["__typename"]

    def wait_for_queue_polls(self, times: int = 2) -> None:
        """Wait until the daemon has gone through its non-empty queue `times` times."""
        log = self.stack.logs / "daemon.log"

        def looks() -> int:
            return log.read_bytes().count(QUEUE_IS_LOOKED_AT)

        expected = looks() + times
        wait_for("the daemon to look at its queue", lambda: looks() >= expected)

    # -- runs and processes -----------------------------------------------------------------------
    def status(self, run_id: str) -> DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None, run_id
        return run.status

    def until(self, run_id: str, *statuses: DagsterRunStatus, timeout: float = 240.0) -> DagsterRunStatus:
        """Wait for one of `statuses`. If the run finishes with another status, raises an error with its log."""

        def probe() -> DagsterRunStatus | None:
            status = self.status(run_id)
            assert status in statuses or status not in FINISHED, f"{status.value}\n{self.log(run_id)}"
            return status if status in statuses else None

        try:
            return wait_for(f"run {run_id} to be {statuses}", probe, timeout, pause=0.25)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {self.status(run_id)}\n{self.log(run_id)}") from None

    def finished(self, run_id: str, timeout: float = 240.0) -> DagsterRunStatus:
        return self.until(run_id, *FINISHED, timeout=timeout)

    def log(self, run_id: str, last: int = 15) -> str:
        lines = []
        for event in self.instance.all_logs(run_id)[-last:]:
            data = event.dagster_event.event_specific_data if event.dagster_event else None
            error = getattr(data, "error", None)
            lines.append(event.user_message + (f"\n{error.to_string()}" if error else ""))
        return "\n".join(lines)

    def step_started(self, run_id: str, step: str, timeout: float = 240.0) -> None:
        def probe() -> bool:
            started = self.instance.all_logs(run_id, of_type=DagsterEventType.STEP_START)
            return any(event.step_key == step for event in started)

        wait_for(f"step {step} of run {run_id}", probe, timeout)

    def worker(self, run_id: str) -> psutil.Process:
        """The process that executes a run, from the run's events."""

        def probe() -> psutil.Process | None:
            for event in self.instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT):
                pid = event.get_dagster_event().engine_event_data.metadata.get("pid")
                if pid is not None:
                    return psutil.Process(int(str(pid.value)))
            return None

        return wait_for(f"worker of run {run_id}", probe)

    def workers(self) -> list[psutil.Process]:
        """All running run workers, including workers that have not logged yet or whose code server is gone."""
        groups = {process.pid for process in self.stack.supervisor.started}
        return [
            process
            for process in psutil.process_iter(["name", "status"])
            if process.info["name"] == run_workers.NAME
            and process.info["status"] != psutil.STATUS_ZOMBIE
            and _group_of(process) in groups
        ]

    def kill(self, *victims: psutil.Process) -> float:
        """Send SIGKILL to all victims at once. Returns the time.

        Raises ProcessLookupError and kills no process if a victim has already ended.
        """
        stopped: list[psutil.Process] = []
        try:
            for victim in victims:  # no victim may notice another's death
                os.kill(victim.pid, signal.SIGSTOP)
                stopped.append(victim)
        except ProcessLookupError:
            for victim in stopped:
                os.kill(victim.pid, signal.SIGCONT)
            raise
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        return time.monotonic()

    def server(self, name: str) -> psutil.Process:
        """The process of a server. Waits for a server that is being restarted."""
        return wait_for(f"the {name}", lambda: self.running(name))

    def running(self, name: str) -> psutil.Process | None:
        """The process of a server, or None if it is not running now."""
        process = self.stack.supervisor.children[name].process
        if process is None or process.poll() is not None:
            return None
        try:
            return psutil.Process(process.pid)
        except psutil.NoSuchProcess:
            return None


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _pairs(tags: dict[str, Any]) -> list[dict[str, str]]:
    return [{"key": key, "value": str(value)} for key, value in tags.items()]


@contextmanager
def running_stack(settings: Settings, module: str, daemon: str = DAEMON) -> Iterator[Harness]:
    """Yields a stack on `settings`, supervised in a thread. At the end, all processes and an embedded database stop."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    database = open_database(settings)
    ended = threading.Event()
    try:
        with (
            patch.object(supervisor_module, "START_TIMEOUT_S", patient(supervisor_module.START_TIMEOUT_S)),
            Stack(settings, database, module=module, daemon=daemon) as stack,
            dagster_instance(settings, database) as instance,
        ):

            def supervise() -> None:
                while not ended.wait(0.5):
                    stack.supervise()
                stack.stop()  # in this thread, as its child processes are killed when it ends

            supervisor = threading.Thread(target=supervise)
            supervisor.start()
            try:
                yield Harness(settings, database, stack, instance)
            finally:
                ended.set()
                supervisor.join()
    finally:
        if path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = path
        if settings.database_url is None:
            EmbeddedPostgres(settings.irt_home / "postgres").stop()
