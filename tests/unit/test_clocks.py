"""Changes of the wall clock during a run: its living worker is not considered dead."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import timedelta

import psutil
import pytest

from jobs.launching.launcher import WORKER_TAG, _is_alive, own_worker_tags

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_living_worker_is_recognised_if_the_clock_jumps_by_an_hour(
    jump: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel counts a process's start from boot; only the computed time of boot moves with the clock."""
    worker = json.loads(own_worker_tags()[WORKER_TAG])
    boot_time: Callable[[], float] = psutil._psplatform.boot_time
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot_time() + jump.total_seconds())
    assert _is_alive(worker)


@pytest.mark.parametrize("moved", list(itertools.product((0, 1), repeat=4)))
def test_living_worker_is_recognised_if_the_time_of_boot_differs_by_a_second(
    moved: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a clock is corrected by small steps, the time of boot may differ between two readings."""
    boot_time: Callable[[], float] = psutil._psplatform.boot_time
    boot, looks = boot_time(), iter(moved)
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot + next(looks))
    assert _is_alive(json.loads(own_worker_tags()[WORKER_TAG]))
