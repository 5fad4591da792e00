"""Single categories of scored items: how often sound ones are named by drift and by DIF, and a moved step is.

    python -m benchmarks.bench_category_changes --replications 20

*Drift*: 40 items of 4 points, all of them anchors; `--learners` in the origin, and the same number N(.3, 1.1²) in each
of three months. In the third month, a middle step of every tenth item has moved by .5, half of them up, half down.
*DIF*: 10 of these items, `--learners` N(0, 1) and the same number N(−.5, 1²); a middle step of one item differs by .5.
A middle step has at least 15 % of the answers on both sides. The moved items' true wABC of P(X ≥ k) is printed, because
a step with a wABC below .05 is not named however certain it is.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np

from irt_psychometrics.core.category_changes import CategoryChanges
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dif.analysis import Dif
from irt_psychometrics.drift.errors import Comparison, Published
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.linking.linking import link_to_anchors
from psychometrics_testbed.linked_months import ids
from psychometrics_testbed.made_anchors import anchors_of_items
from psychometrics_testbed.scored_estimates import ScoredItems

MAX_SCORE, MOVED_BY, MEAN, SD = 4, 0.5, 0.3, 1.1
Moved = dict[int, tuple[int, float]]
"""Item → the step that moved, and its shift."""


def items(rng: np.random.Generator, n: int, model: str) -> ScoredItems:
    """Items with the usual slopes of published scored items: about .9 a point, or 1.5 if graded."""
    found = ScoredItems.draw(rng, (MAX_SCORE,) * n, model)
    if model == "gpcm":
        found.parameters[:] *= 2.2
    return found


def middle_step(truth: ScoredItems, j: int, theta: np.ndarray) -> int | None:
    """The step whose sides have the most equal shares of the answers, if both have at least 15 %."""
    p = model_of(truth.models).probabilities(theta, truth.parameters, truth.categories)[j].mean(axis=0)
    above = 1 - p.cumsum()[:-1]
    k = int(np.abs(above - 0.5).argmin())
    return k + 1 if 0.15 <= above[k] <= 0.85 else None


def area(truth: ScoredItems, j: int, k: int, by: float) -> float:
    """True wABC of P(X ≥ k) over N(0, 1)."""
    grid, model = Grid.symmetric(), model_of(truth.models)
    p = [
        model.probabilities(grid.nodes, one.parameters, one.categories)[j, :, k:].sum(axis=1)
        for one in (truth, truth.with_step_moved(j, k, by))
    ]
    return float(np.exp(grid.log_weights()) @ np.abs(p[1] - p[0]))


def move(truth: ScoredItems, candidates: np.ndarray, theta: np.ndarray) -> tuple[ScoredItems, Moved]:
    moved: Moved = {}
    for n, j in enumerate(candidates.tolist()):
        if (k := middle_step(truth, j, theta)) is not None:
            moved[j] = k, MOVED_BY * (-1) ** n
    now = truth
    for j, (k, by) in moved.items():
        now = now.with_step_moved(j, k, by)
    return now, moved


def record(results: dict[str, list[float]], found: CategoryChanges, truth: ScoredItems, moved: Moved) -> None:
    sound = set(range(truth.size)) - set(moved)
    named = set(found.item[found.named].tolist())
    results["sound items with a named category"] += [j in named for j in sound]
    results["categories of sound items, p < .05"] += (found.p[np.isin(found.item, [*sound])] < 0.05).tolist()
    for j, (k, by) in moved.items():
        size = area(truth, j, k, by)
        is_named = bool(found.named[(found.item == j) & (found.score == k)].any())
        results["moved steps named"].append(is_named)
        results[f"moved steps named, wABC {'above' if size > 0.07 else 'up to'} .07"].append(is_named)
        results["true wABC of moved steps"].append(size)


def months(rng: np.random.Generator, model: str, learners: int, results: dict[str, list[float]]) -> None:
    truth = items(rng, 40, model)
    origin = fit_em(truth.answers(rng, rng.normal(size=learners)), model=truth.models, threads=1)
    anchors = anchors_of_items(origin.items)
    for month in range(3):
        theta = rng.normal(MEAN, SD, learners)
        now, moved = move(truth, np.arange(0, 40, 10) if month == 2 else np.arange(0), theta)
        responses = now.answers(rng, theta)
        fit = fit_em(responses, model=truth.models, threads=1)
        linking = link_to_anchors(fit, anchors)
        comparison = Comparison.from_linked_fit(fit, linking, anchors, Published.from_anchors(anchors))
        drift = Drift.from_comparison(comparison).with_categories(responses)
        results["sound items flagged as a whole"] += [
            item in drift.flagged for j, item in enumerate(drift.item_ids) if j not in moved
        ]
        record(results, drift.categories, truth, moved)


def groups(rng: np.random.Generator, model: str, learners: int, results: dict[str, list[float]]) -> None:
    truth = items(rng, 10, model)
    theta = rng.normal(0, 1, learners), rng.normal(-0.5, 1, learners)
    now, moved = move(truth, rng.integers(10, size=1), np.concatenate(theta))
    both = truth.answers(rng, theta[0]), now.answers(rng, theta[1])
    scores = np.vstack([one.score.reshape(learners, -1) for one in both]).astype(float)
    responses = Responses.from_wide(scores, ids(truth.size), truth.categories)
    labels = ["a"] * learners + ["b"] * learners
    dif = Dif.from_responses("group", responses, labels, model=truth.models, threads=1)
    assert dif.wald is not None, dif.reason
    record(results, dif.wald.categories["b"], truth, moved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--learners", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for simulate in (months, groups):
        for model in ("gpcm", "grm"):
            results: dict[str, list[float]] = defaultdict(list)
            for s in range(args.replications):
                simulate(np.random.default_rng([args.seed, s]), model, args.learners, results)
            for name, values in results.items():
                print(f"{simulate.__name__}, {model}: {name}: {np.mean(values):.4f} of {len(values)}", flush=True)


if __name__ == "__main__":
    main()
