"""Conversion of times as people write them to microseconds since 1970 in UTC.

Times are ISO 8601 with or without a zone, epoch seconds or milliseconds, or in one other format that the mapping names:
a format of `strptime`, or `excel` for the serial numbers of Excel.
A time without a zone is read in the zone that the row or the caller names; zones are never guessed.
"""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.mapping import TimeRules
from resources.failures import PermanentFailure

CLOCK = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?"
WITHOUT_ZONE = CLOCK + "$"
WITH_ZONE = CLOCK + r" ?(Z|z|[+-]\d\d(:?\d\d)?)$"
NAMED_UTC = r"^(\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?) ?(?:UTC|GMT)$"
BASIC = r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d(?:[.,]\d{1,9})?)(Z|z|[+-]\d\d(?::?\d\d)?)?$"
"""ISO 8601 without separators."""
OFFSETS = {r" ?(?:UTC|GMT)([+-])(\d)$": r" \10\2:00", r" ?(?:UTC|GMT)([+-]\d\d)$": r" \1:00"}
"""Offsets in hours, as web forms write them (GMT+2, UTC-10) → as in ISO 8601."""
NUMBER = r"^\d+(\.\d+)?([eE]\+?\d+)?$"
EXCEL = "excel"
EXCEL_1970 = 25_569  # serial number of 1970-01-01
MIN_LENGTH = len("2026-11-20 08:00")  # a date alone would put a day's answers at one instant
# Both spans are 1973 to 2286, so a number lies in one of them or is not a time of an answer.
EPOCH_SPANS = {"s": (1e8, 1e10, 1e6), "ms": (1e11, 1e13, 1e3)}
EARLIEST, LATEST = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**6 for year in (1800, 9000))
MISSING = np.iinfo(np.int64).min


class ZoneNeeded(Exception):
    """At least half of the times have no zone, and nothing names one."""

    def __init__(self, example: str) -> None:
        super().__init__(example)
        self.example = example


def find_zone(name: str) -> ZoneInfo | None:
    """The IANA zone of that name. Returns None if there is no such zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # the type depends on the fault in the name
        return None


def parse_times(
    values: pa.Array, rules: TimeRules, zone: str | None, row_zones: pa.Array | None, *, each_alone: bool = False
) -> np.ndarray:
    """Microseconds since 1970-01-01 UTC (int64); MISSING if a value is not a time, or has no zone and needs one.

    `values`: text or timestamps. `row_zones`: text, the zone of each row, or null to use `zone`.
    A local time that occurs twice is read as the first, and a skipped one as the end of the gap.
    Raises ZoneNeeded; for text only unless `each_alone`.
    """
    if pa.types.is_timestamp(values.type):
        micros = _timestamp_micros(values)
        return micros if values.type.tz else _require_zones(*_localise(micros, zone, row_zones), values)
    result, unknown = _parse_texts(values, rules, zone, row_zones)
    return result if each_alone else _require_zones(result, unknown, values)


def _parse_texts(
    values: pa.Array, rules: TimeRules, zone: str | None, row_zones: pa.Array | None
) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds since 1970, and a mask of the times without a zone."""
    quick = _parse_iso(values) if rules.format is None else None
    if quick is not None:
        micros = _mask_impossible(np.asarray(pc.fill_null(quick.cast(pa.int64()), MISSING)))
        return (micros, np.zeros(len(micros), dtype=bool)) if quick.type.tz else _localise(micros, zone, row_zones)
    for written, offset in OFFSETS.items():
        values = pc.replace_substring_regex(values, written, offset)
    if rules.format is None:
        values = pc.replace_substring_regex(values, NAMED_UTC, r"\1Z")
        values = pc.replace_substring_regex(values, BASIC, r"\1-\2-\3T\4:\5:\6\7")
    result = np.full(len(values), MISSING, dtype=np.int64)
    with_zone, without_zone = _matches(values, WITH_ZONE), _matches(values, WITHOUT_ZONE)
    if with_zone.any():  # pandas takes a millisecond for no times, too, and `--suggest` tries hundreds of formats
        result[with_zone] = _parse_with_pandas(values, with_zone, "ISO8601")
    if rules.format is not None:
        without_zone = np.asarray(pc.is_valid(values)) & ~with_zone
    result[without_zone] = _parse_with_pandas(values, without_zone, rules.format or "ISO8601")
    unknown = np.zeros(len(values), dtype=bool)
    if "%z" not in (rules.format or ""):
        local, unknown = _localise(np.where(without_zone, result, MISSING), zone, row_zones)
        result[without_zone] = local[without_zone]
    numbers = _matches(values, NUMBER) & (result == MISSING)
    result[numbers] = _epoch(values, numbers, rules.unit)
    return result, unknown


