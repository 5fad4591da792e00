"""Which months a tick asks for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from irt_assets.calibration.green import MonthState, State
from jobs.schedules import look_back, months_to_ask


@pytest.mark.parametrize(
    ("now", "first_month", "months"),
    [
        (datetime(2026, 11, 1, 2, tzinfo=UTC), "2025-01", ["2026-08", "2026-09", "2026-10"]),
        (datetime(2026, 1, 1, 2, tzinfo=UTC), "2025-01", ["2025-10", "2025-11", "2025-12"]),
        (datetime(2026, 2, 1, 2, tzinfo=UTC), "2025-01", ["2025-11", "2025-12", "2026-01"]),
        (datetime(2024, 3, 1, 2, tzinfo=UTC), "2020-01", ["2023-12", "2024-01", "2024-02"]),
        (datetime(2024, 2, 29, 23, 59, tzinfo=UTC), "2020-01", ["2023-11", "2023-12", "2024-01"]),
        (datetime(2026, 11, 1, 2, tzinfo=UTC), "2026-09", ["2026-09", "2026-10"]),
        (datetime(2026, 11, 1, 2, tzinfo=UTC), "2026-10", ["2026-10"]),
        (datetime(2026, 11, 1, 2, tzinfo=UTC), "2026-11", []),
        (datetime(2026, 11, 1, 2, tzinfo=UTC), "2027-05", []),
    ],
)
def test_a_tick_looks_back_over_three_months_that_are_over(now: datetime, first_month: str, months: list[str]) -> None:
    assert look_back(now, first_month) == months


def state(month: str, what: State, scale: str = "default") -> MonthState:
    return MonthState(month, scale, what, "")


def test_a_tick_asks_for_missing_months_only() -> None:
    """A red month waits for a person, and what is under way or waiting comes by itself."""
    others = [state(f"2026-0{k}", what) for k, what in enumerate(State, 1) if what is not State.MISSING]
    missing = [state("2025-12", State.MISSING), state("2025-11", State.MISSING)]
    assert months_to_ask([*missing, *others]) == ["2025-11", "2025-12"]


def test_a_month_is_missing_only_where_it_is_on_every_scale() -> None:
    both = [state("2026-01", State.MISSING), state("2026-01", State.MISSING, "other")]
    one = [state("2026-02", State.MISSING), state("2026-02", State.GREEN, "other")]
    assert months_to_ask(iter(both + one)) == ["2026-01"]


def test_without_scales_nothing_is_asked_for() -> None:
    assert months_to_ask([]) == []
