"""θ from scored items (partial credit) beside items of 0 and 1, held to sums over every pattern of five mixed items."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

from irt_assets.psychometrics.core.item_models import CountedScores, ItemCurves, OtherItems
from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.scoring.abilities import Curves, eap, eap_by, score, wle
from irt_assets.psychometrics.scoring.rest_posterior import RestPosterior
from irt_assets.psychometrics.scoring.sum_scores import sum_score_table

MEAN, SD = 0.3, 1.2
A = np.array([1.1, 0.8, 0.5, 0.7, -0.4])
D = np.array([0.2, -0.3, 0.4, 0.1, 0.2])
C = np.array([0.0, 0.0, 0.0, 0.2, 0.0])
STEPS = {1: [0.0, 0.4, 0.0], 2: [0.0, -np.inf, 0.6, 0.0], 4: [0.0, -np.inf, 0.0]}
"""t by item: scores 0 to 2; 0 to 3 of which nobody had given 1; and 0 or 2. The others are a 2PL and a 3PL."""
MOST = np.array([1, 2, 3, 1, 2])
SCORES = [(0, 1), (0, 1, 2), (0, 2, 3), (0, 1), (0, 2)]
PATTERNS = np.array(list(product(*SCORES)))
OTHERS = OtherItems.of({j: {"max_score": MOST[j]} | {f"t{k}": t for k, t in enumerate(steps) if np.isfinite(t)}
                        for j, steps in STEPS.items()})  # fmt: skip
ITEMS = ItemCurves(A, D, C, OTHERS)


def responses_of(patterns, most=MOST) -> Responses:
    return Responses.from_wide(np.asarray(patterns, dtype=float), categories=np.asarray(most) + 1)


def log_probability(j: int, k: int, theta):
    """Of score k, by the formula of the model."""
    eta = A[j] * np.asarray(theta, dtype=float) + D[j]
    if j not in STEPS:
        right = C[j] + (1 - C[j]) * expit(eta)
        return np.log(right if k else 1 - right)
    every = np.stack([s * eta + t for s, t in enumerate(STEPS[j])])
    return every[k] - logsumexp(every, axis=0)


def loglik(pattern, theta):
    return sum(log_probability(j, k, theta) for j, k in enumerate(pattern) if k >= 0)


def test_a_posterior_mean_is_that_of_a_fine_grid_for_every_pattern():
    found = eap(responses_of(PATTERNS), A, D, C, others=OTHERS, mean=MEAN, sd=SD)
    theta = MEAN + SD * np.linspace(-10, 10, 4001)
    for pattern, mean, se in zip(PATTERNS, found.theta, found.se, strict=True):
        posterior = np.exp(loglik(pattern, theta) - 0.5 * ((theta - MEAN) / SD) ** 2)
        posterior /= posterior.sum()
        assert mean == pytest.approx(posterior @ theta, abs=1e-6)
        assert se == pytest.approx(np.sqrt(posterior @ (theta - mean) ** 2), abs=1e-6)


def test_the_posterior_by_the_other_items_is_the_same_whatever_scores_they_lack():
    responses = responses_of(PATTERNS)
    items = ItemParameters(responses.item_ids, A, -D / A, C, np.zeros((5, 2, 2)), others=OTHERS)
    answers = responses.person, responses.item, responses.score
    known = np.arange(5) != 1
    of = {"mean": MEAN, "sd": SD, "categories": responses.categories}
    found = RestPosterior.of(*answers, known, items, **of)
    rest = responses_of(np.where(known, PATTERNS, np.nan))
    expected = eap(rest, A, D, C, others=OTHERS, mean=MEAN, sd=SD).theta
    np.testing.assert_allclose(found.posterior(np.arange(len(PATTERNS))) @ found.nodes, expected, atol=1e-6)


def test_a_learner_with_hundreds_of_answers_is_scored_on_the_finer_grid():
    times, rng = 40, np.random.default_rng(1)
    pattern = PATTERNS[rng.integers(len(PATTERNS), size=times)].ravel()
    some = tuple(part for k in range(times) for part in (OTHERS[0].moved(5 * k),))
    items = ItemCurves(*(np.tile(x, times) for x in (A, D, C)), some)
    found = eap_by(responses_of([pattern], np.tile(MOST, times)), Curves.of(items, mean=MEAN, sd=SD))
    theta = np.linspace(-3, 3, 60_001)
    log_posterior = sum(loglik(part, theta) for part in pattern.reshape(times, 5)) - 0.5 * ((theta - MEAN) / SD) ** 2
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    assert found.se[0] < 0.17 * SD
    assert found.theta[0] == pytest.approx(posterior @ theta, abs=1e-5)


@pytest.mark.parametrize("method", ["map", "ml", "wle"])
def test_a_score_is_the_root_of_its_equation_found_by_differences(method):
    """J = Σ P'P''/P and the information Σ P'²/P by differences of the probabilities, of every score of every item."""
    found = score(responses_of(PATTERNS), A, D, C, others=OTHERS, method=method, mean=MEAN, sd=SD)
    step = 1e-4

    def slope(theta, pattern):
        first = (loglik(pattern, theta + step) - loglik(pattern, theta - step)) / (2 * step)
        if method == "map":
            return first - (theta - MEAN) / SD**2
        information, bend = 0.0, 0.0
        for j, scores in enumerate(SCORES):
            for k in scores:
                low, p, high = np.exp(log_probability(j, k, theta + step * np.array([-1, 0, 1])))
                information += ((high - low) / (2 * step)) ** 2 / p
                bend += (high - low) / (2 * step) * (high - 2 * p + low) / step**2 / p
        return first + (bend / (2 * information) if method == "wle" else 0.0)

    for pattern, theta in zip(PATTERNS, found.theta, strict=True):
        if np.isfinite(theta):
            root = brentq(slope, theta - 0.05, theta + 0.05, args=(pattern,))
            assert theta == pytest.approx(root, abs=2e-5)
    assert np.isfinite(found.theta).all() == (method != "ml")


def test_perfect_and_empty_patterns():
    """Full credit throughout: of the item with a negative slope, none."""
    ends = np.array([[1, 2, 3, 1, 0], [0, 0, 0, 0, 2], [-1, 2, -1, -1, -1], [-1, -1, -1, -1, -1]], dtype=float)
    ends[ends < 0] = np.nan
    of = {
        m: score(responses_of(ends), A, D, C, others=OTHERS, method=m, mean=MEAN, sd=SD) for m in ("ml", "wle", "eap")
    }
    assert of["ml"].theta[:3].tolist() == [np.inf, -np.inf, np.inf]
    assert np.isnan(of["ml"].theta[3])
    assert of["wle"].theta[0] > 2 > -2 > of["wle"].theta[1]
    assert (of["eap"].theta[3], of["eap"].se[3]) == (MEAN, SD)
    np.testing.assert_array_equal(wle(responses_of(ends), ITEMS, mean=MEAN, sd=SD).theta, of["wle"].theta)


def test_sum_scores_are_those_of_all_patterns():
    found = sum_score_table(A, D, C, others=OTHERS, mean=MEAN, sd=SD)
    unit = Grid.spanning()
    theta, weights = MEAN + SD * unit.nodes, np.exp(unit.log_weights())
    joint = np.zeros((MOST.sum() + 1, theta.size))
    for pattern in PATTERNS:
        joint[pattern.sum()] += weights * np.exp(loglik(pattern, theta))
    np.testing.assert_allclose(found.probability, joint.sum(axis=1), atol=1e-14)
    known = joint.sum(axis=1) > 0
    np.testing.assert_allclose(found.theta[known], (joint @ theta)[known] / joint.sum(axis=1)[known], rtol=1e-12)


def test_an_absent_score_counts_as_the_nearest_lower_one_and_where_none_is_lower_as_the_nearest_higher():
    absent = OtherItems.of({0: {"max_score": 4, "t1": 0.0, "t3": 0.0}, 1: {"max_score": 2, "t0": 0.0, "t1": 0.0}})
    assert absent[0].counted_as[0].tolist() == [1, 1, 1, 3, 3]
    assert absent[0].counted_as[1].tolist()[:3] == [0, 1, 1]
    items = ItemCurves(np.array([0.8, 1.0, 1.2]), np.zeros(3), np.zeros(3), absent)
    counted = CountedScores.of(items)

    def as_counted(item, scores, categories):
        given = np.array(scores, dtype=np.int8)
        return counted.of_answers(np.full(given.size, item), given, categories).tolist()

    bank = np.array([5, 3, 2])
    assert as_counted(0, [0, 1, 2, 3, 4], bank) == [1, 1, 1, 3, 3]
    assert as_counted(0, [5, 6], np.array([7, 3, 2])) == [3, 3], "above what the parameters know"
    assert as_counted(0, [0, 1], None) == [1, 3], "answers of which only full credit is known"
    assert as_counted(2, [0, 1, 2, 3], np.array([5, 3, 4])) == [0, 0, 0, 1], "parameters that know full credit alone"
    given = eap_by(Responses.from_wide([[0, 2, 0]], categories=[5, 3, 2]), Curves.of(items))
    same = eap_by(Responses.from_wide([[1, 1, 0]], categories=[5, 3, 2]), Curves.of(items))
    assert (given.theta, given.se) == (same.theta, same.se)
    plain = ItemCurves(items.a[2:], items.d[2:], items.c[2:])
    of_plain = eap_by(Responses.from_wide([[2], [3]], categories=[4]), Curves.of(plain))
    np.testing.assert_array_equal(of_plain.theta, eap_by(Responses.from_wide([[0], [1]]), Curves.of(plain)).theta)


def test_an_item_of_0_and_1_beside_scored_items_has_the_rows_of_the_fast_path():
    nodes = Grid.spanning().nodes
    given, lowest = ITEMS.score_tables(nodes)
    right, wrong = ItemCurves(A, D, C).log_tables(nodes)
    first = CountedScores.of(ITEMS).first_row
    for j in (0, 3):
        np.testing.assert_array_equal(given[first[j]], right[j])
        np.testing.assert_array_equal(lowest[first[j]], wrong[j])
