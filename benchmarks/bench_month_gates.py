"""False alarms and power of the gates on a month's linking constants and on its anchors as a group.

    python -m benchmarks.bench_month_gates jump --histories 5000 --seed 1
    python -m benchmarks.bench_month_gates group --months 2000 --seed 1
    python -m benchmarks.bench_month_gates group --months 300 --seed 1 --fits
    python -m benchmarks.bench_month_gates scored --months 160 --seed 1

`jump`: histories of n months whose mean θ and SD vary as the row states, with the stated error of each constant, and a
further month of the same world or at the stated distance from it. Prints the shares of months held by the gate.

`group`: an origin window gives the anchors, a first month publishes the row's number of other items, and a second
month is linked and compared with both. b vary between windows by τ. In "sound" rows nothing else moves; in "moved" rows
all anchors are .3 easier in the second month. Rows give the share of held months, and the shift's mean, its SD over
months and the mean of its standard errors. Estimates are drawn with their errors or (`--fits`) fitted to answers. ± is
the Monte Carlo error.

`scored`: sound months of 2,000 learners and 40 items scored 0 … 3, checked by all gates of a month on its fit and its
place on the scale, four months after each origin: 20 of the origin's 40 items are the anchors, and the first month
publishes 20 others. Answers follow a GPCM or a graded response model. Rows give the number of months held by each gate,
and of items held for their RMSD or flagged as drifted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from threadpoolctl import threadpool_limits

from irt_assets.gates.coverage import Bank
from irt_assets.gates.evidence import Evidence
from irt_assets.gates.gates import failures, judge_gates
from irt_assets.gates.misfit import window_of
from irt_assets.gates.model_gates import MISFIT_LEVEL, eigenvalue_ratio
from irt_assets.ledger.fit_rows import statistics_spec
from irt_assets.ledger.fit_spec import ComparedMisfit, Growth, LinkedSpec, LinkingConstants, Spread, StagedSpec
from irt_assets.ledger.fits import LinkedFit, StagedFit
from irt_assets.ledger.group_shift import GroupShift
from irt_assets.ledger.linked_windows import month_number
from irt_assets.responses.snapshot import Snapshot
from irt_assets.scales.rules import PublicationRules, Rules
from irt_assets.scales.scale import Scale
from irt_psychometrics.core.models import Floats
from irt_psychometrics.drift.errors import Comparison, Published
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.latent_shape import Shape
from irt_psychometrics.itemfit.fit_summary import FitSummary
from irt_psychometrics.linking.constants_history import MonthConstants
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import LinkingError
from psychometrics_testbed.anchors import usable
from psychometrics_testbed.made_anchors import anchors_of_items
from psychometrics_testbed.published_months import World
from tests.testbed import misfit

MAX_SHIFT = PublicationRules().max_anchor_shift

# -- jump --------------------------------------------------------------------------------------------

HISTORIES = (3, 6, 12, 14, 24)
JUMPS = (0.3, 0.5, 1.0)
COHORTS = np.array([0.0, 0.15, -0.1, 0.2, 0.05])
"""Mean θ of the demo's cohorts."""


@dataclass(frozen=True)
class Population:
    """A population: mean θ by month, errors of ln slope and intercept, and the SD of ln slope (`slope_sd`)."""

    name: str
    means: Callable[[int, np.random.Generator], Floats]
    slope_sd: float
    slope_se: float
    intercept_se: float


def _cohorts(sd: float, rise: float = 0.0) -> Callable[[int, np.random.Generator], Floats]:
    return lambda months, rng: rng.normal(0, sd, months) + rise * np.arange(months)


def _demo(months: int, rng: np.random.Generator) -> Floats:
    """Mean θ of months of the demo's cohorts, from a random cohort on."""
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


def month_of(at: int, mean: float, error: float, world: Population, rng: np.random.Generator) -> MonthConstants:
    log_slope = rng.normal(0, world.slope_sd) + error * world.slope_se * rng.standard_normal()
    intercept = mean + error * world.intercept_se * rng.standard_normal()
    slope = float(np.exp(log_slope))
    return MonthConstants(at, slope, slope * error * world.slope_se, float(intercept), error * world.intercept_se)


