"""The wall clock is set an hour forward or back while a run goes on: its worker is not taken for dead."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import timedelta

import psutil
import pytest

from jobs.launching.launcher import WORKER_TAG, _alive, own_worker_tags

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_worker_that_lives_is_not_taken_for_dead(jump: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel counts a process's start from boot; the time of boot is what moves with the clock."""
    worker = json.loads(own_worker_tags()[WORKER_TAG])
    told: Callable[[], float] = psutil._psplatform.boot_time
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: told() + jump.total_seconds())
    assert _alive(worker)


@pytest.mark.parametrize("moved", list(itertools.product((0, 1), repeat=4)))
def test_a_worker_lives_though_the_time_of_boot_moves_by_its_second(
    moved: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is kept right by small steps: the time of boot may differ from one look at it to the next."""
    told: Callable[[], float] = psutil._psplatform.boot_time
    boot, looks = told(), iter(moved)
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot + next(looks))
    assert _alive(json.loads(own_worker_tags()[WORKER_TAG]))
