"""θ on request under an open load: time from each planned arrival, beside a FastAPI that says hello.

    python -m tests.benchmarks.bench_theta_api --attempts 1000000 --seconds 300 --rate 100

A year's log in an embedded PostgreSQL; learners have a median of 200 answers, one in a hundred 2,000. Arrivals are a
Poisson process that waits for nobody; before every second request its learner answers one more item, committed. At the
end 1,000 θ taken meanwhile are compared with the batch's on the answers that each of them saw. PostgreSQL, both servers
and this generator share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio

import numpy as np

from tests.testbed.theta_load import (
    Answered,
    Log,
    compare,
    embedded_log,
    let_ability_move,
    load,
    memory_mb,
    servers,
    some,
)

API_PORT, HELLO_PORT = 18001, 18002


async def measure(log: Log, users: list[str], rate: float, days: int | None, *, api: int, hello: int) -> Answered:
    show("hello", rate, await load(hello, users[: int(rate * 10)], rate, None))
    async with log.growing():
        answered = await load(api, users, rate, log, days=days)
    show("θ API", rate, answered)
    return answered


def show(what: str, rate: float, answered: Answered) -> None:
    p50, p99 = answered.ms
    said = ", ".join(f"{n} × {status}" for status, n in sorted(answered.statuses.items()))
    print(f"{what:6s} {rate:6.0f}/s  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  {said}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--variance", type=float, default=0.0, help="of a walk a week; 0: ability is constant")
    asked = parser.parse_args()
    days = None if asked.variance else 365
    rng = np.random.default_rng(1)
    with embedded_log(asked.attempts, rng) as (database, log):
        if asked.variance:
            let_ability_move(database, asked.variance)
        users = [str(u) for u in rng.choice(log.users, int(asked.rate * asked.seconds))]
        ports = {"api": API_PORT, "hello": HELLO_PORT}
        with servers(database.url, database.settings.irt_home, **ports) as api:
            asyncio.run(measure(log, users[:200], 20, days, **ports))
            before = memory_mb(api)
            usual = asyncio.run(measure(log, users, asked.rate, days, **ports))
            tenfold = asyncio.run(measure(log, users[: int(asked.rate * 100)], 10 * asked.rate, days, **ports))
            print(f"memory of the API {before:.0f} MB before, {memory_mb(api):.0f} MB after")
        taken = some(usual.taken, 800) + some(tenfold.taken, 200)
        worst = compare(database, log, taken)
        print(f"{len(taken)} θ taken meanwhile: at most {worst:.1e} from the batch's on the same answers")


if __name__ == "__main__":
    main()
