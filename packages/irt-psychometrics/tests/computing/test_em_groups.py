"""Anchors, groups, histograms and weights of the em engine: plain likelihood, recovery and refused requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit, logsumexp

from irt_psychometrics.core import kernels
from irt_psychometrics.core.errors import DisconnectedDesignError, PsychometricsError
from irt_psychometrics.core.item_models import ItemCurves, item_model
from irt_psychometrics.core.models import Flag
from irt_psychometrics.core.priors import (
    GUESSING_PRIOR,
    Beta,
    KnownGuessing,
    LogitNormal,
    LogNormal,
    Normal,
    Priors,
)
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation import standard_errors
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.em_request import EVERYONE
from irt_psychometrics.estimation.marginal import Problem
from irt_psychometrics.estimation.parameter_layout import SMOOTHING, SMOOTHING_WITH_GUESSING, ParameterLayout
from irt_psychometrics.estimation.response_layout import ResponseLayout
from psychometrics_testbed.covariances import cov_adc
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE


def answers(rng, theta, a, b, c=0.0, seen=1.0):
    x = (rng.random((len(theta), len(a))) < c + (1 - c) * expit(a * (theta[:, None] - b))).astype(float)
    x[rng.random(x.shape) > seen] = np.nan
    return x


def bank(rng, n_items):
    return np.exp(rng.normal(0, 0.3, n_items)), rng.normal(0, 1, n_items)


def anchor_set(items, a, b, c=None):
    none, some = np.zeros(len(items)), np.full(len(items), 0.1)
    c = none if c is None else c
    return anchor_set_of("s", "1", tuple(items), a, b, c, some, some, none, (None,) * len(items), none.astype(bool))


def plain_loglik(x, a, d, log_weights):
    theta = np.linspace(-6, 6, 61)
    eta = theta[:, None] * a + d
    right, wrong = (x == 1).astype(float), (x == 0).astype(float)
    return logsumexp(right @ log_expit(eta).T + wrong @ log_expit(-eta).T + log_weights, axis=1)


@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl"])
def test_gradient_with_groups_anchors_and_weights_matches_a_plain_likelihood(model):
    rng = np.random.default_rng(1)
    a, b = bank(rng, 6)
    x = answers(rng, rng.normal(0.3, 1.1, 60), a, b, seen=0.8)
    group, weights = rng.integers(0, 3, 60), rng.integers(0, 4, 60).astype(float)
    held = np.isin(np.arange(6), [1, 4])
    given = ItemCurves(*(np.where(held, value, np.nan) for value in (a, -a * b, np.zeros(6))))
    structure = ParameterLayout.from_model(item_model(model), 6, given=given, n_groups=3)
    data = ResponseLayout.from_responses(Responses.from_wide(x), group=group, weights=weights, anchored=held)
    free = rng.normal(0.4, 0.2, structure.size)

    def plain(at):
        full = structure.expand(at)
        means, sds = full[12:15], np.exp(full[15:18])
        log_weights = -0.5 * ((np.linspace(-6, 6, 61) - means[:, None]) / sds[:, None]) ** 2
        log_weights -= logsumexp(log_weights, axis=1, keepdims=True)
        return weights @ plain_loglik(x, full[:6], full[6:12], log_weights[group])

    with kernels.runner(2) as run:
        point = Problem(data, structure, Grid.symmetric(), run).evaluate(free)
    assert point.loglik == pytest.approx(plain(free), abs=1e-9)
    steps = np.eye(len(free)) * 1e-5
    found = [(plain(free + s) - plain(free - s)) / 2e-5 for s in steps]
    np.testing.assert_allclose(point.gradient, found, atol=5e-6)  # differences of a sum of weights near 90
    np.testing.assert_array_equal(structure.expand(free)[:6][held], a[held])


@pytest.mark.parametrize("smoothing", [SMOOTHING, SMOOTHING_WITH_GUESSING])
def test_gradient_of_a_histogram_matches_differences_of_the_objective(smoothing):
    rng = np.random.default_rng(2)
    a, b = bank(rng, 5)
    x = answers(rng, rng.normal(size=80), a, b)
    structure = replace(
        ParameterLayout.from_model(item_model("2pl"), 5, n_groups=2, histogram_nodes=61), smoothing=smoothing
    )
    data = ResponseLayout.from_responses(Responses.from_wide(x), group=np.arange(80) % 2)
    normal = Grid.symmetric().log_weights()
    free = np.concatenate([a, -a * b, normal, normal]) * rng.uniform(0.9, 1.1, 10 + 122)
    with kernels.runner(1) as run:
        problem = Problem(data, structure, Grid.symmetric(), run)
        point = problem.evaluate(free)
        steps = np.eye(len(free))[::7] * 1e-5
        found = [(problem.evaluate(free + s).objective - problem.evaluate(free - s).objective) / 2e-5 for s in steps]
    # the penalty of a histogram this rough is about 2e5, and differences of it keep eleven digits
    np.testing.assert_allclose(point.gradient[::7], found, rtol=1e-6, atol=2e-4)
    logs = free[10:].reshape(2, -1)
    log_weights = (logs - logsumexp(logs, axis=1, keepdims=True))[np.arange(80) % 2]
    assert point.loglik == pytest.approx(plain_loglik(x, free[:5], free[5:10], log_weights).sum(), abs=1e-9)


@pytest.mark.parametrize(
    ("model", "smoothing"), [("2pl", SMOOTHING), ("3pl", SMOOTHING_WITH_GUESSING), ("rasch", SMOOTHING)]
)
def test_information_of_a_histogram_matches_the_curvature_of_the_objective(model, smoothing):
    """Compares with differences of gradients (rounding leaves 1e-5 of a diagonal). A common change of all log weights
    changes nothing, so its term is added."""
    rng = np.random.default_rng(4)
    a, b = bank(rng, 5)
    x = answers(rng, (rng.chisquare(4, 600) - 4) / np.sqrt(8), a, b)
    structure = replace(
        ParameterLayout.from_model(item_model(model), 5, n_groups=2, histogram_nodes=61), smoothing=smoothing
    )
    data = ResponseLayout.from_responses(Responses.from_wide(x), group=np.arange(600) % 2, rarer=structure.K == 3)
    with kernels.runner(1) as run:
        problem = Problem(data, structure, Grid.symmetric(), run)
        start = problem.start() + rng.normal(0, 0.05, structure.size)
        point = problem.evaluate(start)
        found = problem.information_with_weights(point)
        columns = structure.shared_columns(np.arange(len(found)), np.ones(structure.size, dtype=bool))
        found = columns.add_up(found)
        steps = 1e-6 * np.eye(structure.size)
        plain = np.stack([problem.evaluate(start - s).gradient - problem.evaluate(start + s).gradient for s in steps])
    plain /= 2e-6
    for g, weights in enumerate(np.exp(point.log_weights)):
        at = slice(structure.size - (2 - g) * 61, structure.size - (1 - g) * 61)
        plain[at, at] += point.mass[g] * np.outer(weights, weights)
    scale = np.sqrt(np.diag(found))
    assert np.abs((found - plain) / np.outer(scale, scale)).max() < 1e-4


@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl", "3pl"])
def test_anchors_with_guessing_hold_the_scale_of_every_model(model):
    rng = np.random.default_rng(4)
    a, b = bank(rng, 12)
    c = np.full(12, 0.2 if model == "3pl" else 0.0)
    c[:6] = 0.2
    a = np.where(np.arange(12) < 6, a, {"rasch": 1.0, "1pl": 1.3}.get(model, a))
    x = answers(rng, rng.normal(1.0, 0.8, 4000), a, b, c)
    names = [f"i{j + 1}" for j in range(12)]
    fit = fit_em(Responses.from_wide(x, names), model=model, anchors=anchor_set(names[:6], a[:6], b[:6], c[:6]))
    assert fit.convergence.converged, fit.convergence.reason
    np.testing.assert_array_equal(fit.c[:6], 0.2)
    population = fit.populations[0]
    assert abs(population.mean - 1.0) < 4 * population.mean_se
    assert abs(population.sd - 0.8) < 4 * population.sd_se
    free = slice(6, 12)
    assert np.all(np.abs((fit.d + a * b)[free]) < 4 * fit.d_se[free])
    if model != "3pl":
        np.testing.assert_array_equal(fit.c[free], 0.0)


def test_anchors_connect_forms_without_common_learners():
    rng = np.random.default_rng(5)
    a, b = bank(rng, 16)
    x = answers(rng, rng.normal(0, 1, 3000), a, b)
    x[:1500, 8:], x[1500:, :8] = np.nan, np.nan
    names = [f"i{j + 1}" for j in range(16)]
    responses = Responses.from_wide(x, names)
    with pytest.raises(DisconnectedDesignError):
        fit_em(responses)
    with pytest.raises(DisconnectedDesignError, match="anchors"):
        fit_em(responses, anchors=anchor_set(names[:4], a[:4], b[:4]))
    known = [0, 1, 2, 3, 8, 9, 10, 11]
    fit = fit_em(responses, anchors=anchor_set([names[j] for j in known], a[known], b[known]))
    assert fit.convergence.converged
    free = ~np.isin(np.arange(16), known)
    assert np.all(np.abs(fit.d + a * b)[free] < 4 * fit.d_se[free])


@pytest.mark.parametrize("model", ["rasch", "2pl"])
def test_estimates_follow_anchors_far_from_zero(model):
    rng = np.random.default_rng(17)
    a, b = bank(rng, 12)
    a = np.ones(12) if model == "rasch" else a
    names = [f"i{j + 1}" for j in range(12)]
    responses = Responses.from_wide(answers(rng, rng.normal(0.3, 1.1, 1500), a, b), names)
    priors = [Priors(b=Normal(mean, 1.5)) for mean in (0.0, 9.0)]
    near = fit_em(responses, model=model, anchors=anchor_set(names[:6], a[:6], b[:6]), priors=priors[0])
    far = fit_em(responses, model=model, anchors=anchor_set(names[:6], a[:6], b[:6] + 9), priors=priors[1])
    assert far.convergence.converged, far.convergence.reason
    # the nodes differ and end 4 SDs from the population's mean, so results agree to about 1e-4
    np.testing.assert_allclose(far.b, near.b + 9, atol=5e-4)
    np.testing.assert_allclose(far.a_se, near.a_se, rtol=1e-3)
    assert far.latent_mean == pytest.approx(near.latent_mean + 9, abs=5e-4)
    assert Priors.from_dict(far.priors) == priors[1]


def test_anchors_keep_their_parameters_if_the_answers_contradict_them():
    rng = np.random.default_rng(6)
    a, b = bank(rng, 8)
    x = answers(rng, rng.normal(0, 1, 500), a, b)
    x[:, 0], x[:, 1] = 1, np.nan
    names = [f"i{j + 1}" for j in range(8)]
    fit = fit_em(Responses.from_wide(x, names), anchors=anchor_set(names[:4], a[:4], b[:4]))
    np.testing.assert_array_equal(fit.a[:4], a[:4])
    assert (fit.flags[0], fit.flags[1], fit.anchored) == ((), (Flag.NO_DATA,), tuple(names[:4]))
    assert not fit.joint_cov[:8].any()


def test_fit_is_refused_if_no_learner_answered_an_anchor():
    rng = np.random.default_rng(7)
    a, b = bank(rng, 6)
    x = answers(rng, rng.normal(0, 1, 100), a, b)
    with pytest.raises(PsychometricsError, match=r"no item of the 1 anchors .* \(elsewhere\)"):
        fit_em(Responses.from_wide(x), anchors=anchor_set(["elsewhere"], a[:1], b[:1]))
    x[:, 0] = np.nan
    with pytest.raises(PsychometricsError, match=r"no learner answered an anchor \(i1\)"):
        fit_em(Responses.from_wide(x), anchors=anchor_set(["i1"], a[:1], b[:1]))


def test_groups_recover_their_means_and_sds():
    rng = np.random.default_rng(8)
    a, b = bank(rng, 30)
    truth = {"weak": (-0.8, 0.9), "middle": (0.0, 1.0), "strong": (0.9, 1.3)}
    groups = np.repeat(list(truth), 1500)
    theta = np.concatenate([rng.normal(*of, 1500) for of in truth.values()])
    fit = fit_em(Responses.from_wide(answers(rng, theta, a, b, seen=0.5)), groups=groups, reference="middle")
    assert [p.name for p in fit.populations] == ["middle", "strong", "weak"]
    assert (fit.populations[0].mean_se, fit.populations[0].sd_se) == (0.0, 0.0)
    for population in fit.populations[1:]:
        mean, sd = truth[population.name]
        assert abs(population.mean - mean) < 4 * population.mean_se + 4 / np.sqrt(1500)  # a sample sets θ's unit
        assert abs(population.sd - sd) < 4 * population.sd_se
        assert population.n_persons == 1500
    z = np.concatenate([(fit.a - a) / fit.a_se, (fit.d + a * b) / fit.d_se])
    assert np.abs(z).max() < 4.5
    assert (fit.latent_mean, fit.latent_sd) == pytest.approx((theta.mean(), theta.std()), abs=0.1)


def test_fit_with_a_single_group_equals_the_fit_without_groups():
    rng = np.random.default_rng(9)
    x = answers(rng, rng.normal(size=300), *bank(rng, 6))
    one, other = fit_em(Responses.from_wide(x)), fit_em(Responses.from_wide(x), groups=["only"] * 300)
    np.testing.assert_array_equal(one.joint_cov, other.joint_cov)
    assert (one.populations[0].name, other.populations[0].name) == (EVERYONE, "only")
    assert (one.populations[0].mean, one.populations[0].sd) == (one.latent_mean, one.latent_sd) == (0.0, 1.0)


def test_skewed_population_biases_slopes_unless_a_histogram_is_estimated():
    rng = np.random.default_rng(10)
    theta = (rng.chisquare(3, 4000) - 3) / np.sqrt(6)
    a, b = bank(rng, 30)
    responses = Responses.from_wide(answers(rng, theta, a, b))
    normal, histogram = fit_em(responses), fit_em(responses, latent="histogram")
    assert histogram.convergence.converged, histogram.convergence.reason
    bias = [abs(np.log(fit.a / a).mean()) for fit in (normal, histogram)]
    # the mean of 30 errors of ln a has a standard error of about 0.02, with the unit's error
    assert bias[0] > 0.08
    assert bias[1] < 0.05
    assert histogram.convergence.loglik > normal.convergence.loglik + 50
    population = histogram.populations[0]
    nodes, weights = np.array(population.nodes), np.array(population.weights)
    assert (weights.sum(), weights @ nodes, weights @ nodes**2) == pytest.approx((1.0, 0.0, 1.0), abs=1e-12)
    assert weights @ nodes**3 > 0.8  # skewness: 1.6 for χ² with 3 degrees of freedom, 0 for a normal distribution


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0] * 59}, "weights must be 60 numbers"),
        ({"weights": [1.0] * 59 + [-2.0]}, r"the first is -2.0 of person 59"),
        ({"groups": ["a"] * 59}, "groups must be 60 labels"),
        ({"groups": ["a"] * 60, "reference": "b"}, "no person is in the reference group 'b'"),
        ({"reference": "b"}, "without groups"),
        ({"groups": ["a"] * 55 + ["few"] * 5}, r"fewer than 10 learners .*: few \(5\)"),
        ({"latent": "beta"}, "latent must be 'normal' or 'histogram'"),
        ({"model": "4pl"}, "got model '4pl'"),
    ],
)
def test_invalid_requests_are_refused_with_their_value(options, message):
    rng = np.random.default_rng(13)
    x = answers(rng, rng.normal(size=60), *bank(rng, 6))
    with pytest.raises(PsychometricsError, match=message):
        fit_em(Responses.from_wide(x), **options)


def test_fit_is_unchanged_after_a_rescaling_and_its_inverse():
    rng = np.random.default_rng(16)
    x = answers(rng, rng.normal(size=400), *bank(rng, 6), c=0.2)
    fit = fit_em(Responses.from_wide(x), model="3pl", groups=["a", "b"] * 200)
    rescaled = fit.rescaled(1.7, -0.4)
    theta = np.linspace(-2, 2, 5)[:, None]
    np.testing.assert_allclose(rescaled.a * (1.7 * theta - 0.4) + rescaled.d, fit.a * theta + fit.d, atol=1e-12)
    back = rescaled.rescaled(1 / 1.7, 0.4 / 1.7)
    for name in ("a", "d", "c", "cov", "joint_cov"):
        np.testing.assert_allclose(getattr(back, name), getattr(fit, name), atol=1e-12)
    assert back.populations[1].mean == pytest.approx(fit.populations[1].mean, abs=1e-12)
    np.testing.assert_array_equal(rescaled.c_se, fit.c_se)


# -- priors ------------------------------------------------------------------------------------------
# The 3PL and priors of the em engine against a plain likelihood, an independent optimiser and scipy's densities.

EVERY_PRIOR = Priors(a=LogNormal(0.1, 0.4), b=Normal(0.2, 1.1), c=Beta(5, 17))


def simulated(rng, n_persons, n_items, *, c=0.2, seen=1.0):
    """Persons × items with easy and hard items (some answered correctly by most), NaN for unseen items."""
    a = np.exp(rng.normal(0.2, 0.3, n_items))
    d = -a * np.linspace(-1.5, 1.5, n_items)
    theta = rng.normal(size=(n_persons, 1))
    x = (rng.random((n_persons, n_items)) < c + (1 - c) * expit(theta * a + d)).astype(float)
    x[rng.random(x.shape) > seen] = np.nan
    return x, a, d


def plain_objective(x, priors):
    """Log-likelihood and log posterior of a 3PL by the textbook's formulas, as a function of (a, d, logit c)."""
    J = x.shape[1]
    theta = np.linspace(-6, 6, 61)
    log_weight = stats.norm.logpdf(theta) - logsumexp(stats.norm.logpdf(theta))
    right, wrong = (x == 1).astype(float), (x == 0).astype(float)

    def value(free):
        a, d, c = free[:J], free[J : 2 * J], expit(free[2 * J :])
        p = c + (1 - c) * expit(theta[:, None] * a + d)
        loglik = logsumexp(right @ np.log(p).T + wrong @ np.log1p(-p).T + log_weight, axis=1).sum()
        log_prior = 0.0
        if priors.a:
            log_prior += stats.lognorm.logpdf(a, priors.a.sd, scale=np.exp(priors.a.mean)).sum()
        if priors.b:
            log_prior += stats.norm.logpdf(-d / a, priors.b.mean, priors.b.sd).sum()
        if isinstance(priors.c, Beta):
            log_prior += stats.beta.logpdf(c, priors.c.alpha, priors.c.beta).sum()
        elif priors.c:
            log_prior += stats.norm.logpdf(logit(c), priors.c.mean, priors.c.sd).sum()
        return loglik, loglik + log_prior

    return value


