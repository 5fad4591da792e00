"""Months of a 3PL scale: share linked, and accuracy of their constants, item curves, drift and information.

    python -m benchmarks.bench_three_parameter --months 200 --seed 1

A scale begins with a fit of N learners θ ~ N(0, 1) on 40 items, of which 20 become its anchors. A month of N other
learners, θ ~ N(0.5, 1.2²), has these 20 (except items that the origin flags) and 20 new items, which it publishes; a
second such month is compared with the anchors and with these, unchanged and with two anchors and two other items moved
by ±0.5 in b. As on the platform, months of a 3PL use the c of the anchors. a ~ LogNormal(0.1, 0.3), b ~ N(0, 1), c as
given in the row. *Seen* is the share of the items that a learner answers. *Across models*: the published values were
fitted to the same answers as a 2PL, and published before the scale became a 3PL. Prints tables of the two months'
linkings (the first month's by every criterion), the items' intervals and the tests; ± is the Monte Carlo error.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pool

import numpy as np
from scipy.special import expit

from irt_assets.gates.coverage import error_of_linking
from irt_assets.scales.rules import Rules
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.curves import probability
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.options import Method, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.drift.errors import Comparison, FitPopulation, Published
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.information.functions import Abilities, losses_of_items
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import Linking, LinkingError
from psychometrics_testbed.anchors import anchors_of, usable
from psychometrics_testbed.covariances import cov_adc

SLOPE, INTERCEPT = 1.2, 0.5
ITEMS, ANCHORS = 40, 20
THETAS = np.array([-1.0, 0.0, 1.0])
"""θ at which the error of the curves is evaluated."""
Z95 = 1.959964
CRITERIA: tuple[tuple[Method, bool], ...] = (
    ("stocking-lord", False), ("stocking-lord", True), ("haebara", False), ("haebara", True), ("mean-sigma", False),
    ("mean-mean", False),
)  # fmt: skip
"""Linking methods, and whether each is symmetric."""
ENDS = np.array([-1.281552, 1.281552])
"""10th and 90th percentile of b."""


@dataclass(frozen=True)
class Row:
    """Parameters of a row of the tables; `guessing` is "0", "0.2" or "Beta(5, 17)"."""

    model: Model
    guessing: str
    learners: int
    seen: float

    @property
    def name(self) -> str:
        return f"{self.model.upper()}, c = {self.guessing} | {self.learners:,} | {self.seen:.0%}"


ROWS = tuple(
    Row(model, guessing, learners, seen)
    for model, guessing in (("2pl", "0"), ("3pl", "0.2"), ("3pl", "Beta(5, 17)"))
    for learners in (2000, 5000)
    for seen in (1.0, 0.5)
) + tuple(Row("3pl", guessing, 1000, 1.0) for guessing in ("0.2", "Beta(5, 17)"))


@dataclass(frozen=True)
class Truth:
    """True parameters of the items of origin and months on the scale, in the same order."""

    ids: tuple[str, ...]
    a: Floats
    b: Floats
    c: Floats

    @classmethod
    def draw(cls, guessing: str, rng: np.random.Generator) -> Truth:
        n = 2 * ITEMS - ANCHORS
        a, b = np.exp(rng.normal(0.1, 0.3, n)), rng.normal(0, 1, n)
        c = rng.beta(5, 17, n) if guessing.startswith("Beta") else np.full(n, float(guessing))
        return cls(tuple(f"i{j:02d}" for j in range(n)), a, b, c)

    def with_moved(self, items: Floats, rng: np.random.Generator) -> Truth:
        b = self.b.copy()
        b[items] += 0.5 * rng.choice([-1, 1], len(items))
        return replace(self, b=b)

    def answers(self, items: Floats, theta: Floats, seen: float, rng: np.random.Generator) -> Responses:
        p = self.c[items] + (1 - self.c[items]) * expit(self.a[items] * (theta[:, None] - self.b[items]))
        x = (rng.random(p.shape) < p).astype(float)
        x[rng.random(p.shape) >= seen] = np.nan
        return Responses.from_wide(x, [self.ids[j] for j in items])


@dataclass(frozen=True)
class Tested:
    """Test results of a month's items. `z`: statistics of log information of items that did not move."""

    p: Floats
    z: Floats
    drifted: float
    lost: float
    at_the_limit: bool
    found: Floats

    @classmethod
    def of(cls, comparison: Comparison, moved: Iterable[str] = ()) -> Tested:
        drift = Drift.from_comparison(comparison)
        losses = losses_of_items(comparison.select(~comparison.across_models), Abilities.normal())
        sound = ~np.isin(drift.item_ids, list(moved))
        flagged = np.isin(drift.item_ids, drift.flagged)
        return cls(
            drift.p[sound],
            np.log(losses.ratio) / losses.log_se,
            float(flagged[sound].mean()),
            len(losses.flagged) / len(drift.item_ids),
            drift.at_the_limit,
            flagged[~sound].astype(float),
        )


