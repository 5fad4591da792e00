"""Fits of the partial credit family: log P(k) = k·(aθ + d) + t_k up to a constant, for the observed scores."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import logsumexp

from irt_psychometrics import PsychometricsError
from irt_psychometrics.core import kernels
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.model_families import GPCM, TWO_PL
from irt_psychometrics.core.priors import RARE_SCORE, STEP_SD, RareSteps
from irt_psychometrics.core.program_forms import columns_of as program_columns
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.estimation import Flag, Shape, fit_em, standard_errors
from irt_psychometrics.estimation.marginal import Problem
from irt_psychometrics.estimation.optimizer import maximise
from irt_psychometrics.estimation.parameter_layout import ParameterLayout
from irt_psychometrics.estimation.response_layout import ResponseLayout
from irt_psychometrics.items import ItemModel, LogNormal, Priors
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import Curves
from irt_psychometrics.scoring.abilities import eap_by
from psychometrics_testbed.made_anchors import anchors_of_items
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

LEARNERS, ITEMS = 1500, 12
CATEGORIES = np.array([3, 4] * (ITEMS // 2))
PLAIN = np.array([2] * 4 + [4] * 4)
"""Numbers of categories of eight items; the first half is scored 0 and 1."""


def simulated(seed=1, learners=LEARNERS, missing=0.0, categories=CATEGORIES):
    """True parameters (P, J), abilities and a matrix of scores."""
    rng = np.random.default_rng(seed)
    J, C = len(categories), categories.max()
    truth = np.zeros((2 + C, J))
    truth[0] = np.exp(rng.normal(0, 0.3, J))
    truth[1] = rng.normal(0, 0.7, J)
    for j, n in enumerate(categories):
        truth[3 : 1 + n, j] = rng.normal(0.4, 0.4, n - 2)
    theta = rng.standard_normal(learners)
    p = GPCM.probabilities(theta, truth, categories)
    x = (rng.random((J, learners, 1)) > np.cumsum(p, axis=2)).sum(axis=2).T.astype(float)
    x[rng.random(x.shape) < missing] = np.nan
    return truth, theta, x


def with_gaps(x):
    """The same answers, but item 1 has no score of 1, item 2 no 0, item 4 no 3, and item 6 neither 1 nor 2."""
    x = x.copy()
    x[:, 0] = np.where(x[:, 0] == 1, 0, x[:, 0])
    x[:, 1] = np.where(x[:, 1] == 0, 1, x[:, 1])
    x[:, 3] = np.where(x[:, 3] == 3, 2, x[:, 3])
    x[:, 5] = np.where(np.isin(x[:, 5], (1, 2)), 0, x[:, 5])
    return x


def answers(x, categories=CATEGORIES):
    return Responses.from_wide(x, categories=categories)


@pytest.fixture(scope="module")
def world():
    truth, theta, x = simulated()
    responses = answers(x)
    return truth, theta, responses, fit_em(responses, model="gpcm", threads=1)


def brute_force(responses, parameters):
    """log L by quadrature with a loop over answers, and the posteriors (N, Q)."""
    nodes = Grid.symmetric().nodes
    weights = np.exp(-0.5 * nodes**2)
    logs = GPCM.log_probabilities(nodes, parameters, responses.n_categories)
    joint = np.tile(np.log(weights / weights.sum()), (responses.n_persons, 1))
    for person, item, score in zip(responses.person, responses.item, responses.score, strict=True):
        joint[person] += logs[item, :, score]
    total = logsumexp(joint, axis=1)
    return float(total.sum()), np.exp(joint - total[:, None])


def problem_of(responses, run, models=("gpcm",) * ITEMS, priors=None, **options):
    data = ResponseLayout.from_responses(responses, by_category=True)
    layout = ParameterLayout.from_model(
        model_of(models),
        responses.n_items,
        categories=responses.n_categories,
        given_scores=data.counts.table > 0,
        **options,
    )
    return Problem(data, layout, Grid.symmetric(), run, priors or Priors())


def test_simulated_parameters_are_recovered_by_a_gpcm_fit(world):
    truth, _, _, fit = world
    assert fit.convergence.converged, fit.convergence.reason
    found = np.vstack([fit.a, fit.d, fit.further.T])
    errors = np.sqrt(np.diagonal(fit.cov, axis1=1, axis2=2).T)
    free = GPCM.free(CATEGORIES)
    z = ((found - truth) / np.where(free, errors, 1.0))[free]
    # 42 standardised errors: four or more are beyond 4 in fewer than one of 10^6 fits; their mean square is 1 ± .3
    assert np.abs(z).max() < 4
    assert abs(np.mean(z**2) - 1) < 0.9
    assert np.isnan(fit.further[CATEGORIES == 3, 3]).all()
    assert (fit.c == 0).all()
    assert fit.convergence.n_parameters == free.sum()


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_likelihood_gradient_and_information_match_brute_force(gaps, missing):
    _, _, x = simulated(seed=3, learners=200, missing=missing)
    responses = answers(with_gaps(x) if gaps else x)
    with kernels.runner(1) as run:
        problem = problem_of(responses, run)
        s = problem.structure
        x = problem.start() + np.random.default_rng(5).normal(0, 0.2, s.size)
        point = problem.evaluate(x)
        parameters = s.expand(x)[: s.means.start].reshape(s.K, -1)
        assert point.loglik == pytest.approx(brute_force(responses, parameters)[0], abs=1e-8)
        columns = s.shared_columns(s.listed, np.ones(s.size, dtype=bool))
        information = columns.add_up(problem.observed_information(point))
        differences = np.empty((s.size, s.size))
        for k in range(s.size):
            move = np.zeros(s.size)
            move[k] = 1e-3
            near, far = ([problem.evaluate(x + sign * by * move) for sign in (-1, 1)] for by in (1, 2))
            slope = (8 * (near[1].loglik - near[0].loglik) - (far[1].loglik - far[0].loglik)) / 12e-3
            assert point.gradient[k] == pytest.approx(slope, abs=1e-7)
            differences[k] = (far[1].gradient - far[0].gradient - 8 * (near[1].gradient - near[0].gradient)) / 12e-3
    # exact if all persons answer the same items; otherwise expanded in a few polynomials, to about 1e-5
    unit = np.sqrt(np.diag(information))
    np.testing.assert_allclose(
        information / np.outer(unit, unit), differences / np.outer(unit, unit), atol=1e-5 if missing else 1e-10
    )


def test_information_of_rating_scales_matches_finite_differences():
    categories = np.array([4] * 6 + [3] * 4)
    _, _, x = simulated(seed=3, learners=200, categories=categories)
    blocks = np.array([0] * 6 + [1] * 4)
    with kernels.runner(1) as run:
        problem = problem_of(answers(x, categories), run, ("rsm",) * 10, steps_of=blocks)
        s = problem.structure
        point = maximise(problem, problem.start(), 1e-9, 100).point
        columns = s.shared_columns(s.listed, np.ones(s.size, dtype=bool))
        information = columns.add_up(problem.observed_information(point))
        differences = problem.gradient_differences(point, np.arange(s.size))
    assert s.size == 10 + 2 + 1 + 1  # d, t of both blocks, and the SD
    np.testing.assert_allclose(information, differences, atol=1e-5 * np.diag(information).max())


def test_2pl_items_among_gpcm_items_equal_gpcm_items_of_two_scores():
    _, _, x = simulated(seed=8, learners=800, categories=PLAIN)
    one = fit_em(answers(x, PLAIN), model=["2pl"] * 4 + ["gpcm"] * 4, threads=1)
    other = fit_em(answers(x, PLAIN), model="gpcm", threads=1)
    for name in ("a", "d", "cov", "joint_cov"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-10)
    assert np.isnan(one.further[:4]).all()


@pytest.mark.parametrize("many", ["pcm", "rsm"])
def test_fits_with_a_common_slope_and_with_slopes_of_1_differ_only_in_unit(many):
    _, _, x = simulated(seed=8, learners=800, categories=PLAIN)
    fixed, common = (
        fit_em(answers(x, PLAIN), model=[few] * 4 + [many] * 4, tolerance=1e-7, threads=1) for few in ("rasch", "1pl")
    )
    assert common.convergence.converged
    assert fixed.convergence.converged
    # two ascents to the same maximum, each to 1e-7 of a standard error; the grids differ in units of θ
    assert common.convergence.loglik == pytest.approx(fixed.convergence.loglik, abs=1e-4)
    np.testing.assert_allclose(common.a, fixed.latent_sd, rtol=1e-5)
    np.testing.assert_allclose(common.d, fixed.d, atol=1e-5)
    np.testing.assert_allclose(common.a_se, fixed.populations[0].sd_se, rtol=1e-3)
    np.testing.assert_allclose(common.d_se, fixed.d_se, rtol=1e-3)
    assert (fixed.a_se == 0).all()
    assert (np.ptp(fixed.further[4:], axis=0) == 0).all() == (many == "rsm")


def test_rating_scales_are_refused_if_items_have_different_scores():
    _, _, x = simulated(seed=4, learners=200, categories=PLAIN)
    responses = answers(x[:, 4:], PLAIN[4:])
    two = {"i1": "agree", "i2": "agree"}
    fit = fit_em(responses, model="rsm", blocks=two, threads=1)
    assert (fit.further[[0, 2]] == fit.further[[1, 3]]).all()
    assert fit.further[0, 1] != fit.further[2, 1]
    x[x[:, 4] == 3, 4] = 2
    with pytest.raises(
        PsychometricsError, match="in the block 'agree' i1 has the scores 0, 1, 2 of 0 … 3 and i2 has 0, 1, 2"
    ):
        fit_em(answers(x[:, 4:], PLAIN[4:]), model="rsm", blocks=two)


def test_errors_are_computed_by_blocks_if_parameters_are_many(monkeypatch):
    _, _, x = simulated(seed=5, learners=4000, missing=0.6)
    whole = fit_em(answers(x), model="gpcm", threads=1)
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_PARAMETERS", 10)
    blocks = fit_em(answers(x), model="gpcm", threads=1)
    assert blocks.joint_cov is None
    free = GPCM.free(CATEGORIES).T
    ratio = np.sqrt(np.diagonal(blocks.cov, axis1=1, axis2=2)[free] / np.diagonal(whole.cov, axis1=1, axis2=2)[free])
    assert 0.8 < ratio.min() <= ratio.max() < 1 + 1e-6  # blocks leave out covariances through the unit of θ
    with pytest.raises(PsychometricsError, match="a rating scale model are computed for up to 10 parameters"):
        fit_em(answers(x[:, ::2], CATEGORIES[::2]), model="rsm")


def test_the_joint_covariance_has_all_parameters_at_their_positions(world):
    _, _, _, fit = world
    free = GPCM.free(CATEGORIES)
    places = fit.places_of_parameters
    assert fit.joint_cov.shape == (free.sum(),) * 2
    assert sorted(places[places >= 0]) == list(range(free.sum()))
    for j, own in enumerate(places):
        has = np.flatnonzero(own >= 0)
        np.testing.assert_allclose(fit.joint_cov[np.ix_(own[has], own[has])], fit.cov[j][np.ix_(has, has)], rtol=1e-12)
    part = fit.select([7, 2])
    kept = np.concatenate([places[[7, 2], :2].ravel(), *(own[own >= 0] for own in places[[7, 2], 2:])])
    np.testing.assert_array_equal(part.joint_cov, fit.joint_cov[np.ix_(kept, kept)])


def test_linked_fits_keep_their_curves_and_transform_errors_by_the_jacobian(world):
    _, _, _, fit = world
    theta, slope, intercept = np.linspace(-2, 2, 9), 1.25, -0.6
    linked = fit.rescaled(slope, intercept)
    np.testing.assert_allclose(
        GPCM.probabilities(slope * theta + intercept, linked.parameters, CATEGORIES),
        GPCM.probabilities(theta, fit.parameters, CATEGORIES),
        rtol=1e-12,
    )
    step, places = 1e-6, fit.places_of_parameters
    by, size = np.zeros((len(fit.joint_cov),) * 2), len(fit.parameters)
    for j, k in np.argwhere(places >= 0):
        move = np.zeros_like(fit.parameters)
        move[k, j] = step
        up, down = (GPCM.transform_parameters(fit.parameters + sign * move, slope, intercept) for sign in (1, -1))
        changed = ((up - down) / (2 * step)).T[:, :size]
        by[places[places >= 0], places[j, k]] = changed[places >= 0]
    # differences with a step of 1e-6
    np.testing.assert_allclose(linked.joint_cov, by @ fit.joint_cov @ by.T, atol=1e-6 * np.abs(fit.joint_cov).max())


def test_change_of_scale_is_refused_for_models_without_their_own_transformation():
    for change in (
        lambda: ItemModel.transform_parameters(GPCM, np.ones((4, 2)), 1.2, 0.1),
        lambda: ItemModel.jacobian(GPCM, 1.2, 0.1, 4),
    ):
        with pytest.raises(PsychometricsError, match="a GPCM has more"):
            change()


def test_abilities_match_posterior_means_by_brute_force(world):
    _, theta, responses, fit = world
    scored = eap_by(responses, Curves.from_items(fit.curves), threads=1)
    loglik, posterior = brute_force(responses, fit.parameters)
    assert fit.convergence.loglik == pytest.approx(loglik, abs=1e-8)
    nodes = Grid.symmetric().nodes
    mean = posterior @ nodes
    np.testing.assert_allclose(scored.theta, mean, atol=1e-10)
    np.testing.assert_allclose(scored.se, np.sqrt((posterior * (nodes - mean[:, None]) ** 2).sum(axis=1)), atol=1e-10)
    assert np.corrcoef(scored.theta, theta)[0, 1] > 0.9  # a reliability of 0.85 has a correlation of 0.92


def test_expected_score_and_information_match_finite_differences(world):
    truth, _, _, _ = world
    theta, step = np.linspace(-3, 3, 13), 1e-5
    p = GPCM.probabilities(theta, truth, CATEGORIES)
    np.testing.assert_allclose(p.sum(axis=2), 1.0, rtol=1e-12)
    np.testing.assert_allclose(GPCM.expected_score(theta, truth, CATEGORIES), p @ np.arange(4), rtol=1e-12)
    up, down = (GPCM.expected_score(theta + sign * step, truth, CATEGORIES) for sign in (1, -1))
    # a GPCM's information is a² Var(score), and the slope of the expected score is a·Var(score) (Muraki 1993)
    np.testing.assert_allclose(
        GPCM.information(theta, truth, CATEGORIES), truth[0][:, None] * (up - down) / (2 * step), atol=1e-8
    )


def test_gpcm_fits_converge_with_groups_and_with_a_histogram(world):
    _, _, responses, fit = world
    groups = ["a", "b"] * (LEARNERS // 2)
    grouped = fit_em(responses, model="gpcm", groups=groups, threads=1)
    assert grouped.convergence.converged, grouped.convergence.reason
    assert abs(grouped.populations[1].mean) < 4 * grouped.populations[1].mean_se
    shaped = fit_em(responses, model="gpcm", latent="histogram", threads=1)
    assert shaped.convergence.converged, shaped.convergence.reason
    # θ is normal here, so errors with a free shape equal errors with a known shape, within a tenth
    np.testing.assert_allclose(np.sqrt(shaped.cov[:, 0, 0]), np.sqrt(fit.cov[:, 0, 0]), rtol=0.1)


def test_gpcm_fits_use_a_prior_on_slopes_and_weights_of_learners(world):
    _, _, responses, fit = world
    held = fit_em(responses, model="gpcm", priors=Priors(a=LogNormal(0, 0.05)), threads=1)
    assert np.abs(np.log(held.a)).max() < np.abs(np.log(fit.a)).max() / 2
    twice = fit_em(responses, model="gpcm", weights=np.full(LEARNERS, 2.0), threads=1)
    np.testing.assert_allclose(twice.cov, fit.cov / 2, rtol=1e-3)  # two ascents, each to 1e-5 of a standard error


def test_steps_of_an_item_are_named_and_kept_when_items_are_selected(world):
    _, _, _, fit = world
    assert [*fit.further_of(0)] == ["max_score", "t0", "t0_se", "t1", "t1_se", "t2", "t2_se", "b1_se", "b2_se"]
    np.testing.assert_array_equal(fit.select([1, 2]).further, fit.further[[1, 2]])


def test_errors_of_steps_match_the_spread_over_drawn_parameters(world):
    """10,000 draws of (a, d, t) from the fit's covariances; their SD has an error of 0.7 %."""
    _, _, _, fit = world
    for j in (0, 3):
        further, size = fit.further_of(j), 2 + int(fit.n_categories[j])
        own = np.array([fit.a[j], fit.d[j], *fit.further[j, : size - 2]])
        drawn = np.random.default_rng(3).multivariate_normal(own, fit.cov[j, :size, :size], 10_000, method="eigh")
        steps = []
        for a, d, *t in drawn:
            columns = program_columns("steps", {"a": a, "b": -d / a, "max_score": size - 3, **name_t(t)})
            steps.append([columns[f"b{k}"] for k in range(1, size - 2)])
        spread = [further[f"b{k}_se"] for k in range(1, size - 2)]
        np.testing.assert_allclose(np.std(steps, axis=0), spread, rtol=0.04)


