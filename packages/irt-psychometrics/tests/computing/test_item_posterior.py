"""The posterior distribution of a bank's items: planted banks with planted errors, and models with more parameters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit, softmax

from irt_psychometrics.adaptive import ItemPosterior
from irt_psychometrics.core.covariances import block_diagonal, transform
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import OtherItems
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.model_families import GPCM

MEAN, SPREAD = np.array([0.2, -0.3]), np.array([[0.09, 0.06], [0.06, 1.0]])
"""Distribution of the planted (ln a, d)."""
NODES = np.linspace(-4, 4, 81)


def items_at(eta: np.ndarray, errors: np.ndarray, **more) -> ItemParameters:
    """Items with this (ln a, d), shape (J, 2), and covariances of its errors, (J, 2, 2) or (1, 2J, 2J)."""
    a = np.exp(eta[:, 0])
    b = -eta[:, 1] / a
    by = np.stack([[a, 0 * a], [-b, -1 / a]]).transpose(2, 0, 1)  # ∂(a, b)/∂(ln a, d)
    ids = tuple(f"i{j}" for j in range(len(a)))
    return ItemParameters(ids, a, b, np.zeros(len(a)), transform(errors, by), **more)


def eta_of(items: ItemParameters) -> np.ndarray:
    """(ln a, d), shape (J, 2)."""
    return np.column_stack([np.log(items.a), -items.a * items.b])


def assumed_cov(eta: np.ndarray) -> np.ndarray:
    """Covariance of the errors of (ln a, d) in a calibration with 500 learners, shape (J, 2, 2)."""
    items = items_at(eta, small_errors(len(eta))).with_assumed_errors()
    by = np.stack([[1 / items.a, 0 * items.a], [-items.b, -items.a]]).transpose(2, 0, 1)
    return by @ items.cov @ by.transpose(0, 2, 1)


def small_errors(j: int, sd: float = 0.02) -> np.ndarray:
    return np.tile(sd**2 * np.array([[1.0, 0.4], [0.4, 1.0]]), (j, 1, 1))


def draw_etas(posterior: ItemPosterior, n: int, seed: int = 1) -> np.ndarray:
    """(ln a, d) of n draws, shape (n, J, 2)."""
    return np.stack([eta_of(bank) for bank in posterior.draw(n, np.random.default_rng(seed))])


def information(p: np.ndarray) -> np.ndarray:
    """Σ P'²/P over the scores, by differences between the nodes, shape (J, Q)."""
    return (np.gradient(p, NODES, axis=2) ** 2 / np.maximum(p, 1e-300)).sum(axis=1)


def test_posterior_means_have_the_error_that_theory_gives_and_draws_cover_the_truth() -> None:
    """A calibration at the true values gives the errors. The estimates come with errors computed at the estimates. The
    mean square of J errors of equal variance has the relative error √(2/J), and errors of d are unequal."""
    rng, J, factor = np.random.default_rng(5), 3000, 3.0
    eta = rng.multivariate_normal(MEAN, SPREAD, J)
    errors = factor * assumed_cov(eta)
    estimates = eta + (np.linalg.cholesky(errors) @ rng.standard_normal((J, 2, 1)))[..., 0]
    posterior = ItemPosterior.from_items(items_at(estimates, factor * assumed_cov(estimates)))
    expected = np.diagonal(SPREAD - SPREAD @ np.linalg.inv(SPREAD + errors) @ SPREAD, 0, 1, 2).mean(axis=0)
    found = ((posterior.location - eta) ** 2).mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=0.08)
    assert (found / ((estimates - eta) ** 2).mean(axis=0) < [0.7, 0.95]).all()
    np.testing.assert_allclose(np.diagonal(posterior.cov, 0, 1, 2).mean(axis=0), expected, rtol=0.08)
    np.testing.assert_allclose(posterior.prior_cov, SPREAD, atol=0.06)
    assert posterior.location.mean(axis=0) == pytest.approx(eta.mean(axis=0), abs=0.02)
    low, high = np.quantile(draw_etas(posterior, 250), [0.025, 0.975], axis=0)
    covered = ((low < eta) & (eta < high)).mean(axis=0)
    assert covered == pytest.approx(0.95, abs=0.012 + 4 * np.sqrt(0.95 * 0.05 / J))


