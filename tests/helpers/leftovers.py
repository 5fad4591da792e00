"""Names the test that leaves a thread, a process or a connection behind.

A plugin of pytest, which `tests/conftest.py` names. What was there before a test, or belongs to a fixture of its module
or session, is not its own. What does not belong here: stopping what was left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from testbed.patience import patient

ENDS_WITHIN_S = 5.0
"""What is being stopped may take so long."""
PAUSE_S = 0.02


@pytest.fixture(autouse=True)
def no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    threads, processes = set(threading.enumerate()), _children()
    yield
    deadline = time.monotonic() + patient(ENDS_WITHIN_S)
    while left := _left(threads, processes):
        if time.monotonic() > deadline:
            with Path("/tmp/w/leftovers.txt").open("a") as f:
                f.write(f"{request.node.nodeid}\t{left}\n")
            return
        time.sleep(PAUSE_S)


def _left(threads: set[threading.Thread], processes: set[int]) -> list[str]:
    left = [f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads]
    return left + [f"process {pid}: {said}" for pid in _children() - processes if (said := _command(pid))]


def _children() -> set[int]:
    """Processes that this one started, by their ids; what ended and was not waited for is none."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found |= {int(pid) for pid in (task / "children").read_text().split()}
        except FileNotFoundError:  # the thread ended
            continue
    return found


def _command(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())[:200]
    except psutil.Error:
        return ""
