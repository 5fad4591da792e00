"""Improvement and goal probability: formulas, and calibration over many simulated learners."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.kpis.progress import goal_probability, improvement, variance_since
from irt_psychometrics.items import ItemParameters, ItemRow
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import Curves, Movement, estimate_abilities
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE
from tests.helpers.kpi_reference import curve, wle

pytestmark = WHERE_STATISTICS_CHANGE


def bank(n: int, rng: np.random.Generator, guessing: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.lognormal(0, 0.3, n), rng.normal(0, 1, n), np.full(n, guessing)


def curves_of(item_ids: tuple[str, ...], a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Curves:
    return Curves.from_items(ItemParameters.from_rows(item_ids, map(ItemRow, a, b, c)).curves)


def answers(
    theta: np.ndarray, counts: tuple[int, int], items: tuple[np.ndarray, ...], rng: np.random.Generator
) -> tuple[Responses, np.ndarray]:
    """Responses to different items in two windows, learners × (earlier + later), and a mask of the later responses."""
    a, b, c = items
    total = sum(counts)
    item = np.argsort(rng.random((theta.size, a.size)), axis=1)[:, :total]
    p = c[item] + (1 - c[item]) * expit(a[item] * (theta[:, None] - b[item]))
    score = (rng.random(item.shape) < p).astype(np.int8)
    recent = np.tile(np.arange(total) >= counts[0], theta.size)
    person = np.repeat(np.arange(theta.size, dtype=np.int32), total)
    ids = tuple(f"i{j}" for j in range(a.size))
    return Responses(person, item.ravel().astype(np.int32), score.ravel(), theta.size, ids), recent


@pytest.mark.parametrize("guessing", [0.0, 0.2])
def test_improvement_matches_the_shrunk_difference_of_wle(guessing: float) -> None:
    rng = np.random.default_rng(1)
    a, b, c = bank(40, rng, guessing)
    responses, recent = answers(rng.normal(0, 1, 60), (6, 11), (a, b, c), rng)
    found = improvement(responses, recent, curves_of(responses.item_ids, a, b, c))
    for person in range(60):
        rows = np.flatnonzero(responses.person == person)
        answered = [
            (a[j], b[j], c[j], int(x)) for j, x in zip(responses.item[rows], responses.score[rows], strict=True)
        ]
        later = [row for row, new in zip(answered, recent[rows], strict=True) if new]
        earlier = [row for row, new in zip(answered, recent[rows], strict=True) if not new]
        centre = wle(answered)
        variance = sum(1 / sum(curve(centre, *row[:3])[3] for row in part) for part in (later, earlier))
        expected = np.clip((wle(later) - wle(earlier)) * 0.25 / (0.25 + variance), -1, 1)
        assert found[person] == pytest.approx(expected, abs=1e-8)  # both solve θ to 1e-9 or better


def test_improvement_is_missing_if_a_window_has_no_information() -> None:
    responses = Responses.from_wide([[1, 0]], ["flat", "good"])
    curves = curves_of(responses.item_ids, np.array([0.0, 1.0]), np.zeros(2), np.zeros(2))
    assert np.isnan(improvement(responses, np.array([True, False]), curves)).all()


def test_variance_since_the_last_answer_matches_the_walk() -> None:
    weeks, movement = np.array([0.0, 1.5, 26.0]), Movement(variance=0.03, growth=0.1)
    assert np.array_equal(variance_since(movement, weeks), movement.variance_over(7 * weeks))
    assert variance_since(Movement(), weeks) == pytest.approx(0.05**2 * weeks)
    assert np.array_equal(variance_since(Movement(growth=0.1), weeks), np.zeros(3))


@pytest.mark.parametrize(
    ("weeks", "movement", "walk"),
    [(0.0, Movement(), 0.05), (26.0, Movement(), 0.05), (26.0, Movement(variance=0.1**2), 0.1)],
)
@pytest.mark.parametrize("n_items", [5, 30])
def test_goal_probability_matches_the_share_of_learners_at_the_goal(
    weeks: float, movement: Movement, walk: float, n_items: int
) -> None:
    """Each bin holds 1,500 of 60,000 learners or more: a standard error of at most 0.013 with a width of 0.1."""
    rng = np.random.default_rng(4)
    a, b, c = bank(80, rng)
    theta = rng.normal(0.3, 1.2, 60_000)
    responses, _ = answers(theta, (n_items, 0), (a, b, c), rng)
    scores = estimate_abilities(responses, a, -a * b, c, mean=0.3, sd=1.2)
    target = rng.normal(0.5, 1, theta.size)
    now = theta + rng.normal(0, walk * np.sqrt(weeks), theta.size)
    given = goal_probability(scores.theta, scores.se, variance_since(movement, np.full(theta.size, weeks)), target)
    for low in np.arange(0.05, 0.95, 0.1):
        in_bin = (given >= low) & (given < low + 0.1)
        assert in_bin.sum() > 1500
        assert np.mean(now[in_bin] >= target[in_bin]) == pytest.approx(np.mean(given[in_bin]), abs=0.03)
        if low == pytest.approx(0.65):
            assert 0.65 <= np.mean(now[in_bin] >= target[in_bin]) <= 0.75
