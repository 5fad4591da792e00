"""Cost of a fit on Spark's executors, compared with threads on the same cores and shards, in one run.

    python -m benchmarks.spark_em                                     # 20 million answers, local[2]
    python -m benchmarks.spark_em --learners 1250000 5000000 --workers 2 --memory 3g --fit

Answers are first simulated into Parquet files: 40 of 500 items per learner. For each size: seconds until they are
counted and laid out, an E-step by the executors and by the driver's threads, and the driver's memory. The goal for an
E-step is 1.3 × threads + 0.25 s × shards / cores. `--fit` fits a 2PL with standard errors from the files, with sums by
the executors and by the driver. `--workers` starts a standalone cluster here, of one core and `--memory` a worker;
without this option the executors are threads of `local[cores]`. `stages` is the part of counting and laying out in
which executors worked, according to Spark's own times. `memory` is the peak of the driver's Python before it fetches
the shards.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bench_em import simulate
from benchmarks.spark_masters import java_memory, master, stage_seconds
from irt_assets.spark import answers as spark_answers
from irt_assets.spark.answers import SparkAnswers
from irt_assets.spark.em import fit_on_spark
from irt_psychometrics.core import kernels
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.estimation.marginal import Problem
from irt_psychometrics.estimation.parameter_layout import ParameterLayout
from irt_psychometrics.estimation.response_layout import LaidOutAnswers
from resources.cluster.spark import spark_session, stop_session
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ITEMS, SEEN, LEARNERS_A_FILE = 500, 40, 50_000
COLUMNS = (
    *("answers", "shards", "counted", "laid out", "stages", "fetched"),
    *("E-step: executors", "threads", "goal", "memory", "same bits"),
)


def write(folder: Path, learners: int) -> list[str]:
    """Write the files of this number of learners. Existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    names, paths = pa.array([f"i{j:04d}" for j in range(ITEMS)]), []
    for first in range(0, learners, LEARNERS_A_FILE):
        size = min(LEARNERS_A_FILE, learners - first)
        path = folder / f"{first}-{size}.parquet"
        paths.append(str(path))
        if path.exists():
            continue
        person, item, score = simulate(size, ITEMS, SEEN, part=first)
        users = pa.array([f"u{first + k:09d}" for k in range(size)])
        columns = [pa.DictionaryArray.from_arrays(person, users), pa.DictionaryArray.from_arrays(item, names), score]
        pq.write_table(pa.table(columns, ["learner_key", "item_id", "score"]), path)
    return paths


def peak_mb() -> int:
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def steps(answers: LaidOutAnswers, threads: int, repeats: int) -> tuple[float, float]:
    """Median seconds of an E-step at the starting values, and its log-likelihood."""
    with kernels.runner(threads) as run:
        problem = Problem(answers, ParameterLayout.from_model(item_model("2pl"), ITEMS), Grid.symmetric(), run)
        x = problem.start()
        problem.evaluate(x)
        results = []
        for _ in range(repeats):
            began = time.perf_counter()
            loglik = problem.evaluate(x).loglik
            results.append(time.perf_counter() - began)
    return statistics.median(results), loglik


def measure_steps(session: SparkSession, paths: list[str], settings: Settings, cores: int, repeats: int) -> list[str]:
    began, worked = time.perf_counter(), stage_seconds(session)
    answers = SparkAnswers(session, session.read.parquet(*paths), settings, None)
    counted = time.perf_counter() - began
    layout = answers.lay_out_items(np.ones(ITEMS, dtype=bool), rarer=False, by_category=False).answers
    laid_out, in_stages = time.perf_counter() - began - counted, stage_seconds(session) - worked
    executors, loglik = steps(layout, cores, repeats)
    memory = peak_mb()
    began = time.perf_counter()
    here = layout.fetch_all()
    moved = time.perf_counter() - began
    answers.close()
    threads, same = steps(here, cores, repeats)
    goal = 1.3 * threads + 0.25 * answers.n_shards / cores
    return [
        f"{answers.n_answers:,}",
        str(answers.n_shards),
        *(f"{seconds:.1f} s" for seconds in (counted, laid_out, in_stages, moved)),
        *(f"{seconds:.2f} s" for seconds in (executors, threads, goal)),
        f"{memory} MB",
        str(loglik == same),
    ]


def fits(session: SparkSession, paths: list[str], settings: Settings) -> None:
    calibrations: dict[str, Calibration] = {}
    for where in ("executors", "driver"):
        frame = session.read.parquet(*paths)
        began = time.perf_counter()
        spark_answers.DRIVER_BYTES = 0 if where == "executors" else 1 << 40
        fit = calibrations[where] = fit_on_spark(session, frame, settings)
        end = fit.convergence
        print(
            f"fit by the {where}: {time.perf_counter() - began:.1f} s, {end.iterations} iterations, converged: "
            f"{end.converged}, log-likelihood {end.loglik!r}, median error of a "
            f"{np.median(np.sqrt(fit.cov[:, 0, 0])):.5f}, peak of the driver's Python {peak_mb()} MB and of "
            f"its Java {java_memory():.0f} MB",
            flush=True,
        )
    local, remote = calibrations.values()
    difference = max(float(np.abs(getattr(local, name) - getattr(remote, name)).max()) for name in ("a", "d", "cov"))
    print(f"the fits differ by {difference:g} at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, nargs="+", default=[500_000])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--memory", default="2g")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the answers are kept for the next run")
    parser.add_argument("--fit", action="store_true")
    arguments = parser.parse_args()
    cores = arguments.workers or arguments.cores
    spark_answers.DRIVER_BYTES = 0
    with TemporaryDirectory() as folder, master(arguments.workers, cores, arguments.memory, Path(folder)) as url:
        settings = Settings(irt_spark=url, irt_threads=cores, _env_file=None)
        print(f"| {' | '.join(COLUMNS)} |\n|{'--:|' * len(COLUMNS)}")
        for learners in arguments.learners:
            paths = write(arguments.folder or Path(folder) / "answers", learners)
            session = spark_session(settings)
            print(
                "| " + " | ".join(measure_steps(session, paths, settings, cores, arguments.repeats)) + " |", flush=True
            )
            if arguments.fit:
                fits(session, paths, settings)
        stop_session()


if __name__ == "__main__":
    main()
