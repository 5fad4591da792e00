"""Keys of months, days and weeks, and their bounds in time."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from irt_assets.common.partitions import (
    Month,
    daily,
    last_complete_month,
    month_of,
    monthly,
    months_between,
    parse_week,
)

TINY = timedelta(microseconds=1)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (`timezones` is given)


@given(TIMES)
def test_every_instant_is_within_the_bounds_of_exactly_its_month(time: datetime) -> None:
    start, end = month_of(time).bounds
    assert start <= time < end
    assert month_of(start) == month_of(end - TINY) == month_of(time)
    assert month_of(start - TINY) < month_of(time) < month_of(end)


@given(TIMES)
def test_month_is_its_key_and_has_a_previous_and_a_next_month(time: datetime) -> None:
    month = month_of(time)
    assert (f"{month}", json.dumps([month])) == (f"{time:%Y-%m}", f'["{time:%Y-%m}"]')
    assert (month.previous.end, month.next.start) == month.bounds
    assert pickle.loads(pickle.dumps(month)).bounds == Month(f"{month}").bounds == month.bounds


@given(TIMES)
def test_last_complete_month_ends_at_the_start_of_the_current_month(time: datetime) -> None:
    assert last_complete_month(time).end == month_of(time).start


def test_month_of_a_time_in_any_zone_is_determined_in_utc() -> None:
    assert month_of(datetime(2026, 7, 1, 3, tzinfo=timezone(timedelta(hours=9)))) == "2026-06"


def test_months_between_two_months_include_both_ends_across_a_year() -> None:
    assert list(months_between("2025-11", "2026-02")) == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert list(months_between("2026-02", "2026-02")) == ["2026-02"]
    assert list(months_between("2026-03", "2026-02")) == []


@pytest.mark.parametrize("key", ["2026-13", "2026-00", "2026", "26-07", "2026-07-01", "", "July"])
def test_invalid_month_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"time data|unconverted"):
        Month(key)


def test_monthly_partitions_are_the_months_that_have_ended() -> None:
    keys = monthly("2025-12").get_partition_keys(current_time=datetime(2026, 3, 1, 0, 0, tzinfo=UTC))
    assert keys == ["2025-12", "2026-01", "2026-02"]


def test_daily_partitions_begin_with_the_first_month() -> None:
    keys = daily("2024-02").get_partition_keys(current_time=datetime(2024, 3, 2, 5, tzinfo=UTC))
    assert (keys[0], keys[-1], len(keys)) == ("2024-02-01", "2024-03-01", 30)


@pytest.mark.parametrize("text", ["2026-W46", "2026-w46", "2026-11-09", "2026-11-12", "2026-11-15"])
def test_week_is_identified_by_its_iso_name_or_by_any_of_its_days(text: str) -> None:
    assert parse_week(text) == "2026-11-09"


def test_the_first_iso_week_may_begin_in_the_old_year() -> None:
    assert parse_week("2026-W01") == "2025-12-29"


@pytest.mark.parametrize("text", ["2026-W54", "2026-46", "soon", "", "2026-11-31", "2026-W46-3"])
def test_invalid_week_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not match|day is out of range|Invalid week|unconverted data"):
        parse_week(text)
