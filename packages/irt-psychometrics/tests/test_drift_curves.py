"""Comparison of an item's curves under two models: the statistic of an unchanged item, and its covariance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import expit

from irt_psychometrics.drift import Comparison, CurveDifferences, Drift, Published
from irt_psychometrics.drift.curves import MIN_ITEMS, Moments, curve_differences
from irt_psychometrics.drift.errors import FitPopulation
from irt_psychometrics.items import ItemParameters
from psychometrics_testbed.published_months import alone

THETA = np.linspace(-8, 8, 2001)
A = np.array([0.8, 1.0, 1.2, 1.5, 1.8, 1.2])
B = np.array([-1.5, -0.5, 0.0, 0.5, 1.0, 1.5])
C = np.array([0.2, 0.3, 0.2, 0.1, 0.2, 0.25])
IDS = tuple(f"item{j}" for j in range(A.size))
LEARNERS = FitPopulation("2pl", 0.5, 1.2)


def weights(mean: float, sd: float) -> np.ndarray:
    density = np.exp(-(((THETA - mean) / sd) ** 2) / 2)
    return density / density.sum()


def nearest_2pl(a: float, b: float, c: float, mean: float, sd: float) -> tuple[float, float]:
    """Return (a, b) of the logistic regression of an item's right answers on θ ~ N(mean, sd²), which minimises the
    Kullback-Leibler divergence."""
    p, w = c + (1 - c) * expit(a * (THETA - b)), weights(mean, sd)

    def scores(x: np.ndarray) -> list[float]:
        off = w * (p - expit(x[0] * THETA + x[1]))
        return [off.sum(), (off * THETA).sum()]

    slope, intercept = root(scores, [0.7 * a, 0.5 - 0.7 * a * b]).x
    return slope, -intercept / slope


def compare_curves(
    now: np.ndarray, old: np.ndarray, window: FitPopulation, published: FitPopulation | None, se: float = 0.05
) -> Comparison:
    """Compare the window's (a, b, c) with published ones, shape (J, 3) each. Errors of a and b are independent; c has
    an error only in the window."""
    k = len(now)
    ids, cov = tuple(f"item{j}" for j in range(k)), np.tile(se**2 * np.eye(2), (k, 1, 1))
    none = np.zeros((k, 2, 0))
    values = Published(ids, *old.T, cov, with_anchors=none, fitted=(published,) * k)
    c_errs = np.tile([0.0, 0.0, 0.1**2], (k, 1, 1)) if window.model == "3pl" else None
    of_now = ItemParameters(ids, *now.T, cov, c_errs)
    return Comparison(of_now, values, none, fitted=(window,) * k, **alone(of_now, values))


def sound_items() -> tuple[np.ndarray, np.ndarray]:
    of_2pl = np.array([(*nearest_2pl(*abc, 0.5, 1.2), 0.0) for abc in zip(A, B, C, strict=True)])
    return np.column_stack([A, B, C]), of_2pl


def test_curve_statistic_is_0_for_an_item_and_its_nearest_2pl_among_the_2pls_learners() -> None:
    """This holds in both directions. The tolerance of 1e-6 covers 61 against 2001 nodes, and the root."""
    of_3pl, of_2pl = sound_items()
    window = FitPopulation("3pl", 0.1, 0.9)
    upward = curve_differences(compare_curves(of_3pl, of_2pl, window, LEARNERS), mean=0.0, sd=1.0)
    downward = curve_differences(compare_curves(of_2pl, of_3pl, LEARNERS, window), mean=0.0, sd=1.0)
    for found in (upward, downward):
        assert (found.t, found.df.tolist()) == (pytest.approx(0.0, abs=1e-6), [2] * A.size)


def test_unchanged_items_of_two_models_are_not_flagged_and_have_no_parameter_differences() -> None:
    of_3pl, of_2pl = sound_items()
    drift = Drift.from_comparison(compare_curves(of_3pl, of_2pl, FitPopulation("3pl", 0.1, 0.9), LEARNERS))
    assert drift.flagged == ()
    assert np.isnan([drift.delta_a, drift.delta_b, drift.delta_c]).all()
    assert np.isnan(drift.se).all()
    assert drift.across_models == dict.fromkeys(IDS, ("2pl", "3pl"))
    assert drift.wabc.min() > 0.003, "the area between curves of two models is what the models differ by"


def test_an_item_that_moved_is_flagged_if_its_published_model_differs() -> None:
    of_3pl, of_2pl = sound_items()
    of_3pl[2, 1] += 0.8
    drift = Drift.from_comparison(compare_curves(of_3pl, of_2pl, FitPopulation("3pl", 0.1, 0.9), LEARNERS))
    assert drift.flagged == ("item2",)
    assert drift.curves is not None
    assert drift.curves.t[2, 0] < -3 * np.sqrt(drift.curves.cov[2, 0, 0]), "harder: fewer are right"


def test_linear_change_of_the_published_scale_is_removed_if_there_are_enough_items() -> None:
    """The published fit is on a different scale, θ = 1.1θ' + 0.2. With too few items the change cannot be estimated."""
    of_3pl, of_2pl = sound_items()
    moved = np.column_stack([of_3pl[:, 0] / 1.1, 1.1 * of_3pl[:, 1] + 0.2, of_3pl[:, 2]])
    found = curve_differences(compare_curves(moved, of_2pl, FitPopulation("3pl", 0.1, 0.9), LEARNERS), mean=0.0, sd=1.0)
    assert found.t == pytest.approx(0.0, abs=1e-5), "Gauss-Newton has converged"
    few = slice(0, MIN_ITEMS - 1)
    alone = curve_differences(
        compare_curves(moved[few], of_2pl[few], FitPopulation("3pl", 0.1, 0.9), LEARNERS), mean=0.0, sd=1.0
    )
    assert np.abs(alone.t[:, 0]).min() > 0.005


