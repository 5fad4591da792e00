"""The Bayesian engine's 3PL: against truth, against mirt, and where guessing cannot be known."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import beta, kstest, lognorm, norm

from irt_assets.engines.pymc_engine import PymcEngine
from irt_assets.engines.screening import ITEM_PRIORS
from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.item_models import item_model
from irt_assets.psychometrics.core.models import Flag, Responses
from irt_assets.psychometrics.core.priors import GUESSING_PRIOR, Beta, LogitNormal, Priors
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.marginal import Problem
from irt_assets.psychometrics.estimation.parameter_layout import ParameterLayout
from irt_assets.psychometrics.estimation.response_layout import ResponseLayout
from irt_assets.psychometrics.linking.placement import Linking
from tests.helpers.what_changed import WHERE_ENGINES_CHANGE
from tests.testbed.covariances import cov_adc
from tests.testbed.made_anchors import anchor_set_of

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module", autouse=True)
def _pymc(require):
    require(find_spec("pymc") is not None, "PyMC (make venv EXTRAS=bayes)")


def answers(rng, theta, a, b, c):
    """Persons × items, floats."""
    return (rng.random((len(theta), len(a))) < c + (1 - c) * expit(a * (theta[:, None] - b))).astype(float)


@pytest.fixture(scope="module")
def truth():
    """1000 learners, 24 items, parameters drawn from the engine's own priors."""
    rng = np.random.default_rng(31)
    a, b = np.exp(rng.normal(0, 0.5, 24)), rng.normal(size=24)
    c = expit(rng.normal(GUESSING_PRIOR.c.mean, GUESSING_PRIOR.c.sd, 24))
    return a, b, c, Responses.from_wide(answers(rng, rng.normal(size=1000), a, b, c))


@pytest.fixture(scope="module")
def posterior(truth):
    return PymcEngine(draws=500, tune=300, chains=2).sample(truth[3], model="3pl")


@WHERE_ENGINES_CHANGE
@pytest.mark.parametrize("prior", [GUESSING_PRIOR.c, Beta(5, 17)])
def test_the_density_is_the_marginal_likelihood_times_the_priors_and_its_gradient_is_right(truth, prior):
    from irt_assets.engines.pymc_likelihood import Likelihood
    from irt_assets.engines.pymc_model import Density, build

    responses, J = truth[3], 24
    engine = PymcEngine(priors=Priors(ITEM_PRIORS.a, ITEM_PRIORS.b, prior))
    likelihood = Likelihood.of(responses, Grid.spanning(61), guessing=True)
    density = Density(build(responses, "3pl", engine.model_priors(responses.item_ids, "3pl"), likelihood))
    rng = np.random.default_rng(1)
    log_a, b, logit_c = rng.normal(0, 0.3, J), rng.normal(size=J), rng.normal(-1.5, 0.4, J)
    x = np.concatenate([log_a, b, logit_c])
    value, gradient = density(x)
    a, c = np.exp(log_a), expit(logit_c)
    with kernels.runner(1) as run:
        problem = Problem(
            ResponseLayout.of(responses), ParameterLayout.of(item_model("3pl"), J), Grid.spanning(61), run
        )
        point = problem.evaluate(np.concatenate([a, -a * b, logit_c]))
    # the density of log a is that of a times the Jacobian a, that of logit c the one of c times c(1 − c)
    expected = lognorm.logpdf(a, 0.5).sum() + log_a.sum() + norm.logpdf(b).sum()
    if isinstance(prior, Beta):
        expected += beta.logpdf(c, 5, 17).sum() + np.log(c * (1 - c)).sum()
    else:
        expected += norm.logpdf(logit_c, prior.mean, prior.sd).sum()
    assert value == pytest.approx(point.loglik + expected, abs=1e-6)
    step = 1e-5 * rng.normal(size=3 * J)
    # central differences of a function of size 1e4 in double precision: 1e-12 of it, over a step of 1e-5
    assert (density(x + step)[0] - density(x - step)[0]) / 2 == pytest.approx(gradient @ step, abs=1e-6)


@WHERE_ENGINES_CHANGE
def test_draws_rank_the_truth_uniformly_when_it_comes_from_the_priors(truth, posterior):
    """Talts et al. (2018), as for the 2PL: 24 slopes, difficulties and lower asymptotes."""
    q = posterior.quantities
    ranks = np.stack([(x < true).mean((0, 1)) for x, true in zip((q.a, q.b, q.c), truth, strict=False)])
    assert kstest(ranks.ravel(), "uniform").pvalue > 0.001
    assert abs(ranks.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 72)
    inside = np.mean((ranks > 0.05) & (ranks < 0.95))
    assert 0.9 - inside < 3 * np.sqrt(0.9 * 0.1 / 72)  # binomial