def judge_jump(world: Population, n: int, off: float, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether the gate detects a jump of the slope and of the intercept. Months differ in their number of learners."""
    means = world.means(n + 1, rng)
    errors = np.exp(rng.normal(0, 0.3, n + 1))
    months = [month_of(k, float(means[k]), float(errors[k]), world, rng) for k in range(n + 1)]
    last = replace(months[-1], intercept=months[-1].intercept + off)
    jumps = {jump.constant: jump.seen for jump in last.jumps(months[:-1])}
    return jumps["slope"], jumps["intercept"]


def report_jumps(histories: int, seed: int) -> None:
    print("| world | months before | sound: slope | sound: intercept | " + " | ".join(f"+{off:g}" for off in JUMPS))
    print("|---|--:|--:|--:|" + "--:|" * len(JUMPS))
    for w, world in enumerate(WORLDS):
        for n in HISTORIES:
            rng = np.random.default_rng([seed, w, n])
            sound = np.array([judge_jump(world, n, 0.0, rng) for _ in range(histories)])
            cells = [_share(sound[:, k]) for k in (0, 1)]
            for off in JUMPS:
                cells.append(_share(np.array([judge_jump(world, n, off, rng)[1] for _ in range(histories // 5)])))
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
        row, group_shifts, failed = ROWS[k], [], 0
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
            group_shifts.append(
                [
                    GroupShift.from_comparison(comparison, mean=0.0, sd=1.0, expected_variation=0.1)
                    for comparison in pair
                ]
            )
        cells = []
        for shifts in zip(*group_shifts, strict=True):
            shift, se = (
                np.array([getattr(comparison, name) for comparison in shifts]) for name in ("shift", "shift_se")
            )
            cells += [
                _share(np.array([comparison.exceeds_limit(MAX_SHIFT) for comparison in shifts])),
                f"{shift.mean():+.3f}",
            ]
            cells += [f"{shift.std():.3f}", f"{se.mean():.3f}"]
        note = f" {failed} not linked" if failed else ""
        of = f"{row.model.upper()} | {row.n:,} | {row.k} + {row.others} | {row.variation:g}"
        print(f"| {of} | {' | '.join(cells)} |{note}", flush=True)


# -- all gates on sound months of scored items -------------------------------------------------------

MONTHS = 4
"""Months after each origin. The last is compared with the three before it."""
LEARNERS = 2000
SCORED_ROWS = (("GPCM", misfit.SCORED), ("graded", misfit.GRADED))
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class JudgedMonth:
    """Results of a month: gates that held it, with reasons, and counts of items.

    The counts are the items held for their RMSD, out of all items, and the items flagged as drifted, out of the
    published items.
    """

    held: dict[str, str]
    items: int
    misfitting: int
    published: int
    drifted: int


def draw_scored_months(world: misfit.World, seed: list[int]) -> Iterator[JudgedMonth]:
    """Run the gates on the months after an origin; their mean θ varies."""
    rng = np.random.default_rng(seed)
    bank, n_anchors = misfit.Bank.draw(rng), misfit.ANCHORS
    rules = Rules.from_settings({"new_misfit": "hold"})

    def fitted(items: np.ndarray, slope: float, intercept: float):
        answers = world.answers(bank, items, LEARNERS, slope, intercept, False, rng)
        fit, shape = Shape.fit(
            lambda some, model, latent, **how: fit_em(some, model=model, latent=latent, threads=1, **how),
            answers, "gpcm", "auto",
        )  # fmt: skip
        statistics = statistics_spec(FitSummary.from_fit(answers, fit, threads=1))
        return window_of(answers, fit, statistics.set), shape, statistics

    before, _, of_before = fitted(np.arange(misfit.ITEMS), 1.0, 0.0)
    origin, ratio = before.calibration, eigenvalue_ratio(of_before.set)
    usable_anchors = usable(origin, origin.item_ids[:n_anchors])
    anchors = anchors_of_items(origin.select(np.isin(origin.item_ids, usable_anchors)).items)
    published = Published.from_anchors(anchors)
    earlier: list[MonthConstants] = []
    for k in range(MONTHS):
        name = f"2026-{k + 1:02d}"
        of_month = np.r_[:n_anchors, misfit.ITEMS : 2 * misfit.ITEMS - n_anchors]
        now, shape, statistics = fitted(of_month, misfit.SLOPE, misfit.INTERCEPT + rng.normal(0, 0.1))
        fit, change = now.calibration, now.compare_with(before, guessing=shape.guessing, threads=1)
        growth = Growth(**change.growth)
        compared = ComparedMisfit(reference="the origin", ratio=ratio, items=change.items, growth=growth)
        try:
            linking = link_to_anchors(fit, anchors, limits=rules.anchor_limits)
        except LinkingError as error:
            yield JudgedMonth({"linked": str(error)}, 0, 0, 0, 0)
            continue
        against = Comparison.from_linked_fit(fit, linking, anchors, published)
        against = against.select(np.isin(against.item_ids, usable(fit, against.item_ids)))
        spec = LinkedSpec(linking_constants=LinkingConstants.from_linking(linking), latent=Spread(mean=0.0, sd=1.0))
        variation = rules.linking.item_variation
        b = {item: float(value) for item, value in zip(published.item_ids, published.b, strict=True)}
        evidence = Evidence(
            month=name,
            scale=Scale("bench", rules=rules),
            snapshot=Snapshot(name, "hash", "", "", 0, {}, {}),
            staged=StagedFit(
                fit_id="fit", month=name, scale_id="bench", engine="em", snapshot_hash="hash", calibration=b"",
                error=None, error_kind=None, code_version="", fitted_at=EPOCH,
                spec=StagedSpec(misfit=compared, fit_statistics=statistics, shape=shape),
            ),
            calibration=fit,
            linked=LinkedFit("fit", "hash", "", "", True, spec, {}),
            group_shift=GroupShift.from_comparison(against, mean=0.0, sd=1.0, expected_variation=variation),
            bank=Bank(dict.fromkeys(b), b, frozenset(anchors.item_ids)),
            earlier=tuple(earlier),
        )  # fmt: skip
        of_items = statistics.items
        off = [
            rmsd > rules.publication.max_rmsd and p < MISFIT_LEVEL
            for rmsd, p in zip(of_items["rmsd"], of_items["rmsd_p"], strict=True)
        ]
        drifted = len(Drift.from_comparison(against).flagged)
        yield JudgedMonth(failures(judge_gates(evidence)), len(off), sum(off), len(against.item_ids), drifted)
        values = linking.slope, linking.slope_se, linking.intercept, linking.intercept_se
        earlier.append(MonthConstants(month_number(name), *values))
        if k == 0:
            of_first = Published.from_fit(fit, linking, anchors)
            published = published.then(of_first.select(usable(fit, fit.item_ids[n_anchors:])))


def report_scored(rows: Iterable[int], months: int, seed: int) -> None:
    print("| answers | months | held | by | items held for their RMSD | published items flagged as drifted |")
    print("|---|--:|--:|---|--:|--:|")
    for k in rows:
        name, world = SCORED_ROWS[k]
        months_judged = [
            month for n in range(-(-months // MONTHS)) for month in draw_scored_months(world, [seed, k, n])
        ]
        by = Counter(gate for month in months_judged for gate in month.held)
        items, off, published, drifted = (
            sum(getattr(month, of) for month in months_judged) for of in ("items", "misfitting", "published", "drifted")
        )
        n_held = sum(bool(month.held) for month in months_judged)
        gates = ", ".join(f"{gate} {n}" for gate, n in by.items()) or "–"
        cells = f"{len(months_judged)} | {n_held} | {gates} | {off} of {items:,} | {drifted} of {published:,}"
        print(f"| {name} | {cells} |", flush=True)


def _share(of: Floats) -> str:
    p = float(np.mean(of))
    return f"{p:.2%} ± {np.sqrt(p * (1 - p) / len(of)):.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gate", choices=("jump", "group", "scored"))
    parser.add_argument("--histories", type=int, default=5000)
    parser.add_argument("--months", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fits", action="store_true")
    parser.add_argument("--rows", type=int, nargs="*", help="of `group` or `scored`; all without it")
    arguments = parser.parse_args()
    if arguments.gate == "jump":
        report_jumps(arguments.histories, arguments.seed)
    elif arguments.gate == "scored":
        with threadpool_limits(1, user_api="blas"):
            report_scored(arguments.rows or range(len(SCORED_ROWS)), arguments.months, arguments.seed)
    else:
        report_groups(arguments.rows or range(len(ROWS)), arguments.months, arguments.seed, fits=arguments.fits)


if __name__ == "__main__":
    main()
