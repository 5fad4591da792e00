"""Fits of nominal items: CPU seconds of one thread and log L, compared with R's mirt on the same answers.

    python -m benchmarks.bench_nominal --learners 2000 --items 30 --mirt

θ is N(0, 1) and items are scored 0 … 3, with a of .75 on average and s of inner scores ± .4 around the score. `--mirt`
includes R's mirt with its defaults if Rscript finds it, without errors and with errors by Oakes' method. Our figures
are medians of three fits after a warm-up; mirt has one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import irt_psychometrics as irt
from irt_psychometrics.core.nominal_model import NOMINAL

SCORES = 4
_PEER = Path(__file__).with_name("bench_em_peer.R")


def simulate(learners: int, items: int, seed: int) -> np.ndarray:
    """Simulate scores (N, J)."""
    rng = np.random.default_rng(seed)
    parameters, a = np.zeros((2 + 2 * SCORES, items)), np.exp(rng.normal(-0.3, 0.25, items))
    parameters[:2] = a, -a * rng.normal(0, 0.7, items)
    inner = slice(4, 2 * SCORES, 2)
    parameters[inner] = np.arange(1, SCORES - 1)[:, None] + rng.normal(0, 0.4, (SCORES - 2, items))
    parameters[5 : 1 + 2 * SCORES : 2] = rng.normal(0.4, 0.4, (SCORES - 2, items))
    parameters[2 * SCORES] = SCORES - 1
    p = NOMINAL.probabilities(rng.standard_normal(learners), parameters, np.full(items, SCORES))
    return (rng.random((items, learners, 1)) > np.cumsum(p, axis=2)).sum(axis=2).T.astype(np.int8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=2000)
    parser.add_argument("--items", type=int, default=30)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--mirt", action="store_true")
    options = parser.parse_args()
    scores = simulate(options.learners, options.items, options.seed)
    x = irt.Responses.from_wide(scores.astype(float), max_score=SCORES - 1)
    own = {}
    for with_errors in (False, True):
        spent = []
        for _ in range(4):
            start = time.process_time()
            fit = irt.fit(x, "nominal", threads=1, likelihood_only=not with_errors)
            spent.append(time.process_time() - start)
        own[with_errors] = statistics.median(spent[1:])
        label = "with errors" if with_errors else "without errors"
        print(f"{options.learners} × {options.items} × {SCORES} {label}: {own[with_errors]:.2f} s", flush=True)
    print(f"log L {fit.log_likelihood:.3f}")
    if not options.mirt:
        return
    with tempfile.NamedTemporaryFile() as stored:
        stored.write(scores.tobytes())
        stored.flush()
        for with_errors in (False, True):
            size = stored.name, str(options.learners), str(options.items)
            command = ["Rscript", str(_PEER), *size, "nominal", str(int(with_errors)), "1"]
            found = json.loads(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            )
            cpu, label = found["cpu"][0], "with errors by Oakes" if with_errors else "without errors"
            ratio = cpu / own[with_errors]
            print(f"mirt {found['version']} {label}: {cpu:.1f} s, {ratio:.0f} times ours, log L {found['loglik']:.3f}")


if __name__ == "__main__":
    main()
