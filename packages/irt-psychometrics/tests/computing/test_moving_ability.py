"""Scores of a moving ability: moments of the walk, an independent filter on a fine grid, discounted answers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics.core.item_models import ItemCurves, OtherItems
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.model_families import GPCM
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.movement import Movement
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.testlets import Effects
from irt_psychometrics.scoring.abilities import Curves, Scores, eap_by
from irt_psychometrics.scoring.moving_ability import (
    moving_eap,
)
from irt_psychometrics.scoring.moving_filter import STEP, Lattice
from irt_psychometrics.scoring.total_error import ParameterErrors
from psychometrics_testbed.moving_ability import answered, slow_filter, walked

YEAR = 365.25 / 7
WALKS = [0.01**2, 0.05**2, 0.1**2]
ITEMS = 60
SILENT = ITEMS
"""An item without information: an answer to it only adds an occasion."""


def items(c: float = 0.0, seed: int = 3) -> ItemCurves:
    rng = np.random.default_rng(seed)
    a, b = rng.lognormal(0.2, 0.3, ITEMS), rng.normal(0, 1, ITEMS)
    return ItemCurves(np.append(a, 0.0), np.append(-a * b, 0.0), np.append(np.full(ITEMS, c), 0.0))


def of_one(item: np.ndarray, score: np.ndarray) -> Responses:
    names = tuple(f"i{j}" for j in range(ITEMS + 1))
    return Responses(np.zeros(len(item), dtype=np.int32), item.astype(np.int32), score.astype(np.int8), 1, names)


@pytest.mark.parametrize("gap", [1, 7, 182])
@pytest.mark.parametrize("q", WALKS)
@pytest.mark.parametrize("growth", [0.0, 0.5 / YEAR, -0.5 / YEAR])
@pytest.mark.parametrize("pattern", ["none", "thousand", "perfect"])
def test_mean_and_variance_after_many_steps_are_exact(gap, q, growth, pattern):
    rng = np.random.default_rng(8)
    n = {"none": 0, "thousand": 1000, "perfect": 300}[pattern]
    item = rng.integers(0, ITEMS, n)
    curves = Curves.from_items(items(), mean=0.3, sd=0.8)
    score = rng.random(n) < expit(items().a[item] * 0.9 + items().d[item]) if pattern == "thousand" else np.ones(n)
    steps = 2 if gap == 182 else 52
    day = np.concatenate([np.zeros(n + 1), np.arange(1, steps + 1) * gap]).astype(int)
    silent = np.full(steps + 1, SILENT)
    responses = of_one(np.append(item, silent), np.append(score, np.zeros(steps + 1)))
    movement = Movement(q, growth)
    first = day == 0
    before = moving_eap(of_one(responses.item[first], responses.score[first]), day[first], curves, movement)
    after = moving_eap(responses, day, curves, movement)
    grown, spread = steps * growth * min(gap, 7) / 7, steps * q * gap / 7
    if pattern == "none":
        assert (before.theta[0], before.se[0]) == (pytest.approx(0.3, abs=1e-12), pytest.approx(0.8, rel=1e-9))
    assert after.theta[0] == pytest.approx(before.theta[0] + grown, rel=1e-6, abs=1e-9)
    assert after.se[0] ** 2 == pytest.approx(before.se[0] ** 2 + spread, rel=1e-6)


@pytest.mark.parametrize("own", [0.001, 0.02, 0.3, 2.0])
def test_kernel_of_a_days_effect_has_its_variance_at_every_node_distance(own):
    lattice = Lattice.from_population(Population.normal(0, 1), Movement(occasion_variance=own**2))
    for level, (first, last) in enumerate(itertools.pairwise(lattice.taps_start)):
        taps, at = lattice.taps[first:last], np.arange(last - first) - (last - first) // 2
        # six SDs to either side contain all but 1e-7 of the variance
        assert taps @ at**2 * (STEP / 2**level) ** 2 == pytest.approx(own**2, rel=1e-6)


@pytest.mark.parametrize("c", [0.0, 0.2])
@pytest.mark.parametrize(
    ("movement", "of_se"),
    [
        # without a walk only interpolation errs; the kernel of three points is not quite normal
        (Movement(growth=0.5 / YEAR), 1e-5),
        (Movement(0.05**2), 0.02),
        (Movement(0.1**2, -0.5 / YEAR), 0.02),
        (Movement(0.02**2, 0.5 / YEAR, 0.3**2), 0.02),
        (Movement(occasion_variance=0.3**2), 0.01),
    ],
)
def test_scores_match_a_filter_on_a_fine_grid(c, movement, of_se):
    rng = np.random.default_rng(5)
    days = np.cumsum([0, 1, 1, 7, 7, 40, 7, 2, 7, 7, 7, 7])
    made = answered(items(c), walked(8, days, movement, rng), days, 12, rng)
    responses = replace(
        made.responses, score=np.where(made.responses.person < 2, made.responses.person, made.responses.score)
    )
    curves = Curves.from_items(items(c))
    shuffled = rng.permutation(responses.person.size)
    order = shuffled[np.argsort(responses.person[shuffled], kind="stable")]
    mixed = replace(responses, item=responses.item[order], score=responses.score[order])
    found = moving_eap(mixed, made.day[order], curves, movement)
    theta, se = slow_filter(responses, made.day, curves, movement)
    assert np.abs(found.theta - theta).max() < of_se * se.min()
    assert np.abs(found.se / se - 1).max() < of_se


def test_scores_of_a_thousand_answers_to_scored_items_match_a_fine_grid():
    rng = np.random.default_rng(6)
    steps = np.array([[0], [1], [0]]) * rng.normal(0.3, 0.4, 5)
    three = OtherItems(GPCM, np.arange(5), steps, np.full(5, 3))
    known = ItemCurves(items().a, items().d, items().c, (three,))
    curves = Curves.from_items(known)
    categories = known.categories
    item = rng.integers(0, ITEMS, 1000)
    day = np.repeat(np.arange(40) * 7, 25)
    score = np.minimum(rng.integers(0, 3, 1000), categories[item] - 1)
    responses = replace(of_one(item, score * 0), score=score.astype(np.int8), categories=categories)
    movement = Movement(0.02**2, 0.5 / YEAR)
    found = moving_eap(responses, day, curves, movement)
    theta, se = slow_filter(responses, day, curves, movement)
    assert (found.theta, found.se) == (pytest.approx(theta, abs=0.02 * se[0]), pytest.approx(se, rel=0.02))


def test_scores_with_a_tiny_variance_match_scores_of_a_constant_ability():
    rng = np.random.default_rng(7)
    days = np.arange(20) * 7
    made = answered(items(), np.repeat(rng.normal(0, 1, (30, 1)), 20, axis=1), days, 25, rng)
    curves = Curves.from_items(items())
    found, still = moving_eap(made.responses, made.day, curves, Movement(1e-14)), eap_by(made.responses, curves)
    np.testing.assert_allclose(found.theta, still.theta, atol=1e-6)
    np.testing.assert_allclose(found.se, still.se, rtol=1e-5)


def test_learners_without_a_usable_answer_get_the_population_mean_and_sd():
    unknown = items()
    known = ItemCurves(np.where(np.arange(ITEMS + 1) < 3, np.nan, unknown.a), unknown.d, unknown.c)
    responses = Responses(
        np.array([0, 2], np.int32),
        np.array([1, 5], np.int32),
        np.ones(2, np.int8),
        3,
        tuple(map(str, range(ITEMS + 1))),
    )
    found = moving_eap(responses, np.array([9, 3]), Curves.from_items(known, mean=0.4, sd=1.2), Movement(0.01))
    assert (found.theta[:2].tolist(), found.se[:2].tolist()) == ([0.4, 0.4], [1.2, 1.2])
    assert found.theta[2] > 0.4
    assert found.discount[0] == 1


def test_answers_beyond_the_window_of_a_day_are_still_counted():
    """A hundred answers of an average learner, and a hundred wrong answers a day later, beyond that day's window."""
    rng = np.random.default_rng(2)
    item = rng.integers(0, ITEMS, 200)
    day, score = np.repeat([0, 1], 100), np.append(rng.random(100) < expit(items().d[item[:100]]), np.zeros(100))
    movement, curves = Movement(0.05**2), Curves.from_items(items())
    found = moving_eap(of_one(item, score), day, curves, movement)
    theta, se = slow_filter(of_one(item, score), day, curves, movement)
    assert found.theta == pytest.approx(theta, abs=0.1 * se[0])


