"""Scores, reliability and fit statistics against R mirt 1.46.1 (see shared/reference/README.md), at mirt's estimates.

What differs on purpose is not compared: infit and outfit here are posterior expectations (mirt plugs a point estimate
in), person fit is lz* at the WLE (mirt: Zh, which is lz without the correction for an estimated θ).
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.psychometrics.core.models import Calibration, Convergence, Responses
from irt_assets.psychometrics.fit.dependence import local_dependence
from irt_assets.psychometrics.fit.m2 import form_fit
from irt_assets.psychometrics.fit.sum_score_fit import sum_score_fit
from irt_assets.psychometrics.scoring.abilities import score
from irt_assets.psychometrics.scoring.reliability import empirical_reliability, marginal_reliability

MODELS = ("rasch", "2pl", "3pl_normprior")
SCORED = [f"{name}_{m}" for name in ("lsat6", "lsat7", "deayala", "sat12", "sim2000x50") for m in MODELS]
SCORED += [f"planned1500x60_{m}" for m in MODELS]
COMPLETE = [key for key in SCORED if key.split("_")[0] in ("lsat6", "lsat7", "deayala", "sim2000x50")]


@pytest.fixture(scope="module")
def mirt(shared):
    return json.loads((shared / "reference" / "mirt_reference.json").read_text())


def calibration(reference, key) -> Calibration:
    """mirt's estimates as a calibration."""
    rows = reference["slope_intercept"]
    a, d, g = (np.array([row[name] for row in rows], dtype=float) for name in ("a1", "d", "logit(g)"))
    J = len(rows)
    return Calibration(
        item_ids=tuple(row["item"] for row in rows),
        models=(key.split("_")[1],) * len(rows),
        engine="mirt",
        engine_version="1.46.1",
        a=a,
        d=d,
        c=np.where(g < -100, 0.0, expit(g)),
        cov=np.full((J, 2, 2), np.nan),
        joint_cov=None,
        n=np.ones(J, dtype=np.int64),
        n_correct=np.ones(J, dtype=np.int64),
        flags=((),) * J,
        latent_mean=0.0,
        latent_sd=float(np.sqrt(reference["group"]["var"])),
        n_persons=reference["n_persons"],
        convergence=Convergence(True, 1, 0.0, 0.0, reference["logLik"], reference["n_est"]),
    )


def answers(shared, key, fit) -> Responses:
    file = shared / "reference" / f"{key.split('_')[0]}.csv"
    return Responses.from_wide(np.genfromtxt(file, delimiter=",", skip_header=1), fit.item_ids)


def patterns(reference, fit) -> Responses:
    rows = [[np.nan if x == "." else float(x) for x in row["pattern"]] for row in reference["scores"]]
    return Responses.from_wide(np.array(rows), fit.item_ids)


