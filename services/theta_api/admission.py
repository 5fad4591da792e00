"""Decide which requests are handled, wait, or are turned away before they reach the database.

A request waits in the event loop, and holds neither a thread nor a connection meanwhile.
"""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")
Work = Callable[[str, Callable[[psycopg.Connection], Any]], Awaitable[Any]]
"""A function that runs a task for a learner on a connection, in a thread."""


class Overloaded(Exception):
    """There are more requests than can be answered in time."""


class TooSlow(Exception):
    """The work has started and takes too long. It keeps its thread until its next call of `require_caller`."""


_deadline_passed: contextvars.ContextVar[threading.Event] = contextvars.ContextVar("deadline passed")


def require_caller() -> None:
    """Raise TooSlow, in the thread of the work, if its caller was told that it took too long."""
    if _deadline_passed.get().is_set():
        raise TooSlow


@dataclass
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class LoopClock:
    """Delay of the event loop, in seconds. The requests that it reads now have waited about as long."""

    EVERY_S = 0.02

    def __init__(self) -> None:
        self.late_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self.EVERY_S
            await asyncio.sleep(self.EVERY_S)
            self.late_s = loop.time() - due


class Admission:
    """Runs work in at most `workers` threads, and never two pieces of work for one learner at once.

    queue: number of requests that may wait for a thread. wait_s: longest wait of a request, in seconds.
    limit_s: seconds that the work may take before the caller gets TooSlow.
    """

    def __init__(self, workers: int, *, queue: int, wait_s: float, limit_s: float) -> None:
        self._most = workers + queue
        self._wait_s, self._limit_s = wait_s, limit_s
        self._slots = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="theta")
        self._turns: dict[str, _Turn] = {}
        self.present = 0

    @property
    def full(self) -> bool:
        """Whether the next request is shed."""
        return self.present >= self._most

    async def run(self, learner: str, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return its result.

        Raises Overloaded if the work cannot start in time, TooSlow if it takes too long, and every error of `work`.
        """
        if self.full:
            raise Overloaded
        self.present += 1
        turn = self._turns.setdefault(learner, _Turn())
        turn.waiting += 1
        held: list[asyncio.Lock | asyncio.Semaphore] = []

        def leave(_: object = None) -> None:
            for lock in held:
                lock.release()
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[learner]
            self.present -= 1

        try:
            async with asyncio.timeout(self._wait_s):
                for lock in (turn.lock, self._slots):
                    await lock.acquire()
                    held.append(lock)
        except TimeoutError:
            leave()
            raise Overloaded from None
        except BaseException:
            leave()
            raise
        deadline_passed = threading.Event()
        _deadline_passed.set(deadline_passed)
        in_its_trace = contextvars.copy_context()
        future = asyncio.get_running_loop().run_in_executor(self._threads, in_its_trace.run, work)
        future.add_done_callback(leave)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._limit_s)
        except TimeoutError:
            if future.done():
                return future.result()
            deadline_passed.set()
            future.add_done_callback(_drop_error)
            raise TooSlow from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _drop_error(future: asyncio.Future[T]) -> None:
    """Ignore the error of work whose caller has given up."""
    with suppress(asyncio.CancelledError):
        future.exception()
