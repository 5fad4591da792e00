"""Two million late answers at once: what a tick of the sensor `late_answers` costs, and every tick of the day after.

    python -m tests.benchmarks.bench_late [ON_TIME [LATE]]      (default 3,000,000 and 2,000,000)

A log of five months of practice that arrived in time, all of it made; then the late answers, spread over the sixty days
before, are committed as one import. The ticks are those of the daemon: the real sensor, a real instance. Seconds are
given on the wall clock and of processor time (ours, the server's and its workers'), which tells what a busy machine
would hide. Promised, in processor time: 30 s for any tick, as Dagster gives it 60, and 12 s for an idle one, which is a
tenth of a core at a tick every two minutes. Exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psutil
import psycopg

from irt_assets.common.partitions import MONTHS, WEEKS, Month, day_bounds, day_of, week_of
from irt_assets.definitions import build_defs
from irt_assets.responses.observe import answer_versions
from jobs.watching.late_answers_cursor import Memory
from resources.files.object_store import object_store
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.postgres.sources import record_sources
from resources.settings import Settings
from tests.testbed.partitions import ensure_month_partitions

NOW = datetime.now(UTC)
MONTHS_MADE = MONTHS.back(NOW, 5)
LEARNERS, ITEMS, LATE_DAYS = 40_000, 2_000, 60
PROMISED_BUSY_S, PROMISED_IDLE_S = 30.0, 12.0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("on_time", nargs="?", type=int, default=3_000_000)
    parser.add_argument("late", nargs="?", type=int, default=2_000_000)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = Settings(irt_home=home, irt_first_month=MONTHS_MADE[0], _env_file=None)  # type: ignore[call-arg]
        try:
            return measure(settings, sizes.on_time, sizes.late)
        finally:
            EmbeddedPostgres(home / "postgres").stop()


def measure(settings: Settings, on_time: int, late: int) -> int:
    database = Database(settings)
    upgrade(database)
    start, today = Month(MONTHS_MADE[0]).start, day_bounds(day_of(NOW))[0]
    with database.connect() as connection:
        ensure_month_partitions(connection, MONTHS_MADE[0], f"{NOW:%Y-%m}")
        connection.execute(
            "INSERT INTO question (item_id, scale_id, topic_id) SELECT 'q' || n, 'default', 't' || n %% 20"
            " FROM generate_series(0, %s) n",
            (ITEMS - 1,),
        )
        insert(connection, "a", on_time, start, today, "completed_at")
        connection.execute("UPDATE data_change SET changed_at = '-infinity'")
        record_sources(connection, "features_topic_daily", answer_versions(connection, start, today))
        for month in MONTHS_MADE:
            connection.execute(
                "INSERT INTO scored_snapshot (month, snapshot_hash, uri, data_hash, n_attempts, counts, rules)"
                " VALUES (%s, %s, 'none', 'another', 1, '{}', '{}')",
                (month, month),
            )
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    print(f"{on_time:,} answers in time, {late:,} late; load {os.getloadavg()[0]:.1f}", flush=True)
    (settings.irt_home / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(settings.irt_home / "instance")) as instance:
        for week in [*WEEKS.back(NOW, 20), week_of(NOW)]:
            instance.report_runless_asset_event(dg.AssetMaterialization("weekly_kpi", partition=week))
        sensor = Sensor(settings, database, instance)
        sensor.tick("nothing late")
        with database.connect() as connection:
            insert(connection, "l", late, today - timedelta(days=LATE_DAYS), today, "now() - interval '10 minutes'")
            connection.execute(
                "UPDATE data_change SET changed_at = now() - interval '10 minutes' WHERE isfinite(changed_at)"
            )
        ticks = [sensor.tick("all of it late")]
        sensor.cursor = replace(Memory.read(sensor.cursor, NOW), night="").write()
        ticks.append(sensor.tick("its months, at night"))
        while sensor.months_left():
            ticks.append(sensor.tick("its further months"))
        idle = sensor.tick("idle, the day after")
    kept = max(ticks) < PROMISED_BUSY_S and idle < PROMISED_IDLE_S
    print("kept" if kept else "not kept")
    return 0 if kept else 1


class Sensor:
    def __init__(self, settings: Settings, database: Database, instance: dg.DagsterInstance) -> None:
        resources = {"database": database, "store": object_store(settings)}
        self.defs, self.instance = build_defs(settings, resources=resources), instance
        self.resources = {"database": database}
        self.cursor: str | None = None
        self.server = EmbeddedPostgres(settings.irt_home / "postgres")

    def tick(self, what: str) -> float:
        """Seconds of processor time of one tick."""
        begun, used = time.perf_counter(), self.processor_seconds()
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources=self.resources, definitions=self.defs
        ) as context:
            found = self.defs.resolve_sensor_def("late_answers").evaluate_tick(context)
        self.cursor = found.cursor
        seconds, processor = time.perf_counter() - begun, self.processor_seconds() - used
        asked = [str(request.job_name) for request in found.run_requests or ()]
        jobs = ", ".join(f"{asked.count(job)} × {job}" for job in sorted(set(asked))) or "nothing"
        print(f"{what:<22} {seconds:5.1f} s, processor {processor:5.1f} s; asks for {jobs}", flush=True)
        return processor

    def processor_seconds(self) -> float:
        """Of this process and of the server's that have ended, as those of a tick have."""
        own, theirs = time.process_time(), psutil.Process(self.server.status().pid).cpu_times()
        return own + theirs.children_user + theirs.children_system

    def months_left(self) -> bool:
        return '"months":[]' not in (self.cursor or "")


def insert(connection: psycopg.Connection, name: str, n: int, start: datetime, end: datetime, recorded_at: str) -> None:
    """`n` answers spread evenly over [start, end) in the order of time."""
    connection.execute(
        f"""INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, session_id, started_at, correct,
                                      response_time_ms, hints_used, mode, recorded_at)
            SELECT *, {recorded_at} FROM (
                SELECT %(name)s || n, %(start)s::timestamptz + (n * %(step)s) * interval '1 second' AS completed_at,
                       'u' || (n * 7919) %% %(learners)s, 'q' || (n * 104729) %% %(items)s, 's' || n / 10,
                       %(start)s::timestamptz + (n * %(step)s - 30) * interval '1 second', n %% 3 > 0,
                       (5000 + n %% 30000)::int, (n %% 2)::int, 'live'
                FROM generate_series(0::bigint, %(n)s - 1) n) t""".encode(),
        {
            "name": name,
            "start": start,
            "step": (end - start).total_seconds() / n,
            "n": n,
            "learners": LEARNERS,
            "items": ITEMS,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
