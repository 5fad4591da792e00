"""Fits of scored items by the em engine: parameter recovery, and CPU time and memory compared with our 2PL and mirt.

    python -m benchmarks.bench_partial_credit recovery --learners 1000 --repeats 100
    python -m benchmarks.bench_partial_credit recovery --learners 300 --repeats 200 --rare
    python -m benchmarks.bench_partial_credit speed
    python -m benchmarks.bench_partial_credit speed --learners 2000 --items 25 --mirt --errors

Recovery: 20 items with 4 scores; bias of ln a and of each step, and coverage of their 95 % intervals, with Monte Carlo
errors. `--rare`: one answer in a hundred to the first item has the highest score. Speed: each fit runs in its own
process, with all standard errors; `--mirt` includes R's mirt if Rscript finds it, `--errors` includes its standard
errors by Oakes. Ratios are of CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from irt_psychometrics.core.model_families import GPCM
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em

SCORES = 4
_PEER = Path(__file__).with_name("bench_em_peer.R")


def truth(n_items: int, rare: bool = False) -> np.ndarray:
    """Parameters, shape (2 + SCORES, J), with slopes of about .8 per point and ordered steps for most items."""
    rng = np.random.default_rng(11)
    a, b = np.exp(rng.normal(-0.2, 0.25, n_items)), rng.normal(0, 0.8, n_items)
    steps = np.sort(b[:, None] + rng.normal(0, 0.7, (n_items, SCORES - 1)), axis=1)
    if rare:
        steps[0, -1] = 5.3
    odds = -a[:, None] * steps
    d = odds.mean(axis=1)
    t = np.zeros((n_items, SCORES))
    t[:, 1:-1] = (np.cumsum(odds, axis=1) - d[:, None] * np.arange(1, SCORES))[:, :-1]
    return np.vstack([a, d, t.T])


def simulate(parameters: np.ndarray, n_persons: int, seed: int) -> np.ndarray:
    """Simulate scores (N, J) with θ ~ N(0, 1)."""
    rng = np.random.default_rng(seed)
    theta, J = rng.standard_normal(n_persons), parameters.shape[1]
    scores = np.empty((n_persons, J), dtype=np.int8)
    for j in range(J):
        p = GPCM.probabilities(theta, parameters[:, [j]], np.array([SCORES]))[0]
        scores[:, j] = (rng.random((n_persons, 1)) > np.cumsum(p, axis=1)).sum(axis=1)
    return scores


def steps_of(parameters: np.ndarray) -> np.ndarray:
    """Steps b_k, shape (J, SCORES − 1): θ at which scores k − 1 and k are equally likely."""
    return (-(parameters[1] + np.diff(parameters[2:], axis=0)) / parameters[0]).T


def step_errors(fit: Calibration) -> np.ndarray:
    by = np.zeros((fit.n_items, SCORES - 1, 2 + SCORES))
    k = np.arange(SCORES - 1)
    by[:, :, 0], by[:, :, 1] = -steps_of(fit.parameters) / fit.a[:, None], -1 / fit.a[:, None]
    by[:, k, 3 + k], by[:, k, 2 + k] = -1 / fit.a[:, None], 1 / fit.a[:, None]
    return np.sqrt(np.einsum("jkp,jpq,jkq->jk", by, fit.cov, by))


def recovery(learners: int, repeats: int, rare: bool) -> None:
    true_items = truth(20, rare)
    true_steps, slopes, steps, covered, within, unconverged = steps_of(true_items), [], [], [], [], 0
    for seed in range(repeats):
        scores = simulate(true_items, learners, 1000 + seed)
        responses = Responses.from_wide(scores, categories=np.full(20, SCORES))
        fit = fit_em(responses, model="gpcm", threads=1)
        unconverged += not fit.convergence.converged
        slopes.append(np.log(fit.a / true_items[0]))
        covered.append(np.abs(fit.a - true_items[0]) < 1.96 * fit.a_se)
        off = steps_of(fit.parameters) - true_steps
        has = np.isfinite(off)
        steps.append(np.where(has, off, np.nan))
        within.append(np.where(has, np.abs(off) < 1.96 * step_errors(fit), np.nan))
    name = f"{learners} learners, 20 items of {SCORES} scores, {repeats} samples"
    print(f"{name}: {unconverged} did not converge")
    print(f"  bias of ln a {np.mean(slopes):+.4f} ± {np.mean(slopes, axis=1).std() / repeats**0.5:.4f}")
    print(f"  coverage of a {np.mean(covered):.3f}")
    for k in range(SCORES - 1):
        bias = np.nanmean(np.array(steps)[:, :, k], axis=1)
        error, coverage = bias.std() / repeats**0.5, np.nanmean(np.array(within)[:, :, k])
        print(f"  step {k + 1}: bias {bias.mean():+.4f} ± {error:.4f}, coverage {coverage:.3f}")
    if rare:
        of_rare, hold = np.array(steps)[:, 0, -1], np.array(within)[:, 0, -1]
        share = (simulate(true_items[:, :1], 10**6, 0) == SCORES - 1).mean()
        print(
            f"  the highest score of the first item, given by {share:.2%}: step {true_steps[0, -1]:.2f}, bias "
            f"{np.nanmean(of_rare):+.3f}, root mean square error {np.nanmean(of_rare**2) ** 0.5:.3f}, coverage "
            f"{np.nanmean(hold):.3f}; in {np.isnan(of_rare).sum()} samples nobody gave it"
        )


def one_fit(model: str, learners: int, items: int, seen: int) -> None:
    """Print CPU seconds of five fits, the first of which is a warm-up, and peak memory as a line of JSON."""
    scores = simulate(truth(items), learners, 1).astype(float)
    scores[np.random.default_rng(2).random(scores.shape).argsort(axis=1) >= seen] = np.nan
    if model == "2pl":
        scores = np.where(np.isnan(scores), np.nan, scores > 1)
    responses = Responses.from_wide(scores, categories=None if model == "2pl" else np.full(items, SCORES))
    del scores
    before, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(5):
        began = time.process_time()
        fit = fit_em(responses, model="2pl" if model == "2pl" else "gpcm", threads=1)
        cpu.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fit.joint_cov is not None
    print(json.dumps({"cpu": cpu[1:], "peak_mb": peak / 1024, "more_mb": (peak - before) / 1024}))


def speed(learners: int, items: int, seen: int, mirt: bool, errors: bool) -> None:
    size = (str(learners), str(items), str(seen))
    results = {}
    for model in ("2pl", "gpcm"):
        peer = subprocess.run(
            [sys.executable, __file__, "one", model, *size], capture_output=True, text=True, check=True
        )
        results[model] = json.loads(peer.stdout)
        cpu = statistics.median(results[model]["cpu"])
        print(f"{model:>5}: {cpu:.3f} s of CPU with all errors, {results[model]['peak_mb']:.0f} MB")
    own_cpu = statistics.median(results["gpcm"]["cpu"])
    ratio = own_cpu / statistics.median(results["2pl"]["cpu"])
    print(f"{learners} × {items} of which {seen} seen: {ratio:.2f} times the CPU of the 2PL")
    if not mirt:
        return
    with tempfile.NamedTemporaryFile() as stored:
        scores = simulate(truth(items), learners, 1)
        scores[np.random.default_rng(2).random(scores.shape).argsort(axis=1) >= seen] = -1
        stored.write(scores.tobytes())
        stored.flush()
        for with_errors in (False, True)[: 1 + errors]:
            arguments = [stored.name, size[0], size[1], "gpcm", "1" if with_errors else "0", "1"]
            peer = subprocess.run(["Rscript", str(_PEER), *arguments], capture_output=True, text=True, check=True)
            peer_result = json.loads(peer.stdout.splitlines()[-1])
            cpu = peer_result["cpu"][0]
            label = "with errors by Oakes" if with_errors else "without errors"
            print(f"mirt {peer_result['version']} {label}: {cpu:.1f} s, {cpu / own_cpu:.0f} times ours with all errors")


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        one_fit(sys.argv[2], *map(int, sys.argv[3:6]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("recovery", "speed"))
    parser.add_argument("--learners", type=int)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--seen", type=int, help="items that each learner sees; all unless given")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--rare", action="store_true")
    parser.add_argument("--mirt", action="store_true")
    parser.add_argument("--errors", action="store_true")
    options = parser.parse_args()
    if options.what == "recovery":
        recovery(options.learners or 1000, options.repeats, options.rare)
    else:
        speed(options.learners or 10_000, options.items, options.seen or options.items, options.mirt, options.errors)


if __name__ == "__main__":
    main()
