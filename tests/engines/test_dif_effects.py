"""How much an item differs, against differences of draws whose errors are known, integrals and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.dif.wald import Differences, curve_difference, differences_of
from tests.helpers.split_fits import LEARNERS, split_fit

J, ERROR = 12, 0.02
A = np.exp(np.linspace(-0.4, 0.4, J))
B = np.linspace(-1.5, 1.5, J)[::-1]


def compared(a: np.ndarray, d: np.ndarray, error: float = ERROR) -> Differences:
    return differences_of(split_fit(a, d, error), np.full(2, LEARNERS))


def test_errors_are_those_of_both_copies() -> None:
    """The SDs of 300 draws of both groups' estimates about known parameters: of a sound item, one that is flat in
    the reference, one that is flat in the focal group, and a hard one. An SD of 300 draws errs by 4 %."""
    rng = np.random.default_rng(3)
    a, d = np.stack([A, A]), np.stack([-A * B, -A * B])
    a[0, 2], a[1, 5] = 0.4, 0.4
    d[0, 9], d[1, 9] = -2.5, -3.0
    draws = [compared(a + ERROR * rng.normal(size=a.shape), d + ERROR * rng.normal(size=a.shape)) for _ in range(300)]
    delta, se = (np.array([getattr(found, name)[0] for found in draws]) for name in ("delta", "se"))
    shift, shift_se = (np.array([getattr(found, name)[0] for found in draws]) for name in ("shift", "shift_se"))
    for j in (2, 5, 6, 9):
        assert np.mean(se, axis=0)[j] == pytest.approx(np.std(delta, axis=0)[j], rel=0.13), j
        assert np.mean(shift_se, axis=0)[j] == pytest.approx(np.std(shift, axis=0)[j], rel=0.13), j


def test_a_difficulty_that_is_an_extrapolation_has_no_difference_and_the_expected_scores_have() -> None:
    """b = 6.5 in the reference; a = 0.15 in the focal group."""
    a, d = np.stack([A, A]), np.stack([-A * B, -A * B])
    a[0, 3], d[0, 3] = 0.5, -3.25
    a[1, 7] = 0.15
    found = compared(a, d)
    stated = np.isfinite(found.delta[0, :, 1])
    assert np.flatnonzero(~stated).tolist() == [3, 7]
    assert np.array_equal(stated, np.isfinite(found.se[0, :, 1]))
    assert np.isfinite(found.delta[0, :, 0]).all()
    assert np.isfinite(found.shift).all()
    assert np.isfinite(found.shift_se).all()


@pytest.mark.parametrize("c", [None, 0.2])
def test_the_slopes_of_curves_are_those_of_finite_differences(c: float | None) -> None:
    """Between equal curves they are the derivatives; between unlike ones, multiplied, the difference itself."""
    theta = 0.3 + 1.2 * Grid.spanning().nodes
    weights = np.exp(Grid.spanning().log_weights())
    guessing = [] if c is None else [np.log(c / (1 - c))]
    at = np.array([0.7, -1.1, *guessing])
    _, _, slopes = curve_difference(at[None], at[None], theta)

    def moments(x: np.ndarray) -> np.ndarray:
        low = 0.0 if c is None else expit(x[2])
        p = low + (1 - low) * expit(x[0] * theta + x[1])
        return np.array([weights @ p, (weights * Grid.spanning().nodes) @ p])

    step = 1e-5
    by_hand = [(moments(at + e) - moments(at - e)) / (2 * step) for e in step * np.eye(at.size)]
    assert pytest.approx(np.array(by_hand), rel=1e-7) == slopes[0].T
    other = np.array([2.1, 1.4, *guessing])
    area, t, slopes = curve_difference(at[None], other[None], theta)
    assert t[0] == pytest.approx(moments(other) - moments(at), abs=1e-12)
    assert slopes[0] @ (other - at) == pytest.approx(t[0], rel=1e-6)
    assert area[0] >= abs(t[0, 0])


def test_no_difference_is_more_certain_than_the_test_that_it_belongs_to() -> None:
    """A direction's χ² is at most that of both (Cauchy & Schwarz): of expected scores always, of Δb as far as it is
    linear. 20 pairs of sound groups with errors of 0.1, where it is not quite."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        a, d = A + 0.1 * rng.normal(size=(2, J)), 0.1 * rng.normal(size=(2, J)) - A * B
        found = compared(a, d, 0.1)
        assert np.all((found.shift / found.shift_se)[0] ** 2 <= found.wald * 1.001)
        assert np.all((found.delta / found.se)[0, :, 1] ** 2 <= found.wald * 1.6 + 0.1)
