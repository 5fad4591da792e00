"""Months of drawn estimates with known linking constants, and the alignment of their anchors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics import Calibration
from irt_psychometrics.alignment import Alignment
from irt_psychometrics.core.covariances import block_diagonal, item_blocks
from irt_psychometrics.items import Model
from irt_psychometrics.linking import AnchorLimits, AnchorSet
from irt_psychometrics.linking.linking import _align_anchors, match
from psychometrics_testbed.linked_months import INTERCEPT, SLOPE, anchor_set, calibration, errors
from psychometrics_testbed.scored_estimates import LOST


@dataclass(frozen=True)
class World:
    """A world of anchors.

    Attributes:
        k: number of anchors.
        n: learners of each side.
        variation: SD of the change of b between the samples.
        moved, by: the first `moved` anchors have b + `by`; a pair gives the range of uniform draws.
        model: model of fitted months.
        scored: whether half of the items have 2 to 4 points.
    """

    k: int = 30
    n: int = 2000
    variation: float = 0.0
    moved: int = 0
    by: float | tuple[float, float] = 0.0
    model: Model = "2pl"
    scored: bool = False

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a and b of the anchors, and b in the month."""
        a, b = rng.lognormal(0.1, 0.3, self.k), rng.normal(0, 1, self.k)
        return a, b, self.moves(rng, b)

    def moves(self, rng: np.random.Generator, b: np.ndarray) -> np.ndarray:
        """Draw b in the month."""
        moved = b + rng.normal(0, self.variation, self.k) if self.variation else b.copy()
        moved[: self.moved] += rng.uniform(*(self.by if isinstance(self.by, tuple) else (self.by,) * 2), self.moved)
        return moved


def month(rng: np.random.Generator, world: World) -> tuple[Calibration, AnchorSet]:
    """Draw estimates of both sides from `world.n` learners each.

    Errors have a part of each item's own, and a part that all items share from the sample's mean and SD of θ.
    """
    while True:
        a, b, moved = world.draw(rng)
        sides = []
        for of_a, of_b in ((a * SLOPE, (moved - INTERCEPT) / SLOPE), (a, b)):
            own = block_diagonal(LOST * errors(of_a, of_b, world.n))
            common = np.stack([np.stack([np.zeros_like(of_a), of_a], 1), np.stack([-np.ones_like(of_b), -of_b], 1)], 1)
            by_sample = common.reshape(-1, 2)
            joint = own + by_sample @ np.diag([1 / world.n, 1 / (2 * world.n)]) @ by_sample.T
            drawn = rng.multivariate_normal(np.stack([of_a, of_b], 1).ravel(), joint, method="cholesky")
            sides.append((*drawn.reshape(-1, 2).T, joint))
        if all((of_a > 0.1).all() for of_a, _, _ in sides):  # smaller slopes would exclude an anchor
            break
    (a_new, b_new, new), (a_old, b_old, old) = sides
    return (
        calibration(a_new, b_new, item_blocks(new[None]), n=world.n, joint_ab=new),
        replace(anchor_set(a_old, b_old, item_blocks(old[None])), cov=old[None]),
    )


def aligned(new: Calibration, anchors: AnchorSet) -> Alignment:
    pairs, _ = match(new, anchors, AnchorLimits())
    return _align_anchors(pairs, AnchorLimits())