def name_t(t):
    return {f"t{k}": value for k, value in enumerate(t)}


@pytest.mark.parametrize("models", ["gpcm", ["gpcm"] * 11 + ["pcm"]])
def test_scores_without_answers_have_no_parameters(models):
    _, _, x = simulated(seed=9, learners=300)
    fit = fit_em(answers(with_gaps(x)), model=models, threads=1)
    assert fit.convergence.converged, fit.convergence.reason
    assert [np.flatnonzero(np.isfinite(t)).tolist() for t in fit.further[[0, 1, 3, 5]]] == [
        [0, 2],
        [1, 2, 3],
        [0, 1, 2],
        [0, 3],
    ]
    assert (fit.further[0, [0, 2]] == 0).all()
    assert all(fit.flags[j] == () for j in (0, 1, 3, 5))
    assert fit.joint_cov.shape == (2 * ITEMS + 18 - 5,) * 2
    # an item with the scores 0 and 2 equals an item of 0 and 1 with twice the slope and twice the intercept
    twice = with_gaps(x)
    twice[:, 0] /= 2
    halved = fit_em(answers(twice, np.append(2, CATEGORIES[1:])), model=models, threads=1)
    np.testing.assert_allclose([2 * fit.a[0], 2 * fit.d[0]], [halved.a[0], halved.d[0]], atol=1e-6)


