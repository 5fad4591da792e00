"""Shares of held months and of anchors reported as moved, and coverage of the constants, if items vary and move.

    python -m benchmarks.bench_alignment --months 2000 --seed 1
    python -m benchmarks.bench_alignment --months 300 --seed 1 --fits

Each month is linked and checked as on the platform: `link`, and the gate `anchors_agree` for a bank with its 10th and
90th percentile of b at ± 1.28. Anchors' estimates are drawn with their errors (`psychometrics_testbed.aligned`) on
both sides, or (`--fits`) fitted to answers of the same number of learners to these anchors and the same number of other
items.
Columns: months held for any reason; months held because of τ; intervals that contain slope and intercept (t, with one
degree of freedom less than the anchors used); moved anchors and other anchors that are reported; months with a warning
about the anchors' skewness; bias of the intercept in months that are not held. ± is the Monte Carlo error of a share of
½; for a share p, multiply it by √(4p(1 − p)).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from scipy.special import expit
from scipy.stats import t as student

from irt_assets.gates.advisory_checks import SKEWNESS_LEVEL, p_of_skewness
from irt_assets.gates.coverage import error_of_linking
from irt_assets.scales.rules import Rules
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import LinkingError
from psychometrics_testbed.aligned import World, month
from psychometrics_testbed.anchors import anchors_of
from psychometrics_testbed.linked_months import INTERCEPT, SLOPE, ids
from psychometrics_testbed.made_anchors import anchors_of_items
from psychometrics_testbed.scored_estimates import ScoredItems
from tests.testbed.agreement import disagree

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
    World(k=20, model="3pl"),
    World(scored=True),
    World(scored=True, moved=4, by=0.5),
    World(moved=9, by=0.25),
    World(n=10_000, moved=9, by=0.25),
)
ENDS = np.array([-1.28, 1.28])


def draw_scored_month(rng: np.random.Generator, world: World, *, fits: bool) -> tuple[Calibration, AnchorSet]:
    """Both sides of a month with half of the items scored. Estimates are drawn with errors or, with `fits`, fitted."""
    truth = ScoredItems.draw(rng, tuple([1, 3, 1, 2, 4, 1] * world.k)[: world.k])
    truth = truth.select(rng.permutation(world.k))  # the first items move
    by = world.moves(rng, np.zeros(world.k))
    sides = (truth, 0.0, 1.0), (truth.moved(by), INTERCEPT, SLOPE)
    if fits:
        old, new = (
            fit_em(items.answers(rng, rng.normal(mean, sd, world.n)), model=items.models, threads=1)
            for items, mean, sd in sides
        )
    else:
        old, new = (items.rescaled(sd, mean).estimated(rng, world.n) for items, mean, sd in sides)
    return new, anchors_of_items(old.items)


def fit_month(rng: np.random.Generator, world: World) -> tuple[Calibration, AnchorSet]:
    """Both sides, fitted to answers to these anchors and as many other items. A 3PL has c = .2."""
    a, b, moved = world.draw(rng)
    c = 0.2 if item_model(world.model).has_parameter("c") else 0.0
    fits = []
    for of_anchors, mean, sd in ((b, 0.0, 1.0), (moved, INTERCEPT, SLOPE)):
        of_b = np.r_[of_anchors, rng.normal(mean, 1, world.k)]
        of_a = np.r_[a, rng.lognormal(0.1, 0.3, world.k)]
        theta = rng.normal(mean, sd, (world.n, 1))
        right = rng.random((world.n, 2 * world.k)) < c + (1 - c) * expit(of_a * (theta - of_b))
        names = (*ids(world.k), *(f"other{j:02d}" for j in range(world.k)))
        fits.append(fit_em(Responses.from_wide(right.astype(float), item_ids=names), model=world.model, threads=1))
    return fits[1], anchors_of(fits[0], ids(world.k))


@dataclass(frozen=True)
class Judged:
    held: bool
    by_tau: bool = False
    covers_slope: float = np.nan
    covers_intercept: float = np.nan
    named: float = np.nan
    others: float = np.nan
    skewed: float = np.nan
    bias: float = np.nan

    @classmethod
    def of(cls, world: World, new: Calibration, anchors: AnchorSet) -> Judged:
        try:
            linking = link_to_anchors(new, anchors)
        except LinkingError:
            return cls(True)
        limits = Rules().publication
        imprecise = (
            error_of_linking(linking.slope, linking.intercept, linking.cov, ENDS).max() > limits.max_linking_error
        )
        held = disagree(linking) or bool(imprecise)
        dropped = np.isin(ids(world.k), list(linking.anchors_dropped))
        moved = np.arange(world.k) < world.moved
        share = lambda of: float(dropped[of].mean()) if of.any() else np.nan  # noqa: E731
        half = student.ppf(0.975, len(linking.anchors_used) - 1)
        assert linking.tau_low is not None
        return cls(
            held,
            linking.tau_low > limits.max_item_variation,
            abs(linking.slope - SLOPE) < half * linking.slope_se,
            abs(linking.intercept - INTERCEPT) < half * linking.intercept_se,
            share(moved),
            share(~moved),
            np.nan
            if linking.skewness is None
            else p_of_skewness(linking.skewness, len(linking.anchors_used)) < SKEWNESS_LEVEL,
            np.nan if held else linking.intercept - INTERCEPT,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fits", action="store_true")
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)))
    args = parser.parse_args()
    columns = [of.name.replace("_", " ") for of in fields(Judged)]
    print(f"| anchors, learners, τ, moved | {' | '.join(columns)} | ± {50 / args.months**0.5:.1f} %")
    print("|---" * (len(columns) + 1) + "|")
    for row in args.rows:
        world = ROWS[row]
        if world.model != "2pl" and not args.fits:
            continue
        draw = partial(draw_scored_month, fits=args.fits) if world.scored else fit_month if args.fits else month
        judged = [
            Judged.of(world, *draw(np.random.default_rng([args.seed, row, s]), world)) for s in range(args.months)
        ]
        name = f"{world.k}, {world.n:,}, {world.variation}" + (f", {world.moved} by {world.by}" if world.moved else "")
        name += "" if world.model == "2pl" else f", {world.model}"
        name += ", half of them scored" * world.scored
        cells = [_mean(judged, of.name) for of in fields(Judged)]
        shares = " | ".join(f"{100 * cell:.1f}" for cell in cells[:-1])
        print(f"| {name} | {shares} | {cells[-1]:+.3f} |", flush=True)


def _mean(judged: list[Judged], of: str) -> float:
    values = np.array([getattr(month, of) for month in judged], dtype=float)
    finite = values[~np.isnan(values)]
    return float(finite.mean()) if finite.size else float("nan")


if __name__ == "__main__":
    main()
