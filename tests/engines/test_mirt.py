"""The mirt engine compared with the em engine, if R's mirt is installed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from irt_assets.engines.mirt_fit import fit_mirt
from irt_assets.engines.r_process import call_r
from irt_psychometrics import PsychometricsError
from irt_psychometrics.estimation import Flag, fit_em
from irt_psychometrics.items import Beta, LogitNormal, Normal, Priors, item_model
from irt_psychometrics.responses import Responses
from psychometrics_testbed.covariances import cov_adc
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.made_scored import planned_mixed

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module", autouse=True)
def _mirt(require_r):
    require_r("mirt")


def models_of(responses, model):
    return tuple(item_model(model).of_max_score(int(most)).name for most in responses.n_categories - 1)


def calibrate(responses, model, **options):
    return fit_mirt(responses, call=call_r, model=model, data_hash="f00", **options)


def assert_same(fit, em, atol, rtol):
    assert fit.convergence.converged, fit.convergence.reason
    assert fit.convergence.max_gradient < 0.01  # standard errors; measured: at most 0.0015
    for name in ("a", "d", "c"):
        np.testing.assert_allclose(getattr(fit, name), getattr(em, name), atol=atol)
    covariances = [x.cov if x.further is not None else cov_adc(x) for x in (fit, em)]
    np.testing.assert_allclose(*covariances, rtol=2 * rtol, atol=rtol * np.nanmax(em.d_se) ** 2)
    for name in ("a_se", "d_se", "c_se"):
        np.testing.assert_allclose(getattr(fit, name), getattr(em, name), rtol=rtol)
    assert fit.convergence.loglik == pytest.approx(em.convergence.loglik, abs=1e-3)
    assert fit.latent_sd == pytest.approx(em.latent_sd, abs=atol)
    same = ("item_ids", "flags", "n_persons", "anchored", "priors", "data_hash")
    assert {name: getattr(fit, name) for name in same} == {name: getattr(em, name) for name in same}
    assert fit.convergence.n_parameters == em.convergence.n_parameters
    np.testing.assert_array_equal(fit.n_correct, em.n_correct)


@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl"])
@pytest.mark.parametrize("name", ["lsat6", "lsat7", "sat12", "planned1500x60"])
def test_mirt_and_em_have_the_same_maximum_and_covariance(reference_answers, name, model):
    responses = reference_answers(name)
    # mirt's EM stops at steps of 1e-7, which is about 1e-5 from the maximum
    assert_same(calibrate(responses, model), fit_em(responses, model=model, data_hash="f00"), 1e-4, 1e-3)


@pytest.mark.parametrize("name", ["lsat7", "sim2000x50"])
def test_3pl_fits_with_the_same_prior_agree_between_mirt_and_em(reference_answers, name):
    """c and a can rise together at little cost, so small steps of an EM end farther from the mode."""
    responses, priors = reference_answers(name), Priors(c=LogitNormal(-1.1, 0.4))
    em = fit_em(responses, model="3pl", priors=priors, data_hash="f00")
    assert_same(calibrate(responses, "3pl", priors=priors), em, 5e-3, 1e-2)


def test_fits_of_scored_items_agree_between_mirt_and_em():
    """Items scored 0/1, 0 … 2, 0 … 3, {0, 2} and {0, 1, 3}, planned missing forms."""
    responses = planned_mixed(600)
    models = models_of(responses, "2pl")
    em = fit_em(responses, model=models, data_hash="f00", prior_on_rare_steps=False)
    fit = calibrate(responses, models)
    assert_same(fit, em, 1e-4, 2e-3)
    np.testing.assert_allclose(fit.further, em.further, atol=1e-4)
    np.testing.assert_array_equal(fit.p_values, em.p_values)


def test_pcm_fits_with_a_free_sd_agree_between_mirt_and_em():
    responses = planned_mixed(600)
    models = models_of(responses, "pcm")
    em = fit_em(responses, model=models, data_hash="f00", prior_on_rare_steps=False)
    fit = calibrate(responses, models)
    assert_same(fit, em, 5e-4, 2e-3)
    np.testing.assert_allclose(fit.further, em.further, atol=5e-4)


def test_fits_of_graded_items_agree_between_mirt_and_em(shared):
    """Science in mirt 1.47: log L −1608.8694."""
    frame = pd.read_csv(shared / "data" / "science_wide.csv").drop(columns=["person"])
    responses = Responses.from_wide((frame - 1).to_numpy(float), [*frame], max_score=3)
    em, fit = fit_em(responses, model="grm", data_hash="f00"), calibrate(responses, "grm")
    assert_same(fit, em, 1e-4, 1e-3)
    assert fit.convergence.loglik == pytest.approx(-1608.8694, abs=1e-4)
    np.testing.assert_allclose(fit.further, em.further, atol=1e-4)


def test_fits_of_nominal_items_agree_between_mirt_and_em(shared):
    """Science, whose log L is −1608.452 in mirt 1.47, and Science with a score that nobody has and a graded item.

    The points of an inner score are a ratio of slopes with a large error, so curves are compared. Small steps of mirt's
    EM end farther from the maximum.
    """
    frame = pd.read_csv(shared / "data" / "science_wide.csv").drop(columns=["person"])
    responses = Responses.from_wide((frame - 1).to_numpy(float), [*frame], max_score=3)
    gap = replace(responses, score=np.where((responses.item == 1) & (responses.score == 2), 1, responses.score))
    theta, mixed = np.linspace(-3, 3, 13), ("nominal", "nominal", "grm", "nominal")
    for some, models in ((responses, "nominal"), (gap, mixed)):
        em = fit_em(some, model=models, data_hash="f00", prior_on_rare_steps=False)
        fit = calibrate(some, models)
        assert fit.convergence.converged, fit.convergence.reason
        assert fit.convergence.loglik == pytest.approx(em.convergence.loglik, abs=1e-3)
        curves = [one.items.curves.score_probabilities(theta) for one in (fit, em)]
        np.testing.assert_allclose(*curves, atol=1e-3)
        np.testing.assert_allclose(fit.a_se, em.a_se, rtol=5e-3)
        errors = [np.sqrt(one.cov.diagonal(axis1=1, axis2=2)) for one in (fit, em)]
        np.testing.assert_allclose(*errors, rtol=5e-3)
        assert models != "nominal" or fit.convergence.loglik == pytest.approx(-1608.452, abs=1e-3)


def test_fits_of_3pl_graded_and_partial_credit_items_agree_between_mirt_and_em():
    """c is on the scale of its logit in both covariances; small steps of mirt's EM end farther from the mode."""
    responses = planned_mixed(1500)
    pairs = (("2pl", "3pl"), ("grm", "gpcm"))
    models = tuple(pairs[int(n > 2)][j % 2] for j, n in enumerate(responses.n_categories))
    em = fit_em(responses, model=models, data_hash="f00", prior_on_rare_steps=False)
    fit = calibrate(responses, models)
    assert_same(fit, em, 2e-4, 2e-3)
    np.testing.assert_allclose(fit.further, em.further, atol=2e-4)