def test_items_with_a_single_observed_score_have_no_estimate_and_a_flag():
    _, _, x = simulated(seed=9, learners=300)
    x[:, 0], x[:, 1], x[:, 3] = 0, 3, 1
    fit = fit_em(answers(x), model="gpcm", threads=1)
    assert [fit.flags[j] for j in (0, 1, 3)] == [(Flag.ALL_WRONG,), (Flag.ALL_CORRECT,), (Flag.UNIDENTIFIED,)]
    assert np.isnan(fit.a[[0, 1, 3]]).all()
    assert np.isfinite(np.delete(fit.a, [0, 1, 3])).all()


def test_steps_next_to_a_rare_score_have_a_weak_prior_that_the_fit_records():
    _, _, x = simulated(seed=6, learners=300)
    few = np.flatnonzero(x[:, 1] == 3)[2:]
    x[few, 1] = 2
    responses = answers(x)
    fit, without = (fit_em(responses, model="gpcm", threads=1, prior_on_rare_steps=on) for on in (True, False))
    assert fit.convergence.converged, fit.convergence.reason
    assert without.priors == {}
    others = fit_em(responses, model="gpcm", threads=1, prior_on_rare_steps={"i1"})
    np.testing.assert_array_equal(others.d, without.d)
    named = Priors.from_dict(fit.priors).rare_steps
    assert named.sd == STEP_SD
    rare = {
        j
        for j, n in enumerate(ResponseLayout.from_responses(responses, by_category=True).counts.table)
        if (n < RARE_SCORE).any()
    }
    assert {f"i{j + 1}" for j in rare if CATEGORIES[j] == 4 or x[:, j].max() < 2} <= set(named.items)
    step = fit.d[1] - fit.further[1, 2]  # ln P(3)/P(2) at θ = 0
    assert abs(step) < abs(without.d[1] - without.further[1, 2])
    with kernels.runner(1) as run:
        problem = problem_of(responses, run, priors=Priors(rare_steps=RareSteps(STEP_SD, ("i2",))))
        at = problem.start()
        point = problem.evaluate(at)
        for k in range(len(at)):
            move = np.zeros(len(at))
            move[k] = 1e-5
            slope = (problem.evaluate(at + move).objective - problem.evaluate(at - move).objective) / 2e-5
            assert point.gradient[k] == pytest.approx(slope, abs=1e-5)


