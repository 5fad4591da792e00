"""Sum-score tables against enumeration of every pattern."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from irt_assets.psychometrics.core.curves import probability
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.scoring.abilities import Scores, eap
from irt_assets.psychometrics.scoring.reliability import empirical_reliability, fitted_reliability, marginal_reliability
from irt_assets.psychometrics.scoring.sum_scores import expected_proportions, sum_score_table

A = np.array([0.8, 1.2, -0.5, 2.0, 1.0])
D = np.array([0.3, -1.0, 0.2, 0.5, -0.2])
C = np.array([0.0, 0.2, 0.0, 0.25, 0.1])
PATTERNS = np.array(list(product([0, 1], repeat=5)))
THETA = np.linspace(-7, 7, 2001)
WEIGHTS = np.exp(-0.5 * THETA**2) / np.exp(-0.5 * THETA**2).sum()
P = probability(THETA, A, D, C)
LIKELIHOOD = np.prod(np.where(PATTERNS[:, None, :] == 1, P, 1 - P), axis=2)
"""Patterns × nodes."""


def test_the_table_is_that_of_all_patterns():
    table = sum_score_table(A, D, C)
    for k in range(6):
        weight = LIKELIHOOD[PATTERNS.sum(1) == k].sum(0) * WEIGHTS
        mean = weight @ THETA / weight.sum()
        # a rectangle rule of 61 nodes against one of 2001: both exact to about 1e-8
        assert table.probability[k] == pytest.approx(weight.sum(), abs=1e-7)
        assert table.theta[k] == pytest.approx(mean, abs=1e-6)
        assert table.se[k] == pytest.approx(np.sqrt(weight @ (THETA - mean) ** 2 / weight.sum()), abs=1e-6)


def test_expected_proportions_are_those_of_all_patterns():
    expected, share = expected_proportions(np.ascontiguousarray(P.T), WEIGHTS)
    weight = LIKELIHOOD @ WEIGHTS
    for k in range(6):
        at = PATTERNS.sum(1) == k
        assert share[k] == pytest.approx(weight[at].sum())
        np.testing.assert_allclose(expected[:, k], weight[at] @ PATTERNS[at] / weight[at].sum(), atol=1e-12)


def test_a_rasch_sum_score_says_all_that_its_patterns_say():
    d = np.array([1.0, 0.2, -0.4, -1.5])
    table = sum_score_table(np.ones(4), d, np.zeros(4), mean=0.3, sd=1.4)
    rows = np.array([[0.0, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]])
    scores = eap(Responses.from_wide(rows), np.ones(4), d, np.zeros(4), mean=0.3, sd=1.4)
    np.testing.assert_allclose(table.theta, scores.theta, atol=1e-10)
    np.testing.assert_allclose(table.se, scores.se, atol=1e-10)


def test_two_hundred_items_keep_their_digits():
    rng = np.random.default_rng(1)
    a, d = rng.uniform(0.5, 2.5, 200), rng.normal(0, 1.5, 200)
    table = sum_score_table(a, d, np.zeros(200))
    assert table.probability.sum() == pytest.approx(1, abs=1e-12)
    assert np.all(np.diff(table.theta) > 0)


def test_an_item_without_parameters_is_named_by_its_place():
    with pytest.raises(ValueError, match=r"places \[1\]"):
        sum_score_table(np.array([1.0, np.nan]), np.zeros(2), np.zeros(2))


def test_reliability_is_the_squared_correlation_with_the_truth():
    rng = np.random.default_rng(8)
    a, d = rng.uniform(0.6, 1.8, 40), rng.normal(0, 1, 40)
    theta = rng.normal(0.5, 1.3, 20_000)
    x = (rng.random((20_000, 40)) < probability(theta, a, d, np.zeros(40))).astype(float)
    scores = eap(Responses.from_wide(x), a, d, np.zeros(40), mean=0.5, sd=1.3)
    squared = np.corrcoef(scores.theta, theta)[0, 1] ** 2
    # standard error of a squared correlation of 0.9 at n = 20,000: 2·0.95·0.1/141 = 0.0013
    assert empirical_reliability(scores) == pytest.approx(squared, abs=0.005)
    # another definition: the mean over θ of what information promises
    assert marginal_reliability(a, d, np.zeros(40), mean=0.5, sd=1.3) == pytest.approx(squared, abs=0.03)


def test_marginal_reliability_leaves_out_items_without_parameters_and_has_its_limits():
    assert marginal_reliability(np.array([1.0, np.nan]), np.zeros(2), np.zeros(2)) == marginal_reliability(
        np.ones(1), np.zeros(1), np.zeros(1)
    )
    assert marginal_reliability(np.zeros(3), np.zeros(3), np.zeros(3)) == 0
    assert 0.99 < marginal_reliability(np.ones(2000), np.linspace(-3, 3, 2000), np.zeros(2000)) < 1


def test_a_fits_reliability_is_that_under_its_histogram():
    """Two kinds of learners: under N(0, 1) their scores would be drawn to a middle where nobody is."""
    rng = np.random.default_rng(9)
    a, d = rng.uniform(1.0, 2.0, 12), rng.normal(0, 1, 12)
    theta = np.where(rng.random(1500) < 0.5, -1.0, 1.0) + rng.normal(0, 0.2, 1500)
    right = rng.random((1500, 12)) < probability(theta, a, d, np.zeros(12))
    responses = Responses.from_wide(right.astype(float))
    fit = fit_em(responses, latent="histogram")
    (population,) = fit.populations
    p = probability(np.array(population.nodes), fit.a, fit.d, fit.c)
    joint = np.exp(right @ np.log(p).T + ~right @ np.log1p(-p).T) * population.weights
    posterior = joint / joint.sum(axis=1, keepdims=True)
    mean = posterior @ population.nodes
    between, within = mean.var(ddof=1), (posterior @ np.square(population.nodes) - mean**2).mean()
    assert fitted_reliability(responses, fit) == pytest.approx(between / (between + within), abs=1e-12)


def test_one_learner_has_no_empirical_reliability():
    assert np.isnan(empirical_reliability(Scores(np.zeros(1), np.ones(1))))
