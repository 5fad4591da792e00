"""Q3 and parallel analysis: pairwise definition, dependent pairs and second dimensions found, edges."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.psychometrics.core.curves import probability
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.fit.dependence import local_dependence, parallel_analysis
from irt_assets.psychometrics.fit.measure import SMALLEST_PAIR
from irt_assets.psychometrics.scoring.abilities import eap
from tests.engines.fit_worlds import known, planned
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE


def test_q3_is_the_correlation_of_residuals_over_those_who_saw_both(monkeypatch):
    rng = np.random.default_rng(1)
    x = planned(rng, persons=700, length=6)
    x[rng.random(x.shape) < 0.1] = np.nan
    responses = Responses.from_wide(x)
    fit = known(rng.uniform(0.5, 2, 12), rng.normal(0, 1, 12), rng.uniform(0, 0.2, 12))
    monkeypatch.setattr("irt_assets.psychometrics.fit.dependence._CELLS", 1000)  # several pieces
    found = local_dependence(responses, fit)
    residual = x - probability(eap(responses, fit.a, fit.d, fit.c).theta, fit.a, fit.d, fit.c)
    for i, j in ((0, 1), (4, 7), (5, 8), (10, 11)):
        both = ~np.isnan(x[:, i]) & ~np.isnan(x[:, j])
        assert found.n[i, j] == both.sum()
        assert found.q3[i, j] == pytest.approx(np.corrcoef(residual[both, i], residual[both, j])[0, 1], abs=1e-12)
    np.testing.assert_array_equal(found.q3, found.q3.T)
    assert found.n[0, 11] == 0
    assert np.isnan(found.q3[0, 11])
    assert np.isnan(np.diag(found.q3)).all()


def test_a_dependent_pair_is_flagged_and_named_and_no_other():
    rng = np.random.default_rng(2)
    x = planned(rng)
    same = rng.random(len(x)) < 0.5
    x[same, 9] = np.where(np.isnan(x[same, 9]), np.nan, x[same, 8])
    responses = Responses.from_wide(x)
    found = local_dependence(responses, fit_em(responses))
    assert found.flagged == ((8, 9),)
    assert -0.1 < found.mean < 0  # about −1/19


def test_pairs_of_few_learners_are_not_flagged():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (SMALLEST_PAIR - 1, 6)).astype(float)
    x[:, 1] = x[:, 0]
    found = local_dependence(Responses.from_wide(x), known(np.ones(6), np.zeros(6)))
    assert found.q3[0, 1] > 0.9
    assert found.flagged == ()
    assert np.isnan(found.mean)


def test_items_without_parameters_keep_their_place():
    x = planned(np.random.default_rng(4), persons=600, length=4)
    wider = np.column_stack([np.ones(len(x)), x])
    fit = fit_em(Responses.from_wide(wider), model="rasch")
    found = local_dependence(Responses.from_wide(wider), fit)
    assert np.isnan(found.q3[0]).all()
    assert np.isfinite(found.q3[1, 2])


def test_two_abilities_are_seen_and_one_is_not():
    rng = np.random.default_rng(5)
    theta = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 1500)
    d = rng.normal(0, 1, 20)
    p = 1 / (1 + np.exp(-(1.3 * np.repeat(theta, 10, axis=1) + d)))
    two = Responses.from_wide((rng.random(p.shape) < p).astype(float))
    found = parallel_analysis(two, fit_em(two), replications=39, seed=1)
    assert found.p == 1 / 40
    assert found.eigenvalue > 1.2 * found.under_model.max()
    one = Responses.from_wide(planned(rng))
    assert parallel_analysis(one, fit_em(one), replications=39, seed=1).p > 0.05


def test_a_seed_gives_the_same_analysis_again():
    responses = Responses.from_wide(planned(np.random.default_rng(6), persons=600, length=6))
    fit = fit_em(responses)
    first, again, other = (parallel_analysis(responses, fit, replications=5, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.under_model, again.under_model)
    assert not np.array_equal(first.under_model, other.under_model)


def test_a_large_set_is_drawn_from():
    responses = Responses.from_wide(planned(np.random.default_rng(7), persons=1200, length=6))
    fit = fit_em(responses)
    some, whole = (parallel_analysis(responses, fit, replications=1, seed=1, most_persons=n) for n in (400, 1200))
    assert some.eigenvalue != whole.eigenvalue
