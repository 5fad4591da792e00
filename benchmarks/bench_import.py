"""Import compared with a bare COPY: rows per second into the same indexed tables, and peak memory.

    python -m benchmarks.bench_import [ROWS]      (default 1,000,000; the promise is checked at 10,000,000)

Both write the same answers into an empty, migrated database of the same embedded server. The bare COPY reads a file
with exactly the columns of response_log into a temporary table, and inserts the rows with one INSERT into existing
month partitions. The import reads a CSV in our own format with all its checks, once into partitions that it creates
and once into existing partitions. Goals: at least 0.6 of the bare COPY's rate and at most 1 GB of memory for the
importing process. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from pydantic import SecretStr

from irt_assets.intake.load import import_attempts
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from tests.testbed.partitions import ensure_month_partitions

FIRST_MONTH, MONTHS = "2026-05", 6
BATCH = 250_000


def write_log(path: Path, rows: int) -> None:
    """Write answers in order of time over six months, with 50,000 learners, 2,000 items and unordered ids."""
    random = np.random.default_rng(1)
    start = np.datetime64(FIRST_MONTH, "M").astype("datetime64[ms]")
    end = (np.datetime64(FIRST_MONTH, "M") + MONTHS).astype("datetime64[ms]")
    step = (end - start).astype(int) / rows
    writer = None
    for first in range(0, rows, BATCH):
        n = min(BATCH, rows - first)
        completed = start + ((np.arange(first, first + n) + random.random(n)) * step).astype("timedelta64[ms]")
        milliseconds = random.integers(2_000, 90_000, n)
        users = random.integers(0, 50_000, n)
        started = completed - milliseconds.astype("timedelta64[ms]")
        table = pa.table(
            {
                "attempt_id": pc.binary_join_element_wise(
                    *(pa.array(random.integers(10**8, 10**9, n)).cast(pa.string()) for _ in range(2)),
                    pa.array(np.arange(first, first + n)).cast(pa.string()),
                    "-",
                ),
                "completed_at": pa.array(completed).cast(pa.timestamp("ms", "UTC")),
                "user_id": pc.binary_join_element_wise("user", pa.array(users).cast(pa.string()), "-"),
                "item_id": pc.binary_join_element_wise(
                    "item", pa.array(random.integers(0, 2_000, n)).cast(pa.string()), "-"
                ),
                "session_id": pc.binary_join_element_wise(
                    pa.array(users).cast(pa.string()), pc.strftime(pa.array(completed), "%Y%m%d"), "-"
                ),
                "position": random.integers(1, 60, n),
                "started_at": pa.array(started).cast(pa.timestamp("ms", "UTC")),
                "correct": random.random(n) < 0.6,
                "response": pa.array(list("ABCD")).take(pa.array(random.integers(0, 4, n))),
                "response_time_ms": milliseconds,
                "hints_used": random.integers(0, 2, n),
                "mode": pa.array(["live"] * n),
            }
        )
        writer = writer or pacsv.CSVWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def empty_database(server: EmbeddedPostgres, name: str = "benchmark") -> Database:
    url = server.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
        connection.execute("CHECKPOINT")
    sibling = f"{url.rpartition('/')[0]}/{name}"
    database = Database(Settings(database_url=SecretStr(sibling), _env_file=None))
    upgrade(database)
    return database


def make_months(database: Database) -> None:
    with database.connect() as connection:
        ensure_month_partitions(connection, FIRST_MONTH, str(np.datetime64(FIRST_MONTH, "M") + MONTHS - 1))


def bare_copy(database: Database, log: Path) -> float:
    """Seconds of a COPY of the unchanged file and an INSERT."""
    make_months(database)
    start = time.perf_counter()
    with database.connect() as connection, log.open("rb") as file:
        columns = file.readline().decode().strip().replace('"', "")
        connection.execute("SET temp_buffers = '32MB'")
        connection.execute("CREATE TEMPORARY TABLE bare (LIKE response_log INCLUDING DEFAULTS) ON COMMIT DROP")
        with connection.cursor().copy(f"COPY bare ({columns}) FROM STDIN (FORMAT csv)") as copy:
            while block := file.read(2**20):
                copy.write(block)
        connection.execute(f"INSERT INTO response_log ({columns}) SELECT {columns} FROM bare")
    return time.perf_counter() - start


def run_import(url: str, log: Path, result: multiprocessing.Queue) -> None:
    """Run the import in its own process, to measure its own peak memory."""
    database = Database(Settings(database_url=SecretStr(url), _env_file=None))
    start = time.perf_counter()
    report = import_attempts(database, [log], first_month=FIRST_MONTH)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result.put((seconds, peak, report.accepted))


def measure_import(database: Database, log: Path) -> tuple[float, int, int]:
    """Seconds, peak memory in bytes, and number of answers of an import."""
    context = multiprocessing.get_context("spawn")
    result = context.Queue()
    process = context.Process(target=run_import, args=(database.url, log, result))
    process.start()
    measurement = result.get()
    process.join()
    return measurement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # as root, the server runs as nobody
        log = Path(folder) / "log.csv"
        write_log(log, rows)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        try:
            bare = bare_copy(empty_database(server), log)
            into_new = measure_import(empty_database(server), log)
            database = empty_database(server)
            make_months(database)
            into_old = measure_import(database, log)
        finally:
            server.stop()
    print(f"{rows:,} answers         rows/s    ratio (promised: 0.6)    peak memory (promised: 1,024 MB)")
    print(f"bare COPY          {rows / bare:>10,.0f}")
    is_fast_enough = True
    for name, (seconds, peak, accepted) in {"into new months": into_new, "into old months": into_old}.items():
        print(f"{name:<18} {rows / seconds:>10,.0f} {bare / seconds:>8.2f} {peak / 2**20:>26,.0f} MB")
        is_fast_enough &= bare / seconds >= 0.6 and peak <= 2**30 and accepted == rows
    return 0 if is_fast_enough else 1


if __name__ == "__main__":
    sys.exit(main())
