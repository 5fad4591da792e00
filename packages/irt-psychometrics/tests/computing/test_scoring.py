"""Scores by every method and item curves: formulas, independent posteriors and likelihoods, and extreme answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from irt_psychometrics.core.curves import information, probability
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.scoring.abilities import Curves, Scores, eap, eap_by, estimate_abilities
from irt_psychometrics.scoring.reliability import fitted_reliability, marginal_reliability
from irt_psychometrics.scoring.sum_scores import expected_proportions, sum_score_table

A = np.array([0.8, 1.2, -0.5, 2.0])
D = np.array([0.3, -1.0, 0.2, 0.5])
C = np.array([0.0, 0.2, 0.0, 0.25])
number = st.floats(-4, 4)
ROWS = np.array(
    [[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1], [np.nan, 1, np.nan, 0], [1, 0, np.nan, np.nan]]
)


def test_curves_of_a_larger_bank_give_bitwise_equal_scores():
    """One learner's answers are scored with the curves of all published items."""
    more = {"mean": 0.7, "sd": 1.6}
    gap = [np.append(x, np.nan) for x in (A, D, C)]
    places = np.array([0, 1, 3, 4])
    few = Responses.from_wide(ROWS)
    of_bank = Responses(few.person, places[few.item].astype(np.int32), few.score, few.n_persons, tuple("abcde"))
    expected = eap(few, *(x[places] for x in gap), **more)
    found = eap_by(of_bank, Curves.from_items(ItemCurves(*gap), **more))
    assert np.array_equal(found.theta, expected.theta)
    assert np.array_equal(found.se, expected.se)


@pytest.mark.parametrize("answers", [10, 150, 300, 500, 1000, 5000])
def test_scores_match_2001_nodes_for_any_number_of_answers(answers):
    """61 nodes are .2 SDs of the prior apart: with 1000 answers they make SEs wrong by half, with 5000 meaningless."""
    mean, sd, rng = 0.3, 1.2, np.random.default_rng(answers)
    a, d = rng.lognormal(0, 0.3, answers), rng.normal(0, 1, answers)
    c = np.where(rng.random(answers) < 0.3, 0.2, 0.0)
    truth = rng.normal(mean, sd, 40)
    right = rng.random((40, answers)) < probability(truth, a, d, c)
    seen = rng.random(right.shape) < 0.8
    scores = eap(Responses.from_wide(np.where(seen, right, np.nan)), a, d, c, mean=mean, sd=sd)
    theta = mean + sd * np.linspace(-6, 6, 2001)
    p = probability(theta, a, d, c)
    log_posterior = (seen & right) @ np.log(p).T + (seen & ~right) @ np.log1p(-p).T - 0.5 * ((theta - mean) / sd) ** 2
    posterior = np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    expected = posterior @ theta
    np.testing.assert_allclose(scores.theta, expected, atol=1e-5)
    np.testing.assert_allclose(scores.se, np.sqrt(posterior @ theta**2 - expected**2), atol=1e-4)


def test_learners_without_a_usable_answer_get_the_prior():
    rows = np.array([[1.0, np.nan], [np.nan, np.nan], [np.nan, 1.0]])
    scores = eap(Responses.from_wide(rows), np.array([1.0, np.nan]), np.zeros(2), np.zeros(2), mean=0.5, sd=2.0)
    assert (scores.theta[1:].tolist(), scores.se[1:].tolist()) == ([0.5, 0.5], [2.0, 2.0])
    assert scores.se[0] < 2.0


def log_likelihood(row, theta, a=A, d=D, c=C):
    seen = ~np.isnan(row)
    p = probability(theta, a[seen], d[seen], c[seen])
    with np.errstate(divide="ignore"):
        return np.log(np.where(row[seen] == 1, p, 1 - p)).sum(axis=1)


def test_map_estimate_is_the_maximum_of_the_posterior():
    fine = np.linspace(-8, 8, 160_001)
    scores = estimate_abilities(Responses.from_wide(ROWS), A, D, C, method="map", mean=0.4, sd=1.3)
    for row, theta, se in zip(ROWS, scores.theta, scores.se, strict=True):
        posterior = log_likelihood(row, fine) - 0.5 * ((fine - 0.4) / 1.3) ** 2
        best = int(np.argmax(posterior))
        assert theta == pytest.approx(fine[best], abs=1e-4)  # the step of the fine grid
        curvature = -np.diff(posterior[best - 100 : best + 101 : 100], 2)[0] / 0.01**2
        assert se == pytest.approx(1 / np.sqrt(curvature), rel=1e-3)  # second difference over ± 0.01


