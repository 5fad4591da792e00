"""Names the test that leaves a thread, a process (a server among them) or a connection to PostgreSQL behind.

A plugin of pytest, which `tests/conftest.py` names. What was there before a test belongs to a fixture of its module or
session. A connection of a pool is its pool's, which is named by its threads. What does not belong here: stopping what
was left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from weakref import WeakSet

import psutil
import psycopg
import pytest

from tests.testbed.patience import patient

ENDS_WITHIN_S = 5.0
"""What is being stopped may take so long."""
PAUSE_S = 0.02
POOLS = ("asyncio_", "uvloop_", "ThreadPoolExecutor-", "AnyIO worker thread", "impact_", "theta_")
"""How names of threads begin that a pool of a wider fixture, or of a whole process, starts when it is first busy."""
FOREIGN = "Dummy-"
"""And of those that Python did not start: they stay in its list when they have ended."""
KEPT_BY_PYTHON = "multiprocessing.resource_tracker"
"""The process that it starts once, and ends with its own."""
of_fixtures: set[str] = set()
"""Commands of what fixtures of a module or a session run: a stack starts its servers again when they die."""
opened: WeakSet[psycopg.Connection] = WeakSet()
turn = threading.RLock()
"""Of whoever reads or changes `opened`: other threads connect, too."""
kept_open: WeakSet[psycopg.Connection] = WeakSet()
"""By a fixture of a module or a session."""


def pytest_configure() -> None:
    connected = psycopg.Connection.__init__

    def remember(connection: psycopg.Connection, *args: object, **kwargs: object) -> None:
        connected(connection, *args, **kwargs)  # type: ignore[arg-type]
        with turn:
            opened.add(connection)

    psycopg.Connection.__init__ = remember  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    threads, processes = set(threading.enumerate()), _children()
    of_fixtures.update(map(_command, processes))
    kept_open.update(_opened())
    yield
    deadline = time.monotonic() + patient(ENDS_WITHIN_S)
    while left := [*_left(threads, processes), *_open_connections()]:
        if time.monotonic() > deadline:
            pytest.fail(f"the test leaves behind: {', '.join(left)}", pytrace=False)
        time.sleep(PAUSE_S)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    """Also of a wider fixture that a test asks for while it runs."""
    made = yield
    if fixturedef.scope != "function":
        of_fixtures.update(map(_command, _children()))
        kept_open.update(_opened())
    return made


def _left(threads: set[threading.Thread], processes: set[int]) -> list[str]:
    begun = [each.name for each in threading.enumerate() if each not in threads]
    left = [f"thread {name}" for name in begun if not name.startswith((*POOLS, FOREIGN))]
    begun_here = {pid: said for pid in _children() - processes if (said := _command(pid)) not in of_fixtures}
    return left + [f"process {pid} ({said})" for pid, said in begun_here.items() if said]


def _open_connections() -> list[str]:
    left = [each for each in _opened() if not (each in kept_open or each.closed or hasattr(each, "_pool"))]
    return [f"connection to the database {each.info.dbname} as {each.info.user}" for each in left]


def _opened() -> list[psycopg.Connection]:
    with turn:
        return list(opened)


def _children() -> set[int]:
    """Processes that this one started and did not wait for, by their ids."""
    found = set()
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found |= {int(pid) for pid in task.read_text().split()}
        except OSError:  # the thread ended
            continue
    return found


def _command(pid: int) -> str:
    """What it runs; nothing of one that ended. The kernel tells a new program's arguments after its name."""
    try:
        process = psutil.Process(pid)
        said = " ".join(process.cmdline()) or process.name()
        return "" if process.status() == psutil.STATUS_ZOMBIE or KEPT_BY_PYTHON in said else said[:200]
    except psutil.Error:
        return ""
