"""How often the gates on a month's linking and on its anchors as a group hold a sound month, and what they see.

    python -m tests.benchmarks.bench_month_gates jump --histories 5000 --seed 1
    python -m tests.benchmarks.bench_month_gates group --months 2000 --seed 1
    python -m tests.benchmarks.bench_month_gates group --months 300 --seed 1 --fits

`jump`: histories of n months whose mean θ and SD vary as the row says, each constant with the error named, and one more
month of the same world, or one that lies so far off it. Shares of months held by the gate.

`group`: an origin window gives the anchors, a first month publishes as many other items as the row says, and a second
month is linked and compared with both. b vary by τ from one window to another. Sound: nothing else moved. Moved: all
anchors are .3 easier in the second month. Rows say how often the gate holds the month, and the shift's mean, its SD
over months and the mean of its standard errors. Estimates are drawn as their errors say, or (`--fits`) are fitted to
answers. ± is the Monte-Carlo error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from irt_assets.psychometrics.core.models import Floats
from irt_assets.psychometrics.drift.group_shift import GroupShift
from irt_assets.psychometrics.eligibility.rules import PublicationRules
from irt_assets.psychometrics.linking.jump import Constants, jumps
from irt_assets.psychometrics.linking.placement import LinkingError
from tests.testbed.published_months import World

LARGEST = PublicationRules().max_anchor_shift

# -- jump --------------------------------------------------------------------------------------------

HISTORIES = (3, 6, 12, 14, 24)
JUMPS = (0.3, 0.5, 1.0)
COHORTS = np.array([0.0, 0.15, -0.1, 0.2, 0.05])
"""Mean θ of the cohorts of the demo."""


@dataclass(frozen=True)
class Population:
    """Mean θ of each of `months` months, and the errors of ln slope and intercept; ln slope varies by `slope_sd`."""

    name: str
    means: Callable[[int, np.random.Generator], Floats]
    slope_sd: float
    slope_se: float
    intercept_se: float


def _cohorts(sd: float, rise: float = 0.0) -> Callable[[int, np.random.Generator], Floats]:
    return lambda months, rng: rng.normal(0, sd, months) + rise * np.arange(months)


def _demo(months: int, rng: np.random.Generator) -> Floats:
    """From whichever cohort on."""
    k = np.arange(months)
    return COHORTS[(k + rng.integers(5)) % 5] + 0.12 * k


def _levels_off(months: int, rng: np.random.Generator) -> Floats:
    return 0.05 * np.minimum(np.arange(months), 12) + rng.normal(0, 0.05, months)


def _seasons(months: int, rng: np.random.Generator) -> Floats:
    return 0.2 * np.sin(2 * np.pi * (np.arange(months) + rng.uniform(0, 12)) / 12) + rng.normal(0, 0.05, months)


WORLDS = (
    Population("one population", _cohorts(0.0), 0.0, 0.03, 0.04),
    Population("cohorts, SD .05", _cohorts(0.05), 0.03, 0.03, 0.04),
    Population("cohorts, SD .12", _cohorts(0.12), 0.05, 0.03, 0.04),
    Population("seasons ± .2", _seasons, 0.03, 0.03, 0.04),
    Population("cohorts, SD .05, rising by .02", _cohorts(0.05, 0.02), 0.03, 0.03, 0.04),
    Population("cohorts, SD .05, rising by .12", _cohorts(0.05, 0.12), 0.03, 0.03, 0.04),
    Population("rising by .05 for a year, then level", _levels_off, 0.03, 0.03, 0.04),
    Population("the demo's cohorts, rising by .12", _demo, 0.03, 0.03, 0.04),
)


def month_of(at: int, mean: float, error: float, world: Population, rng: np.random.Generator) -> Constants:
    log_slope = rng.normal(0, world.slope_sd) + error * world.slope_se * rng.standard_normal()
    intercept = mean + error * world.intercept_se * rng.standard_normal()
    slope = float(np.exp(log_slope))
    return Constants(at, slope, slope * error * world.slope_se, float(intercept), error * world.intercept_se)


def held(world: Population, n: int, off: float, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether the slope's and the intercept's jump is seen; months differ in how many learners they have."""
    means = world.means(n + 1, rng)
    errors = np.exp(rng.normal(0, 0.3, n + 1))
    months = [month_of(k, float(means[k]), float(errors[k]), world, rng) for k in range(n + 1)]
    last = replace(months[-1], intercept=months[-1].intercept + off)
    found = {one.constant: one.seen for one in jumps(last, months[:-1])}
    return found["slope"], found["intercept"]