def test_ml_estimate_is_the_maximum_of_the_likelihood_or_infinite():
    fine = np.linspace(-40, 40, 800_001)
    scores = estimate_abilities(Responses.from_wide(ROWS), A, D, C, method="ml")
    for row, theta, se in zip(ROWS, scores.theta, scores.se, strict=True):
        loglik = log_likelihood(row, fine)
        best = int(np.argmax(loglik))
        if 0 < best < len(fine) - 1:
            assert theta == pytest.approx(fine[best], abs=1e-4)
            assert 0 < se < np.inf
        else:
            assert theta == np.sign(fine[best]) * np.inf
            assert se == np.inf
    assert np.isinf(scores.theta).any()
    assert np.isfinite(scores.theta).any()


def test_ml_estimate_far_outside_the_search_grid_is_found():
    """Ten of 20 easy items are wrong: the root of the likelihood is near θ = −9, six node distances beyond the grid."""
    a, d, c = np.full(20, 1.0), np.full(20, 9.0), np.zeros(20)
    row = np.zeros((1, 20))
    row[0, :10] = 1
    assert estimate_abilities(Responses.from_wide(row), a, d, c, method="ml").theta[0] == pytest.approx(-9.0, abs=1e-6)


@pytest.mark.parametrize("method", ["eap", "map", "wle", "jeffreys"])
def test_perfect_and_empty_patterns_have_finite_scores_in_order(method):
    a, d, c = np.array([0.7, 1.5, 1.1, 0.9]), np.array([0.0, 1.0, -1.0, 0.3]), np.full(4, 0.2)
    rows = np.array([[0.0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    scores = estimate_abilities(Responses.from_wide(rows), a, d, c, method=method)
    assert np.isfinite([scores.theta, scores.se]).all()
    assert np.all(np.diff(scores.theta) > 0)


def test_wle_of_a_single_answer_matches_the_closed_form():
    """One 2PL item: a(1 − P) + a(1 − 2P)/2 = 0, so P = 3/4 if the answer is right and 1/4 if it is wrong."""
    a, d = np.array([1.6]), np.array([0.4])
    scores = estimate_abilities(Responses.from_wide(np.array([[1.0], [0.0]])), a, d, np.zeros(1), method="wle")
    np.testing.assert_allclose(a * scores.theta + d, [np.log(3), -np.log(3)], atol=1e-8)
    np.testing.assert_allclose(scores.se, np.full(2, 1 / (1.6 * np.sqrt(3 / 16))), rtol=1e-7)


@pytest.mark.parametrize("method", ["wle", "ml", "map"])
def test_estimates_of_a_3pl_are_roots_of_their_estimating_equations(method):
    """An earlier method missed 3 roots in 1000: its steps overshot if the equation was steeper than the information."""
    rng = np.random.default_rng(3)
    a, d, c = rng.uniform(0.5, 2.5, 15), 1.6 * rng.normal(size=15), np.full(15, 0.2)
    x = (rng.random((5000, 15)) < probability(rng.normal(size=5000), a, d, c)).astype(float)
    theta = estimate_abilities(Responses.from_wide(x), a, d, c, method=method).theta
    x, theta = x[np.isfinite(theta)], theta[np.isfinite(theta)]

    def equation(at):
        logistic = 1 / (1 + np.exp(-(at[:, None] * a + d)))
        p = c + (1 - c) * logistic
        slope = (1 - c) * a * logistic * (1 - logistic)
        total = ((x - p) * slope / (p * (1 - p))).sum(axis=1)
        if method == "wle":
            warm = (slope**2 * a * (1 - 2 * logistic) / (p * (1 - p))).sum(axis=1)
            total += warm / (2 * (slope**2 / (p * (1 - p))).sum(axis=1))
        return total - at if method == "map" else total

    near = np.abs(theta) < 8  # further out, p and 1 − p are rounded too much to show a root
    assert near.mean() > 0.9
    assert (equation(theta - 1e-5)[near] > 0).all()
    assert (equation(theta + 1e-5)[near] < 0).all()


def test_wle_is_nearly_unbiased_while_ml_and_jeffreys_mode_are_biased():
    """Warm (1989): under a 3PL the bias of order 1/n goes with J/(2I), not with I'/(2I)."""
    rng = np.random.default_rng(4)
    J, N, truth = 40, 20_000, -1.0
    a, c = np.full(J, 1.3), np.full(J, 0.2)
    d = -a * np.linspace(-2, 2, J)
    x = (rng.random((N, J)) < probability(np.array([truth]), a, d, c)).astype(float)
    bias = {}
    for method in ("wle", "jeffreys", "ml"):
        theta = estimate_abilities(Responses.from_wide(x), a, d, c, method=method).theta
        bias[method] = np.clip(theta, -6, 6).mean() - truth
    standard_error = 0.4 / np.sqrt(N)  # SD of an estimate here is about 0.4
    assert abs(bias["wle"]) < 0.015 + 3 * standard_error  # the remaining bias is of order 1/n²
    assert min(abs(bias["jeffreys"]), abs(bias["ml"])) > 2 * abs(bias["wle"])


@pytest.mark.parametrize("method", ["ml", "wle", "jeffreys"])
def test_learners_without_a_usable_answer_have_no_score_without_a_prior(method):
    rows = np.array([[1.0, np.nan, 0], [np.nan, 1, np.nan], [np.nan, np.nan, np.nan]])
    a, d, c = np.array([1.0, 0.0, 1.0]), np.zeros(3), np.zeros(3)
    scores = estimate_abilities(Responses.from_wide(rows), a, d, c, method=method)
    assert np.isfinite(scores.theta[0])
    assert np.isnan(scores.theta[1:]).all()  # the second learner answered only an item with slope 0
    assert np.isinf(scores.se[1:]).all()


@pytest.mark.parametrize("method", ["eap", "map", "ml", "wle"])
def test_every_method_gives_the_same_score_on_any_number_of_threads(method):
    rng = np.random.default_rng(3)
    responses = Responses.from_wide(rng.integers(0, 2, (5000, 30)).astype(float))
    a, d, c = rng.uniform(0.5, 2, 30), rng.normal(0, 1, 30), np.full(30, 0.1)
    one, three = (estimate_abilities(responses, a, d, c, method=method, threads=t) for t in (1, 3))
    np.testing.assert_array_equal(one.theta, three.theta)
    np.testing.assert_array_equal(one.se, three.se)


def test_unknown_methods_are_refused_with_their_name():
    with pytest.raises(ValueError, match="'mle'"):
        estimate_abilities(Responses.from_wide(np.ones((2, 4))), A, D, C, method="mle")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"a": A[:2]}, "a must have shape"), ({"c": np.array([0, 0, 1.2, 0])}, "got 1.2"), ({"sd": 0.0}, "sd must be")],
)
def test_invalid_arguments_are_refused_with_their_value(change, message):
    arguments = {"a": A, "d": D, "c": C, **change}
    with pytest.raises(ValueError, match=message):
        eap(Responses.from_wide(np.ones((2, 4))), **arguments)