@dataclass(frozen=True)
class Month:
    """Results of a simulated pair of months. If one is not linked, there are no further results.

    `by_criterion`: linkings of the first month.
    """

    linkings: tuple[Linking, ...]
    not_linked: int
    by_criterion: dict[tuple[Method, bool], Linking]
    coverage: dict[str, Floats] = field(default_factory=dict)
    tests: dict[str, Tested] = field(default_factory=dict)


def month(row: Row, seed: list[int]) -> Month:
    rng = np.random.default_rng(seed)
    truth = Truth.draw(row.guessing, rng)
    n, origin_items = row.learners, np.arange(ITEMS)
    month_items = np.r_[:ANCHORS, ITEMS : 2 * ITEMS - ANCHORS]

    def one_month(of: Truth = truth) -> Responses:
        return of.answers(month_items, rng.normal(INTERCEPT, SLOPE, n), row.seen, rng)

    of_origin = truth.answers(origin_items, rng.normal(size=n), row.seen, rng)
    origin = fit_em(of_origin, model=row.model, threads=1)
    frozen = anchors_of(origin, usable(origin, truth.ids[:ANCHORS]))
    guessing = dict(zip(frozen.item_ids, frozen.c.tolist(), strict=True)) if row.model == "3pl" else None
    first, second = one_month(), one_month()
    fits = [fit_em(responses, model=row.model, threads=1, guessing=guessing) for responses in (first, second)]
    moved = np.r_[rng.choice(ANCHORS, 2, replace=False), ITEMS + rng.choice(ITEMS - ANCHORS, 2, replace=False)]
    fits.append(fit_em(one_month(truth.with_moved(moved, rng)), model=row.model, threads=1, guessing=guessing))
    linkings = []
    for fit in fits:
        with suppress(LinkingError):
            linkings.append(link_to_anchors(fit, frozen))
    by_criterion = {}
    for method, symmetric in CRITERIA:
        with suppress(LinkingError):
            by_criterion[method, symmetric] = link_to_anchors(fits[0], frozen, method=method, symmetric=symmetric)
    if len(linkings) < len(fits):
        return Month(tuple(linkings[:2]), len(fits) - len(linkings), by_criterion)
    published = Published.from_fit(fits[0], linkings[0], frozen).then(Published.from_anchors(frozen))
    moved_ids = [truth.ids[j] for j in moved]
    tests = {
        "sound": Tested.of(Comparison.from_linked_fit(fits[1], linkings[1], frozen, published)),
        "moved": Tested.of(Comparison.from_linked_fit(fits[2], linkings[2], frozen, published), moved_ids),
    }
    if row.model == "3pl":
        before = published_as_2pl(of_origin, first, frozen.item_ids, frozen)
        tests["sound, across models"] = Tested.of(Comparison.from_linked_fit(fits[1], linkings[1], frozen, before))
        tests["moved, across models"] = Tested.of(
            Comparison.from_linked_fit(fits[2], linkings[2], frozen, before), moved_ids
        )
    return Month(tuple(linkings[:2]), 0, by_criterion, covered_shares(linkings[0].transform(fits[0]), truth), tests)


