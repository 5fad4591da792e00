"""Which work of the θ API runs, waits or is shed. Tested without a database, by events instead of times."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from services.theta_api.admission import Admission, LoopClock, Overloaded, TooSlow, require_caller


class HeldWork:
    """Work that signals its beginning and ends when it is released."""

    def __init__(self) -> None:
        self.began, self.let_go = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.let_go.wait(30)
        return "done"


def admission(workers: int = 1, queue: int = 2, wait_s: float = 30, limit_s: float = 30) -> Admission:
    return Admission(workers, queue=queue, wait_s=wait_s, limit_s=limit_s)


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in its own event loop, for at most a minute."""

    @wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 60))

    return run


async def begin(gate: Admission, held: HeldWork) -> asyncio.Task[str]:
    """Start the work of learner a. Returns its task once it has begun."""
    work = asyncio.create_task(gate.run("a", held))
    assert await asyncio.to_thread(held.began.wait, 30)
    return work


@in_loop
async def test_work_is_shed_at_once_if_the_queue_is_full_and_queued_work_is_done() -> None:
    gate, held = admission(workers=1, queue=2), HeldWork()
    first = await begin(gate, held)
    waiting = [asyncio.create_task(gate.run(who, str)) for who in ("b", "c")]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await gate.run("d", lambda: pytest.fail("it was turned away"))
    held.let_go.set()
    assert await first == "done"
    assert len(await asyncio.gather(*waiting)) == 2
    assert gate.present == 0
    gate.close()


@in_loop
async def test_work_that_waits_too_long_is_shed_before_its_start() -> None:
    gate, held = admission(wait_s=0.01), HeldWork()
    first = await begin(gate, held)
    with pytest.raises(Overloaded):
        await gate.run("b", lambda: pytest.fail("it was turned away"))
    held.let_go.set()
    assert await first == "done"
    assert await gate.run("b", lambda: "now") == "now"
    gate.close()


@in_loop
async def test_a_waiting_second_request_of_a_learner_occupies_no_thread() -> None:
    gate, held = admission(workers=2), HeldWork()
    first = await begin(gate, held)
    second = asyncio.create_task(gate.run("a", lambda: held.let_go.is_set()))
    await asyncio.sleep(0)
    assert await gate.run("b", lambda: "the other thread") == "the other thread"
    assert not second.done()
    held.let_go.set()
    assert await first == "done"
    assert await second is True
    assert gate._turns == {}
    gate.close()


@in_loop
async def test_work_over_the_time_limit_is_abandoned_and_occupies_its_slot_until_its_end() -> None:
    gate, held = admission(workers=1, queue=1, limit_s=0.01), HeldWork()
    with pytest.raises(TooSlow):
        await gate.run("a", held)
    assert gate.present == 1
    held.let_go.set()
    while gate.present:
        await asyncio.sleep(0.001)
    gate.close()


@in_loop
async def test_work_of_an_absent_caller_ends_before_storing_results() -> None:
    gate, held, stored = admission(limit_s=0.01), HeldWork(), []

    def work() -> None:
        held()
        require_caller()
        stored.append("a post")

    with pytest.raises(TooSlow):
        await gate.run("a", work)
    held.let_go.set()
    while gate.present:
        await asyncio.sleep(0.001)
    assert not stored
    await gate.run("a", require_caller)
    gate.close()


@in_loop
async def test_errors_of_the_work_reach_the_caller_and_free_the_slot() -> None:
    gate = admission()

    def fails() -> None:
        raise ValueError("no")

    for _ in range(10):
        with pytest.raises(ValueError, match="no"):
            await gate.run("a", fails)
    assert gate.present == 0
    gate.close()


def test_loop_clock_measures_the_delay_until_the_loop_has_caught_up() -> None:
    async def held_up() -> tuple[float, float]:
        clock = LoopClock()
        running = asyncio.create_task(clock.run())
        await asyncio.sleep(0)
        time.sleep(0.2)
        while not clock.late_s:
            await asyncio.sleep(0)
        late = clock.late_s
        while clock.late_s >= late / 2:
            await asyncio.sleep(clock.EVERY_S)
        running.cancel()
        return late, clock.late_s

    late, after = asyncio.run(held_up())
    assert late >= 0.2 - LoopClock.EVERY_S
    assert after < late / 2
