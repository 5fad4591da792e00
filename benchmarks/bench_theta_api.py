"""θ on request under an open load: time from each planned arrival, beside a FastAPI that says hello.

    python benchmarks/bench_theta_api.py --attempts 1000000 --seconds 300 --rate 100

A year's log in an embedded PostgreSQL; learners have a median of 200 answers, one in a hundred 2,000. Arrivals are a
Poisson process that waits for nobody; before every second request its learner answers one more item, committed. At the
end θ of a sample is compared with the batch's. PostgreSQL, both servers and this generator share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import requests
from pydantic import SecretStr

from irt_assets.calibration.abilities import estimate
from irt_assets.calibration.origin import initialise
from irt_assets.calibration.publication import in_force
from irt_assets.responses.scales import read_scales
from irt_assets.responses.window import scoring_responses
from resources import tables, warehouse
from resources.database import Database
from resources.embedded_postgres import EmbeddedPostgres
from resources.schema import ensure_month_partitions, upgrade
from resources.settings import Settings

ROOT = Path(__file__).parents[1]
TOKEN = "a-service-token-of-32-characters"
API_PORT, HELLO_PORT = 18001, 18002
N_ITEMS, MEDIAN, HEAVY = 2_500, 200, 2_000
HELLO = """
import uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.post("/api/seedtest/analysis/irt/update-theta")
async def hello(asked: dict) -> dict:
    return {"hello": asked["user_id"]}
uvicorn.run(app, port=%d, log_level="warning", access_log=False, timeout_keep_alive=75)
"""


def load_log(database: Database, n_attempts: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Bank, learners and log; of each learner the items in the order in which they are still to be answered."""
    now = datetime.now(UTC)
    irt = [{"a": 1.0, "b": float(b), "a_se": 0.1, "b_se": 0.1} for b in rng.normal(0, 1, N_ITEMS)]
    bank = {"item_id": [f"i{k:05d}" for k in range(N_ITEMS)], "scale_id": "default", "topic_id": "topic"}
    metas = [{"tags": ["anchor"], "irt": one} for one in irt]
    items = np.array(bank["item_id"], dtype=object)
    unanswered, frames, n = {}, [], 0
    while n < n_attempts:
        user = f"u{len(unanswered):06d}"
        count = HEAVY if len(unanswered) % 100 == 99 else int(min(max(rng.lognormal(np.log(MEDIAN), 0.4), 5), 1_500))
        order = rng.permutation(items)
        ago = np.sort(rng.uniform(3_600, 360 * 86_400, count))[::-1]
        frames.append(pd.DataFrame({"user_id": user, "item_id": order[:count], "ago": ago}))
        unanswered[user] = order[count:]
        n += count
    log = pd.concat(frames, ignore_index=True)
    log["completed_at"] = pd.Timestamp(now) - pd.to_timedelta(log.pop("ago").round(), unit="s")
    log["attempt_id"] = [f"a{k}" for k in range(len(log))]
    log["correct"] = rng.random(len(log)) < 0.6
    log["response_time_ms"] = rng.integers(20_000, 60_000, len(log))
    log["mode"] = "live"
    with database.connect() as connection:
        ensure_month_partitions(connection, f"{now - timedelta(days=370):%Y-%m}", f"{now + timedelta(days=31):%Y-%m}")
        warehouse.append(connection, tables.question, pd.DataFrame(bank | {"meta": metas}))
        warehouse.append(connection, tables.learner, pd.DataFrame({"user_id": list(unanswered)}))
        warehouse.append(connection, tables.response_log, log)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    initialise(database, "default", first_month=f"{now - timedelta(days=370):%Y-%m}")
    return unanswered


class Client:
    """Keeps connections open for a minute, as nginx does; as little Python for each request as HTTP needs."""

    def __init__(self, port: int) -> None:
        self._port, self._free = port, list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]]()

    async def post(self, user_id: str) -> int:
        while self._free and time.monotonic() - self._free[0][0] > 60:
            self._free.pop(0)[2].close()
        if self._free:
            _, reader, writer = self._free.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        body = json.dumps({"user_id": user_id, "lookback_days": 365}).encode()
        head = (
            "POST /api/seedtest/analysis/irt/update-theta HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(headers.partition("content-length: ")[2].partition("\r\n")[0]))
        self._free.append((time.monotonic(), reader, writer))
        return int(headers.split()[1])


async def load(
    port: int, users: list[str], rate: float, answer: asyncio.Queue[str] | None
) -> tuple[np.ndarray, Counter[int]]:
    """Latency in ms from each planned arrival to the answer's end, of those answered with 200, and all statuses."""
    rng, client = np.random.default_rng(7), Client(port)
    arrivals = np.cumsum(rng.exponential(1 / rate, len(users)))
    began, taken, statuses = time.perf_counter() + 0.5, [], Counter[int]()

    async def one(user: str, due: float) -> None:
        status = await client.post(user)
        statuses[status] += 1
        if status == 200:
            taken.append(1000 * (time.perf_counter() - due))

    async with asyncio.TaskGroup() as group:
        for k, (user, at) in enumerate(zip(users, arrivals, strict=True)):
            due = began + at
            if answer is not None and k % 2 and k + 10 < len(users):
                answer.put_nowait(users[k + 10])
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(user, due))
    return np.array(taken), statuses