def differences(f, x, h=1e-5):
    return np.array([(f(x + s) - f(x - s)) / (2 * h) for s in np.eye(len(x)) * h])


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("rarer", [False, True])
@pytest.mark.parametrize("priors", [Priors(), GUESSING_PRIOR, EVERY_PRIOR])
def test_value_and_gradient_match_a_plain_posterior_away_from_its_mode(priors, rarer):
    rng = np.random.default_rng(11)
    x, a, d = simulated(rng, 80, 6, seen=0.8)
    free = np.concatenate([a, d, rng.normal(-1.4, 0.3, 6)]) + rng.normal(0, 0.1, 18)
    data = ResponseLayout.from_responses(Responses.from_wide(x), rarer=rarer)
    with kernels.runner(2) as run:
        point = Problem(data, ParameterLayout.from_model(item_model("3pl"), 6), Grid.symmetric(), run, priors).evaluate(
            free
        )
    plain = plain_objective(x, priors)
    assert (point.loglik, point.objective) == pytest.approx(plain(free), abs=1e-9)  # sums of 80 logs
    # central differences of step 1e-5 are accurate to about 1e-7 here
    np.testing.assert_allclose(point.gradient, differences(lambda p: plain(p)[1], free), atol=2e-6)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("priors", [GUESSING_PRIOR, Priors(c=Beta(5, 17)), EVERY_PRIOR])
