"""The θ API under an open load whose learners continue to answer, next to a FastAPI that says hello.

Arrivals are a Poisson process, independent of responses. Learners have a median of 200 answers, one in a hundred has
2,000. If a log has scored items, every third item is scored 0 … 3.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import psycopg
import requests

from irt_assets.abilities.batch import estimate, judge_until
from irt_assets.decisions.origin import initialise
from irt_assets.ledger.publications import in_force
from irt_assets.responses.facts import ability_start
from irt_assets.responses.scored_answers import scoring_responses
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.scale import read_scales
from irt_psychometrics.responses import Responses
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database
from tests.testbed.partitions import ensure_month_partitions

ROOT = Path(__file__).parents[2]
TOKEN = "a-service-token-of-32-characters"
N_ITEMS, MEDIAN, HEAVY = 2_500, 200, 2_000
POINTS = 3
PATH, WORK = "/api/seedtest/analysis/irt/update-theta", "/work"
HELLO = """
import time, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.post("/api/seedtest/analysis/irt/update-theta")
async def hello(asked: dict) -> dict:
    return {"hello": asked["user_id"]}
@app.post("/work")
def work(asked: dict) -> dict:
    began = time.thread_time()
    while time.thread_time() - began < 0.005:
        pass
    return {"worked": asked["user_id"]}
uvicorn.run(app, port=%d, log_level="warning", access_log=False, timeout_keep_alive=75)
"""


def is_scored(item: str) -> bool:
    """Whether an item is scored in a log with scored items."""
    return int(item[1:]) % 3 == 0


def load_log(
    database: Database, n_attempts: int, rng: np.random.Generator, *, scored: bool = False
) -> dict[str, np.ndarray]:
    """Load a bank, learners and a log. Returns each learner's remaining items in the order of answering."""
    now = datetime.now(UTC)
    irt = [{"a": 1.0, "b": float(b), "a_se": 0.1, "b_se": 0.1} for b in rng.normal(0, 1, N_ITEMS)]
    if scored:
        steps = {"a": 0.6, "max_score": POINTS, "t0": 0.0, "t1": 0.4, "t2": 0.3, "t3": 0.0}
        irt = [one | steps if k % 3 == 0 else one for k, one in enumerate(irt)]
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
    if scored:
        some_points = log["item_id"].map(is_scored).to_numpy()
        log["score"] = pd.array(np.random.default_rng(2).integers(0, POINTS + 1, len(log)), "Int16")
        log.loc[~some_points, "score"] = pd.NA
        log.loc[some_points, "correct"] = log.loc[some_points, "score"] == POINTS
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
    judge_differing(database, (now - timedelta(days=370)).date(), now.date())
    return unanswered


class Log:
    """Learners who continue to answer, with the order of their items and their committed answers."""

    def __init__(self, database: Database, unanswered: dict[str, np.ndarray], *, scored: bool = False) -> None:
        self.users = list(unanswered)
        self._scored = scored
        self._database, self._unanswered = database, unanswered
        self._more = Counter[str]()
        self._wanted: asyncio.Queue[str]

    def n_answers(self, user: str) -> int:
        """Number of the learner's committed answers."""
        return N_ITEMS - len(self._unanswered[user]) + self._more[user]

    def items_after(self, user: str, n: int) -> np.ndarray:
        """The items that the learner answers after the first `n`."""
        return self._unanswered[user][n - (N_ITEMS - len(self._unanswered[user])) :]

    def let_answer(self, user: str) -> None:
        self._wanted.put_nowait(user)

    @asynccontextmanager
    async def growing(self) -> AsyncIterator[None]:
        """Context in which an answer is committed for each learner passed to `let_answer`."""
        self._wanted = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write())
            yield
            await self._wanted.join()
            writing.cancel()

    async def _write(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._database.url, autocommit=True) as connection:
            while True:
                user = await self._wanted.get()
                k = self._more[user]
                item = self._unanswered[user][k]
                score = k % (POINTS + 1) if self._scored and is_scored(item) else None
                correct = k % 2 == 0 if score is None else score == POINTS
                await connection.execute(
                    """INSERT INTO response_log
                         (attempt_id, user_id, item_id, completed_at, correct, score, response_time_ms, mode)
                       VALUES (%s, %s, %s, clock_timestamp(), %s, %s, 30000, 'live')""",
                    (f"more-{user}-{k}", user, item, correct, score),
                )
                self._more[user] = k + 1
                self._wanted.task_done()


@dataclass(frozen=True)
class ReturnedTheta:
    """A returned θ.

    Attributes:
        user: learner.
        ms: time from the planned arrival to the response.
        theta: ability.
        n_items: answers that it is based on.
        at_least: answers that were committed at the time of the request.
    """

    user: str
    ms: float
    theta: float
    n_items: int
    at_least: int


@dataclass
class LoadResult:
    """Responses: the returned θ, counts by status, and the number of 503 responses without Retry-After."""

    taken: list[ReturnedTheta] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0

    @property
    def ms(self) -> tuple[float, float]:
        """Median and 99th percentile of the times of responses with status 200, in ms."""
        p50, p99 = np.percentile([one.ms for one in self.taken] or [np.nan], [50, 99])
        return float(p50), float(p99)


