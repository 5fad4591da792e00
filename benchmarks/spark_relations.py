"""Daily features, abilities and weekly KPIs on Spark compared with DuckDB, over the same Parquet files.

    python -m benchmarks.spark_relations --millions 2 5
    python -m benchmarks.spark_relations --millions 25 100 --workers 2 --memory 3g

Attempts are made up: sessions of ten answers to two topics on a day, ten sessions a learner, spread over the 365 days
before a Monday; 2,000 items. Features are computed for the whole year, in the parts in which they would go to
PostgreSQL, and are then discarded. KPIs are computed in parts, too, as records. Abilities are computed from the whole
year; in the DuckDB runs one process scores all learners at once. Each pair of engine and size runs in its own process,
after a first query. Features are computed twice, because Java takes ten seconds or more to compile code that runs for
the first time. `driver` is the process's peak memory without Java's, which is in the column `Java`. `--workers` starts
a standalone cluster here, of one core and `--memory` a worker; without this option executors are threads of
`local[cores]`. `stages` is the part of the time in which executors worked. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np

from benchmarks.spark_masters import java_memory, master, stage_seconds
from irt_assets.abilities.batch import SPARK_SCORE_SCHEMA, score_group
from irt_assets.features.daily import topic_days
from irt_assets.kpis.weekly import kpi_parts
from irt_assets.ledger.publications import PublishedSet
from irt_assets.responses.scored_answers import responses_of, scored_answers
from irt_assets.scales.item_status import Withdrawals
from irt_assets.scales.scale import Scale
from irt_assets.spark.window import map_learners
from resources.cluster.relational import Run, on_duckdb, on_spark
from resources.settings import Settings

END = datetime(2026, 11, 2, tzinfo=UTC)
START = END - timedelta(days=365)
SCALE = "math"
ITEMS = 2000
ATTEMPTS = """
COPY (
  SELECT 'a' || i AS id, 'learner ' || (session % {learners}) AS user_id, 'item ' || item AS item_id,
         'topic ' || (item % 40) AS topic_id, 's' || session AS session_id,
         NULL::text AS form_id, NULL::int AS position, moment - INTERVAL 1 MINUTE AS started_at, moment AS completed_at,
         hash(i, 1) % 100 < 65 AS correct, NULL::text AS response,
         (3000 + hash(i, 2) % 60000)::bigint AS response_time_ms,
         hash(i, 3) % 10 = 0 AS hint_used, (hash(i, 3) % 10 = 0)::int AS hints_used,
         CASE WHEN hash(i, 4) % 50 = 0 THEN 'sandbox' ELSE 'live' END AS mode, moment AS recorded_at,
         (session % {learners})::bigint AS learner_key, 'math' AS scale_id, NULL::smallint AS max_score,
         CASE WHEN hash(i, 4) % 50 = 0 THEN 'sandbox' END AS reason,
         CASE WHEN hash(i, 4) % 50 > 0 THEN (hash(i, 1) % 100 < 65)::smallint END AS verdict_score
  FROM (SELECT i, i // 10 AS session, (hash(i // 10, 5) % 40 + (i % 2) + 40 * (hash(i, 6) % 49)) % {items} AS item,
               TIMESTAMPTZ '{start}' + INTERVAL (hash(i // 10, 7) % 365) DAY
                 + INTERVAL (hash(i // 10, 8) % 80000 + (i % 10) * 60) SECOND AS moment
        FROM range({first}, {last}) t(i))
) TO '{folder}/attempt/{first:012}.parquet' (COMPRESSION zstd)
"""
AT_ONCE = 1_000_000
COLUMNS = ("attempts", "task", "rows", "Spark", "stages", "driver", "Java", "DuckDB", "ratio", "its memory")


def write_log(folder: Path, n: int) -> None:
    (folder / "attempt").mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for first in range(0, n, AT_ONCE):
            connection.execute(
                ATTEMPTS.format(
                    learners=n // 100, items=ITEMS, start=START, folder=folder, first=first, last=first + AT_ONCE
                )
            )
        connection.execute(
            f"COPY (SELECT 'item ' || i AS item_id, '{SCALE}' AS scale_id, 'topic ' || (i % 40) AS topic_id "
            f"FROM range({ITEMS}) t(i)) TO '{folder}/question.parquet'"
        )
        connection.execute(
            f"COPY (SELECT 'learner ' || i AS user_id, i % 100 = 0 AS is_test, '{SCALE}' AS target_scale_id, "
            f"0.5::double AS target_theta FROM range({n // 100}) t(i)) TO '{folder}/learner.parquet'"
        )


def on_files(engine: str, folder: Path, url: str) -> Run:
    files = {"attempt": "attempt/*.parquet", "question": "question.parquet", "learner": "learner.parquet"}
    if engine == "duckdb":
        connection = duckdb.connect()
        connection.execute(f"SET threads = {os.cpu_count()}")
        for name, files_of_relation in files.items():
            connection.execute(f"CREATE VIEW {name} AS FROM read_parquet('{folder}/{files_of_relation}')")
        return on_duckdb(connection)
    from resources.cluster.spark import spark_session

    session = spark_session(Settings(irt_spark=url, _env_file=None))  # type: ignore[call-arg]
    for name, files_of_relation in files.items():
        session.read.parquet(f"{folder}/{files_of_relation}").createOrReplaceTempView(name)
    return on_spark(session)


def features(run: Run) -> int:
    return sum(rows.to_pandas().shape[0] for rows in run.parts(topic_days(START, END)))


def made_up_set() -> PublishedSet:
    rng = np.random.default_rng(1)
    items = {f"item {i}": (float(rng.lognormal(0, 0.3)), float(rng.normal()), 0.0) for i in range(ITEMS)}
    return PublishedSet(items, "made up")


def records(run: Run) -> int:
    scales = {SCALE: Scale(SCALE)}
    parts = kpi_parts(run, END, scales, {SCALE: made_up_set()})
    return sum(len(part) for part in parts)


def abilities(run: Run) -> int:
    scale, published = Scale(SCALE), made_up_set()
    if run.backend is on_duckdb:
        responses = responses_of(run(scored_answers(START, END, in_lake=True)), Withdrawals())
        return score_group(published, scale, None, *responses).num_rows
    score, items = partial(score_group, published, scale, 1), list(published.items)
    parts = map_learners(run, START, END, items, Withdrawals(), score, SPARK_SCORE_SCHEMA)
    return sum(part.num_rows for part in parts)


TASKS: dict[str, Callable[[Run], int]] = {
    "features": features,
    "features again": features,
    "abilities": abilities,
    "KPIs": records,
}


def run_tasks(engine: str, folder: Path, url: str, tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields seconds, rows and memory of each task, in its own process, after a query that starts the engine."""
    run = on_files(engine, folder, url)
    run.read("SELECT count(*) AS n FROM question")

    def in_stages() -> float:
        return stage_seconds(run.connection) if engine == "spark" else 0.0

    for name in tasks:
        began, worked = time.perf_counter(), in_stages()
        rows = TASKS[name](run)
        yield {
            "task": name,
            "seconds": time.perf_counter() - began,
            "stages": in_stages() - worked,
            "rows": rows,
            "driver": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "java": java_memory(),
        }


def measure(engine: str, folder: Path, url: str, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    module = [sys.executable, "-m", "benchmarks.spark_relations"]
    command = [*module, "--of", engine, "--folder", str(folder), "--master", url, "--tasks", *tasks]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {result["task"]: result for result in map(json.loads, output.splitlines())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[2, 5])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--memory", default="2g")
    parser.add_argument("--folder", type=Path, help="where the files are made, a temporary folder unless named")
    parser.add_argument("--spark-only", action="store_true", help="where DuckDB has too little memory")
    parser.add_argument("--of", choices=["duckdb", "spark"], help=argparse.SUPPRESS)
    parser.add_argument("--master", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.of:
        for result in run_tasks(options.of, options.folder, options.master, options.tasks):
            print(json.dumps(result), flush=True)
        return
    print(f"| {' | '.join(COLUMNS)} |\n|--:|---|{'--:|' * (len(COLUMNS) - 2)}")
    with (
        TemporaryDirectory() as own,
        master(options.workers, options.workers or options.cores, options.memory, Path(own)) as url,
    ):
        for millions in options.millions:
            with TemporaryDirectory(dir=options.folder) as folder:
                write_log(Path(folder), int(millions * 1e6))
                local = {} if options.spark_only else measure("duckdb", Path(folder), url, options.tasks)
                spark = measure("spark", Path(folder), url, options.tasks)
            for task, on_spark in spark.items():
                here, peer = local.get(task), ["", "", ""]
                if here is not None:
                    assert here["rows"] == on_spark["rows"], (here, on_spark)
                    ratio = on_spark["seconds"] / here["seconds"]
                    peer = [f"{here['seconds']:.1f} s", f"{ratio:.1f}", f"{here['driver']:.0f} MB"]
                cells = [f"{millions:g} M", task, f"{on_spark['rows']:,}", f"{on_spark['seconds']:.1f} s"]
                cells += [
                    f"{on_spark['stages']:.1f} s",
                    f"{on_spark['driver']:.0f} MB",
                    f"{on_spark['java']:.0f} MB",
                    *peer,
                ]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