def test_scores_are_empty_if_there_are_no_learners():
    assert eap(Responses.from_wide(np.empty((0, 4))), A, D, C).theta.shape == (0,)


@settings(max_examples=50, deadline=None)
@given(theta=number, a=number, d=number, c=st.floats(0, 0.5))
def test_information_is_the_squared_slope_over_the_variance(theta, a, d, c):
    args = (np.array([a]), np.array([d]), np.array([c]))
    p = probability(np.array([theta]), *args)[0, 0]
    h = 1e-5
    slope = (probability(np.array([theta + h]), *args) - probability(np.array([theta - h]), *args))[0, 0] / (2 * h)
    value = information(np.array([theta]), *args)[0, 0]
    assert c <= p <= 1
    assert value >= 0
    # the central difference is accurate to about h² = 1e-10, and rounding is 1e-11
    assert value * p * (1 - p) == pytest.approx(slope**2, abs=1e-8)


def test_curves_are_halfway_at_the_difficulty_and_finite_far_out():
    theta = np.array([0.7, -500.0, 500.0])
    a, c = np.array([1.5, 40.0]), np.array([0.2, 0.0])
    p = probability(theta, a, -a * 0.7, c)
    np.testing.assert_allclose(p[0], (1 + c) / 2)
    np.testing.assert_allclose(p[1:], [[0.2, 0.0], [1.0, 1.0]])
    far = information(theta, a, -a * 0.7, c)
    assert far.shape == (3, 2)
    assert np.isfinite(far).all()
    assert far[0, 1] == pytest.approx(40.0**2 / 4)


# -- sum scores --------------------------------------------------------------------------------------
# Sum-score tables against enumeration of every pattern.

