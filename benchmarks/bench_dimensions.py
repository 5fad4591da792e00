"""Fits of items on several dimensions: time and log L of this library and of R mirt, one thread each.

    R_LIBS=… OPENBLAS_NUM_THREADS=1 python -m benchmarks.bench_dimensions

Simulated 2PL items: a bifactor model with 5 specific dimensions, and two explored dimensions. mirt runs with its own
defaults (`bfactor` and `mirt(x, 2)`: 31 nodes a dimension, TOL = 1e-4), this library with its own (gradients below 1e-5
standard errors). Times are CPU seconds of the fit alone, after loading and compilation.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import irt_psychometrics as irt
from irt_psychometrics.dimensions.fitting import fit_dimensions
from irt_psychometrics.dimensions.structure import Dimensions

SPECIFIC = 5
PEER = """
suppressMessages(library(mirt))
x <- as.matrix(read.csv("{path}"))
t <- system.time(m <- {call})
cat(t[["user.self"]] + t[["sys.self"]], format(extract.mirt(m, "logLik"), digits = 12))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=5000)
    parser.add_argument("--items", type=int, default=50)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    J = options.items
    topic = np.arange(J) * SPECIFIC // J
    bifactor = np.zeros((J, 1 + SPECIFIC))
    bifactor[:, 0], bifactor[np.arange(J), 1 + topic] = rng.uniform(0.8, 2, J), rng.uniform(0.4, 1.2, J)
    worlds = {
        "bifactor": (bifactor, f"bfactor(x, c({', '.join(map(str, topic + 1))}), verbose = FALSE)"),
        "two dimensions": (rng.uniform(0.3, 1.8, (J, 2)), "mirt(x, 2, verbose = FALSE)"),
    }
    head = f"{'model':15} {'nodes':>8} {'iterations':>10} {'s':>7} {'log L':>12}"
    print(f"{head}   {'mirt s':>7} {'log L':>12} {'times':>6}", flush=True)
    for name, (slopes, call) in worlds.items():
        theta = rng.normal(size=(options.persons, slopes.shape[1]))
        p = 1 / (1 + np.exp(-(theta @ slopes.T + rng.normal(size=J))))
        scores = (rng.random(p.shape) < p).astype(int)
        x = irt.Responses.from_wide(scores)
        dimensions = Dimensions.bifactor({item: f"topic {k}" for item, k in zip(x.item_ids, topic, strict=True)})
        if name != "bifactor":
            dimensions = Dimensions.explore(x.item_ids, 2)
        models = ("2pl",) * J
        fit_dimensions(x.of_persons(np.arange(500)), dimensions, models, threads=1)  # compiles
        begin = time.process_time()
        fit = fit_dimensions(x, dimensions, models, threads=1)
        own = time.process_time() - begin
        peer, loglik = _fit_by_mirt(scores, x.item_ids, call)
        state = fit.convergence
        print(
            f"{name:15} {fit.nodes!s:>8} {state.iterations:10} {own:7.2f} {state.loglik:12.3f}   {peer:7.1f}"
            f" {loglik:12.3f} {peer / own:6.1f}",
            flush=True,
        )


def _fit_by_mirt(scores: np.ndarray, item_ids: tuple[str, ...], call: str) -> tuple[float, float]:
    """CPU seconds and log L of mirt."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.csv"
        np.savetxt(path, scores, fmt="%d", delimiter=",", header=",".join(item_ids), comments="")
        script = PEER.format(path=path, call=call)
        done = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True)
    seconds, loglik = done.stdout.split()[-2:]
    return float(seconds), float(loglik)


if __name__ == "__main__":
    main()
