"""A first pull compared with a bare COPY: rows per second from a PostgreSQL table into the same kind of tables.

    python -m benchmarks.bench_pull [ROWS]      (default 1,000,000)

The source is a table in its own schema on the same embedded server, with indexes on cursor and time. The bare COPY
reads the table through this process into a temporary table, and inserts the rows with one INSERT into existing
partitions, which is the minimum work of storing answers. The pull reads 35 days, day by day, with all its checks.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from pydantic import SecretStr

from irt_assets.intake.pulling.pull import Pull
from irt_assets.intake.pulling.sources_file import PullSource
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from tests.testbed.partitions import ensure_month_partitions

DAYS = 35
COLUMNS = "attempt_id, user_id, item_id, completed_at, correct, response_time_ms"
SOURCE = f"""
    CREATE SCHEMA lms;
    CREATE TABLE lms.answers AS
    SELECT 'a' || n AS attempt_id, 'u' || n %% 50000 AS user_id, 'q' || n %% 2000 AS item_id,
           now() - interval '{DAYS} days' + n * (interval '{DAYS} days' / %(rows)s::float8) AS completed_at,
           n %% 5 < 3 AS correct, 2000 + n %% 60000 ::bigint AS response_time_ms
    FROM generate_series(1, %(rows)s) n;
    CREATE INDEX ON lms.answers (completed_at, attempt_id);
    ANALYZE lms.answers
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        url = server.start()
        try:
            times = {kind: run(url, Path(folder), kind, rows) for kind in ("bare", "pull")}
        finally:
            server.stop()
    for kind, seconds in times.items():
        print(f"{kind}: {rows / seconds:,.0f} rows/s ({seconds:.1f} s)")
    print(f"the pull reaches {times['bare'] / times['pull']:.2f} of the bare COPY")


def run(url: str, folder: Path, kind: str, rows: int) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {kind}".encode())
    own = f"{url.rpartition('/')[0]}/{kind}"
    first = f"{datetime.now(UTC) - timedelta(days=DAYS + 31):%Y-%m}"
    settings = Settings(
        irt_home=folder / kind, database_url=SecretStr(own), irt_first_month=first, irt_db_schema="irt", _env_file=None
    )
    database = Database(settings)
    upgrade(database)
    with psycopg.connect(own) as connection:
        for statement in SOURCE.split(";"):
            values = {"rows": rows} if "%(rows)" in statement else None
            connection.execute((statement if values else statement.replace("%%", "%")).encode(), values)
    began = time.perf_counter()
    if kind == "pull":
        source = PullSource(
            name="lms",
            address=SecretStr(own),
            table="lms.answers",
            mapping={"columns": {name: name for name in COLUMNS.split(", ")}},
            cursor={"column": "completed_at", "key": "attempt_id"},
        )
        report = Pull(database, source).run()
        assert report.accepted == rows, report
    else:
        copy_bare(database, own)
    return time.perf_counter() - began


def copy_bare(database: Database, url: str) -> None:
    now = datetime.now(UTC)
    with psycopg.connect(url) as source, database.connect() as target:
        ensure_month_partitions(target, f"{now - timedelta(days=DAYS):%Y-%m}", f"{now:%Y-%m}")
        target.execute("CREATE TEMPORARY TABLE copied (LIKE response_log INCLUDING DEFAULTS) ON COMMIT DROP")
        with (
            source.cursor().copy(f"COPY lms.answers ({COLUMNS}) TO STDOUT (FORMAT binary)".encode()) as out,
            target.cursor().copy(f"COPY copied ({COLUMNS}) FROM STDIN (FORMAT binary)".encode()) as into,
        ):
            for block in out:
                into.write(block)
        target.execute(f"INSERT INTO response_log ({COLUMNS}) SELECT {COLUMNS} FROM copied".encode())


if __name__ == "__main__":
    main()
