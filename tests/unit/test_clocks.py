"""The wall clock is set an hour forward or back while all goes on: nothing is asked twice, passed over or failed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from jobs.launching.launcher import WORKER_TAG, _alive, own_worker_tags
from jobs.plans import PLANS, Plan
from jobs.schedules import unmade_partitions

HOUR = timedelta(hours=1)
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


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


@pytest.mark.parametrize("plan", [plan for plan in PLANS if plan.asset], ids=lambda plan: plan.job)
def test_a_tick_that_comes_twice_asks_once(plan: Plan) -> None:
    """Set back over the time of a tick, the clock comes to it again; what was asked for is under way or made."""
    first = set(unmade_partitions(plan.partitions_due(NOW, "2026-01"), set(), set()))
    assert first
    for under_way, made in ((first, set()), (set(), first)):
        assert unmade_partitions(plan.partitions_due(NOW, "2026-01"), made, under_way) == []
