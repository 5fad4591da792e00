"""Months with guessing, or with abilities that are not normal: slope, intercept, coverage, and the shares detected.

    python -m benchmarks.bench_shape --months 200 --seed 1

An origin window (40 items, N learners) and a month (20 of its items as anchors and 20 new ones, θ with mean .5 and SD
1.2 of the origin's) are fitted with the named rule, and linked. θ is normal, or χ² with the stated degrees of freedom,
scaled to mean 0 and SD 1; `−` means mirrored. Rows give the shares of months that used a histogram and found guessing;
bias of slope and intercept from 1.2 and .5, their SD over months and the mean of their reported errors; the share of a
and b of all the month's items within 1.96 errors of the truth (under a 2PL, items with c > 0 have no known truth); and
the share of months whose anchors disagree by Q at 1 %. ± is the Monte Carlo error.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks.bench_normality import month
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.options import Latent, LatentRule, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.latent_shape import Shape
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import AnchorLimits
from psychometrics_testbed.abilities import abilities
from psychometrics_testbed.anchors import anchors_of
from tests.testbed.agreement import disagree

SLOPE, INTERCEPT = 1.2, 0.5
ITEMS, ANCHORS = 40, 20


@dataclass(frozen=True)
class Row:
    """A row: θ of origin and month, guessing, rule, learners, and share of items that each learner saw."""

    origin: str
    month: str
    guessing: float = 0.0
    rule: LatentRule = "auto"
    learners: int = 2000
    seen: float = 1.0

    @property
    def label(self) -> str:
        design = "complete" if self.seen == 1 else f"{self.seen:.0%} of items"
        return f"{self.origin} / {self.month} | {self.guessing:g} | {self.rule} | {self.learners:,} | {design}"


ROWS = (
    *(Row("normal", "normal", rule=rule) for rule in ("normal", "auto")),
    *(Row("χ²₄", "χ²₄", rule=rule) for rule in ("normal", "auto")),
    *(Row("normal", "χ²₄", rule=rule) for rule in ("normal", "auto")),
    Row("−χ²₄", "−χ²₄"),
    Row("normal", "χ²₂₀"),
    Row("normal", "normal", 0.2),
    Row("χ²₄", "χ²₄", 0.2),
    Row("−χ²₄", "−χ²₄", 0.2),
    Row("χ²₄", "χ²₄", learners=5000, seen=0.5),
    Row("normal", "χ²₄", learners=1000),
)


def answers(theta: Floats, a: Floats, b: Floats, row: Row, ids: list[str], rng: np.random.Generator) -> Responses:
    p = row.guessing + (1 - row.guessing) * expit(a * (theta[:, None] - b))
    x = (rng.random(p.shape) < p).astype(float)
    x[rng.random(p.shape) >= row.seen] = np.nan
    return Responses.from_wide(x, ids)


@dataclass(frozen=True)
class Month:
    """Results of a month. Coverage is NaN if the truth is not known."""

    histogram: bool
    guessing: bool
    slope: float
    intercept: float
    slope_se: float
    intercept_se: float
    within_a: float
    within_b: float
    disagree: bool


def simulate(row: Row, seed: list[int]) -> Month:
    rng = np.random.default_rng(seed)
    n = 2 * ITEMS - ANCHORS
    a, b = np.exp(rng.normal(0.1, 0.3, n)), rng.normal(0, 1, n)
    ids = [f"i{j:03d}" for j in range(n)]

    def fit(theta: Floats, items: list[int]) -> tuple[Calibration, bool, bool]:
        responses = answers(theta, a[items], b[items], row, [ids[j] for j in items], rng)

        def one(some: Responses, model: Model, latent: Latent, **options: Any) -> Calibration:
            return fit_em(some, model=model, latent=latent, threads=1, **options)

        calibration, shape = Shape.fit(one, responses, "2pl", row.rule)
        return calibration, shape.latent == "histogram", shape.guessing

    origin, _, _ = fit(abilities(row.origin, row.learners, rng), list(range(ITEMS)))
    items = [*range(ANCHORS), *range(ITEMS, n)]
    month, histogram, guessing = fit(SLOPE * abilities(row.month, row.learners, rng) + INTERCEPT, items)
    linking = link_to_anchors(
        month, anchors_of(origin, tuple(ids[:ANCHORS])), limits=AnchorLimits(min_anchor_responses=1)
    )
    linked = linking.transform(month)
    within = (
        np.mean(np.abs(estimates - truth[items]) < 1.96 * se) if row.guessing == 0 else np.nan
        for estimates, truth, se in ((linked.a, a, linked.a_se), (linked.b, b, linked.b_se))
    )
    errors = linking.slope_se, linking.intercept_se
    return Month(histogram, guessing, linking.slope, linking.intercept, *errors, *within, disagree(linking))


COSTS: tuple[tuple[int, int, float, Model], ...] = (
    (2000, 40, 1.0, "2pl"),
    (2000, 40, 0.5, "2pl"),
    (10_000, 100, 1.0, "2pl"),
    (2000, 40, 1.0, "3pl"),
)


def cost(learners: int, items: int, seen: float, model: Model) -> str:
    def fit(some: Responses, model: Model, latent: Latent, **settings: Any) -> Calibration:
        return fit_em(some, model=model, latent=latent, threads=1, **settings)

    normal, whole = [], []
    for k in range(6):
        responses = month("χ²₄", learners, items, seen, [1, k])
        began = time.process_time()
        fit(responses, model, "normal")
        fitted = time.process_time()
        _, shape = Shape.fit(fit, responses, model, "auto")
        ended = time.process_time()
        if k and shape.compared:  # the first call loads compiled loops
            normal.append(fitted - began)
            whole.append((ended - fitted) / (fitted - began))
    return f"| {learners:,} × {items} | {seen:.0%} | {model} | {np.median(normal):.3f} s | {np.median(whole):.1f} |"


def report(row: Row, months: list[Month]) -> str:
    n = len(months)

    def share(name: str) -> str:
        p = float(np.mean([getattr(month, name) for month in months]))
        return f"{p:.1%} ± {np.sqrt(p * (1 - p) / n):.1%}"

    def constant(name: str, truth: float) -> str:
        values = np.array([getattr(month, name) for month in months])
        errors = np.array([getattr(month, f"{name}_se") for month in months])
        sd = values.std(ddof=1)
        return f"{values.mean() - truth:+.3f} ± {sd / np.sqrt(n):.3f} | {sd:.3f} | {errors.mean() / sd:.2f}"

    within = " | ".join(f"{np.mean([getattr(month, f'within_{x}') for month in months]):.1%}" for x in "ab")
    return (
        f"| {row.label} | {share('histogram')} | {share('guessing')} | {constant('slope', SLOPE)} | "
        f"{constant('intercept', INTERCEPT)} | {within} | {share('disagree')} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", help="numbers of rows, with commas, or none; all by default")
    arguments = parser.parse_args()
    print("| learners × items | seen | model | normal fit | month : normal fit |\n|---|--:|---|--:|--:|")
    for design in COSTS:
        print(cost(*design), flush=True)
    if arguments.rows == "none":
        return
    print()
    rows = [ROWS[int(k)] for k in arguments.rows.split(",")] if arguments.rows else ROWS
    print(
        "| θ of origin / month | c | rule | learners | design | histogram | guessing | slope − 1.2 | SD | SE : SD | "
        "intercept − .5 | SD | SE : SD | a covered | b covered | Q < 1 % |"
    )
    print("|---|--:|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        print(report(row, [simulate(row, [arguments.seed, k]) for k in range(arguments.months)]), flush=True)


if __name__ == "__main__":
    main()
