"""Processor seconds of a nightly run: fingerprints of the look-back, and verdicts on the answers of days that differ.

    python -m benchmarks.bench_verdicts [--rows ROWS] [--months MONTHS]      (default 100,000 a month, 3 months)

Learners answer 50 of 500 items once a month. All days of the look-back get their verdicts first. Then a day's answers
arrive, one in a hundred of them ten days late on average, so that about twenty days differ. Prints processor time of
this process and PostgreSQL for the fingerprints alone, the nightly run (fingerprints and verdicts), and the verdicts on
the new day. Goal for 5,000,000 answers a month and 12 months: 60 s per night. Exit status 1 if the nightly run takes
longer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import psycopg

from irt_assets.common.partitions import Month, day_bounds, month_of
from irt_assets.responses import verdicts
from irt_assets.responses.item_time import take_item_times
from irt_assets.scales.rules import Rules
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.log_months import make_verdict_month
from resources.postgres.schema import upgrade
from resources.settings import Settings
from tests.testbed.partitions import ensure_month_partitions

LAST, ITEMS, PER_LEARNER, LATE_DAYS = Month("2026-09"), 500, 50, 20
GOAL_S = 60.0
NEW_DAY = LAST.end.date()
FILL = """
    INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, session_id, correct, response_time_ms,
                              hints_used, mode, recorded_at)
    SELECT %(name)s || n, %(start)s::timestamptz + n * %(step)s * interval '1 second',
           'u' || (n / %(each)s + %(first)s) %% %(learners)s, 'q' || (n * 7 + n / %(each)s * 131) %% %(items)s,
           's' || n / %(each)s, n %% 3 > 0, (5000 + n %% 30000)::int, 0, 'live', now()
    FROM generate_series(0::bigint, %(n)s - 1) n
"""
JUDGED_DAYS = """
    INSERT INTO attempt_verdict
    SELECT attempt_id, completed_at, learner_key, item_id, 'default', NULL, 0, NULL, %s, recorded_at, now()
    FROM response_log JOIN learner USING (user_id)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--months", type=int, default=3)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(irt_home=Path(folder), irt_first_month="2025-01", _env_file=None)  # type: ignore[call-arg]
        try:
            return measure(Database(settings), EmbeddedPostgres(Path(folder) / "postgres"), sizes.rows, sizes.months)
        finally:
            EmbeddedPostgres(Path(folder) / "postgres").stop()


def measure(database: Database, server: EmbeddedPostgres, size: int, n_months: int) -> int:
    upgrade(database)
    months = [LAST]
    while len(months) < n_months:
        months.insert(0, months[0].previous)
    first = months[0].start.date()
    with database.connect() as connection:
        ensure_month_partitions(connection, months[0], LAST.next)
        connection.execute(
            "INSERT INTO question (item_id, scale_id) SELECT 'q' || n, 'default' FROM generate_series(0, %s) n",
            (ITEMS - 1,),
        )
        for month in months:
            fill(connection, month, size, size, *month.bounds)
    with database.connect() as connection:
        for month in months:
            make_verdict_month(connection, month)
            take_item_times(connection, month)
        connection.execute(JUDGED_DAYS, (verdicts.rules_hash(Rules()),))
        for fingerprint in verdicts._fingerprints(connection, first, NEW_DAY):
            verdicts._store_fingerprint(connection, fingerprint)
    of_day = size // 30
    with database.connect() as connection:
        fill(connection, "new", size, of_day, *day_bounds(NEW_DAY.isoformat()))
        late_since = LAST.end - timedelta(days=LATE_DAYS)
        fill(connection, "late", size, of_day // 100, late_since, LAST.end)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    time.sleep(0.5)  # for the backends above to end

    def timed(name: str, act: Callable[[], object]) -> float:
        def used() -> tuple[float, float]:
            server_times = psutil.Process(server.status().pid).cpu_times()
            return time.process_time(), server_times.children_user + server_times.children_system

        before = used()
        act()
        time.sleep(0.5)  # for the backend to end
        own, server_s = (now - was for now, was in zip(used(), before, strict=True))
        print(f"{name:34} {own + server_s:7.2f} s, of which PostgreSQL {server_s:7.2f} s", flush=True)
        return own + server_s

    def fingerprints() -> None:
        with database.connect() as connection:
            print(f"{len(verdicts.days_that_differ(connection, first, after))} days differ")

    def day_of(judge: Callable[[psycopg.Connection], object]) -> None:
        with database.connect() as connection:
            judge(connection)
            connection.rollback()

    after = NEW_DAY + timedelta(days=1)
    print(f"{size:,} answers a month, {n_months} months before {NEW_DAY} with {of_day:,}")
    timed("fingerprints", fingerprints)
    timed("the new day", lambda: day_of(lambda connection: verdicts.judge_day(connection, NEW_DAY)))
    night = timed("the night", lambda: verdicts.judge_differing(database, first, after))
    timed("a night without a change", lambda: verdicts.judge_differing(database, first, after))
    return int(night > GOAL_S)


def fill(connection: psycopg.Connection, name: str, size: int, n: int, start: datetime, end: datetime) -> None:
    """Insert `n` answers spread evenly over [start, end), with each learner's answers in succession."""
    values = {"name": f"{name}-", "start": start, "step": (end - start).total_seconds() / n, "n": n, "items": ITEMS}
    each = 1 if name == "late" else PER_LEARNER
    values |= {"each": each, "first": int(month_of(start)[-2:]) * 7, "learners": size // PER_LEARNER}
    connection.execute(FILL, values)


if __name__ == "__main__":
    sys.exit(main())
