"""How abilities of a scale move, estimated: planted movement, what is refused, learners who may start anywhere and
leave early, and growth that levels off."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from irt_assets.psychometrics.core.errors import Refused
from irt_assets.psychometrics.core.item_models import ItemCurves
from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.movement import Movement
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.movement import PARTS, GrowthByHalf, MovementEstimate, estimate_movement
from irt_assets.psychometrics.scoring.abilities import Curves
from irt_assets.psychometrics.scoring.moving_ability import moving_eap
from tests.testbed.moving_ability import Moving, answered, walked

YEAR = 365.25 / 7
ITEMS = 60


def items() -> ItemCurves:
    rng = np.random.default_rng(1)
    a, b = rng.lognormal(0.2, 0.3, ITEMS), rng.normal(0, 1, ITEMS)
    return ItemCurves(a, -a * b, np.zeros(ITEMS))


def made(movement: Movement, *, learners: int = 300, weeks: int = 26, start=(0.0, 1.0), seed: int = 2) -> Moving:
    rng = np.random.default_rng(seed)
    days = np.arange(weeks) * 7
    return answered(items(), walked(learners, days, movement, rng, start), days, 6, rng)


def estimated(moving: Moving, **how) -> MovementEstimate:
    found = estimate_movement(moving.responses, moving.day, Curves.of(items()), **how)
    assert isinstance(found, MovementEstimate), found
    return found


@pytest.mark.parametrize(
    ("movement", "start"),
    [
        (Movement(0.07**2, 0.5 / YEAR), (0.4, 0.7)),
        (Movement(0.07**2, 0.0, 0.4**2), (0.0, 1.0)),
        (Movement(growth=0.5 / YEAR), (0.0, 1.0)),
    ],
)
def test_what_was_planted_is_found(movement, start):
    found = estimated(made(movement, start=start))
    for part in PARTS:
        true, error = getattr(movement, part), found.errors[part]
        # four standard errors; and half the step by which the likelihood's slope is seen
        assert abs(getattr(found.estimate, part) - true) < 4 * error + 1e-5
        # 26 weeks of 300 learners tell movements of this size from none
        assert (found.p[part] < 0.01) == (true > 0)
        assert (getattr(found.proposed, part) != 0) == (true > 0)
    assert found.start.mean == pytest.approx(start[0], abs=4 * start[1] / 300**0.5)
    assert found.start.sd == pytest.approx(start[1], rel=0.15)
    assert (found.learners, found.occasions) == (300, 300 * 26)
    assert found.log_likelihood >= found.without_walk


@functools.cache
def still() -> MovementEstimate:
    return estimated(made(Movement()))


def test_abilities_that_stand_still_are_proposed_to_do_so():
    found = still()
    assert found.proposed == Movement()
    assert min(found.p.values()) > 0.01


def test_errors_of_items_are_not_taken_for_movement_of_learners() -> None:
    """Items from 100 answers each, which are a tenth of the answers by which movement is estimated."""
    rng = np.random.default_rng(1)
    seen = rng.permuted(np.tile(np.arange(ITEMS) < 20, (300, 1)), axis=1)
    p = 1 / (1 + np.exp(-(items().a * rng.normal(size=(300, 1)) + items().d)))
    known = fit_em(Responses.from_wide(np.where(seen, rng.random(p.shape) < p, np.nan)), model="2pl").items
    moving, curves = made(Movement(), seed=1), Curves.of(known.curves)
    as_known = estimate_movement(moving.responses, moving.day, curves)
    found = estimate_movement(moving.responses, moving.day, curves, known)
    assert isinstance(as_known, MovementEstimate)
    assert isinstance(found, MovementEstimate)
    assert as_known.proposed.occasion_variance > 0.03
    assert found.proposed == Movement()
    assert found.estimate.occasion_variance < as_known.estimate.occasion_variance / 2
    assert found.errors["occasion_variance"] > as_known.errors["occasion_variance"]


def test_items_whose_errors_are_zero_give_the_same_estimate() -> None:
    moving = made(Movement())
    known = items()
    exact = ItemParameters(moving.responses.item_ids, known.a, -known.d / known.a, known.c, np.zeros((ITEMS, 2, 2)))
    assert estimate_movement(moving.responses, moving.day, Curves.of(known), exact) == still()


@pytest.mark.parametrize("in_gap", ["walks on", "stands still", "falls"])
def test_movement_between_days_of_practice_is_found_whatever_happens_in_a_gap(in_gap: str) -> None:
    planted = Movement(0.15**2, 0.5 / YEAR)
    weeks = np.arange(26)
    weeks = weeks + 26 * (weeks >= 13)
    theta = walked(300, 7 * weeks, planted, np.random.default_rng(2))
    if in_gap != "walks on":
        theta[:, 13:] -= (theta[:, 13] - theta[:, 12])[:, None] + 0.3 * (in_gap == "falls")
    found = estimated(answered(items(), theta, 7 * weeks, 6, np.random.default_rng(3)))
    # three standard errors; through the gap q is .006 if θ stands still and .007 if it falls, and g is then below 0
    assert abs(found.estimate.variance - planted.variance) < 3 * found.errors["variance"] < 0.015
    assert abs(found.estimate.growth - planted.growth) < 3 * found.errors["growth"] < 0.9 / YEAR
    assert found.proposed.variance > 0
    assert (found.learners, found.weeks) == (300, 52)


@pytest.mark.parametrize("falls", [0.0, 0.3])
def test_walk_is_proposed_if_theta_moves_only_in_a_gap(falls: float) -> None:
    """As a constant, θ at the last answer was covered in 83 % if it fell by .3 in the gap."""
    weeks = np.arange(26)
    days = 7 * (weeks + 26 * (weeks >= 13))
    theta = walked(300, days, Movement(), np.random.default_rng(2))
    theta[:, 13:] -= falls
    moving = answered(items(), theta, days, 6, np.random.default_rng(3))
    proposed = estimated(moving).proposed
    assert replace(proposed, variance=0.0) == Movement()
    assert (proposed.variance > 0) == (falls > 0)
    scores = moving_eap(moving.responses, moving.day, Curves.of(items()), proposed, threads=1)
    covered = (np.abs(scores.theta - theta[:, -1]) < 1.96 * scores.se).mean()
    # 95 % less two standard errors
    assert covered > 0.925


def test_the_likelihood_is_that_of_the_answers_given_those_before():
    """Against a sum over every path of a lattice for one learner: with q = 0 and s² = 0, the probability of all answers
    is the integral of their likelihood, whatever their days."""
    moving, found = made(Movement()), still()
    nodes = np.linspace(-8, 8, 801)
    log_right, log_wrong = items().log_tables(nodes)
    of = moving.responses
    logs = np.zeros((300, 801))
    np.add.at(logs, of.person, np.where(of.score[:, None] == 1, log_right[of.item], log_wrong[of.item]))
    weights = np.exp(-0.5 * ((nodes - found.start.mean) / found.start.sd) ** 2)
    expected = np.log(np.exp(logs) @ (weights / weights.sum())).sum()
    # at the maximum the parts are about 0: a likelihood ratio of three parameters
    assert 0 <= found.log_likelihood - expected < 8


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"learners": 299}, "299 learners answered on 8 days or more; 300 are needed"),
        ({"weeks": 25}, "span 25 weeks; 26 are needed"),
        ({"weeks": 7}, "0 learners answered on 8 days or more"),
    ],
)
def test_too_little_is_refused(how, why):
    moving = made(Movement(), **how)
    found = estimate_movement(moving.responses, moving.day, Curves.of(items()))
    assert isinstance(found, Refused)
    assert why in found.why


@pytest.mark.parametrize("growth", [0.0, 1.0])
def test_growth_is_not_taken_from_weak_learners_who_leave_early(growth):
    """Constant θ, one answer a week: with one mean at the start for all, growth was +.6 a year (p < 1e-8)."""
    rng, n, weeks = np.random.default_rng(5), 600, 40
    days = np.arange(weeks) * 7
    theta = walked(n, days, Movement(growth=growth / YEAR), rng)
    stay = 8 + (weeks - 8) / (1 + np.exp(-2.5 * theta[:, 0] - rng.normal(0, 0.3, n)))
    everybody = answered(items(), theta, days, 1, rng)
    found = estimated(everybody.chosen((np.arange(weeks) < stay[:, None]).ravel()))
    assert abs(found.estimate.growth - growth / YEAR) < 3 * found.errors["growth"] < 0.5 / YEAR
    assert (found.proposed.growth != 0) == (growth != 0)


def test_growth_that_levels_off_does_not_go_on_after_the_last_answer():
    """θ + .8(1 − e^(−t/120 days)): with the growth of the whole year, θ was .12 too high at its end."""
    rng, days = np.random.default_rng(5), 7 * np.arange(52)
    theta = walked(300, days, Movement(), rng) + 0.8 * (1 - np.exp(-days / 120))
    moving = answered(items(), theta, days, 4, rng)
    found = estimated(moving)
    halves = found.growth_by_half
    assert halves.differs
    assert halves.first == pytest.approx(0.625 / 26, abs=0.006)
    assert halves.second == pytest.approx(0.137 / 26, abs=0.006)
    assert found.proposed.growth == halves.proposed
    assert found.proposed.variance > 0
    scores = moving_eap(moving.responses, moving.day, Curves.of(items()), found.proposed, threads=1)
    # the standard error of the mean of 300 learners is .01
    assert abs((scores.theta - theta[:, -1]).mean()) < 0.05


@pytest.mark.parametrize(
    ("halves", "differs", "proposed"),
    [
        (GrowthByHalf(0.02, 0.01, 1e-4, 1e-3), True, 0.01),
        (GrowthByHalf(0.02, 0.004, 1e-4, 0.005), True, 0.0),
        (GrowthByHalf(0.02, 0.01, 0.06, 1e-3), False, 0.01),
        (GrowthByHalf(0.01, 0.02, 1e-4, 1e-3), True, 0.02),
        (GrowthByHalf(-0.02, -0.01, 1e-4, 1e-3), True, -0.01),
    ],
)
def test_growth_of_the_second_half_is_proposed_if_the_halves_differ(halves, differs, proposed):
    assert (halves.differs, halves.proposed) == (differs, proposed)


def test_answers_that_are_all_right_say_nothing():
    moving = made(Movement())
    right = replace(moving.responses, score=np.ones_like(moving.responses.score))
    found = estimate_movement(right, moving.day, Curves.of(items()))
    assert isinstance(found, Refused)
    assert "mean at the start" in found.why


@pytest.mark.parametrize(("growth", "why"), [(True, "growth is found"), (None, "cannot be judged")])
def test_an_order_of_items_is_refused_unless_there_is_no_growth_within_windows(growth, why):
    moving = made(Movement())
    how = {"order": 0.5, "growth_in_windows": growth}
    found = estimate_movement(moving.responses, moving.day, Curves.of(items()), **how)
    assert isinstance(found, Refused)
    assert why in found.why


def test_which_learners_are_looked_at_is_a_matter_of_their_keys(monkeypatch):
    for limit in ("MOST_LEARNERS", "FEWEST_LEARNERS"):
        monkeypatch.setattr(f"irt_assets.psychometrics.estimation.movement.{limit}", 30)
    moving = made(Movement(0.05**2), learners=40)
    key = np.random.default_rng(3).permutation(40).astype(np.uint32)
    keyed = replace(moving, responses=replace(moving.responses, key=key))
    alone = moving.chosen((key < 30)[moving.responses.person])
    assert estimated(keyed).estimate == estimated(alone).estimate
    assert estimated(keyed).learners == 30