def column(rows, name):
    """Null and infinite are both NaN here: mirt writes either for the ML of a perfect pattern."""
    values = np.array([row[name] if isinstance(row[name], int | float) else np.nan for row in rows], dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


@pytest.mark.parametrize("method", ["eap", "map", "ml", "wle"])
@pytest.mark.parametrize("key", SCORED)
def test_scores_are_those_of_mirt(mirt, key, method):
    reference = mirt[key]
    fit = calibration(reference, key)
    # under a 3PL mirt's WLE is the mode under Jeffreys' prior, which is Warm's estimate only where c = 0
    ours = "jeffreys" if method == "wle" else method
    scores = score(patterns(reference, fit), fit.a, fit.d, fit.c, method=ours, sd=fit.latent_sd)
    theta, se = column(reference["scores"], method), column(reference["scores"], f"se_{method}")
    compared = np.isfinite(theta)
    if key == "deayala_3pl_normprior" and method == "ml":
        # two patterns are likelier under blind guessing (θ → −∞) than at the local maximum that mirt stopped at
        assert np.isneginf(scores.theta[compared]).sum() == 2
        compared &= np.isfinite(scores.theta)
    # the EAP of a wide latent distribution: mirt's grid ends at ± 6, 4.2 SD of deayala's θ; ours at ± 6 SD
    tolerance = 3e-3 if key == "deayala_rasch" and method == "eap" else 1e-3
    if key == "planned1500x60_3pl_normprior" and method == "wle":
        tolerance = 5e-3  # one flat pattern: mirt's search stopped 0.0046 short
    np.testing.assert_allclose(scores.theta[compared], theta[compared], atol=tolerance)
    assert not np.isfinite(scores.theta[~compared]).any()
    if method != "wle":  # mirt's is from the curvature of the penalised likelihood, ours from the test information
        np.testing.assert_allclose(scores.se[compared], se[compared], atol=3e-3, rtol=1e-3)


@pytest.mark.parametrize("key", [k for k in SCORED if not k.startswith("sat12")])
def test_reliabilities_are_those_of_mirt(shared, mirt, key):
    reference = mirt[key]
    fit = calibration(reference, key)
    scores = score(answers(shared, key, fit), fit.a, fit.d, fit.c, sd=fit.latent_sd)
    # deayala_rasch: see the EAP above
    assert empirical_reliability(scores) == pytest.approx(
        reference["reliability"]["empirical_rxx_EAP"], abs=1e-4 if key == "deayala_rasch" else 2e-6
    )
    if fit.model != "rasch":  # with a free variance mirt adds the variance to the information, not its inverse
        ours = marginal_reliability(fit.a, fit.d, fit.c)
        assert ours == pytest.approx(reference["reliability"]["marginal_rxx"], abs=2e-6)


@pytest.mark.parametrize("key", COMPLETE)
def test_s_x2_is_that_of_mirt(shared, mirt, key):
    fit = calibration(mirt[key], key)
    ours = sum_score_fit(answers(shared, key, fit), fit)
    rows = mirt[key]["itemfit_S_X2"]
    df = np.array([row["df.S_X2"] or 0 for row in rows])
    # mirt takes the latent variance of a Rasch fit off each item's degrees of freedom, too; it is one for all items
    if fit.model == "rasch":
        df = df + 1
    tested = df > 0
    np.testing.assert_array_equal(ours.df[tested], df[tested])
    np.testing.assert_allclose(ours.statistic[tested], column(rows, "S_X2")[tested], rtol=1e-4)  # 6 digits of input


@pytest.mark.parametrize("key", COMPLETE + ["planned1500x60_rasch", "planned1500x60_2pl"])
def test_q3_is_that_of_mirt(shared, mirt, key):
    fit = calibration(mirt[key], key)
    ours = local_dependence(answers(shared, key, fit), fit)
    place = {item: j for j, item in enumerate(fit.item_ids)}
    for row in mirt[key]["Q3_EAP"]:
        i, j = place[row["i"]], place[row["j"]]
        if row["v"] is None:
            assert ours.n[i, j] == 0
            assert np.isnan(ours.q3[i, j])
        else:
            # the EAP's grid again for deayala_rasch
            assert ours.q3[i, j] == pytest.approx(row["v"], abs=1e-3 if key == "deayala_rasch" else 1e-5)


@pytest.mark.parametrize("key", [k for k in COMPLETE if "3pl" not in k or "sim" in k])
def test_m2_is_that_of_mirt(shared, mirt, key):
    fit = calibration(mirt[key], key)
    (ours,) = form_fit(answers(shared, key, fit), fit)
    reference = mirt[key]["M2"]
    assert ours.df == reference["df"]
    # six digits of input; under the 3PL Δ is nearly singular in c, and mirt's derivatives are numerical
    tolerance = {"2pl": 1e-5, "rasch": 3e-4, "3pl": 2e-3}[fit.model]
    assert ours.m2 == pytest.approx(reference["M2"], rel=0.01 if key == "deayala_rasch" else tolerance)
    assert ours.rmsea == pytest.approx(reference["RMSEA"], abs=2e-4)
