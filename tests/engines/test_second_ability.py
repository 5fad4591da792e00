"""Months of a scale whose items also measure a second ability."""

from __future__ import annotations

import numpy as np
import pytest

from irt_psychometrics.estimation import fit_em
from irt_psychometrics.linking import link_to_anchors
from psychometrics_testbed.anchors import anchors_of
from psychometrics_testbed.misfit import ANCHORS, INTERCEPT, ITEMS, SLOPE, TWO, Bank
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE
from tests.testbed.agreement import disagree
from tests.testbed.second_ability import Row, simulate

pytestmark = WHERE_STATISTICS_CHANGE


@pytest.mark.ci
def test_months_are_not_held_for_variation_caused_by_a_second_ability() -> None:
    """Twelve months of 10,000 learners, with the same abilities as at the origin: Q over its degrees of freedom (about
    30) is 1.5 on average (by chance 1, with a standard error of 0.07), and rejects two months of five."""
    linkings = []
    of_month = np.r_[:ANCHORS, ITEMS : 2 * ITEMS - ANCHORS]
    for k in range(12):
        rng = np.random.default_rng([4, k])
        bank = Bank.draw(rng)
        before = TWO.answers(bank, np.arange(ITEMS), 10_000, 1.0, 0.0, False, rng)
        now = TWO.answers(bank, of_month, 10_000, SLOPE, INTERCEPT, False, rng)
        linkings.append(link_to_anchors(fit_em(now), anchors_of(fit_em(before), tuple(bank.ids[:ANCHORS]))))
    assert np.mean([linking.q / linking.q_df for linking in linkings]) > 1.2
    assert sum(map(disagree, linkings)) == 0


def test_benchmark_reports_flags_of_three_months() -> None:
    found = simulate(Row("a second ability", TWO, 500), [1])
    assert len(found.held) == 3
    assert [len(one) for one in found.flagged] == [ANCHORS, ITEMS]