class Client:
    """HTTP client that keeps connections open for a minute, as nginx does, with little Python code per request."""

    def __init__(self, port: int, path: str, days: int | None) -> None:
        self._asked = {} if days is None else {"lookback_days": days}
        self._port, self._path, self._free = (
            port,
            path,
            list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]](),
        )

    async def post(self, user_id: str, **more: Any) -> tuple[int, str, bytes]:
        """Returns status, lower-case headers and body."""
        while self._free and time.monotonic() - self._free[0][0] > 60:
            self._free.pop(0)[2].close()
        if self._free:
            _, reader, writer = self._free.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        body = json.dumps({"user_id": user_id, **self._asked, **more}).encode()
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        content = await reader.readexactly(int(headers.partition("content-length: ")[2].partition("\r\n")[0]))
        self._free.append((time.monotonic(), reader, writer))
        return int(headers.split()[1]), headers, content

    def close(self) -> None:
        for _, _, writer in self._free:
            writer.close()


async def load(
    port: int, users: list[str], rate: float, log: Log | None, path: str = PATH, days: int | None = 365
) -> LoadResult:
    """Send requests at a rate. Times are from the planned arrival to the end of the response.

    With a log, every second learner answers an item before the request.
    """
    rng, client, answered = np.random.default_rng(7), Client(port, path, days), LoadResult()
    arrivals = np.cumsum(rng.exponential(1 / rate, len(users)))
    began = time.perf_counter() + 0.5

    async def one(user: str, due: float) -> None:
        at_least = log.n_answers(user) if log else 0
        status, headers, content = await client.post(user)
        answered.statuses[status] += 1
        answered.without_retry_after += status == 503 and "retry-after: " not in headers
        if status == 200:
            ms, answer = 1000 * (time.perf_counter() - due), json.loads(content)
            answered.taken.append(
                ReturnedTheta(user, ms, answer.get("theta", np.nan), answer.get("n_items", 0), at_least)
            )

    async with asyncio.TaskGroup() as group:
        for k, (user, at) in enumerate(zip(users, arrivals, strict=True)):
            due = began + at
            if log is not None and k % 2 and k + 10 < len(users):
                log.let_answer(users[k + 10])
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(user, due))
    client.close()
    return answered


def compare(database: Database, log: Log, taken: Sequence[ReturnedTheta]) -> float:
    """Largest difference between a returned θ and the batch's θ on the same answers.

    The same number of answers means the same answers, as a learner's answers come in order. Raises AssertionError if
    a θ is based on fewer answers than were committed at the request, or on answers that the batch does not count.
    """
    end = datetime.now(UTC)
    users = sorted({one.user for one in taken})
    judge_until(database, end + timedelta(days=1))
    with database.connect() as connection:
        scale = read_scales(connection)["default"]
        items = in_force(connection, "default", end).items
        batch, found = scoring_responses(connection, ability_start(end, scale), end, list(items), users)
    ids, start = np.array(batch.item_ids, dtype=object), np.searchsorted(batch.person, np.arange(len(found) + 1))
    rows = []
    for one in taken:
        assert one.n_items >= one.at_least, f"{one} leaves out answers"
        index = int(np.searchsorted(found, one.user))
        answer_rows = np.arange(start[index], start[index + 1])
        answer_rows = answer_rows[~np.isin(ids[batch.item[answer_rows]], log.items_after(one.user, one.n_items))]
        assert len(answer_rows) == one.n_items, f"{one} rests on other answers than the batch's {len(answer_rows)}"
        rows.append(answer_rows)
    person = np.repeat(np.arange(len(taken), dtype=np.int32), [len(answer_rows) for answer_rows in rows])
    seen = np.concatenate(rows)
    assert batch.at is not None
    at = batch.at[seen]
    same = Responses(person, batch.item[seen], batch.score[seen], len(taken), batch.item_ids, batch.categories, at=at)
    return float(np.max(np.abs(estimate(same, items, scale).theta - [one.theta for one in taken])))


def some(taken: Sequence[ReturnedTheta], n: int) -> list[ReturnedTheta]:
    """At most `n` of the returned θ, spread over the whole time."""
    chosen = np.unique(np.linspace(0, len(taken) - 1, n).astype(int)) if taken else []
    return [taken[k] for k in chosen]


@contextmanager
def servers(url: str, home: Path, *, api: int, hello: int, code: Path = ROOT) -> Iterator[int]:
    """Start the API of a checkout and the hello server it is compared with. Yields the process id of the API."""
    environment = os.environ | {
        "PYTHONPATH": str(code),
        "IRT_HOME": str(home),
        "DATABASE_URL": url,
        "IRT_THETA_TOKEN": TOKEN,
        "IRT_THETA_PORT": str(api),
    }
    children = []
    try:
        with (home / "theta-api.log").open("wb") as log:
            command = [sys.executable, "-m", "services.theta_api"]
            children.append(subprocess.Popen(command, cwd=code, env=environment, stderr=log, stdout=log))
            children.append(subprocess.Popen([sys.executable, "-c", HELLO % hello]))
        for address in (f"{api}/ready", f"{hello}/openapi.json"):
            wait_for(f"http://127.0.0.1:{address}")
        yield children[0].pid
    finally:
        for child in children:
            child.kill()
            child.wait()


def memory_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 2**20)


def cpu_s(pid: int) -> float:
    """User and system processor time of the process until now, in seconds."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=5).status_code == 200:
                return
        except (requests.ConnectionError, requests.Timeout):
            pass
        time.sleep(0.1)
    raise SystemExit(f"{url} did not answer")
