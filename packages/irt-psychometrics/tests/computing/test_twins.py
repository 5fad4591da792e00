"""Pairs of learners under two ids and of nearly equal items: found in simulated answers, without false pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics.core.models import Floats
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.itemfit import twins
from irt_psychometrics.itemfit.twins import item_twins, learner_twins
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE
LEARNERS, ITEMS = 1500, 40


def month(seed: int, learners: int = LEARNERS, items: int = ITEMS) -> Floats:
    """Answers with a ~ U(.6, 1.9) and mixtures of normal distributions for b and θ. One of ten items is very easy, and
    the first twenty learners have all answers right."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(0.6, 1.9, items)
    b = np.where(rng.random(items) < 0.6, rng.normal(-0.6, 0.7, items), rng.normal(1.0, 0.5, items))
    b[::10] -= 3.0
    theta = np.where(rng.random(learners) < 0.3, rng.normal(-1.2, 0.8, learners), rng.normal(0.5, 0.8, learners))
    x = (rng.random((learners, items)) < expit(a * (theta[:, None] - b))).astype(float)
    x[:20] = 1.0
    return x


def named_of(x: Floats) -> list[tuple[int, int]]:
    responses = Responses.from_wide(x)
    return [pair.persons for pair in learner_twins(responses, fit_em(responses, likelihood_only=True))]


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_not_named_in_a_month_without_twins(seed: int) -> None:
    """The month has learners with all answers right, and items that nearly all learners answer right."""
    responses = Responses.from_wide(month(seed))
    fit = fit_em(responses, likelihood_only=True)
    assert learner_twins(responses, fit) == []
    assert item_twins(responses, fit) == []


def test_nine_in_ten_pairs_are_named_if_each_learner_has_two_ids() -> None:
    x = month(1, items=30)
    named = named_of(np.concatenate([x, x]))
    right = [pair for pair in named if pair[1] - pair[0] == LEARNERS]
    assert len(right) >= 0.9 * (LEARNERS - 20)
    assert len(right) >= 0.9 * len(named)


def test_seven_in_ten_pairs_are_named_if_one_percent_of_learners_have_two_ids() -> None:
    """At least 65 of 90 pairs in six months are named, and at most a third of the named pairs are false."""
    right = false = 0
    for seed in range(6):
        x = month(seed, items=30)
        named = named_of(np.concatenate([x, x[100:115]]))
        found = sum(pair[1] - pair[0] == LEARNERS - 100 and pair[1] >= LEARNERS for pair in named)
        right, false = right + found, false + len(named) - found
    assert right >= 65
    assert false <= right / 2


def test_pairs_are_named_although_an_answer_was_corrected_and_an_answer_is_missing() -> None:
    x = month(2, items=60)
    again = x[100:115].copy()
    again[:, 7] = 1 - again[:, 7]
    again[:, 11] = np.nan
    named = named_of(np.concatenate([x, again]))
    right = [pair for pair in named if pair[1] - pair[0] == LEARNERS - 100]
    assert len(right) >= 12
    assert len(named) <= len(right) + 1


def test_pairs_are_named_although_many_learners_share_rare_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare answers that many learners share are skipped; the pair has further rare answers."""
    x = month(3)
    monkeypatch.setattr(twins, "MAX_IN_COMMON", 4)
    assert (100, LEARNERS) in named_of(np.concatenate([x, x[100:101]]))


@pytest.mark.parametrize("seed", range(3))
def test_two_items_are_named_if_their_answers_are_equal_for_97_percent(seed: int) -> None:
    x = month(seed)
    rng = np.random.default_rng([seed, 1])
    j = int(np.abs(x.mean(axis=0) - 0.6).argmin())
    other = (j + 1) % ITEMS
    x[:, other] = np.where(rng.random(LEARNERS) < 0.03, 1 - x[:, j], x[:, j])
    responses = Responses.from_wide(x)
    (found,) = item_twins(responses, fit_em(responses, likelihood_only=True))
    assert (found.items, found.learners) == (tuple(sorted((j, other))), LEARNERS)
    assert found.equal == pytest.approx(0.97, abs=0.02)  # four standard errors of the share
    assert found.expected < 0.75


def test_two_easy_items_are_not_named_although_nearly_all_answers_are_equal() -> None:
    x = month(5)
    rng = np.random.default_rng(6)
    x[:, :2] = rng.random((LEARNERS, 2)) < 0.985
    responses = Responses.from_wide(x)
    assert (x[:, 0] == x[:, 1]).mean() > 0.96
    assert item_twins(responses, fit_em(responses, likelihood_only=True)) == []
