"""Seconds for daily features and a week's KPIs of growing logs, read from PostgreSQL and written to it.

    python -m benchmarks.bench_features [ATTEMPTS ...]      (default 125,000 to 1,000,000, doubling)

Each learner makes fifty attempts over the ninety days before the end of a week, in sessions of five on one of twenty
topics. The bank has 2,000 items with published parameters, so a million attempts are 20,000 learners. Times are
measured for the features of every day and the KPIs of the last week, each from its first query to its commit, by the
wall clock and in processor seconds (ours, the server's and its workers'), which depend less on other load. Goals: both
together under 10 s by the wall clock for a million attempts on two idle cores, and linear growth (in processor time, a
further attempt costs the largest log at most 1.3 times its mean over the whole range, without fixed costs). Exit status
1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretStr

from irt_assets.abilities.batch import judge_until
from irt_assets.features.daily import write_features
from irt_assets.kpis.weekly import write_week
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from tests.testbed.partitions import ensure_month_partitions

WEEK, END = "2026-09-21", datetime(2026, 9, 28, tzinfo=UTC)
DAYS, ITEMS, TOPICS, ATTEMPTS_PER_LEARNER, PER_SESSION = 90, 2_000, 20, 50, 5
SIZES = [125_000, 250_000, 500_000, 1_000_000]
PROMISED_SECONDS, PROMISED_GROWTH = 10.0, 1.3


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("attempts", nargs="*", type=int, default=SIZES)
    sizes = parser.parse_args().attempts
    print(f"{'attempts':>10} {'learners':>9} {'features s':>11} {'KPIs s':>7} {'both s':>7}", end="")
    print(f" {'processor: features s':>22} {'KPIs s':>7} {'both s':>7}")
    wall, processor = [], []
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        try:
            measure(server, 20_000, "warm")  # compiles the kernels
            for size in sizes:
                features, kpis = measure(server, size, f"size_{size}")
                wall.append(features[0] + kpis[0])
                processor.append(features[1] + kpis[1])
                print(f"{size:>10,} {size // ATTEMPTS_PER_LEARNER:>9,}", end="")
                print(f" {features[0]:>11.2f} {kpis[0]:>7.2f} {wall[-1]:>7.2f}", end="")
                print(f" {features[1]:>22.2f} {kpis[1]:>7.2f} {processor[-1]:>7.2f}", flush=True)
        finally:
            server.stop()
    fast = all(t < PROMISED_SECONDS * max(1.0, n / 1e6) for n, t in zip(sizes, wall, strict=True))
    growth = 1.0
    if len(sizes) > 2:
        slopes = np.diff(processor) / np.diff(sizes)
        growth = float(slopes[-1] / slopes.mean())
        print(f"processor time of one more attempt at the end, over the mean: {growth:.2f} (at most {PROMISED_GROWTH})")
    return 0 if fast and growth <= PROMISED_GROWTH else 1


def measure(server: EmbeddedPostgres, size: int, name: str) -> list[tuple[float, float]]:
    """(wall, processor) seconds of the features of all days and the KPIs of the last week, in a separate database."""
    admin = server.start()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = f"{admin.rpartition('/')[0]}/{name}"
    database = Database(Settings(database_url=SecretStr(url), _env_file=None))
    upgrade(database)
    with database.connect() as connection:
        fill(connection, size)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    judge_until(database, END)
    results = []
    for work in (
        lambda connection: write_features(connection, END - timedelta(days=DAYS), END),
        lambda connection: write_week(connection, WEEK, END),
    ):
        started, used = time.perf_counter(), processor_seconds(server)
        with database.connect() as connection:
            work(connection)
        ended = time.perf_counter()
        time.sleep(0.5)  # the server's workers count once they have ended
        results.append((ended - started, processor_seconds(server) - used))
    return results


def processor_seconds(server: EmbeddedPostgres) -> float:
    """Processor seconds of this process and of all server processes that have ended."""
    own, server_times = time.process_time(), psutil.Process(server.status().pid).cpu_times()
    return own + server_times.children_user + server_times.children_system


def fill(connection: psycopg.Connection, size: int) -> None:
    random = np.random.default_rng(3)
    learners = size // ATTEMPTS_PER_LEARNER
    items = pc.binary_join_element_wise("item", pa.array(np.arange(ITEMS)).cast(pa.string()), "-")
    b, a = random.normal(0, 1, ITEMS), random.lognormal(0, 0.3, ITEMS)
    topics = pc.binary_join_element_wise("topic", pa.array(np.arange(ITEMS) % TOPICS).cast(pa.string()), "-")
    names = pc.binary_join_element_wise("user", pa.array(np.arange(learners)).cast(pa.string()), "-")
    theta = random.normal(0, 1, learners)
    session = np.repeat(np.arange(size // PER_SESSION), PER_SESSION)
    user = random.integers(0, learners, session[-1] + 1)[session]
    started = (random.random(session[-1] + 1) * DAYS * 86400)[session] + np.tile(
        np.arange(PER_SESSION) * 45.0, session[-1] + 1
    )
    topic = random.integers(0, TOPICS, session[-1] + 1)[session]
    item = random.integers(0, ITEMS // TOPICS, session.size) * TOPICS + topic
    seconds = np.exp(random.normal(3, 0.5, session.size))
    start = np.datetime64((END - timedelta(days=DAYS)).replace(tzinfo=None), "ms")
    times = [start + (s * 1000).astype("timedelta64[ms]") for s in (started - 3600, started - 3600 + seconds)]
    log = pa.table(
        {
            "attempt_id": pa.array(np.arange(session.size)).cast(pa.string()),
            "completed_at": pa.array(times[1]).cast(pa.timestamp("us", "UTC")),
            "user_id": names.take(pa.array(user)),
            "item_id": items.take(pa.array(item)),
            "session_id": pa.array(session).cast(pa.string()),
            "started_at": pa.array(times[0]).cast(pa.timestamp("us", "UTC")),
            "correct": random.random(session.size) < 1 / (1 + np.exp(-a[item] * (theta[user] - b[item]))),
            "response_time_ms": (seconds * 1000).astype(np.int64),
            "hints_used": (random.random(session.size) < 0.05).astype(np.int32),
            "mode": pa.array(["live"]).take(pa.array(np.zeros(session.size, np.int64))),
        }
    )
    ensure_month_partitions(connection, "2026-06", "2026-09")
    warehouse.append(connection, tables.response_log, log.to_pandas())
    bank = {"item_id": items, "scale_id": "default", "topic_id": topics}
    warehouse.append(
        connection, tables.question, pa.table({k: v for k, v in bank.items() if k != "scale_id"}).to_pandas()
    )
    goals = {"user_id": names, "target_theta": random.normal(0.5, 1, learners)}
    warehouse.append(connection, tables.learner, pa.table(goals).to_pandas().assign(attributes=[{}] * learners))
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
               VALUES ('default', %s, jsonb_build_object('a', %s::float8, 'b', %s::float8, 'c', 0),
                       '2026-01-01', 'origin', '', '', '')""",
            list(zip(items.to_pylist(), a.tolist(), b.tolist(), strict=True)),
        )


if __name__ == "__main__":
    sys.exit(main())
