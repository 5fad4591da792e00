"""Anchors, groups, histograms and weights of the em engine: a plain likelihood, recovery, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, log_expit, logsumexp

from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.errors import DisconnectedDesignError, PsychometricsError
from irt_assets.psychometrics.core.item_models import ItemCurves, item_model
from irt_assets.psychometrics.core.models import Flag, Responses
from irt_assets.psychometrics.core.priors import Normal, Priors
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.em_request import EVERYONE
from irt_assets.psychometrics.estimation.marginal import Problem
from irt_assets.psychometrics.estimation.parameter_layout import SMOOTHING, SMOOTHING_WITH_GUESSING, ParameterLayout
from irt_assets.psychometrics.estimation.response_layout import ResponseLayout
from tests.testbed.made_anchors import anchor_set_of


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
def test_gradient_of_groups_anchors_and_weights_is_that_of_a_plain_likelihood(model):
    rng = np.random.default_rng(1)
    a, b = bank(rng, 6)
    x = answers(rng, rng.normal(0.3, 1.1, 60), a, b, seen=0.8)
    group, weights = rng.integers(0, 3, 60), rng.integers(0, 4, 60).astype(float)
    held = np.isin(np.arange(6), [1, 4])
    given = ItemCurves(*(np.where(held, value, np.nan) for value in (a, -a * b, np.zeros(6))))
    structure = ParameterLayout.of(item_model(model), 6, given=given, n_groups=3)
    data = ResponseLayout.of(Responses.from_wide(x), group=group, weights=weights, anchored=held)
    free = rng.normal(0.4, 0.2, structure.size)

    def plain(at):
        full = structure.expand(at)
        means, sds = full[12:15], np.exp(full[15:18])
        log_weights = -0.5 * ((np.linspace(-6, 6, 61) - means[:, None]) / sds[:, None]) ** 2
        log_weights -= logsumexp(log_weights, axis=1, keepdims=True)
        return weights @ plain_loglik(x, full[:6], full[6:12], log_weights[group])

    with kernels.runner(2) as run:
        point = Problem(data, structure, Grid.spanning(), run).evaluate(free)
    assert point.loglik == pytest.approx(plain(free), abs=1e-9)
    steps = np.eye(len(free)) * 1e-5
    found = [(plain(free + s) - plain(free - s)) / 2e-5 for s in steps]
    np.testing.assert_allclose(point.gradient, found, atol=5e-6)  # differences of a sum of weights near 90
    np.testing.assert_array_equal(structure.expand(free)[:6][held], a[held])


@pytest.mark.parametrize("smoothing", [SMOOTHING, SMOOTHING_WITH_GUESSING])
def test_gradient_of_a_histogram_is_that_of_what_is_maximised(smoothing):
    rng = np.random.default_rng(2)
    a, b = bank(rng, 5)
    x = answers(rng, rng.normal(size=80), a, b)
    structure = replace(ParameterLayout.of(item_model("2pl"), 5, n_groups=2, histogram_nodes=61), smoothing=smoothing)
    data = ResponseLayout.of(Responses.from_wide(x), group=np.arange(80) % 2)
    normal = Grid.spanning().log_weights()
    free = np.concatenate([a, -a * b, normal, normal]) * rng.uniform(0.9, 1.1, 10 + 122)
    with kernels.runner(1) as run:
        problem = Problem(data, structure, Grid.spanning(), run)
        point = problem.evaluate(free)
        steps = np.eye(len(free))[::7] * 1e-5
        found = [(problem.evaluate(free + s).objective - problem.evaluate(free - s).objective) / 2e-5 for s in steps]
    # the penalty of so rough a histogram is about 2e5, and differences of it keep eleven digits
    np.testing.assert_allclose(point.gradient[::7], found, rtol=1e-6, atol=2e-4)
    logs = free[10:].reshape(2, -1)
    log_weights = (logs - logsumexp(logs, axis=1, keepdims=True))[np.arange(80) % 2]
    assert point.loglik == pytest.approx(plain_loglik(x, free[:5], free[5:10], log_weights).sum(), abs=1e-9)


@pytest.mark.parametrize(
    ("model", "smoothing"), [("2pl", SMOOTHING), ("3pl", SMOOTHING_WITH_GUESSING), ("rasch", SMOOTHING)]
)
def test_information_of_a_histogram_is_the_curvature_of_what_is_maximised(model, smoothing):
    """Differences of gradients (rounding leaves 1e-5 of a diagonal), but for what holds a change of all log weights
    together, which changes nothing."""
    rng = np.random.default_rng(4)
    a, b = bank(rng, 5)
    x = answers(rng, (rng.chisquare(4, 600) - 4) / np.sqrt(8), a, b)
    structure = replace(ParameterLayout.of(item_model(model), 5, n_groups=2, histogram_nodes=61), smoothing=smoothing)
    data = ResponseLayout.of(Responses.from_wide(x), group=np.arange(600) % 2, rarer=structure.K == 3)
    with kernels.runner(1) as run:
        problem = Problem(data, structure, Grid.spanning(), run)
        start = problem.start() + rng.normal(0, 0.05, structure.size)
        point = problem.evaluate(start)
        found = problem.information_with_weights(point)
        found = structure.matrix.T @ (structure.matrix.T @ found).T
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


def test_anchors_join_forms_that_share_nobody_and_nothing_else():
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
def test_anchors_far_from_zero_are_followed_there(model):
    rng = np.random.default_rng(17)
    a, b = bank(rng, 12)
    a = np.ones(12) if model == "rasch" else a
    names = [f"i{j + 1}" for j in range(12)]
    responses = Responses.from_wide(answers(rng, rng.normal(0.3, 1.1, 1500), a, b), names)
    priors = [Priors(b=Normal(mean, 1.5)) for mean in (0.0, 9.0)]
    near = fit_em(responses, model=model, anchors=anchor_set(names[:6], a[:6], b[:6]), priors=priors[0])
    far = fit_em(responses, model=model, anchors=anchor_set(names[:6], a[:6], b[:6] + 9), priors=priors[1])
    assert far.convergence.converged, far.convergence.reason
    # nodes elsewhere, 4 SDs of the population away from the last of them: equal to about 1e-4
    np.testing.assert_allclose(far.b, near.b + 9, atol=5e-4)
    np.testing.assert_allclose(far.a_se, near.a_se, rtol=1e-3)
    assert far.latent_mean == pytest.approx(near.latent_mean + 9, abs=5e-4)
    assert Priors.from_dict(far.priors) == priors[1]


def test_an_anchor_keeps_its_parameters_whatever_the_answers_say():
    rng = np.random.default_rng(6)
    a, b = bank(rng, 8)
    x = answers(rng, rng.normal(0, 1, 500), a, b)
    x[:, 0], x[:, 1] = 1, np.nan
    names = [f"i{j + 1}" for j in range(8)]
    fit = fit_em(Responses.from_wide(x, names), anchors=anchor_set(names[:4], a[:4], b[:4]))
    np.testing.assert_array_equal(fit.a[:4], a[:4])
    assert fit.flags[0] == ()
    assert fit.flags[1] == (Flag.NO_DATA,)
    assert fit.anchored == tuple(names[:4])
    assert not fit.joint_cov[:8].any()


def test_anchors_that_nobody_answered_cannot_hold_a_scale():
    rng = np.random.default_rng(7)
    a, b = bank(rng, 6)
    x = answers(rng, rng.normal(0, 1, 100), a, b)
    with pytest.raises(PsychometricsError, match=r"none of the 1 anchors .* \(elsewhere\)"):
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
        assert abs(population.mean - mean) < 4 * population.mean_se + 4 / np.sqrt(1500)  # the unit is the sample's
        assert abs(population.sd - sd) < 4 * population.sd_se
        assert population.n_persons == 1500
    z = np.concatenate([(fit.a - a) / fit.a_se, (fit.d + a * b) / fit.d_se])
    assert np.abs(z).max() < 4.5
    assert fit.latent_mean == pytest.approx(theta.mean(), abs=0.1)
    assert fit.latent_sd == pytest.approx(theta.std(), abs=0.1)


def test_one_group_by_name_is_no_group():
    rng = np.random.default_rng(9)
    x = answers(rng, rng.normal(size=300), *bank(rng, 6))
    one, other = fit_em(Responses.from_wide(x)), fit_em(Responses.from_wide(x), groups=["only"] * 300)
    np.testing.assert_array_equal(one.joint_cov, other.joint_cov)
    assert (one.populations[0].name, other.populations[0].name) == (EVERYONE, "only")
    assert (one.populations[0].mean, one.populations[0].sd) == (one.latent_mean, one.latent_sd) == (0.0, 1.0)


def test_a_skewed_population_biases_slopes_unless_it_is_a_histogram():
    rng = np.random.default_rng(10)
    theta = (rng.chisquare(3, 4000) - 3) / np.sqrt(6)
    a, b = bank(rng, 30)
    responses = Responses.from_wide(answers(rng, theta, a, b))
    normal, histogram = fit_em(responses), fit_em(responses, latent="histogram")
    assert histogram.convergence.converged, histogram.convergence.reason
    bias = [abs(np.log(fit.a / a).mean()) for fit in (normal, histogram)]
    # the mean of 30 errors of ln a has a standard error of about 0.02 with the unit's own
    assert bias[0] > 0.08
    assert bias[1] < 0.05
    assert histogram.convergence.loglik > normal.convergence.loglik + 50
    population = histogram.populations[0]
    nodes, weights = np.array(population.nodes), np.array(population.weights)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights @ nodes == pytest.approx(0.0, abs=1e-12)
    assert weights @ nodes**2 == pytest.approx(1.0, abs=1e-12)
    assert weights @ nodes**3 > 0.8  # the skewness of χ² with 3 degrees of freedom is 1.6, that of a normal 0


def test_weights_of_zero_leave_persons_out():
    rng = np.random.default_rng(12)
    x = answers(rng, rng.normal(size=400), *bank(rng, 6))
    weights = (np.arange(400) % 4 > 0).astype(float)
    one = fit_em(Responses.from_wide(x), weights=weights)
    other = fit_em(Responses.from_wide(x[weights > 0]))
    np.testing.assert_array_equal(one.joint_cov, other.joint_cov)
    assert one.n_persons == other.n_persons == 300


@pytest.mark.parametrize(
    ("options", "said"),
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
def test_a_request_that_makes_no_sense_is_refused_with_what_was_seen(options, said):
    rng = np.random.default_rng(13)
    x = answers(rng, rng.normal(size=60), *bank(rng, 6))
    with pytest.raises(PsychometricsError, match=said):
        fit_em(Responses.from_wide(x), **options)


def test_groups_that_share_no_item_are_disconnected():
    rng = np.random.default_rng(14)
    x = answers(rng, rng.normal(size=400), *bank(rng, 10))
    x[:200, 5:], x[200:, :5] = np.nan, np.nan
    with pytest.raises(DisconnectedDesignError):
        fit_em(Responses.from_wide(x), groups=["a"] * 200 + ["b"] * 200)


def test_groups_by_earlier_level_take_away_most_of_the_bias_of_one_prior():
    """Every item within 1 SD of an earlier ability (reliability 0.86) is seen: one prior flattens slopes by half."""
    rng = np.random.default_rng(15)
    theta = rng.normal(size=4000)
    earlier = theta + rng.normal(0, 0.4, 4000)
    a, b = np.exp(rng.normal(0, 0.2, 40)), np.linspace(-2, 2, 40)
    x = answers(rng, theta, a, b)
    x[np.abs(earlier[:, None] - b) > 1.0] = np.nan
    quintile = np.searchsorted(np.quantile(earlier, [0.2, 0.4, 0.6, 0.8]), earlier).astype(str)
    responses = Responses.from_wide(x)
    one, five = fit_em(responses), fit_em(responses, groups=quintile, reference="2")
    assert five.convergence.converged, five.convergence.reason
    five = five.rescaled(1 / five.latent_sd, -five.latent_mean / five.latent_sd)
    bias = [np.log(np.abs(fit.a) / a).mean() for fit in (one, five)]
    assert bias[0] < -0.4
    # what is left is selection within a quintile; the mean of 40 errors of ln a has a standard error of about 0.03
    assert abs(bias[1]) < 0.15


def test_rescaling_there_and_back_changes_nothing():
    rng = np.random.default_rng(16)
    x = answers(rng, rng.normal(size=400), *bank(rng, 6), c=0.2)
    fit = fit_em(Responses.from_wide(x), model="3pl", groups=["a", "b"] * 200)
    there = fit.rescaled(1.7, -0.4)
    theta = np.linspace(-2, 2, 5)[:, None]
    np.testing.assert_allclose(there.a * (1.7 * theta - 0.4) + there.d, fit.a * theta + fit.d, atol=1e-12)
    back = there.rescaled(1 / 1.7, 0.4 / 1.7)
    for name in ("a", "d", "c", "cov", "joint_cov"):
        np.testing.assert_allclose(getattr(back, name), getattr(fit, name), atol=1e-12)
    assert back.populations[1].mean == pytest.approx(fit.populations[1].mean, abs=1e-12)
    np.testing.assert_array_equal(there.c_se, fit.c_se)
