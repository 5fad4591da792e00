"""Shares of months held for misfit that their origin did not have: months without misfit, with constant misfit, and
with new misfit.

    python -m benchmarks.bench_misfit --months 200 --seed 1

An origin window of 40 items and a month (20 of its items and 20 new items, θ with mean .5 and SD 1.2 in the origin's
unit) are fitted with the defaults of a new scale, and compared. Columns: mean growth of each measure and the share of
months that it holds (`chance` only if guessing was found), and the share held by any measure with its Monte Carlo
error; shares of months in which guessing is found and in which anchors disagree by Q at 1 % (including months that
cannot be linked); mean slope and intercept of the linking, which are 1.2 and .5 in sound months. The limits were chosen
with the rows `choosing`, with complete answers. The rows `reporting` have other numbers of learners, and forms with
half of the items.
"""

from __future__ import annotations

import argparse

import numpy as np

from irt_assets.gates.model_gates import LIMITS
from psychometrics_testbed.misfit import (
    CHOOSING,
    DESIGNS,
    GRADED,
    RANDOM,
    SCORED,
    SOUND,
    SPEEDED,
    Month,
    Row,
    row_of,
    simulate,
)

REPORTING = (
    *(row_of(f"{name}: as before, 5000 / 1000", world, learners=(5000, 1000)) for name, world in DESIGNS.items()),
    *(row_of(f"{name}: as before, forms", world, learners=(4000, 4000), forms=True) for name, world in DESIGNS.items()),
    *(
        row_of(f"{name}: 10 % at random, forms", world, learners=(4000, 4000), forms=True, **RANDOM)
        for name, world in DESIGNS.items()
    ),
    *(
        row_of(f"{name}: 20 % not reached, forms", world, learners=(4000, 4000), forms=True, **SPEEDED)
        for name, world in DESIGNS.items()
    ),
    row_of("scored 0 … 3: as before", SCORED),
    row_of("scored 0 … 3 by a graded response model: as before", GRADED),
    row_of("scored 0 … 3: 8 of 40 on a second ability (ρ .7)", SCORED, second=(0.2, 0.7)),
    row_of("sound: as before, 500 / 500", SOUND, learners=(500, 500)),
    row_of("sound: as before, 10,000 / 10,000", SOUND, learners=(10_000, 10_000)),
)


def report(row: Row, months: list[Month]) -> str:
    n = len(months)
    by_measure, cells = [], []
    for name, limit in LIMITS.items():
        growth = [month.change.growth.get(name) for month in months]
        is_held = np.array([measure is not None and measure.low > limit for measure in growth])
        by_measure.append(is_held)
        values = [measure.value for measure in growth if measure is not None]
        cells.append(f"{np.mean(values) if values else np.nan:+.3f} | {is_held.mean():.1%}")
    is_held = float(np.any(by_measure, axis=0).mean())
    slope, intercept = (np.nanmean([getattr(month, name) for month in months]) for name in ("slope", "intercept"))
    disagree, guessing = np.mean([month.q_p < 0.01 for month in months]), np.mean([month.guessing for month in months])
    return (
        f"| {row.name} | {n} | {' | '.join(cells)} | {is_held:.1%} ± {np.sqrt(is_held * (1 - is_held) / n):.1%} "
        f"| {guessing:.1%} | {disagree:.1%} | {slope:.2f} | {intercept:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", choices=("choosing", "reporting"), default="reporting")
    arguments = parser.parse_args()
    measures = " | ".join(f"{name} | held" for name in LIMITS)
    print(f"| month | months | {measures} | held by any | guessing | Q < 1 % | slope | intercept |")
    print("|---|" + "--:|" * (2 * len(LIMITS) + 6))
    for index, row in enumerate(CHOOSING if arguments.rows == "choosing" else REPORTING):
        print(report(row, [simulate(row, [arguments.seed, index, k]) for k in range(arguments.months)]), flush=True)


if __name__ == "__main__":
    main()
