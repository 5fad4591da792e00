"""Rasch difficulties compared with R's eRm, which maximises the conditional likelihood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.engines.r_process import call_r
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.responses import Responses
from tests.helpers.what_changed import WHERE_ENGINES_CHANGE

pytestmark = [pytest.mark.ci, WHERE_ENGINES_CHANGE]

SOURCE = Path(__file__).with_name("r") / "erm.R"
SAME_SE = 0.15
"""Hausman (1978): the variance of the difference between a consistent and an efficient estimator is the difference of
their variances, so it is a small part of a standard error. Measured here: 0.01 to 0.10."""


@pytest.fixture(scope="module", autouse=True)
def _erm(require, require_r):
    require_r("brms")
    require(call_r("irt_versions", {})["eRm"] is not None, "R package eRm (apt install r-cran-erm)")


def simulated(centres, sd):
    """2000 learners, 15 items; abilities around either of two centres."""
    rng = np.random.default_rng(2)
    theta = rng.normal(np.where(rng.random((2000, 1)) < 0.5, *centres), sd)
    return Responses.from_wide((rng.random((2000, 15)) < expit(theta - np.linspace(-2, 2, 15))).astype(float))


def by_conditional_likelihood(responses):
    """Centred easiness and its standard error, shape (J,)."""
    request = {"score": responses.score.tolist(), "n_persons": responses.n_persons}  # complete data, person by person
    found = call_r("conditional_rasch", request, source=SOURCE)
    return np.array(found["easiness"]), np.array(found["se"])


def centred(fit):
    """Centred easiness of a marginal fit and its standard error, shape (J,)."""
    centre = np.eye(fit.n_items) - 1 / fit.n_items
    return centre @ fit.d, np.sqrt(np.diag(centre @ fit.joint_cov[1::2, 1::2] @ centre))


@pytest.mark.parametrize("name", ["normal", "lsat6", "lsat7", "sat12"])
def test_centred_difficulties_and_errors_match_conditional_likelihood(reference_answers, name):
    responses = simulated((0, 0), 1) if name == "normal" else reference_answers(name)
    easiness, se = by_conditional_likelihood(responses)
    for model in ("rasch", "1pl"):
        ours, our_se = centred(fit_em(responses, model=model))
        assert np.max(np.abs(ours - easiness) / se) < SAME_SE
        np.testing.assert_allclose(our_se, se, rtol=0.03)  # the conditional likelihood loses a little; measured 0.011


def test_only_a_histogram_matches_conditional_likelihood_if_theta_is_not_normal():
    """eRm assumes no distribution of abilities, so a fit with a wrong distribution differs from its result."""
    responses = simulated((-2, 2), 0.5)
    easiness, se = by_conditional_likelihood(responses)
    normal, histogram = (centred(fit_em(responses, model="rasch", latent=kind))[0] for kind in ("normal", "histogram"))
    assert np.max(np.abs(histogram - easiness) / se) < SAME_SE
    assert np.max(np.abs(normal - easiness) / se) > 0.5  # measured 1.2
