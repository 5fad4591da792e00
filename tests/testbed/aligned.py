"""Months of drawn estimates whose line is known, and their anchors aligned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irt_assets.psychometrics.alignment.align import Alignment, Differences, align
from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.covariances import block_diagonal, of_each
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.linking.criteria import Pairs, medians
from irt_assets.psychometrics.linking.linking import match
from tests.testbed.linked_months import INTERCEPT, SLOPE, anchor_set, calibration, errors

LOST = 1.2
"""Variances of estimates with θ integrated out over those with θ known, about, in tests of 30 to 60 items."""


@dataclass(frozen=True)
class World:
    """K anchors, the first `moved` of which have b + `by`; a pair: drawn between both. `variation`: SD of the others'
    b from one sample to the other."""

    k: int = 30
    n: int = 2000
    variation: float = 0.0
    moved: int = 0
    by: float | tuple[float, float] = 0.0


def month(rng: np.random.Generator, world: World) -> tuple[Calibration, AnchorSet]:
    """Estimates of both sides as `world.n` learners each give them: the errors have a part of the items' own and what
    the sample's mean and SD of θ give all items in common."""
    while True:
        a, b = rng.lognormal(0.1, 0.3, world.k), rng.normal(0, 1, world.k)
        moved = b + rng.normal(0, world.variation, world.k) if world.variation else b.copy()
        moved[: world.moved] += rng.uniform(
            *(world.by if isinstance(world.by, tuple) else (world.by,) * 2), world.moved
        )
        sides = []
        for of_a, of_b in ((a * SLOPE, (moved - INTERCEPT) / SLOPE), (a, b)):
            own = block_diagonal(LOST * errors(of_a, of_b, world.n))
            common = np.stack([np.stack([np.zeros_like(of_a), of_a], 1), np.stack([-np.ones_like(of_b), -of_b], 1)], 1)
            by_sample = common.reshape(-1, 2)
            joint = own + by_sample @ np.diag([1 / world.n, 1 / (2 * world.n)]) @ by_sample.T
            drawn = rng.multivariate_normal(np.stack([of_a, of_b], 1).ravel(), joint, method="cholesky")
            sides.append((*drawn.reshape(-1, 2).T, joint))
        if all((of_a > 0.1).all() for of_a, _, _ in sides):  # others no anchor would have
            break
    (a_new, b_new, new), (a_old, b_old, old) = sides
    return (
        calibration(a_new, b_new, of_each(new[None]), n=world.n, joint_ab=new),
        replace(anchor_set(a_old, b_old, of_each(old[None])), cov=old[None]),
    )


def seen(pairs: Pairs, slope: float, intercept: float) -> Differences:
    """ln a and b of anchors, the constants given."""
    cov = pairs.covariance_of_differences(slope)
    return Differences(
        d=pairs.differences(slope, intercept),
        by_constants=pairs.differences_by_constants(slope).reshape(pairs.size, 2, -1),
        cov=cov[0] if len(cov) == 1 else block_diagonal(cov),
        by_variation=np.ones(pairs.size),
    )


def aligned(new: Calibration, anchors: AnchorSet, **options: float) -> tuple[Pairs, Alignment]:
    pairs, _ = match(new, anchors, Rules())
    slope, _ = medians(pairs)
    starts = np.column_stack([np.full(pairs.size, slope), pairs.old.b - slope * pairs.new.b])
    found = align(lambda s, i: seen(pairs, s, i), starts, own_slopes=pairs.tests_slopes, **options)
    return pairs, found
