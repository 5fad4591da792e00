"""Months that are as their origin was, with a second ability in both: do the anchors agree, and which items drift?

    python -m benchmarks.bench_second_ability --months 300 --seed 2

Windows are those of `bench_misfit`: an origin of 40 items, of which 20 become anchors, and months of these and 20 new
ones, θ with mean .5 and SD 1.2 of the origin's. A first month publishes its new items, a second one is compared with
these and the anchors, as it is and with five anchors harder by .5. Each is linked twice, without and with the origin's
loadings on what its items share beyond θ, as where somebody accepted the origin's misfit. Columns, each without / with:
how many sound months Q or too few anchors hold, how many have an item flagged for drift, and how many of their items
are; how many months with moved anchors are held, and how many of these anchors are flagged. ± is the Monte-Carlo error.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.bench_misfit import ANCHORS, DESIGNS, INTERCEPT, ITEMS, SLOPE, Bank, World, fitted
from benchmarks.bench_three_parameter import anchors_of
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.drift.errors import Anchors, Published, compare
from irt_assets.psychometrics.drift.items import judge
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.fit.dependence import local_dependence
from irt_assets.psychometrics.fit.second_ability import loadings
from irt_assets.psychometrics.linking.linking import Linking, link

MOVED, BY = 5, 0.5
LEVEL = 0.01
LOOSE = Rules(min_anchor_responses=1, min_anchors=3, min_anchor_share=0.1)
"""Months that too few anchors hold are counted here, and linked all the same."""


@dataclass(frozen=True)
class Row:
    name: str
    world: World
    learners: int
    forms: bool = False


ROWS = (
    *(Row(name, world, 2000) for name, world in DESIGNS.items() if not world.guessing),
    *(Row(f"{name}, forms", world, 4000, forms=True) for name, world in DESIGNS.items() if not world.guessing),
    *(Row(f"{name}, 10,000", world, 10_000) for name, world in DESIGNS.items() if world.second[0] == 0.2),
)


@dataclass(frozen=True)
class Judged:
    """Of one way to link: whether each of the three months is held, of the two sound ones which items are flagged, and
    of the third which of the moved anchors."""

    held: tuple[bool, ...]
    flagged: tuple[np.ndarray, ...]
    found: float

    @classmethod
    def of(
        cls, origin: Calibration, months: list[Calibration], moved: list[str], leaning: dict[str, float] | None
    ) -> Judged:
        anchors = anchors_of(origin, tuple(origin.item_ids[:ANCHORS]))
        linkings = [link(month, anchors, rules=LOOSE, loadings=leaning) for month in months]
        frozen = Anchors.of_origin(anchors, origin)
        of_anchors = Published.of_anchors(frozen)
        published = Published.of_fit(months[0], linkings[0], frozen).then(of_anchors)
        first, second, third = (
            judge(compare(month, linking, frozen, known))
            for month, linking, known in zip(months, linkings, (of_anchors, published, published), strict=True)
        )
        flagged = tuple(np.isin(drift.item_ids, drift.flagged) for drift in (first, second))
        return cls(tuple(map(_held, linkings)), flagged, float(np.isin(moved, third.flagged).mean()))


def _held(linking: Linking) -> bool:
    return linking.q_p < LEVEL or linking.share_kept < Rules().min_anchor_share


def simulate(row: Row, seed: list[int]) -> tuple[Judged, Judged]:
    """Without and with the origin's loadings."""
    rng = np.random.default_rng(seed)
    bank = Bank.draw(rng)
    moved = rng.choice(ANCHORS, MOVED, replace=False)
    harder = bank.b.copy()
    harder[moved] += BY
    of_month = np.r_[:ANCHORS, ITEMS : 2 * ITEMS - ANCHORS]
    before = row.world.answers(bank, np.arange(ITEMS), row.learners, 1.0, 0.0, row.forms, rng)
    months = [
        row.world.answers(one, of_month, row.learners, SLOPE, INTERCEPT, row.forms, rng)
        for one in (bank, bank, replace(bank, b=harder))
    ]
    origin, *fits = (fitted(window)[0] for window in (before, *months))
    leaning = loadings(local_dependence(before, origin, threads=1), origin)
    named = [bank.ids[j] for j in moved]
    accepted = dict(zip(origin.item_ids, leaning.tolist(), strict=True))
    return Judged.of(origin, fits, named, None), Judged.of(origin, fits, named, accepted)


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
