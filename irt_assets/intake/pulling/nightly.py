"""The nightly comparison of a source with the log, day by day.

If a day's counts differ, missing answers are fetched, and answers that the source has no longer are withdrawn.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from irt_assets.common.partitions import day_bounds
from irt_assets.intake.corrections import AnswerSelection, withdraw_answers
from irt_assets.intake.pulling.pull import Pull, PullStaging, add_rows, open_source
from irt_assets.intake.pulling.pull_state import DayComparison, PullState, compared_days, pull_lock, store_day
from irt_assets.intake.pulling.rows import Part, SqlRows
from irt_assets.intake.pulling.sources_file import PullSource
from irt_assets.intake.sources import TableSource
from resources.postgres.database import Database

DAYS = 35
MAX_SHARE = 0.01
"""Largest share of a day's answers that is changed without a person's confirmation."""
BY = "irt pull"
LOG_COUNTS = """
    SELECT (completed_at AT TIME ZONE 'UTC')::date, count(*) FROM response_log
    WHERE pulled_from = %s AND completed_at >= %s AND completed_at < %s GROUP BY 1
"""


def compare_days(
    database: Database,
    source: PullSource,
    now: datetime,
    *,
    confirm: date | None = None,
    seconds: float | None = None,
    at_once: bool = False,
) -> Iterator[DayComparison]:
    """Compare each of the last `DAYS` complete days once per night. Yields the days that were read again.

    A day is read again if its counts differ and have changed since the last comparison. `confirm`: compare only
    this day, and change it even if more than `MAX_SHARE` of its answers change. `seconds`: time after which no further
    day is started. `at_once`: also compare days compared since midnight. Raises the errors of `Pull.run`.
    """
    ends = time.monotonic() + (seconds or float("inf"))
    with pull_lock(database, source.name), open_source(source, database) as reader:
        state = Pull(database, source).load_state(reader)
        if state is None or state.first_pull is not None:
            return
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        bounds = [today - timedelta(days=n) for n in range(DAYS, -1, -1)]
        if confirm is not None:
            begin = datetime(confirm.year, confirm.month, confirm.day, tzinfo=UTC)
            bounds = [begin, begin + timedelta(days=1)]
        with database.connect() as connection:
            here = dict(connection.execute(LOG_COUNTS, (state.number, bounds[0], bounds[-1])).fetchall())
            known = compared_days(connection, source.name)
        unchanged: list[DayComparison] = []
        for begin, there in zip(bounds, reader.count_days(bounds), strict=False):
            day, was = begin.date(), known.get(begin.date())
            if was is not None and was.compared_at >= today and day != confirm and not at_once:
                continue
            if time.monotonic() > ends:
                break
            found = DayComparison(source.name, day, there, here.get(day, 0), 0, 0, waits=False, compared_at=now)
            if was is not None and (was.there, was.here) == (found.there, found.here) and day != confirm:
                unchanged.append(replace(was, compared_at=now))
            elif found.there == found.here and day != confirm:
                unchanged.append(found)
            else:
                found = _reread_day(database, source, reader, state, found, confirmed=day == confirm)
                with database.connect() as connection:
                    store_day(connection, found)
                yield found
        with database.connect() as connection:
            for found in unchanged:
                store_day(connection, found)


def _reread_day(
    database: Database, source: PullSource, reader: SqlRows, state: PullState, day: DayComparison, *, confirmed: bool
) -> DayComparison:
    """Read the day again, and fetch and withdraw answers. Unless `confirmed`, the day waits if more than
    `MAX_SHARE` of its answers would change."""
    start, end = day_bounds(str(day.day))
    part = Part(start=start, end=end)
    rows = TableSource(source.name, reader.batch_columns, day.there, lambda: (read.rows for read in reader.read(part)))
    with database.connect() as connection:
        staging = PullStaging(connection, state.number, str(day.day))
        report, _ = add_rows(connection, database, source, reader, rows, state.number, staging)
        still = reader.existing_ids(staging.vanished)
        vanished = [attempt for attempt in staging.vanished if attempt not in still]
        missing = report.accepted + report.corrected
        waits = not confirmed and missing + len(vanished) > MAX_SHARE * max(day.there, day.here)
        if waits:
            connection.rollback()
        elif vanished:
            selection = AnswerSelection(ids=vanished, start=start, end=end)
            withdraw_answers(connection, selection, by=BY, reason=f"{source.name} no longer has it")
        here = sum(n for _, n in connection.execute(LOG_COUNTS, (state.number, start, end)))
    return replace(day, missing=missing, vanished=len(vanished), waits=waits, here=here)
