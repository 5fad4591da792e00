"""An exam service that continues while its servers are killed, sending answers and requesting θ after each session.

    python -m tests.helpers.new_year 330 python -m tests.testbed.exam_service --seconds 600 --kills 3

The example has New Year in the middle, for PostgreSQL and the API alike (`helpers.new_year` sets the clock). Answers of
half of the learners are sent by `send_attempts`, which waits, the other answers by an `AttemptSpool`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import requests
from pydantic import SecretStr

from resources.postgres import embedded_postgres
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from services.theta_client import AttemptsNotSent, AttemptSpool, send_attempts
from tests.testbed.stack_harness import ROOT, Harness, running_stack, wait_for
from tests.testbed.theta_load import PATH, TOKEN, Log, ReturnedTheta, compare, load_log

PORT = 18_431
RATE = 200
"""Answers per second."""
OF_A_SESSION, OF_A_PAGE = 10, 5
LEARNERS, PRELOADED = 400, 100_000
COMPARED = 200
IMPORTED = 50_000
SAME = 1e-9


@dataclass
class Exams:
    """Sessions of the exam service, with acknowledged answers, counts of outcomes, and durations in seconds."""

    log: Log
    spool: AttemptSpool
    acknowledged: set[str] = field(default_factory=set)
    by_learner: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    counts: Counter[str] = field(default_factory=Counter)
    post_s: list[float] = field(default_factory=list)
    spool_s: list[float] = field(default_factory=list)
    theta_s: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def session(self, number: int, first: int, due: float) -> None:
        """Run a session: two pages of answers, a second apart, and a request for θ."""
        user = self.log.users[number % LEARNERS]
        items = self.log.items_after(user, self.log.n_answers(user))[first : first + OF_A_SESSION]
        for page in range(0, OF_A_SESSION, OF_A_PAGE):
            time.sleep(max(0.0, due - time.perf_counter()))
            rows = [
                {"attempt_id": f"s{number}-{page + k}", "user_id": user, "item_id": str(item), "correct": k % 2 == 0}
                | {"completed_at": datetime.now(UTC).isoformat(), "response_time_ms": 30_000}
                for k, item in enumerate(items[page : page + OF_A_PAGE])
            ]
            if number % 2:
                began = time.perf_counter()
                self.spool.add(rows)
                self.spool_s.append(time.perf_counter() - began)
            else:
                self.send(rows)
                self.post_s.append(time.perf_counter() - due)
            with self.lock:
                self.acknowledged.update(row["attempt_id"] for row in rows)
                self.by_learner[user] += len(rows) * (number % 2 == 0)
            due = max(due + 1, time.perf_counter())
        self.theta(user)

    def send(self, rows: list[dict[str, Any]]) -> None:
        for tries in count():
            try:
                results = send_attempts(rows)
            except AttemptsNotSent as failure:
                if not failure.again:
                    raise
                self.counts["posts shed" if "more requests" in str(failure) else "posts failed"] += 1
                time.sleep(failure.pause * min(2**tries, 16) * random.uniform(0.5, 1))
            else:
                assert {one["result"] for one in results} <= {"accepted", "duplicate"}, results
                return

    def theta(self, user: str) -> ReturnedTheta | None:
        at_least = self.log.n_answers(user) + self.by_learner[user]
        began = time.perf_counter()
        try:
            answer = requests.post(
                f"http://127.0.0.1:{PORT}{PATH}",
                json={"user_id": user, "lookback_days": 365},
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=30,
            )
        except requests.RequestException:
            self.counts["θ away"] += 1
            return None
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            self.counts[f"θ {answer.json()['type'].rpartition(':')[2]}"] += 1
            return None
        self.theta_s.append(time.perf_counter() - began)
        content = answer.json()
        taken = ReturnedTheta(user, 1000 * self.theta_s[-1], content["theta"], content["n_items"], at_least)
        assert taken.n_items >= at_least, f"{taken} leaves out answers"
        self.counts["θ answered"] += 1
        return taken


class Servers:
    """The servers that the exam service depends on, with methods that kill them."""

    def __init__(self, settings: Settings, postgres: EmbeddedPostgres, stack: Harness) -> None:
        self.postgres, self.stack = postgres, stack
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "IRT_HOME": str(settings.irt_home),
            "DATABASE_URL": Database(settings).url,
            "IRT_THETA_TOKEN": TOKEN,
            "IRT_THETA_PORT": str(PORT),
        }
        self.log = settings.irt_home / "theta-api.log"
        self.start_api()

    def start_api(self) -> None:
        with self.log.open("ab") as log:
            self.api = subprocess.Popen(
                [sys.executable, "-m", "services.theta_api"], env=self.environment, stdout=log, stderr=log
            )

    def is_ready(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{PORT}/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def kill_api(self) -> None:
        self.api.kill()
        self.api.wait()
        self.start_api()

    def kill_daemon(self) -> None:
        self.stack.kill(self.stack.server("daemon"))

    def kill_postgres(self) -> None:
        """Kill and restart PostgreSQL, as `pg_ctl restart -m immediate` does."""
        pid = self.postgres.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        wait_for("PostgreSQL to be gone", lambda: self.postgres.status().state != "running")
        assert self.postgres.start() == self.environment["DATABASE_URL"]

    def until_done(self, *command: str) -> int:
        """Repeat an `irt` command until it succeeds. Returns the number of attempts."""
        for tries in range(1, 20):
            ran = subprocess.run(
                [sys.executable, "-m", "irt_assets.cli", *command],
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if ran.returncode == 0:
                return tries
            time.sleep(2)
        raise AssertionError(ran.stdout + ran.stderr)


@contextmanager
def world(home: Path) -> Iterator[tuple[Settings, EmbeddedPostgres, Log]]:
    """Yields a year's log in its own embedded PostgreSQL, which syncs to disk and has this process's clock."""
    library = shutil.copy(os.environ["LD_PRELOAD"], home)
    (home / "clock.so").chmod(0o644)
    clock = {"LD_PRELOAD": library, "CLOCK_IS_AHEAD_S": os.environ["CLOCK_IS_AHEAD_S"]}
    usual = embedded_postgres.surroundings()
    postgres = EmbeddedPostgres(home / "postgres")
    with patch.object(embedded_postgres, "surroundings", lambda: usual | {"env": usual["env"] | clock}):
        url = postgres.start()
        try:
            settings = Settings(
                irt_home=home, database_url=SecretStr(url), irt_schedules="stopped", irt_threads=1, _env_file=None
            )
            database = Database(settings)
            upgrade(database)
            yield settings, postgres, Log(database, load_log(database, PRELOADED, np.random.default_rng(1)))
        finally:
            postgres.stop()


def file_to_import(path: Path) -> None:
    at = datetime.now(UTC) - timedelta(days=40)
    with path.open("w") as file:
        for k in range(IMPORTED):
            row = {"attempt_id": f"file-{k}", "user_id": f"imported-{k % 500}", "item_id": f"i{k % 2_500:05d}"}
            answered = (at + timedelta(seconds=k)).isoformat()
            file.write(json.dumps(row | {"completed_at": answered, "correct": k % 3 > 0}) + "\n")


def run(seconds: int, kills: int, home: Path) -> dict[str, Any]:
    """Run the load and the kills. Returns the figures.

    Raises AssertionError if an acknowledged answer is not stored exactly once, or if a θ differs from the batch's.
    """
    turn = datetime(datetime.now(UTC).year + 1, 1, 1, tzinfo=UTC)
    os.environ |= {"IRT_THETA_URL": f"http://127.0.0.1:{PORT}", "IRT_THETA_TOKEN": TOKEN}
    with world(home) as (settings, postgres, log), running_stack(settings, "irt_assets.definitions") as stack:
        servers = Servers(settings, postgres, stack)
        try:
            wait_for("the API", servers.is_ready, 120)
            exams = Exams(log, AttemptSpool(home / "spool"))
            file_to_import(home / "more.jsonl")
            wait = (turn - datetime.now(UTC)).total_seconds() - seconds / 2
            assert wait > -seconds / 3, "the year ended before it began: give more seconds to new_year"
            time.sleep(max(0.0, wait))
            done = go_on(exams, servers, seconds, kills)
            return done | check(exams, servers, Database(settings), turn)
        finally:
            servers.api.kill()
            servers.api.wait()


def go_on(exams: Exams, servers: Servers, seconds: int, kills: int) -> dict[str, Any]:
    began = time.perf_counter()
    ways = [servers.kill_api, servers.kill_daemon, servers.kill_postgres] * kills
    erased = exams.log.users[LEARNERS]
    erase = ("learner", "erase", erased, "--by", "Kim", "--reason", "asked", "--yes")
    more = str(servers.log.parent / "more.jsonl")
    tries: dict[str, int] = {}

    def at(share: float, action: Callable[[], object]) -> None:
        time.sleep(max(0.0, began + share * seconds - time.perf_counter()))
        action()

    def beside() -> None:
        at(0.15, lambda: tries.update(imported=servers.until_done("import", "attempts", more)))
        at(0.6, lambda: tries.update(erased=servers.until_done(*erase)))

    def kill() -> None:
        for k, way in enumerate(ways):
            at((k + 1) / (len(ways) + 1.5), way)

    sessions = RATE * seconds // OF_A_SESSION
    with ThreadPoolExecutor(2) as others, ThreadPoolExecutor(200) as direct, ThreadPoolExecutor(200) as spooled:
        both = [others.submit(beside), others.submit(kill)]
        thetas = []
        for number in range(sessions):
            due = began + number * OF_A_SESSION / RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            pool = spooled if number % 2 else direct
            thetas.append(pool.submit(exams.session, number, number // LEARNERS * OF_A_SESSION, due))
        for one in (*both, *thetas):
            one.result()
    return {
        "seconds": round(time.perf_counter() - began),
        "kills": Counter(way.__name__ for way in ways),
        "tries": tries,
    }


def bytes_in(file: Path) -> int:
    """Size of a file in bytes, or 0 if it has just been sent."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def check(exams: Exams, servers: Servers, database: Database, turn: datetime) -> dict[str, Any]:
    waiting = sum(map(bytes_in, exams.spool.folder.iterdir()))
    began = time.perf_counter()
    assert exams.spool.close(600), "answers still wait in the spool"
    emptied = time.perf_counter() - began
    assert exams.spool.refused == 0
    with database.connect() as connection:
        stored = Counter(row[0] for row in connection.execute("SELECT attempt_id FROM response_log"))
        after = connection.execute(
            "SELECT count(*) FROM response_log WHERE attempt_id LIKE 's%%' AND completed_at >= %s", (turn,)
        ).fetchone()
        erased = connection.execute(
            "SELECT count(*) FROM response_log WHERE user_id = %s", (exams.log.users[LEARNERS],)
        )
        assert erased.fetchone() == (0,)
    assert set(stored.values()) == {1}
    assert exams.acknowledged == {name for name in stored if name.startswith("s")}
    assert sum(name.startswith("file-") for name in stored) == IMPORTED
    assert after is not None
    assert 0 < after[0] < len(exams.acknowledged)
    users = exams.log.users[:COMPARED]
    taken = [wait_for(f"θ of {user}", lambda user=user: exams.theta(user)) for user in users]
    everything = len(exams.acknowledged) // LEARNERS
    assert all(one.n_items >= exams.log.n_answers(one.user) + everything - OF_A_SESSION for one in taken)
    difference = compare(database, exams.log, taken)
    assert difference <= SAME
    latencies = {"post": exams.post_s, "spool": exams.spool_s, "θ": exams.theta_s}
    return {
        "acknowledged": len(exams.acknowledged),
        "after the turn": after[0],
        "counts": dict(exams.counts),
        "bytes in the spool at the end, and seconds until it was empty": (waiting, round(emptied, 1)),
        "largest difference of θ": difference,
    } | {
        f"{name}: p50, p99, worst, in s": [round(float(v), 3) for v in np.percentile(values, [50, 99, 100])]
        for name, values in latencies.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--kills", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        for name, value in run(arguments.seconds, arguments.kills, home).items():
            print(f"{name}: {value}", flush=True)


if __name__ == "__main__":
    main()
