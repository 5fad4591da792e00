"""How often a month is held, who is named, and how well the constants are covered, as items vary and move.

    python -m tests.benchmarks.bench_alignment --months 2000 --seed 1

Anchors' estimates are drawn as their errors say, on both sides (`tests.testbed.aligned`), and each month is judged
twice: as it is linked today (purification, then Q at p = .01) and by `psychometrics.alignment`, held where fewer than 5
or 70 % of the anchors are kept, the lower limit of τ is above .15, or the error of slope·b + intercept exceeds .20 at
b = ± 2.5. Columns, each today / aligned: months held; intervals that cover slope and intercept; moved anchors that are
named, and others; bias of the intercept in months that are not held. ± is the Monte-Carlo error of a share of a half;
that of a share p is √(4p(1 − p)) of it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.linking.linking import link
from irt_assets.psychometrics.linking.placement import LinkingError
from tests.testbed.aligned import World, aligned, month
from tests.testbed.linked_months import INTERCEPT, SLOPE, ids

ROWS = (
    *(World(n=n) for n in (2000, 10_000)),
    *(World(n=10_000, variation=tau) for tau in (0.05, 0.10, 0.15)),
    *(World(k=k, n=1000, variation=tau) for k in (12, 8, 5) for tau in (0.0, 0.05, 0.10)),
    World(moved=12, by=(0.5, 0.9)),
    World(n=1000, moved=13, by=0.6),
    World(moved=15, by=0.6),
    *(World(n=n, variation=tau, moved=4, by=0.5) for n in (2000, 10_000) for tau in (0.0, 0.05, 0.10)),
    World(moved=1, by=3.0),
    World(k=10, moved=1, by=1.0),
)
ENDS = np.array([-2.5, 2.5])


@dataclass(frozen=True)
class Judged:
    held: bool
    covers_slope: float
    covers_intercept: float
    named: float
    others: float
    off: float

    @classmethod
    def of(
        cls, world: World, held: bool, slope: tuple[float, float], intercept: tuple[float, float], kept: set[str]
    ) -> Judged:
        """slope, intercept: each with half the width of its interval."""
        dropped = np.array([item not in kept for item in ids(world.k)])
        moved = np.arange(world.k) < world.moved
        share = lambda of: float(dropped[of].mean()) if of.any() else np.nan  # noqa: E731
        return cls(
            held,
            abs(slope[0] - SLOPE) < slope[1],
            abs(intercept[0] - INTERCEPT) < intercept[1],
            share(moved),
            share(~moved),
            np.nan if held else intercept[0] - INTERCEPT,
        )


def today(world: World, new: Calibration, anchors: AnchorSet) -> Judged | None:
    try:
        linking, refused = link(new, anchors), False
    except LinkingError as error:
        if error.linking is None:
            return None
        linking, refused = error.linking, True
    return Judged.of(
        world,
        refused or linking.q_p < 0.01,
        (linking.slope, 1.96 * linking.slope_se),
        (linking.intercept, 1.96 * linking.intercept_se),
        set(linking.anchors_used),
    )


def by_alignment(world: World, new: Calibration, anchors: AnchorSet) -> Judged:
    pairs, found = aligned(new, anchors)
    kept = {item for item, keep in zip(pairs.ids, found.kept, strict=True) if keep}
    at_ends = np.column_stack([ENDS - found.intercept, np.ones(2)])
    error = np.sqrt(np.einsum("ex,xy,ey->e", at_ends, found.cov, at_ends))
    few = len(kept) < 5 or len(kept) < 0.7 * world.k
    log_slope_se, intercept_se = np.sqrt(np.diag(found.cov))
    return Judged.of(
        world,
        bool(few or found.tau_low > 0.15 or error.max() > 0.20),
        (found.slope, found.quantile * found.slope * log_slope_se),
        (found.intercept, found.quantile * intercept_se),
        kept,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(
        f"| anchors, learners, τ, moved | held | slope | intercept | named | others | bias |"
        f" ± {50 / args.months**0.5:.1f} %"
    )
    print("|---|---|---|---|---|---|---|")
    for row, world in enumerate(ROWS):
        both: tuple[list[Judged], list[Judged]] = [], []
        for s in range(args.months):
            sides = month(np.random.default_rng([args.seed, row, s]), world)
            for judged, judge in zip(both, (today, by_alignment), strict=True):
                one = judge(world, *sides)
                if one is not None:
                    judged.append(one)
        name = f"{world.k}, {world.n:,}, {world.variation}" + (f", {world.moved} by {world.by}" if world.moved else "")
        shares = ("held", "covers_slope", "covers_intercept", "named", "others")
        cells = [" / ".join(f"{100 * _mean(judged, of):.1f}" for judged in both) for of in shares]
        bias = " / ".join(f"{_mean(judged, 'off'):+.3f}" for judged in both)
        print(f"| {name} | {' | '.join(cells)} | {bias} |", flush=True)


def _mean(judged: list[Judged], of: str) -> float:
    values = np.array([getattr(one, of) for one in judged], dtype=float)
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


if __name__ == "__main__":
    main()
