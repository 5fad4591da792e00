"""The θ API under an open load responds in time, sheds and is never wrong. Short form of
`benchmarks/bench_theta_api.py`.

Two other test processes share the cores. So response times may be four times the times in
docs/reference/theta-api.md or, on a busier machine, `TIMES_WORK` times the times of a FastAPI that computes for 5 ms
under the same load; and the best of three tries counts. At ten times the rate, server and generator need more cores
than they get, so the test limits the processor time of a request instead of its response time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers import rooms
from tests.testbed.machine import free_port
from tests.testbed.theta_load import WORK, LoadResult, Log, compare, cpu_s, load, load_log, memory_mb, servers, some

pytestmark = [
    pytest.mark.ci,
    pytest.mark.on_change(
        *(
            "services/theta_api/**",
            "services/theta_client/**",
            "irt_assets/abilities/**",
            "tests/testbed/theta_load.py",
        ),
        *("packages/irt-psychometrics/irt_psychometrics/**", "resources/**", "requirements.lock"),
    ),
    pytest.mark.xdist_group("theta load"),
]
TRIES = 3
USUAL, SECONDS = 25, 5
TENFOLD = 1_000
"""Requests per second: ten times the rate the API is designed for, and more than any machine can answer."""
LIMITS_MS = 4 * 15, 4 * 60
"""Limits of the median and the 99th percentile, in ms."""
TIMES_WORK = 8
"""An update computes for about 5 ms and waits for PostgreSQL seven times, longer if the machine is busy."""
CPU_OF_A_SHED_REQUEST = 1 / 3
"""Maximum processor time of a shed request, as a share of an answered request's at the usual rate.

Otherwise shedding would not free time for other requests. Measured: a whole burst takes less processor time than its
answers would take at the usual rate.
"""
BURSTS = 12
ROUNDED = 0.5e-6 + 1e-12
"""Half a unit of the last digit of θ in responses, and rounding."""
GROWTH_MB = 1
"""Maximum growth of memory in the burst that adds least. It is half a kilobyte per request; a leak would add that in
every burst.

Measured: the heap grows by up to 8 MB at once when more requests are open than ever before, and by less than 0.3 MB in
most bursts.
"""


@dataclass
class ServedApi:
    database: Database
    log: Log
    pid: int
    ports: tuple[int, int]

    def run_load(self, rate: int, seconds: int, seed: int) -> tuple[LoadResult, LoadResult]:
        """Returns the API's responses and, at the same time and the usual rate, the responses of the 5 ms FastAPI."""
        users = [str(user) for user in np.random.default_rng(seed).choice(self.log.users, rate * seconds)]

        async def both() -> tuple[LoadResult, LoadResult]:
            async with self.log.growing():
                api = load(self.ports[0], users, rate, self.log)
                return await asyncio.gather(api, load(self.ports[1], users[: USUAL * seconds], USUAL, None, WORK))

        return asyncio.run(both())


@pytest.fixture(scope="module")
def served(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedApi]:
    home: Path = tmp_path_factory.mktemp("load")
    with rooms.copied(postgres.start(), migrated_template, "theta_load", home) as settings:
        database = Database(settings)
        log = Log(database, load_log(database, 60_000, np.random.default_rng(1)))
        ports = free_port(), free_port()
        with servers(database.url, home, api=ports[0], hello=ports[1]) as pid:
            yield ServedApi(database, log, pid, ports)


def best_try(tries: Callable[[int], list[str]]) -> list[str]:
    """Returns the faults of the best try. No try follows a try without faults."""
    found: list[list[str]] = []
    for k in range(TRIES):
        found.append(tries(k))
        if not found[-1]:
            break
    return min(found, key=len)


def too_slow(api: LoadResult, work: LoadResult) -> list[str]:
    return [
        f"{name} {took:.0f} ms: more than {limit} ms and than {TIMES_WORK} times the {usual:.0f} ms of 5 ms of work"
        for name, took, usual, limit in zip(("p50", "p99"), api.ms, work.ms, LIMITS_MS, strict=True)
        if not took <= max(limit, TIMES_WORK * usual)
    ]


def with_cpu(served: ServedApi, rate: int, seconds: int, seed: int) -> tuple[LoadResult, float]:
    """Returns the API's responses and the seconds of processor time they took."""
    began = cpu_s(served.pid)
    api, _ = served.run_load(rate, seconds, seed)
    return api, cpu_s(served.pid) - began


def test_theta_api_responds_in_time_and_correctly_at_the_usual_rate(served: ServedApi) -> None:
    taken = []

    def one(k: int) -> list[str]:
        api, work = served.run_load(USUAL, SECONDS, k)
        taken.extend(api.taken)
        assert set(api.statuses) <= {200, 503}
        few = [] if api.statuses[200] >= 0.9 * USUAL * SECONDS else [f"answers {dict(api.statuses)}"]
        return few + too_slow(api, work)

    assert best_try(one) == []
    assert compare(served.database, served.log, some(taken, 100)) < ROUNDED


def test_theta_api_sheds_without_growth_or_wrong_thetas_at_ten_times_the_rate(served: ServedApi) -> None:
    api, cpu = with_cpu(served, USUAL, SECONDS, 9)
    cpu_of_an_answer = cpu / api.statuses[200]
    taken, cpu_of_a_shed_one, memory = [], [], [memory_mb(served.pid)]
    for k in range(BURSTS):
        api, cpu = with_cpu(served, TENFOLD, 2, 11 + k)
        taken.extend(api.taken)
        assert (set(api.statuses), api.without_retry_after) == ({200, 503}, 0)
        cpu_of_a_shed_one.append((cpu - api.statuses[200] * cpu_of_an_answer) / api.statuses[503])
        memory.append(memory_mb(served.pid))
        if k >= TRIES and memory[-1] - memory[-2] < GROWTH_MB:
            break
    else:
        pytest.fail(f"each burst added {GROWTH_MB} MB or more: {memory}")
    assert min(cpu_of_a_shed_one) < CPU_OF_A_SHED_REQUEST * cpu_of_an_answer
    assert compare(served.database, served.log, some(taken, 100)) < ROUNDED

    def after(k: int) -> list[str]:
        api, _ = served.run_load(USUAL, 1, 20 + k)
        return [] if api.statuses[200] == USUAL else [f"still sheds: {dict(api.statuses)}"]

    assert best_try(after) == []
