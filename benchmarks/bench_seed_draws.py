"""Draws of new items: processor time of a choice, responses over HTTP, limits with twenty servers, and answers saved.

    python -m benchmarks.bench_seed_draws time       # 2,000 open items
    python -m benchmarks.bench_seed_draws limits     # 10,000 sessions, twenty servers
    python -m benchmarks.bench_seed_draws answers    # by simulation

`answers` compares draws by the expected gain with random draws: learners N(0, 1) with 20 published answers each answer
five new items, ln a ~ N(.2, .3²), b ~ N(0, 1), until every item has 100 answers and SEs of at most .25. Items are
estimated after each 200 answers, and are not drawn any more once they are precise enough.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import local

import numpy as np
import psutil
from psycopg.types.json import Jsonb

from benchmarks.bench_theta_api import API_PORT, HELLO_PORT, embedded_log
from irt_assets.abilities.online import read_measures
from irt_assets.new_items.draws import Places, fill_places
from irt_assets.new_items.pool import SeedPool, SeedPools
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.new_items import (
    BankPrior,
    NewItemEstimates,
    PersonPosteriors,
    answer_information,
    choose_item,
    estimate_new_items,
    expected_gain,
)
from resources.postgres.database import Database
from services.theta_api.seeds import SEEDS_PATH
from tests.testbed.theta_load import Client, Log, cpu_s, servers

SCALE, SERVERS = "default", 20
PER_NIGHT, PER_LEARNER = 200, 5


@contextmanager
def seeded_log(n_items: int, max_answers: int) -> Iterator[tuple[Database, Log]]:
    """Yield a year's log and its database, in which new items are being seeded."""
    with embedded_log(20_000, np.random.default_rng(1)) as (database, log):
        with database.connect() as connection:
            for k in range(n_items):
                connection.execute("INSERT INTO question (item_id, scale_id) VALUES (%s, %s)", (f"new{k}", SCALE))
                connection.execute(
                    """INSERT INTO decision (kind, scale_id, subject, value, effective_from, decided_at, decided_by,
                                             reason)
                       VALUES ('seed items', %s, %s, %s, '2026-01-01', '2020-01-01', 'nobody', 'a load')""",
                    (SCALE, f"new{k}", Jsonb({"max_answers": max_answers})),
                )
        yield database, log


def read_pool(database: Database) -> SeedPool:
    pools = SeedPools()
    with database.connect() as connection:
        pools.refresh(connection, read_measures(connection, datetime.now(UTC)))
    return pools.by_scale[SCALE]


def measure_time(n: int) -> None:
    with seeded_log(2_000, 400) as (database, log):
        pool = read_pool(database)
        every = np.arange(len(pool.item_ids))
        pool.gain(every, 0.0, 0.4)
        before = time.process_time()
        for k in range(100):
            choose_item(pool.gain(every, 0.02 * k, 0.4), pool.may_draw((), None), k)
        print(f"choice among {len(pool.item_ids):,} items: {10 * (time.process_time() - before):.1f} ms of a processor")
        with servers(database.url, database.settings.irt_home, api=API_PORT, hello=HELLO_PORT) as api:
            asyncio.run(request_seeds(log.users, SERVERS, "warm"))
            began, before = time.perf_counter(), cpu_by_part(api)
            ms, statuses = asyncio.run(request_seeds(log.users, n, "s"))
            seconds, after = time.perf_counter() - began, cpu_by_part(api)
        p50, p95 = np.percentile(ms, [50, 95])
        parts = ", ".join(f"{name} {1000 * (after[name] - before[name]) / n:.1f} ms" for name in after)
        print(f"{SERVERS} at once: p50 {p50:.0f} ms, p95 {p95:.0f} ms, {n / seconds:.0f}/s; {dict(statuses)}")
        print(f"processor time of a request: {parts}; load of the machine {os.getloadavg()[0]:.1f}")


def cpu_by_part(api: int) -> dict[str, float]:
    """Processor time until now of the API, of all PostgreSQL processes and of this client, in seconds."""
    running = (process.info for process in psutil.process_iter(["name", "cpu_times"]))
    postgres = [own["cpu_times"] for own in running if own["name"] == "postgres"]
    return {
        "θ API": cpu_s(api),
        "PostgreSQL": sum(own.user + own.system for own in postgres),
        "client": time.process_time(),
    }


async def request_seeds(users: list[str], n: int, prefix: str) -> tuple[list[float], Counter[int]]:
    """Keep twenty requests under way until `n` are done. Returns milliseconds of each, and counts by status."""
    client, ms, statuses, sessions = Client(API_PORT, SEEDS_PATH, None), list[float](), Counter[int](), iter(range(n))

    async def keep_asking() -> None:
        for k in sessions:
            began = time.perf_counter()
            status, _, _ = await client.post(users[k % len(users)], session_id=f"{prefix}{k}", n=1)
            ms.append(1000 * (time.perf_counter() - began))
            statuses[status] += 1

    await asyncio.gather(*(keep_asking() for _ in range(SERVERS)))
    client.close()
    return ms, statuses