def report_jumps(histories: int, seed: int) -> None:
    print("| world | months before | sound: slope | sound: intercept | " + " | ".join(f"+{off:g}" for off in JUMPS))
    print("|---|--:|--:|--:|" + "--:|" * len(JUMPS))
    for w, world in enumerate(WORLDS):
        for n in HISTORIES:
            rng = np.random.default_rng([seed, w, n])
            sound = np.array([held(world, n, 0.0, rng) for _ in range(histories)])
            cells = [_share(sound[:, k]) for k in (0, 1)]
            for off in JUMPS:
                cells.append(_share(np.array([held(world, n, off, rng)[1] for _ in range(histories // 5)])))
            print(f"| {world.name} | {n} | " + " | ".join(cells) + " |", flush=True)


# -- the anchors as a group --------------------------------------------------------------------------

EASIER = 0.3
ROWS = (
    *(World(20, 20, 2000, tau) for tau in (0.0, 0.05, 0.10)),
    *(World(20, 5, 2000, tau) for tau in (0.0, 0.05)),
    *(World(10, 10, 2000, tau) for tau in (0.0, 0.05)),
    World(20, 20, 1000, 0.05),
    World(20, 20, 10_000, 0.05),
    World(30, 60, 2000, 0.05),
    *(World(20, 20, 2000, tau, "3pl") for tau in (0.0, 0.05)),
)


def report_groups(rows: Iterable[int], months: int, seed: int, *, fits: bool) -> None:
    print("| model | learners | anchors + others | τ | sound: held | shift | SD | SE | moved: held | shift | SD | SE |")
    print("|---|--:|--:|--:" + "|--:" * 8 + "|")
    for k in rows:
        row, found, failed = ROWS[k], [], 0
        moves = np.zeros(row.size), np.where(np.arange(row.size) < row.k, -EASIER, 0.0)
        if row.model != "2pl" and not fits:
            continue
        for month in range(months):
            try:
                rng = np.random.default_rng([seed, k, month])
                pair = row.fitted(rng, *moves) if fits else [row.compared(rng, moved) for moved in moves]
            except LinkingError:
                failed += 1
                continue
            found.append([GroupShift.of(one, mean=0.0, sd=1.0, expected_variation=0.1) for one in pair])
        cells = []
        for shifts in zip(*found, strict=True):
            shift, se = (np.array([getattr(one, name) for one in shifts]) for name in ("shift", "shift_se"))
            cells += [_share(np.array([one.moved(LARGEST) for one in shifts])), f"{shift.mean():+.3f}"]
            cells += [f"{shift.std():.3f}", f"{se.mean():.3f}"]
        note = f" {failed} not linked" if failed else ""
        of = f"{row.model.upper()} | {row.n:,} | {row.k} + {row.others} | {row.variation:g}"
        print(f"| {of} | {' | '.join(cells)} |{note}", flush=True)


def _share(of: Floats) -> str:
    p = float(np.mean(of))
    return f"{p:.2%} ± {np.sqrt(p * (1 - p) / len(of)):.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gate", choices=("jump", "group"))
    parser.add_argument("--histories", type=int, default=5000)
    parser.add_argument("--months", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fits", action="store_true")
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)), help="of `group`")
    asked = parser.parse_args()
    if asked.gate == "jump":
        report_jumps(asked.histories, asked.seed)
    else:
        report_groups(asked.rows, asked.months, asked.seed, fits=asked.fits)


if __name__ == "__main__":
    main()
