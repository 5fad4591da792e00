"""Windows whose items were assigned by a learner's earlier answers, and the bias of parameters fitted to them.

Learners have θ ~ N(0, 1) in the look-back, in which they answer random items of the bank. θ then grows until the
window, in which each learner answers items drawn from those with |b − θ̂| ≤ width, or the nearest items if these are
too few. θ̂ is the EAP of all look-back answers, or θ itself. A third of the bank are anchors, with the errors of a
calibration with 1000 learners. Partial credit items have all their steps at b, and slopes per point. The thresholds of
graded items are `DISTANCE` apart on the scale of a·θ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from irt_psychometrics import Calibration
from irt_psychometrics.core.item_models import ItemCurves, OtherItems
from irt_psychometrics.core.models import Floats
from irt_psychometrics.estimation import EarlierAnswers, fit_em
from irt_psychometrics.estimation.levels import LevelledFit
from irt_psychometrics.items import Model, item_model
from irt_psychometrics.linking import AnchorSet
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import Curves
from irt_psychometrics.scoring.abilities import eap_by
from psychometrics_testbed.linked_months import errors
from psychometrics_testbed.made_anchors import anchor_set_of

ANCHOR_N = 1000
SEEN_OFTEN = 200
DISTANCE = 0.8


@dataclass(frozen=True)
class World:
    """A simulated world.

    Attributes:
        learners, items: their numbers.
        answers: items that each learner answers in the window.
        width: maximum |b − θ̂| of assigned items.
        by: whether items follow the "estimate" from the look-back's answers or the "true" θ.
        lookback: range of the number of answers in the look-back.
        growth: mean and SD of the growth of θ.
        max_score: maximum score of every third item, which is not an anchor.
        scored: model of these items.
    """

    learners: int = 2000
    items: int = 60
    answers: int = 20
    width: float = 1.0
    by: str = "estimate"
    lookback: tuple[int, int] = (5, 40)
    growth: tuple[float, float] = (0.1, 0.3)
    max_score: int = 1
    scored: Model = "gpcm"


@dataclass(frozen=True)
class SimulatedMonth:
    window: Responses
    earlier: Responses
    anchors: AnchorSet
    a: Floats
    b: Floats
    theta: Floats
    scored: Model

    @property
    def models(self) -> list[Model]:
        return [self.scored if n > 2 else "2pl" for n in self.window.n_categories]


def simulate(rng: np.random.Generator, world: World) -> SimulatedMonth:
    N, J = world.learners, world.items
    a, b = np.exp(rng.normal(0, 0.25, J)), rng.normal(0, 1, J)
    most = np.where(np.arange(J) % 3 == 1, world.max_score, 1)
    a /= np.sqrt(most) if world.scored == "gpcm" else 1.0
    before = rng.normal(size=N)
    theta = before + rng.normal(*world.growth, N)
    count = rng.integers(world.lookback[0], world.lookback[1] + 1, N)
    shown = np.argsort(np.argsort(rng.random((N, J)), axis=1), axis=1) < count[:, None]
    first = np.where(shown, _scores(rng.random((N, J)), a * (before[:, None] - b), most, world.scored), np.nan)
    ids = [f"i{j:03d}" for j in range(J)]
    earlier = Responses.from_wide(first, ids, most + 1)
    scored = np.flatnonzero(most > 1)
    steps = np.zeros((int(most.max()) + 1, scored.size))
    steps[1:-1] = np.log(DISTANCE) if world.scored == "grm" else 0.0
    others = (OtherItems(item_model(world.scored), scored, steps, most[scored] + 1),) if scored.size else ()
    items = ItemCurves(a, -a * b, np.zeros(J), others)
    known = before if world.by == "true" else eap_by(earlier, Curves.from_items(items)).theta
    distance = np.abs(b - known[:, None])
    order = np.argsort(np.where(distance <= world.width, rng.random((N, J)) - 1, distance), axis=1)
    window = np.full((N, J), np.nan)
    given = order[:, : world.answers]
    scores = _scores(rng.random(given.shape), a[given] * (theta[:, None] - b[given]), most[given], world.scored)
    np.put_along_axis(window, given, scores, axis=1)
    return SimulatedMonth(
        Responses.from_wide(window, ids, most + 1), earlier, _anchors(rng, a, b, ids), a, b, theta, world.scored
    )


def _scores(drawn: Floats, logit: Floats, most: npt.NDArray[np.integer[Any]], model: Model) -> Floats:
    """Scores 0 … `most` from uniform numbers: the number of k with P(score ≥ k) above the drawn number."""
    if model == "grm":
        k = np.arange(1, most.max() + 1)
        at_least = expit(logit[..., None] - DISTANCE * (k - (most[..., None] + 1) / 2))
        return ((drawn[..., None] < at_least) & (k <= most[..., None])).sum(axis=-1).astype(float)
    k = np.arange(most.max() + 1)
    weights = np.where(k <= most[..., None], np.exp(k * logit[..., None]), 0.0)
    at_least = weights[..., ::-1].cumsum(axis=-1)[..., -2::-1] / weights.sum(axis=-1, keepdims=True)
    found: Floats = (drawn[..., None] < at_least).sum(axis=-1).astype(float)
    return found


def _anchors(rng: np.random.Generator, a: Floats, b: Floats, ids: list[str]) -> AnchorSet:
    indices = np.arange(0, a.size, 3)
    cov = errors(a[indices], b[indices], ANCHOR_N)
    error = np.einsum("jkl,jl->jk", np.linalg.cholesky(cov), rng.standard_normal((indices.size, 2)))
    return anchor_set_of(
        scale_id="simulated",
        version="1",
        item_ids=tuple(ids[j] for j in indices),
        a=a[indices] + error[:, 0],
        b=b[indices] + error[:, 1],
        c=np.zeros(indices.size),
        a_se=np.sqrt(cov[:, 0, 0]),
        b_se=np.sqrt(cov[:, 1, 1]),
        cov_ab=cov[:, 0, 1],
        topics=(None,) * indices.size,
        errors_assumed=np.zeros(indices.size, dtype=bool),
    )


def by_level(world: SimulatedMonth) -> LevelledFit:
    return EarlierAnswers(world.earlier).fit_by_level(
        lambda groups, reference, _: fit_em(world.window, model=world.models, groups=groups, reference=reference),
        world.anchors,
    )


def bias_of(world: SimulatedMonth, fit: Calibration) -> tuple[float, float]:
    """Mean bias of ln a and of b in the unit of the window's true θ."""
    slope = float(world.theta.std() / fit.latent_sd)
    return bias_on_the_scale(world, fit.rescaled(slope, float(world.theta.mean()) - slope * fit.latent_mean))


def bias_on_the_scale(world: SimulatedMonth, fit: Calibration) -> tuple[float, float]:
    """Mean bias of ln a and of b of a fit in the unit of the truth, over items with ≥ 200 responses."""
    counted = fit.estimated & (fit.a > 0) & (fit.n >= SEEN_OFTEN)
    slopes = np.log(fit.a[counted] / world.a[counted])
    return float(slopes.mean()), float((fit.b[counted] - world.b[counted]).mean())