def test_errors_common_to_the_bank_are_neither_shrunk_nor_lost() -> None:
    """A stretch of θ changes ln a by −stretch, and a shift changes d by −a·shift. If the mean of the bank were known,
    the bank would seem to contain both: the mean of 100 items has an error of .1 SD."""
    rng, J, stretch, shift = np.random.default_rng(6), 100, 0.05, 0.08
    eta = rng.multivariate_normal([0, 0], SPREAD, J)
    by = np.stack([np.tile([-1.0, 0.0], (J, 1)), np.column_stack([np.zeros(J), -np.exp(eta[:, 0])])], axis=2)
    by = by.reshape(2 * J, 2) * [stretch, shift]
    posterior = ItemPosterior.from_items(items_at(eta, (block_diagonal(small_errors(J)) + by @ by.T)[None]))
    drawn = draw_etas(posterior, 2000)
    moved = drawn - posterior.location
    shifts = -(moved[:, :, 1] / np.exp(eta[:, 0])).mean(axis=1)
    np.testing.assert_allclose([moved[:, :, 0].mean(axis=1).std(), shifts.std()], [stretch, shift], rtol=0.07)
    slopes = np.polyfit(posterior.mean.b, -(drawn[:, :, 1] / np.exp(drawn[:, :, 0])).T, 1)[0]
    assert slopes.std() == pytest.approx(stretch, rel=0.07)
    assert np.polyfit(-eta[:, 1] / np.exp(eta[:, 0]), posterior.mean.b, 1)[0] == pytest.approx(1, abs=0.03)


def test_shared_effects_give_the_draws_of_the_joint_covariance() -> None:
    rng, J = np.random.default_rng(13), 40
    eta = rng.multivariate_normal([0, 0], SPREAD, J)
    shared = rng.normal(0, 0.05, (J, 2, 3))
    joint = block_diagonal(small_errors(J)) + shared.reshape(2 * J, 3) @ shared.reshape(2 * J, 3).T
    by_joint = ItemPosterior.from_items(items_at(eta, joint[None]))
    items = items_at(eta, small_errors(J) + shared @ shared.transpose(0, 2, 1))
    to_ab = np.stack([[items.a, 0 * items.a], [-items.b, -1 / items.a]]).transpose(2, 0, 1)
    by_effects = ItemPosterior.from_items(items, to_ab @ shared)
    np.testing.assert_allclose(by_effects.location, by_joint.location, rtol=1e-9)
    np.testing.assert_allclose(by_effects.cov, by_joint.cov, rtol=1e-9)
    one, other = (np.cov(draw_etas(each, 20_000).reshape(20_000, -1).T) for each in (by_effects, by_joint))
    np.testing.assert_allclose(one, other, atol=6 * np.sqrt(2 / 20_000) * other.diagonal().max())


def test_items_that_differ_only_by_their_errors_share_one_value() -> None:
    rng, J = np.random.default_rng(7), 300
    eta = np.tile(MEAN, (J, 1))
    estimates = eta + (np.linalg.cholesky(assumed_cov(eta)) @ rng.standard_normal((J, 2, 1)))[..., 0]
    posterior = ItemPosterior.from_items(items_at(estimates, assumed_cov(estimates)))
    error = (estimates - eta).std(axis=0)
    assert (posterior.location.std(axis=0) < 0.3 * error).all()
    assert (np.abs(posterior.location.mean(axis=0) - MEAN) < 4 * error / np.sqrt(J)).all()
    assert np.isfinite(draw_etas(posterior, 5)).all()


def test_slopes_are_shrunk_towards_the_mean_of_items_with_as_many_points() -> None:
    """Half of the items are scored 0 … 4 with half the slope per point. Errors are as large as the spread of ln a."""
    rng, J = np.random.default_rng(12), 400
    half = np.arange(J) >= J // 2
    eta = rng.multivariate_normal([0, 0], SPREAD, J) - np.outer(half, [np.log(2), 0])
    errors = small_errors(J, 0.3)
    estimates = eta + (np.linalg.cholesky(errors) @ rng.standard_normal((J, 2, 1)))[..., 0]
    at = np.flatnonzero(half)
    others = (OtherItems(GPCM, at, np.zeros((5, at.size)), np.full(at.size, 5)),)
    posterior = ItemPosterior.from_items(items_at(estimates, errors, others=others))
    bias = [(posterior.location - eta)[group, 0].mean() for group in (~half, half)]
    assert abs(bias[1] - bias[0]) < 4 * 0.3 * np.sqrt(2 / (J / 2))
    assert np.sqrt(posterior.prior_cov[0, 0]) == pytest.approx(0.3, abs=0.05)


