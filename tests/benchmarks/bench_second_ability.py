"""Months that are as their origin was, with a second ability in both: do the anchors agree, and which items drift?

    python -m tests.benchmarks.bench_second_ability --months 300 --seed 2

Windows are those of `bench_misfit`: an origin of 40 items, of which 20 become anchors, and months of these and 20 new
ones, θ with mean .5 and SD 1.2 of the origin's. A first month publishes its new items, a second one is compared with
these and the anchors, as it is and with five anchors harder by .5. Each is linked twice, without and with the origin's
loadings on what its items share beyond θ, as where somebody accepted the origin's misfit. Columns, each without / with:
how many sound months Q or too few anchors hold, how many have an item flagged for drift, and how many of their items
are; how many months with moved anchors are held, and how many of these anchors are flagged. ± is the Monte-Carlo error.
"""

from __future__ import annotations

import argparse

import numpy as np

from tests.testbed.misfit import DESIGNS
from tests.testbed.second_ability import Judged, Row, simulate

ROWS = (
    *(Row(name, world, 2000) for name, world in DESIGNS.items() if not world.guessing),
    *(Row(f"{name}, forms", world, 4000, forms=True) for name, world in DESIGNS.items() if not world.guessing),
    *(Row(f"{name}, 10,000", world, 10_000) for name, world in DESIGNS.items() if world.second[0] == 0.2),
)


def report(row: Row, months: list[tuple[Judged, Judged]]) -> str:
    def both(values: np.ndarray, digits: int = 1) -> str:
        """(months, 2) shares, without and with."""
        mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
        return " / ".join(f"{100 * m:.{digits}f} % ± {100 * e:.{digits}f}" for m, e in zip(mean, error, strict=True))

    def each(what: object) -> np.ndarray:
        return np.array([[what(one) for one in month] for month in months], dtype=float)  # type: ignore[operator]

    cells = (
        both(each(lambda one: np.mean(one.held[:2]))),
        both(each(lambda one: np.mean([flagged.any() for flagged in one.flagged]))),
        both(each(lambda one: np.concatenate(one.flagged).mean()), 2),
        both(each(lambda one: one.held[2])),
        both(each(lambda one: one.found)),
    )
    return f"| {row.name} | {len(months)} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=300)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)))
    asked = parser.parse_args()
    of_sound = "sound months held | flagged | items flagged"
    print(f"| both windows | origins | {of_sound} | months with five moved: held | moved items found |")
    print("|---|" + "--:|" * 6)
    for place in asked.rows:
        row = ROWS[place]
        print(report(row, [simulate(row, [asked.seed, place, k]) for k in range(asked.months)]), flush=True)


if __name__ == "__main__":
    main()
