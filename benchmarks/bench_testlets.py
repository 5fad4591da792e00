"""Coverage of item parameters and θ if answers within testlets depend on each other, with and without testlet ids.

    python -m benchmarks.bench_testlets --months 200 --seed 1

A month of N learners answers 40 items, logit P = a(θ + γ − b), θ ~ N(0, 1), γ ~ N(0, σ²) for each learner and testlet.
It is fitted (2PL), σ is estimated, and every learner gets the EAP under the month's own parameters. "Before" columns
are results without testlet ids in the bank, "after" columns results with them. Rows give σ̂, its SD over months, and
the ratio of its mean error to that SD; the share of learners whose θ is within 1.96 SE of the EAP; and the share of a
and b within 1.96 SE of the pseudo-true values, which are from a fit to 400,000 learners. ± is the Monte Carlo error
over months.
"""

from __future__ import annotations

import argparse

import numpy as np

from psychometrics_testbed.testlets import Month, Row, pseudo_true, simulate

ROWS = (
    *(Row(sd, design=design) for design in ("complete", "testlets") for sd in (0.0, 0.4, 0.7, 1.0)),
    *(Row(sd, inside=20, design=design) for design in ("complete", "testlets") for sd in (0.0, 0.4, 0.7, 1.0)),
    Row(0.7, design="items"),
    Row(0.7, size=10),
    Row(0.7, learners=500),
)


def report(row: Row, months: list[Month]) -> str:
    n = len(months)
    sd = np.array([month.sd for month in months])

    def shares(name: str) -> str:
        both = np.array([getattr(month, name) for month in months])
        error = both.std(axis=0, ddof=1) / np.sqrt(n)
        return f"{both[:, 0].mean():.1%} | {both[:, 1].mean():.1%} ± {error[1]:.1%}"

    spread = sd.std(ddof=1)
    of_sd = f"{sd.mean():.3f} ± {spread / np.sqrt(n):.3f} | {spread:.3f}"
    ratio = np.mean([month.se for month in months]) / spread
    return f"| {row.label} | {of_sd} | {ratio:.2f} | {shares('theta')} | {shares('a')} | {shares('b')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", help="numbers of rows, with commas; all by default")
    arguments = parser.parse_args()
    rows = [ROWS[int(k)] for k in arguments.rows.split(",")] if arguments.rows else ROWS
    print(
        "| σ | items in testlets | design | learners | σ̂ | SD | SE : SD | θ covered before | after | a before | after "
        "| b before | after |"
    )
    print("|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        truth = pseudo_true(row, arguments.seed)
        print(report(row, [simulate(row, truth, arguments.seed, k) for k in range(arguments.months)]), flush=True)


if __name__ == "__main__":
    main()
