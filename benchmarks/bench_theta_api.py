"""θ on request under an open load: time from each planned arrival, compared with a FastAPI that says hello.

    python -m benchmarks.bench_theta_api --attempts 1000000 --seconds 300 --rate 100 --rounds 1

It runs in turn with answers of 0 and 1, with every third item scored 0 … 3, and with moving abilities. The log covers a
year, in an embedded PostgreSQL; learners have a median of 200 answers, one in a hundred has 2,000. Arrivals are a
Poisson process, independent of responses; before every second request, its learner answers a further item, which is
committed. At the end, 1,000 returned θ are compared with the batch's θ on the same answers. PostgreSQL, both servers
and this generator share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from irt_assets.scales.scale_decisions import record_decisions
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from tests.testbed.theta_load import (
    LoadResult,
    Log,
    compare,
    cpu_s,
    load,
    load_log,
    memory_mb,
    servers,
    some,
)

API_PORT, HELLO_PORT = 18001, 18002
KINDS = ("0/1", "scored", "moving")
"""Kinds of logs: dichotomous items, scored items, and dichotomous items with abilities that move by `WALK` a week."""
WALK = 0.05**2


@contextmanager
def embedded_log(n_attempts: int, rng: np.random.Generator, *, scored: bool = False) -> Iterator[tuple[Database, Log]]:
    """Yields a year's log in its own embedded PostgreSQL, which syncs to disk."""
    with tempfile.TemporaryDirectory() as home:
        server = EmbeddedPostgres(Path(home) / "postgres")
        url = server.start()
        try:
            database = Database(Settings(irt_home=Path(home), database_url=SecretStr(url), _env_file=None))
            upgrade(database)
            yield database, Log(database, load_log(database, n_attempts, rng, scored=scored), scored=scored)
        finally:
            server.stop()


def let_ability_move(database: Database, variance: float) -> None:
    """Record the decision that abilities walk with this variance per week, from the beginning."""
    with database.connect() as connection:
        walk = {"ability_variance": str(variance)}
        record_decisions(connection, "default", walk, datetime(2020, 1, 1, tzinfo=UTC), by="nobody", reason="a load")  # type: ignore[arg-type]


async def measure(log: Log, users: list[str], rate: float, days: int | None, *, api: int, hello: int) -> LoadResult:
    show("hello", rate, await load(hello, users[: int(rate * 10)], rate, None))
    async with log.growing():
        answered = await load(api, users, rate, log, days=days)
    show("θ API", rate, answered)
    return answered


def show(label: str, rate: float, answered: LoadResult) -> None:
    p50, p99 = answered.ms
    statuses = ", ".join(f"{n} × {status}" for status, n in sorted(answered.statuses.items()))
    print(f"{label:6s} {rate:6.0f}/s  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  {statuses}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        logs = {
            kind: stack.enter_context(
                embedded_log(arguments.attempts, np.random.default_rng(1), scored=kind == "scored")
            )
            for kind in KINDS
        }
        let_ability_move(logs["moving"][0], WALK)
        rounds = [
            {kind: under_load(kind, *log, arguments) for kind, log in logs.items()} for _ in range(arguments.rounds)
        ]
    for kind in KINDS[1:]:
        ratios = np.array([np.divide(of[kind].ms, of["0/1"].ms) for of in rounds])
        print(
            f"{kind} to 0/1, median of {arguments.rounds}: p50 × {np.median(ratios[:, 0]):.2f}, p99 × "
            f"{np.median(ratios[:, 1]):.2f}; by round {np.round(ratios, 2).tolist()}"
        )


def under_load(kind: str, database: Database, log: Log, arguments: argparse.Namespace) -> LoadResult:
    """Returns the responses at the requested rate."""
    print(f"{kind}:", flush=True)
    days = None if kind == "moving" else 365
    rng = np.random.default_rng(1)
    users = [str(u) for u in rng.choice(log.users, int(arguments.rate * arguments.seconds))]
    ports = {"api": API_PORT, "hello": HELLO_PORT}
    with servers(database.url, database.settings.irt_home, **ports) as api:
        asyncio.run(measure(log, users[:200], 20, days, **ports))
        before, cpu = memory_mb(api), cpu_s(api)
        usual = asyncio.run(measure(log, users, arguments.rate, days, **ports))
        cpu = 1000 * (cpu_s(api) - cpu) / len(users)
        tenfold = asyncio.run(measure(log, users[: int(arguments.rate * 100)], 10 * arguments.rate, days, **ports))
        print(
            f"memory of the API {before:.0f} MB before, {memory_mb(api):.0f} MB after; {cpu:.2f} ms of processor time "
            f"a request at {arguments.rate:.0f}/s"
        )
    latencies = some(usual.taken, 800) + some(tenfold.taken, 200)
    worst = compare(database, log, latencies)
    print(f"{len(latencies)} θ taken meanwhile: at most {worst:.1e} from the batch's on the same answers")
    return usual


if __name__ == "__main__":
    main()