def published_as_2pl(origin: Responses, first: Responses, ids: tuple[str, ...], anchors: AnchorSet) -> Published:
    """Values of anchors and the month's items that an origin and its first month publish under a 2PL."""
    of_origin, of_month = (fit_em(responses, model="2pl", threads=1) for responses in (origin, first))
    frozen = anchors_of(of_origin, ids)
    values = Published.from_fit(of_month, link_to_anchors(of_month, frozen), frozen)
    values = values.then(replace(Published.from_anchors(frozen), fitted=(FitPopulation("2pl", 0.0, 1.0),) * len(ids)))
    alone = Published.from_values(ItemParameters(values.item_ids, values.a, values.b, values.c, values.cov), anchors)
    return replace(alone, fitted=values.fitted)


def covered_shares(linked: Calibration, truth: Truth) -> dict[str, Floats]:
    """Estimate minus truth, and whether the 95 % interval contains the truth, by parameter, shape (2, …)."""
    index = [truth.ids.index(item) for item in linked.item_ids]
    a, b, c = truth.a[index], truth.b[index], truth.c[index]
    estimates = {
        "a": np.stack([linked.a - a, np.abs(linked.a - a) < Z95 * linked.a_se]),
        "b": np.stack([linked.b - b, np.abs(linked.b - b) < Z95 * linked.b_se]),
    }
    se = np.sqrt(curve_variance(linked, THETAS))
    off = (probability(THETAS, linked.a, linked.d, linked.c) - probability(THETAS, a, -a * b, c)).T
    return estimates | {
        f"P({theta:+.0f})": np.stack([off[:, k], np.abs(off[:, k]) < Z95 * se[:, k]]) for k, theta in enumerate(THETAS)
    }


def curve_variance(fit: Calibration, theta: Floats) -> Floats:
    """Variance of P at θ, by the delta method from the covariance of (a, d, logit c), shape (J, T)."""
    s = expit(np.multiply.outer(theta, fit.a) + fit.d)
    by_eta = (1 - fit.c) * s * (1 - s)
    by_c = (1 - s) * fit.c * (1 - fit.c)
    g = np.stack([by_eta * theta[:, None], by_eta, by_c], axis=-1)
    return np.einsum("tjx,jxy,tjy->jt", g, np.nan_to_num(cov_adc(fit)), g)


def mean(values: object, percent: bool = True) -> str:
    x = np.asarray(values, dtype=float).ravel()
    x = x[np.isfinite(x)]
    se = x.std() / np.sqrt(max(x.size, 1))
    return f"{x.mean():.1%} ± {se:.1%}" if percent else f"{x.mean():+.3f} ± {se:.3f}"


def of_linking(months: list[Month]) -> str:
    linkings = [linking for each in months for linking in each.linkings]
    n = len(linkings) + sum(each.not_linked for each in months)
    cells = [mean(np.arange(n) < len(linkings))]
    for value, se, truth in (("slope", "slope_se", SLOPE), ("intercept", "intercept_se", INTERCEPT)):
        values = np.array([getattr(linking, value) for linking in linkings])
        errors = np.array([getattr(linking, se) for linking in linkings])
        cells += [mean(values - truth, percent=False), f"{values.std():.3f}", f"{np.sqrt(np.mean(errors**2)):.3f}"]
    cells.append(mean([linking.q_p < 0.01 for linking in linkings]))
    cells.append(f"{np.mean([len(linking.anchors_used) for linking in linkings]):.1f}")
    return " | ".join(cells)


