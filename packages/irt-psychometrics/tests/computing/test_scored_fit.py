"""Fit statistics of items scored 0 … m: enumeration, rejection rates under the model, and misfitting items.

`python -m benchmarks.bench_type1 --model gpcm` is the large version; docs/explanation/fit.md has its result.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logsumexp
from scipy.stats import binom, norm

from irt_psychometrics.core import kernels
from irt_psychometrics.core.classical import item_rest_correlation, proportion_correct
from irt_psychometrics.core.item_models import CountedScores, ItemCurves, OtherItems
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.itemfit.dependence import local_dependence
from irt_psychometrics.itemfit.fit_summary import FitSummary
from irt_psychometrics.itemfit.item_statistics import _FREQUENCIES, _PERIOD, _ByTransform, _Tables, item_fit
from irt_psychometrics.itemfit.model_replicates import FittedData
from irt_psychometrics.itemfit.person_patterns import person_fit
from irt_psychometrics.itemfit.sum_score_fit import sum_score_fit
from irt_psychometrics.scoring.abilities import Curves, eap, eap_by, estimate_abilities
from irt_psychometrics.scoring.rest_posterior import RestPosterior
from irt_psychometrics.scoring.sum_scores import expected_shares, sum_score_table
from irt_psychometrics.simulation.scored_items import ScoredItems
from psychometrics_testbed.fit_worlds import known, two_sided, unseen
from psychometrics_testbed.graded import GradedItems
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

KINDS = ((0, 1, 2, 3), (0, 2), (0, 1), (0, 1, 2))
PERSONS, ITEMS = 2000, 24


def draw_items(seed: int, n: int = ITEMS) -> tuple[ScoredItems, np.random.Generator]:
    rng = np.random.default_rng(seed)
    a, b = np.exp(rng.normal(0, 0.2, n)), rng.normal(0, 1, n)
    return ScoredItems.draw(rng, [KINDS[j % 4] for j in range(n)], a, b), rng


def responses_of(items: ScoredItems, x: np.ndarray) -> Responses:
    return Responses.from_wide(x, categories=items.max_scores + 1)


def truth(items: ScoredItems):
    """A calibration with the true parameters."""
    names = ["2pl" if most == 1 else "gpcm" for most in items.max_scores]
    t = np.where(np.arange(items.t.shape[1]) <= items.max_scores[:, None], items.t, np.nan)
    t[items.max_scores == 1] = np.nan
    found = known(items.a, -items.a * items.b)
    return replace(found, models=tuple(names), categories=items.max_scores + 1, further=t)


@pytest.fixture(scope="module")
def sound():
    """Responses to planned missing forms that follow the model, and their fit."""
    items, rng = draw_items(7)
    theta = rng.normal(size=PERSONS)
    x = items.matrix(rng, theta)
    x[unseen(PERSONS, ITEMS // 2)] = np.nan
    responses = responses_of(items, x)
    return responses, fit_em(responses, model=truth(items).models, threads=1)


@WHERE_STATISTICS_CHANGE
def test_shares_by_sum_score_match_the_enumeration_of_patterns():
    items, _ = draw_items(3, 4)
    whole = FittedData.from_responses(responses_of(items, np.zeros((1, 4))), truth(items))
    p, weights = np.exp(whole.log_probabilities), whole.abilities.weights[0]
    by_hand = np.zeros((4, 4, items.max_scores.sum() + 1))
    for pattern in itertools.product(*(range(most + 1) for most in items.max_scores)):
        likelihood = weights @ np.prod([p[x, j] for j, x in enumerate(pattern)], axis=0)
        for j, x in enumerate(pattern):
            by_hand[j, x, sum(pattern)] += likelihood
    rows = [(p[1 : m + 1, j], np.repeat(p[:1, j], m, axis=0)) for j, m in enumerate(items.max_scores)]
    given, lowest = (np.concatenate(part) for part in zip(*rows, strict=True))
    found = expected_shares(given, lowest, items.max_scores, weights)
    possible = by_hand.sum(axis=1, keepdims=True) > 0
    np.testing.assert_allclose(
        np.where(possible, found, 0), by_hand / np.maximum(by_hand.sum(axis=1, keepdims=True), 1e-300), atol=1e-12
    )


@WHERE_STATISTICS_CHANGE
def test_fit_summary_of_a_sound_fit_has_no_conspicuous_statistics(sound, simulate_about):
    simulate_about(100_000)
    responses, fit = sound
    found = FitSummary.from_fit(responses, fit, threads=1)
    assert all(np.isfinite(values).all() for values in found.items.values())
    for name in ("infit", "outfit"):
        assert np.abs(found.items[name] - 1).max() < 0.1
        assert (two_sided(found.items[f"{name}_z"]) < 0.05).sum() <= 5  # of 24; more than 5 occur once in 800 times
    assert max((found.items[name] < 0.05).sum() for name in ("s_x2_p", "rmsd_p")) <= 5
    assert 0.03 < found.whole["lz"]["unlikely"] < 0.07
    assert found.whole["parallel"]["p"] > 0.01
    assert found.whole["q3"]["flagged"] == 0
    assert [form["items"] for form in found.whole["m2"]] == [ITEMS // 2] * 3
    assert min(form["p"] for form in found.whole["m2"]) > 0.001


@WHERE_STATISTICS_CHANGE
def test_number_of_parameters_of_an_item_follows_from_its_scores(sound):
    """Counting a, d and the free t, items with 4 scores have 4 parameters, items with 3 scores 3, and items scored {0,
    2} or {0, 1} have 2."""
    responses, fit = sound
    assert FittedData.from_responses(responses, fit).own_parameters.sum(axis=0).tolist() == [4, 2, 2, 3] * 6


@WHERE_STATISTICS_CHANGE
def test_only_items_whose_scores_do_not_follow_theta_are_flagged(simulate_about):
    simulate_about(100_000)
    items, rng = draw_items(11)
    theta = rng.normal(size=PERSONS)
    x = items.matrix(rng, theta)
    x[:, 0] = np.where(rng.random(PERSONS) < 0.4 * np.exp(-(theta**2)), 0, x[:, 0])
    x[rng.random(PERSONS) < 0.3, 4] = 3
    responses = responses_of(items, x)
    fit = fit_em(responses, model=truth(items).models, threads=1)
    found, by_sum = item_fit(responses, fit), sum_score_fit(responses, fit)
    assert max(found.rmsd_p[0], by_sum.p[0]) < 0.001
    others = np.delete(np.arange(ITEMS), [0, 4])
    assert not ((found.rmsd_p < 0.001) | (by_sum.p < 0.001))[others].any()


@WHERE_STATISTICS_CHANGE
def test_copies_of_a_scored_item_and_careless_learners_are_flagged():
    items, rng = draw_items(13)
    x = items.matrix(rng, rng.normal(size=PERSONS))
    copied = x.copy()
    copied[:, 4] = np.where(rng.random(PERSONS) < 0.7, x[:, 0], x[:, 4])
    assert local_dependence(responses_of(items, copied), truth(items), threads=1).flagged[0] == (0, 4)
    careless = np.arange(PERSONS) < 100
    x[careless] = rng.integers(0, items.max_scores // np.where(items.t[:, 1] == -np.inf, 2, 1) + 1, (100, ITEMS))
    x[careless] *= np.where(items.t[:, 1] == -np.inf, 2, 1)
    p = person_fit(responses_of(items, x), truth(items), threads=1).p
    assert np.mean(p[careless] < 0.05) > 0.5
    assert np.mean(p[~careless] < 0.05) < 0.07


@WHERE_STATISTICS_CHANGE
def test_lz_star_keeps_its_level_at_the_true_parameters():
    items, rng = draw_items(17)
    p = person_fit(responses_of(items, items.matrix(rng, rng.normal(size=20_000))), truth(items)).p
    assert 0.04 < np.mean(p < 0.05) < 0.06  # its error is .0015


@WHERE_STATISTICS_CHANGE
def test_proportions_and_correlations_are_computed_from_shares_of_the_maximum():
    items, rng = draw_items(19)
    x = items.matrix(rng, rng.normal(size=500))
    shares, responses = x / items.max_scores, responses_of(items, x)
    np.testing.assert_allclose(proportion_correct(responses), shares.mean(axis=0))
    rest = shares.sum(axis=1)[:, None] - shares
    by_hand = [np.corrcoef(shares[:, j], rest[:, j])[0, 1] for j in range(ITEMS)]
    np.testing.assert_allclose(item_rest_correlation(responses), by_hand)


@WHERE_STATISTICS_CHANGE
def test_infit_outfit_and_rmsd_match_sums_over_posteriors(simulate_about):
    simulate_about(1000)
    items, rng = draw_items(23, 8)
    x = items.matrix(rng, rng.normal(size=300))
    fit = truth(items)
    whole = FittedData.from_responses(responses_of(items, x), fit)
    p, weights = np.exp(whole.log_probabilities), whole.abilities.weights[0]
    posterior = np.prod([p[x[:, j].astype(int), j] for j in range(8)], axis=0) * weights
    posterior /= posterior.sum(axis=1, keepdims=True)
    k = np.arange(4)[:, None]
    mean = (p * k[:, None]).sum(axis=0)
    variance = (p * (k[:, None] - mean) ** 2).sum(axis=0)
    found = item_fit(responses_of(items, x), fit)
    for j in range(8):
        away = x[:, [j]] - mean[j]
        infit = (away**2 * posterior).sum() / (variance[j] * posterior).sum()
        outfit = (away**2 / variance[j] * posterior).sum() / len(x)
        seen, residual = posterior.sum(axis=0), (away * posterior).sum(axis=0) / items.max_scores[j]
        rmsd = np.sqrt((residual**2 / np.maximum(seen, 1e-300)).sum() / len(x))
        assert (found.infit[j], found.outfit[j], found.rmsd[j]) == pytest.approx((infit, outfit, rmsd), abs=1e-9)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("expected", [0.5, 2.0, 30.0])
def test_distribution_of_a_sum_of_residuals_matches_the_binomial(expected):
    """Each of n answers is worth 1 − p with probability p, and −p otherwise: the sum is binomial minus its mean. This
    distribution has steps, at which the truncated series gives about the middle of the step."""
    n = 2000
    p = expected / n
    sd = np.sqrt(n * p * (1 - p))
    u = 2 * np.pi / (_PERIOD * sd) * np.arange(1, _FREQUENCIES + 1)
    transform = p * np.exp(1j * u * (1 - p)) + (1 - p) * np.exp(-1j * u * p) - 1
    events = np.arange(int(expected + 5 * sd))
    law = _ByTransform(np.full((1, events.size), sd), np.tile(transform, (1, events.size, 1)))
    below = norm.cdf(law.standardise((events - expected)[None], np.full(events.size, n))[0])
    by_hand = binom.cdf(events, n, p) - binom.pmf(events, n, p) / 2
    np.testing.assert_allclose(below, by_hand, atol=0.01)


@WHERE_STATISTICS_CHANGE
def test_statistics_far_from_the_model_are_not_shrunk():
    law = _ByTransform(np.ones((1, 3)), np.full((1, 3, _FREQUENCIES), -1e-3 + 0j))
    far = law.standardise(np.array([[-40.0, 20.0, 60.0]]), np.full(3, 1000))[0]
    assert far.tolist() == [-40.0, 20.0, 60.0]


@WHERE_STATISTICS_CHANGE
def test_transform_of_residuals_matches_posteriors_given_the_remaining_answers():
    """Compares with posteriors computed directly, for answers to four items and random directions."""
    items, rng = draw_items(31, 4)
    x = items.matrix(rng, rng.normal(size=6))
    whole = FittedData.from_responses(responses_of(items, x), truth(items))
    p, weights = np.exp(whole.log_probabilities), whole.abilities.weights[0]
    along = rng.normal(size=(2, *p.shape))
    sd = np.full((2, 4), 0.3)
    with kernels.runner(1) as run:
        tables = _Tables.from_fit(whole)
        transform, count = _ByTransform.sum_transforms(whole, tables, along, sd, run)
    assert count.tolist() == [6] * 4
    u = 2 * np.pi / (_PERIOD * 0.3) * np.arange(1, _FREQUENCIES + 1)
    for j in range(4):
        by_hand = np.zeros((2, u.size), dtype=complex)
        for answers in x.astype(int):
            others = np.prod([p[answers[k], k] for k in range(4) if k != j], axis=0) * weights
            for points in np.flatnonzero(p[:, j].any(axis=1)):
                joint = others * p[points, j]
                t = np.clip(along[:, points, j] @ joint / joint.sum(), -3.0, 3.0)
                by_hand += joint.sum() / others.sum() * (np.exp(1j * np.outer(t, u)) - 1)
        np.testing.assert_allclose(transform[:, j], by_hand, atol=1e-9)


@WHERE_STATISTICS_CHANGE
def test_posterior_without_an_item_matches_the_product_over_the_remaining_items():
    items, rng = draw_items(29, 8)
    x = items.matrix(rng, rng.normal(size=200))
    responses, fit = responses_of(items, x), truth(items)
    rows = responses.person, responses.item, responses.score
    others = np.arange(8) != 0
    found = RestPosterior.from_answers(*rows, others, fit.items, mean=0.0, sd=1.0, categories=items.max_scores + 1)
    posterior = found.posterior(np.arange(200))
    p = fit.item_model.probabilities(found.nodes, fit.parameters, fit.n_categories)
    by_hand = np.prod([p[j, :, x[:, j].astype(int)] for j in range(1, 8)], axis=0) * np.exp(found.log_prior)
    np.testing.assert_allclose(posterior, by_hand / by_hand.sum(axis=1, keepdims=True), atol=1e-10)


# -- scored items ------------------------------------------------------------------------------------
# θ from scored items (partial credit) and items of 0 and 1, compared with sums over all patterns of five mixed items.

MEAN, SD = 0.3, 1.2
A = np.array([1.1, 0.8, 0.5, 0.7, -0.4])
D = np.array([0.2, -0.3, 0.4, 0.1, 0.2])
C = np.array([0.0, 0.0, 0.0, 0.2, 0.0])
STEPS = {1: [0.0, 0.4, 0.0], 2: [0.0, -np.inf, 0.6, 0.0], 4: [0.0, -np.inf, 0.0]}
"""t by item: scores 0 to 2; 0 to 3 without any answer of 1; and 0 or 2. The other items follow a 2PL and a 3PL."""
MAX_SCORES = np.array([1, 2, 3, 1, 2])
SCORES = [(0, 1), (0, 1, 2), (0, 2, 3), (0, 1), (0, 2)]
PATTERNS = np.array(list(product(*SCORES)))
OTHERS = OtherItems.from_parameters(
    {
        j: {"max_score": MAX_SCORES[j]} | {f"t{k}": t for k, t in enumerate(steps) if np.isfinite(t)}
        for j, steps in STEPS.items()
    }
)
CURVES = ItemCurves(A, D, C, OTHERS)


def responses_of_patterns(patterns, most=MAX_SCORES) -> Responses:
    return Responses.from_wide(np.asarray(patterns, dtype=float), categories=np.asarray(most) + 1)


def log_probability(j: int, k: int, theta):
    """Log probability of score k, by the formula of the model."""
    eta = A[j] * np.asarray(theta, dtype=float) + D[j]
    if j not in STEPS:
        right = C[j] + (1 - C[j]) * expit(eta)
        return np.log(right if k else 1 - right)
    every = np.stack([s * eta + t for s, t in enumerate(STEPS[j])])
    return every[k] - logsumexp(every, axis=0)


def loglik(pattern, theta):
    return sum(log_probability(j, k, theta) for j, k in enumerate(pattern) if k >= 0)


def test_posterior_means_match_a_fine_grid_for_every_pattern():
    found = eap(responses_of_patterns(PATTERNS), A, D, C, others=OTHERS, mean=MEAN, sd=SD)
    theta = MEAN + SD * np.linspace(-10, 10, 4001)
    for pattern, mean, se in zip(PATTERNS, found.theta, found.se, strict=True):
        posterior = np.exp(loglik(pattern, theta) - 0.5 * ((theta - MEAN) / SD) ** 2)
        posterior /= posterior.sum()
        assert mean == pytest.approx(posterior @ theta, abs=1e-6)
        assert se == pytest.approx(np.sqrt(posterior @ (theta - mean) ** 2), abs=1e-6)


def test_a_learner_with_hundreds_of_answers_is_scored_on_the_finer_grid():
    times, rng = 40, np.random.default_rng(1)
    pattern = PATTERNS[rng.integers(len(PATTERNS), size=times)].ravel()
    some = tuple(part for k in range(times) for part in (OTHERS[0].shift_places(5 * k),))
    items = ItemCurves(*(np.tile(x, times) for x in (A, D, C)), some)
    found = eap_by(
        responses_of_patterns([pattern], np.tile(MAX_SCORES, times)), Curves.from_items(items, mean=MEAN, sd=SD)
    )
    theta = np.linspace(-3, 3, 60_001)
    log_posterior = sum(loglik(part, theta) for part in pattern.reshape(times, 5)) - 0.5 * ((theta - MEAN) / SD) ** 2
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    assert found.se[0] < 0.17 * SD
    assert found.theta[0] == pytest.approx(posterior @ theta, abs=1e-5)


@pytest.mark.parametrize("method", ["map", "ml", "wle"])
def test_scores_are_roots_of_their_estimating_equations(method):
    """J = Σ P'P''/P and the information Σ P'²/P come from differences of the probabilities of all scores."""
    found = estimate_abilities(responses_of_patterns(PATTERNS), A, D, C, others=OTHERS, method=method, mean=MEAN, sd=SD)
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


def test_perfect_patterns_have_infinite_ml_and_empty_patterns_have_the_prior():
    """A perfect pattern has full credit for all items, but 0 for the item with a negative slope."""
    ends = np.array([[1, 2, 3, 1, 0], [0, 0, 0, 0, 2], [-1, 2, -1, -1, -1], [-1, -1, -1, -1, -1]], dtype=float)
    ends[ends < 0] = np.nan
    scores = {
        m: estimate_abilities(responses_of_patterns(ends), A, D, C, others=OTHERS, method=m, mean=MEAN, sd=SD)
        for m in ("ml", "wle", "eap")
    }
    assert scores["ml"].theta[:3].tolist() == [np.inf, -np.inf, np.inf]
    assert np.isnan(scores["ml"].theta[3])
    assert scores["wle"].theta[0] > 2 > -2 > scores["wle"].theta[1]
    assert (scores["eap"].theta[3], scores["eap"].se[3]) == (MEAN, SD)
    by_curves = Curves.from_items(CURVES, mean=MEAN, sd=SD).wle(responses_of_patterns(ends))
    np.testing.assert_array_equal(by_curves.theta, scores["wle"].theta)


def test_sum_score_table_matches_the_enumeration_of_patterns():
    found = sum_score_table(ItemCurves(A, D, C, OTHERS), Population.normal(MEAN, SD))
    unit = Grid.symmetric()
    theta, weights = MEAN + SD * unit.nodes, np.exp(unit.log_weights())
    joint = np.zeros((MAX_SCORES.sum() + 1, theta.size))
    for pattern in PATTERNS:
        joint[pattern.sum()] += weights * np.exp(loglik(pattern, theta))
    np.testing.assert_allclose(found.probability, joint.sum(axis=1), atol=1e-14)
    known = joint.sum(axis=1) > 0
    np.testing.assert_allclose(found.theta[known], (joint @ theta)[known] / joint.sum(axis=1)[known], rtol=1e-12)


def test_absent_scores_count_as_the_nearest_lower_score():
    """If there is no lower score, they count as the nearest higher score."""
    absent = OtherItems.from_parameters(
        {0: {"max_score": 4, "t1": 0.0, "t3": 0.0}, 1: {"max_score": 2, "t0": 0.0, "t1": 0.0}}
    )
    assert (absent[0].counted_as[0].tolist(), absent[0].counted_as[1].tolist()[:3]) == ([1, 1, 1, 3, 3], [0, 1, 1])
    items = ItemCurves(np.array([0.8, 1.0, 1.2]), np.zeros(3), np.zeros(3), absent)
    counted = CountedScores.from_curves(items)

    def as_counted(item, scores, categories):
        given = np.array(scores, dtype=np.int8)
        return counted.of_answers(np.full(given.size, item), given, categories).tolist()

    bank = np.array([5, 3, 2])
    counted_as = {
        "known": as_counted(0, [0, 1, 2, 3, 4], bank),
        "above what the parameters know": as_counted(0, [5, 6], np.array([7, 3, 2])),
        "answers of which only full credit is known": as_counted(0, [0, 1], None),
        "parameters that know full credit alone": as_counted(2, [0, 1, 2, 3], np.array([5, 3, 4])),
    }
    assert [*counted_as.values()] == [[1, 1, 1, 3, 3], [3, 3], [1, 3], [0, 0, 0, 1]], counted_as
    given = eap_by(Responses.from_wide([[0, 2, 0]], categories=[5, 3, 2]), Curves.from_items(items))
    same = eap_by(Responses.from_wide([[1, 1, 0]], categories=[5, 3, 2]), Curves.from_items(items))
    assert (given.theta, given.se) == (same.theta, same.se)
    plain = ItemCurves(items.a[2:], items.d[2:], items.c[2:])
    of_plain = eap_by(Responses.from_wide([[2], [3]], categories=[4]), Curves.from_items(plain))
    np.testing.assert_array_equal(
        of_plain.theta, eap_by(Responses.from_wide([[0], [1]]), Curves.from_items(plain)).theta
    )


def test_graded_items_have_the_same_shares_of_scores_but_different_curves():
    rng = np.random.default_rng(8)
    items = ScoredItems.draw(rng, [(0, 1, 2, 3), (0, 2)], np.array([1.2, 1.0]), np.array([0.3, -0.4]))
    theta = Grid.symmetric(241)
    weights, graded = np.exp(theta.log_weights()), GradedItems(items.a, items.b, items.t)
    for j, most in enumerate(items.max_scores):
        item, distance = np.full(theta.nodes.size, j), theta.nodes - items.b[j]
        one, other = (some.at_least(distance, item)[:, : most + 1] for some in (items, graded))
        np.testing.assert_allclose(weights @ one, weights @ other, atol=2e-4)
        assert (np.abs(one - other).max() > 0.005) == (most == 3)  # with two scores, both are a 2PL
