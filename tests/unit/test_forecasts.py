"""Forecasts of answers, compared with their definition, and the detection of wrong abilities."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.invariants.forecast_errors import by_decile, compare_losses, forecast, growth_since
from irt_psychometrics.items import ItemParameters, ItemRow
from irt_psychometrics.scoring import Curves, Movement

N, J, SE = 600, 40, 0.3
RNG = np.random.default_rng(35)
A, B = RNG.lognormal(0, 0.3, J), RNG.normal(0, 1, J)


def curves_of(a: np.ndarray, b: np.ndarray, c: float = 0.0) -> Curves:
    rows = [ItemRow(slope, difficulty, c) for slope, difficulty in zip(a, b, strict=True)]
    return Curves.from_items(ItemParameters.from_rows(tuple(f"i{j}" for j in range(len(rows))), rows).curves)


CURVES = curves_of(A, B)
MEAN = RNG.normal(0, 1, N)
THETA = MEAN + SE * RNG.standard_normal(N)
PERSON, ITEM = np.repeat(np.arange(N), J), np.tile(np.arange(J), N)
RIGHT = (RNG.random(N * J) < 1 / (1 + np.exp(-A[ITEM] * (THETA[PERSON] - B[ITEM])))).astype(np.int8)


def forecasts(mean: np.ndarray, se: float = SE) -> np.ndarray:
    return forecast(CURVES, ITEM, mean[PERSON], np.full(N * J, se**2))


@pytest.mark.parametrize(("a", "sd"), [(0.5, 1.0), (1.5, 0.4), (3.0, 1.0)])
def test_forecast_is_the_mean_of_the_curve_over_the_posterior_of_ability(a: float, sd: float) -> None:
    b = np.linspace(-3, 3, 13)
    curves = curves_of(np.full(13, a), b, 0.2)
    found = forecast(curves, np.arange(13), np.full(13, 0.4), np.full(13, sd**2))
    z = np.linspace(-8, 8, 4001)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    curve = 0.2 + 0.8 / (1 + np.exp(-a * (0.4 + sd * z[:, None] - b)))
    np.testing.assert_allclose(found, weight @ curve, atol=1e-3)


def test_forecasts_from_true_abilities_are_calibrated_and_have_a_smaller_loss() -> None:
    p = forecasts(MEAN)
    assert not any(share.differs(0.02) for share in by_decile(p, RIGHT, PERSON))
    vague = compare_losses(p, forecasts(np.zeros(N), 1.0), RIGHT, PERSON)
    assert vague.loss < vague.reference - 5 * vague.se
    assert not vague.is_worse


@pytest.mark.parametrize(
    ("wrong", "se"),
    [(MEAN + 0.4, SE), (MEAN - 0.4, SE), (MEAN[::-1], SE), (1.8 * MEAN, 0.0)],
    ids=["too high", "too low", "another's", "spread out"],
)
def test_wrong_abilities_are_detected_by_deciles_and_by_loss(wrong: np.ndarray, se: float) -> None:
    p = forecasts(wrong, se)
    assert any(share.differs(0.02) for share in by_decile(p, RIGHT, PERSON))
    assert compare_losses(p, forecasts(MEAN), RIGHT, PERSON).is_worse


def test_standard_error_of_the_loss_treats_learners_as_the_sample() -> None:
    """If all answers of a learner are equal, N learners are N observations. The SD of the mean over 400 draws shows
    it."""
    found = []
    for _ in range(400):
        right = np.repeat(RNG.random(50) < 0.5, 20).astype(np.int8)
        person, p = np.repeat(np.arange(50), 20), np.full(1000, 0.5)
        found.append(compare_losses(p, np.full(1000, 0.6), right, person))
    spread = np.std([one.loss - one.reference for one in found])
    # An SD from 400 draws has a standard error of 3.5 %.
    assert np.mean([one.se for one in found]) == pytest.approx(spread, rel=0.12)


def test_ability_grows_for_a_week_after_each_day_with_answers() -> None:
    """Abilities are known on day 0 and on day 5. Answers are unordered, two are on the same day, and the last follows a
    gap of 30 days."""
    person, day = np.array([0, 0, 0, 0, 1, 1]), np.array([40, 3, 10, 3, 5, 9])
    grown = growth_since(Movement(growth=0.7), person, day, np.array([0.0, 0, 0, 0, 5, 5]))
    np.testing.assert_allclose(grown, [1.7, 0.3, 1.0, 0.3, 0.0, 0.4], rtol=0, atol=1e-12)
