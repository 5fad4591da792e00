"""Answers over HTTP: attempts per second in batches of 100, and latencies of concurrent small posts and requests for θ.

    python -m benchmarks.bench_posts --attempts 1000000 --seconds 60
    python -m benchmarks.bench_posts --beside-import 5000000
    python -m benchmarks.bench_posts --attempts 300000 --against /path/to/another/checkout

The second command posts 20 times 10 answers per second during an import of this number of rows; the goal is p99 ≤ 1 s.
The third sends posts of 10 answers to the APIs of both checkouts in turn, with the same log, and compares p50. The log
covers a year, in an embedded PostgreSQL that syncs to disk. Posts of 10 answers and requests for θ are Poisson
processes, independent of responses, and times are measured from the planned arrival. PostgreSQL, both servers and this
generator share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import requests

from benchmarks.bench_import import FIRST_MONTH, write_log
from benchmarks.bench_theta_api import API_PORT, HELLO_PORT, embedded_log, show
from resources.postgres.database import Database
from services.theta_api.posts import POSTS_PATH
from tests.testbed.theta_load import TOKEN, load, servers

numbers = count(1)


def body(users: list[str], size: int) -> list[dict[str, object]]:
    now = datetime.now(UTC).isoformat()
    return [
        {"attempt_id": f"bench-{n}", "user_id": users[n % len(users)], "item_id": f"i{n % 500}"}
        | {"completed_at": now, "correct": n % 3 > 0}
        for n in (next(numbers) for _ in range(size))
    ]


class Poster:
    """Posts over persistent connections, in threads."""

    def __init__(self, users: list[str], size: int, port: int = API_PORT) -> None:
        self.users, self.size, self.port = users, size, port
        self.session = requests.Session()
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        self.session.headers["Authorization"] = f"Bearer {TOKEN}"
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    def post(self, planned: float) -> None:
        answer = self.session.post(f"http://127.0.0.1:{self.port}{POSTS_PATH}", json=body(self.users, self.size))
        self.statuses[answer.status_code] += 1
        self.seconds.append(time.perf_counter() - planned)

    def at_rate(self, rate: float, seconds: float) -> None:
        arrivals = np.cumsum(np.random.default_rng(2).exponential(1 / rate, int(rate * seconds)))
        began = time.perf_counter()
        with ThreadPoolExecutor(64) as pool:
            for arrival in arrivals:
                time.sleep(max(0.0, began + arrival - time.perf_counter()))
                pool.submit(self.post, began + arrival)

    def say(self, label: str) -> None:
        p50, p99 = np.percentile(1000 * np.array(self.seconds), [50, 99])
        print(f"{label}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {dict(self.statuses)}", flush=True)


def post_during_import(database: Database, users: list[str], rows: int) -> None:
    home = database.settings.irt_home
    write_log(home / "log.csv", rows)
    environment = os.environ | {"DATABASE_URL": database.url, "IRT_HOME": str(home), "IRT_FIRST_MONTH": FIRST_MONTH}
    with servers(database.url, home, api=API_PORT, hello=HELLO_PORT):
        small = Poster(users, 10)
        small.at_rate(20, 5)
        small.seconds.clear()
        command = [sys.executable, "-m", "irt_assets.cli", "import", "attempts", str(home / "log.csv")]
        began = time.perf_counter()
        importing = subprocess.Popen(command, env=environment)
        while importing.poll() is None:
            small.at_rate(20, 5)
        small.say(f"posts of 10 at 20/s beside an import of {rows:,} rows ({time.perf_counter() - began:.0f} s)")
        print(f"the longest took {1000 * max(small.seconds):.0f} ms")


def compare_checkouts(database: Database, users: list[str], other: Path, seconds: float) -> None:
    home = database.settings.irt_home
    (home / "other").mkdir()
    with (
        servers(database.url, home, api=API_PORT, hello=HELLO_PORT),
        servers(database.url, home / "other", api=API_PORT + 100, hello=HELLO_PORT + 100, code=other),
    ):
        pair = [Poster(users, 10, port) for port in (API_PORT, API_PORT + 100)]
        for part in (5.0, seconds):
            for poster in pair:
                poster.seconds.clear()
            began = time.perf_counter()
            while time.perf_counter() - began < part:
                for poster in pair:
                    poster.post(time.perf_counter())
        pair[0].say("posts of 10, this checkout")
        pair[1].say(f"posts of 10, {other}")
        ratio = np.median(pair[0].seconds) / np.median(pair[1].seconds)
        print(f"p50 of this checkout / p50 of the other: {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--beside-import", type=int, default=0, metavar="ROWS")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    with embedded_log(arguments.attempts, rng) as (database, log):
        users = [str(user) for user in log.users]
        if arguments.beside_import:
            post_during_import(database, users, arguments.beside_import)
            return
        if arguments.against:
            compare_checkouts(database, users, arguments.against, arguments.seconds)
            return
        with servers(database.url, database.settings.irt_home, api=API_PORT, hello=HELLO_PORT):
            Poster(users, 100).at_rate(5, 5)
            full = Poster(users, 100)
            began = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                while time.perf_counter() - began < arguments.seconds:
                    list(pool.map(full.post, [time.perf_counter()] * 2))
            rate = 100 * full.statuses[200] / (time.perf_counter() - began)
            full.say(f"batches of 100: {rate:,.0f} attempts/s")
            small = Poster(users, 10)
            small.at_rate(100, arguments.seconds)
            small.say("posts of 10 at 100/s")
            for theta, posts in ((25, 5), (100, 20)):
                concurrent = Poster(users, 100)
                asking = [str(user) for user in rng.choice(log.users, int(theta * arguments.seconds))]
                with ThreadPoolExecutor(1) as pool:
                    done = pool.submit(concurrent.at_rate, posts, arguments.seconds)
                    show("θ API", theta, asyncio.run(load(API_PORT, asking, theta, None)))
                    done.result()
                concurrent.say(f"posts of 100 at {posts}/s beside it")


if __name__ == "__main__":
    main()