@pytest.mark.parametrize("movement", [Movement(0.05**2), Movement(0.03**2, 0.5 / YEAR, 0.3**2), Movement(growth=0.01)])
def test_discounted_information_matches_the_precision_of_theta(movement):
    rng = np.random.default_rng(12)
    days = np.arange(30) * 7
    made = answered(items(), walked(200, days, movement, rng), days, 10, rng)
    curves = Curves.from_items(items())
    found = moving_eap(made.responses, made.day, curves, movement)
    at = found.theta[made.responses.person]
    p = expit(items().a[made.responses.item] * at + items().d[made.responses.item])
    of_answers = found.discount * items().a[made.responses.item] ** 2 * p * (1 - p)
    known = np.bincount(made.responses.person, of_answers) + found.start
    # information is computed at the last θ, and posteriors are not quite normal
    assert np.median(known * found.se**2) == pytest.approx(1, abs=0.03)
    assert np.std(known * found.se**2) < 0.1
    last = made.day == days[-1]
    if not movement.occasion_variance:
        assert (found.discount[last] == 1).all()
    if movement.variance:
        assert (found.discount[made.day == 0] < 0.7).all()


def test_errors_with_testlet_effects_match_a_sum_over_discounted_pairs():
    """The expected error adds up pairs of answers in the same testlet."""
    rng = np.random.default_rng(14)
    days = np.arange(6) * 7
    movement = Movement(0.05**2)
    made = answered(items(), walked(4, days, movement, rng), days, 8, rng)
    testlet = np.append(np.arange(ITEMS) // 6, -1)
    plain, with_effects = Curves.from_items(items()), Curves.from_items(items(), effects=Effects(testlet, 0.5))
    found, alone = (moving_eap(made.responses, made.day, curves, movement) for curves in (with_effects, plain))
    item = made.responses.item
    for i in range(4):
        mine = made.responses.person == i
        p = expit(items().a[item[mine]] * alone.theta[i] + items().d[item[mine]])
        known = alone.discount[mine] * items().a[item[mine]] ** 2 * p * (1 - p)
        same = testlet[item[mine]][:, None] == testlet[item[mine]]
        pairs = known @ (same & ~np.eye(len(known), dtype=bool) & (testlet[item[mine]] >= 0)[:, None]) @ known
        expected = alone.se[i] * np.sqrt(1 + alone.se[i] ** 2 * 0.25 * pairs)
        # the item's information is linear between nodes
        assert found.se[i] == pytest.approx(expected, rel=5e-3)


def test_total_error_matches_the_spread_of_theta_over_drawn_parameters():
    rng = np.random.default_rng(11)
    movement, n, days = Movement(0.15**2, 0.5 / YEAR, 0.2**2), 12, np.arange(15) * 7
    theta = walked(n, days, movement, rng)
    root = rng.normal(0, 0.08, (ITEMS, 3, 3))
    cov = root @ root.transpose(0, 2, 1)
    cov[:, 2], cov[:, :, 2] = 0.0, 0.0
    a, b = rng.lognormal(0, 0.3, ITEMS), rng.normal(0, 1, ITEMS)
    # each learner answers every item once, four a day
    item = rng.permuted(np.tile(np.arange(ITEMS), (n, 1)), axis=1)
    p = expit(a[item] * (np.repeat(theta, 4, axis=1) - b[item]))
    names = tuple(f"i{j}" for j in range(ITEMS))
    person = np.repeat(np.arange(n, dtype=np.int32), ITEMS)
    right = (rng.random(p.shape) < p).astype(np.int8).ravel()
    responses = Responses(person, item.ravel().astype(np.int32), right, n, names)
    day = np.tile(np.repeat(days, 4), n)
    c = np.zeros(ITEMS)

    found = moving_eap(responses, day, Curves.from_items(ItemCurves(a, -a * b, c)), movement)
    errors = ParameterErrors(ItemParameters(names, a, b, c, cov[:, :2, :2]), np.full(ITEMS, -1), [], np.zeros((2, 2)))
    scores = Scores(found.theta, found.se)
    added = np.sqrt(errors.total_se(found, responses, 1.0) ** 2 - found.se**2)

    moved, roots = [], np.linalg.cholesky(cov[:, :2, :2] + 1e-12 * np.eye(2))
    for _ in range(400):
        da, db = np.einsum("jxy,jy->xj", roots, 0.3 * rng.standard_normal((ITEMS, 2)))
        curves = Curves.from_items(ItemCurves(a + da, -(a + da) * (b + db), c))
        moved.append(moving_eap(responses, day, curves, movement).theta)
    # 400 draws: errors of 3.5 %; the formula uses the last θ for every response, though θ was different at that time
    ratio = np.std(moved, axis=0) / 0.3 / added
    assert np.mean(ratio) == pytest.approx(1, abs=0.08)
    assert np.abs(ratio - 1).max() < 0.3
    undiscounted = np.sqrt(errors.total_se(scores, responses, 1.0) ** 2 - found.se**2)
    assert np.mean(np.std(moved, axis=0) / 0.3 / undiscounted) > 1.08
    np.testing.assert_array_equal(
        errors.total_se(replace(scores, discount=np.ones(len(day))), responses, 1.0),
        errors.total_se(scores, responses, 1.0),
    )
