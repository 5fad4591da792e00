"""The logistic function and related functions compared with SciPy's."""

import numpy as np
import pytest
from scipy import special

from irt_psychometrics.core import logistic

X = np.concatenate([[-np.inf, -1e4, -700.0, -40.0, -0.0, 0.0, 40.0, 1e4, np.inf, np.nan], np.linspace(-30, 30, 401)])
P = np.concatenate([[0.0, 1e-300, 0.5, 1.0 - 1e-12, 1.0, 1.5, np.nan], np.linspace(0.001, 0.999, 199)])


@pytest.mark.parametrize("name", ["expit", "log_expit"])
def test_logistic_functions_equal_scipy(name):
    np.testing.assert_allclose(getattr(logistic, name)(X), getattr(special, name)(X), rtol=1e-15)


def test_logit_equals_scipy():
    # near 1/2 the logit is a difference of two logarithms, each rounded to 1e-16
    np.testing.assert_allclose(logistic.logit(P), special.logit(P), rtol=1e-14, atol=3e-16)


def test_functions_of_a_number_return_a_number():
    assert float(logistic.expit(0.0)) == 0.5
    assert float(logistic.log_expit(0.0)) == pytest.approx(-np.log(2))
    assert float(logistic.logit(0.5)) == 0.0


def test_softmax_equals_scipy_and_does_not_overflow():
    x = np.array([[1000.0, 1001.0, 0.0], [-5.0, 0.0, 5.0]])
    np.testing.assert_allclose(logistic.softmax(x, axis=1), special.softmax(x, axis=1), rtol=1e-15)
