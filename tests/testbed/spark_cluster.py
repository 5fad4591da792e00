"""A standalone Spark cluster on this machine, whose executors and master can be killed.

It is started from the classes in pyspark, on its own ports and in its own folders.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from resources.cluster.spark import accepts_connection
from resources.cluster.spark_executors import folders_of_code
from resources.settings import Settings
from tests.testbed.machine import free_port
from tests.testbed.patience import patient

WORKER_MEMORY = "700m"
EXECUTOR_MEMORY = "512m"
STARTS_WITHIN_S = 60.0
EXECUTOR_CLASS = "CoarseGrainedExecutorBackend"


@dataclass
class Cluster:
    """A standalone master and workers of one core each, in `folder`."""

    folder: Path
    n_workers: int = 2
    worker_memory: str = WORKER_MEMORY
    port: int = field(default_factory=lambda: free_port())
    web_port: int = field(default_factory=lambda: free_port())
    master: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"spark://127.0.0.1:{self.port}"

    @property
    def settings(self) -> Settings:
        """Settings for a session on this cluster."""
        return Settings(irt_spark=self.url, _env_file=None)

    def start(self) -> None:
        self.start_master()
        self.workers = [self._process(f"worker{n}", *self._worker(n)) for n in range(1, self.n_workers + 1)]
        self.wait_for("have registered", lambda: self._log("master").count("Registering worker") >= self.n_workers)

    def start_master(self) -> None:
        web = ["--webui-port", str(self.web_port)]
        command = ["org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(self.port), *web]
        self.master = self._process("master", *command)
        self.wait_for("answers", lambda: accepts_connection("127.0.0.1", self.port, 1))

    def stop(self) -> None:
        processes = [process for process in (self.master, *self.workers) if process is not None]
        for process in processes:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
                kill(child.pid)
            kill(process.pid)
        for process in processes:
            process.wait(STARTS_WITHIN_S)

    def executors(self) -> list[psutil.Process]:
        """The executors' Java processes."""
        found = []
        for worker in self.workers:
            for child in psutil.Process(worker.pid).children(recursive=True):
                try:
                    if any(EXECUTOR_CLASS in word for word in child.cmdline()):
                        found.append(child)
                except psutil.Error:
                    continue
        return found

    def kill_executor(self) -> None:
        """Send SIGKILL to an executor and its Python, as the kernel does if memory is short."""
        executor = self.executors()[0]
        for process in [*executor.children(recursive=True), executor]:
            kill(process.pid)

    def kill_master(self) -> None:
        assert self.master is not None
        kill(self.master.pid)
        self.master.wait(STARTS_WITHIN_S)

    def wait_for(self, subject: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + patient(STARTS_WITHIN_S)
        while not condition():
            assert time.monotonic() < deadline, f"{subject}: it took too long\n{self._log('master')[-2000:]}"
            time.sleep(0.1)

    def _worker(self, number: int) -> list[str]:
        resources = ["--cores", "1", "--memory", self.worker_memory, "--work-dir", str(self.folder / f"work{number}")]
        ports = ["--host", "127.0.0.1", "--webui-port", str(free_port())]
        return ["org.apache.spark.deploy.worker.Worker", *resources, *ports, self.url]

    def _process(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        import pyspark

        home = Path(pyspark.__file__).parent
        environment = os.environ | {
            "SPARK_HOME": str(home),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_LOCAL_DIRS": str(self.folder / "local"),
            "PYSPARK_DRIVER_PYTHON": sys.executable,
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen([home / "bin" / "spark-class", *command], env=environment, stdout=log, stderr=log)

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")


@contextmanager
def connect_server(folder: Path) -> Iterator[Settings]:
    """Start a Spark Connect server on two cores of this machine. Yields settings for a session on it."""
    import pyspark

    home, port = Path(pyspark.__file__).parent, free_port()
    configured = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.driver.memory": EXECUTOR_MEMORY,
        "spark.ui.enabled": "false",
        "spark.executorEnv.PYTHONPATH": os.pathsep.join(folders_of_code()),
    }
    options = [word for name, value in configured.items() for word in ("--conf", f"{name}={value}")]
    server = ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
    environment = os.environ | {"SPARK_HOME": str(home), "SPARK_LOCAL_DIRS": str(folder / "local")}
    environment |= {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(folders_of_code())}
    log = folder / "connect.log"
    with log.open("wb") as log_file:
        command = [str(home / "bin" / "spark-submit"), "--master", "local[2]", *options, *server]
        process = subprocess.Popen(command, env=environment, stdout=log_file, stderr=log_file)
    try:
        deadline = time.monotonic() + patient(STARTS_WITHIN_S)
        while not accepts_connection("127.0.0.1", port, 1):
            assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
            assert time.monotonic() < deadline, log.read_text("utf-8", "replace")[-2000:]
            time.sleep(0.2)
        yield Settings(irt_spark=f"sc://127.0.0.1:{port}", _env_file=None)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            kill(child.pid)
        kill(process.pid)
        process.wait(STARTS_WITHIN_S)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