SUM_A = np.array([0.8, 1.2, -0.5, 2.0, 1.0])
SUM_D = np.array([0.3, -1.0, 0.2, 0.5, -0.2])
SUM_C = np.array([0.0, 0.2, 0.0, 0.25, 0.1])
PATTERNS = np.array(list(product([0, 1], repeat=5)))
THETA = np.linspace(-7, 7, 2001)
WEIGHTS = np.exp(-0.5 * THETA**2) / np.exp(-0.5 * THETA**2).sum()
P = probability(THETA, SUM_A, SUM_D, SUM_C)
LIKELIHOOD = np.prod(np.where(PATTERNS[:, None, :] == 1, P, 1 - P), axis=2)
"""Patterns × nodes."""


def test_sum_score_table_matches_the_enumeration_of_patterns():
    table = sum_score_table(ItemCurves(SUM_A, SUM_D, SUM_C), Population.normal(0, 1))
    for k in range(6):
        weight = LIKELIHOOD[PATTERNS.sum(1) == k].sum(0) * WEIGHTS
        mean = weight @ THETA / weight.sum()
        # rectangle rules with 61 and with 2001 nodes: both are exact to about 1e-8
        assert table.probability[k] == pytest.approx(weight.sum(), abs=1e-7)
        assert table.theta[k] == pytest.approx(mean, abs=1e-6)
        assert table.se[k] == pytest.approx(np.sqrt(weight @ (THETA - mean) ** 2 / weight.sum()), abs=1e-6)


def test_expected_proportions_match_the_enumeration_of_patterns():
    expected, share = expected_proportions(np.ascontiguousarray(P.T), WEIGHTS)
    weight = LIKELIHOOD @ WEIGHTS
    for k in range(6):
        at = PATTERNS.sum(1) == k
        assert share[k] == pytest.approx(weight[at].sum())
        np.testing.assert_allclose(expected[:, k], weight[at] @ PATTERNS[at] / weight[at].sum(), atol=1e-12)


def test_sum_score_table_of_two_hundred_items_is_accurate():
    rng = np.random.default_rng(1)
    a, d = rng.uniform(0.5, 2.5, 200), rng.normal(0, 1.5, 200)
    table = sum_score_table(ItemCurves(a, d, np.zeros(200)), Population.normal(0, 1))
    assert table.probability.sum() == pytest.approx(1, abs=1e-12)
    assert np.all(np.diff(table.theta) > 0)


def test_items_without_parameters_are_refused_with_their_position():
    with pytest.raises(ValueError, match=r"positions \[1\]"):
        sum_score_table(ItemCurves(np.array([1.0, np.nan]), np.zeros(2), np.zeros(2)), Population.normal(0, 1))


def test_reliability_matches_the_squared_correlation_with_true_abilities():
    rng = np.random.default_rng(8)
    a, d = rng.uniform(0.6, 1.8, 40), rng.normal(0, 1, 40)
    theta = rng.normal(0.5, 1.3, 20_000)
    x = (rng.random((20_000, 40)) < probability(theta, a, d, np.zeros(40))).astype(float)
    scores = eap(Responses.from_wide(x), a, d, np.zeros(40), mean=0.5, sd=1.3)
    squared = np.corrcoef(scores.theta, theta)[0, 1] ** 2
    # standard error of a squared correlation of 0.9 at n = 20,000: 2·0.95·0.1/141 = 0.0013
    assert scores.reliability == pytest.approx(squared, abs=0.005)
    # marginal reliability is defined differently: the mean over θ of the reliability that the information implies
    assert marginal_reliability(a, d, np.zeros(40), mean=0.5, sd=1.3) == pytest.approx(squared, abs=0.03)


def test_marginal_reliability_ignores_items_without_parameters_and_is_in_0_to_1():
    assert marginal_reliability(np.array([1.0, np.nan]), np.zeros(2), np.zeros(2)) == marginal_reliability(
        np.ones(1), np.zeros(1), np.zeros(1)
    )
    assert marginal_reliability(np.zeros(3), np.zeros(3), np.zeros(3)) == 0
    assert 0.99 < marginal_reliability(np.ones(2000), np.linspace(-3, 3, 2000), np.zeros(2000)) < 1


def test_reliability_of_a_fit_uses_its_histogram():
    """θ has two peaks: under N(0, 1) scores would shrink towards the middle, which has no learners."""
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


def test_a_single_learner_has_no_empirical_reliability():
    assert np.isnan(Scores(np.zeros(1), np.ones(1)).reliability)