def measure_limits(n: int) -> None:
    """Let twenty servers fill `n` sessions from pools that do not see the draws of other servers."""
    most = 25
    with seeded_log(n // 50, most) as (database, _):
        pools, of_thread = [read_pool(database) for _ in range(SERVERS)], local()

        def sit(k: int) -> None:
            if not hasattr(of_thread, "connection"):
                of_thread.connection = database.open()
            with of_thread.connection.transaction():
                places = Places(f"u{k}", f"s{k}", None, (1,))
                fill_places(of_thread.connection, pools[k % SERVERS], places, lambda: (0.0, 0.4), datetime.now(UTC))

        began = time.perf_counter()
        with ThreadPoolExecutor(SERVERS) as pool:
            [*pool.map(sit, range(n))]
        seconds = time.perf_counter() - began
        with database.connect() as connection:
            held = [count for (count,) in connection.execute("SELECT count(*) FROM seed_draw GROUP BY item_id")]
    print(f"{n:,} sessions: {len(held)} items with at most {max(held)} of {most} answers, {sum(held):,} draws in all")
    print(f"{n / seconds:.0f} sessions/s; load of the machine {os.getloadavg()[0]:.1f}")


def simulate(rng: np.random.Generator, n_items: int, n_open: int, random_share: float) -> tuple[int, float]:
    """Draw until all items are precise. Returns the number of answers, and the mean number until an item is precise."""
    b, a = rng.normal(size=n_items), np.exp(rng.normal(0.2, 0.3, n_items))
    bank = make_items("p", np.exp(rng.normal(0.2, 0.3, 150)), rng.normal(size=150))
    names, prior = [f"n{k}" for k in range(n_items)], BankPrior()
    item, person, score, posteriors = list[int](), list[int](), list[bool](), list[PersonPosteriors]()
    ready, n = np.full(n_items, np.inf), 0
    estimates = estimate_new_items(names, item, person, score, PersonPosteriors.normal([], []), prior)
    while np.isinf(ready).any():
        learners = rng.normal(size=PER_NIGHT // PER_LEARNER)
        posteriors.append(posteriors_of(learners, bank, rng))
        usual, since = answer_information(estimates.items, 0.0, 1.0), np.zeros(n_items)
        waiting = np.isinf(ready)
        queue = np.where(waiting, estimates.n, -1).argsort(kind="stable")[::-1][: min(n_open, waiting.sum())]
        for i, theta in enumerate(learners):
            eligible = np.isin(np.arange(n_items), queue)
            mean, se = float(posteriors[-1].theta[i]), float(sd_of(posteriors[-1])[i])
            gain = np.zeros(n_items)
            for _ in range(min(PER_LEARNER, eligible.sum())):
                if random_share < 1:
                    known = estimates.precision + since[:, None, None] * usual
                    gain = expected_gain(estimates.items, known, mean, se)
                j = choose_item(gain, eligible, rng, random_share).place
                eligible[j], since[j] = False, since[j] + 1
                item.append(j)
                person.append(n // PER_NIGHT * len(learners) + i)
                score.append(bool(rng.random() < 1 / (1 + np.exp(-a[j] * (theta - b[j])))))
        n += PER_NIGHT
        estimates = estimate_new_items(names, item, person, score, join(posteriors), prior)
        ready[waiting & is_precise(estimates)] = n
    return len(item), float(ready.mean())


def make_items(name: str, a: np.ndarray, b: np.ndarray) -> ItemParameters:
    return ItemParameters.from_frame({"item": [f"{name}{k}" for k in range(len(a))], "a": a, "b": b})


def posteriors_of(learners: np.ndarray, bank: ItemParameters, rng: np.random.Generator) -> PersonPosteriors:
    """Let each learner answer 20 published items, drawn at random."""
    person = np.repeat(np.arange(len(learners)), 20)
    item = np.concatenate([rng.permutation(len(bank.item_ids))[:20] for _ in learners])
    p = 1 / (1 + np.exp(-bank.a[item] * (learners[person] - bank.b[item])))
    score = (rng.random(len(item)) < p).astype(np.int8)
    answers = Responses(person.astype(np.int32), item.astype(np.int32), score, len(learners), bank.item_ids)
    exact = PersonPosteriors.from_responses(answers, bank)
    return PersonPosteriors.normal(exact.theta, sd_of(exact))


def sd_of(persons: PersonPosteriors) -> np.ndarray:
    return np.sqrt((persons.weights * (persons.nodes - persons.theta[:, None]) ** 2).sum(axis=1))


def join(posteriors: list[PersonPosteriors]) -> PersonPosteriors:
    nodes, weights = (np.concatenate([getattr(own, name) for own in posteriors]) for name in ("nodes", "weights"))
    return PersonPosteriors(nodes, weights)


def is_precise(estimates: NewItemEstimates) -> np.ndarray:
    return (estimates.n >= 100) & (estimates.items.b_se <= 0.25) & (estimates.ln_a_se <= 0.25)


def measure_answers(runs: int, n_items: int) -> None:
    """Print answers by design: the same open items, and a queue of which a third is open."""
    designs = {"by gain": (n_items, 0.2), "at random": (n_items, 1.0), "by gain, a third open": (n_items // 3, 0.2)}
    found = {
        name: np.array([simulate(np.random.default_rng([7, k]), n_items, *design) for k in range(runs)])
        for name, design in designs.items()
    }
    by_random = found["at random"]
    print(f"{n_items} items, {runs} runs: mean ± SE of the mean, and ratio to random draws from all items")
    for name, own in found.items():
        ratio, se = (own / by_random).mean(axis=0), own.std(axis=0, ddof=1) / np.sqrt(runs)
        print(
            f"{name:22s} answers {own[:, 0].mean():7.0f} ± {se[0]:3.0f} ({ratio[0]:.2f})  "
            f"mean answer of readiness {own[:, 1].mean():7.0f} ± {se[1]:3.0f} ({ratio[1]:.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("time", "limits", "answers"))
    parser.add_argument("-n", type=int, help="requests, sessions or runs")
    parser.add_argument("--items", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.part == "time":
        measure_time(arguments.n or 2_000)
    elif arguments.part == "limits":
        measure_limits(arguments.n or 10_000)
    else:
        measure_answers(arguments.n or 20, arguments.items)


if __name__ == "__main__":
    main()