def _require_zones(result: np.ndarray, unknown: np.ndarray, values: pa.Array) -> np.ndarray:
    """Return `result`. Raises ZoneNeeded if at least half of the times have no zone."""
    n_unknown = int(unknown.sum())
    if n_unknown and n_unknown >= int((result != MISSING).sum()):
        raise ZoneNeeded(str(values[int(np.argmax(unknown))].as_py()))
    return result


def _timestamp_micros(values: pa.TimestampArray) -> np.ndarray:
    numbers = np.asarray(pc.fill_null(values.cast(pa.int64()), MISSING))
    each_us = {"s": 10**-6, "ms": 10**-3, "us": 1, "ns": 10**3}[values.type.unit]
    possible = (numbers >= EARLIEST * each_us) & (numbers < LATEST * each_us)
    micros = np.where(possible, numbers, 0)
    micros = micros // 1000 if values.type.unit == "ns" else micros * round(1 / each_us)
    return np.where(possible, micros, MISSING)


def _parse_iso(values: pa.Array) -> pa.Array | None:
    """Parse the whole column at once. Returns None unless every value is valid ISO 8601."""
    if pc.min(pc.binary_length(values)).as_py() is None or pc.min(pc.binary_length(values)).as_py() < MIN_LENGTH:
        return None
    for zone in ("UTC", None):
        try:
            return pc.cast(values, pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
    return None


def _parse_with_pandas(values: pa.Array, mask: np.ndarray, form: str) -> np.ndarray:
    texts = values.filter(pa.array(mask)).to_numpy(zero_copy_only=False)
    if form == EXCEL:  # to a millisecond, because five decimals of a day are about a second
        days = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(dtype=float) - EXCEL_1970
        possible = np.abs(days) < LATEST / 86_400e6
        return _mask_impossible(
            np.where(possible, np.rint(np.where(possible, days, 0) * 86_400_000) * 1000, MISSING).astype(np.int64)
        )
    try:
        times = pd.to_datetime(pd.Series(texts, dtype=object), format=form, utc=True, errors="coerce")
    except (ValueError, re.error) as error:
        raise PermanentFailure(f"time format {form!r} of the mapping: {error}. Write it as for strptime.") from error
    return _mask_impossible(np.asarray(times.dt.as_unit("us").astype("int64")))


def _epoch(values: pa.Array, mask: np.ndarray, unit: str | None) -> np.ndarray:
    numbers = np.asarray(pc.cast(values.filter(pa.array(mask)), pa.float64()))
    result = np.full(len(numbers), MISSING, dtype=np.int64)
    for name, (low, high, factor) in EPOCH_SPANS.items():
        if unit in (None, name):
            inside = (numbers >= low) & (numbers < high)
            result[inside] = np.rint(numbers[inside] * factor)
    return result


def _localise(naive: np.ndarray, zone: str | None, row_zones: pa.Array | None) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds in UTC from microseconds of local clocks, and a mask of the times for which no zone is named."""
    result = np.full(len(naive), MISSING, dtype=np.int64)
    zones = pa.nulls(len(naive), pa.string()) if row_zones is None else row_zones
    zones = zones if zone is None else pc.fill_null(zones, zone)
    known = naive != MISSING
    for name in pc.unique(zones.filter(pa.array(known)).drop_null()).to_pylist():
        info = find_zone(name)
        if info is None:
            continue
        in_zone = known & np.asarray(pc.fill_null(pc.equal(zones, name), False))
        local = pd.DatetimeIndex(naive[in_zone].view("datetime64[us]"))
        aware = local.tz_localize(info, ambiguous=np.ones(len(local), dtype=bool), nonexistent="shift_forward")
        result[in_zone] = aware.as_unit("us").asi8
    return result, known & np.asarray(pc.is_null(zones))


def _mask_impossible(micros: np.ndarray) -> np.ndarray:
    """Replace times outside the range of calendars and zones by MISSING."""
    return np.where((micros >= EARLIEST) & (micros < LATEST), micros, MISSING)


def _matches(values: pa.Array, pattern: str) -> np.ndarray:
    return np.asarray(pc.fill_null(pc.match_substring_regex(values, pattern), False))