def test_curves_are_compared_by_the_share_of_right_answers_if_a_model_has_no_slopes() -> None:
    of_3pl, of_2pl = sound_items()
    published = np.column_stack([np.ones(A.size), of_2pl[:, 1:]])
    found = curve_differences(
        compare_curves(of_3pl, published, FitPopulation("3pl", 0.1, 0.9), FitPopulation("rasch", 0.5, 1.2)),
        mean=0.0,
        sd=1.0,
    )
    assert found.df.tolist() == [1] * A.size
    assert found.wald == pytest.approx(found.t[:, 0] ** 2 / found.cov[:, 0, 0], rel=1e-12)


def test_published_model_is_inferred_from_c_if_no_model_is_recorded() -> None:
    of_3pl, of_2pl = sound_items()
    for old, window, models in (
        (of_2pl, FitPopulation("3pl", 0.0, 1.0), {("2pl", "3pl")}),
        (of_3pl, FitPopulation("2pl", 0.0, 1.0), {("3pl", "2pl")}),
        (of_3pl, FitPopulation("3pl", 0.0, 1.0), set()),
        (of_2pl, FitPopulation("rasch", 0.0, 1.0), set()),
    ):
        drift = Drift.from_comparison(compare_curves(of_3pl, old, window, None))
        assert set(drift.across_models.values()) == models


def test_covariance_of_the_curve_statistic_equals_the_covariance_of_simulated_curves() -> None:
    """Errors are so small that the first order suffices. 20,000 draws determine SDs and correlations to about 1 %."""
    of_3pl, _ = sound_items()
    comparison = compare_curves(of_3pl, of_3pl, FitPopulation("3pl", 0.0, 1.0), FitPopulation("3pl", 0.0, 1.0), se=0.01)
    comparison = replace(
        comparison, window=replace(comparison.window, further_cov=np.tile([0.4e-4, -0.3e-4, 4e-4], (A.size, 1, 1)))
    )
    found = curve_differences(comparison, mean=0.0, sd=1.0)
    rng, w = np.random.default_rng(3), weights(0.0, 1.0)
    j, nodes = 2, slice(0, None, 10)
    own = np.array([[1e-4, 0, 0.4e-4], [0, 1e-4, -0.3e-4], [0.4e-4, -0.3e-4, 4e-4]])
    now = (
        np.array([A[j], B[j], np.log(C[j] / (1 - C[j]))]) + rng.standard_normal((20_000, 3)) @ np.linalg.cholesky(own).T
    )
    old = np.array([A[j], B[j]]) + 0.01 * rng.standard_normal((20_000, 2))
    theta, w = THETA[nodes], w[nodes] / w[nodes].sum()
    c = expit(now[:, 2:])
    off = c + (1 - c) * expit(now[:, :1] * (theta - now[:, 1:2])) - C[j]
    off -= (1 - C[j]) * expit(old[:, :1] * (theta - old[:, 1:2]))
    drawn = np.cov(off @ np.stack([w, w * theta]).T, rowvar=False)
    assert np.sqrt(np.diag(found.cov[j])) == pytest.approx(np.sqrt(np.diag(drawn)), rel=0.03)
    scale = np.sqrt(np.outer(np.diag(drawn), np.diag(drawn)))
    assert found.cov[j] / scale == pytest.approx(drawn / scale, abs=0.05)


def test_statistic_with_1_degree_of_freedom_ignores_the_second_component() -> None:
    singular = np.array([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    nothing = np.zeros((2, 2, 3))
    now, old = (
        Moments(np.array([[2.0, 2.0], [1.0, 2.0]]), nothing, nothing),
        Moments(np.zeros((2, 2)), nothing, nothing),
    )
    found = CurveDifferences(now, old, singular, np.array([1, 2]))
    assert found.wald.tolist() == [4.0, 5.0]
