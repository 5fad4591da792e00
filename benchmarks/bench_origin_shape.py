"""Pairs of an origin and a month under a 3PL: how far their linking is off by the distribution of θ that each is fitted
with.

    python -m benchmarks.bench_origin_shape [PAIRS]

40 items, c = .2, all of them anchors, 2000 learners a window; θ is a gamma variable with mean 0, SD 1 and the given
skewness; the month's learners have mean −.43 and SD 1.08. A row says how far slope and intercept are from these, with
the Monte-Carlo error; `each its own`: each window decides by itself; `the origin's`: as months are fitted.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from irt_assets.psychometrics.core.models import Calibration, Floats, Responses
from irt_assets.psychometrics.core.options import Latent, Model
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.latent_shape import fit_with_origins_shape, fit_with_shape
from irt_assets.psychometrics.linking.linking import Linking, link
from testbed.anchors import anchors_of

ITEMS, LEARNERS, GUESSING = 40, 2000, 0.2
INTERCEPT, SLOPE = -0.43, 1.08
SKEWNESS = ((0.0, 0.0), (0.35, 0.35), (-0.35, -0.35), (0.0, 0.8), (0.0, -0.8))
LOOSE = Rules.from_settings({"min_anchor_responses": 1, "min_anchors": 3, "min_anchor_share": 0.1})
IDS = tuple(f"i{j:02d}" for j in range(ITEMS))


@dataclass(frozen=True)
class Pair:
    own: Linking
    origins: Linking
    shapes: tuple[Latent, Latent]
    held: bool


def main(pairs: int) -> None:
    print("| skewness of origin, month | fitted with | slope − 1.08 | intercept + .43 | other shape asked for | held |")
    print("|---|---|--:|--:|--:|--:|")
    for skewness in SKEWNESS:
        found = [simulate(skewness, seed) for seed in range(pairs)]
        asked = sum(pair.shapes == ("normal", "histogram") for pair in found)
        held = sum(pair.held for pair in found)
        for name, linkings in (
            ("each its own", [pair.own for pair in found]),
            ("the origin's", [pair.origins for pair in found]),
        ):
            error = np.array([[one.slope - SLOPE, one.intercept - INTERCEPT] for one in linkings])
            mean, spread = error.mean(axis=0), error.std(axis=0, ddof=1) / np.sqrt(pairs)
            cells = " | ".join(f"{m:+.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True))
            print(
                f"| {skewness[0]:+g}, {skewness[1]:+g} | {name} | {cells} | {asked} of {pairs} | {held} of {pairs} |",
                flush=True,
            )


def simulate(skewness: tuple[float, float], seed: int) -> Pair:
    rng = np.random.default_rng([seed, *(int(100 * abs(one)) + (one < 0) for one in skewness)])
    bank = np.exp(rng.normal(0.1, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    before = answers(theta(skewness[0], rng), *bank, rng)
    now = answers(INTERCEPT + SLOPE * theta(skewness[1], rng), *bank, rng)
    origin, origin_shape = fit_with_shape(fit, before, "3pl", "auto")
    own, own_shape = fit_with_shape(fit, now, "3pl", "auto")
    month, _, asked_for = fit_with_origins_shape(fit, now, "3pl", origin_shape.latent)
    known = np.isfinite(origin.cov).all(axis=(1, 2))
    anchors = anchors_of(origin, tuple(item for item, kept in zip(origin.item_ids, known, strict=True) if kept))
    by_own, by_origins = (link(one, anchors, rules=LOOSE) for one in (own, month))
    held = asked_for is not None and (
        abs(by_own.slope - by_origins.slope) > by_origins.slope_se
        or abs(by_own.intercept - by_origins.intercept) > by_origins.intercept_se
    )
    return Pair(by_own, by_origins, (origin_shape.latent, own_shape.latent), held)


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
