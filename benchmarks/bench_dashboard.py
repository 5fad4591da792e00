"""Every page of the dashboard on 36 months of 3 scales with 1000 items each: time until it is there, and its size.

    python benchmarks/bench_dashboard.py [--home FOLDER] [--months 36]

The bank, its answers, fits, links, publications and drift are made by the platform's own functions on simulated
answers (30 to an item and month), once: a home that stands is used again. Times are of whole pages over HTTP, without a
browser, the first and the median of five; the goal is a second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import requests
import uvicorn

from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.calibration.origin import initialise
from irt_assets.drift.month import drift_of_month
from irt_assets.engines.em import EmEngine
from irt_assets.partitions import last_complete_month, month_bounds, month_of, months_between
from irt_assets.psychometrics.scenario import Scenario
from irt_assets.psychometrics.simulate import simulate
from irt_assets.responses import simulated
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.stack import dagster_instance
from resources import tables, warehouse
from resources.database import Database
from resources.embedded_postgres import EmbeddedPostgres
from resources.object_store import object_store
from resources.schema import ensure_month_partitions, upgrade
from resources.settings import Settings
from services.dashboard.page import address
from services.dashboard.reader import Reader
from services.dashboard.server import build_app

SCALES = ("algebra", "geometry", "numbers")
PORT = 18080
THRESHOLDS = {"min_responses": 20, "min_anchor_responses": 15, "min_anchors": 10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "irt-bench-dashboard")
    parser.add_argument("--months", type=int, default=36)
    asked = parser.parse_args()
    last = last_complete_month(datetime.now(UTC))
    first = f"{int(last[:4]) - asked.months // 12}-{int(last[5:]):02d}"
    months = list(months_between(first, last))[-asked.months :]
    settings = Settings(irt_home=asked.home, database_url=None, irt_first_month=months[0], _env_file=None)
    database = Database(settings)
    try:
        upgrade(database)
        build(database, settings, months)
        with dagster_instance(settings, database) as instance:
            reader = Reader(settings, instance)
            began = time.perf_counter()
            reader.overview()
            print(f"the overview's first reading: {time.perf_counter() - began:.1f} s", flush=True)
            serve(build_app(reader, None, settings))
            measure(months)
            reader.forget()
            began = time.perf_counter()
            reader.overview()
            print(f"the overview's later reading: {time.perf_counter() - began:.1f} s")
    finally:
        EmbeddedPostgres(asked.home / "postgres").stop()


def build(database: Database, settings: Settings, months: list[str]) -> None:
    """What is not there yet; each month is a step that is not repeated."""
    store = object_store(settings)
    with database.connect() as connection:
        ensure_month_partitions(connection, months[0], month_of(datetime.now(UTC)))
        row = connection.execute("SELECT count(DISTINCT scale_id) FROM question").fetchone()
    for k, scale in enumerate(SCALES[row[0] if row else 0 :], start=row[0] if row else 0):
        began = time.perf_counter()
        load(database, scale, months, seed=k + 1)
        initialise(database, scale, first_month=months[0], thresholds=THRESHOLDS)
        print(f"{scale}: answers loaded in {time.perf_counter() - began:.0f} s", flush=True)
    for month in months:
        with database.connect() as connection:
            made = connection.execute("SELECT count(*) FROM publication_step WHERE month = %s", (month,)).fetchone()
        if made != (0,):
            continue
        began = time.perf_counter()
        take_snapshot(database, store, month, "benchmark")
        fit_month(database, store, month, EmEngine(settings.irt_threads), "benchmark")
        link_month(database, month, "benchmark")
        publish_month(database, store, month, (), "benchmark")
        drift_of_month(database, store, month)
        print(f"{month}: made in {time.perf_counter() - began:.0f} s", flush=True)


def load(database: Database, scale: str, months: list[str], seed: int) -> None:
    scenario = Scenario(
        months=tuple(months),
        now=month_bounds(months[-1])[1],
        seed=seed,
        learners_per_month=300,
        blocks=20,
        items_per_block=50,
        anchors_per_block=5,
        practice_sessions=0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        files = simulated.write(*simulate(scenario), Path(folder))
        questions = pd.DataFrame([json.loads(line) for line in files.questions.read_text("utf-8").splitlines()])
        learners = pd.DataFrame([json.loads(line) for line in files.learners.read_text("utf-8").splitlines()])
        answers = pd.read_parquet(files.attempts)
    questions["item_id"], answers["item_id"] = scale[0] + questions["item_id"], scale[0] + answers["item_id"]
    questions["scale_id"] = learners["target_scale_id"] = scale
    for name in ("user_id", "attempt_id", "session_id"):
        answers[name] = scale[0] + answers[name]
    learners["user_id"] = scale[0] + learners["user_id"]
    with database.connect() as connection:
        warehouse.append(connection, tables.question, questions)
        warehouse.append(connection, tables.learner, learners)
        warehouse.append(connection, tables.response_log, answers)


def serve(app: object) -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="warning", access_log=False))  # type: ignore[arg-type]
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)


def measure(months: list[str]) -> None:
    scale, item = SCALES[0], f"{SCALES[0][0]}A07"
    last, before = months[-1], months[-2]
    pages = {
        "months": address("months"),
        "month": address("month", scale=scale, month=last),
        "compare": address("compare", scale=scale, first=before, second=last),
        "bank": address("bank", scale=scale),
        "bank, sorted": address("bank", scale=scale, sort="-b", page="7"),
        "item": address("item", scale=scale, item=item),
        "decisions": address("decisions"),
        "proposal": address("proposal", proposal=f"{last}/{item}"),
        "learners": address("learners", search="aL1"),
        "learner": address("learner", user="aL1-2607-00001"),
        "health": address("health"),
        "reports": address("reports"),
    }
    print(f"{'page':14s} {'first':>8s} {'median':>8s} {'size':>8s}")
    for name, query in pages.items():
        taken = []
        for _ in range(6):
            began = time.perf_counter()
            answer = requests.get(f"http://127.0.0.1:{PORT}/{query}", timeout=120)
            taken.append(time.perf_counter() - began)
        rest = statistics.median(taken[1:])
        print(
            f"{name:14s} {taken[0]:7.2f}s {rest:7.2f}s {len(answer.content) / 1024:5.0f} kB  {answer.status_code}",
            flush=True,
        )


if __name__ == "__main__":
    main()
