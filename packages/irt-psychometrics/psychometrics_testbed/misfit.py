"""Pairs of windows whose learners guess, answer at random, skip the end, or have a second ability or testlets.

The origin has 40 items. The month has 20 of them and 20 new items, and θ with mean .5 and SD 1.2 in the origin's unit.
Both are fitted with the defaults of a new scale, and compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import expit

from irt_psychometrics import Calibration, PsychometricsError
from irt_psychometrics.core.models import Floats
from irt_psychometrics.estimation import Latent, Shape, fit_em
from irt_psychometrics.itemfit import Window
from irt_psychometrics.itemfit.misfit import Change
from irt_psychometrics.items import Model
from irt_psychometrics.linking import AnchorLimits, LinkingError, link_to_anchors
from irt_psychometrics.responses import Responses
from irt_psychometrics.simulation import ScoredItems
from psychometrics_testbed.abilities import abilities
from psychometrics_testbed.anchors import anchors_of
from psychometrics_testbed.graded import GradedItems

SLOPE, INTERCEPT = 1.2, 0.5
ITEMS, ANCHORS = 40, 20
BLOCK = 10
TESTLET = 5
CORRECT_AT_RANDOM = 0.25


@dataclass(frozen=True)
class World:
    """A world of learners and their ways of answering.

    Attributes:
        theta: distribution of θ.
        guessing: c of every item.
        second: share of items that measure a second ability, and its correlation with θ.
        testlet_sd: SD of the effects of testlets of five items.
        random: share of learners who answer at random.
        unreached: share of learners who do not reach the last 2 to 12 items, which are scored wrong.
        scores: scores of every item, if they are not 0 and 1.
        graded: whether a graded response model (`GradedItems`) gives the answers.
    """

    theta: str = "normal"
    guessing: float = 0.0
    second: tuple[float, float] = (0.0, 1.0)
    testlet_sd: float = 0.0
    random: float = 0.0
    unreached: float = 0.0
    scores: tuple[int, ...] = (0, 1)
    graded: bool = False

    def answers(self, bank: Bank, items: np.ndarray, n: int, slope: float, intercept: float, forms: bool,
                rng: np.random.Generator) -> Responses:  # fmt: skip
        theta = slope * abilities(self.theta, n, rng) + intercept
        share, correlation = self.second
        other = correlation * theta + np.sqrt(1 - correlation**2) * slope * rng.normal(size=n)
        other += (1 - correlation) * intercept
        of_other = bank.kind[items] < share
        gamma = self.testlet_sd * rng.normal(size=(n, bank.a.size // TESTLET))
        z = np.where(of_other, other[:, None], theta[:, None]) + gamma[:, items // TESTLET] - bank.b[items]
        p = self.guessing + (1 - self.guessing) * expit(bank.a[items] * z)
        p[rng.random(n) < self.random] = CORRECT_AT_RANDOM
        x = (rng.random(p.shape) < p).astype(float)
        categories = None
        if len(self.scores) > 2:
            scored = self.items(bank)
            x = scored.scores(rng.random(z.size), z.ravel(), np.tile(items, n)).reshape(z.shape).astype(float)
            categories = scored.max_scores[items] + 1
        seen = np.ones(x.shape, dtype=bool)
        if forms:
            first = rng.integers(0, len(items) // BLOCK, n)
            block = np.arange(len(items)) % (len(items) // BLOCK)
            seen = (block == first[:, None]) | (block == (first[:, None] + 1) % (len(items) // BLOCK))
        order = rng.permutation(len(items))
        late = rng.random(n) < self.unreached
        reached = np.cumsum(seen[:, order], axis=1) <= (seen.sum(axis=1) - rng.integers(2, 13, n))[:, None]
        unreached = np.empty_like(reached)
        unreached[:, order] = ~reached
        x[late[:, None] & unreached] = 0.0
        x[~seen] = np.nan
        return Responses.from_wide(x, [bank.ids[j] for j in items], categories)

    def items(self, bank: Bank) -> ScoredItems:
        return _scored(self.scores, self.graded, tuple(bank.a), tuple(bank.b))


@lru_cache(maxsize=1)
def _scored(scores: tuple[int, ...], graded: bool, a: tuple[float, ...], b: tuple[float, ...]) -> ScoredItems:
    """Draw the scored items of a bank, from its b. Cached, as finding a graded model takes seconds."""
    rng = np.random.default_rng(round(1e6 * b[0]) % 2**32)
    kind = GradedItems if graded else ScoredItems
    return kind.draw(rng, [scores] * len(a), np.array(a), np.array(b))


@dataclass(frozen=True)
class Bank:
    """A bank.

    `kind` decides which ability an item measures: uniform on [0, 1), evenly spread over anchors and others.
    """

    a: Floats
    b: Floats
    kind: Floats
    ids: list[str]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Bank:
        n = 2 * ITEMS - ANCHORS
        kind = np.concatenate([(rng.permutation(20) + 0.5) / 20 for _ in range(n // 20)])
        return cls(np.exp(rng.normal(0.1, 0.3, n)), rng.normal(0, 1, n), kind, [f"i{j:03d}" for j in range(n)])


@dataclass(frozen=True)
class Row:
    name: str
    origin: World
    month: World
    learners: tuple[int, int] = (2000, 2000)
    forms: bool = False


SOUND = World()
SCORED = World(scores=(0, 1, 2, 3))
GRADED = World(scores=(0, 1, 2, 3), graded=True)
TWO = World(second=(0.2, 0.7))
TWO_ABILITIES = World(second=(0.5, 0.8))
TESTLETS = World(testlet_sd=0.7)
GUESS = World(guessing=0.2)


def row_of(
    name: str, origin: World, *, learners: tuple[int, int] = (2000, 2000), forms: bool = False, **new: object
) -> Row:
    return Row(name, origin, World(**(vars(origin) | new)), learners, forms)  # type: ignore[arg-type]


SPEEDED = {"unreached": 0.2}
RANDOM = {"random": 0.1}
DESIGNS: dict[str, World] = {
    "sound": SOUND,
    "χ²₄": World("χ²₄"),
    "8 of 40 on a second ability (ρ .7)": TWO,
    "20 of 40 on a second ability (ρ .8)": TWO_ABILITIES,
    "testlets, SD .7": TESTLETS,
    "guessing, c = .2": GUESS,
}
CHOOSING = (
    *(row_of(f"{name}: as before", world) for name, world in DESIGNS.items()),
    *(row_of(f"{name}: 10 % at random", world, **RANDOM) for name, world in DESIGNS.items()),
    *(row_of(f"{name}: 20 % not reached", world, **SPEEDED) for name, world in DESIGNS.items()),
)


@dataclass(frozen=True)
class Month:
    change: Change
    guessing: bool
    slope: float
    intercept: float
    q_p: float


def fit_shape(responses: Responses) -> tuple[Calibration, bool]:
    def one(some: Responses, model: Model, latent: Latent, **options: Any) -> Calibration:
        return fit_em(some, model=model, latent=latent, threads=1, **options)

    scored = responses.categories is not None
    calibration, shape = Shape.fit(one, responses, "gpcm" if scored else "2pl", "auto")
    return calibration, shape.guessing


def simulate(row: Row, seed: list[int]) -> Month:
    rng = np.random.default_rng(seed)
    bank = Bank.draw(rng)
    of_month = np.r_[:ANCHORS, ITEMS : 2 * ITEMS - ANCHORS]
    before = row.origin.answers(bank, np.arange(ITEMS), row.learners[0], 1.0, 0.0, row.forms, rng)
    now = row.month.answers(bank, of_month, row.learners[1], SLOPE, INTERCEPT, row.forms, rng)
    origin, _ = fit_shape(before)
    month, guessing = fit_shape(now)
    try:
        linking = link_to_anchors(
            month, anchors_of(origin, tuple(bank.ids[:ANCHORS])), limits=AnchorLimits(min_anchor_responses=1)
        )
    except (LinkingError, PsychometricsError):  # too few anchors agree, or the items cannot be linked
        linking = None
    change = Window(now, month).compare_with(Window(before, origin), guessing=guessing, threads=1)
    if linking is None:
        return Month(change, guessing, np.nan, np.nan, 0.0)
    return Month(change, guessing, linking.slope, linking.intercept, linking.q_p)