@pytest.mark.parametrize("most", [1, 2])
def test_graded_items_with_answers_of_two_scores_have_the_values_of_the_2pl(reference_answers, most):
    """Nobody has the second score of an item scored 0 … 2."""
    plain = reference_answers("lsat6")
    responses = replace(plain, categories=np.where(np.arange(5) == 2, most + 1, 2))
    fit, expected = calibrate(responses, "grm"), calibrate(plain, "2pl")
    np.testing.assert_allclose(fit.a, expected.a, atol=1e-6)
    np.testing.assert_allclose(fit.cov[:, :2, :2], expected.cov, rtol=1e-4)
    assert most == 1 or fit.further[2].tolist() == [0.0, 0.0, -np.inf]


@pytest.mark.parametrize(
    ("model", "message"),
    [("rsm", "the mirt engine fits rasch, .*; got model 2pl and rsm"), ("1pl", "own slopes or a common one")],
)
def test_models_that_mirt_lacks_are_refused(model, message):
    responses = planned_mixed(300)
    models = tuple(model if (n > 2) == (model == "rsm") else "2pl" if n == 2 else "grm" for n in responses.n_categories)
    with pytest.raises(PsychometricsError, match=message):
        calibrate(responses, models)


def test_fits_with_fixed_anchors_agree_between_mirt_and_em(shared, reference_answers):
    bank = {item: values for item, *values in _rows(shared / "reference" / "link_items.csv")}
    responses = reference_answers("link_formB")
    ids = tuple(item for item in responses.item_ids if item >= "k11" and item <= "k20")
    a, b, none = (
        np.array([bank[item][0] for item in ids]),
        np.array([bank[item][1] for item in ids]),
        np.zeros(len(ids)),
    )
    anchors = anchor_set_of(
        "s", "1", ids, a, b, none, none + 0.1, none + 0.1, none, (None,) * len(ids), none.astype(bool)
    )
    fit, em = (
        calibrate(responses, "2pl", anchors=anchors),
        fit_em(responses, anchors=anchors, data_hash="f00"),
    )
    # with a free latent mean and SD the EM's last steps are smaller still: 3e-4, as for mirt's own reference fits
    assert_same(fit, em, 5e-4, 2e-3)
    assert fit.latent_mean == pytest.approx(em.latent_mean, abs=5e-4)
    assert set(fit.anchored) == set(ids)


def _rows(path):
    lines = [line.replace('"', "").split(",") for line in path.read_text().splitlines()]
    columns = [lines[0].index(name) for name in ("a", "b")]
    return [(line[0], *(float(line[k]) for k in columns)) for line in lines[1:]]


