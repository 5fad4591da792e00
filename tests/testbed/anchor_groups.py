"""Pairs of months, a sound one and one whose anchors moved together, compared with all that is published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from irt_assets.psychometrics.core.item_models import item_model
from irt_assets.psychometrics.core.models import Calibration, Floats, Responses
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.drift.errors import Comparison, Published, compare
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.linking.linking import link
from tests.testbed.anchors import anchors_of, usable
from tests.testbed.linked_months import INTERCEPT, SLOPE, ids
from tests.testbed.made_anchors import with_errors_of
from tests.testbed.published_months import World

EASIER = 0.3
"""By so much all anchors are easier in a month whose anchors moved."""


@dataclass(frozen=True)
class Row:
    learners: int
    anchors: int
    others: int
    variation: float = 0.0
    model: Model = "2pl"

    @property
    def label(self) -> str:
        return f"{self.model.upper()} | {self.learners:,} | {self.anchors} + {self.others} | {self.variation:g}"


def drawn(row: Row, rng: np.random.Generator) -> tuple[Comparison, Comparison]:
    """A sound second month and one whose anchors moved together, of estimates drawn as their errors say."""
    world = World(row.anchors, row.others, row.learners, row.variation)
    moved = np.where(np.arange(world.size) < row.anchors, -EASIER, 0.0)
    return world.compared(rng, np.zeros(world.size)), world.compared(rng, moved)


def fitted(row: Row, rng: np.random.Generator) -> tuple[Comparison, Comparison]:
    """The same from fits of answers, both months after the same origin and first month."""
    n = row.anchors + row.others
    a, b = rng.lognormal(0.1, 0.3, n), rng.normal(0, 1, n)
    c = 0.2 if item_model(row.model).guesses else 0.0

    def fit(n_items: int, b: Floats, mean: float = 0.0, sd: float = 1.0) -> Calibration:
        b = b + rng.normal(0, row.variation / np.sqrt(2), n)
        p = c + (1 - c) * expit(a * (rng.normal(mean, sd, (row.learners, 1)) - b))
        right = (rng.random(p.shape) < p)[:, :n_items].astype(float)
        return fit_em(Responses.from_wide(right, item_ids=ids(n_items)), model=row.model, threads=1)

    def compared(b: Floats) -> Comparison:
        month = fit(n, b, INTERCEPT, SLOPE)
        found = compare(month, link(month, frozen), frozen, published)
        known = usable(month, found.item_ids)
        return found.select(np.isin(found.item_ids, known))

    origin = fit(row.anchors, b)
    frozen = with_errors_of(anchors_of(origin, usable(origin, origin.item_ids)), origin)
    first = fit(n, b)
    of_first = Published.of_fit(first, link(first, frozen), frozen)
    others = usable(first, first.item_ids[row.anchors :])
    published = Published.of_anchors(frozen).then(of_first.select(others))
    return compared(b), compared(b - np.where(np.arange(n) < row.anchors, EASIER, 0.0))
