"""How often the gates on a month's linking and on its effect on θ hold a sound month, and what they see.

    python -m tests.benchmarks.bench_month_gates jump --histories 5000 --seed 1
    python -m tests.benchmarks.bench_month_gates impact --months 300 --seed 1

`jump`: histories of n months whose mean θ and SD vary as the row says, each constant with the error named, and one more
month of the same world, or one that lies so far off it. Shares of months held by the gate.

`impact`: an origin window fits the anchors, a first month publishes as many other items as the row says, and a second
month (θ with mean .3 and SD 1.1 of the origin's, N learners who each see that share of the items) is linked and
compared. Sound: nothing moved. Moved: all anchors are .3 easier in the second month. Rows say how often the gate holds
the month, by the shift and by flips at a pass mark of θ = .5 alone; how often `anchors_agree` does; the mean shift, its
SD over months and the mean of its standard errors. ± is the Monte-Carlo error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from irt_assets.calibration.month_impact import compare, proposed_values
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.psychometrics.core.models import Calibration, Floats
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.linking.jump import Constants, jumps
from irt_assets.psychometrics.linking.linking import link, transform
from irt_assets.psychometrics.linking.placement import Linking, LinkingError
from irt_assets.psychometrics.scoring.scale_shift import MonthImpact, Placement
from irt_assets.responses.scales import Scale
from tests.benchmarks.bench_three_parameter import Truth, usable
from tests.testbed.aligned import disagree
from tests.testbed.anchors import anchors_of

# -- jump --------------------------------------------------------------------------------------------

HISTORIES = (3, 6, 12, 14, 24)
JUMPS = (0.3, 0.5, 1.0)
COHORTS = np.array([0.0, 0.15, -0.1, 0.2, 0.05])
"""Mean θ of the cohorts of the demo."""


@dataclass(frozen=True)
class World:
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
    World("one population", _cohorts(0.0), 0.0, 0.03, 0.04),
    World("cohorts, SD .05", _cohorts(0.05), 0.03, 0.03, 0.04),
    World("cohorts, SD .12", _cohorts(0.12), 0.05, 0.03, 0.04),
    World("seasons ± .2", _seasons, 0.03, 0.03, 0.04),
    World("cohorts, SD .05, rising by .02", _cohorts(0.05, 0.02), 0.03, 0.03, 0.04),
    World("cohorts, SD .05, rising by .12", _cohorts(0.05, 0.12), 0.03, 0.03, 0.04),
    World("rising by .05 for a year, then level", _levels_off, 0.03, 0.03, 0.04),
    World("the demo's cohorts, rising by .12", _demo, 0.03, 0.03, 0.04),
)


def month_of(at: int, mean: float, error: float, world: World, rng: np.random.Generator) -> Constants:
    log_slope = rng.normal(0, world.slope_sd) + error * world.slope_se * rng.standard_normal()
    intercept = mean + error * world.intercept_se * rng.standard_normal()
    slope = float(np.exp(log_slope))
    return Constants(at, slope, slope * error * world.slope_se, float(intercept), error * world.intercept_se)


def held(world: World, n: int, off: float, rng: np.random.Generator) -> tuple[bool, bool]:
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


# -- impact ------------------------------------------------------------------------------------------

MEAN, SD, EASIER, MARK = 0.3, 1.1, 0.3, 0.5


@dataclass(frozen=True)
class Row:
    learners: int
    anchors: int
    others: int
    seen: float = 1.0
    model: Model = "2pl"

    @property
    def label(self) -> str:
        return f"{self.model.upper()} | {self.learners:,} | {self.anchors} | {self.others} | {self.seen:.0%}"


ROWS = (
    Row(2000, 20, 20),
    Row(1000, 20, 20),
    Row(2000, 20, 20, 0.5),
    Row(5000, 20, 20, 0.5),
    Row(2000, 10, 10),
    Row(2000, 30, 60, 0.33),
    Row(2000, 20, 5),
    Row(2000, 20, 20, model="3pl"),
)


@dataclass(frozen=True)
class Judged:
    impact: MonthImpact
    disagree: bool


def world(row: Row, seed: list[int]) -> tuple[Judged, Judged]:
    """A sound second month and one whose anchors moved together, after the same origin and first month."""
    rng = np.random.default_rng(seed)
    n = row.anchors + row.others
    a, b = np.exp(rng.normal(0.1, 0.3, n)), rng.normal(0, 1, n)
    c = np.full(n, 0.2 if row.model == "3pl" else 0.0)
    truth = Truth(tuple(f"i{j:03d}" for j in range(n)), a, b, c)
    scale = Scale("bench", model=row.model, pass_theta=MARK)
    items = np.arange(n)
    origin = fit_em(
        truth.answers(items[: row.anchors], rng.normal(size=row.learners), row.seen, rng), model=row.model, threads=1
    )
    frozen = anchors_of(origin, usable(origin, truth.ids[: row.anchors]))
    first = fit_em(truth.answers(items, rng.normal(0, 1, row.learners), row.seen, rng), model=row.model, threads=1)
    linking = link(first, frozen)
    published = transform(first, linking)
    columns = (frozen.a, frozen.b, frozen.c, frozen.a_se, frozen.b_se, frozen.cov_ab)
    before = dict(zip(frozen.item_ids, map(ItemRow, *columns), strict=True))
    later = proposed_values(_linked_items(published), scale, truth.ids[row.anchors :])
    before |= later
    old = {"first": _placement(linking)}

    def judge(of: Truth) -> Judged:
        responses = of.answers(items, rng.normal(MEAN, SD, row.learners), row.seen, rng)
        fit = fit_em(responses, model=row.model, threads=1)
        linking = link(fit, frozen)
        linked = transform(fit, linking)
        impact = compare(
            responses,
            before,
            proposed_values(_linked_items(linked), scale, before),
            set(frozen.item_ids),
            dict.fromkeys(later, "first"),
            old,
            _placement(linking),
            scale,
        )
        return Judged(impact, disagree(linking))

    easier = truth.b - np.where(items < row.anchors, EASIER, 0.0)
    return judge(truth), judge(replace(truth, b=easier))


def _linked_items(fit: Calibration) -> dict[str, FittedItem]:
    columns = (fit.a, fit.b, fit.c, fit.a_se, fit.b_se, fit.cov_ab[:, 0, 1])
    values = (ItemRow(*row) for row in zip(*columns, strict=True))
    items = (FittedItem(one, n, flags, {}) for one, n, flags in zip(values, fit.n, fit.flags, strict=True))
    return dict(zip(fit.item_ids, items, strict=True))


def _placement(linking: Linking) -> Placement:
    """As it is stored: without the covariance of slope and intercept."""
    return Placement(linking.slope, linking.intercept, np.diag(np.diag(linking.cov)))


def report_impacts(rows: tuple[Row, ...], months: int, seed: int) -> None:
    print(
        "| model | learners | anchors | others | seen | month | held | by shift | by flips | anchors disagree | shift "
        "| SD | SE | z > 2.33 |"
    )
    print("|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        pairs, not_linked = [], 0
        for k in range(months):
            try:
                pairs.append(world(row, [seed, k]))
            except LinkingError:
                not_linked += 1
        for name, found in zip(("sound", "moved"), zip(*pairs, strict=True), strict=True):
            impacts = [one.impact for one in found]
            shift, se = (np.array([getattr(i, name) for i in impacts]) for name in ("shift", "shift_se"))
            cells = [
                _share(np.array([i.shifts or i.flips for i in impacts])),
                _share(np.array([i.shifts for i in impacts])),
                _share(np.array([i.flips for i in impacts])),
                _share(np.array([one.disagree for one in found])),
                f"{shift.mean():+.3f}",
                f"{shift.std():.3f}",
                f"{se.mean():.3f}",
                _share(np.abs(shift) > 2.33 * se),
            ]
            note = f" ({not_linked} not linked)" if not_linked else ""
            print(f"| {row.label} | {name}{note} | " + " | ".join(cells) + " |", flush=True)


def _share(of: Floats) -> str:
    p = float(np.mean(of))
    return f"{p:.2%} ± {np.sqrt(p * (1 - p) / len(of)):.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gate", choices=("jump", "impact"))
    parser.add_argument("--histories", type=int, default=5000)
    parser.add_argument("--months", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", help="numbers of rows of `impact`, with commas; all by default")
    asked = parser.parse_args()
    if asked.gate == "jump":
        report_jumps(asked.histories, asked.seed)
    else:
        rows = tuple(ROWS[int(k)] for k in asked.rows.split(",")) if asked.rows else ROWS
        report_impacts(rows, asked.months, asked.seed)


if __name__ == "__main__":
    main()
