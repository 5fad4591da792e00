"""Information: through estimation and linking, what was lost is found and what was not is left alone.

A cheap part of benchmarks/bench_information.py, whose tables are in docs/explanation/information.md.
"""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.psychometrics.core.models import Calibration, Responses
from irt_assets.psychometrics.drift.errors import Published, compare
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.information.functions import (
    Abilities,
    ItemLosses,
    LossOfTest,
    loss_of_test,
    losses_of_items,
)
from irt_assets.psychometrics.linking.linking import link
from tests.helpers.drift_worlds import ITEMS as ITEMS_OF_A_WORLD
from tests.helpers.drift_worlds import anchor_set, world
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

ITEMS, FLATTENED = 30, 3
IDS = [f"item{j:02d}" for j in range(ITEMS)]


def fitted(rng: np.random.Generator, n: int, a: np.ndarray, b: np.ndarray, mean: float, sd: float) -> Calibration:
    theta = rng.normal(mean, sd, (n, 1))
    right = rng.random((n, ITEMS)) < 1 / (1 + np.exp(-a * (theta - b)))
    return fit_em(Responses.from_wide(right.astype(float), IDS), threads=1)


def judged(seed: int, n: int, kept: float) -> tuple[ItemLosses, LossOfTest]:
    """A month of other learners, N(0.5, 1.2²), in which the first three items keep this share of their a."""
    rng = np.random.default_rng([9, seed])
    a, b = np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    old = fitted(rng, n, a, b, 0.0, 1.0)
    frozen = anchor_set(old.a, old.b, old.cov_ab)
    new = fitted(rng, n, a * np.where(np.arange(ITEMS) < FLATTENED, kept, 1.0), b, 0.5, 1.2)
    anchors, linking = frozen, link(new, frozen)
    found = compare(new, linking, anchors, Published.of_anchors(anchors))
    return losses_of_items(found, Abilities.normal()), loss_of_test(found, linking, Abilities.normal())


@pytest.mark.timeout(300)
def test_sound_items_keep_their_information_though_a_plain_rule_says_otherwise() -> None:
    """At 1000 learners the plain rule, below 0.8, fires on 16 % of sound items; of 1200 its standard error is 1.1 %.
    The mean square of z is 1 with a standard error of √(2/1200) = 0.04, items of a month taken as independent.
    The test as a whole is judged by its estimate, which falls below 0.8 at some θ in 1 % of sound months."""
    months = [judged(seed, 1000, 1.0) for seed in range(40)]
    items = [losses for losses, _ in months]
    assert np.mean([len(losses.flagged) / ITEMS for losses in items]) <= 0.01
    assert np.mean([losses.ratio < 0.8 for losses in items]) > 0.12
    z = np.array([np.log(losses.ratio) / losses.log_se for losses in items])
    assert np.mean(z**2) == pytest.approx(1.0, abs=0.16)
    assert sum(test.flagged for _, test in months) <= 3


@pytest.mark.timeout(300)
def test_items_that_kept_half_of_their_slope_are_found_at_2000() -> None:
    months = [judged(100 + seed, 2000, 0.5)[0] for seed in range(8)]
    found = np.array([np.isin(IDS, losses.flagged) for losses in months])
    assert found[:, :FLATTENED].mean() >= 0.8
    assert found[:, FLATTENED:].mean() <= 0.01


def test_log_ratios_of_sound_items_are_as_uncertain_as_they_say() -> None:
    """In these worlds nothing moved, so log R over its error has a mean square of 1: over 75 worlds its standard
    error is 0.17 for one item and near 0.06 over all 14."""
    generator = np.random.default_rng(6)
    z = []
    for _ in range(75):
        found = losses_of_items(world(generator)[1][0], Abilities.normal())
        z.append(np.log(found.ratio) / found.log_se)
    assert np.shape(z) == (75, ITEMS_OF_A_WORLD)
    assert np.mean(np.square(z)) == pytest.approx(1.0, abs=0.15)
