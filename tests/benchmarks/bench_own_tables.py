"""A log in tables that are not ours: what connecting, checking, the nights and a look at a month cost.

    python -m tests.benchmarks.bench_own_tables [ANSWERS [MONTHS]]      (default 10,000,000 and 13)

Answers of 40,000 learners to 2,000 items, spread over the months, in a table with indexes on its times and on learner
and time. Seconds are given on the wall clock. Promised: a look at a month whose rows were written again takes no longer
than a second, and the check no longer than a minute. Exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import psycopg

from irt_assets.common.partitions import MONTHS, Month
from irt_assets.intake.own_tables import propose
from irt_assets.intake.own_tables_check import check
from irt_assets.responses.data_versions import data_version, states_of
from irt_assets.responses.late_months import arrivals
from irt_assets.responses.observed_days import look_again
from irt_assets.responses.scales import read_scales
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.own_log import store_mapping
from resources.postgres.schema import upgrade
from resources.settings import Settings

T = TypeVar("T")
NOW = datetime.now(UTC)
LOOK_S, CHECK_S = 1.0, 60.0
MADE = """
    CREATE SCHEMA exam;
    CREATE TABLE exam.answers AS
      SELECT 'a' || n AS id, 'u' || n % 40000 AS user_id, 'q' || n * 7 % 2000 AS item_id,
             t.at AS completed_at, n % 3 > 0 AS correct, 5000 + n % 50000 AS response_time_ms, t.at AS updated_at
      FROM generate_series(1, {answers}) n,
        LATERAL (SELECT timestamptz '{start}' + n / {answers}.0 * (timestamptz '{end}' - '{start}') AS at) t;
    CREATE INDEX ON exam.answers (completed_at);
    CREATE INDEX ON exam.answers (updated_at);
    CREATE INDEX ON exam.answers (user_id, completed_at);
    INSERT INTO question (item_id, scale_id) SELECT 'q' || n, 'default' FROM generate_series(0, 1999) n
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("answers", nargs="?", type=int, default=10_000_000)
    parser.add_argument("months", nargs="?", type=int, default=13)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, months = Path(folder), MONTHS.back(NOW, sizes.months)
        settings = Settings(irt_home=home, irt_first_month=months[0], _env_file=None)  # type: ignore[call-arg]
        try:
            return measure(Database(settings), sizes.answers, months)
        finally:
            EmbeddedPostgres(home / "postgres").stop()


def measure(database: Database, answers: int, months: list[str]) -> int:
    upgrade(database)
    start, end = Month(months[0]).start, Month(months[-1]).end
    with database.connect() as connection:
        connection.execute(MADE.format(answers=answers, start=start, end=end).encode())
        proposal = propose(connection, "exam.answers", given={}, zone=None)
        store_mapping(connection, "log", "exam.answers", proposal.query, {}, "benchmark")
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    print(f"{answers:,} answers of {len(months)} months; load {os.getloadavg()[0]:.1f}", flush=True)
    last, sunday = months[-1], NOW - timedelta(days=(NOW.weekday() + 1) % 7)
    checked, _ = timed("the check", database, lambda c: list(check(c, proposal.query, list(proposal.cells), print)))
    timed("the first night, or a Sunday's: all days", database, lambda c: look_again(c, sunday))
    timed("any other night: 62 days", database, lambda c: look_again(c, sunday - timedelta(days=1)))
    timed("a month is hashed", database, lambda c: data_version(c, last, read_scales(c)))
    with database.connect() as connection:
        connection.execute(
            """UPDATE exam.answers SET correct = NOT correct, updated_at = now()
               WHERE id IN (SELECT id FROM exam.answers WHERE completed_at >= %s LIMIT 2000)""",
            (Month(last).start,),
        )
    look, _ = timed(
        "2,000 answers regraded: is the month another?", database, lambda c: states_of(c, last, read_scales(c))
    )
    late, _ = timed(
        "2,000 answers regraded: a tick's search", database, lambda c: arrivals(c, NOW - timedelta(hours=1), NOW)
    )
    kept = look <= LOOK_S and late <= LOOK_S and checked <= CHECK_S
    print("kept" if kept else "not kept")
    return 0 if kept else 1


def timed(what: str, database: Database, run: Callable[[psycopg.Connection], T]) -> tuple[float, T]:
    begun = time.perf_counter()
    with database.connect() as connection:
        found = run(connection)
    seconds = time.perf_counter() - begun
    print(f"{what:<46} {seconds:6.2f} s", flush=True)
    return seconds, found


if __name__ == "__main__":
    sys.exit(main())
