"""The pymc engine: true parameters, agreement with the em engine, and data that do not determine the parameters."""

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
from irt_psychometrics import PsychometricsError
from irt_psychometrics.estimation import Flag, fit_em
from irt_psychometrics.items import Beta, LogitNormal, Priors, item_model
from irt_psychometrics.linking import Linking, LinkingError
from irt_psychometrics.responses import Responses
from psychometrics_testbed.covariances import cov_adc
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.plain_likelihood import plain_log_likelihood
from tests.helpers.what_changed import WHERE_ENGINES_CHANGE

pytestmark = pytest.mark.ci

GUESSING = item_model("3pl").default_priors


@pytest.fixture(scope="module", autouse=True)
def _pymc(require):
    require(find_spec("pymc") is not None, "PyMC (make venv EXTRAS=bayes)")


def answers(rng, theta, a, b):
    """Persons × items, floats."""
    return (rng.random((len(theta), len(a))) < expit(a * (theta[:, None] - b))).astype(float)


def in_forms(matrix, forms, overlap):
    """The matrix with NaN for items outside a person's form; forms have equal length and share `overlap` items."""
    persons, items = matrix.shape
    length = (items + (forms - 1) * overlap) // forms
    seen = np.zeros_like(matrix, dtype=bool)
    for f in range(forms):
        first = f * (length - overlap)
        seen[f * persons // forms : (f + 1) * persons // forms, first : first + length] = True
    return np.where(seen, matrix, np.nan)


@pytest.fixture(scope="module")
def truth():
    """A planned-missing design, parameters drawn from the engine's own priors: 900 learners, 3 forms of 20 of 40."""
    rng = np.random.default_rng(3)
    a, b = np.exp(rng.normal(0, 0.5, 40)), rng.normal(size=40)
    x = in_forms(answers(rng, rng.normal(size=900), a, b), forms=3, overlap=10)
    return a, b, Responses.from_wide(x)


@pytest.fixture(scope="module")
def posterior(truth):
    return PymcEngine(draws=1000, tune=200).sample(truth[2], data_hash="f00")


def model_of(responses, model="2pl"):
    from irt_assets.engines.pymc_likelihood import Likelihood
    from irt_assets.engines.pymc_model import build

    priors = PymcEngine().model_priors(responses.item_ids, model)
    return build(responses, model, priors, Likelihood.from_responses(responses, 61, guessing=model == "3pl"))


@WHERE_ENGINES_CHANGE
def test_density_and_gradient_match_marginal_likelihood_times_priors(truth):
    from irt_assets.engines.pymc_model import Density

    responses, J = truth[2], 40
    density = Density(model_of(responses))
    rng = np.random.default_rng(1)
    log_a, b = rng.normal(0, 0.3, J), rng.normal(size=J)
    value, gradient = density(np.concatenate([log_a, b]))
    loglik = plain_log_likelihood(responses, np.exp(log_a), -np.exp(log_a) * b)
    # the density of log a is the density of a times the Jacobian a
    priors = lognorm.logpdf(np.exp(log_a), 0.5).sum() + log_a.sum() + norm.logpdf(b).sum()
    assert value == pytest.approx(loglik + priors, abs=1e-6)
    step = 1e-5 * rng.normal(size=2 * J)
    x = np.concatenate([log_a, b])
    # central differences of a function of size 1e4 in double precision: 1e-12 of it, over a step of 1e-5
    assert (density(x + step)[0] - density(x - step)[0]) / 2 == pytest.approx(gradient @ step, abs=1e-6)


@WHERE_ENGINES_CHANGE
def test_python_and_compiled_code_of_the_op_agree(truth):
    import pytensor
    import pytensor.tensor as pt

    from irt_assets.engines.pymc_likelihood import Likelihood

    likelihood = Likelihood.from_responses(truth[2], 31, guessing=False)
    slope, intercept = pt.dvector(), pt.dvector()
    function = pytensor.function([slope, intercept], likelihood(slope, intercept), mode="FAST_COMPILE")
    a, d = np.linspace(0.5, 2, 40), np.linspace(-2, 2, 40)
    assert float(function(a, d)) == pytest.approx(likelihood.value(a, d), abs=1e-9)


@WHERE_ENGINES_CHANGE
def test_ranks_of_true_values_among_draws_are_uniform_if_drawn_from_the_priors(truth, posterior):
    """Talts et al. (2018): the rank of the true value among the draws is uniform. Ranks within a data set are slightly
    dependent; a wrong prior, Jacobian or likelihood would move all ranks together."""
    a, b, _ = truth
    ranks = np.concatenate([(posterior.quantities.a < a).mean((0, 1)), (posterior.quantities.b < b).mean((0, 1))])
    assert kstest(ranks, "uniform").pvalue > 0.001
    inside = np.mean((ranks > 0.05) & (ranks < 0.95))
    assert 0.9 - inside < 3 * np.sqrt(0.9 * 0.1 / 80)  # binomial, three standard errors below 90 % coverage
    assert abs(np.mean(ranks) - 0.5) < 4 * np.sqrt(1 / 12 / 80)


@WHERE_ENGINES_CHANGE
def test_sound_fit_converges_and_records_its_software_and_priors(truth, posterior):
    fit, found = posterior.calibration, posterior.diagnostics
    assert fit.convergence.converged, fit.convergence.reason
    assert found.max_rhat <= 1.01
    assert min(found.min_bulk_ess, found.min_tail_ess) >= 1000
    assert found.divergences == 0
    assert fit.engine == "pymc"
    assert "PyMC 5." in fit.engine_version
    assert (fit.data_hash, fit.n_persons, fit.latent_mean, fit.latent_sd) == ("f00", 900, 0.0, 1.0)
    assert fit.convergence.n_parameters == 80
    assert fit.priors == ITEM_PRIORS.as_dict()
    np.testing.assert_allclose(fit.a, posterior.quantities.a.mean((0, 1)))
    np.testing.assert_allclose(fit.d, -(posterior.quantities.a * posterior.quantities.b).mean((0, 1)))
    np.testing.assert_allclose(fit.a_se, posterior.quantities.a.std((0, 1)), rtol=1e-3)  # n or n − 1 of 4000
    json.dumps(fit.priors)


@WHERE_ENGINES_CHANGE
def test_calibration_matches_the_stored_draws(posterior):
    table = pd.read_parquet(io.BytesIO(posterior.to_parquet()))
    assert list(table.columns) == ["chain", "draw", "item_id", "a", "b", "c", "latent_mean", "latent_sd"]
    assert len(table) == 4 * 1000 * 40
    by_item = table.groupby("item_id", observed=True)["a"].mean()
    np.testing.assert_allclose(by_item[list(posterior.item_ids)], posterior.calibration.a)


@WHERE_ENGINES_CHANGE
def test_difference_from_the_reference_2pl_is_explained_by_the_priors(shared):
    """mirt's estimates have no priors. To first order a prior moves an estimate by covariance · its log-density's
    slope. The rest is Monte-Carlo error (two chains of 400 draws: 0.04 SD) and the posterior's skewness."""
    reference = json.loads((shared / "reference" / "mirt_reference.json").read_text())["sim2000x50_2pl"]
    mirt = np.array([[row["a1"], row["d"]] for row in reference["slope_intercept"]])
    responses = Responses.from_wide(pd.read_csv(shared / "reference" / "sim2000x50.csv").to_numpy(dtype=float))
    fit = PymcEngine(draws=400, tune=200, chains=2).calibrate(responses, model="2pl", data_hash="")
    a, d = mirt.T
    b = -d / a
    slope_of_log_prior = np.stack([-(1 + np.log(a) / 0.25) / a - b * d / a**2, b / a], axis=1)
    expected = mirt + np.einsum("jkl,jl->jk", fit.cov, slope_of_log_prior)
    got, sd = np.stack([fit.a, fit.d], axis=1), np.stack([fit.a_se, fit.d_se], axis=1)
    assert np.abs((got - expected) / sd).max() < 0.3
    assert np.abs((got - expected) / sd).mean() < 0.08


@WHERE_ENGINES_CHANGE
@pytest.mark.parametrize("model", ["rasch", pytest.param("1pl", marks=pytest.mark.long)])
def test_models_with_a_common_slope_agree_with_em(model):
    """The priors have little effect on 1500 learners: means are within half a standard error of the maximum."""
    rng = np.random.default_rng(8)
    b = np.linspace(-1.5, 1.5, 12)
    responses = Responses.from_wide(answers(rng, rng.normal(0, 1.3, 1500), np.ones(12), b))
    fit = PymcEngine(draws=300, tune=200, chains=2).calibrate(responses, model=model, data_hash="")
    em = fit_em(responses, model=model)
    np.testing.assert_array_less(np.abs(fit.d - em.d), 0.5 * em.d_se)
    np.testing.assert_allclose(fit.d_se, em.d_se, rtol=0.15)  # an SD from 600 draws: 3 %, worst of 12, and the prior
    assert fit.latent_sd == pytest.approx(em.latent_sd, abs=0.03)
    if model == "1pl":
        assert np.ptp(fit.a) == 0
        assert fit.a[0] == pytest.approx(em.a[0], abs=0.5 * em.a_se[0])


@pytest.fixture(scope="module")
def anchored():
    """20 anchors with errors, 20 new items, 4000 learners from N(0.5, 1.2²); an anchor has become harder by 1."""
    rng = np.random.default_rng(12)
    a, b = np.exp(rng.normal(0, 0.3, 40)), rng.normal(0.2, 0.8, 40)
    shown = b.copy()
    shown[4] += 1.0
    ids = tuple(f"i{j:02d}" for j in range(40))
    responses = Responses.from_wide(answers(rng, rng.normal(0.5, 1.2, 4000), a, shown), ids)
    se = np.full(20, 0.04)
    anchors = anchor_set_of(
        scale_id="default",
        version="1",
        item_ids=ids[:20],
        a=a[:20] + rng.normal(0, se),
        b=b[:20] + rng.normal(0, se),
        c=np.zeros(20),
        a_se=se,
        b_se=se,
        cov_ab=np.zeros(20),
        topics=(None,) * 20,
        errors_assumed=np.zeros(20, dtype=bool),
    )
    return a, b, anchors, responses


@WHERE_ENGINES_CHANGE
def test_anchors_link_new_items_of_a_different_cohort_to_the_scale(anchored):
    """The error of the mean of 20 new b: 0.04/√19 from the anchors' values, 0.06/√19 from their answers, 0.06/√20 from
    the new items' own: 0.02. Anchors held under θ ~ N(0, 1) would give −0.13; the moved anchor alone −0.05."""
    a, b, anchors, responses = anchored
    found = PymcEngine(anchors=anchors, draws=400, tune=200, chains=2).sample(responses)
    new = slice(20, 40)
    assert abs(np.mean(found.calibration.b[new] - b[new])) < 0.06
    assert abs(np.mean(np.log(found.calibration.a[new] / a[new]))) < 0.06
    assert found.calibration.latent_mean == pytest.approx(0.5, abs=0.1)  # 0.02 of sampling, 0.02 of the anchors
    assert found.calibration.latent_sd == pytest.approx(1.2, abs=0.1)
    assert set(found.linking.anchors_dropped) == {"i04"}
    assert found.calibration.b[4] == pytest.approx(b[4] + 1.0, abs=0.2)  # a dropped anchor is estimated like a new item
    kept = [j for j in range(20) if j != 4]
    tightened = found.calibration.b_se[kept] / anchors.b_se[kept]
    assert np.all(tightened < 1.1)  # an anchor's posterior combines its prior errors and its answers


@WHERE_ENGINES_CHANGE
def test_missing_anchors_are_refused(anchored):
    _, _, anchors, responses = anchored
    few = Responses.from_wide(np.full((50, 3), np.nan), ["x", "y", "z"])
    with pytest.raises(PsychometricsError, match="no responses"):
        PymcEngine(anchors=anchors).sample(few)
    renamed = Responses(
        responses.person, responses.item, responses.score, responses.n_persons, tuple(f"n{j}" for j in range(40))
    )
    with pytest.raises(LinkingError):
        PymcEngine(anchors=anchors).sample(renamed)


@pytest.fixture(scope="module", params=["2pl", pytest.param("3pl", marks=pytest.mark.long)])
def bad_items(request):
    """400 learners, ten sound items i1 … i10, then i11 all correct, i12 all wrong, i13 without answers, i14 with a
    single answer, i15 with two (the abler learner's is right), i16 with a wrong key. Three learners have a single
    answer, all answers right, and all wrong."""
    rng = np.random.default_rng(4)
    x = answers(rng, rng.normal(size=400), np.full(16, 1.3), np.concatenate([np.linspace(-1, 1, 10), np.zeros(6)]))
    x[0], x[1] = 1.0, 0.0
    x[:, 10], x[:, 11], x[:, 12:15] = 1.0, 0.0, np.nan
    by_total = np.argsort(x[:, :10].sum(axis=1))
    x[by_total[-20], [13, 14]], x[by_total[20], 14] = 1.0, 0.0
    x[:, 15] = 1 - x[:, 15]
    x[2, 1:] = np.nan
    return PymcEngine(draws=500, tune=200, chains=2).sample(Responses.from_wide(x), model=request.param)


@WHERE_ENGINES_CHANGE
def test_fit_does_not_converge_if_only_the_prior_determines_an_item(bad_items):
    """The item has one right and one wrong answer: its posterior is the prior, whose mean looks like an estimate."""
    fit = bad_items.calibration
    assert Flag.UNIDENTIFIED in fit.flags[14]
    assert np.isnan([fit.a_se[14], fit.d_se[14]]).all()
    assert "do not determine the parameters of 1 items (i15)" in fit.convergence.reason
    assert not any(Flag.UNIDENTIFIED in flags for flags in fit.flags[:10])


@WHERE_ENGINES_CHANGE
def test_fit_with_too_few_draws_does_not_converge_and_reports_the_worst_item(bad_items):
    reason = bad_items.calibration.convergence.reason
    assert not bad_items.calibration.convergence.converged
    assert "ESS" in reason
    assert any(f"of item {item} " in reason for item in bad_items.item_ids)
    assert "sample more draws" in reason


# -- 3PL ---------------------------------------------------------------------------------------------


def guessed_answers(rng, theta, a, b, c):
    """Persons × items, floats."""
    return (rng.random((len(theta), len(a))) < c + (1 - c) * expit(a * (theta[:, None] - b))).astype(float)


@pytest.fixture(scope="module")
def guessed_truth():
    """1000 learners, 24 items, parameters drawn from the engine's own priors."""
    rng = np.random.default_rng(31)
    a, b = np.exp(rng.normal(0, 0.5, 24)), rng.normal(size=24)
    c = expit(rng.normal(GUESSING.c.mean, GUESSING.c.sd, 24))
    return a, b, c, Responses.from_wide(guessed_answers(rng, rng.normal(size=1000), a, b, c))


@pytest.fixture(scope="module")
def guessed_posterior(guessed_truth):
    return PymcEngine(draws=500, tune=300, chains=2).sample(guessed_truth[3], model="3pl")


@WHERE_ENGINES_CHANGE
@pytest.mark.parametrize("prior", [GUESSING.c, Beta(5, 17)])
def test_density_and_gradient_of_a_3pl_match_likelihood_times_priors(guessed_truth, prior):
    from irt_assets.engines.pymc_likelihood import Likelihood
    from irt_assets.engines.pymc_model import Density, build

    responses, J = guessed_truth[3], 24
    engine = PymcEngine(priors=Priors(ITEM_PRIORS.a, ITEM_PRIORS.b, prior))
    likelihood = Likelihood.from_responses(responses, 61, guessing=True)
    density = Density(build(responses, "3pl", engine.model_priors(responses.item_ids, "3pl"), likelihood))
    rng = np.random.default_rng(1)
    log_a, b, logit_c = rng.normal(0, 0.3, J), rng.normal(size=J), rng.normal(-1.5, 0.4, J)
    x = np.concatenate([log_a, b, logit_c])
    value, gradient = density(x)
    a, c = np.exp(log_a), expit(logit_c)
    loglik = plain_log_likelihood(responses, a, -a * b, c)
    # densities of log a and logit c are the densities of a and c times the Jacobians a and c(1 − c)
    expected = lognorm.logpdf(a, 0.5).sum() + log_a.sum() + norm.logpdf(b).sum()
    if isinstance(prior, Beta):
        expected += beta.logpdf(c, 5, 17).sum() + np.log(c * (1 - c)).sum()
    else:
        expected += norm.logpdf(logit_c, prior.mean, prior.sd).sum()
    assert value == pytest.approx(loglik + expected, abs=1e-6)
    step = 1e-5 * rng.normal(size=3 * J)
    # central differences of a function of size 1e4 in double precision: 1e-12 of it, over a step of 1e-5
    assert (density(x + step)[0] - density(x - step)[0]) / 2 == pytest.approx(gradient @ step, abs=1e-6)


@WHERE_ENGINES_CHANGE
def test_ranks_of_true_3pl_values_are_uniform_if_drawn_from_the_priors(guessed_truth, guessed_posterior):
    """Talts et al. (2018), as for the 2PL, with 24 slopes, difficulties and lower asymptotes."""
    q = guessed_posterior.quantities
    ranks = np.stack([(x < true).mean((0, 1)) for x, true in zip((q.a, q.b, q.c), guessed_truth, strict=False)])
    assert kstest(ranks.ravel(), "uniform").pvalue > 0.001
    assert abs(ranks.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 72)
    inside = np.mean((ranks > 0.05) & (ranks < 0.95))
    assert 0.9 - inside < 3 * np.sqrt(0.9 * 0.1 / 72)  # binomial


@WHERE_ENGINES_CHANGE
def test_summary_of_c_matches_the_stored_draws(guessed_posterior):
    table = pd.read_parquet(io.BytesIO(guessed_posterior.to_parquet()))
    assert list(table.columns) == ["chain", "draw", "item_id", "a", "b", "c", "latent_mean", "latent_sd"]
    fit, q = guessed_posterior.calibration, guessed_posterior.quantities
    by_item = table.groupby("item_id", observed=True)["c"]
    np.testing.assert_allclose(by_item.mean()[list(guessed_posterior.item_ids)], fit.c)
    np.testing.assert_allclose(fit.cov[:, 2, 2], logit(q.c).var((0, 1)))
    # the delta method differs from the SD of c by the curvature of the logit
    np.testing.assert_allclose(fit.c_se, q.c.std((0, 1)), rtol=0.3)
    assert np.all(np.linalg.eigvalsh(cov_adc(fit)) > 0)
    assert fit.priors["c"] == {"family": "LogitNormal", "mean": GUESSING.c.mean, "sd": 0.5}
    json.dumps(fit.priors)


@WHERE_ENGINES_CHANGE
@pytest.mark.long
def test_difference_from_the_reference_3pl_is_explained_by_the_priors(shared):
    """mirt has the same prior on logit c, but no prior on a, b. To first order a prior moves an estimate by covariance
    · its log-density's slope. The rest is Monte-Carlo error (two chains of 300 draws: 0.05 SD) and skewness."""
    reference = json.loads((shared / "reference" / "mirt_reference.json").read_text())["sim2000x50_3pl_normprior"]
    mirt = np.array([[row["a1"], row["d"], row["logit(g)"]] for row in reference["slope_intercept"]])
    responses = Responses.from_wide(pd.read_csv(shared / "reference" / "sim2000x50.csv").to_numpy(dtype=float))
    engine = PymcEngine(priors=Priors(ITEM_PRIORS.a, ITEM_PRIORS.b, LogitNormal(-1.386294, 0.5)))
    engine.draws, engine.tune, engine.chains = 300, 200, 2
    guessed_posterior = engine.sample(responses, model="3pl")
    a, d = mirt[:, 0], mirt[:, 1]
    b = -d / a
    slope_of_log_prior = np.stack([-(1 + np.log(a) / 0.25) / a - b * d / a**2, b / a], axis=1)
    fit, q = guessed_posterior.calibration, guessed_posterior.quantities
    expected = mirt + np.einsum("jkl,jl->jk", cov_adc(fit)[:, :, :2], slope_of_log_prior)
    got = np.stack([q.a, q.d, logit(q.c)]).mean((1, 2)).T
    sd = np.sqrt(np.einsum("jkk->jk", cov_adc(fit)))
    assert np.abs((got - expected) / sd).max() < 0.6
    assert np.abs((got - expected) / sd).mean() < 0.12
    # errors: an SD from 600 draws has an error of 3 % (worst of 50: 8 %), and the prior on a shrinks errors of slopes
    named = np.array([[row["se_a1"], row["se_d"], row["se_logit(g)"]] for row in reference["slope_intercept"]])
    assert np.abs(np.median(sd / named, axis=0) - 1).max() < 0.1


@pytest.mark.parametrize("name", ["lsat6", pytest.param("lsat7", marks=pytest.mark.long)])
def test_curves_of_five_published_items_match_mirt(shared, name):
    """Posteriors of a, d and c from five items are skewed and hardly separable. P(θ) is determined in the middle of
    the learners and equals mirt's there, apart from the effect of the priors on a and b."""
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
def test_posterior_matches_em_if_nearly_normal():
    """Many learners and hard items, whose answers show the lower asymptote: mode and mean, curvature and SD agree."""
    rng = np.random.default_rng(9)
    b = np.linspace(0.2, 1.4, 10)
    x = guessed_answers(rng, rng.normal(size=6000), np.full(10, 1.8), b, np.full(10, 0.2))
    fit = PymcEngine(draws=1000, tune=300, chains=2).calibrate(Responses.from_wide(x), model="3pl", data_hash="")
    em = fit_em(
        Responses.from_wide(x),
        model="3pl",
        priors=Priors(ITEM_PRIORS.a, ITEM_PRIORS.b, GUESSING.c),
    )
    for name in ("a", "d", "c"):
        se = getattr(em, f"{name}_se")
        np.testing.assert_array_less(np.abs(getattr(fit, name) - getattr(em, name)), 0.4 * se)
        ratio = getattr(fit, f"{name}_se") / se
        assert np.median(ratio) == pytest.approx(1, abs=0.12)
        assert np.abs(ratio - 1).max() < 0.3  # the least certain item's posterior is still skewed; .12 with 4000 draws
    assert not any(fit.flags)


@WHERE_ENGINES_CHANGE
@pytest.mark.long
def test_guessing_of_easy_items_is_flagged_by_pymc_as_by_em():
    """No learner guesses at an easy item: the posterior of c is the prior, whose mean looks like an estimate."""
    rng = np.random.default_rng(10)
    b = np.concatenate([np.linspace(-0.5, 1.5, 9), [-3.0, -3.2]])
    x = guessed_answers(rng, rng.normal(size=1500), np.full(11, 1.5), b, np.full(11, 0.2))
    fit = PymcEngine(draws=500, tune=300, chains=2).calibrate(Responses.from_wide(x), model="3pl", data_hash="")
    vague = [item for item, flags in zip(fit.item_ids, fit.flags, strict=True) if Flag.GUESSING_UNIDENTIFIED in flags]
    assert {"i10", "i11"} <= set(vague)
    assert not set(vague) & {"i5", "i6", "i7", "i8", "i9"}
    em = fit_em(Responses.from_wide(x), model="3pl")
    assert [Flag.GUESSING_UNIDENTIFIED in flags for flags in em.flags][4:] == [item in vague for item in fit.item_ids][
        4:
    ]


def test_prior_on_c_is_refused_for_models_without_c(guessed_truth):
    with pytest.raises(PsychometricsError, match="no guessing"):
        PymcEngine(priors=Priors(ITEM_PRIORS.a, ITEM_PRIORS.b, Beta(5, 17))).sample(guessed_truth[3], model="2pl")
    with pytest.raises(PsychometricsError, match="4pl"):
        PymcEngine().sample(guessed_truth[3], model="4pl")


def test_anchors_keep_their_c_and_the_joint_errors_of_a_and_b():
    """The model's b given log a must have the covariance of (log a, b) by the delta method."""
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


# -- graded items ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded(shared):
    """Science with one item scored 0/1 and one with a score that nobody has, and the posterior."""
    frame = pd.read_csv(shared / "data" / "science_wide.csv").drop(columns=["person"]) - 1
    frame["work"] = frame["work"] > 1
    frame["comfort"] = frame["comfort"].replace(1, 0)
    responses = Responses.from_wide(frame.to_numpy(float), [*frame], np.array([4, 2, 4, 4]))
    models = ("grm", "2pl", "grm", "grm")
    return responses, models, PymcEngine(draws=600, tune=300, chains=2).sample(responses, model=models)


@WHERE_ENGINES_CHANGE
def test_graded_posterior_is_near_the_mode_of_em(graded):
    """em has no prior on w, but N(0, 1) is wide beside 392 answers; with these, means and modes differ by skewness."""
    responses, models, posterior = graded
    fit, mode = posterior.calibration, fit_em(responses, model=models, priors=ITEM_PRIORS)
    assert fit.models == models
    free = mode.cov.diagonal(axis1=1, axis2=2).T > 0
    se = np.sqrt(mode.cov.diagonal(axis1=1, axis2=2).T[free])
    np.testing.assert_array_less(np.abs(fit.parameters[free] - mode.parameters[free]) / se, 0.5)
    np.testing.assert_allclose(np.sqrt(fit.cov.diagonal(axis1=1, axis2=2).T[free]), se, rtol=0.3)
    np.testing.assert_array_equal(np.isfinite(fit.further), np.isfinite(mode.further))
    assert 0 < fit_em(responses, model=models).convergence.loglik - fit.convergence.loglik < 8  # half the parameters
    table = pd.read_parquet(io.BytesIO(posterior.to_parquet()))
    w = table.groupby("item_id", observed=True)[["w1", "w2"]].mean().loc[["comfort", "future"]]
    assert np.isnan(w.loc["comfort", "w1"])
    assert w.loc["future", "w1"] == pytest.approx(float(fit.further[2, 1]), abs=0.1)


@WHERE_ENGINES_CHANGE
def test_random_answers_of_a_graded_model_follow_its_probabilities(graded):
    """Shares of scores among 20 × 392 answers, at the posterior means; four standard errors are .023."""
    import pymc as pm

    _, _, posterior = graded
    q = posterior.quantities
    values = {name: getattr(q, name).mean((0, 1)) for name in ("a", "b", "w")}
    drawn = pm.draw(pm.do(posterior.model, values)["scores"], draws=20, random_seed=1).reshape(20, -1, 4)
    theta = np.linspace(-6, 6, 61)
    weights = norm.pdf(theta) / norm.pdf(theta).sum()
    odds, _ = q.log_odds()
    for j, item in enumerate(posterior.item_ids):
        at_least = [weights @ expit(values["a"][j] * theta + d) for d in odds[j][np.isfinite(odds[j])][1:]]
        shares = np.bincount(drawn[:, :, j].ravel()) / drawn[:, :, j].size
        np.testing.assert_allclose(shares, -np.diff([1.0, *at_least, 0.0]), atol=0.025, err_msg=item)


def test_anchors_and_partial_credit_items_are_refused(anchored, graded):
    with pytest.raises(PsychometricsError, match="does not support anchors for graded items"):
        PymcEngine(anchors=anchored[2]).sample(graded[0], model="grm")
    with pytest.raises(PsychometricsError, match=r"fits rasch, .*; got model 2pl and gpcm"):
        PymcEngine().sample(graded[0], model=("gpcm", "2pl", "gpcm", "gpcm"))
