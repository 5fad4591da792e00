"""A running R IRT service for tests: started on a free port, awaited, and stopped with its child processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

import irt_assets.engines
from irt_assets.engines.r_service import Service
from tests.testbed.machine import free_port
from tests.testbed.patience import patient

ROOT = Path(__file__).parents[2]
IRT_FILE = Path(irt_assets.engines.__file__).with_name("irt.R")
TOKEN = "token of the tests".replace(" ", "-")
PACKAGES = ("plumber", "promises", "later", "processx", "jsonlite", "sodium")
STARTED_WITHIN = 60.0


def missing_packages() -> list[str]:
    """R packages of the service that are not installed on this machine, or ["R"] if R is not installed."""
    code = f"p <- c({', '.join(map(repr, PACKAGES))}); cat(p[!nzchar(sapply(p, function(x) system.file(package = x)))])"
    try:
        return subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True).stdout.split()
    except FileNotFoundError:
        return ["R"]


@dataclass
class RunningService:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Service:
        return Service(self.url, TOKEN, seconds=600.0, pause=0.05)

    def health(self) -> dict[str, Any]:
        return requests.get(f"{self.url}/healthz", timeout=30).json()

    def post(self, task: str, body: Any, **options: Any) -> requests.Response:
        """Post a request once, with the right token unless `headers` are given."""
        headers = options.pop("headers", {"Authorization": f"Bearer {TOKEN}"})
        return requests.post(f"{self.url}/irt/{task}", data=body, headers=headers, timeout=120, **options)


def environment(port: int, **settings: Any) -> dict[str, str]:
    named = {"R_IRT_INTERNAL_TOKEN": TOKEN, "R_IRT_PORT": port, "R_IRT_SOURCE": IRT_FILE} | settings
    return os.environ | {name: str(value) for name, value in named.items()}


@contextmanager
def running(folder: Path, port: int | None = None, **settings: Any) -> Iterator[RunningService]:
    """`settings`: environment variables of the service."""
    port = port or free_port()
    log = folder / f"service-{port}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["Rscript", str(ROOT / "services/r_irt/run.R")],
            stdout=out,
            stderr=out,
            env=environment(port, **settings),
            start_new_session=True,
        )
    service = RunningService(process, port, log)
    try:
        _wait_for(service)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(patient(10))
        finally:
            process.kill()


def _wait_for(service: RunningService) -> None:
    end = time.monotonic() + patient(STARTED_WITHIN)
    while True:
        try:
            service.health()
        except requests.exceptions.RequestException:
            assert service.process.poll() is None, service.log.read_text()
            assert time.monotonic() < end, f"not started: {service.log.read_text()}"
            time.sleep(0.1)
        else:
            return
