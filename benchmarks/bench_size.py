"""Seconds and memory of import, origin, scored snapshot and status for a month of five million answers.

    python -m benchmarks.bench_size [ANSWERS [LEARNERS]]      (default 5,000,000 and 100,000)

Learners answer 50 of 500 items, drawn for each learner; one in 20 is omitted. Each step is its own process, whose
processor time and peak memory are printed. Goals on two idle cores: the origin in 150 s and 1.2 GB, the scored
snapshot in 60 s. Exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from irt_assets.common.partitions import MONTHS, Month
from resources.postgres.embedded_postgres import EmbeddedPostgres

(MONTH,) = MONTHS.last_keys(datetime.now(UTC), 1)
ITEMS, PER_LEARNER = 500, 50
ORIGIN_S, ORIGIN_GB, SCORED_S = 150.0, 1.2, 60.0
RUN_SCORED = """
from irt_assets.runs.in_process_runs import run_month
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.settings import get_settings
settings = get_settings()
database = Database(settings)
with dagster_instance(settings, database) as instance:
    outcome = run_month(instance, settings, {month!r}, ["scored_responses"])
assert outcome.success, outcome
"""
IRT = ("-m", "irt_assets.cli")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("answers", nargs="?", type=int, default=5_000_000)
    parser.add_argument("learners", nargs="?", type=int, default=100_000)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {"IRT_HOME": str(home / "irt"), "IRT_FIRST_MONTH": MONTH}
        # In its own process, because the peak of a child is at least the memory of its parent.
        writer = multiprocessing.Process(target=write, args=(home, sizes.answers, sizes.learners))
        writer.start()
        writer.join()
        print(f"{sizes.answers:,} answers of {sizes.learners:,} learners in {MONTH}; load {os.getloadavg()[0]:.1f}")
        try:
            measure("db upgrade", *IRT, "db", "upgrade")
            measure("import questions", *IRT, "import", "questions", str(home / "questions.jsonl"))
            measure("import attempts", *IRT, "import", "attempts", str(home / "attempts.parquet"))
            origin = measure("scale init --origin", *IRT, "scale", "init", "--origin", MONTH)
            scored = measure("scored_responses", "-c", RUN_SCORED.format(month=MONTH))
            measure("status", *IRT, "status", may_fail=True)
        finally:
            EmbeddedPostgres(home / "irt" / "postgres").stop()
    return int(origin[0] > ORIGIN_S or origin[1] > ORIGIN_GB or scored[0] > SCORED_S)


def measure(name: str, *arguments: str, may_fail: bool = False) -> tuple[float, float]:
    """Run a step. Returns its seconds and its peak memory in GB."""
    began = time.monotonic()
    child = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds, memory = time.monotonic() - began, used.ru_maxrss * 1024 / 1e9
    print(
        f"{name:22} {seconds:7.1f} s, {used.ru_utime + used.ru_stime:7.1f} s of its own, {memory:5.2f} GB", flush=True
    )
    if child.returncode and not may_fail:
        sys.exit(f"{name} failed")
    return seconds, memory


def write(home: Path, answers: int, learners: int) -> None:
    """Write questions and attempts of a 2PL log."""
    rng = np.random.default_rng(1)
    with (home / "questions.jsonl").open("w") as file:
        for j in range(ITEMS):
            file.write(json.dumps({"item_id": f"q{j:03}", "scale_id": "default", "topic_id": f"t{j % 20}"}) + "\n")
    a, b = rng.lognormal(0, 0.25, ITEMS), rng.normal(0, 1, ITEMS)
    start, end = (int(bound.timestamp() * 1e6) for bound in Month(MONTH).bounds)
    each = answers // learners
    user = np.repeat(np.arange(learners), each)
    item = np.argsort(rng.random((learners, ITEMS), dtype=np.float32), axis=1)[:, :each].ravel()
    position = np.tile(np.arange(1, each + 1, dtype=np.int32), learners)
    theta = rng.normal(size=learners)[user]
    correct = rng.random(len(user)) < 1 / (1 + np.exp(-a[item] * (theta - b[item])))
    first_answer = rng.integers(start, end - each * 60_000_000, learners)[user] + (position - 1) * 60_000_000
    took = rng.integers(5_000, 55_000, len(user))
    omitted = rng.random(len(user)) < 0.05
    text = lambda pattern, n: pa.array([pattern % k for k in range(n)])  # noqa: E731
    table = pa.table(
        {
            "attempt_id": pa.array(np.char.add("a", np.arange(len(user)).astype(str))),
            "user_id": text("u%06d", learners).take(pa.array(user)),
            "item_id": text("q%03d", ITEMS).take(pa.array(item)),
            "session_id": text("s%06d", learners).take(pa.array(user)),
            "form_id": text("f%03d", 100).take(pa.array(user % 100)),
            "position": position,
            "started_at": pa.array(first_answer, pa.timestamp("us", tz="UTC")),
            "completed_at": pa.array(first_answer + took * 1000, pa.timestamp("us", tz="UTC")),
            "correct": pa.array(correct, mask=omitted),
            "response_time_ms": pa.array(took, mask=omitted),
            "mode": pa.array(["live"]).take(pa.array(np.zeros(len(user), dtype=np.int64))),
        }
    )
    pq.write_table(table, home / "attempts.parquet")


if __name__ == "__main__":
    sys.exit(main())
