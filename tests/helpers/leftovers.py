"""Fail tests that leave a thread, a process (such as a server) or a PostgreSQL connection behind.

A pytest plugin, which `tests/conftest.py` names. Threads, processes and connections from before a test belong to a
fixture of its module or session. Connections of a pool are reported through the threads of the pool. The plugin stops
nothing.
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
"""Time for threads and processes that are already ending."""
PAUSE_S = 0.02
POOLS = ("asyncio_", "uvloop_", "ThreadPoolExecutor-", "AnyIO worker thread", "impact_", "theta_")
"""Prefixes of threads that a pool of a wider fixture, or of the process, starts on first use."""
FOREIGN = "Dummy-"
"""Prefix of threads that Python did not start. They stay in its list after their end."""
KEPT_BY_PYTHON = "multiprocessing.resource_tracker"
"""Process that Python starts once and ends with itself."""
of_fixtures: set[str] = set()
"""Commands of processes of module and session fixtures. A stack restarts its servers when they die."""
opened: WeakSet[psycopg.Connection] = WeakSet()
turn = threading.RLock()
"""Lock for `opened`, as other threads connect, too."""
kept_open: WeakSet[psycopg.Connection] = WeakSet()
"""Connections opened by module or session fixtures."""


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
    while leftovers := [*_left(threads, processes), *_open_connections()]:
        if time.monotonic() > deadline:
            pytest.fail(f"the test leaves behind: {', '.join(leftovers)}", pytrace=False)
        time.sleep(PAUSE_S)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    """Applies also to wider fixtures that a test requests while it runs."""
    made = yield
    if fixturedef.scope != "function":
        of_fixtures.update(map(_command, _children()))
        kept_open.update(_opened())
    return made


def _left(threads: set[threading.Thread], processes: set[int]) -> list[str]:
    started = [each.name for each in threading.enumerate() if each not in threads]
    leftovers = [f"thread {name}" for name in started if not name.startswith((*POOLS, FOREIGN))]
    begun_here = {pid: command for pid in _children() - processes if (command := _command(pid)) not in of_fixtures}
    return leftovers + [f"process {pid} ({command})" for pid, command in begun_here.items() if command]


def _open_connections() -> list[str]:
    still_open = [each for each in _opened() if not (each in kept_open or each.closed or hasattr(each, "_pool"))]
    return [f"connection to the database {each.info.dbname} as {each.info.user}" for each in still_open]


def _opened() -> list[psycopg.Connection]:
    with turn:
        return list(opened)


def _children() -> set[int]:
    """Ids of the processes that this process started and did not wait for."""
    found = set()
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found |= {int(pid) for pid in task.read_text().split()}
        except OSError:  # the thread has ended
            continue
    return found


def _command(pid: int) -> str:
    """Command of a process, or "" if it has ended. The kernel sets a new program's arguments after its name."""
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline()) or process.name()
        return "" if process.status() == psutil.STATUS_ZOMBIE or KEPT_BY_PYTHON in command else command[:200]
    except psutil.Error:
        return ""
