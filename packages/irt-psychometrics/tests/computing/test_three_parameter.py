"""Months of a 3PL scale: linking, and drift of item curves against published values of a 3PL or an earlier 2PL.

A cheap part of benchmarks/bench_three_parameter.py, whose tables are in
docs/explanation/linking-evidence.md and docs/explanation/drift-evidence.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.models import Calibration, Flag
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.drift.errors import Comparison, FitPopulation, Published
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import Linking
from psychometrics_testbed.made_anchors import anchor_set_of, with_errors_of

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]

ITEMS, ANCHORS, MOVED = 30, 20, 3
LEARNERS, MONTHS = 2000, 10
SLOPE, INTERCEPT = 1.2, 0.5
IDS = tuple(f"item{j:02d}" for j in range(ITEMS))


@dataclass(frozen=True)
class World:
    """An origin that has all items, its anchors, and a month of abler learners in which the last items moved by 0.5."""

    origin: Responses
    month: Responses
    fit: Calibration
    linking: Linking
    anchors: AnchorSet
    published: Published

    @property
    def comparison(self) -> Comparison:
        return Comparison.from_linked_fit(self.fit, self.linking, self.anchors, self.published)


def freeze_anchors(origin: Calibration) -> AnchorSet:
    sound = [j for j in range(ANCHORS) if not origin.flags[j]]
    fit = origin.select(sound)
    k = fit.n_items
    return anchor_set_of(
        "math", "1", fit.item_ids, fit.a, fit.b, fit.c, fit.a_se, fit.b_se, fit.cov_ab[:, 0, 1], (None,) * k,
        np.zeros(k, dtype=bool),
    )  # fmt: skip


def of_origin(origin: Calibration, anchors: AnchorSet) -> Published:
    """Published values of all the origin's items, treated as independent of the anchors, and of the anchors
    themselves."""
    known = origin.select([j for j in range(ITEMS) if not origin.flags[j]])
    values = Published.from_values(replace(known, joint_cov=None).items, anchors)
    values = values.then(Published.from_anchors(anchors))
    return replace(values, fitted=(FitPopulation(origin.model, 0.0, 1.0),) * len(values.item_ids))


@cache
def world(seed: int) -> World:
    rng = np.random.default_rng([31, seed])
    a, b, c = np.exp(rng.normal(0.1, 0.3, ITEMS)), rng.normal(0, 1, ITEMS), rng.beta(5, 17, ITEMS)

    def answers(b: np.ndarray, mean: float, sd: float) -> Responses:
        theta = rng.normal(mean, sd, (LEARNERS, 1))
        p = c + (1 - c) / (1 + np.exp(-a * (theta - b)))
        return Responses.from_wide((rng.random(p.shape) < p).astype(float), IDS)

    first = answers(b, 0.0, 1.0)
    moved = np.where(np.arange(ITEMS) >= ITEMS - MOVED, 0.5 * rng.choice([-1, 1], ITEMS), 0.0)
    second = answers(b + moved, INTERCEPT, SLOPE)
    origin = fit_em(first, model="3pl", threads=1)
    anchors = with_errors_of(freeze_anchors(origin), origin)
    fit = fit_em(second, model="3pl", threads=1, guessing=dict(zip(anchors.item_ids, anchors.c.tolist(), strict=True)))
    return World(first, second, fit, link_to_anchors(fit, anchors), anchors, of_origin(origin, anchors))


def published_as_2pl(world: World) -> Published:
    """Published values from the origin's answers under a 2PL."""
    origin = fit_em(world.origin, threads=1)
    values = Published.from_values(replace(origin, joint_cov=None).items, world.anchors)
    return replace(values, further_cov=None, fitted=(FitPopulation("2pl", 0.0, 1.0),) * ITEMS)


def rates(months: list[Drift]) -> tuple[float, float]:
    """Share of sound items with p < 0.05, and share of moved items that are flagged."""
    moved = IDS[-MOVED:]
    sound = np.concatenate([drift.p[~np.isin(drift.item_ids, moved)] for drift in months])
    found = sum(item in drift.flagged for drift in months for item in moved)
    compared = sum(item in drift.item_ids for drift in months for item in moved)
    return float(np.mean(sound < 0.05)), found / compared


def test_anchors_with_unidentified_guessing_link_but_unidentified_anchors_are_dropped() -> None:
    one = world(0)
    vague = replace(one.fit, flags=((Flag.GUESSING_UNIDENTIFIED,),) * ITEMS)
    assert (
        link_to_anchors(vague, one.anchors).slope
        == link_to_anchors(replace(one.fit, flags=((),) * ITEMS), one.anchors).slope
    )
    first = one.anchors.item_ids[0]
    lost = replace(one.fit, flags=tuple((Flag.UNIDENTIFIED,) * (item == first) for item in IDS))
    assert "information is singular" in link_to_anchors(lost, one.anchors).anchors_dropped[first]


def test_linking_constants_of_a_3pl_are_unbiased_and_match_their_errors() -> None:
    """Slopes and intercepts have an SD of about 0.045, so means of 10 have standard errors of 0.014: the limit of 0.05
    is three and a half standard errors. The mean square of 10 z is χ²₁₀/10, below 2.96 in 999 of 1000 runs."""
    linkings = [world(seed).linking for seed in range(MONTHS)]
    off = np.array([[one.slope - SLOPE, one.intercept - INTERCEPT] for one in linkings])
    se = np.array([[one.slope_se, one.intercept_se] for one in linkings])
    assert np.abs(off.mean(axis=0)).max() < 0.05
    assert ((off / se) ** 2).mean(axis=0).max() < 2.96
    assert sum(one.q_p < 0.01 for one in linkings) <= 1


def test_moved_items_of_a_3pl_are_flagged_and_sound_items_are_not() -> None:
    """In the long run, four fifths of moved items are found. For 30 items the standard error of this share is 0.07, so
    the limit of one half is four standard errors lower. With the errors of parameters, where b and c can compensate for
    each other, three in ten were found. The 4 % of p < 0.05 among 270 sound items have a standard error of 1.2 %, or
    somewhat more because items of a month share errors."""
    false, found = rates([Drift.from_comparison(world(seed).comparison) for seed in range(MONTHS)])
    assert found >= 0.5
    assert false <= 0.09


def test_published_2pl_values_are_compared_by_curves_with_a_month_of_a_3pl() -> None:
    """The limits are as in the previous test. The 2PL is fitted to the same answers of the origin, so an unmoved item
    differs only by model."""
    months = []
    for seed in range(MONTHS):
        one = world(seed)
        drift = Drift.from_comparison(
            Comparison.from_linked_fit(one.fit, one.linking, one.anchors, published_as_2pl(one))
        )
        assert set(drift.across_models.values()) == {("2pl", "3pl")}
        assert np.isnan(drift.delta_a).all()
        assert np.isnan(drift.delta_b).all()
        assert np.isnan(drift.delta_c).all()
        months.append(drift)
    false, found = rates(months)
    assert found >= 0.5
    assert false <= 0.09
