"""Months whose answers within testlets depend on each other, fitted without and with the testlets.

N learners answer 40 items in a month, logit P = a(θ + γ − b), θ ~ N(0, 1), γ ~ N(0, σ²) for each learner and testlet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from irt_psychometrics import Calibration
from irt_psychometrics.core.models import Floats
from irt_psychometrics.core.testlets import number_testlets
from irt_psychometrics.estimation import Effects, estimate_effect_sd, fit_em
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import Curves, Scores
from irt_psychometrics.scoring.abilities import eap, eap_by

ITEMS = 40
IDS = [f"i{j:02d}" for j in range(ITEMS)]
PSEUDO_TRUE_LEARNERS = 400_000


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        sd: σ of the testlet effects.
        inside: number of items in testlets.
        size: items per testlet.
        design: "complete"; "testlets", each learner sees a random half of the runs of `size` items; or "items", each
            item is seen with probability ½.
        learners: number of learners.
    """

    sd: float
    inside: int = ITEMS
    size: int = 5
    design: str = "complete"
    learners: int = 2000

    @property
    def testlets(self) -> dict[str, str]:
        return {IDS[j]: f"t{j // self.size}" for j in range(self.inside)}

    @property
    def label(self) -> str:
        share = f"{self.inside} in {self.inside // self.size} of {self.size}"
        return f"{self.sd:g} | {share} | {self.design} | {self.learners:,}"


def answers(row: Row, learners: int, a: Floats, b: Floats, rng: np.random.Generator) -> tuple[Floats, Responses]:
    """Draw θ of the learners and their responses."""
    theta = rng.normal(size=learners)
    effects = row.sd * rng.normal(size=(learners, ITEMS // row.size))
    shared = np.where(np.arange(ITEMS) < row.inside, np.repeat(effects, row.size, axis=1), 0.0)
    x = (rng.random((learners, ITEMS)) < expit(a * (theta[:, None] + shared - b))).astype(float)
    if row.design == "testlets":
        runs = ITEMS // row.size
        seen = np.argsort(rng.random((learners, runs)), axis=1) < runs // 2
        x[~np.repeat(seen, row.size, axis=1)] = np.nan
    elif row.design == "items":
        x[rng.random(x.shape) < 0.5] = np.nan
    return theta, Responses.from_wide(x, IDS)


def bank(seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng([seed, 10**6])
    return np.exp(rng.normal(0.1, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)


def pseudo_true(row: Row, seed: int, learners: int = PSEUDO_TRUE_LEARNERS) -> Calibration:
    """Fit to a very large sample, whose estimates approximate the limits of estimates as samples grow."""
    _, responses = answers(row, learners, *bank(seed), np.random.default_rng([seed, 10**6 + 1]))
    return fit_em(responses, threads=1)


@dataclass(frozen=True)
class Month:
    """Results of a month: σ and its error, and shares within 1.96 errors, before and after."""

    sd: float
    se: float
    theta: tuple[float, float]
    a: tuple[float, float]
    b: tuple[float, float]


def simulate(row: Row, truth: Calibration, seed: int, month: int) -> Month:
    theta, responses = answers(row, row.learners, *bank(seed), np.random.default_rng([seed, month]))
    before = fit_em(responses, threads=1)
    after = fit_em(responses, threads=1, testlets=row.testlets)
    found = estimate_effect_sd(responses, after, row.testlets, threads=1)
    effects = Effects(number_testlets(IDS, row.testlets), found.sd)
    curves = Curves.from_items(after.curves, effects=effects)
    scores = eap(responses, before.a, before.d, before.c, threads=1), eap_by(responses, curves, threads=1)

    def near(scores: Scores) -> float:
        return float(np.mean(np.abs(scores.theta - theta) < 1.96 * scores.se))

    def within(name: str) -> tuple[float, float]:
        shares = [
            float(np.mean(np.abs(getattr(fit, name) - getattr(truth, name)) < 1.96 * getattr(fit, f"{name}_se")))
            for fit in (before, after)
        ]
        return shares[0], shares[1]

    return Month(found.sd, found.se, (near(scores[0]), near(scores[1])), within("a"), within("b"))
