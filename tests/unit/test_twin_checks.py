"""Checks for twins among learners and items and for skewed anchors, and their statistics in a stored fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import skew, skewtest

from irt_assets.gates.advisory_checks import (
    anchors_scatter_evenly,
    items_are_distinct,
    learners_have_one_id,
    p_of_skewness,
)
from irt_assets.gates.evidence import Evidence
from irt_assets.ledger.fit_spec import FitStatistics, LinkingConstants, SetStatistics
from irt_psychometrics.linking import link_to_anchors
from psychometrics_testbed.aligned import World, month
from tests.helpers.fit_specs import SET
from tests.unit.test_gates import a_spec, evidence, linked_with, staged

TWINS = {
    "learner_pairs": 41,
    "item_pairs": 1,
    "learners": [{"ids": ["u1", "u1x"], "common": 60, "equal": 60}],
    "items": [{"items": ["i1", "i2"], "learners": 900, "equal": 0.972, "expected": 0.64}],
}


def with_twins(twins: dict[str, Any] | None) -> Evidence:
    stored = SET | ({} if twins is None else {"twins": twins})
    of_set = SetStatistics.from_json(stored, "fit")
    assert of_set.as_json().get("twins") == twins
    return evidence(staged=staged(spec=a_spec(fit_statistics=FitStatistics(items={}, set=of_set))))


def test_learner_twins_are_counted_in_the_sentence_and_listed_in_the_table() -> None:
    verdict = learners_have_one_id(with_twins(TWINS))
    assert not verdict.passed
    assert "41 pairs of learner ids have the same answers beyond chance" in verdict.why
    assert "u1" not in verdict.why, "an erasure finds any id in the column learner, and only some in a sentence"
    assert verdict.details["ids"] == [
        {"learner": one, "pair": 1, "common answers": 60, "equal": 60} for one in ("u1", "u1x")
    ]


def test_items_that_are_nearly_identical_are_listed() -> None:
    verdict = items_are_distinct(with_twins(TWINS))
    assert not verdict.passed
    assert "i1/i2 (97% equal, 64% by chance)" in verdict.why


@pytest.mark.parametrize("twins", [None, {"learner_pairs": 0, "item_pairs": 0, "learners": [], "items": []}])
def test_month_without_twins_or_with_a_fit_of_an_earlier_release_passes(twins: dict[str, Any] | None) -> None:
    month = with_twins(twins)
    assert learners_have_one_id(month).passed
    assert items_are_distinct(month).passed


def test_linked_fit_stores_no_learner_ids() -> None:
    statistics = SetStatistics.from_json(SET | {"twins": TWINS}, "fit").without_learners()
    assert (statistics.twins.learner_pairs, statistics.twins.learners) == (41, ())
    assert statistics.twins.items


@pytest.mark.parametrize(("skewness", "passed"), [(0.2, True), (-1.4, False), (1.4, False), (None, True)])
def test_check_warns_if_anchors_are_skewed(skewness: float | None, passed: bool) -> None:
    anchors = [f"i{k}" for k in range(30)]
    known = {} if skewness is None else {"skewness": skewness}
    verdict = anchors_scatter_evenly(evidence(linked=linked_with(anchors_used=anchors, **known)))
    assert verdict.passed is passed
    if not passed:
        assert f"have become {'harder' if skewness and skewness > 0 else 'easier'} together" in verdict.why


def test_p_of_skewness_equals_scipys() -> None:
    for n in (8, 30, 200):
        x = np.random.default_rng(n).gamma(3.0, size=n)
        assert p_of_skewness(skew(x), n) == pytest.approx(skewtest(x).pvalue, rel=1e-9)


def test_anchors_that_became_harder_together_are_skewed_upwards() -> None:
    """Nine of 30 anchors moved by .15, too little for a single anchor to be suspect. The mean of eight months has a
    standard error of .15."""
    world = World(n=10_000, moved=9, by=0.15)
    months = [link_to_anchors(*month(np.random.default_rng([1, seed]), world)) for seed in range(8)]
    assert np.mean([one.skewness for one in months]) > 0.3
    stored = LinkingConstants.from_linking(months[0])
    assert stored.as_json()["skewness"] == months[0].skewness
    assert "skewness" not in LinkingConstants.from_linking(replace(months[0], skewness=None)).as_json()
