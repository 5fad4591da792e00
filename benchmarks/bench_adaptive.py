"""Simulated adaptive tests a second: the library, the same test in vectorised NumPy, and catsim.

    python -m benchmarks.bench_adaptive --learners 20000 --items 500 --length 20
    python -m benchmarks.bench_adaptive --catsim ENVIRONMENT/bin/python

2PL, a ~ LogNormal(0, 0.3), b ~ N(0, 1), θ ~ N(0, 1); maximum information, EAP (catsim: numerical search). Wall-clock
seconds, best of three turns, after one that compiles and fills caches. NumPy simulates `--block` learners at once, one
thread; catsim simulates `--of-catsim` learners. The program of catsim runs in the Python of an environment of its own.
Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Callable

import numpy as np

from irt_psychometrics.adaptive import AdaptiveTest, simulate_tests
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.items import ItemParameters

TURNS = 3
NODES = np.linspace(-6, 6, 121)
CATSIM = """
import sys, time
import numpy as np
from catsim.estimation import NumericalSearchEstimator
from catsim.initialization import FixedPointInitializer
from catsim.item_bank import ItemBank
from catsim.selection import MaxInfoSelector
from catsim.simulation import Simulator
from catsim.stopping import TestLengthStopper

n, length = map(int, sys.argv[1:])
items = np.loadtxt(sys.stdin)
theta = np.random.default_rng(1).normal(size=n)
simulator = Simulator(ItemBank(items), theta, FixedPointInitializer(0.0), MaxInfoSelector(),
                      NumericalSearchEstimator(), TestLengthStopper(max_items=length))
begun = time.perf_counter()
simulator.simulate()
taken = time.perf_counter() - begun
print(taken, np.sqrt(np.mean((np.asarray(simulator.latest_estimations) - theta) ** 2)))
"""


def simulate_with_numpy(
    a: Floats, b: Floats, theta: Floats, length: int, block: int, rng: np.random.Generator
) -> Floats:
    """EAP of each learner."""
    z = a[:, None] * (NODES - b[:, None])
    log_right, log_wrong = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    estimates = []
    for part in np.array_split(theta, -(-len(theta) // block)):
        rows, posterior = np.arange(len(part)), np.tile(-(NODES**2) / 2, (len(part), 1))
        used, estimate = np.zeros((len(part), len(a)), dtype=bool), np.zeros(len(part))
        for _ in range(length):
            p = 1 / (1 + np.exp(-a * (estimate[:, None] - b)))
            item = np.where(used, -1, a**2 * p * (1 - p)).argmax(axis=1)
            used[rows, item] = True
            right = rng.random(len(part)) < 1 / (1 + np.exp(-a[item] * (part - b[item])))
            posterior += np.where(right[:, None], log_right[item], log_wrong[item])
            weight = np.exp(posterior - posterior.max(axis=1, keepdims=True))
            estimate = weight @ NODES / weight.sum(axis=1)
        estimates.append(estimate)
    return np.concatenate(estimates)


def best_time(function: Callable[[], object]) -> float:
    """Seconds of the fastest turn, after one that does not count."""
    times = []
    for _ in range(TURNS + 1):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--block", type=int, default=500)
    parser.add_argument("--catsim", help="Python of an environment with catsim")
    parser.add_argument("--of-catsim", type=int, default=20)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    a, b = np.exp(rng.normal(0, 0.3, options.items)), rng.normal(0, 1, options.items)
    ids, none = tuple(f"i{j}" for j in range(options.items)), np.zeros(options.items)
    items = ItemParameters(ids, a, b, none, np.zeros((options.items, 2, 2)))
    theta, test = rng.normal(size=options.learners), AdaptiveTest(max_items=options.length)
    few = theta[: max(options.learners // 10, options.block)]

    def rmse(estimate: Floats, of: Floats) -> float:
        return float(np.sqrt(np.mean((estimate - of) ** 2)))

    speeds = {
        f"irt_psychometrics, {options.threads} threads": (
            options.learners
            / best_time(lambda: simulate_tests(items, test, theta, threads=options.threads, mean=0, sd=1)),
            simulate_tests(items, test, theta, mean=0, sd=1).rmse,
        ),
        "irt_psychometrics, 1 thread": (
            options.learners / best_time(lambda: simulate_tests(items, test, theta, threads=1, mean=0, sd=1)),
            simulate_tests(items, test, theta, mean=0, sd=1).rmse,
        ),
        "NumPy, vectorised": (
            len(few) / best_time(lambda: simulate_with_numpy(a, b, few, options.length, options.block, rng)),
            rmse(simulate_with_numpy(a, b, few, options.length, options.block, rng), few),
        ),
    }
    if options.catsim:
        bank = "\n".join(f"{slope} {location} 0 1" for slope, location in zip(a, b, strict=True))
        command = [options.catsim, "-c", CATSIM, str(options.of_catsim), str(options.length)]
        found = subprocess.run(command, input=bank, capture_output=True, text=True, check=True).stdout.split()
        speeds["catsim"] = options.of_catsim / float(found[-2]), float(found[-1])
    first = next(iter(speeds.values()))[0]
    print(f"{options.items} items, {options.length} answers; load {os.getloadavg()[0]:.1f}\n")
    print("| program | simulees/s | ratio | RMSE |\n|:--|--:|--:|--:|")
    for name, (speed, error) in speeds.items():
        print(f"| {name} | {speed:,.1f} | {first / speed:,.1f} | {error:.3f} |")


if __name__ == "__main__":
    main()