def test_fits_with_anchors_far_from_zero_agree_between_mirt_and_em():
    """mirt's nodes end at 6; both the middle of the anchors and the cohort are near 10 here."""
    rng = np.random.default_rng(4)
    a, b = np.exp(rng.normal(0, 0.2, 12)), 10 + np.linspace(-1, 1, 12)
    x = (rng.random((1200, 12)) < expit(a * (rng.normal(10.3, 1.1, (1200, 1)) - b))).astype(float)
    responses, six, none = Responses.from_wide(x), tuple(f"i{j + 1}" for j in range(6)), np.zeros(6)
    anchors = anchor_set_of(
        "s", "1", six, a[:6], b[:6], none, none + 0.1, none + 0.1, none, (None,) * 6, none.astype(bool)
    )
    fit, em = calibrate(responses, "2pl", anchors=anchors), fit_em(responses, anchors=anchors, data_hash="f00")
    assert_same(fit, em, 1e-3, 2e-3)
    assert fit.latent_mean == pytest.approx(em.latent_mean, abs=1e-3)


def test_a_population_wider_than_the_nodes_has_wider_nodes():
    rng = np.random.default_rng(5)
    x = (rng.random((1500, 12)) < expit(rng.normal(0, 2.6, (1500, 1)) - np.linspace(-3, 3, 12))).astype(float)
    responses = Responses.from_wide(x)
    assert_same(calibrate(responses, "rasch"), fit_em(responses, model="rasch", data_hash="f00"), 2e-3, 2e-3)


def test_sign_of_theta_makes_most_slopes_positive():
    slope = np.array([-2.5, -2.5, 0.6, 0.6, 0.6])
    rng = np.random.default_rng(20)
    x = (rng.random((1500, 5)) < expit(rng.normal(size=(1500, 1)) * slope)).astype(float)
    fit, em = calibrate(Responses.from_wide(x), "2pl"), fit_em(Responses.from_wide(x), data_hash="f00")
    assert (np.sign(fit.a) == [-1, -1, 1, 1, 1]).all()
    assert_same(fit, em, 1e-3, 1e-3)


def test_versions_of_r_and_mirt_are_recorded(reference_answers):
    fit = calibrate(reference_answers("lsat6"), "rasch")
    assert set(fit.software) == {"mirt", "R"}
    assert f"(mirt {fit.software['mirt']}, R {fit.software['R']})" in fit.engine_version


def test_fit_does_not_converge_if_mirt_stops_at_its_cycle_limit(reference_answers):
    """mirt only warns, with exit code 0; its fit object contains the convergence."""

    def hurried(function, argument):
        return call_r(function, argument | {"options": {"cycles": 3}})

    fit = fit_mirt(reference_answers("lsat7"), call=hurried, model="2pl")
    assert not fit.convergence.converged
    assert "mirt had not converged after 3 cycles" in fit.convergence.reason


@pytest.mark.parametrize("priors", [Priors(c=Beta(5, 17)), Priors(b=Normal(0, 1))])
def test_priors_that_mirt_lacks_or_computes_wrongly_are_refused(reference_answers, priors):
    with pytest.raises(PsychometricsError, match="supports only a LogitNormal prior on c"):
        calibrate(reference_answers("lsat7"), "3pl", priors=priors)


@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl"])
def test_fit_of_guttman_patterns_does_not_converge(model):
    theta = np.random.default_rng(20).normal(size=(300, 1))
    fit = calibrate(Responses.from_wide((theta > np.linspace(-1, 1, 6)).astype(float)), model)
    assert not fit.convergence.converged
    assert fit.convergence.reason


def every_pattern_equally_often():
    return Responses.from_wide(np.repeat(np.array(np.meshgrid(*[[0.0, 1.0]] * 5)).reshape(5, -1).T, 10, axis=0))


def test_1pl_fit_of_unrelated_answers_does_not_converge():
    fit = calibrate(every_pattern_equally_often(), "1pl")
    assert not fit.convergence.converged
    assert "unrelated" in fit.convergence.reason


def test_rasch_fit_of_unrelated_answers_is_refused_with_an_explanation():
    with pytest.raises(PsychometricsError, match=r"variance of ability went to 0: .* are unrelated"):
        calibrate(every_pattern_equally_often(), "rasch")


def test_unidentified_2pl_fit_does_not_converge():
    """No learner saw both items 1 and 3: six parameters, five free proportions. The fit has a ridge, not a maximum."""
    rng = np.random.default_rng(20)
    x = (rng.random((800, 3)) < expit(1.2 * (rng.normal(size=(800, 1)) - np.linspace(-1, 1, 3)))).astype(float)
    x[:400, 2], x[400:, 0] = np.nan, np.nan
    fit = calibrate(Responses.from_wide(x), "2pl")
    assert not fit.convergence.converged
    assert fit.convergence.reason


def test_a_slope_without_a_maximum_is_flagged_and_has_no_errors():
    rng = np.random.default_rng(20)
    x = (rng.random((500, 8)) < expit(1.2 * (rng.normal(size=(500, 1)) - np.linspace(-1, 1, 8)))).astype(float)
    x[2:, 0] = np.nan
    x[0], x[1] = 1, 0
    fit = calibrate(Responses.from_wide(x), "2pl")
    assert Flag.AT_BOUND in fit.flags[0]
    assert np.isnan(fit.cov[0]).all()
    assert np.isfinite(fit.cov[1:]).all()
