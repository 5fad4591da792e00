"""False alarms and power of the test by proportion correct.

    python -m benchmarks.bench_proportion_correct

30 items, a ~ LogNormal(0, 0.3), b ~ N(0, 1), of which 4 are tested; these are answered by a part of the learners
θ ~ N(0.5, 1.2²). Published values have the errors of a calibration with the given number of learners.
"""

from __future__ import annotations

import argparse

import numpy as np

from irt_psychometrics.core.assumed_errors import assumed_errors
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Floats
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.drift.proportion_correct import ProportionsCorrect, proportions_correct

ITEMS, TESTED, MEAN, SD = 30, 4, 0.5, 1.2
IDS = [f"i{j:02d}" for j in range(ITEMS)]
CELLS = (
    (0.0, 50, 1000, 1000),
    (0.0, 150, 1000, 1000),
    (0.0, 1000, 1000, 1000),
    (0.0, 5000, 5000, 500),
    (-0.5, 150, 1000, 1000),
    (-0.8, 150, 1000, 1000),
    (-1.2, 50, 1000, 1000),
    (-0.5, 1000, 1000, 1000),
)
"""Change of b, answers to a tested item, learners, learners of the calibration that gave the published values."""


def errors(a: Floats, b: Floats, learners: int) -> Floats:
    a_se, b_se, cov = assumed_errors(a, b, np.zeros(ITEMS))
    return np.stack([[a_se**2, cov], [cov, b_se**2]]).transpose(2, 0, 1) * 500 / learners


def month(rng: np.random.Generator, change: float, answers: int, learners: int, behind: int) -> ProportionsCorrect:
    a, b = rng.lognormal(0, 0.3, ITEMS), rng.normal(0, 1, ITEMS)
    off = np.einsum("jkl,jl->jk", np.linalg.cholesky(errors(a, b, behind)), rng.standard_normal((ITEMS, 2)))
    published_a, published_b = np.maximum(a + off[:, 0], 0.2), b + off[:, 1]
    now = b + change * (np.arange(ITEMS) < TESTED)
    p = 1 / (1 + np.exp(-a * (rng.normal(MEAN, SD, (learners, 1)) - now)))
    scores = (rng.random(p.shape) < p).astype(float)
    for j in range(TESTED):
        scores[rng.permutation(learners)[answers:], j] = np.nan
    cov = errors(published_a, published_b, behind)
    responses = Responses.from_wide(scores, IDS)
    return proportions_correct(
        responses, IDS[:TESTED], ItemParameters(IDS, published_a, published_b, np.zeros(ITEMS), cov), mean=MEAN, sd=SD
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=250)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    print("| changed by | answers | learners | published from | items | p < 0.05 | p < 0.01 | SD of z | flagged |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for cell, (change, answers, learners, behind) in enumerate(CELLS):
        results = [
            month(np.random.default_rng([options.seed, cell, k]), change, answers, learners, behind)
            for k in range(options.months)
        ]
        p = np.concatenate([f.p for f in results])
        z = np.concatenate([f.difference / f.se for f in results])
        flagged = np.concatenate([np.array(f.severity) != "none" for f in results])
        print(
            f"| {change:g} | {answers} | {learners} | {behind} | {p.size} | {np.mean(p < 0.05):.1%} |"
            f" {np.mean(p < 0.01):.1%} | {z.std():.2f} | {flagged.mean():.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
