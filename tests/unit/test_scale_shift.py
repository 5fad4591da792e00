"""How far a month's values move θ on the same answers, against simulations with known shifts and brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.scoring.scale_shift import Placement, Shift, scale_shift

ITEMS, LEARNERS = 12, 1500
IDS = tuple(f"i{j:02d}" for j in range(ITEMS))


def values(rng: np.random.Generator, c: float = 0.0) -> ItemParameters:
    a, b = np.exp(rng.normal(0.1, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    return ItemParameters(IDS, a, b, np.full(ITEMS, c), np.tile(np.diag([0.1**2, 0.08**2]), (ITEMS, 1, 1)))


def answers(true: ItemParameters, rng: np.random.Generator, seen: float = 1.0) -> Responses:
    theta = rng.normal(0.3, 1.1, LEARNERS)
    p = true.c + (1 - true.c) * expit(true.a * (theta[:, None] - true.b))
    x = (rng.random(p.shape) < p).astype(float)
    x[rng.random(p.shape) >= seen] = np.nan
    return Responses.from_wide(x, IDS)


def compared(responses: Responses, old: ItemParameters, new: ItemParameters) -> Shift:
    found = scale_shift(responses, old, new, mean=0.0, sd=1.0)
    assert found is not None
    return found


@pytest.mark.parametrize("c", [0.0, 0.2])
def test_difficulties_that_all_move_shift_theta_by_as_much(c: float) -> None:
    """All right and all wrong included: WLE moves with the items. To the precision of its root."""
    rng = np.random.default_rng(1)
    old = values(rng, c)
    found = compared(answers(old, rng, 0.8), old, replace(old, b=old.b + 0.3))
    assert found.mean == pytest.approx(0.3, abs=1e-5)
    assert found.shares.sum() == pytest.approx(1.0)
    assert found.items == ITEMS


def test_the_shift_of_one_item_is_its_share_of_the_information() -> None:
    """Against scoring again with one b moved by .02: first order, so that a tenth of the shift may be missing."""
    rng = np.random.default_rng(2)
    old = values(rng)
    responses = answers(old, rng)
    for j in range(4):
        moved = old.b.copy()
        moved[j] += 0.02
        found = compared(responses, old, replace(old, b=moved))
        assert found.mean == pytest.approx(0.02 * found.shares[j], rel=0.1)


def test_the_items_errors_are_the_spread_of_the_shift_that_they_cause() -> None:
    """150 draws of values with the errors that both sides claim: the SD of the shift, whose own error is 6 %."""
    rng = np.random.default_rng(3)
    true = values(rng)
    responses = answers(true, rng)
    found = []
    for _ in range(150):
        sides = [
            replace(true, a=true.a + rng.normal(0, 0.1, ITEMS), b=true.b + rng.normal(0, 0.08, ITEMS)) for _ in range(2)
        ]
        found.append(compared(responses, *sides))
    shifts = np.array([one.mean for one in found])
    errors = np.sqrt([one.items_variance for one in found])
    assert shifts.mean() == pytest.approx(0, abs=4 * shifts.std() / np.sqrt(150))
    assert 0.9 < np.median(errors) / shifts.std() < 1.35  # the larger of two estimates errs upwards


def test_a_few_items_that_changed_widen_the_error() -> None:
    rng = np.random.default_rng(4)
    old = values(rng)
    responses = answers(old, rng)
    leaked = old.b - np.where(np.arange(ITEMS) < 3, 1.0, 0.0)
    few, all_of_them = (compared(responses, old, replace(old, b=b)) for b in (leaked, old.b - 0.25))
    assert abs(few.mean) > 0.15
    assert few.items_variance > 4 * all_of_them.items_variance


def test_linking_errors_are_added_once_for_each_fit() -> None:
    found = Shift(100, 4, 0.0, 0.5, 0.01, np.array([0.1, 0.2, 0.3, 0.4]))
    new = Placement(2.0, 0.5, np.diag([0.2**2, 0.1**2]))
    old = [Placement(1.0, 0.0, np.diag([0.1**2, 0.1**2]))]
    of = np.array([0, 0, -1, -1])
    assert found.se(0.5, new, old, of) ** 2 == pytest.approx(0.01 + 0.01 + 0.3**2 * (0.01 + 0.25 * 0.01))
    assert found.se(2.5, new, [], of) ** 2 == pytest.approx(0.01 + 0.01 + 0.04)


def test_learners_with_four_answers_are_not_compared() -> None:
    rng = np.random.default_rng(5)
    old = values(rng)
    x = np.full((3, ITEMS), np.nan)
    x[:, :4] = 1.0
    few = Responses.from_wide(x, IDS)
    assert scale_shift(few, old, old, mean=0.0, sd=1.0) is None
