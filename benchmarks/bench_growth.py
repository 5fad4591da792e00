"""Growth within a month: share of months in which it is found, correctly or falsely, and its remaining effect on b.

    python -m benchmarks.bench_growth --replications 200

Learners answer all 60 items at paces between 1/1.5 and 1.5, in a common order unless stated otherwise. Growth is
measured from the first item to the last at a pace of 1, which takes 30 days (first table) or 20 days (second table).
Prints three Markdown tables: share of months with growth found; trend of b's error from the first item to the last, in
the unit of the true b, and coverage of 95 % intervals of b, for the month's fit, the fit of learners' weeks, and this
fit with growth added back; seconds for the test of a month with 100,000 answers.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np

from irt_psychometrics.core.models import Calibration
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.occasions import LearnerWeeks
from irt_psychometrics.itemfit.growth import Growth
from psychometrics_testbed.growth import World, world

SITUATIONS: dict[str, dict[str, Any]] = {
    "growth .3": {"growth": 0.3},
    "growth .3 ± .2 between learners": {"growth": 0.3, "growth_sd": 0.2},
    "none": {},
    "none; abler learners faster (r = .7), easy items first": {"of_ability": 0.7, "easy_first": True},
    "none; abler learners slower (r = −.7), easy items first": {"of_ability": -0.7, "easy_first": True},
    "growth .3, an own order of each learner": {"growth": 0.3, "order": "own"},
    "none, an own order of each learner": {"order": "own"},
    "growth .3, all at one pace": {"growth": 0.3, "paces": 1.0},
}


def error_of_b(of: World, fit: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Errors of b on the best-fitting line to the true b, shape (J,), and their standard errors."""
    line = np.polyfit(fit.b, of.b, 1, w=1 / fit.b_se)
    return np.polyval(line, fit.b) - of.b, line[0] * fit.b_se


def by_weeks(of: World) -> tuple[Calibration, Calibration]:
    """The fit of learners' weeks, without and with growth added back."""
    weeks = LearnerWeeks.from_responses(of.responses, of.days)
    fit = fit_em(weeks.responses, groups=weeks.groups, learners=weeks.learner)
    unit = fit.standardised(fit.latent_mean, fit.latent_sd)
    growth = Growth.within(of.responses, of.days, replace(unit, populations=()))
    return unit, growth.correct_difficulties(unit, weeks.responses, weeks.days, groups=weeks.groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--learners", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    R, N = options.replications, options.learners
    print(f"{R} replications of {N} learners × 60 items, seeds from {options.seed}\n")
    print("| situation | R² | found | not separable | estimate ± SD | SE |\n|---|--:|--:|--:|--:|--:|")
    for name, situation in SITUATIONS.items():
        results = []
        for k in range(R if situation.get("paces") != 1.0 else 3):
            of = world(options.seed + k, learners=N, items=60, **situation)
            results.append(Growth.within(of.responses, of.days, fit_em(of.responses)).of_window)
        outcomes = [result.outcome for result in results]
        detected = np.mean([outcome in ("grows", "declines") for outcome in outcomes])
        estimates = np.array(
            [(result.estimate, result.se) for result in results if result.estimate is not None]
        ).reshape(-1, 2)
        size = (
            f"{estimates[:, 0].mean():+.3f} ± {estimates[:, 0].std():.3f} | {estimates[:, 1].mean():.3f}"
            if len(estimates)
            else "– | –"
        )
        print(
            f"| {name} | {np.mean([result.r2 for result in results]):.2f} | {detected:.1%} | "
            f"{np.mean([outcome == 'not separable' for outcome in outcomes]):.0%} | {size} |",
            flush=True,
        )
    print("\n| growth | fit | trend of b's error | SD of b's error | 95 % intervals hold |\n|---|---|--:|--:|--:|")
    for name in ("growth .3", "growth .3 ± .2 between learners", "none"):
        errors: dict[str, list[Any]] = {"month": [], "learners' weeks": [], "with growth given back": []}
        for k in range(max(R // 4, 1)):
            of = world(options.seed + k, learners=N, items=60, span=20.0, **SITUATIONS[name])
            for kind, fit in zip(errors, (fit_em(of.responses), *by_weeks(of)), strict=True):
                errors[kind].append(error_of_b(of, fit))
        for kind, detected in errors.items():
            trends = np.array([np.polyfit(np.linspace(0, 1, 60), error, 1)[0] for error, _ in detected])
            covered = np.mean([np.abs(error) < 1.96 * se for error, se in detected])
            spread = np.mean([error.std() for error, _ in detected])
            mean = f"{trends.mean():+.3f} ± {trends.std() / np.sqrt(len(trends)):.3f}"
            print(f"| {name} | {kind} | {mean} (SD {trends.std():.3f}) | {spread:.3f} | {covered:.1%} |", flush=True)
    of = world(options.seed, 0.3, learners=2500, items=40)
    fit = fit_em(of.responses)
    Growth.within(of.responses, of.days, fit, threads=1)
    begin = time.perf_counter()
    Growth.within(of.responses, of.days, fit, threads=1)
    print(f"\n{of.responses.n_responses:,} answers are tested in {time.perf_counter() - begin:.2f} s on one core")


if __name__ == "__main__":
    main()