@WHERE_ENGINES_CHANGE
def test_draws_of_c_are_kept_and_summarised(posterior):
    table = pd.read_parquet(io.BytesIO(posterior.to_parquet()))
    assert list(table.columns) == ["chain", "draw", "item_id", "a", "b", "c", "latent_mean", "latent_sd"]
    fit, q = posterior.calibration, posterior.quantities
    by_item = table.groupby("item_id", observed=True)["c"]
    np.testing.assert_allclose(by_item.mean()[list(posterior.item_ids)], fit.c)
    np.testing.assert_allclose(fit.cov[:, 2, 2], logit(q.c).var((0, 1)))
    # the delta method against the SD of c itself, which it misses by the curvature of the logit
    np.testing.assert_allclose(fit.c_se, q.c.std((0, 1)), rtol=0.3)
    assert np.all(np.linalg.eigvalsh(cov_adc(fit)) > 0)
    assert fit.priors["c"] == {"family": "LogitNormal", "mean": GUESSING_PRIOR.c.mean, "sd": 0.5}
    json.dumps(fit.priors)


@WHERE_ENGINES_CHANGE
@pytest.mark.long
def test_the_reference_3pl_differs_by_what_the_priors_explain(shared):
    """mirt has the same prior on logit c and none on a and b. To first order a prior moves an estimate by covariance ·
    its log-density's slope. What remains is Monte-Carlo error (two chains of 300 draws: 0.05 SD) and skewness."""
    reference = json.loads((shared / "reference" / "mirt_reference.json").read_text())["sim2000x50_3pl_normprior"]
    mirt = np.array([[row["a1"], row["d"], row["logit(g)"]] for row in reference["slope_intercept"]])
    responses = Responses.from_wide(pd.read_csv(shared / "reference" / "sim2000x50.csv").to_numpy(dtype=float))
    engine = PymcEngine(priors=Priors(ITEM_PRIORS.a, ITEM_PRIORS.b, LogitNormal(-1.386294, 0.5)))
    engine.draws, engine.tune, engine.chains = 300, 200, 2
    posterior = engine.sample(responses, model="3pl")
    a, d = mirt[:, 0], mirt[:, 1]
    b = -d / a
    slope_of_log_prior = np.stack([-(1 + np.log(a) / 0.25) / a - b * d / a**2, b / a], axis=1)
    fit, q = posterior.calibration, posterior.quantities
    expected = mirt + np.einsum("jkl,jl->jk", cov_adc(fit)[:, :, :2], slope_of_log_prior)
    got = np.stack([q.a, q.d, logit(q.c)]).mean((1, 2)).T
    sd = np.sqrt(np.einsum("jkk->jk", cov_adc(fit)))
    assert np.abs((got - expected) / sd).max() < 0.6
    assert np.abs((got - expected) / sd).mean() < 0.12
    # errors: an SD from 600 draws is good to 3 % (worst of 50: 8 %), and the prior on a makes slopes surer
    named = np.array([[row["se_a1"], row["se_d"], row["se_logit(g)"]] for row in reference["slope_intercept"]])
    assert np.abs(np.median(sd / named, axis=0) - 1).max() < 0.1


@pytest.mark.parametrize("name", ["lsat6", pytest.param("lsat7", marks=pytest.mark.long)])
def test_five_items_of_a_published_set_give_the_curves_of_mirt(shared, name):
    """With five items a, d and c are skewed and hardly told apart; P(θ) in the middle of the learners is: mirt's
    there, within what priors on a and b move."""
    reference = json.loads((shared / "reference" / "mirt_reference.json").read_text())[f"{name}_3pl_normprior"]
    mirt = np.array([[row["a1"], row["d"], expit(row["logit(g)"])] for row in reference["slope_intercept"]])
    responses = Responses.from_wide(pd.read_csv(shared / "reference" / f"{name}.csv").to_numpy(dtype=float))
    fit = PymcEngine(draws=500, tune=300, chains=2).calibrate(responses, model="3pl", data_hash="")
    theta = np.linspace(-1.5, 1.5, 7)[:, None]
    a, d, c = mirt.T
    off = fit.c + (1 - fit.c) * expit(fit.a * theta + fit.d) - (c + (1 - c) * expit(a * theta + d))
    assert np.sqrt(np.mean(off**2)) < 0.02
    assert np.abs(off).max() < 0.07