def test_an_independent_optimiser_reaches_the_same_mode_and_errors(priors):
    x, a, d = simulated(np.random.default_rng(3), 500, 6, seen=0.9)
    fit = fit_em(Responses.from_wide(x), model="3pl", priors=priors, tolerance=1e-7)
    assert fit.convergence.converged, fit.convergence.reason
    plain = plain_objective(x, priors)
    start = np.concatenate([a, d, np.full(6, -1.4)])
    found = minimize(lambda p: -plain(p)[1], start, method="BFGS", options={"gtol": 1e-4, "maxiter": 500}).x
    estimates = np.concatenate([fit.a, fit.d, logit(fit.c)])
    assert plain(estimates)[1] >= plain(found)[1] - 1e-6
    np.testing.assert_allclose(estimates, found, atol=2e-3)  # BFGS with numerical gradients stops about this far away
    assert fit.convergence.loglik == pytest.approx(plain(estimates)[0], abs=1e-8)
    hessian = differences(lambda p: differences(lambda q: plain(q)[1], p, 1e-4), estimates, 1e-4)
    cov = np.linalg.inv(-hessian).reshape(3, 6, 3, 6)
    # second differences of step 1e-4 keep about four digits here: logit c is hardly determined
    for j in range(6):
        np.testing.assert_allclose(cov_adc(fit)[j], cov[:, j, :, j], rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(
        fit.joint_cov.reshape(6, 2, 6, 2), cov[:2, :, :2].transpose(1, 0, 3, 2), rtol=2e-3, atol=2e-5
    )
    np.testing.assert_allclose(fit.c_se, fit.c * (1 - fit.c) * np.sqrt(cov[2, range(6), 2, range(6)]), rtol=1e-3)


@WHERE_STATISTICS_CHANGE
def test_an_independent_optimiser_reaches_the_same_mode_and_errors_if_some_c_are_known():
    x, a, d = simulated(np.random.default_rng(3), 500, 6, seen=0.9)
    ids, known = [f"i{j}" for j in range(6)], {"i1": 0.1, "i4": 0.3, "not in the fit": 0.5}
    fit = fit_em(Responses.from_wide(x, ids), model="3pl", tolerance=1e-7, guessing=known)
    assert fit.convergence.converged, fit.convergence.reason
    assert Priors.from_dict(fit.priors).known_guessing == KnownGuessing(0.12, ("i1", "i4"), (0.1, 0.3))
    plain, others = plain_objective(x, Priors()), [0, 2, 3, 5]

    def objective(free):
        of_c = free[12:]
        log_prior = stats.norm.logpdf(of_c[others], logit(0.2), 0.5).sum()
        return plain(free)[0] + log_prior + stats.norm.logpdf(of_c[[1, 4]], logit([0.1, 0.3]), 0.12).sum()

    start = np.concatenate([a, d, np.full(6, -1.4)])
    found = minimize(lambda p: -objective(p), start, method="BFGS", options={"gtol": 1e-4, "maxiter": 500}).x
    estimates = np.concatenate([fit.a, fit.d, logit(fit.c)])
    np.testing.assert_allclose(estimates, found, atol=2e-3)  # as above
    hessian = differences(lambda p: differences(objective, p, 1e-4), estimates, 1e-4)
    cov = np.linalg.inv(-hessian).reshape(3, 6, 3, 6)
    for j in range(6):
        np.testing.assert_allclose(cov_adc(fit)[j], cov[:, j, :, j], rtol=2e-3, atol=1e-5)


@WHERE_STATISTICS_CHANGE
def test_gradient_of_a_posterior_with_priors_is_zero_at_the_estimates():
    """The prior of a common slope (1PL) counts once."""
    x, _, _ = simulated(np.random.default_rng(4), 300, 5, c=0.0)
    priors = Priors(a=LogNormal(0.0, 0.2), b=Normal(0.0, 0.8))
    two, one = (fit_em(Responses.from_wide(x), model=m, priors=priors, tolerance=1e-7) for m in ("2pl", "1pl"))

    def posterior(a, d):
        plain = plain_objective(x, Priors())(np.concatenate([np.broadcast_to(a, 5), d, np.full(5, -40.0)]))[0]
        return plain + stats.lognorm.logpdf(a, 0.2).sum() + stats.norm.logpdf(-d / a, 0, 0.8).sum()

    slopes = {"2pl": lambda p: posterior(p[:5], p[5:]), "1pl": lambda p: posterior(p[:1], p[1:])}
    for fit, at in ((two, np.concatenate([two.a, two.d])), (one, np.concatenate([one.a[:1], one.d]))):
        # at the mode the slope of the posterior vanishes: the tolerance is 1e-7 standard errors, differences add 1e-6
        np.testing.assert_allclose(differences(slopes[fit.model], at), 0.0, atol=1e-4)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(
    ("prior", "points", "density"),
    [
        (Normal(0.3, 0.7), np.array([-1.0, 0.4]), lambda v: stats.norm.logpdf(v, 0.3, 0.7)),
        (LogNormal(0.1, 0.5), np.array([0.3, 1.9]), lambda v: stats.lognorm.logpdf(v, 0.5, scale=np.exp(0.1))),
        (LogitNormal(-1.4, 0.5), np.array([-3.0, 0.1]), lambda v: stats.norm.logpdf(v, -1.4, 0.5)),
        (Beta(5, 17), np.array([-3.0, 0.1]), lambda v: stats.beta.logpdf(expit(v), 5, 17)),
    ],
)
def test_densities_and_derivatives_of_priors_match_scipy(prior, points, density):
    value, slope, bend = prior.terms(points)
    np.testing.assert_allclose(value, density(points), rtol=1e-12)
    h = 1e-4
    np.testing.assert_allclose(slope, (density(points + h) - density(points - h)) / (2 * h), rtol=1e-6)
    second = (density(points + h) - 2 * density(points) + density(points - h)) / h**2
    np.testing.assert_allclose(bend, -second, rtol=1e-5)  # rounding of a difference of logs, 1e-16/h²


@WHERE_STATISTICS_CHANGE
def test_density_of_a_prior_is_flat_at_its_mode():
    for prior in (Beta(5, 17), LogitNormal(-1.2, 0.4)):
        assert prior.terms(np.array([prior.mode]))[1][0] == pytest.approx(0.0, abs=1e-12)


@WHERE_STATISTICS_CHANGE
def test_easy_items_are_flagged_and_keep_the_mode_of_the_guessing_prior():
    """No learner is weak enough to guess on the two easy items. Answers to the hard items determine guessing."""
    rng = np.random.default_rng(5)
    theta = rng.normal(size=(3000, 1))
    b = np.array([-3.0, -2.5, 0.8, 1.0, 1.2, 1.4, 0.5, 0.0])
    x = (rng.random((3000, 8)) < 0.2 + 0.8 * expit(1.8 * (theta - b))).astype(float)
    fit = fit_em(Responses.from_wide(x), model="3pl", priors=Priors(c=Beta(5, 17)))
    flagged = [Flag.GUESSING_UNIDENTIFIED in flags for flags in fit.flags]
    assert flagged == [True, True, *[False] * 6]
    np.testing.assert_allclose(fit.c[:2], 0.2, atol=0.02)  # the prior's mode is 4/20
    z = (fit.c[2:] - 0.2) / fit.c_se[2:]
    assert np.abs(z).max() < 3.5  # six standard normal values, slightly shrunk by the prior


@WHERE_STATISTICS_CHANGE
def test_guessing_is_flagged_if_neither_prior_nor_answers_determine_the_parameter():
    x, _, _ = simulated(np.random.default_rng(6), 800, 6, c=0.0)
    fit = fit_em(Responses.from_wide(x), model="3pl", priors=Priors())
    named = np.array([Flag.GUESSING_UNIDENTIFIED in flags for flags in fit.flags])
    assert named.any()
    sure = np.isfinite(fit.c_se)
    # an unflagged c is known better than a uniform c on (0, 1), whose logit has variance π²/3
    assert np.all(fit.cov[~named, 2, 2] < np.pi**2 / 3)
    assert np.all(sure[~named])


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl", "3pl"])
def test_block_errors_are_close_to_full_errors_in_a_sparse_design(model, monkeypatch):
    x, _, _ = simulated(np.random.default_rng(10), 4000, 120, seen=0.1)
    responses, a = Responses.from_wide(x), None if model == "rasch" else LogNormal(0, 0.5)
    priors = Priors(a=a, c=GUESSING_PRIOR.c if model == "3pl" else None)
    full = fit_em(responses, model=model, priors=priors)
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_ITEMS", 50)
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_ITEMS_WITH_GUESSING", 50)
    block = fit_em(responses, model=model, priors=priors)
    assert block.joint_cov is None is not full.joint_cov
    # blocks leave out covariances between items: errors are a few per cent smaller if a tenth of the items is seen
    for name in {"rasch": ("d_se",), "3pl": ("a_se", "d_se", "c_se")}.get(model, ("a_se", "d_se")):
        ratio = getattr(block, name) / getattr(full, name)
        assert np.all((ratio > 0.95) & (ratio <= 1.0 + 1e-9)), name


@WHERE_STATISTICS_CHANGE
def test_wrong_key_gives_a_slope_near_zero_if_the_prior_forces_positive_slopes():
    x, _, _ = simulated(np.random.default_rng(12), 800, 8, c=0.0)
    x[:, 2] = 1 - x[:, 2]
    fit = fit_em(Responses.from_wide(x), priors=Priors(a=LogNormal(0, 0.5)))
    assert 0 < fit.a[2] < 0.2
    assert np.all(np.delete(fit.a, 2) > 0.6)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(
    ("model", "priors", "message"),
    [
        ("rasch", Priors(a=LogNormal(0, 1)), "no slope"),
        ("2pl", Priors(c=Beta(5, 17)), "no guessing"),
    ],
)
def test_priors_on_parameters_that_the_model_lacks_are_refused(model, priors, message):
    x, _, _ = simulated(np.random.default_rng(0), 50, 5)
    with pytest.raises(PsychometricsError, match=message):
        fit_em(Responses.from_wide(x), model=model, priors=priors)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(
    ("family", "numbers", "message"),
    [(Beta, (1, 17), "Beta prior: alpha must be above 1, got 1"), (Normal, (0, 0), "Normal prior: sd must be above 0")],
)
def test_priors_with_invalid_numbers_are_refused_with_the_name_of_the_number(family, numbers, message):
    with pytest.raises(PsychometricsError, match=message):
        family(*numbers)


@WHERE_STATISTICS_CHANGE
def test_priors_are_restored_from_their_record_and_unknown_families_are_refused():
    fit = fit_em(Responses.from_wide(simulated(np.random.default_rng(1), 200, 5)[0]), model="3pl", priors=EVERY_PRIOR)
    assert Priors.from_dict(fit.priors) == EVERY_PRIOR
    with pytest.raises(PsychometricsError, match="c: LogitNormal, Beta"):
        Priors.from_dict({"c": {"family": "Gamma"}})


@WHERE_STATISTICS_CHANGE
def test_prior_for_some_items_shrinks_only_these_items() -> None:
    """The other items change only through θ, on which the few answers to two of twenty items have little effect."""
    rng = np.random.default_rng(21)
    a, b, theta = np.exp(rng.normal(0, 0.3, 20)), rng.normal(0, 1, 20), rng.normal(size=(1500, 1))
    x = (rng.random((1500, 20)) < 1 / (1 + np.exp(-a * (theta - b)))).astype(float)
    x[60:, :2] = np.nan
    responses = Responses.from_wide(x)
    plain = fit_em(responses)
    tight = fit_em(responses, priors=Priors(a=LogNormal(0.0, 0.05), only=("i1", "i2")))
    everywhere = fit_em(responses, priors=Priors(a=LogNormal(0.0, 0.05)))
    assert np.abs(np.log(tight.a[:2])).max() < 0.03
    assert np.abs(np.log(everywhere.a)).max() < 0.5 * np.abs(np.log(plain.a)).max()
    assert np.abs(tight.a[2:] - plain.a[2:]).max() < 0.1 * plain.a_se[2:].min()
    assert tight.priors == {"a": {"family": "LogNormal", "mean": 0.0, "sd": 0.05}, "only": ["i1", "i2"]}
    assert Priors.from_dict(tight.priors) == Priors(a=LogNormal(0.0, 0.05), only=("i1", "i2"))


@WHERE_STATISTICS_CHANGE
def test_wrong_key_gives_a_negative_slope_if_the_item_has_no_prior() -> None:
    rng = np.random.default_rng(22)
    theta = rng.normal(size=(800, 1))
    x = (rng.random((800, 10)) < 1 / (1 + np.exp(-(theta - rng.normal(0, 1, 10))))).astype(float)
    x[:, 9] = 1 - x[:, 9]
    fit = fit_em(Responses.from_wide(x), priors=Priors(a=LogNormal(0.0, 0.5), only=("i1",)))
    assert fit.convergence.converged
    assert fit.a[9] < -0.5
    assert (fit.a[:9] > 0).all()