async def answer_more(database: Database, unanswered: dict[str, np.ndarray], users: asyncio.Queue[str]) -> None:
    """Commits an answer of each learner that comes."""
    n = Counter[str]()
    async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as connection:
        while True:
            user = await users.get()
            item, n[user] = unanswered[user][n[user]], n[user] + 1
            await connection.execute(
                """INSERT INTO response_log
                     (attempt_id, user_id, item_id, completed_at, correct, response_time_ms, mode)
                   VALUES (%s, %s, %s, clock_timestamp(), %s, 30000, 'live')""",
                (f"more-{user}-{n[user]}", user, item, n[user] % 2 == 0),
            )


async def measure(database: Database, unanswered: dict[str, np.ndarray], users: list[str], rate: float) -> None:
    hello, _ = await load(HELLO_PORT, users[: int(rate * 10)], rate, None)
    show("hello", rate, hello, Counter())
    queue: asyncio.Queue[str] = asyncio.Queue()
    answering = asyncio.create_task(answer_more(database, unanswered, queue))
    taken, statuses = await load(API_PORT, users, rate, queue)
    answering.cancel()
    show("θ API", rate, taken, statuses)


def show(what: str, rate: float, taken: np.ndarray, statuses: Counter[int]) -> None:
    p50, p99 = np.percentile(taken, [50, 99]) if taken.size else (np.nan, np.nan)
    said = ", ".join(f"{n} × {status}" for status, n in sorted(statuses.items()))
    print(f"{what:6s} {rate:6.0f}/s  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  {said}", flush=True)


def compare(database: Database, users: list[str]) -> None:
    """The API's θ of each learner, asked for once more, against the batch's."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {TOKEN}"
        url = f"http://127.0.0.1:{API_PORT}/api/seedtest/analysis/irt/update-theta"
        ours = [session.post(url, json={"user_id": u, "lookback_days": 365}, timeout=30).json() for u in users]
    end = datetime.now(UTC)
    with database.connect() as connection:
        scale = read_scales(connection)["default"]
        items = in_force(connection, "default", end).items
        responses, found = scoring_responses(connection, end - timedelta(days=365), end, scale, list(items), users)
    scores = dict(zip(found, estimate(responses, items, scale).theta, strict=True))
    worst = max(abs(one["theta"] - scores[one["user_id"]]) for one in ours)
    print(f"θ of {len(users)} learners: at most {worst:.1e} from the batch's")


def memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=100)
    asked = parser.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as home:
        server = EmbeddedPostgres(Path(home) / "postgres")
        url = server.start()
        children = []
        try:
            database = Database(Settings(irt_home=Path(home), database_url=SecretStr(url), _env_file=None))
            upgrade(database)
            unanswered = load_log(database, asked.attempts, rng)
            environment = os.environ | {
                "PYTHONPATH": str(ROOT),
                "IRT_HOME": home,
                "DATABASE_URL": url,
                "IRT_THETA_TOKEN": TOKEN,
                "IRT_THETA_PORT": str(API_PORT),
            }
            log = (Path(home) / "log").open("wb")
            api = subprocess.Popen([sys.executable, "-m", "services.theta_api"], env=environment, stderr=log)
            children = [api, subprocess.Popen([sys.executable, "-c", HELLO % HELLO_PORT])]
            for address in (f"{API_PORT}/ready", f"{HELLO_PORT}/openapi.json"):
                wait_for(f"http://127.0.0.1:{address}")
            users = [str(u) for u in rng.choice(list(unanswered), int(asked.rate * asked.seconds))]
            asyncio.run(measure(database, unanswered, users[:200], 20))
            before = memory_mb(api.pid)
            asyncio.run(measure(database, unanswered, users, asked.rate))
            asyncio.run(measure(database, unanswered, users[: int(asked.rate * 100)], 10 * asked.rate))
            print(f"memory of the API {before:.0f} MB before, {memory_mb(api.pid):.0f} MB after")
            compare(database, sorted(set(users))[:1_000])
        finally:
            for child in children:
                child.kill()
                child.wait()
            server.stop()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{url} did not answer")


if __name__ == "__main__":
    main()