def test_anchored_items_keep_the_parameters_of_their_scores():
    _, _, x = simulated(seed=10, learners=600)
    free = fit_em(answers(with_gaps(x)), model="gpcm", threads=1)
    anchors = anchors_of_items(free.select(np.arange(6)).items.rescaled(1.2, 3.0))
    unseen = with_gaps(x)
    unseen[:, 2] = np.nan
    held = fit_em(answers(with_gaps(x)), model="gpcm", anchors=anchors, threads=1)
    assert held.convergence.converged, held.convergence.reason
    np.testing.assert_array_equal(held.further[:6], free.further[:6])
    # anchored at the free fit's maximum on a different scale, so the remaining items and the population agree, too
    np.testing.assert_allclose(held.a[6:] * 1.2, free.a[6:], rtol=1e-4)
    np.testing.assert_allclose([held.latent_mean, held.latent_sd], [3.0, 1.2], rtol=1e-4)
    without = fit_em(answers(unseen), model="gpcm", anchors=anchors, threads=1)
    np.testing.assert_array_equal(without.further[2], free.further[2])
    own = without.places_of_parameters[:6]
    assert (without.joint_cov[own[own >= 0]] == 0).all()
    # a score without parameters counts as the nearest lower score, or else as the nearest higher score
    recoded = fit_em(answers(x), model="gpcm", anchors=anchors, threads=1)
    as_counted = x.copy()
    as_counted[:, [0, 1, 3, 5]] = with_gaps(x)[:, [0, 1, 3, 5]]
    same = fit_em(answers(as_counted), model="gpcm", anchors=anchors, threads=1)
    assert recoded.convergence.loglik == same.convergence.loglik


