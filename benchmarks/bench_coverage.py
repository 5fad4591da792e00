"""Recovery of known parameters, and coverage of 95 % intervals.

    python -m benchmarks.bench_coverage --replications 500 --model 2pl --persons 500 1000 2000 5000

Each replication draws a new bank (a ~ LogNormal(0, 0.3), b ~ N(0, 1); under a 3PL c from its prior, normal on logit c
around 0.2 with SD 0.5) and new learners, θ ~ N(0, 1): three forms of `--length` items out of twice as many, a third of
the learners on each, neighbouring forms overlapping by half, so that an item has a third or two thirds of the
learners. Intervals are estimate ± 1.96 SE for a, the intercept d and b, pooled over replications and over items by
|b|. The error of a coverage is based on replications, not items, as items of a bank share its learners. Prints a
Markdown table. Fits that do not converge and items without standard errors are counted and excluded.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.options import Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em

STRATA = (0.0, 0.5, 1.0, 1.5, 2.0, np.inf)
Z95 = 1.959964


def draw(
    rng: np.random.Generator, persons: int, length: int, model: Model
) -> tuple[Responses, npt.NDArray[np.float64]]:
    """Draw answers. Also returns a, d and b of every item, shape (3, items)."""
    items = 2 * length
    a = np.exp(rng.normal(0, 0.3, items)) if model in ("2pl", "3pl") else np.ones(items)
    b = rng.normal(0, 1, items)
    c = 1 / (1 + np.exp(-rng.normal(np.log(0.25), 0.5, items))) if model == "3pl" else np.zeros(items)
    theta = rng.normal(size=(persons, 1))
    x = (rng.random((persons, items)) < c + (1 - c) / (1 + np.exp(-a * (theta - b)))).astype(float)
    first = (np.arange(persons) % 3)[:, None] * (length // 2)
    index = np.arange(items)
    x[(index < first) | (index >= first + length)] = np.nan
    return Responses.from_wide(x), np.array([a, -a * b, b])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--persons", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--length", type=int, default=30)
    parser.add_argument("--model", choices=["rasch", "1pl", "2pl", "3pl"], default="2pl")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    print(f"{options.model}, forms of {options.length} of {2 * options.length} items, seed {options.seed}\n")
    print("| learners | \\|b\\| | intervals | a: bias, RMSE | coverage | d: coverage | b: bias, RMSE | coverage |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    for persons in options.persons:
        _study(persons, options)


def _study(persons: int, options: argparse.Namespace) -> None:
    n_strata = len(STRATA) - 1
    covered = np.full((options.replications, n_strata, 3), np.nan)
    errors: list[list[npt.NDArray[np.float64]]] = [[] for _ in range(n_strata)]
    unconverged = without = 0
    began = time.perf_counter()
    for number in range(options.replications):
        rng = np.random.default_rng([options.seed, persons, number])
        responses, truth = draw(rng, persons, options.length, options.model)
        fit = fit_em(responses, model=options.model)
        if not fit.convergence.converged:
            unconverged += 1
            continue
        sound = np.isfinite([fit.a_se, fit.d_se, fit.b_se]).all(axis=0)
        without += int((~sound).sum())
        difference = np.array([fit.a, fit.d, fit.b]) - truth
        inside = np.abs(difference) <= Z95 * np.array([fit.a_se, fit.d_se, fit.b_se])
        stratum = np.digitize(np.abs(truth[2]), STRATA) - 1
        for k in range(n_strata):
            here = sound & (stratum == k)
            if here.any():
                covered[number, k] = inside[:, here].mean(axis=1)
                errors[k].append(difference[:, here])
    for k in range(n_strata):
        size = np.array([part.shape[1] for part in errors[k]])
        all_errors = np.concatenate(errors[k], axis=1)
        rates = covered[~np.isnan(covered[:, k, 0]), k]
        coverage = np.average(rates, axis=0, weights=size)
        deviation = (rates - coverage) * size[:, None]
        error = np.sqrt((deviation**2).sum(axis=0)) / size.sum()
        bias, rmse = all_errors.mean(axis=1), np.sqrt((all_errors**2).mean(axis=1))
        intervals = [f"{100 * coverage[i]:.1f} ± {100 * error[i]:.1f}" for i in range(3)]
        if options.model == "rasch":
            intervals[0] = "fixed"
        band = f"{STRATA[k]:g}–{STRATA[k + 1]:g}" if np.isfinite(STRATA[k + 1]) else f"above {STRATA[k]:g}"
        of_a, _, of_b = (f"{x:+.3f}, {y:.3f}" for x, y in zip(bias, rmse, strict=True))
        cells = (f"{persons:,}", band, f"{size.sum():,}", of_a, intervals[0], intervals[1], of_b, intervals[2])
        print("| " + " | ".join(cells) + " |", flush=True)
    seconds = time.perf_counter() - began
    ended = f"{unconverged} fits not converged, {without} items without errors, {seconds:.0f} s"
    print(f"| | | {ended} | | | | | |", flush=True)


if __name__ == "__main__":
    main()
