"""Loadings on what items share beyond the ability, and months of a scale that lives with a second one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.fit import second_ability
from irt_assets.psychometrics.fit.dependence import local_dependence
from irt_assets.psychometrics.fit.second_ability import loadings
from irt_assets.psychometrics.linking.linking import link
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE
from tests.testbed.aligned import disagree
from tests.testbed.anchors import anchors_of
from tests.testbed.misfit import ANCHORS, INTERCEPT, ITEMS, SLOPE, TWO, Bank
from tests.testbed.second_ability import Row, simulate

pytestmark = WHERE_STATISTICS_CHANGE


def test_loadings_are_those_that_answers_were_made_with() -> None:
    """Of 20,000 learners and small loadings, as the first order has them. Items are easy, too: λ is of the logit, and
    an answer to an easy item tells little of it."""
    rng, k = np.random.default_rng(1), 24
    a, b = rng.lognormal(0.1, 0.2, k), np.repeat([-2.0, 0.0], k // 2)
    true = np.tile([0.3, -0.3, 0.6, -0.6], k // 4)
    theta, other = rng.normal(size=(2, 20_000, 1))
    p = 1 / (1 + np.exp(-(a * (theta - b) + true * other)))
    responses = Responses.from_wide((rng.random(p.shape) < p).astype(float))
    fit = fit_em(responses)
    pairs = local_dependence(responses, fit)
    found = loadings(pairs, fit)
    found *= np.sign(found @ true)
    slope = found @ true / (true @ true)
    # a Q3 has a standard error of 0.007, and 23 of 0.02 to 0.06 make a loading: a tenth of the larger ones
    np.testing.assert_allclose(found / slope, true, atol=0.13)
    easy = b < 0
    assert found[easy] @ true[easy] / (true[easy] @ true[easy]) == pytest.approx(slope, rel=0.1)
    unknown = replace(fit, a=np.r_[np.nan, -1.0, fit.a[2:]])
    assert (loadings(pairs, unknown)[:2] == 0).all()


def test_pairs_that_nobody_saw_together_take_nothing_from_the_factor() -> None:
    """A matrix of one factor is given back, also where its diagonal and a third of its pairs are unknown."""
    rng = np.random.default_rng(2)
    true = rng.uniform(-0.3, 0.5, 12)
    weight = np.triu(rng.integers(200, 2000, (12, 12)) * (rng.random((12, 12)) > 0.35), 1).astype(float)
    weight += weight.T
    found = second_ability._factor(np.where(weight > 0, np.outer(true, true), 0.0), weight)
    np.testing.assert_allclose(found * np.sign(found @ true), true, atol=1e-3)  # after 100 rounds


@pytest.mark.ci
def test_a_second_ability_is_variation_that_holds_no_month_and_is_shown() -> None:
    """Twelve months of 10,000 learners that are as their origins were: Q over its degrees of freedom, 30 or so, is 1.5
    on average (chance leaves 1 with a standard error of 0.07), and rejects two months of five."""
    linkings = []
    of_month = np.r_[:ANCHORS, ITEMS : 2 * ITEMS - ANCHORS]
    for k in range(12):
        rng = np.random.default_rng([4, k])
        bank = Bank.draw(rng)
        before = TWO.answers(bank, np.arange(ITEMS), 10_000, 1.0, 0.0, False, rng)
        now = TWO.answers(bank, of_month, 10_000, SLOPE, INTERCEPT, False, rng)
        origin, month = fit_em(before), fit_em(now)
        anchors = anchors_of(origin, tuple(bank.ids[:ANCHORS]))
        found = loadings(local_dependence(before, origin), origin).tolist()
        accepted = dict(zip(origin.item_ids, found, strict=True))
        linkings.append(link(month, anchors, loadings=accepted))
    assert np.mean([linking.q / linking.q_df for linking in linkings]) > 1.2
    assert sum(map(disagree, linkings)) == 0
    assert np.mean([abs(next(iter(one.q_shifts.values()))["shift"]) for one in linkings]) > 0


def test_the_benchmark_compares_the_same_months() -> None:
    without, known = simulate(Row("a second ability", TWO, 500), [1])
    assert len(without.held) == len(known.held) == 3
    assert [len(one) for one in known.flagged] == [ANCHORS, ITEMS]