@pytest.mark.parametrize(
    ("scores", "categories", "message"),
    [
        ([[0, 3], [3, 1]], [4, 3], "item i2 has 3 categories, scored 0 … 2; found a score of 3"),
        ([[0, 1]], [2, 1], "categories must be 2 numbers of at least 2"),
        ([[0, 2]], None, "scores must be 0, 1 or NaN"),
    ],
)
def test_scores_beyond_an_items_categories_are_refused(scores, categories, message):
    with pytest.raises(PsychometricsError, match=message):
        Responses.from_wide(scores, categories=categories)


def test_requests_that_need_two_categories_are_refused_for_scored_items(world):
    _, _, responses, fit = world
    with pytest.raises(PsychometricsError, match=r"a 2PL is for items of two categories, and 12 items .* i1 \(3\)"):
        fit_em(responses, model=TWO_PL.name)
    with pytest.raises(PsychometricsError, match="within testlets is defined for items of two categories"):
        fit_em(responses, model="gpcm", testlets={"i1": "t", "i2": "t"})
    anchors = anchors_of_items(fit.select([1]).items)
    fewer = Responses.from_wide(np.minimum(simulated()[2], 2), categories=np.full(ITEMS, 3))
    with pytest.raises(PsychometricsError, match=r"anchor i2 has parameters for scores 0 … 3, .* are scored 0 … 2"):
        fit_em(fewer, model="gpcm", anchors=anchors)


