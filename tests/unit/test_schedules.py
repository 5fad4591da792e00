"""Times of schedules' ticks, and the partitions that a tick requests."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import dagster as dg
import pytest
from hypothesis import given, strategies as st

from irt_assets.common.job_names import KPI_JOB
from irt_assets.common.partitions import DAYS, MONTHS, WEEKS, Period
from jobs.plans import PLANS, Plan, last_due
from jobs.schedules import build_schedules
from jobs.watching.stale_months import build_stale_sensor
from resources.dagster_compat import schedule_execution_time_iterator
from resources.settings import Settings

BY_JOB = {plan.job: plan for plan in PLANS}
FEATURES, KPIS, MONTHLY = (BY_JOB[job] for job in ("aggregate_features_daily", KPI_JOB, "monthly_calibration"))
LONG_AGO = "2019-01"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


def ticks(plan: Plan, since: datetime, n: int) -> list[datetime]:
    """Return the first `n` ticks at or after `since`, in UTC, as Dagster computes them."""
    times = schedule_execution_time_iterator(since.timestamp(), plan.cron, plan.zone)
    return [time.astimezone(UTC) for time in islice(times, n)]


@pytest.mark.parametrize(
    ("job", "first"),
    [
        ("aggregate_features_daily", utc(2026, 7, 1, 1, 15)),
        (KPI_JOB, utc(2026, 7, 1, 2, 10)),
        ("monthly_calibration", utc(2026, 7, 1, 2, 0)),
        ("detect_inactivity", utc(2026, 7, 1, 5, 0)),
        ("invariants", utc(2026, 7, 1, 6, 0)),
    ],
)
def test_jobs_run_at_the_documents_times(job: str, first: datetime) -> None:
    assert ticks(BY_JOB[job], utc(2026, 7, 1), 1) == [first]


@pytest.mark.parametrize(
    ("job", "now", "due", "newest"),
    [
        ("detect_inactivity", utc(2026, 8, 4, 5, 59), utc(2026, 8, 3, 5), ("2026-08-02", utc(2026, 8, 3))),
        ("detect_inactivity", utc(2026, 8, 4, 6, 1), utc(2026, 8, 4, 5), ("2026-08-03", utc(2026, 8, 4))),
        (KPI_JOB, utc(2026, 8, 4, 4), utc(2026, 8, 4, 2, 10), ("2026-08-03", utc(2026, 8, 4, 2, 10))),
        ("generate_weekly_report", utc(2026, 8, 4, 4, 59), utc(2026, 7, 27, 4), ("2026-07-20", utc(2026, 7, 27))),
        ("generate_weekly_report", utc(2026, 8, 4, 5, 1), utc(2026, 8, 3, 4), ("2026-07-27", utc(2026, 8, 3))),
        ("monthly_calibration", utc(2026, 8, 2, 2, 59), utc(2026, 7, 31, 2), ("2026-06", utc(2026, 7, 1))),
        ("monthly_calibration", utc(2026, 8, 2, 3, 1), utc(2026, 8, 1, 2), ("2026-07", utc(2026, 8, 1))),
        ("inventory", utc(2026, 8, 4, 7, 1), utc(2026, 8, 4, 6), None),
    ],
)
def test_job_is_due_an_hour_or_a_day_after_its_time(
    job: str, now: datetime, due: datetime, newest: tuple[str, datetime] | None
) -> None:
    """Daily jobs are due an hour after their time, others 25 hours after it."""
    assert last_due(BY_JOB[job], now) == due
    assert BY_JOB[job].newest_due(due, LONG_AGO) == newest


@pytest.mark.parametrize(
    ("tick", "day"),
    [
        (utc(2026, 8, 1, 1, 15), "2026-07-31"),
        (utc(2026, 3, 1, 1, 15), "2026-02-28"),
        (utc(2024, 3, 1, 1, 15), "2024-02-29"),
        (utc(2024, 2, 29, 1, 15), "2024-02-28"),
        (utc(2027, 1, 1, 1, 15), "2026-12-31"),
        (utc(2026, 3, 8, 1, 15), "2026-03-07"),
        (utc(2026, 11, 1, 1, 15), "2026-10-31"),
    ],
)
def test_daily_tick_requests_the_previous_fourteen_days(tick: datetime, day: str) -> None:
    expected = FEATURES.partitions_due(tick, LONG_AGO)
    assert expected[-1] == day
    assert len(expected) == 14
    assert date.fromisoformat(expected[0]) == date.fromisoformat(day) - timedelta(days=13)


@pytest.mark.parametrize(
    ("tick", "running"),
    [
        (utc(2026, 7, 6, 2, 10), "2026-07-06"),  # a Monday
        (utc(2026, 7, 5, 2, 10), "2026-06-29"),  # the Sunday before
        (utc(2027, 1, 1, 2, 10), "2026-12-28"),  # a Friday in a week that spans two years
        (utc(2024, 3, 3, 2, 10), "2024-02-26"),  # a Sunday, after a leap day
    ],
)
def test_weekly_tick_requests_the_current_week_and_the_eight_weeks_before(tick: datetime, running: str) -> None:
    expected = KPIS.partitions_due(tick, LONG_AGO)
    mondays = [date.fromisoformat(week) for week in expected]
    assert expected[-1] == running
    assert [later - earlier for earlier, later in pairwise(mondays)] == [timedelta(weeks=1)] * 8


@pytest.mark.parametrize(
    ("tick", "first_month", "months"),
    [
        (utc(2026, 11, 1, 2), LONG_AGO, ["2026-08", "2026-09", "2026-10"]),
        (utc(2026, 1, 1, 2), LONG_AGO, ["2025-10", "2025-11", "2025-12"]),
        (utc(2026, 2, 1, 2), LONG_AGO, ["2025-11", "2025-12", "2026-01"]),
        (utc(2024, 3, 1, 2), LONG_AGO, ["2023-12", "2024-01", "2024-02"]),
        (utc(2024, 2, 29, 23, 59), LONG_AGO, ["2023-11", "2023-12", "2024-01"]),
        (utc(2026, 11, 1, 2), "2026-09", ["2026-09", "2026-10"]),
        (utc(2026, 11, 1, 2), "2026-10", ["2026-10"]),
        (utc(2026, 11, 1, 2), "2026-11", []),
        (utc(2026, 11, 1, 2), "2027-05", []),
    ],
)
def test_monthly_tick_requests_the_last_three_complete_months(
    tick: datetime, first_month: str, months: list[str]
) -> None:
    assert MONTHLY.partitions_due(tick, first_month) == months


def test_ticks_request_no_partition_that_ends_before_the_first_month() -> None:
    assert FEATURES.partitions_due(utc(2026, 7, 3, 1, 15), "2026-07") == ["2026-07-01", "2026-07-02"]
    assert KPIS.partitions_due(utc(2026, 7, 7, 2, 10), "2026-07") == ["2026-06-29", "2026-07-06"]


@pytest.mark.parametrize(
    ("around", "instants"),
    [
        # 02:00 does not exist on 8 March 2026: 03:00 EDT. Before it EST, five hours behind; after it EDT, four.
        (utc(2026, 3, 7), [utc(2026, 3, 7, 7), utc(2026, 3, 8, 7), utc(2026, 3, 9, 6)]),
        # 1 November 2026 has 01:00 to 02:00 twice, and 02:00 once: EST again.
        (utc(2026, 10, 31), [utc(2026, 10, 31, 6), utc(2026, 11, 1, 7), utc(2026, 11, 2, 7)]),
    ],
)
def test_invariants_run_once_a_day_if_new_york_changes_its_clocks(around: datetime, instants: list[datetime]) -> None:
    plan = BY_JOB["invariants"]
    found = ticks(plan, around, 3)
    assert found == instants
    yesterdays = [(tick.date() - timedelta(days=1)).isoformat() for tick in instants]
    assert [plan.partitions_due(tick, LONG_AGO) for tick in found] == [[day] for day in yesterdays]


@pytest.mark.parametrize("period", [DAYS, WEEKS, MONTHS])
@given(now=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)), n=st.integers(1, 40))  # noqa: DTZ001 (`timezones` is given)
def test_last_periods_are_complete_and_consecutive(period: Period, now: datetime, n: int) -> None:
    bounds = [period.bounds(key) for key in period.last_keys(now, n)]
    assert len(bounds) == n
    assert bounds[-1][1] <= now < period.bounds(period.key_of(now))[1]
    assert bounds[-1][1] == period.bounds(period.key_of(now))[0]
    assert all(end == start for (_, end), (start, _) in pairwise(bounds))


def test_every_schedule_is_in_the_documentation_with_its_time() -> None:
    """`docs/reference/schedules.md` has a row with the time of each job."""
    text = (Path(__file__).parents[2] / "docs" / "reference" / "schedules.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    for plan in PLANS:
        minute, hour, *_ = plan.cron.split()
        time = f"every hour at minute {minute}" if hour == "*" else f"{int(hour):02}:{int(minute):02}"
        assert any(f"`{plan.job}`" in line and time in line for line in lines), plan


@pytest.mark.parametrize(
    ("set_to", "schedules", "stale_months"),
    [("running", "RUNNING", "RUNNING"), ("stopped", "STOPPED", "STOPPED"), ("external", "STOPPED", "RUNNING")],
)
def test_stale_months_sensor_runs_if_schedules_run_or_are_external(
    set_to: Literal["running", "stopped", "external"], schedules: str, stale_months: str
) -> None:
    settings = Settings(_env_file=None, irt_schedules=set_to)
    jobs = {plan.job: dg.define_asset_job(plan.job) for plan in PLANS}
    built = build_schedules(jobs, settings)
    assert {one.default_status.name for one in built} == {schedules}
    assert build_stale_sensor(jobs, settings).default_status.name == stale_months
