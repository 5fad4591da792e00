"""Learner reports written per second by several processes: HTML and PDF, half of them in Korean.

    python -m benchmarks.bench_learner_reports --learners 1000 --processes 2

Reports are not stored. Processor time is printed in addition to elapsed time, because it shows how long an idle machine
would take. The first pages of each process, which load fonts, do not count.
"""

from __future__ import annotations

import argparse
import resource
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np

from irt_assets.reports.learner_curve import Level
from irt_assets.reports.learner_page import Facts
from irt_assets.reports.learner_processes import closing, processes, render_report
from irt_assets.reports.learner_verdicts import Topic

WARM_UP = 10
TOPICS = ("algebra", "data", "functions", "geometry", "number")


def learner(rng: np.random.Generator, i: int) -> Facts:
    """A learner with half a year of data: 20 measurements, 5 topics, and, in two of three cases, all KPIs."""
    level = np.cumsum(rng.normal(0.02, 0.05, 20)) + rng.normal(0, 1)
    day = date(2026, 7, 5)
    kpis = {name: float(rng.random()) for name in ("I_t", "E_t", "R_t", "R_t_coverage", "A_t", "P", "S")}
    unknown = ["E_t", "I_t"] if i % 3 == 0 else []
    return Facts(
        user_id=f"u{i:05d}",
        name=f"김하늘 {i}" if i % 2 else f"Ada Lovelace {i}",
        lang="ko" if i % 2 else "en",
        week=date(2026, 11, 9),
        end=datetime(2026, 11, 16, tzinfo=UTC),
        zone="Asia/Seoul",
        answers=34,
        correct=25,
        days=4,
        last_answer=date(2026, 11, 14),
        scale_id="default",
        mu=0.0,
        sigma=1.0,
        target=0.5,
        levels=tuple(Level(day + timedelta(weeks=k), float(theta), 0.3) for k, theta in enumerate(level)),
        topics=tuple(Topic(name, 30, 18, 25, float(rng.normal(0, 0.5)), 0.25) for name in TOPICS),
        kpis=kpis | dict.fromkeys(unknown) | {"why": dict.fromkeys(unknown, "too few")},
    )


def seconds_of_processor() -> float:
    """Processor seconds of this process and its ended children."""
    usages = (resource.getrusage(scope) for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    warm_up, everybody = ([learner(rng, i) for i in range(n)] for n in (WARM_UP * options.processes, options.learners))
    cpu_before = seconds_of_processor()
    with closing(processes(options.processes)) as pool:
        list(pool.map(render_report, warm_up))
        started = time.monotonic()
        outcomes = list(pool.map(render_report, everybody))
        wall = time.monotonic() - started
    processor = seconds_of_processor() - cpu_before
    failed = [outcome.problem for outcome in outcomes if outcome.problem]
    sizes = np.array([(len(outcome.html), len(outcome.pdf or b"")) for outcome in outcomes if outcome.html]) / 1024
    print(f"{options.learners:,} learners, {options.processes} processes: {options.learners / wall:.1f} PDFs/s")
    print(f"  processor {processor / (options.learners + len(warm_up)) * 1000:.0f} ms a learner, start included")
    print(f"  HTML {sizes[:, 0].mean():.0f} KiB, PDF {sizes[:, 1].mean():.0f} KiB; {len(failed)} failed {failed[:1]}")


if __name__ == "__main__":
    main()