def test_fit_of_unrelated_scores_reports_that_they_are_unrelated():
    categories = np.array([2, 3, 4] * 3)
    scores = np.random.default_rng(1).integers(0, categories, (400, 9))
    fit = fit_em(answers(scores, categories), model="gpcm", threads=1)
    expected = ("cannot be distinguished from unrelated ones", "(shuffle ")
    assert [part for part in expected if part not in fit.convergence.reason] == []


@pytest.mark.parametrize(("skewed", "latent"), [(False, "normal"), (True, "histogram")])
def test_shape_of_theta_is_chosen_by_a_test_of_normality(skewed, latent):
    rng, learners = np.random.default_rng(3), 1200
    theta = rng.exponential(1, learners) - 1 if skewed else rng.standard_normal(learners)
    categories = CATEGORIES[:8]
    p = GPCM.probabilities(theta, simulated(categories=categories)[0], categories)
    scores = (rng.random((8, learners, 1)) > np.cumsum(p, axis=2)).sum(axis=2).T
    fit = partial(fit_em, threads=1)
    found, shape = Shape.fit(
        lambda some, model, latent, **options: fit(some, model=model, latent=latent, **options),
        answers(scores, categories),
        "gpcm",
        "auto",
    )
    assert shape.latent == latent, shape.why
    assert (shape.normality.p < 0.01) == skewed
    assert found.convergence.converged


def test_steps_may_be_disordered_without_a_flag():
    _, _, x = simulated(seed=12, learners=1000)
    x[:, 1] = np.where(x[:, 1] == 2, np.where(np.arange(1000) % 3 == 0, 2, 3), x[:, 1])
    fit = fit_em(answers(x), model="gpcm", threads=1)
    steps = [-(fit.d[1] + high - low) / fit.a[1] for low, high in pairwise(fit.further[1])]
    assert steps[1] > steps[2]
    assert fit.flags[1] == ()
