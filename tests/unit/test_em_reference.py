"""The em engine and EAP against R mirt 1.46.1 (see shared/reference/README.md) and published estimates."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irt_assets.psychometrics.em import fit_em
from irt_assets.psychometrics.models import Responses
from irt_assets.psychometrics.scoring import eap

SETS = ("lsat6", "lsat7", "sat12", "deayala", "sim2000x50", "planned1500x60")
CASES = [
    (name, model)
    for name in SETS
    for model in ("rasch", "2pl")
    if (name, model) != ("deayala", "rasch")  # mirt stopped short of the maximum: has a test of its own
]


@pytest.fixture(scope="module")
def mirt(shared):
    return json.loads((shared / "reference" / "mirt_reference.json").read_text())


@pytest.fixture(scope="module")
def published(shared):
    return json.loads((shared / "data" / "reference_values.json").read_text())["published"]


def read(shared, name):
    return Responses.from_wide(
        np.genfromtxt(shared / "reference" / f"{name}.csv", delimiter=",", skip_header=1, missing_values="")
    )


def column(rows, name):
    return np.array([row[name] for row in rows], dtype=float)


@pytest.mark.parametrize(("name", "model"), CASES)
def test_estimates_errors_likelihood_and_scores_are_those_of_mirt(shared, mirt, name, model):
    reference = mirt[f"{name}_{model}"]
    responses = read(shared, name)
    fit = fit_em(responses, model=model)
    assert fit.convergence.converged, fit.convergence.reason
    rows = reference["slope_intercept"]
    # mirt stopped at TOL 1e-7 and its file has 6 digits: good to about 3e-5
    np.testing.assert_allclose(fit.a, column(rows, "a1"), atol=1e-4)
    np.testing.assert_allclose(fit.d, column(rows, "d"), atol=1e-4)
    np.testing.assert_allclose(fit.d_se, column(rows, "se_d"), rtol=1e-3)
    if model == "2pl":
        np.testing.assert_allclose(fit.a_se, column(rows, "se_a1"), rtol=1e-3)
        np.testing.assert_allclose(fit.b_se, column(reference["irt"], "se_b"), rtol=1e-3)
    assert fit.convergence.loglik == pytest.approx(reference["logLik"], abs=1e-3)
    assert fit.convergence.n_parameters == reference["n_est"]
    assert fit.aic == pytest.approx(reference["AIC"], abs=2e-3)
    assert fit.bic == pytest.approx(reference["BIC"], abs=2e-3)
    assert fit.latent_sd**2 == pytest.approx(reference["group"]["var"], abs=1e-4)
    scores = eap(responses, fit.a, fit.d, fit.c, sd=fit.latent_sd)
    where = np.array([row["row"] - 1 for row in reference["scores"]])
    np.testing.assert_allclose(scores.theta[where], column(reference["scores"], "eap"), atol=1e-3)
    np.testing.assert_allclose(scores.se[where], column(reference["scores"], "se_eap"), atol=1e-3)


def test_deayala_rasch_reaches_the_true_maximum(shared, mirt):
    """The reference's README gives the maximum that an independent check found, above mirt's."""
    fit = fit_em(read(shared, "deayala"), model="rasch")
    assert fit.convergence.loglik == pytest.approx(-55387.02373, abs=1e-3)
    assert fit.convergence.loglik > mirt["deayala_rasch"]["logLik"]
    assert fit.latent_sd**2 == pytest.approx(2.07778, abs=1e-4)
    np.testing.assert_allclose(fit.d, [2.73748, 0.826447, 0.375351, -0.402672, -0.630462], atol=1e-4)


@pytest.mark.parametrize("name", ["lsat6", "lsat7"])
def test_published_2pl_estimates_are_found(shared, published, name):
    entry = published[f"{name}_2pl"]
    fit = fit_em(read(shared, name))
    np.testing.assert_allclose(fit.a, entry["a"], atol=entry["tolerance"])
    np.testing.assert_allclose(
        fit.b if "b" in entry else fit.d, entry.get("b", entry.get("d")), atol=entry["tolerance"]
    )


def test_published_lsat6_log_likelihood_is_found(shared, published):
    assert fit_em(read(shared, "lsat6")).convergence.loglik == pytest.approx(
        published["lsat6_2pl"]["loglik"],
        abs=1e-3,  # printed with three digits
    )


def test_published_rasch_and_common_slope_estimates_are_found(shared, published):
    rasch, one = fit_em(read(shared, "lsat6"), model="rasch"), fit_em(read(shared, "lsat7"), model="1pl")
    np.testing.assert_allclose(rasch.d, published["lsat6_rasch"]["d"], atol=published["lsat6_rasch"]["tolerance"])
    assert rasch.latent_sd**2 == pytest.approx(published["lsat6_rasch"]["latent_variance"], abs=0.005)  # two digits
    np.testing.assert_allclose(one.d, published["lsat7_1pl"]["d"], atol=published["lsat7_1pl"]["tolerance"])
    assert one.a[0] == pytest.approx(published["lsat7_1pl"]["a"], abs=published["lsat7_1pl"]["tolerance"])


def test_the_common_slope_of_lsat6_is_found(shared):
    """DATASETS.md: a = .7551 and log-likelihood −2466.938, from an independent 61-point Gauss-Hermite fit."""
    fit = fit_em(read(shared, "lsat6"), model="1pl")
    np.testing.assert_allclose(fit.a, 0.7551, atol=1e-4)
    assert np.all(fit.a == fit.a[0])
    assert np.all(fit.a_se == fit.a_se[0])
    assert fit.convergence.loglik == pytest.approx(-2466.938, abs=1e-3)
