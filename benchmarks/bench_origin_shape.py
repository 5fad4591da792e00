"""Linking errors of pairs of an origin and a month under a 3PL, by the distribution of θ that each is fitted with.

    python -m benchmarks.bench_origin_shape [--pairs 60] [--learners 2000] [--seed 0] [--auto] [--varied] [--rows 7 8]

Each window has 40 items, of which 20 are in both windows (the anchors); a ~ U(.6, 1.8), b from two normal distributions
around −.8 and .8, c = .2. With `--varied` it has 36 items, of which 12 are anchors, and c ~ U(.1, .3). As on the
platform, the c of a month's anchors is known. θ has mean 0 and SD 1, and is a gamma variable with the given skewness
(χ²₄: 1.41), or uniform (`flat`); the month's learners have mean −.5 and SD 1.2. Pairs with the same number have the
same items, and a window of one shape may be used in several rows. A row shows the errors of slope and intercept with
their Monte Carlo error, the ratio of the mean reported error to the SD over pairs, and the share of 95 % intervals that
contain the truth. `--auto`: only pairs in which both windows have the rule `auto`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import Latent, LatentRule, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.latent_shape import Shape
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import AnchorLimits
from psychometrics_testbed.anchors import anchors_of


class Design(NamedTuple):
    """Number of items and of anchors of a window, and the limits of c."""

    items: int
    anchors: int
    guessing: tuple[float, float]


SAME_C, VARIED_C = Design(40, 20, (0.2, 0.2)), Design(36, 12, (0.1, 0.3))
INTERCEPT, SLOPE = -0.5, 1.2
SHAPES = (
    ("0", "0"), ("+.35", "+.35"), ("−.35", "−.35"), ("+.71", "+.71"), ("−.71", "−.71"), ("0", "+.8"), ("0", "−.8"),
    ("0", "flat"), ("χ²₄", "χ²₄"),
)  # fmt: skip
"""Skewness of θ in the origin and the month."""
RULES: tuple[tuple[LatentRule, LatentRule], ...] = (("normal", "normal"), ("normal", "auto"), ("auto", "auto"))
"""Rules of the origin and the month."""
LOOSE = AnchorLimits(min_anchor_responses=1, min_anchors=3)
Z95 = 1.959964
HEAD = (
    "skewness of origin, month | learners | rule of each | slope − 1.2 | SD | covered | intercept + .5 | SD | covered"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60, help="a row")
    parser.add_argument("--learners", type=int, default=2000, help="a window")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first pair")
    parser.add_argument("--auto", action="store_true")
    parser.add_argument("--varied", action="store_true")
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(SHAPES)))
    arguments = parser.parse_args()
    rules, design = RULES[2:] if arguments.auto else RULES, VARIED_C if arguments.varied else SAME_C
    shapes = [SHAPES[k] for k in arguments.rows]
    pairs_simulated = np.array(
        [simulate(arguments.learners, arguments.seed + k, rules, design, shapes) for k in range(arguments.pairs)]
    )
    print(table(pairs_simulated, arguments.learners, rules, shapes))


def simulate(
    learners: int,
    seed: int,
    rules: Sequence[tuple[LatentRule, LatentRule]],
    design: Design,
    shapes: Sequence[tuple[str, str]],
) -> Floats:
    """Returns slope, intercept and their errors by shapes and rules, shape (len(shapes), len(rules), 4)."""
    bank = np.random.default_rng([seed, learners])
    n_items, n_anchors, n = design.items, design.anchors, 2 * design.items - design.anchors
    a = bank.uniform(0.6, 1.8, n)
    b = np.where(bank.random(n) < 0.5, bank.normal(-0.8, 0.5, n), bank.normal(0.8, 0.6, n))
    c = bank.uniform(*design.guessing, n)
    ids = [f"i{j:02d}" for j in range(n)]

    def answers(theta: Floats, items: Ints, rng: np.random.Generator) -> Responses:
        p = c[items] + (1 - c[items]) * expit(a[items] * (theta[:, None] - b[items]))
        return Responses.from_wide((rng.random(p.shape) < p).astype(float), [ids[j] for j in items])

    @cache
    def origin(shape: str, rule: LatentRule) -> Calibration:
        rng = np.random.default_rng([seed, learners, False, *map(ord, shape)])
        responses = answers(abilities(shape, learners, rng), np.arange(n_items), rng)
        return Shape.fit(fit, responses, "3pl", rule)[0]

    @cache
    def window(shape: str) -> Responses:
        rng = np.random.default_rng([seed, learners, True, *map(ord, shape)])
        return answers(INTERCEPT + SLOPE * abilities(shape, learners, rng), np.r_[:n_anchors, n_items:n], rng)

    def linked(before: str, now: str, first: LatentRule, second: LatentRule) -> tuple[float, float, float, float]:
        fitted = origin(before, first)
        with_errors = {item for item, cov in zip(fitted.item_ids, fitted.cov, strict=True) if np.isfinite(cov).all()}
        anchors = anchors_of(fitted, tuple(item for item in ids[:n_anchors] if item in with_errors))
        as_month = partial(fit, guessing=dict(zip(anchors.item_ids, anchors.c.tolist(), strict=True)))
        linking = link_to_anchors(Shape.fit(as_month, window(now), "3pl", second)[0], anchors, limits=LOOSE)
        return linking.slope, linking.intercept, linking.slope_se, linking.intercept_se

    return np.array([[linked(before, now, first, second) for first, second in rules] for before, now in shapes])


def abilities(shape: str, learners: int, rng: np.random.Generator) -> Floats:
    if shape == "flat":
        return rng.uniform(-np.sqrt(3), np.sqrt(3), learners)
    skewness = np.sqrt(2) if shape == "χ²₄" else float(shape.replace("−", "-"))
    if skewness == 0:
        return rng.standard_normal(learners)
    k = 4 / skewness**2
    return np.sign(skewness) * (rng.gamma(k, 1.0, learners) - k) / np.sqrt(k)


def fit(responses: Responses, model: Model, latent: Latent, **options: Any) -> Calibration:
    return fit_em(responses, model=model, latent=latent, **options)


def table(
    results: Floats,
    learners: int,
    rules: Sequence[tuple[LatentRule, LatentRule]],
    shapes_of_rows: Sequence[tuple[str, str]],
) -> str:
    """Return the table. `results`: results of `simulate`, by pair."""
    lines = [f"| {HEAD} |", "|---|--:|---" + "|--:" * 8 + "|"]
    for i, shapes in enumerate(shapes_of_rows):
        for k, rule in enumerate(rules):
            error, se = results[:, i, k, :2] - (SLOPE, INTERCEPT), results[:, i, k, 2:]
            sd, covered = error.std(axis=0, ddof=1), (np.abs(error) < Z95 * se).mean(axis=0)
            cells = [
                f"{error[:, x].mean():+.3f} ± {sd[x] / np.sqrt(len(results)):.3f} | {sd[x]:.3f} | "
                f"{se[:, x].mean() / sd[x]:.2f} | {covered[x]:.0%}"
                for x in range(2)
            ]
            lines.append(f"| {', '.join(shapes)} | {learners:,} | {', '.join(rule)} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
