"""Frozen anchors, other items published by an earlier month, and a month that is compared with both.

Estimates are drawn or fitted to answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.covariances import block_diagonal, item_blocks
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.drift.errors import Comparison, DifferenceErrors, Published
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import Linking
from psychometrics_testbed.anchors import anchors_of, usable
from psychometrics_testbed.linked_months import INTERCEPT, SLOPE, anchor_set, calibration, errors, ids

LOST = 1.2
"""Approximate ratio of variances of estimates with θ integrated out to those with θ known, for 30 to 60 items."""


@dataclass(frozen=True)
class World:
    """A world of anchors and other items. Estimates can be drawn only for a 2PL.

    Attributes:
        k: number of anchors.
        others: number of other items.
        n: learners in every window.
        variation: SD of the difference of an item's b between two samples.
        model: model of fitted months.
    """

    k: int = 20
    others: int = 20
    n: int = 2000
    variation: float = 0.0
    model: Model = "2pl"

    @property
    def size(self) -> int:
        return self.k + self.others

    def month(self, rng: np.random.Generator, moved: np.ndarray) -> tuple[Calibration, AnchorSet, Published]:
        """Draw a month in which each b moved by `moved` (J,). Returns its fit, the anchors and all published items."""
        while True:
            a, b = rng.lognormal(0.1, 0.3, self.size), rng.normal(0, 1, self.size)
            vary = self.variation / np.sqrt(2)
            windows = [
                estimated(rng, a * slope, (of_b - shift) / slope, self.n)
                for of_b, slope, shift in (
                    (b + vary * rng.normal(size=self.size), 1.0, 0.0),
                    (b + vary * rng.normal(size=self.size), SLOPE, INTERCEPT),
                    (b + moved + vary * rng.normal(size=self.size), SLOPE, INTERCEPT),
                )
            ]
            if all((window.a > 0.1).all() for window in windows):
                break
        origin, first, month = windows
        of_anchors = origin.select(np.arange(self.size) < self.k)
        anchors = anchor_set(of_anchors.a, -of_anchors.d / of_anchors.a, of_anchors.cov_ab)
        anchors = replace(anchors, cov=of_anchors.items.cov)
        published = Published.from_fit(first, link_to_anchors(first, anchors), anchors)
        return month, anchors, published.then(Published.from_anchors(anchors))

    def compared(self, rng: np.random.Generator, moved: np.ndarray) -> Comparison:
        month, anchors, published = self.month(rng, moved)
        return Comparison.from_linked_fit(month, link_to_anchors(month, anchors), anchors, published)

    def fitted(self, rng: np.random.Generator, *moves: np.ndarray) -> list[Comparison]:
        """For each of `moves` (J,), fit a month to answers. All months follow the same origin and the same earlier
        month."""
        n = self.size
        a, b = rng.lognormal(0.1, 0.3, n), rng.normal(0, 1, n)
        c = 0.2 if item_model(self.model).has_parameter("c") else 0.0

        def fit(n_items: int, b: np.ndarray, mean: float = 0.0, sd: float = 1.0) -> Calibration:
            b = b + rng.normal(0, self.variation / np.sqrt(2), n)
            p = c + (1 - c) * expit(a * (rng.normal(mean, sd, (self.n, 1)) - b))
            right = (rng.random(p.shape) < p)[:, :n_items].astype(float)
            return fit_em(Responses.from_wide(right, item_ids=ids(n_items)), model=self.model, threads=1)

        def compared(b: np.ndarray) -> Comparison:
            month = fit(n, b, INTERCEPT, SLOPE)
            found = Comparison.from_linked_fit(month, link_to_anchors(month, frozen), frozen, published)
            return found.select(np.isin(found.item_ids, usable(month, found.item_ids)))

        origin = fit(self.k, b)
        frozen = anchors_of(origin, usable(origin, origin.item_ids))
        first = fit(n, b)
        of_first = Published.from_fit(first, link_to_anchors(first, frozen), frozen)
        others = usable(first, first.item_ids[self.k :])
        published = Published.from_anchors(frozen).then(of_first.select(others))
        return [compared(b + moved) for moved in moves]


def alone(window: ItemParameters, published: Published) -> dict[str, Any]:
    """Arguments of a `Comparison` whose items are all anchors with independent errors."""
    k = len(window.item_ids)
    nothing = np.zeros((k, 3, 0)), np.zeros((0, 0))
    errors = DifferenceErrors(window.cov_of_all, published.cov_of_all, *nothing)
    return {"anchors": np.ones(k, dtype=bool), "difference_errors": errors, "linking": placed()}


def placed(
    slope: float = 1.0,
    intercept: float = 0.0,
    cov: np.ndarray | None = None,
    anchors: tuple[str, ...] = (),
) -> Linking:
    """Linking constants with this covariance. Without a covariance they are exact."""
    cov = np.zeros((2, 2)) if cov is None else cov
    slope_se, intercept_se = np.sqrt(np.diag(cov)).tolist()
    return Linking(
        slope, intercept, slope_se, intercept_se, cov=cov, method="stocking-lord", rmse=0.0, anchors_used=anchors,
        anchors_dropped={}, q=0.0, q_df=1, q_p=1.0, share_kept=1.0, warnings=(), anchor_set="1",
    )  # fmt: skip


def estimated(rng: np.random.Generator, a: np.ndarray, b: np.ndarray, n: int) -> Calibration:
    """Draw estimates from n learners.

    Errors consist of each item's own part, and a common part from the sample's mean and SD of θ.
    """
    own = LOST * errors(a, b, n)
    common = np.stack([np.stack([np.zeros_like(a), a], 1), np.stack([-np.ones_like(b), -b], 1)], 1)
    of_sample = np.diag([1 / n, 1 / (2 * n)])
    drawn = np.stack([a, b], 1) + common @ (np.sqrt(of_sample) @ rng.normal(size=2))
    drawn += np.einsum("kij,kj->ki", np.linalg.cholesky(own), rng.normal(size=(a.size, 2)))
    by_sample = common.reshape(-1, 2)
    joint = block_diagonal(own) + by_sample @ of_sample @ by_sample.T
    return calibration(*drawn.T, item_blocks(joint[None]), n=n, joint_ab=joint)
