"""Pairs of an origin and a month under a 3PL: how far their linking is off by the distribution of θ that each is fitted
with.

    python -m tests.benchmarks.bench_origin_shape [PAIRS]

40 items, c = .2, all of them anchors, 2000 learners a window; θ is a gamma variable with mean 0, SD 1 and the given
skewness; the month's learners have mean −.43 and SD 1.08. A row says how far slope and intercept are from these, with
the Monte-Carlo error, and the share of slopes and of intercepts that are beyond two of their standard errors.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy.special import expit

from irt_assets.psychometrics.core.models import Calibration, Floats, Responses
from irt_assets.psychometrics.core.options import Latent, LatentRule, Model
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.latent_shape import fit_with_shape
from irt_assets.psychometrics.linking.linking import link
from tests.testbed.anchors import anchors_of

ITEMS, LEARNERS, GUESSING = 40, 2000, 0.2
INTERCEPT, SLOPE = -0.43, 1.08
SKEWNESS = ((0.0, 0.0), (0.35, 0.35), (-0.35, -0.35), (0.0, 0.8), (0.0, -0.8))
RULES: tuple[tuple[LatentRule, LatentRule], ...] = (("normal", "normal"), ("normal", "auto"), ("auto", "auto"))
"""Of origin and month."""
LOOSE = Rules.from_settings({"min_anchor_responses": 1, "min_anchors": 3, "min_anchor_share": 0.1})
IDS = tuple(f"i{j:02d}" for j in range(ITEMS))


def main(pairs: int) -> None:
    print("| skewness of origin, month | rule of each | slope − 1.08 | SD | intercept + .43 | SD | beyond 2 SE |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for skewness in SKEWNESS:
        found = np.array([simulate(skewness, seed) for seed in range(pairs)])
        for k, rules in enumerate(RULES):
            error, se = found[:, k, :2] - (SLOPE, INTERCEPT), found[:, k, 2:]
            sd = error.std(axis=0, ddof=1)
            slope, intercept = (
                f"{mean:+.3f} ± {spread / np.sqrt(pairs):.3f} | {spread:.3f}"
                for mean, spread in zip(error.mean(axis=0), sd, strict=True)
            )
            beyond = " and ".join(f"{share:.0%}" for share in (np.abs(error) > 2 * se).mean(axis=0))
            print(
                f"| {skewness[0]:+g}, {skewness[1]:+g} | {', '.join(rules)} | {slope} | {intercept} | {beyond} |",
                flush=True,
            )


def simulate(skewness: tuple[float, float], seed: int) -> Floats:
    """By rule: slope, intercept and their errors, shape (len(RULES), 4)."""
    rng = np.random.default_rng([seed, *(int(100 * abs(one)) + (one < 0) for one in skewness)])
    bank = np.exp(rng.normal(0.1, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    before = answers(theta(skewness[0], rng), *bank, rng)
    now = answers(INTERCEPT + SLOPE * theta(skewness[1], rng), *bank, rng)
    asked: tuple[LatentRule, ...] = ("normal", "auto")
    origins, months = ({rule: fit_with_shape(fit, some, "3pl", rule)[0] for rule in asked} for some in (before, now))
    return np.array([linked(origins[of_origin], months[of_month]) for of_origin, of_month in RULES])


def linked(origin: Calibration, month: Calibration) -> tuple[float, float, float, float]:
    known = np.isfinite(origin.cov).all(axis=(1, 2))
    anchors = anchors_of(origin, tuple(item for item, kept in zip(origin.item_ids, known, strict=True) if kept))
    found = link(month, anchors, rules=LOOSE)
    return found.slope, found.intercept, found.slope_se, found.intercept_se


def theta(skewness: float, rng: np.random.Generator) -> Floats:
    if skewness == 0:
        return rng.standard_normal(LEARNERS)
    k = 4 / skewness**2
    return np.sign(skewness) * (rng.gamma(k, 1.0, LEARNERS) - k) / np.sqrt(k)


def answers(theta: Floats, a: Floats, b: Floats, rng: np.random.Generator) -> Responses:
    p = GUESSING + (1 - GUESSING) * expit(a * (theta[:, None] - b))
    return Responses.from_wide((rng.random(p.shape) < p).astype(float), IDS)


def fit(responses: Responses, model: Model, latent: Latent, **how: Any) -> Calibration:
    return fit_em(responses, model=model, latent=latent, **how)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
