"""Programs as child processes, and responses of Prometheus's API."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.testbed.patience import patient

PATIENCE_S = patient(60)


@contextmanager
def child(command: list[str], folder: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stderr=log, stdout=log, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait(patient(10))


def answer(url: str, found: Callable[[Any], bool]) -> Any:
    """Returns the data of Prometheus's API at `url`, once it satisfies `found`."""
    content = None
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            content = requests.get(url, timeout=5).json()
            if content["status"] == "success" and found(content["data"]):
                return content["data"]
        except (requests.RequestException, ValueError):
            pass  # Prometheus is still starting
        time.sleep(0.2)
    raise AssertionError(f"{url}: {content}")
