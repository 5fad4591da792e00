"""Load time and size of every dashboard page with 36 months of 3 scales with 1000 items each.

    python -m benchmarks.bench_dashboard [--home FOLDER] [--months 36]

Most of the months are written once, in SQL (see `dashboard_world`): an existing home is reused. Times are for whole
pages over HTTP, without a browser: the first request, then median and maximum of the other requests. CPU is the time of
server and PostgreSQL, which depends less on other load. The goal is 0.3 s for the first page, and a second for the
others.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import requests
import uvicorn

from benchmarks.dashboard_world import SCALES, build
from irt_assets.common.dashboard_pages import address
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.decisions.proposals import waiting_proposals
from irt_assets.servers.instance import dagster_instance
from resources.dagster_compat import keep_connections
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.server import build_app

PORT = 18080
ASKED = 11


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "irt-bench-dashboard")
    parser.add_argument("--months", type=int, default=36)
    arguments = parser.parse_args()
    last = last_complete_month(datetime.now(UTC))
    first = f"{int(last[:4]) - arguments.months // 12}-{int(last[5:]):02d}"
    months = list(months_between(first, last))[-arguments.months :]
    settings = Settings(irt_home=arguments.home, database_url=None, irt_first_month=months[0], _env_file=None)
    database = Database(settings)
    try:
        upgrade(database)
        build(database, settings, months)
        with dagster_instance(settings, database) as instance:
            keep_connections(instance)
            serve(build_app(Reader(settings, instance), None, settings))
            measure(database, months, EmbeddedPostgres(arguments.home / "postgres"))
    finally:
        EmbeddedPostgres(arguments.home / "postgres").stop()


def serve(app: object) -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="warning", access_log=False))  # type: ignore[arg-type]
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)


def cpu_seconds(postgres: EmbeddedPostgres) -> float:
    """CPU seconds of this process and of PostgreSQL's closed connections."""
    used = psutil.Process(postgres.status().pid).cpu_times()
    return time.process_time() + used.children_user + used.children_system


def measure(database: Database, months: list[str], postgres: EmbeddedPostgres) -> None:
    with database.connect() as connection:
        waiting = str(waiting_proposals(connection)[0].reference)
        learner = connection.execute("SELECT min(user_id) FROM learner").fetchone()
    assert learner is not None
    scale, item = SCALES[0], f"{SCALES[0][0]}A07"
    last, before = months[-1], months[-2]
    pages = {
        "months": address("months"),
        "month": address("month", scale=scale, month=last),
        "compare": address("compare", scale=scale, first=before, second=last),
        "bank": address("bank", scale=scale),
        "bank, sorted": address("bank", scale=scale, sort="-b", page="4"),
        "item": address("item", scale=scale, item=item),
        "decisions": address("decisions"),
        "decisions, all": address("decisions", all="1"),
        "decisions of a month": address("decisions", month=before, scale=scale),
        "proposal": address("proposal", proposal=waiting),
        "learners": address("learners", search="aL1"),
        "learner": address("learner", user=learner[0]),
        "health": address("health"),
        "reports": address("reports"),
    }
    print(f"{'page':20s} {'first':>8s} {'median':>8s} {'longest':>8s} {'CPU':>8s} {'size':>8s}")
    for name, query in pages.items():
        latencies, busy = [], cpu_seconds(postgres)
        for _ in range(ASKED):
            began = time.perf_counter()
            answer = requests.get(f"http://127.0.0.1:{PORT}/{query}", timeout=120)
            latencies.append(time.perf_counter() - began)
        time.sleep(0.5)  # a connection's time counts once it is closed
        busy = (cpu_seconds(postgres) - busy) / ASKED
        print(
            f"{name:20s} {latencies[0]:7.2f}s {statistics.median(latencies[1:]):7.2f}s {max(latencies[1:]):7.2f}s "
            f"{busy:7.2f}s {len(answer.content) / 1024:5.0f} kB  {answer.status_code}",
            flush=True,
        )


if __name__ == "__main__":
    main()