def of_criterion(linkings: list[Linking]) -> str:
    cells = []
    for value, truth in (("slope", SLOPE), ("intercept", INTERCEPT)):
        values = np.array([getattr(linking, value) for linking in linkings])
        errors = np.array([getattr(linking, f"{value}_se") for linking in linkings])
        cells += [mean(values - truth, percent=False), f"{values.std():.4f}", f"{np.sqrt(np.mean(errors**2)):.4f}"]
    placed = np.array([linking.slope * (ENDS - INTERCEPT) / SLOPE + linking.intercept for linking in linkings])
    errors_stated = np.array([error_of_linking(x.slope, x.intercept, x.cov, ENDS) for x in linkings])
    for sd, se in zip(placed.std(axis=0), np.sqrt(np.mean(errors_stated**2, axis=0)), strict=True):
        cells += [f"{sd:.4f}", f"{se:.4f}"]
    cells.append(mean((errors_stated > Rules().warnings.warn_linking_error).any(axis=1)))
    return " | ".join(cells)


def of_items(months: list[Month]) -> str:
    whole = [each for each in months if each.coverage]
    cells = []
    for name in ("a", "b", "P(-1)", "P(+0)", "P(+1)"):
        cells.append(mean([np.nanmean(each.coverage[name][1]) for each in whole]))
    for name in ("a", "b"):
        cells.append(f"{np.mean([np.nanmedian(each.coverage[name][0]) for each in whole]):+.3f}")
    return " | ".join(cells)


def of_tests(tests: list[Tested]) -> str:
    cells = [mean([np.mean(each.p < level) for each in tests]) for level in (0.05, 0.01)]
    cells += [mean([each.drifted for each in tests]), f"{np.mean([each.at_the_limit for each in tests]):.0%}"]
    flags = np.concatenate([each.found for each in tests])
    cells.append(mean(flags) if flags.size else "–")
    z = np.concatenate([each.z for each in tests])
    cells += [f"{np.nanstd(z):.2f}" if z.size else "–", mean([each.lost for each in tests]) if z.size else "–"]
    return " | ".join(cells)


LINKING = (
    "c | learners | seen | linked | slope off by | SD | SE | intercept off by | SD | SE | Q: p < .01 | anchors kept"
)
BY_CRITERION = (
    "c | learners | seen | criterion | slope off by | SD | SE | intercept off by | SD | SE | b = −1.28: SD | SE |"
    " b = 1.28: SD | SE | one SE > 0.10"
)
OF_ITEMS = (
    "c | learners | seen | a covered | b covered | P(−1) covered | P(0) covered | P(1) covered | a off by | b off by"
)
OF_TESTS = (
    "c | learners | seen | month | p < .05 | p < .01 | sound items flagged | at the limit | moved found | SD of z of"
    " information | items that lost it"
)


def _month(task: tuple[Row, list[int]]) -> Month:
    return month(*task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=200, help="a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    results = {}
    with Pool(arguments.processes) as pool:
        for k in arguments.rows:
            row = ROWS[k]
            results[row] = pool.map(
                _month, [(row, [arguments.seed, k, m]) for m in range(arguments.months)], chunksize=4
            )
    print(f"| {BY_CRITERION} |\n|---|" + "--:|" * BY_CRITERION.count("|"))
    for row, months in results.items():
        for criterion in CRITERIA:
            name = f"{criterion[0]}, symmetric" if criterion[1] else criterion[0]
            linkings = [each.by_criterion[criterion] for each in months if criterion in each.by_criterion]
            print(f"| {row.name} | {name} | {of_criterion(linkings)} |")
    print()
    for head, cells in ((LINKING, of_linking), (OF_ITEMS, of_items)):
        print(f"| {head} |\n|---|" + "--:|" * head.count("|"))
        for row, months in results.items():
            print(f"| {row.name} | {cells(months)} |")
        print()
    print(f"| {OF_TESTS} |\n|---|" + "--:|" * OF_TESTS.count("|"))
    for row, months in results.items():
        for name in ("sound", "moved", "sound, across models", "moved, across models"):
            if tests := [each.tests[name] for each in months if name in each.tests]:
                print(f"| {row.name} | {name} | {of_tests(tests)} |")


if __name__ == "__main__":
    main()
