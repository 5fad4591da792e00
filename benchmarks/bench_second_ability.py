"""Agreement of anchors and drift of items in months with the same second ability as their origin.

    python -m benchmarks.bench_second_ability --months 300 --seed 2

Windows are drawn as in `bench_misfit`: an origin of 40 items, of which 20 become anchors, and months of these and 20
new ones, θ with mean .5 and SD 1.2 of the origin's. A first month publishes its new items; a second month is compared
with these items and the anchors, once unchanged and once with five anchors harder by .5. Columns: share of unchanged
months that the gate on the anchors holds, share with an item flagged for drift, and share of their items that are
flagged; share of months with moved anchors that are held, and share of these anchors that are flagged. ± is the Monte
Carlo error.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np

from psychometrics_testbed.misfit import DESIGNS
from tests.testbed.second_ability import MonthResults, Row, simulate

ROWS = (
    *(Row(name, world, 2000) for name, world in DESIGNS.items() if not world.guessing),
    *(Row(f"{name}, forms", world, 4000, forms=True) for name, world in DESIGNS.items() if not world.guessing),
    *(Row(f"{name}, 10,000", world, 10_000) for name, world in DESIGNS.items() if world.second[0] == 0.2),
)


def report(row: Row, months: list[MonthResults]) -> str:
    def share(values: Iterable[float], digits: int = 1) -> str:
        each = np.array([*values], dtype=float)
        return f"{100 * each.mean():.{digits}f} % ± {100 * each.std(ddof=1) / np.sqrt(each.size):.{digits}f}"

    cells = (
        share(np.mean(month.held[:2]) for month in months),
        share(np.mean([flagged.any() for flagged in month.flagged]) for month in months),
        share((np.concatenate(month.flagged).mean() for month in months), 2),
        share(month.held[2] for month in months),
        share(month.found for month in months),
    )
    return f"| {row.name} | {len(months)} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=300)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)))
    arguments = parser.parse_args()
    of_sound = "sound months held | flagged | items flagged"
    print(f"| both windows | origins | {of_sound} | months with five moved: held | moved items found |")
    print("|---|" + "--:|" * 6)
    for index in arguments.rows:
        row = ROWS[index]
        print(report(row, [simulate(row, [arguments.seed, index, k]) for k in range(arguments.months)]), flush=True)


if __name__ == "__main__":
    main()
