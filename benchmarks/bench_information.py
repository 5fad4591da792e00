"""False alarms and power of the test for lost information, and the accuracy of its standard errors.

    python -m benchmarks.bench_information sound --months 100     # nothing moved
    python -m benchmarks.bench_information lost --months 60       # a tenth of the items at a share of their a

a ~ LogNormal(0, 0.3), b ~ N(0, 1); 30 items. The first items, by default all, are anchors from a fit to N learners
θ ~ N(0, 1). The other items are published from a second such fit, linked to the anchors. The month is a fit to N other
learners θ ~ N(0.5, 1.2²). *Plain* is the rule without the bound: ratio below 0.8.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.bench_drift import MEAN, SD, anchors_of
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.drift.errors import Comparison, Published
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.information.functions import Abilities, loss_of_test, losses_of_items
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import LinkingError
from psychometrics_testbed.made_anchors import with_errors_of

ITEMS = 30


def fit_month(
    rng: np.random.Generator, n: int, a: np.ndarray, b: np.ndarray, c: float, mean: float, sd: float
) -> Calibration:
    """Simulate and fit a 2PL, or a 3PL if learners guess."""
    p = c + (1 - c) / (1 + np.exp(-a * (rng.normal(mean, sd, (n, 1)) - b)))
    responses = Responses.from_wide((rng.random(p.shape) < p).astype(float), [f"i{j:03d}" for j in range(ITEMS)])
    return fit_em(responses, model="3pl" if c else "2pl", threads=1)


def month(rng: np.random.Generator, n: int, anchored: int, c: float, share: np.ndarray) -> Comparison:
    """Compare published values with a month in which items keep these shares of their a, shape (ITEMS,)."""
    a, b = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    old = fit_month(rng, n, a, b, c, 0.0, 1.0)
    frozen = anchors_of(old, (np.arange(ITEMS) < anchored) & np.isfinite(old.b_se))
    anchors = with_errors_of(frozen, old)
    published = Published.from_anchors(anchors)
    if anchored < ITEMS:
        later = fit_month(rng, n, a, b, c, 0.0, 1.0)
        published = Published.from_fit(later, link_to_anchors(later, frozen), anchors).then(published)
    new = fit_month(rng, n, a * share, b, c, MEAN, SD)
    linking = link_to_anchors(new, frozen)
    return Comparison.from_linked_fit(new, linking, anchors, published)


def run(options: argparse.Namespace, share: float) -> None:
    print(
        "| N | anchors | a kept | months | sound flagged | sound, plain rule | lost found | lost, plain rule |", end=""
    )
    print(" z of sound: mean | SD | test flagged | certain | z of the test's log ratio: mean | SD |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for n in options.n:
        flags: dict[bool, list[bool]] = {True: [], False: []}
        plain: dict[bool, list[bool]] = {True: [], False: []}
        z, test_z, test_flags, certain, months = [], [], [], [], 0
        for k in range(options.months):
            rng = np.random.default_rng([options.seed, n, k])
            shares = np.where(np.isin(np.arange(ITEMS), rng.choice(ITEMS, ITEMS // 10, replace=False)), share, 1.0)
            try:
                results = month(rng, n, options.anchors, options.guessing, shares)
            except LinkingError:
                continue
            months += 1
            results = Drift.from_comparison(results).comparison
            items = losses_of_items(results, Abilities.normal())
            sound = shares[[int(item[1:]) for item in items.item_ids]] == 1
            for is_changed in (True, False):
                flags[is_changed] += list(np.isin(items.item_ids, items.flagged)[sound == is_changed])
                plain[is_changed] += list((items.ratio < 0.8)[sound == is_changed])
            z += list((np.log(items.ratio) / items.log_se)[sound & (items.ratio > 0)])
            test = loss_of_test(results, Abilities.normal())
            test_z.append(np.log(test.ratio) / test.log_se)
            test_flags.append(test.flagged)
            certain.append(test.flagged and test.certain)
        lost = f"{np.mean(flags[False]):.3f} | {np.mean(plain[False]):.3f}" if flags[False] else "– | –"
        print(
            f"| {n} | {options.anchors} | {share} | {months} |"
            f" {np.mean(flags[True]):.2%} | {np.mean(plain[True]):.1%} | {lost} |"
            f" {np.mean(z):+.2f} | {np.std(z):.2f} | {np.mean(test_flags):.1%} | {np.mean(certain):.1%} |"
            f" {np.mean(test_z):+.2f} | {np.std(test_z, axis=0).mean():.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sound", "lost"])
    parser.add_argument("--n", type=int, nargs="*", default=[500, 1000, 2000, 5000])
    parser.add_argument("--kept", type=float, nargs="*", default=[0.8, 0.7, 0.6], help="share of a that is kept")
    parser.add_argument("--anchors", type=int, default=ITEMS)
    parser.add_argument("--guessing", type=float, default=0.0, help="c of all items; above 0 a 3PL is fitted")
    parser.add_argument("--months", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    for share in [1.0] if options.what == "sound" else options.kept:
        run(options, share)


if __name__ == "__main__":
    main()
