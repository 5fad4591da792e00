"""Histograms of θ where there is little to make one of: few learners, and learners who count for nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration, Floats, Responses
from irt_assets.psychometrics.core.options import Latent, Model
from irt_assets.psychometrics.estimation import standard_errors
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.latent_shape import fit_with_shape

COUNTED = 1000


def skewed_answers(persons: int) -> Floats:
    """Persons × items, θ of χ² with 4 degrees of freedom, mean 0 and SD 1."""
    rng = np.random.default_rng(1)
    a, b = np.exp(rng.normal(0.1, 0.3, 20)), rng.normal(0, 1, 20)
    theta = (rng.chisquare(4, persons) - 4) / np.sqrt(8)
    return (rng.random((persons, 20)) < expit(a * (theta[:, None] - b))).astype(float)


def fit(some: Responses, model: Model, latent: Latent, **how: Any) -> Calibration:
    return fit_em(some, model=model, latent=latent, **how)


def test_who_counts_for_nothing_does_not_shape_a_histogram() -> None:
    answers = skewed_answers(COUNTED + 500)
    weights = np.r_[np.ones(COUNTED), np.zeros(500)]
    weighted = fit_em(Responses.from_wide(answers), latent="histogram", weights=weights)
    without = fit_em(Responses.from_wide(answers[:COUNTED]), latent="histogram")
    assert weighted.n_persons == COUNTED
    # The same sums over the same persons, in chunks of another size: they differ by rounding alone.
    assert np.allclose(weighted.a, without.a, rtol=1e-9)
    assert np.allclose(weighted.populations[0].weights, without.populations[0].weights, rtol=1e-6, atol=1e-12)
    assert np.allclose(weighted.a_se, without.a_se, rtol=1e-6)


def test_nobody_who_counts_is_refused() -> None:
    responses = Responses.from_wide(skewed_answers(200))
    with pytest.raises(PsychometricsError, match="got no responses"):
        fit_em(responses, latent="histogram", weights=np.zeros(200))


def test_a_group_of_learners_who_count_for_nothing_has_no_histogram_of_its_own() -> None:
    responses = Responses.from_wide(skewed_answers(600))
    with pytest.raises(PsychometricsError, match=r"too few for an ability distribution of their own: late \(0\)"):
        fit_em(
            responses,
            latent="histogram",
            groups=["early"] * 400 + ["late"] * 200,
            weights=np.r_[np.ones(400), np.zeros(200)],
        )


def test_few_learners_have_the_histogram_that_is_asked_for_and_a_warning() -> None:
    calibration, shape = fit_with_shape(fit, Responses.from_wide(skewed_answers(50)), "2pl", "histogram")
    assert calibration.convergence.converged
    assert shape.why == "θ is taken as a histogram, as asked; 50 learners do not determine its shape"
    (population,) = calibration.populations
    assert min(population.weights) >= 0
    assert sum(population.weights) == pytest.approx(1.0)
    assert (population.mean, population.sd) == (pytest.approx(0.0, abs=1e-9), pytest.approx(1.0, abs=1e-9))


def test_a_bank_too_large_for_one_matrix_gets_the_same_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two ways up end at one maximum, each within 1e-5 of a parameter's step and so within 1e-3 of it."""
    responses = Responses.from_wide(skewed_answers(1500))
    whole = fit_em(responses, latent="histogram")
    monkeypatch.setattr(standard_errors, "FULL_COVARIANCE_ITEMS", 5)
    apart = fit_em(responses, latent="histogram")
    assert apart.convergence.converged, apart.convergence.reason
    assert apart.joint_cov is None
    np.testing.assert_allclose(apart.a, whole.a, atol=1e-3)
    np.testing.assert_allclose(apart.d, whole.d, atol=1e-3)
    assert np.all(apart.a_se < whole.a_se)  # the blocks take the weights as known
