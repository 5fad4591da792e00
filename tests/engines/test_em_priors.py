"""The 3PL and priors of the em engine against a plain likelihood, an independent optimiser and the priors' own laws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp

from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.item_models import item_model
from irt_assets.psychometrics.core.models import Flag, Responses
from irt_assets.psychometrics.core.priors import (
    GUESSING_PRIOR,
    Beta,
    KnownGuessing,
    LogitNormal,
    LogNormal,
    Normal,
    Priors,
)
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.estimation import standard_errors
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.marginal import Problem
from irt_assets.psychometrics.estimation.parameter_layout import ParameterLayout
from irt_assets.psychometrics.estimation.response_layout import ResponseLayout
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE
from tests.testbed.covariances import cov_adc

pytestmark = WHERE_STATISTICS_CHANGE

EVERY_PRIOR = Priors(a=LogNormal(0.1, 0.4), b=Normal(0.2, 1.1), c=Beta(5, 17))


def simulated(rng, n_persons, n_items, *, c=0.2, seen=1.0):
    """Persons × items with easy and hard items (some answered correctly by most), NaN where not seen."""
    a = np.exp(rng.normal(0.2, 0.3, n_items))
    d = -a * np.linspace(-1.5, 1.5, n_items)
    theta = rng.normal(size=(n_persons, 1))
    x = (rng.random((n_persons, n_items)) < c + (1 - c) * expit(theta * a + d)).astype(float)
    x[rng.random(x.shape) > seen] = np.nan
    return x, a, d


def plain_objective(x, priors):
    """log-likelihood and log prior of a 3PL as the textbook has them, from (a, d, logit c) one after the other."""
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


@pytest.mark.parametrize("rarer", [False, True])
@pytest.mark.parametrize("priors", [Priors(), GUESSING_PRIOR, EVERY_PRIOR])
def test_value_and_gradient_are_those_of_a_plain_posterior_away_from_its_mode(priors, rarer):
    rng = np.random.default_rng(11)
    x, a, d = simulated(rng, 80, 6, seen=0.8)
    free = np.concatenate([a, d, rng.normal(-1.4, 0.3, 6)]) + rng.normal(0, 0.1, 18)
    data = ResponseLayout.of(Responses.from_wide(x), rarer=rarer)
    with kernels.runner(2) as run:
        point = Problem(data, ParameterLayout.of(item_model("3pl"), 6), Grid.spanning(), run, priors).evaluate(free)
    plain = plain_objective(x, priors)
    assert (point.loglik, point.objective) == pytest.approx(plain(free), abs=1e-9)  # sums of 80 logs
    # central differences of step 1e-5 are good to about 1e-7 here
    np.testing.assert_allclose(point.gradient, differences(lambda p: plain(p)[1], free), atol=2e-6)


@pytest.mark.parametrize("priors", [GUESSING_PRIOR, Priors(c=Beta(5, 17)), EVERY_PRIOR])
def test_an_independent_optimiser_finds_the_same_mode_and_errors(priors):
    x, a, d = simulated(np.random.default_rng(3), 500, 6, seen=0.9)
    fit = fit_em(Responses.from_wide(x), model="3pl", priors=priors, tolerance=1e-7)
    assert fit.convergence.converged, fit.convergence.reason
    plain = plain_objective(x, priors)
    start = np.concatenate([a, d, np.full(6, -1.4)])
    found = minimize(lambda p: -plain(p)[1], start, method="BFGS", options={"gtol": 1e-4, "maxiter": 500}).x
    mine = np.concatenate([fit.a, fit.d, logit(fit.c)])
    assert plain(mine)[1] >= plain(found)[1] - 1e-6
    np.testing.assert_allclose(mine, found, atol=2e-3)  # BFGS with numerical gradients stops about so far away
    assert fit.convergence.loglik == pytest.approx(plain(mine)[0], abs=1e-8)
    hessian = differences(lambda p: differences(lambda q: plain(q)[1], p, 1e-4), mine, 1e-4)
    cov = np.linalg.inv(-hessian).reshape(3, 6, 3, 6)
    # second differences of step 1e-4 keep about four digits here: logit c is hardly determined
    for j in range(6):
        np.testing.assert_allclose(cov_adc(fit)[j], cov[:, j, :, j], rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(
        fit.joint_cov.reshape(6, 2, 6, 2), cov[:2, :, :2].transpose(1, 0, 3, 2), rtol=2e-3, atol=2e-5
    )
    np.testing.assert_allclose(fit.c_se, fit.c * (1 - fit.c) * np.sqrt(cov[2, range(6), 2, range(6)]), rtol=1e-3)


def test_an_independent_optimiser_finds_the_same_mode_and_errors_if_some_c_are_known():
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
    mine = np.concatenate([fit.a, fit.d, logit(fit.c)])
    np.testing.assert_allclose(mine, found, atol=2e-3)  # as above
    hessian = differences(lambda p: differences(objective, p, 1e-4), mine, 1e-4)
    cov = np.linalg.inv(-hessian).reshape(3, 6, 3, 6)
    for j in range(6):
        np.testing.assert_allclose(cov_adc(fit)[j], cov[:, j, :, j], rtol=2e-3, atol=1e-5)


def test_priors_on_slope_and_difficulty_work_in_a_2pl_and_on_a_common_slope_once():
    x, _, _ = simulated(np.random.default_rng(4), 300, 5, c=0.0)
    priors = Priors(a=LogNormal(0.0, 0.2), b=Normal(0.0, 0.8))
    two, one = (fit_em(Responses.from_wide(x), model=m, priors=priors, tolerance=1e-7) for m in ("2pl", "1pl"))

    def posterior(a, d):
        plain = plain_objective(x, Priors())(np.concatenate([np.broadcast_to(a, 5), d, np.full(5, -40.0)]))[0]
        return plain + stats.lognorm.logpdf(a, 0.2).sum() + stats.norm.logpdf(-d / a, 0, 0.8).sum()

    slopes = {"2pl": lambda p: posterior(p[:5], p[5:]), "1pl": lambda p: posterior(p[:1], p[1:])}
    for fit, at in ((two, np.concatenate([two.a, two.d])), (one, np.concatenate([one.a[:1], one.d]))):
        # at the mode the slope of the posterior vanishes: 1e-7 standard errors asked for, 1e-6 from differences
        np.testing.assert_allclose(differences(slopes[fit.model], at), 0.0, atol=1e-4)


@pytest.mark.parametrize(
    ("prior", "points", "density"),
    [
        (Normal(0.3, 0.7), np.array([-1.0, 0.4]), lambda v: stats.norm.logpdf(v, 0.3, 0.7)),
        (LogNormal(0.1, 0.5), np.array([0.3, 1.9]), lambda v: stats.lognorm.logpdf(v, 0.5, scale=np.exp(0.1))),
        (LogitNormal(-1.4, 0.5), np.array([-3.0, 0.1]), lambda v: stats.norm.logpdf(v, -1.4, 0.5)),
        (Beta(5, 17), np.array([-3.0, 0.1]), lambda v: stats.beta.logpdf(expit(v), 5, 17)),
    ],
)
def test_densities_are_scipys_and_derivatives_are_those_of_the_density(prior, points, density):
    value, slope, bend = prior.terms(points)
    np.testing.assert_allclose(value, density(points), rtol=1e-12)
    h = 1e-4
    np.testing.assert_allclose(slope, (density(points + h) - density(points - h)) / (2 * h), rtol=1e-6)
    second = (density(points + h) - 2 * density(points) + density(points - h)) / h**2
    np.testing.assert_allclose(bend, -second, rtol=1e-5)  # rounding of a difference of logs, 1e-16/h²


def test_the_mode_of_a_beta_prior_is_where_its_density_is_flat():
    for prior in (Beta(5, 17), LogitNormal(-1.2, 0.4)):
        assert prior.terms(np.array([prior.mode]))[1][0] == pytest.approx(0.0, abs=1e-12)


def test_an_item_that_says_nothing_of_guessing_is_flagged_and_keeps_its_prior():
    """Two easy items: nobody is so weak that he would have to guess there. The hard ones show it."""
    rng = np.random.default_rng(5)
    theta = rng.normal(size=(3000, 1))
    b = np.array([-3.0, -2.5, 0.8, 1.0, 1.2, 1.4, 0.5, 0.0])
    x = (rng.random((3000, 8)) < 0.2 + 0.8 * expit(1.8 * (theta - b))).astype(float)
    fit = fit_em(Responses.from_wide(x), model="3pl", priors=Priors(c=Beta(5, 17)))
    flagged = [Flag.GUESSING_UNIDENTIFIED in flags for flags in fit.flags]
    assert flagged == [True, True, *[False] * 6]
    np.testing.assert_allclose(fit.c[:2], 0.2, atol=0.02)  # the prior's mode is 4/20
    z = (fit.c[2:] - 0.2) / fit.c_se[2:]
    assert np.abs(z).max() < 3.5  # six normal deviates, a little shrunk


def test_guessing_without_a_prior_and_without_information_has_no_errors_and_is_named():
    x, _, _ = simulated(np.random.default_rng(6), 800, 6, c=0.0)
    fit = fit_em(Responses.from_wide(x), model="3pl", priors=Priors())
    named = np.array([Flag.GUESSING_UNIDENTIFIED in flags for flags in fit.flags])
    assert named.any()
    sure = np.isfinite(fit.c_se)
    # what is not flagged is known better than a c that is uniform on (0, 1), whose logit has variance π²/3
    assert np.all(fit.cov[~named, 2, 2] < np.pi**2 / 3)
    assert np.all(sure[~named])


def test_a_3pl_with_all_c_near_zero_is_a_2pl():
    x, _, _ = simulated(np.random.default_rng(9), 600, 8, c=0.0)
    responses = Responses.from_wide(x)
    two = fit_em(responses)
    three = fit_em(responses, model="3pl", priors=Priors(c=LogitNormal(-12.0, 0.01)))
    # c stops at its bound of 1e-4, which moves a log-odds of −4 by 0.5 %
    np.testing.assert_allclose(three.a, two.a, atol=0.01)
    np.testing.assert_allclose(three.a_se, two.a_se, rtol=0.01)
    assert all(Flag.GUESSING_UNIDENTIFIED in flags for flags in three.flags)


@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl", "3pl"])
def test_block_errors_are_close_to_the_full_ones_in_a_sparse_design(model, monkeypatch):
    x, _, _ = simulated(np.random.default_rng(10), 4000, 120, seen=0.1)
    responses, a = Responses.from_wide(x), None if model == "rasch" else LogNormal(0, 0.5)
    priors = Priors(a=a, c=GUESSING_PRIOR.c if model == "3pl" else None)
    full = fit_em(responses, model=model, priors=priors)
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_ITEMS", 50)
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_ITEMS_WITH_GUESSING", 50)
    block = fit_em(responses, model=model, priors=priors)
    assert block.joint_cov is None is not full.joint_cov
    # blocks leave out what items share, so they are smaller, by a few per cent with a tenth of the items seen
    for name in {"rasch": ("d_se",), "3pl": ("a_se", "d_se", "c_se")}.get(model, ("a_se", "d_se")):
        ratio = getattr(block, name) / getattr(full, name)
        assert np.all((ratio > 0.95) & (ratio <= 1.0 + 1e-9)), name


def test_a_wrong_key_under_a_positive_slope_is_a_slope_near_zero():
    x, _, _ = simulated(np.random.default_rng(12), 800, 8, c=0.0)
    x[:, 2] = 1 - x[:, 2]
    fit = fit_em(Responses.from_wide(x), priors=Priors(a=LogNormal(0, 0.5)))
    assert 0 < fit.a[2] < 0.2
    assert np.all(np.delete(fit.a, 2) > 0.6)


@pytest.mark.parametrize(
    ("model", "priors", "said"),
    [
        ("rasch", Priors(a=LogNormal(0, 1)), "no slope"),
        ("2pl", Priors(c=Beta(5, 17)), "no guessing"),
    ],
)
def test_a_prior_on_what_a_model_does_not_have_is_refused(model, priors, said):
    x, _, _ = simulated(np.random.default_rng(0), 50, 5)
    with pytest.raises(PsychometricsError, match=said):
        fit_em(Responses.from_wide(x), model=model, priors=priors)


def test_priors_that_are_none_are_refused_by_the_name_of_the_number():
    with pytest.raises(PsychometricsError, match="Beta prior: alpha must be above 1, got 1"):
        Beta(1, 17)
    with pytest.raises(PsychometricsError, match="Normal prior: sd must be above 0, got 0"):
        Normal(0, 0)


def test_priors_come_back_from_their_record_and_unknown_ones_are_refused():
    fit = fit_em(Responses.from_wide(simulated(np.random.default_rng(1), 200, 5)[0]), model="3pl", priors=EVERY_PRIOR)
    assert Priors.from_dict(fit.priors) == EVERY_PRIOR
    with pytest.raises(PsychometricsError, match="c: LogitNormal, Beta"):
        Priors.from_dict({"c": {"family": "Gamma"}})


def test_a_prior_for_some_items_shrinks_these_and_leaves_the_others_their_likelihood() -> None:
    """The others differ only through θ, which the few answers to two items out of twenty hardly move."""
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


def test_a_wrong_key_shows_as_a_negative_slope_beside_items_with_a_prior() -> None:
    rng = np.random.default_rng(22)
    theta = rng.normal(size=(800, 1))
    x = (rng.random((800, 10)) < 1 / (1 + np.exp(-(theta - rng.normal(0, 1, 10))))).astype(float)
    x[:, 9] = 1 - x[:, 9]
    fit = fit_em(Responses.from_wide(x), priors=Priors(a=LogNormal(0.0, 0.5), only=("i1",)))
    assert fit.convergence.converged
    assert fit.a[9] < -0.5
    assert (fit.a[:9] > 0).all()
