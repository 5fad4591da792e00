"""Item and test information: comparison with mirt and the likelihood's curvature, losses, and retired items."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.drift.errors import Comparison, FitPopulation, Published
from irt_psychometrics.information.functions import (
    Abilities,
    Information,
    greatest_information,
    item_information,
    loss_of_test,
    losses_of_items,
)
from psychometrics_testbed.drift_worlds import world
from psychometrics_testbed.published_months import alone, placed

PLAIN = Abilities.normal()


def curve(theta, a, b, c):
    return c + (1 - c) / (1 + np.exp(-a * (theta - b)))


def curves_of(a, b, c) -> ItemCurves:
    a, b, c = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (a, b, c))
    with np.errstate(invalid="ignore"):  # a flat item's b is infinite
        return ItemCurves(a, -a * b, c)


def parameters(a, b, c, ids=None) -> ItemParameters:
    """Items without errors."""
    return ItemParameters(ids or tuple(f"item{j}" for j in range(len(a))), a, b, c, np.zeros((len(a), 2, 2)))


def comparison(new, old, cov_new, cov_old=None) -> Comparison:
    """Current and published items (a, b, c), (J, 3) each, with independent errors of (a, b), (2, 2), equal for all."""
    new, old, none = np.array(new, dtype=float), np.array(old, dtype=float), np.zeros((len(new), 2, 0))
    ids = tuple(f"item{j}" for j in range(len(new)))
    cov_new = np.tile(cov_new, (len(new), 1, 1))
    cov_old = np.zeros_like(cov_new) if cov_old is None else np.tile(cov_old, (len(new), 1, 1))
    published = Published(ids, *old.T, cov=cov_old, with_anchors=none)
    now = ItemParameters(ids, *new.T, cov_new)
    return Comparison(now, published, none, (FitPopulation("2pl"),) * len(new), **alone(now, published))


# --- the curves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["lsat6_2pl", "lsat7_2pl", "lsat7_3pl_normprior", "sat12_2pl", "sat12_3pl_normprior"])
def test_information_of_a_test_matches_mirt(shared: Path, key: str) -> None:
    """Values and parameters are rounded to 6 digits. Far out, a slope of 3 makes the effect of rounding 10 times as
    large."""
    fit = json.loads((shared / "reference/mirt_reference.json").read_text())[key]
    a, b, c = (np.array([item[name] for item in fit["irt"]], dtype=float) for name in ("a", "b", "g"))
    theta = np.array([row["theta"] for row in fit["test_information"]], dtype=float)
    of_mirt = [row["info"] for row in fit["test_information"]]
    np.testing.assert_allclose(item_information(theta, curves_of(a, b, c)).sum(axis=1), of_mirt, rtol=5e-5)


@pytest.mark.parametrize(("a", "b", "c"), [(1.0, 0.0, 0.0), (2.3, 0.8, 0.0), (0.6, -1.5, 0.2), (1.7, 1.0, 0.35)])
def test_information_matches_the_curvature_of_the_expected_log_likelihood(a: float, b: float, c: float) -> None:
    """−d²/dt² Σ_x P_x(θ) log P_x(t) at t = θ by central differences: step 1e-3 errs by 1e-6, rounding by 1e-9."""
    theta, h = np.linspace(-3, 3, 13), 1e-3
    p = curve(theta, a, b, c)

    def expected(t):
        q = curve(t, a, b, c)
        return p * np.log(q) + (1 - p) * np.log(1 - q)

    curvature = -(expected(theta + h) - 2 * expected(theta) + expected(theta - h)) / h**2
    ours = item_information(theta, curves_of(a, b, c))[:, 0]
    np.testing.assert_allclose(ours, curvature, atol=1e-5)


def test_information_of_a_2pl_item_peaks_at_its_difficulty_and_integrates_to_its_slope() -> None:
    """a²/4 at b, and ∫ I dθ = a (Birnbaum 1968); the rectangle rule on ±40 covers the whole integral."""
    theta = np.linspace(-40, 40, 8001)
    information = item_information(theta, curves_of(1.3, 0.4, 0.0))[:, 0]
    assert theta[information.argmax()] == pytest.approx(0.4, abs=1e-9)
    assert (information.max(), information.sum() * 0.01) == (pytest.approx(1.3**2 / 4), pytest.approx(1.3, rel=1e-9))


def test_items_without_parameters_or_with_a_negative_slope_have_no_information() -> None:
    a, b, c = np.array([-0.9, np.nan, 0.0, 1.0]), np.array([0.0, np.nan, np.inf, 0.0]), np.zeros(4)
    information = item_information(np.array([0.0]), curves_of(a, b, c))
    assert information.tolist() == [[0.0, 0.0, 0.0, 0.25]]
    misleading = Information.from_parameters(parameters(a[:1], b[:1], c[:1]), 0.0)
    assert (misleading.se.tolist(), Information.from_parameters(parameters(a[3:], b[3:], c[3:]), 0.0).se.tolist()) == (
        [np.inf],
        [2.0],
    )


@pytest.mark.parametrize(("a", "c"), [(1.0, 0.0), (2.3, 0.0), (0.6, 0.2), (1.7, 0.35)])
def test_greatest_information_matches_the_maximum_on_a_fine_grid(a: float, c: float) -> None:
    """On a grid of step 0.001 the largest value misses the peak by a share of about (0.0005·a)²/4, at most 4e-7."""
    theta = np.linspace(-4, 4, 8001)
    on_grid = item_information(theta, curves_of(a, 0.3, c)).max()
    assert greatest_information(curves_of(a, 0.3, c))[0] == pytest.approx(on_grid, rel=1e-6)


def test_greatest_information_is_zero_without_a_positive_slope() -> None:
    assert greatest_information(curves_of([-0.5, 0.0], [0, 0], [0, 0])).tolist() == [0.0, 0.0]


# --- the population --------------------------------------------------------------------------------------------------


def test_middle_of_a_normal_population_ends_at_its_quantiles() -> None:
    """The grid has a step of 0.05 SD, and interpolation between its nodes errs by about 1e-3 SD."""
    assert Abilities.normal(0.4, 1.5).middle() == pytest.approx(norm(0.4, 1.5).interval(0.95), abs=2e-3)


def test_information_is_averaged_with_the_given_weights() -> None:
    weighted = Abilities(np.array([-1.0, 0.5]), np.array([3.0, 1.0]))
    now = [[0.9, 0.2, 0.1], [1.4, -0.3, 0.0]]
    found = losses_of_items(comparison(now, [[1.0, 0.0, 0.1], [1.2, 0.0, 0.0]], 0.01 * np.eye(2)), weighted)
    held = item_information(np.array([-1.0, 0.5]), curves_of(*np.array(now).T))
    np.testing.assert_allclose(found.now, 0.75 * held[0] + 0.25 * held[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("theta", "weights"), [([0, 1], [1, -1]), ([0, 1], [0, 0]), ([1, 0], [1, 1]), ([0, 1], [1]), ([0, 1], [1, np.nan])]
)
def test_weights_that_do_not_form_a_population_are_refused(theta, weights) -> None:
    with pytest.raises(PsychometricsError, match="abilities"):
        Abilities(np.array(theta), np.array(weights))


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.0, 0.25])
def test_error_of_a_log_ratio_matches_the_spread_over_drawn_parameters(c: float) -> None:
    """If errors are 0.02, the second-order terms, which the delta method omits, are 0.02 of the first-order ones. An
    SD of 4000 draws has a standard error of 1.1 %. Limit: 5 %."""
    new, old = np.array([1.1, 0.8]), np.array([1.6, -0.4])
    cov_new, cov_old = np.array([[4e-4, -1e-4], [-1e-4, 3e-4]]), np.array([[2e-4, 1e-4], [1e-4, 4e-4]])
    losses = losses_of_items(comparison([[*new, c]], [[*old, c]], cov_new, cov_old), PLAIN)
    rng = np.random.default_rng(3)
    drawn = [rng.multivariate_normal(x, cov, 4000).T for x, cov in ((new, cov_new), (old, cov_old))]
    logs = [np.log(PLAIN.weights @ item_information(PLAIN.theta, curves_of(*ab, np.full(4000, c)))) for ab in drawn]
    assert np.std(logs[0] - logs[1]) == pytest.approx(losses.log_se[0], rel=0.05)
    test = loss_of_test(comparison([[*new, c]], [[*old, c]], cov_new, cov_old), PLAIN)
    k = test.theta.size // 4
    at = [np.log(item_information(test.theta[[k]], curves_of(*ab, np.full(4000, c)))[0]) for ab in drawn]
    assert np.std(at[0] - at[1]) == pytest.approx(test.log_se[k], rel=0.05)


def test_error_of_a_loss_excludes_the_anchors_effect_on_the_scale() -> None:
    """If both sides have the same values, their gradients are equal, and the expected variance follows from the
    covariance of the difference, which includes shared errors. The gradient comes from central differences, which err
    by 1e-8."""
    simulated = world(np.random.default_rng(6))[1][0]
    old, h = simulated.published, 1e-4
    still = replace(simulated, window=replace(simulated.window, a=old.a, b=old.b))

    def log_average(a, b):
        return np.log(PLAIN.weights @ item_information(PLAIN.theta, curves_of(a, b, old.c)))

    by_a = (log_average(old.a + h, old.b) - log_average(old.a - h, old.b)) / (2 * h)
    by_b = (log_average(old.a, old.b + h) - log_average(old.a, old.b - h)) / (2 * h)
    gradient = np.stack([by_a, by_b], axis=1)
    variance = np.einsum("jk,jkl,jl->j", gradient, simulated.cov, gradient)
    np.testing.assert_allclose(losses_of_items(still, PLAIN).log_se, np.sqrt(variance), rtol=1e-6)


def test_losses_are_flagged_only_if_they_are_large_and_certain() -> None:
    old = [[1.5, 0.0, 0.0]] * 3
    certain, vague = 1e-4 * np.eye(2), 0.2 * np.eye(2)
    now = [[1.0, 0.0, 0.0], [1.45, 0.0, 0.0], [1.9, 0.0, 0.0]]
    found = losses_of_items(comparison(now, old, certain), PLAIN)
    assert found.flagged == ("item0",)
    assert found.q[1] < 0.05, "the second is certain, and too small to matter"
    assert found.ratio[1] > 0.8
    assert found.upper[0] < 0.8
    assert losses_of_items(comparison(now, old, vague), PLAIN).flagged == ()
    assert losses_of_items(comparison(now, old, certain).with_variation(0.5, 0.0), PLAIN).flagged == ()


def test_items_that_moved_away_from_the_learners_are_flagged_for_lost_information() -> None:
    found = losses_of_items(comparison([[1.5, 2.5, 0.0]], [[1.5, 0.0, 0.0]], 1e-3 * np.eye(2)), PLAIN)
    assert found.flagged == ("item0",)


def test_items_whose_slope_turned_negative_have_lost_all_information() -> None:
    old = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    found = losses_of_items(comparison([[-0.9, 0.1, 0.0], [1.0, 0.0, 0.0]], old, 0.01 * np.eye(2)), PLAIN)
    assert (found.flagged, found.ratio[0]) == (("item0",), 0)
    assert np.isnan([found.log_se[0], found.upper[0]]).all()
    assert losses_of_items(comparison([[-0.1, 0.1, 0.0]], old[:1], np.eye(2)), PLAIN).flagged == ()


def test_published_items_without_information_are_refused_with_their_name() -> None:
    flat = comparison([[1, 0, 0], [1, 0, 0]], [[1, 0, 0], [-1, 0, 0]], np.eye(2))
    with pytest.raises(PsychometricsError, match="item1"):
        losses_of_items(flat, PLAIN)
    with pytest.raises(PsychometricsError, match="item1"):
        loss_of_test(flat, PLAIN)


def test_loss_of_a_test_is_total_and_without_interval_if_its_only_key_is_wrong() -> None:
    found = loss_of_test(comparison([[-1, 0, 0]], [[1, 0, 0]], 0.01 * np.eye(2)), PLAIN)
    assert found.flagged
    assert found.worst[1] == 0
    assert np.isnan(found.worst[2:]).all()
    assert not found.certain


def test_loss_of_a_test_is_flagged_by_its_weakest_theta_within_the_middle() -> None:
    """The easier of two items flattens: little information is lost on average, but half at the low end. The loss beyond
    the middle 95 % does not count."""
    old = [[1.5, -1.5, 0.0], [1.5, 1.0, 0.0]]
    found = loss_of_test(comparison([[1.0, -1.5, 0.0], [1.5, 1.0, 0.0]], old, 0.01 * np.eye(2)), PLAIN)
    theta, ratio, low, high = found.worst
    assert found.flagged
    assert -1.97 <= theta < -1
    assert low < ratio < high
    assert ratio < 0.6
    assert found.certain
    vague = loss_of_test(comparison([[1.0, -1.5, 0.0], [1.5, 1.0, 0.0]], old, np.eye(2)), PLAIN)
    assert vague.flagged
    assert not vague.certain
    narrow = Abilities.normal(1.2, 0.2)
    assert not loss_of_test(comparison([[1.0, -1.5, 0.0], [1.5, 1.0, 0.0]], old, 0.01 * np.eye(2)), narrow).flagged


def test_error_of_the_linking_constants_is_common_to_the_whole_test() -> None:
    """Items have no errors; the constants are drawn with their errors. Limits are as in the tests above."""
    slope, intercept, cov = 1.2, 0.5, np.array([[4e-4, 1e-4], [1e-4, 3e-4]])
    now, exact = np.array([[1.1, 0.8, 0.0], [0.7, -0.4, 0.0]]), np.zeros((2, 2))
    loss = loss_of_test(replace(comparison(now, now, exact), linking=placed(slope, intercept, cov)), PLAIN)
    k = loss.theta.size // 4
    drawn = np.random.default_rng(4).multivariate_normal([slope, intercept], cov, 4000)
    a, b = now[:, 0] * slope, (now[:, 1] - intercept) / slope
    logs = [np.log(item_information(loss.theta[[k]], curves_of(a / s, s * b + i, np.zeros(2))).sum()) for s, i in drawn]
    assert np.std(logs) == pytest.approx(loss.log_se[k], rel=0.05)
    of_anchors = loss_of_test(
        replace(comparison(now, now, exact), linking=placed(slope, intercept, cov, ("item0", "item1"))), PLAIN
    )
    assert not of_anchors.log_se.any(), "the constants are made of these items' own errors"


def test_loss_of_a_test_is_refused_if_no_item_is_compared() -> None:
    nothing = comparison(np.zeros((0, 3)), np.zeros((0, 3)), np.eye(2))
    assert losses_of_items(nothing, PLAIN).flagged == ()
    with pytest.raises(PsychometricsError, match="no item is both"):
        loss_of_test(nothing, PLAIN)


# --- retiring items --------------------------------------------------------------------------------------------------

THETA = np.linspace(-4, 4, 801)
NAMES = ("a", "b", "c", "d")
BANK = Information.from_parameters(
    parameters(np.full(4, 1.2), np.array([-1.0, -1.0, 1.0, 1.0]), np.zeros(4), NAMES), THETA
)


def test_retiring_half_of_equal_items_halves_the_information() -> None:
    remaining = BANK.without({"b", "d"})
    np.testing.assert_allclose(remaining.relative_efficiency(BANK), 0.5, rtol=1e-12)
    np.testing.assert_allclose(remaining.se, BANK.se * np.sqrt(2), rtol=1e-12)
    assert remaining.parameters.item_ids == ("a", "c")


def test_ranges_of_theta_with_large_errors_end_at_the_limit() -> None:
    """Two items of a = 1.2 at b have SE = 1/√(2·1.44·P·Q), which is 1.5 at P·Q = 0.15432. With a step of 0.01 the
    crossing is accurate to 1e-4."""
    p = (1 + np.sqrt(1 - 4 / (1.5**2 * 2 * 1.44))) / 2
    reach = np.log(p / (1 - p)) / 1.2
    above = BANK.without(["c", "d"]).theta_with_se_above(1.5)
    assert np.ravel(above) == pytest.approx([-4, -1 - reach, -1 + reach, 4], abs=1e-4)
    assert len(BANK.theta_with_se_above(1.5)) == 2


def test_error_of_a_test_without_items_exceeds_every_limit() -> None:
    remaining = BANK.without(NAMES)
    assert (remaining.theta_with_se_above(50.0), BANK.theta_with_se_above(50.0)) == (((-4.0, 4.0),), ())
    assert not remaining.relative_efficiency(BANK).any()
    assert np.isnan(remaining.relative_efficiency(remaining)).all()


def test_retiring_unknown_items_is_refused_with_their_name() -> None:
    with pytest.raises(PsychometricsError, match="elsewhere"):
        BANK.without(["a", "elsewhere"])
    with pytest.raises(PsychometricsError, match="positive"):
        BANK.theta_with_se_above(0.0)
