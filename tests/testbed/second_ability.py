"""An origin and three months with the same second ability.

The first month publishes its new items. The second month is compared with these and the anchors, unchanged and with
five anchors harder by .5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics import Calibration
from irt_psychometrics.drift import Comparison, Drift, Published
from irt_psychometrics.linking import AnchorLimits, link_to_anchors
from psychometrics_testbed.anchors import anchors_of
from psychometrics_testbed.misfit import ANCHORS, INTERCEPT, ITEMS, SLOPE, Bank, World, fit_shape
from tests.testbed.agreement import disagree

MOVED, BY = 5, 0.5
LOOSE = AnchorLimits(min_anchor_responses=1, min_anchors=3)
"""Limits low enough to link months that would be held for too few anchors."""


@dataclass(frozen=True)
class Row:
    name: str
    world: World
    learners: int
    forms: bool = False


@dataclass(frozen=True)
class MonthResults:
    """Results of the three months.

    Attributes:
        held: whether each month is held.
        flagged: flagged items of the two sound months.
        found: share of the moved anchors that are flagged in the third month.
    """

    held: tuple[bool, ...]
    flagged: tuple[np.ndarray, ...]
    found: float

    @classmethod
    def from_months(cls, origin: Calibration, months: list[Calibration], moved: list[str]) -> MonthResults:
        anchors = anchors_of(origin, tuple(origin.item_ids[:ANCHORS]))
        linkings = [link_to_anchors(month, anchors, limits=LOOSE) for month in months]
        of_anchors = Published.from_anchors(anchors)
        published = Published.from_fit(months[0], linkings[0], anchors).then(of_anchors)
        first, second, third = (
            Drift.from_comparison(Comparison.from_linked_fit(month, linking, anchors, known), misfit_accepted=True)
            for month, linking, known in zip(months, linkings, (of_anchors, published, published), strict=True)
        )
        flagged = tuple(np.isin(drift.item_ids, drift.flagged) for drift in (first, second))
        return cls(tuple(map(disagree, linkings)), flagged, float(np.isin(moved, third.flagged).mean()))


def simulate(row: Row, seed: list[int]) -> MonthResults:
    rng = np.random.default_rng(seed)
    bank = Bank.draw(rng)
    moved = rng.choice(ANCHORS, MOVED, replace=False)
    harder = bank.b.copy()
    harder[moved] += BY
    of_month = np.r_[:ANCHORS, ITEMS : 2 * ITEMS - ANCHORS]
    before = row.world.answers(bank, np.arange(ITEMS), row.learners, 1.0, 0.0, row.forms, rng)
    months = [
        row.world.answers(one, of_month, row.learners, SLOPE, INTERCEPT, row.forms, rng)
        for one in (bank, bank, replace(bank, b=harder))
    ]
    origin, *fits = (fit_shape(window)[0] for window in (before, *months))
    return MonthResults.from_months(origin, fits, [bank.ids[j] for j in moved])
