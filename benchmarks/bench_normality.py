"""Rejection rates of the score test for normal abilities, by design and by shape of the abilities.

    python -m benchmarks.bench_normality --months 1000 --seed 1

Normal rows show the test's level, other rows its power. Rows with c = .2 contain guessing, which a 2PL mistakes for
skewness. Designs are complete, or planned-missing with half of the items per learner. Prints the share beyond the 1 %
and the 5 % point with its Monte Carlo error, the mean of the statistic (2 if it is χ² with 2 degrees of freedom), and
the times of test and fit, both on one thread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.special import expit

from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.normality_test import normality
from psychometrics_testbed.abilities import abilities

SIZES = ((500, 20), (2000, 20), (2000, 40), (10_000, 40))
SHAPES = ("normal", "χ²₂₀", "χ²₄", "−χ²₄", "normal, c = .2")


def month(shape: str, persons: int, items: int, seen: float, seed: list[int]) -> Responses:
    rng = np.random.default_rng(seed)
    a, b = np.exp(rng.normal(0.1, 0.3, items)), rng.normal(0, 1, items)
    c = 0.2 if "c =" in shape else 0.0
    p = c + (1 - c) * expit(a * (abilities(shape, persons, rng)[:, None] - b))
    x = (rng.random(p.shape) < p).astype(float)
    x[rng.random(p.shape) >= seen] = np.nan
    return Responses.from_wide(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=1000, help="a row; a fifth of it where θ is not normal")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print("| θ | learners × items | seen | months | beyond 1 % | beyond 5 % | mean | test : fit |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for shape in SHAPES:
        for persons, items in SIZES:
            for seen in (1.0, 0.5):
                months = arguments.months if shape == "normal" else arguments.months // 5
                results, fits, tests = [], 0.0, 0.0
                for k in range(months):
                    responses = month(shape, persons, items, seen, [arguments.seed, k])
                    began = time.process_time()
                    fit = fit_em(responses, threads=1)
                    between = time.process_time()
                    results.append(normality(responses, fit, threads=1))
                    fits, tests = fits + between - began, tests + time.process_time() - between
                shares = []
                for level in (0.01, 0.05):
                    share = float(np.mean([each.p < level for each in results]))
                    shares.append(f"{share:.1%} ± {np.sqrt(share * (1 - share) / months):.1%}")
                mean = np.mean([each.statistic for each in results])
                print(
                    f"| {shape} | {persons:,} × {items} | {seen:.0%} | {months:,} | {' | '.join(shares)} | {mean:.2f} |"
                    f" {tests / fits:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
