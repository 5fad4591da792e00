"""Simulated adaptive tests a second: the library, the same test in vectorised NumPy, and other programs.

    python -m benchmarks.bench_adaptive --learners 20000 --items 500 --length 20
    python -m benchmarks.bench_adaptive --peers ENVIRONMENTS

2PL, a ~ LogNormal(0, 0.3), b ~ N(0, 1), θ ~ N(0, 1); maximum information, EAP (catsim: ML by a numerical search).
Wall-clock seconds of the library, best of three turns, after one that compiles and fills caches; CPU seconds of the
simulation alone in the process of each other program. NumPy simulates `--block` persons at once, one thread. The other
programs test `--of-peers` persons, with the same answers to all items, except catsim, which draws its own. ENVIRONMENTS
is the folder of `benchmarks.peers`, with `adaptivetesting` and, in `R/lib`, mirtCAT and catR. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from irt_psychometrics.adaptive import AdaptiveTest, simulate_tests
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.items import ItemParameters

TURNS = 3
NODES = np.linspace(-6, 6, 121)
HERE = Path(__file__).parent / "peers/adaptive"
PEERS = {
    "catsim": ("catsim/bin/python", "catsim_tests.py"),
    "adaptivetesting": ("adaptivetesting/bin/python", "adaptivetesting_tests.py"),
    "mirtCAT": ("R/lib/mirtCAT", "mirtcat_tests.R"),
    "catR": ("R/lib/catR", "catr_tests.R"),
}
"""The file of an environment that shows that the program is installed, and its runner."""


def simulate_with_peer(name: str, environments: Path, world: Path, length: int) -> dict[str, Any] | None:
    """Run a program in its own process. Returns None if it is not installed."""
    installed, runner = environments / PEERS[name][0], HERE / PEERS[name][1]
    if not installed.exists():
        return None
    in_r = runner.suffix == ".R"
    command = ["Rscript", str(runner), str(world.parent)] if in_r else [str(installed), str(runner), str(world)]
    libraries = {"R_LIBS_USER": str(environments / "R/lib")} if in_r else {}
    done = subprocess.run(
        [*command, str(length)], env=os.environ | libraries, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def write_world(folder: Path, a: Floats, b: Floats, theta: Floats, rng: np.random.Generator) -> Path:
    """Write the items and the answers of all persons to all items in the formats of the runners."""
    x = (rng.random((len(theta), len(a))) < 1 / (1 + np.exp(-a * (theta[:, None] - b)))).astype(np.int64)
    np.savez(folder / "world.npz", a=a, b=b, theta=theta, x=x)
    np.savetxt(folder / "items.csv", np.column_stack([a, b]), delimiter=",", header="a,b", comments="")
    names = ",".join(f"i{j}" for j in range(len(a)))
    np.savetxt(folder / "answers.csv", x, fmt="%d", delimiter=",", header=names, comments="")
    return folder / "world.npz"


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
    parser.add_argument(
        "--peers", type=Path, metavar="ENVIRONMENTS", help="folder of environments, as of benchmarks.peers"
    )
    parser.add_argument("--of-peers", type=int, default=20, help="persons whom each peer tests")
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
    if options.peers:
        with tempfile.TemporaryDirectory() as folder:
            world = write_world(Path(folder), a, b, theta[: options.of_peers], rng)
            for name in PEERS:
                if found := simulate_with_peer(name, options.peers, world, options.length):
                    speed = options.of_peers / found["seconds"]
                    error = rmse(np.array(found["theta"]), theta[: options.of_peers])
                    speeds[f"{name} {found['version']}, {found['estimator']}"] = speed, error
    first = next(iter(speeds.values()))[0]
    print(f"{options.items} items, {options.length} answers; load {os.getloadavg()[0]:.1f}\n")
    print("| program | simulees/s | ratio | RMSE |\n|:--|--:|--:|--:|")
    for name, (speed, error) in speeds.items():
        print(f"| {name} | {speed:,.1f} | {first / speed:,.1f} | {error:.3f} |")


if __name__ == "__main__":
    main()