def test_draws_by_densities_follow_the_tail_of_the_slopes() -> None:
    """Slopes are uniform. The steepest of 400 estimates are above all slopes that exist, and draws must not be."""
    rng, J = np.random.default_rng(14), 400
    eta = np.column_stack([np.log(rng.uniform(0.6, 1.8, J)), rng.normal(0, 1, J)])
    errors = small_errors(J, 0.2)
    estimates = eta + (np.linalg.cholesky(errors) @ rng.standard_normal((J, 2, 1)))[..., 0]
    posterior = ItemPosterior.from_items(items_at(estimates, errors))
    best = np.argsort(estimates[:, 0])[-20:]
    normal, by_densities = (
        np.mean([np.log(bank.a[best]) for bank in posterior.draw(200, rng, densities=densities)])
        for densities in (0, 20)
    )
    truth = eta[best, 0].mean()
    assert normal - truth > 0.05
    assert abs(by_densities - truth) < 0.04


def test_slopes_that_are_not_estimated_stay_equal_in_every_draw() -> None:
    eta = np.column_stack([np.full(30, 0.5), np.linspace(-2, 2, 30)])
    posterior = ItemPosterior.from_items(items_at(eta, np.tile(np.diag([0.0, 0.01]), (30, 1, 1))))
    drawn = draw_etas(posterior, 50)
    np.testing.assert_allclose(drawn[:, :, 0], 0.5, atol=1e-3)
    assert drawn[:, :, 1].std(axis=0).mean() == pytest.approx(0.1, rel=0.05)


def test_bank_of_a_single_item_has_the_errors_of_its_estimate() -> None:
    posterior = ItemPosterior.from_items(items_at(MEAN[None], small_errors(1, 0.3)))
    np.testing.assert_allclose(posterior.location, MEAN[None])
    np.testing.assert_allclose(posterior.cov, small_errors(1, 0.3), rtol=1e-6)
    np.testing.assert_allclose(np.cov(draw_etas(posterior, 4000)[:, 0].T), small_errors(1, 0.3)[0], atol=0.01)


def test_expected_information_prefers_the_better_known_of_two_equal_steep_items() -> None:
    rng = np.random.default_rng(8)
    eta = np.vstack([[0.8, 0.0], [0.8, 0.0], rng.multivariate_normal([0, 0], SPREAD, 98)])
    errors = np.vstack([small_errors(1, 0.4), small_errors(1, 0.1), small_errors(98, 0.2)])
    posterior = ItemPosterior.from_items(items_at(eta, errors))
    less, more = information(posterior.expected_probabilities(NODES))[:2, 40]
    assert less < 0.75 * more
    assert more < np.exp(1.6) / 4, "the information at the estimates"


def test_expected_response_function_is_the_mean_curve_of_draws() -> None:
    rng = np.random.default_rng(9)
    eta = rng.multivariate_normal(MEAN, SPREAD, 40)
    posterior = ItemPosterior.from_items(items_at(eta, small_errors(40, 0.3)))
    curves = np.stack([bank.curve(NODES) for bank in posterior.draw(1000, rng)])
    expected = posterior.expected_probabilities(NODES)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-12)
    error = curves.std(axis=0) / np.sqrt(1000)
    assert (np.abs(expected[:, 1].T - curves.mean(axis=0)) < 5 * error + 1e-6).all()


def test_draws_of_guessing_have_the_joint_errors_of_the_fit() -> None:
    """The errors are so small that they are the posterior errors, too. Every other item has c = 0, which is held."""
    rng, J = np.random.default_rng(10), 60
    joint = 0.02**2 * np.array([[1.0, 0.4, 0.5], [0.4, 1.0, 0.6], [0.5, 0.6, 2.0]])
    eta = rng.multivariate_normal(MEAN, SPREAD, J)
    items = items_at(eta, np.tile(joint[:2, :2], (J, 1, 1)))
    guesses = np.arange(J) % 2 == 0
    further = np.tile(joint[2:], (J, 1, 1)) * guesses[:, None, None]
    to_ab = np.linalg.inv(np.stack([[1 / items.a, 0 * items.a], [-items.b, -items.a]]).transpose(2, 0, 1))
    further[:, :, :2] = further[:, :, :2] @ to_ab.transpose(0, 2, 1)
    posterior = ItemPosterior.from_items(replace(items, c=np.where(guesses, 0.2, 0.0), further_cov=further))
    drawn = posterior.draw(3000, rng)
    c = np.stack([bank.c for bank in drawn])
    assert not c[:, ~guesses].any()
    assert c[:, guesses].min() > 0
    three = np.stack([[*eta_of(bank).T, logit(np.maximum(bank.c, 1e-9))] for bank in drawn])[:, :, guesses]
    found = np.mean([np.cov(three[:, :, j].T) for j in range(guesses.sum())], axis=0)
    np.testing.assert_allclose(found, joint, atol=0.03 * joint.max())
    assert posterior.mean.c[guesses] == pytest.approx(0.2, abs=0.001)


