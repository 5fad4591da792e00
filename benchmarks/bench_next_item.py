"""The next item under an open load, next to updates of θ under the same load.

    python -m benchmarks.bench_next_item --seconds 60 --rate 100

The bank has 2,500 items with eight topics, each with limits, and a limit on exposure; a test has 30 items. Sessions are
recorded first. Then requests arrive as a Poisson process; each has the first 0 … 29 answers of a random session, and
one in 30 begins a session. PostgreSQL, the API and this generator share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks.bench_theta_api import API_PORT, HELLO_PORT, embedded_log
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.policy_decision import SET_POLICY, PolicyRequest
from irt_assets.decisions.deciding import decide
from tests.testbed.theta_load import Client, load, memory_mb, servers

PATH = "/api/seedtest/tests/placement/next-item"
LENGTH, TOPICS = 30, 8
POLICY = f"""
test: placement
content: %s
length: {{max: {LENGTH}}}
topics: {{{", ".join(f"t{k}: {{min: 2, max: 6}}" for k in range(TOPICS))}}}
exposure: {{max: 0.25}}
"""


async def record_sessions(client: Client, users: list[str], rng: np.random.Generator) -> list[list[dict[str, Any]]]:
    """The answers of whole sessions, one session a learner."""
    sessions = []
    for user in users:
        answers: list[dict[str, Any]] = []
        for _ in range(LENGTH):
            status, _, content = await client.post(user, session_id=f"{user}-0", answers=answers)
            assert status == 200, content
            answers.append({"item_id": json.loads(content)["item_id"], "correct": bool(rng.random() < 0.5)})
        sessions.append(answers)
    return sessions


async def request_items(
    client: Client,
    users: list[str],
    sessions: list[list[dict[str, Any]]],
    rate: float,
    n: int,
    rng: np.random.Generator,
) -> tuple[list[float], list[float], Counter[int]]:
    """Milliseconds of later and of first requests, from the planned arrival, and counts by status."""
    later, first, statuses = list[float](), list[float](), Counter[int]()
    arrivals = time.perf_counter() + 0.5 + np.cumsum(rng.exponential(1 / rate, n))

    async def one(k: int, due: float) -> None:
        begins, chosen, size = k % LENGTH == 0, int(rng.integers(len(sessions))), int(rng.integers(LENGTH))
        user = users[chosen]
        session = f"{user}-{datetime.now(UTC).timestamp()}-{k}" if begins else f"{user}-0"
        answers = [] if begins else sessions[chosen][:size]
        status, _, _ = await client.post(user, session_id=session, answers=answers)
        statuses[status] += 1
        if status == 200:
            (first if begins else later).append(1000 * (time.perf_counter() - due))

    async with asyncio.TaskGroup() as group:
        for k, due in enumerate(arrivals):
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(k, due))
    return later, first, statuses


def show(label: str, rate: float, ms: list[float], statuses: Counter[int]) -> None:
    p50, p99 = np.percentile(ms or [np.nan], [50, 99])
    counts = ", ".join(f"{n} × {status}" for status, n in sorted(statuses.items()))
    print(f"{label:14s} {rate:5.0f}/s  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  {counts}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--content", choices=("priority", "shadow"), default="priority")
    arguments = parser.parse_args()
    rng, n = np.random.default_rng(1), int(arguments.rate * arguments.seconds)
    with embedded_log(arguments.attempts, rng) as (database, log):
        with database.connect() as connection:
            connection.execute("UPDATE question SET topic_id = 't' || (substr(item_id, 2)::int %% %s)::text", (TOPICS,))
        request = PolicyRequest.of(Policy.from_yaml(POLICY % arguments.content))
        decide(database, SET_POLICY, request, by="nobody", reason="a load")
        with servers(database.url, database.settings.irt_home, api=API_PORT, hello=HELLO_PORT) as api:

            async def measure() -> None:
                client, users = Client(API_PORT, PATH, None), log.users[:100]
                sessions = await record_sessions(client, users, rng)
                before = memory_mb(api)
                for _ in range(2):
                    later, first, statuses = await request_items(client, users, sessions, arguments.rate, n, rng)
                    show("next item", arguments.rate, later, statuses)
                    show("first request", arguments.rate / LENGTH, first, Counter())
                    async with log.growing():
                        updates = await load(API_PORT, [str(u) for u in rng.choice(log.users, n)], arguments.rate, log)
                    show("update of θ", arguments.rate, [one.ms for one in updates.taken], updates.statuses)
                print(f"memory of the API {before:.0f} MB before, {memory_mb(api):.0f} MB after")
                client.close()

            asyncio.run(measure())


if __name__ == "__main__":
    main()
