"""Times in many spellings are read as the right instant, or as missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from irt_assets.intake.mapping import TimeRules
from irt_assets.intake.times import MISSING, ZoneNeeded, find_zone, parse_times
from resources.failures import PermanentFailure

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def instants(texts: list[str | None], zone: str | None = None, rows: list[str | None] | None = None, **rules: str):
    row_zones = None if rows is None else pa.array(rows, pa.string())
    micros = parse_times(pa.array(texts, pa.string()), TimeRules(**rules), zone, row_zones)
    return [None if m == MISSING else datetime.fromtimestamp(m / 1e6, UTC) for m in micros.tolist()]


@pytest.mark.parametrize(
    "text",
    [
        "2026-07-01T12:00:00Z",
        "2026-07-01 12:00Z",
        "2026-07-01 12:00:00.000000+00",
        "2026-07-01T14:00:00+02:00",
        "2026-07-01 14:00:00 +0200",
        "2026-07-01T12:00:00.000000000Z",
        "2026-07-01 12:00:00 UTC",
        "2026-07-01T12:00:00.000UTC",
        "2026-07-01 12:00 GMT",
        "20260701T120000Z",
        "20260701T140000.000+0200",
        "1782907200",
        "1782907200.0",
        "1.7829072e9",
        "1782907200000",
    ],
)
def test_usual_spellings_of_an_instant_are_read_as_the_same_instant(text: str) -> None:
    """A spelling is read alone, and in a column with invalid text, which uses a slower parser."""
    assert instants([text]) == [NOON]
    assert instants([text, "rubbish", None]) == [NOON, None, None]


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30 12:00:00Z",
        "2026-07-01 25:00:00Z",
        "2026-07-01",  # a day's answers would all be at one instant
        "01/07/2026 12:00",
        "20260701120000",
        "20260230T120000Z",
        "2026-07-01 12:00:00 CET",
        "0",
        "-5",
        "12345",
        "NaN",
        "Infinity",
        "yesterday",
        "",
    ],
)
def test_text_that_is_not_an_instant_is_missing(text: str) -> None:
    assert instants([text, "2026-07-01T12:00:00Z"], zone="UTC") == [None, NOON]


def test_error_demands_a_zone_if_a_time_has_no_zone() -> None:
    for texts in (["2026-07-01 14:00:00"], ["2026-07-01T12:00:00Z", "2026-07-01 14:00:00"]):
        with pytest.raises(ZoneNeeded, match="2026-07-01 14:00:00"):
            instants(texts)
        assert instants(texts, zone="Europe/Berlin")[-1] == NOON


def test_error_demands_a_zone_if_an_iso_time_without_separators_has_no_zone() -> None:
    with pytest.raises(ZoneNeeded, match="20260701T120000"):
        instants(["20260701T120000", "rubbish"])
    assert instants(["20260701T140000", "rubbish"], "Europe/Berlin") == [NOON, None]


def test_invalid_text_requires_no_zone() -> None:
    assert instants(["rubbish", "2026-07-01T12:00:00Z"]) == [None, NOON]


def test_zone_of_a_row_has_precedence_over_the_callers_zone() -> None:
    texts = ["2026-07-01 08:00:00", "2026-07-01 12:00:00", "2026-07-01 14:00:00", "2026-07-01 14:00:00"]
    rows = ["US/Eastern", "UTC", None, "Nowhere/Land"]
    assert instants(texts, zone="Europe/Berlin", rows=rows) == [NOON, NOON, NOON, None]


def test_repeated_hour_is_read_as_the_first_and_skipped_hour_as_the_end_of_the_gap() -> None:
    repeated, skipped = "2026-10-25 02:30:00", "2026-03-29 02:30:00"
    assert instants([repeated], zone="Europe/Berlin") == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]
    assert instants([skipped], zone="Europe/Berlin") == [datetime(2026, 3, 29, 1, 0, tzinfo=UTC)]


def test_numbers_in_a_different_unit_than_the_mappings_are_missing() -> None:
    assert instants(["1782907200"], unit="ms") == [None]
    assert instants(["1782907200000"], unit="s") == [None]


def test_times_in_the_mappings_format_and_iso_times_with_a_zone_are_read() -> None:
    texts = ["07/01/2026 14:00", "2026-07-01T12:00:00Z", "13/01/2026 14:00"]
    assert instants(texts, zone="Europe/Berlin", format="%m/%d/%Y %H:%M") == [NOON, NOON, None]
    assert instants(["01.07.2026 14:00 +0200"], format="%d.%m.%Y %H:%M %z") == [NOON]


def test_serial_numbers_of_excel_are_local_times_to_a_millisecond() -> None:
    """The numbers are from Excel: 2026-07-01 is 46204, and 2026-10-05 12:14:24 is 46300.51."""
    noon = ["46204.583333", "46204.58333333333"]
    expected = [NOON - timedelta(milliseconds=29), NOON]
    assert instants(noon, "Europe/Berlin", format="excel") == expected
    assert instants(["46300.51"], "UTC", format="excel") == [datetime(2026, 10, 5, 12, 14, 24, tzinfo=UTC)]
    assert instants([None, "", "nan", "inf", "1e300", "-1e9"], "UTC", format="excel") == [None] * 6


def test_typed_timestamps_keep_their_instant() -> None:
    aware = pa.array([NOON], pa.timestamp("ns", "Asia/Seoul"))
    naive = pa.array([datetime(2026, 7, 1, 14, tzinfo=UTC)], pa.timestamp("ms"))
    micros = round(NOON.timestamp() * 1e6)
    assert parse_times(aware, TimeRules(), None, None).tolist() == [micros]
    assert parse_times(naive, TimeRules(), "Europe/Berlin", None).tolist() == [micros]
    with pytest.raises(ZoneNeeded):
        parse_times(naive, TimeRules(), None, None)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", None])
def test_timestamps_beyond_the_calendar_are_missing(unit: str, zone: str | None) -> None:
    """Converted to microseconds, they once overflowed to wrong times or raised an error."""
    far = pa.array([2**62, -(2**62)], pa.int64()).cast(pa.timestamp(unit, zone))
    found = parse_times(far, TimeRules(), "Europe/Berlin", None).tolist()
    assert found == [MISSING, MISSING] or unit == "ns"  # 2**62 ns are in the year 2116


def test_text_with_the_first_or_last_year_of_the_calendar_is_missing() -> None:
    for text in ("0001-01-01T00:00:00-23:59", "9999-12-31T23:59:59-23:59", "0000-01-01 00:00:00"):
        for zone in ("Europe/Berlin", "Asia/Seoul"):
            assert instants([text], zone=zone) == instants([text, "rubbish"], zone=zone)[:1] == [None]


@pytest.mark.parametrize("format_", ["%Q", "%Y %Y", "%"])
def test_invalid_time_format_is_refused(format_: str) -> None:
    with pytest.raises(PermanentFailure, match="time format"):
        instants(["x"], zone="UTC", format=format_)


@given(
    st.datetimes(*(datetime.fromisoformat(day) for day in ("1975-01-01", "2200-01-01"))),
    st.sampled_from(["UTC", "Asia/Seoul", "US/Eastern"]),
)
def test_isoformat_of_python_is_read_as_the_same_instant(local: datetime, zone: str) -> None:
    aware = local.replace(tzinfo=ZoneInfo(zone))
    micros = parse_times(pa.array([aware.isoformat()]), TimeRules(), None, None)
    assert micros.tolist() == [(aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)]


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "\0"])
def test_unknown_zone_has_no_time_zone_object(name: str) -> None:
    assert find_zone(name) is None


def test_error_demands_a_zone_only_if_many_times_have_no_zone() -> None:
    zoned = "2026-07-01T12:00:00Z"
    assert instants([zoned, zoned, "2026-07-01 14:00:00"]) == [NOON, NOON, None]
    with pytest.raises(ZoneNeeded):
        instants([zoned, "2026-07-01 14:00:00"])


def test_texts_without_a_zone_are_missing_if_each_is_read_alone() -> None:
    texts, times = pa.array(["2026-07-01 14:00:00"]), pa.array([0], pa.timestamp("us"))
    assert parse_times(texts, TimeRules(), None, None, each_alone=True).tolist() == [MISSING]
    with pytest.raises(ZoneNeeded):  # the type of the column is at fault, and no row
        parse_times(times, TimeRules(), None, None, each_alone=True)
