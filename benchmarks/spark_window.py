"""A month judged in PostgreSQL and on Spark: seconds, memory of the driver, and whether the results are equal.

    python -m benchmarks.spark_window [ANSWERS [LEARNERS]]      (default 2,000,000 and 40,000)

Learners answer 50 of 500 items, as in bench_size. Spark runs on `local[2]` over Parquet copies of the log, so that its
Java process is driver and executors at once; its peak memory is given in addition to the driver's Python. The start of
Spark is timed separately. Exit status 1 if hashes or counts differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench_size import IRT, MONTH, measured, write
from resources.postgres.embedded_postgres import EmbeddedPostgres

HERE = f"""
import json, resource, sys, time
from irt_assets.responses.snapshot import read_snapshot, take_snapshot
from irt_assets.spark.window import judge_on_spark
from resources.postgres.database import Database
from resources.files.object_store import object_store
from resources.settings import get_settings
settings = get_settings()
database, store = Database(settings), object_store(settings)
def timed(log, **also):
    began = time.monotonic()
    snapshot, totals = take_snapshot(database, store, {MONTH!r}, None, log, judge_on_spark)
    seconds = time.monotonic() - began
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    also = {{name: value() for name, value in also.items()}}
    began = time.monotonic()
    rows = read_snapshot(store, snapshot, columns=("learner_key", "item_id", "reason", "score")).num_rows
    said = dict(seconds=seconds, own_gb=own, read_s=time.monotonic() - began, rows=rows, hash=totals.data_hash)
    print(json.dumps(said | dict(counts=totals.counts, left_out=totals.left_out) | also))
"""
IN_POSTGRES = HERE + "timed(None)"
COPY = (
    HERE
    + """
from pathlib import Path
import pyarrow.parquet as pq
from resources.cluster.relational import on_postgres
from resources.postgres.relations import ATTEMPT, LEARNER, QUESTION
with database.connect() as connection:
    for relation in (ATTEMPT, QUESTION, LEARNER):
        name = relation.get_name()
        pq.write_table(on_postgres(connection)(relation), Path(sys.argv[1], name + ".parquet"))
print("{}")
"""
)
ON_SPARK = (
    HERE
    + """
import os
from pathlib import Path
from resources.cluster.relational import on_spark
from resources.settings import Settings
from resources.cluster.spark import spark_session
began = time.monotonic()
session = spark_session(Settings(irt_spark="local[2]", _env_file=None))
for name in ("attempt", "question", "learner", "attempt_correction"):
    session.read.parquet(str(Path(sys.argv[1], name + ".parquet"))).createOrReplaceTempView(name)
started = time.monotonic() - began
def java():
    found = [file for file in Path("/proc").glob("[0-9]*/status") if "Name:\\tjava" in file.read_text()]
    ours = [file.read_text() for file in found if f"PPid:\\t{os.getpid()}\\n" in file.read_text()]
    return max((int(text.split("VmHWM:")[1].split()[0]) * 1024 / 1e9 for text in ours), default=0.0)
timed(on_spark(session), java_gb=java, start_s=lambda: started)
session.stop()
"""
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("answers", nargs="?", type=int, default=2_000_000)
    parser.add_argument("learners", nargs="?", type=int, default=40_000)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {"IRT_HOME": str(home / "irt"), "IRT_FIRST_MONTH": MONTH, "PYSPARK_PYTHON": sys.executable}
        os.environ |= {"SPARK_LOCAL_DIRS": str(home / "spark")}
        write(home, sizes.answers, sizes.learners)
        print(f"{sizes.answers:,} answers of {sizes.learners:,} learners in {MONTH}; load {os.getloadavg()[0]:.1f}")
        try:
            measured("db upgrade", *IRT, "db", "upgrade")
            measured("import questions", *IRT, "import", "questions", str(home / "questions.jsonl"))
            measured("import attempts", *IRT, "import", "attempts", str(home / "attempts.parquet"))
            output(COPY, folder)
            here, there = output(IN_POSTGRES), output(ON_SPARK, folder)
        finally:
            EmbeddedPostgres(home / "irt" / "postgres").stop()
    print(f"PostgreSQL {here['seconds']:6.1f} s, {here['own_gb']:.2f} GB; read again in {here['read_s']:.2f} s")
    print(
        f"Spark      {there['seconds']:6.1f} s, {there['own_gb']:.2f} GB of Python, {there['java_gb']:.2f} GB of Java; "
        f"started in {there['start_s']:.1f} s; read again in {there['read_s']:.2f} s"
    )
    same = all(here[name] == there[name] for name in ("hash", "counts", "left_out", "rows"))
    print("hashes, counts and items left out are " + ("the same" if same else "NOT the same"))
    return int(not same)


def output(program: str, *arguments: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, check=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