@WHERE_ENGINES_CHANGE
def test_the_posterior_is_that_of_em_where_it_is_nearly_normal():
    """Many learners, hard items whose lower asymptote is seen: mode and mean, curvature and SD agree."""
    rng = np.random.default_rng(9)
    b = np.linspace(0.2, 1.4, 10)
    x = answers(rng, rng.normal(size=6000), np.full(10, 1.8), b, np.full(10, 0.2))
    fit = PymcEngine(draws=1000, tune=300, chains=2).calibrate(Responses.from_wide(x), model="3pl", data_hash="")
    em = fit_em(Responses.from_wide(x), model="3pl", priors=Priors(ITEM_PRIORS.a, ITEM_PRIORS.b, GUESSING_PRIOR.c))
    for name in ("a", "d", "c"):
        se = getattr(em, f"{name}_se")
        np.testing.assert_array_less(np.abs(getattr(fit, name) - getattr(em, name)), 0.4 * se)
        ratio = getattr(fit, f"{name}_se") / se
        assert np.median(ratio) == pytest.approx(1, abs=0.12)
        assert np.abs(ratio - 1).max() < 0.3  # the least certain item's posterior is still skewed; .12 with 4000 draws
    assert not any(fit.flags)


@WHERE_ENGINES_CHANGE
@pytest.mark.long
def test_an_item_that_says_nothing_of_guessing_is_named_as_the_em_engine_names_it():
    """Nobody guesses at an item everybody knows: the posterior of c is the prior, with a sound-looking mean."""
    rng = np.random.default_rng(10)
    b = np.concatenate([np.linspace(-0.5, 1.5, 9), [-3.0, -3.2]])
    x = answers(rng, rng.normal(size=1500), np.full(11, 1.5), b, np.full(11, 0.2))
    fit = PymcEngine(draws=500, tune=300, chains=2).calibrate(Responses.from_wide(x), model="3pl", data_hash="")
    vague = [item for item, flags in zip(fit.item_ids, fit.flags, strict=True) if Flag.GUESSING_UNIDENTIFIED in flags]
    assert {"i10", "i11"} <= set(vague)
    assert not set(vague) & {"i5", "i6", "i7", "i8", "i9"}
    em = fit_em(Responses.from_wide(x), model="3pl")
    assert [Flag.GUESSING_UNIDENTIFIED in flags for flags in em.flags][4:] == [item in vague for item in fit.item_ids][
        4:
    ]


def test_a_prior_on_c_is_refused_where_there_is_no_c(truth):
    with pytest.raises(PsychometricsError, match="no guessing"):
        PymcEngine(priors=Priors(ITEM_PRIORS.a, ITEM_PRIORS.b, Beta(5, 17))).sample(truth[3], model="2pl")
    with pytest.raises(PsychometricsError, match="4pl"):
        PymcEngine().sample(truth[3], model="4pl")


def test_anchors_hold_their_c_and_the_joint_errors_of_a_and_b():
    """b given log a, as the model has it, must have the covariance of (log a, b) by the delta method."""
    a, b, a_se, b_se = np.array([0.8, 1.5]), np.array([-1.0, 2.0]), np.array([0.1, 0.2]), np.array([0.15, 0.3])
    cov_ab = np.array([0.012, -0.05])
    anchors = anchor_set_of(
        "default",
        "1",
        ("x", "z"),
        a,
        b,
        np.array([0.0, 0.2]),
        a_se,
        b_se,
        cov_ab,
        (None, None),
        np.zeros(2, dtype=bool),
    )
    linking = Linking(1, 0, 0, 0, np.eye(2), "haebara", 0, ("x", "z"), {}, 0, 1, 1, 1, (), "1")
    found = PymcEngine(anchors=anchors).model_priors(("x", "y", "z"), "3pl", linking)
    at = [0, 2]
    np.testing.assert_allclose(found.log_a_sd[at], a_se / a)
    np.testing.assert_allclose(found.b_by_log_a[at] * found.log_a_sd[at] ** 2, cov_ab / a)
    np.testing.assert_allclose(found.b_sd[at] ** 2 + (found.b_by_log_a[at] * found.log_a_sd[at]) ** 2, b_se**2)
    np.testing.assert_array_equal(found.c_given, [0.0, np.nan, 0.2])
    assert found.b_by_log_a[1] == 0
