"""Detection of silent sources of answers, by the pauses of the previous weeks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from irt_assets.intake.silence import silence, usual_pause
from resources.failures import PermanentFailure
from resources.settings import Settings, get_settings
from tests.helpers.pictures import Picture

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def office_hours(weeks: int = 3) -> list[datetime]:
    """Return arrivals every ten minutes, 8:00 to 16:50 on working days, for some weeks and up to a Monday's noon."""
    noon = MONDAY + weeks * 7 * DAY + 12 * HOUR
    minutes = (MONDAY + k * timedelta(minutes=10) for k in range(weeks * 7 * 144 + 73))
    return [at for at in minutes if at.weekday() < 5 and 8 <= at.hour < 17 and at <= noon]


def is_silent(arrivals: list[datetime], after: timedelta, setting: timedelta | None = None) -> bool:
    return silence("s", arrivals, arrivals[-1] + after, setting) is not None


def test_source_is_silent_during_the_day_only_after_an_hour() -> None:
    arrivals = office_hours()
    assert not is_silent(arrivals, 1 * HOUR)  # twice ten minutes is less than the minimum of an hour
    assert is_silent(arrivals, 1 * HOUR + timedelta(seconds=1))


@pytest.mark.parametrize(("days_before", "pause"), [(3, 63), (4, 15)])
def test_source_is_not_silent_in_nights_and_weekends(days_before: int, pause: int) -> None:
    """Three days before a Monday is a Friday, which a weekend follows. A Thursday is followed by a single night."""
    end = MONDAY + 21 * DAY - (days_before - 1) * DAY
    arrivals = [at for at in office_hours() if at < end]
    usual = usual_pause(arrivals, arrivals[-1] + HOUR)
    assert usual == timedelta(hours=pause, minutes=10)
    assert not is_silent(arrivals, 2 * usual)
    assert is_silent(arrivals, 2 * usual + timedelta(seconds=1))


def test_source_is_not_silent_in_its_first_week_or_after_a_single_arrival() -> None:
    arrivals = [at for at in office_hours() if at < MONDAY + 6 * DAY]
    assert not is_silent(arrivals, DAY)
    assert is_silent(arrivals, 6 * DAY)
    assert not is_silent(arrivals[:1], 300 * DAY)


def test_longest_pause_of_all_is_used_if_an_hour_has_no_earlier_pause() -> None:
    odd = [*office_hours(), MONDAY + 21 * DAY + 12.5 * HOUR + 8 * HOUR]
    assert usual_pause(odd, odd[-1] + HOUR) == timedelta(hours=63, minutes=10)


def test_setting_replaces_the_usual_pause_from_the_first_day_on(picture: Picture) -> None:
    first = [MONDAY]
    assert not is_silent(first, 2 * HOUR, 2 * HOUR)
    assert is_silent(first, 2 * HOUR + timedelta(seconds=1), 2 * HOUR)
    found = silence("s", first, MONDAY + DAY, 2 * HOUR)
    picture(found.sentence(MONDAY + DAY), "allowed")


def test_alert_names_source_time_usual_pause_and_remedy(picture: Picture) -> None:
    arrivals = office_hours()
    now = arrivals[-1] + 90 * timedelta(minutes=1)
    found = silence("a,b=c d", arrivals, now, None)
    alert = found.alert(now)
    picture(f"{alert.what}\n{alert.fix}", "alert")
    assert Settings(irt_silent_after="a%2Cb%3Dc%20d=3d", _env_file=None).silent_after == {"a,b=c d": 3 * DAY}


def test_setting_accepts_encoded_names_and_errors_show_a_valid_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(irt_silent_after="x%2Cy=90m, a=b=2h,irt import=7d,z=never", _env_file=None)
    assert settings.silent_after == {"x,y": 1.5 * HOUR, "a=b": 2 * HOUR, "irt import": 7 * DAY, "z": None}
    monkeypatch.setenv("IRT_SILENT_AFTER", "x=soon")
    with pytest.raises(PermanentFailure, match=r"IRT_SILENT_AFTER.*service=2h"):
        get_settings()