def test_draws_of_scored_items_keep_fixed_steps_and_the_joint_errors() -> None:
    """Items scored 0, 1, 2; nobody had the score 1 on the last. The first of the bank is scored 0 and 1."""
    rng, J = np.random.default_rng(11), 50
    joint = 0.02**2 * np.array([[1.0, 0.4, 0.5], [0.4, 1.0, 0.6], [0.5, 0.6, 2.0]])
    eta, at = rng.multivariate_normal(MEAN, SPREAD, J), np.arange(1, J)
    steps = np.stack([np.zeros(J - 1), rng.normal(0.3, 0.3, J - 1), np.zeros(J - 1)])
    steps[1, -1] = -np.inf
    further = np.zeros((J, 3, 5))
    further[1:-1, 1, [0, 1, 3]] = joint[2]
    others = (OtherItems(GPCM, at, steps, np.full(J - 1, 3)),)
    items = items_at(eta, np.tile(joint[:2, :2], (J, 1, 1)), others=others)
    to_ab = np.linalg.inv(np.stack([[1 / items.a, 0 * items.a], [-items.b, -items.a]]).transpose(2, 0, 1))
    further[:, :, :2] = further[:, :, :2] @ to_ab.transpose(0, 2, 1)
    posterior = ItemPosterior.from_items(replace(items, further_cov=further))
    drawn = posterior.draw(3000, rng)
    t = np.stack([bank.others[0].further for bank in drawn])
    assert not t[:, [0, 2]].any()
    assert (t[:, 1, -1] == -np.inf).all()
    three = np.stack([[*eta_of(bank)[1:-1].T, own[1, :-1]] for bank, own in zip(drawn, t, strict=True)])
    found = np.mean([np.cov(three[:, :, j].T) for j in range(J - 2)], axis=0)
    np.testing.assert_allclose(found, joint, atol=0.03 * joint.max())

    expected = posterior.expected_probabilities(NODES)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-12)
    assert not expected[0, 2].any()
    assert not expected[-1, 1].any()
    mean = posterior.mean
    z, k = (NODES - mean.b[5]) * mean.a[5], np.arange(3)
    p = softmax(np.multiply.outer(z, k) + mean.others[0].further[:, 4], axis=1)
    np.testing.assert_allclose(expected[5].T, p, atol=2e-3)
    np.testing.assert_allclose(expected[0, 1], expit(mean.a[0] * (NODES - mean.b[0])), atol=2e-3)


def test_items_without_slopes_or_errors_are_refused_by_name() -> None:
    items = items_at(np.zeros((3, 2)), small_errors(3))
    with pytest.raises(PsychometricsError, match=r"no parameters of i1: .* a slope above 0"):
        ItemPosterior.from_items(replace(items, a=np.array([1.0, -0.2, 1.0])))
    for unknown in (np.nan, np.inf):
        cov = items.cov.copy()
        cov[2, 0, 0] = unknown
        with pytest.raises(PsychometricsError, match=r"no finite errors of i2; .*with_assumed_errors\(\)`"):
            ItemPosterior.from_items(replace(items, cov=cov))
    assumed = ItemPosterior.from_items(replace(items, cov=np.full((3, 2, 2), np.nan)).with_assumed_errors())
    assert np.isfinite(assumed.mean.a).all()


def test_joint_covariances_that_cannot_be_are_refused() -> None:
    cov = block_diagonal(small_errors(2))[None]
    cov[0, 0, 2] = cov[0, 2, 0] = 0.1
    with pytest.raises(PsychometricsError, match="cov_of_each"):
        ItemPosterior.from_items(items_at(np.zeros((2, 2)), cov)).draw(1, np.random.default_rng(0))
