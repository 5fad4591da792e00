"""Scored items together with items of 0 and 1: constants, drift, information and DIF, from fits to answers.

    python -m benchmarks.bench_scored_comparisons months --sets 120 --moved 0.08
    python -m benchmarks.bench_scored_comparisons months --sets 100 --drawn
    python -m benchmarks.bench_scored_comparisons groups --sets 100 --model pcm

*Months*: 30 items, 15 of them with 2 to 4 points, all of them anchors, and N other learners N(.5, 1.2²) in the month.
Estimates are fitted to answers, or (`--drawn`) drawn with their errors.
*Groups*: 10 items, half of them scored; N learners N(0, 1) and N of N(−.5, 1²). One item, a different
one each time, has all its steps moved so that its two curves differ by a wABC of `--moved`; both kinds of items move by
the same amount. For the other items, the table shows the share of p < .05 by kind of item.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dif.analysis import Dif
from irt_psychometrics.drift.errors import Comparison, Published
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.information.functions import Abilities, losses_of_items
from irt_psychometrics.linking.linking import link_to_anchors
from psychometrics_testbed.anchors import usable
from psychometrics_testbed.linked_months import INTERCEPT, SLOPE, ids
from psychometrics_testbed.made_anchors import anchors_of_items
from psychometrics_testbed.scored_estimates import ScoredItems

Found = dict[str, list[float]]


def moved_by(truth: ScoredItems, j: int, area: float) -> np.ndarray:
    """Movement of each item's steps: item `j` by the amount that gives this wABC, other items by 0."""
    grid, of_j = Grid.symmetric(), np.arange(truth.size) == j

    def share(items: ScoredItems) -> np.ndarray:
        score = model_of(items.models).expected_score(grid.nodes, items.parameters, items.categories)[j]
        return score / (items.categories[j] - 1)

    def beyond(by: float) -> float:
        return np.exp(grid.log_weights()) @ np.abs(share(truth.moved(by * of_j)) - share(truth)) - area

    return brentq(beyond, 0.0, 10.0) * of_j if area else 0.0 * of_j


def month(rng: np.random.Generator, args: argparse.Namespace, results: Found) -> None:
    truth = ScoredItems.draw(rng, (1, 3, 1, 2, 4, 1) * 5, args.model, args.others)
    moved = int(rng.integers(truth.size))
    by = moved_by(truth, moved, args.moved)

    def fitted(items: ScoredItems, mean: float, sd: float):
        if args.drawn:
            return items.rescaled(sd, mean).estimated(rng, args.learners)
        return fit_em(items.answers(rng, rng.normal(mean, sd, args.learners)), model=items.models, threads=1)

    origin = fitted(truth, 0.0, 1.0)
    anchors = anchors_of_items(origin.select(np.isin(origin.item_ids, usable(origin, origin.item_ids))).items)
    new = fitted(truth.moved(by), INTERCEPT, SLOPE)
    linking = link_to_anchors(new, anchors)
    half, slope = student.ppf(0.975, len(linking.anchors_used) - 1), 1.0 if args.model == "pcm" else SLOPE
    results["slope covered"].append(abs(linking.slope - slope) <= half * linking.slope_se)
    results["intercept covered"].append(abs(linking.intercept - INTERCEPT) <= half * linking.intercept_se)
    results["bias of the intercept"].append(linking.intercept - INTERCEPT)
    comparison = Comparison.from_linked_fit(new, linking, anchors, Published.from_anchors(anchors))
    drift, losses = Drift.from_comparison(comparison), losses_of_items(comparison, Abilities.normal())
    of_moved = ids(truth.size)[moved] if args.moved else ""
    kinds = dict(zip(ids(truth.size), np.where(truth.categories > 2, "scored", "0/1"), strict=True))
    for item, p, p_loss in zip(comparison.item_ids, drift.p, losses.p, strict=True):
        if item == of_moved:
            results[f"moved, {kinds[item]}: flagged"].append(item in drift.flagged)
        else:
            results[f"drift, {kinds[item]}: p < .05"].append(p < 0.05)
            results[f"information, {kinds[item]}: p < .05"].append(p_loss < 0.05)
            results["sound, flagged"].append(item in drift.flagged)


def groups(rng: np.random.Generator, args: argparse.Namespace, results: Found) -> None:
    truth, n = ScoredItems.draw(rng, (1, 3, 2, 1, 1, 3, 2, 4, 1, 1), args.model, args.others), args.learners
    theta, moved = np.r_[rng.normal(0, 1, n), rng.normal(-0.5, 1, n)], int(rng.integers(truth.size))
    by = moved_by(truth, moved, args.moved)
    both = truth.answers(rng, theta[:n]), truth.moved(by).answers(rng, theta[n:])
    scores = np.vstack([group.score.reshape(n, -1) for group in both]).astype(float)
    responses = Responses.from_wide(scores, ids(truth.size), truth.categories)
    forms = ["form"] * responses.n_responses
    dif = Dif.from_responses("group", responses, ["a"] * n + ["b"] * n, forms=forms, model=truth.models, threads=1)
    assert dif.wald is not None, dif.reason
    assert dif.within_forms is not None
    for j, (mh, mantel) in enumerate(zip(dif.within_forms.mantel_haenszel[0], dif.within_forms.mantel[0], strict=True)):
        within = mh or mantel
        kind = "scored" if truth.categories[j] > 2 else "0/1"
        if args.moved and j == moved:
            results[f"moved, {kind}: q < .05"].append(dif.wald.q[j] < 0.05)
        elif within is not None:
            results[f"Wald, {kind}: p < .05"].append(dif.wald.p[j] < 0.05)
            results[f"within forms, {kind}: p < .05"].append(within.p < 0.05)
            results[f"within forms, {kind}: B or C"].append(within.ets_class != "A")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("months", "groups"))
    parser.add_argument("--sets", type=int, default=100)
    parser.add_argument("--learners", type=int, default=2000)
    parser.add_argument("--moved", type=float, default=0.0)
    parser.add_argument("--drawn", action="store_true")
    parser.add_argument("--model", choices=("gpcm", "pcm"), default="gpcm")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.others = "2pl" if args.model == "gpcm" else "rasch"
    results: Found = defaultdict(list)
    for s in range(args.sets):
        (month if args.what == "months" else groups)(np.random.default_rng([args.seed, s]), args, results)
    for name, values in sorted(results.items()):
        print(f"{name}: {np.mean(values):.3f} of {len(values)}")


if __name__ == "__main__":
    main()
