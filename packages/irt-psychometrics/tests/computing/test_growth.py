"""Growth within a window: its score against differences of the likelihood, and recovery of planted growth."""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics import PsychometricsError
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.estimation import LearnerWeeks, MovementEstimate, fit_em
from irt_psychometrics.estimation.ability_growth import PARTS, GrowthByHalf
from irt_psychometrics.itemfit import Growth, WindowGrowth
from irt_psychometrics.itemfit.growth import _Answers, absorbed_growth, share_explained, without_growth
from irt_psychometrics.itemfit.model_replicates import FittedData
from irt_psychometrics.items import ItemParameters
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import Curves, Movement
from irt_psychometrics.scoring.moving_ability import moving_eap
from irt_psychometrics.simulation import ScoredItems
from psychometrics_testbed.growth import world
from psychometrics_testbed.moving_ability import Moving, answered, walked
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", ["2pl", "3pl", "gpcm"])
def test_score_of_growth_matches_the_slope_of_the_likelihood(model: str) -> None:
    """The slope of Σ log L(θ + g·t) in g at 0, with the likelihood by its definition on the fit's nodes and a step of
    1e-5, which errs by about 1e-9 of the curvature."""
    rng = np.random.default_rng(3)
    responses = answers_of(model, rng)
    fit = fit_em(responses, model=model, threads=1)  # type: ignore[arg-type]
    whole = FittedData.from_responses(responses, fit)
    found = _Answers.from_fit(whole, 1)
    t = rng.random(responses.n_responses)
    nodes, weights = whole.abilities.nodes, whole.abilities.weights[0]

    def loglik(g: float) -> float:
        logs = np.zeros((responses.n_persons, nodes.size))
        for i, j, x, at in zip(responses.person, responses.item, responses.score, t, strict=True):
            one = fit.select(np.arange(fit.n_items) == j)
            p = one.item_model.probabilities(nodes + g * at, one.parameters, one.n_categories)
            logs[i] += np.log(p[0, :, x])
        return float(np.log(np.exp(logs) @ weights).sum())

    slope = (loglik(1e-5) - loglik(-1e-5)) / 2e-5
    assert t @ found.slope == pytest.approx(slope, rel=1e-5, abs=1e-4)


def answers_of(model: str, rng: np.random.Generator) -> Responses:
    theta = rng.standard_normal(300)
    if model == "gpcm":
        scored = ScoredItems.draw(rng, [(0, 1, 2)] * 5, np.ones(5), np.linspace(-1, 1, 5))
        return Responses.from_wide(scored.matrix(rng, theta), categories=np.full(5, 3))
    return Responses.from_wide(rng.random((300, 8)) < 0.2 + 0.8 * expit(theta[:, None] - np.linspace(-1, 1, 8)))


@WHERE_STATISTICS_CHANGE
def test_residuals_of_time_are_orthogonal_to_items_and_learners() -> None:
    simulated = world(1, learners=400, items=20)
    whole = FittedData.from_responses(simulated.responses, fit_em(simulated.responses, threads=1))
    answers = _Answers.from_fit(whole, 1)
    residuals = answers.beside_items_and_learners(simulated.days, simulated.responses) * answers.information
    theta = answers.theta[simulated.responses.person]
    for sums in (
        np.bincount(simulated.responses.item, residuals),
        np.bincount(simulated.responses.item, residuals * theta),
    ):
        assert np.abs(sums).max() < 1e-4 * np.abs(residuals).sum()
    assert np.abs(np.bincount(simulated.responses.person, residuals)).max() < 1e-4 * np.abs(residuals).sum()


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("order", ["one", "own"])
def test_planted_growth_is_detected_with_its_size(order: str) -> None:
    """The estimate is within 3.5 standard errors of the planted growth, which is 5 of them for 1500 learners."""
    simulated = world(2, growth=0.8, order=order)
    growth = Growth.within(simulated.responses, simulated.days, fit_em(simulated.responses, threads=1), threads=1)
    found, of_items = growth.of_window, growth.of_items
    assert found.outcome == "grows"
    assert abs(found.estimate - 0.8) < 3.5 * found.se
    z = (of_items.estimate - 0.8) / of_items.se
    assert abs(np.nanmean(z)) < 3.5 / np.sqrt(np.isfinite(z).sum()) + 0.8 * found.se  # all share the estimate's error
    np.testing.assert_allclose(of_items.days, np.bincount(simulated.responses.item, simulated.days) / 1500)
    assert found.ordered == (order == "one")


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("of_ability", [0.0, 0.9, -0.9])
def test_differences_of_pace_and_ability_are_not_reported_as_growth(of_ability: float) -> None:
    """Twelve z values with mean 0 and an SD of at most 1: a mean beyond .9 has p < .002."""
    z = []
    for seed in range(12):
        simulated = world(10 + seed, learners=600, items=20, of_ability=of_ability)
        found = Growth.within(
            simulated.responses, simulated.days, fit_em(simulated.responses, threads=1), threads=1
        ).of_window
        assert found.z is not None
        z.append(found.z)
    assert abs(np.mean(z)) < 0.9
    assert np.std(z) < 1.6  # p < .002, too


@WHERE_STATISTICS_CHANGE
def test_growth_is_not_separable_if_all_learners_have_the_same_order_and_pace() -> None:
    simulated = world(4, growth=0.5, learners=500, items=20, paces=1.0)
    growth = Growth.within(simulated.responses, simulated.days, fit_em(simulated.responses, threads=1), threads=1)
    found, of_items = growth.of_window, growth.of_items
    assert found.r2 == pytest.approx(1.0)
    assert (found.estimate, found.outcome, found.ordered) == (None, "not separable", True)
    assert np.isnan(of_items.estimate).all()


@WHERE_STATISTICS_CHANGE
def test_answers_at_the_same_time_have_no_growth() -> None:
    simulated = world(5, learners=300, items=10)
    found = Growth.within(
        simulated.responses, np.zeros_like(simulated.days), fit_em(simulated.responses, threads=1), threads=1
    ).of_window
    assert found == WindowGrowth(None)
    of_a_file = np.arange(len(simulated.days)) / 86_400e6  # rows of a log without times are a microsecond apart
    assert (
        Growth.within(simulated.responses, of_a_file, fit_em(simulated.responses, threads=1), threads=1).of_window
        == found
    )
    assert not found.ordered
    with pytest.raises(PsychometricsError, match="one per response"):
        Growth.within(simulated.responses, simulated.days[1:], fit_em(simulated.responses, threads=1))


@WHERE_STATISTICS_CHANGE
def test_elapsed_days_and_share_explained_match_values_by_hand() -> None:
    at = 86_400_000_000 * np.array([3, 1, 10, 14])
    days = Responses(np.array([0, 0, 1, 1]), np.arange(4), np.zeros(4), 2, ("a", "b", "c", "d"), at=at).days_since_first
    np.testing.assert_array_equal(days, [2, 0, 0, 4])
    # variances: 1/2 within items, with 4 − 2 degrees of freedom, and 17/3 in all
    assert share_explained(np.array([0.0, 1, 4, 5]), np.array([0, 0, 1, 1])) == pytest.approx(1 - 3 / 34)
    assert (share_explained(np.zeros(4), np.array([0, 0, 1, 1])), share_explained(days, np.arange(4))) == (None, None)


@WHERE_STATISTICS_CHANGE
def test_random_order_explains_no_variance_if_items_have_few_answers() -> None:
    """3,000 answers to 1,000 items in random order: unadjusted, a third of the variance would be explained."""
    rng = np.random.default_rng(6)
    found = [share_explained(rng.uniform(0, 30, 3000), rng.integers(0, 1000, 3000)) for _ in range(20)]
    assert np.mean(found) < 0.03


@WHERE_STATISTICS_CHANGE
def test_difficulties_are_corrected_for_growth() -> None:
    """The mean trend of b's error from the first to the last item, over eight samples, is within 3.5 errors of 0.
    Without the correction the trend is due to growth. Errors of corrected b include the error of growth."""
    trends = []
    for seed in range(8):
        simulated = world(40 + seed, growth=0.8, learners=1500, items=30, span=18.0)
        weeks = LearnerWeeks.from_responses(simulated.responses, simulated.days)
        fit = fit_em(weeks.responses, groups=weeks.groups, learners=weeks.learner, threads=1)
        unit = fit.standardised(fit.latent_mean, fit.latent_sd)
        found = Growth.within(simulated.responses, simulated.days, replace(unit, populations=()), threads=1).of_window
        absorbed = absorbed_growth(weeks.responses, weeks.days, unit, groups=weeks.groups, threads=1)
        back = without_growth(unit, found, absorbed)
        own = unit.cov[:, 1, 1] - 2 * found.estimate * absorbed * unit.cov[:, 0, 1]
        own += (found.estimate * absorbed) ** 2 * unit.cov[:, 0, 0] + (found.se * unit.a * absorbed) ** 2
        np.testing.assert_allclose(back.cov[:, 1, 1], own)
        places = back.places_of_parameters[:, 1]
        np.testing.assert_allclose(back.joint_cov[places, places], own)
        order = np.linspace(0, 1, 30)
        line = np.polyfit(back.b, simulated.b, 1)[0]  # the unit of θ differs
        of_b = [np.polyfit(order, line * one.b - simulated.b, 1)[0] for one in (unit, back)]
        trends.append([*of_b, line * found.se * np.polyfit(order, absorbed, 1)[0]])
    before, after, error = np.mean(trends, axis=0)
    assert abs(after) < 3.5 * abs(error) / np.sqrt(8)
    assert before < -0.4


# -- weeks as persons ----------------------------------------------------------------------------------


@WHERE_STATISTICS_CHANGE
def test_errors_clustered_by_learner_match_the_sandwich() -> None:
    """Errors equal the robust errors from compiled loops if each learner is one person. If each learner is two equal
    persons, the sum of squares doubles, so errors are √2 times as large as if each person were a learner."""
    rng = np.random.default_rng(6)
    x = (rng.random((800, 10)) < expit(rng.normal(size=(800, 1)) - np.linspace(-1, 1, 10))).astype(float)
    once = Responses.from_wide(x)
    robust = fit_em(once, threads=1, testlets={"i1": "t", "i2": "t"})
    by_learner = fit_em(once, threads=1, learners=np.arange(800))
    np.testing.assert_allclose(by_learner.joint_cov, robust.joint_cov, rtol=1e-5, atol=1e-9)
    twice = Responses.from_wide(np.concatenate([x, x]))
    alone = fit_em(twice, threads=1, learners=np.arange(1600))
    together = fit_em(twice, threads=1, learners=np.tile(np.arange(800), 2))
    np.testing.assert_allclose(together.b_se, np.sqrt(2) * alone.b_se, rtol=1e-6)


@WHERE_STATISTICS_CHANGE
def test_each_week_of_a_learner_is_a_person_of_the_fit() -> None:
    simulated = world(7, learners=300, items=12, order="own")
    weeks = LearnerWeeks.from_responses(simulated.responses, simulated.days)
    assert weeks.responses.n_responses == simulated.responses.n_responses
    assert weeks.responses.n_persons == weeks.learner.size == len(weeks.groups)
    week = np.array([int(name.removeprefix("week ")) for name in weeks.groups])
    assert 4 <= week.max() < 7  # the slowest take 45 days, and few learners answer in the last weeks
    for i in (0, 150, 299):
        rows = np.flatnonzero(simulated.responses.person == i)
        own = np.minimum(simulated.days[rows] // 7, week.max() - 1) + 1
        for w in np.unique(own):
            (person,) = np.flatnonzero((weeks.learner == i) & (week == w))
            found = weeks.responses.item[weeks.responses.person == person]
            np.testing.assert_array_equal(found, np.sort(simulated.responses.item[rows[own == w]]))


@WHERE_STATISTICS_CHANGE
def test_weeks_without_common_items_are_refused() -> None:
    simulated = world(8, learners=200, items=12, paces=1.0)
    with pytest.raises(PsychometricsError, match="week 2 since learners' first answers does not share 5 items"):
        LearnerWeeks.from_responses(simulated.responses, simulated.days)


# -- movement ----------------------------------------------------------------------------------------
# Estimated movement of a scale's abilities: planted movement, refused data, learners who leave early, and growth that
# levels off.

YEAR = 365.25 / 7
ITEMS = 60


def items() -> ItemCurves:
    rng = np.random.default_rng(1)
    a, b = rng.lognormal(0.2, 0.3, ITEMS), rng.normal(0, 1, ITEMS)
    return ItemCurves(a, -a * b, np.zeros(ITEMS))


def simulate_moving(
    movement: Movement, *, learners: int = 300, weeks: int = 26, start=(0.0, 1.0), seed: int = 2
) -> Moving:
    rng = np.random.default_rng(seed)
    days = np.arange(weeks) * 7
    return answered(items(), walked(learners, days, movement, rng, start), days, 6, rng)


def estimate_movement(moving: Moving, **options) -> MovementEstimate:
    return MovementEstimate.from_answers(moving.responses, moving.day, Curves.from_items(items()), **options)


@pytest.mark.parametrize(
    ("movement", "start"),
    [
        (Movement(0.07**2, 0.5 / YEAR), (0.4, 0.7)),
        (Movement(0.07**2, 0.0, 0.4**2), (0.0, 1.0)),
        (Movement(growth=0.5 / YEAR), (0.0, 1.0)),
    ],
)
def test_planted_movement_is_estimated_and_proposed(movement, start):
    found = estimate_movement(simulate_moving(movement, start=start))
    for part in PARTS:
        true, error = getattr(movement, part), found.errors[part]
        # four standard errors, plus half the step at which the likelihood's slope is computed
        assert abs(getattr(found.estimate, part) - true) < 4 * error + 1e-5
        # 26 weeks of 300 learners distinguish movements of this size from zero
        assert (found.p[part] < 0.01, getattr(found.proposed, part) != 0) == (true > 0, true > 0)
    assert found.start.mean == pytest.approx(start[0], abs=4 * start[1] / 300**0.5)
    assert (found.start.sd, found.learners, found.occasions) == (pytest.approx(start[1], rel=0.15), 300, 300 * 26)
    assert found.log_likelihood >= found.without_walk


@functools.cache
def constant_estimate() -> MovementEstimate:
    return estimate_movement(simulate_moving(Movement()))


def test_movement_is_not_proposed_if_abilities_are_constant():
    found = constant_estimate()
    assert found.proposed == Movement()
    assert min(found.p.values()) > 0.01


def test_errors_of_items_are_not_reported_as_movement_of_learners() -> None:
    """Items are calibrated from 100 answers each, a tenth of the answers from which movement is estimated."""
    rng = np.random.default_rng(1)
    seen = rng.permuted(np.tile(np.arange(ITEMS) < 20, (300, 1)), axis=1)
    p = 1 / (1 + np.exp(-(items().a * rng.normal(size=(300, 1)) + items().d)))
    known = fit_em(Responses.from_wide(np.where(seen, rng.random(p.shape) < p, np.nan)), model="2pl").items
    moving, curves = simulate_moving(Movement(), seed=1), Curves.from_items(known.curves)
    as_known = MovementEstimate.from_answers(moving.responses, moving.day, curves)
    found = MovementEstimate.from_answers(moving.responses, moving.day, curves, known)
    assert isinstance(as_known, MovementEstimate)
    assert isinstance(found, MovementEstimate)
    assert as_known.proposed.occasion_variance > 0.03
    assert found.proposed == Movement()
    assert found.estimate.occasion_variance < as_known.estimate.occasion_variance / 2
    assert found.errors["occasion_variance"] > as_known.errors["occasion_variance"]


def test_items_whose_errors_are_zero_give_the_same_estimate() -> None:
    moving = simulate_moving(Movement())
    known = items()
    exact = ItemParameters(moving.responses.item_ids, known.a, -known.d / known.a, known.c, np.zeros((ITEMS, 2, 2)))
    assert (
        MovementEstimate.from_answers(moving.responses, moving.day, Curves.from_items(known), exact)
        == constant_estimate()
    )


@pytest.mark.parametrize("in_gap", ["walks on", "stands still", "falls"])
def test_movement_between_practice_days_is_estimated_for_any_movement_in_a_gap(in_gap: str) -> None:
    planted = Movement(0.15**2, 0.5 / YEAR)
    weeks = np.arange(26)
    weeks = weeks + 26 * (weeks >= 13)
    theta = walked(300, 7 * weeks, planted, np.random.default_rng(2))
    if in_gap != "walks on":
        theta[:, 13:] -= (theta[:, 13] - theta[:, 12])[:, None] + 0.3 * (in_gap == "falls")
    found = estimate_movement(answered(items(), theta, 7 * weeks, 6, np.random.default_rng(3)))
    # three standard errors; through the gap q is .006 if θ is constant and .007 if it falls, and g is then below 0
    assert abs(found.estimate.variance - planted.variance) < 3 * found.errors["variance"] < 0.015
    assert abs(found.estimate.growth - planted.growth) < 3 * found.errors["growth"] < 0.9 / YEAR
    assert found.proposed.variance > 0
    assert (found.learners, found.weeks) == (300, 52)


@pytest.mark.parametrize("falls", [0.0, 0.3])
def test_walk_is_proposed_if_theta_moves_only_in_a_gap(falls: float) -> None:
    """A constant θ would give intervals of which 83 % contain θ at the last answer if θ fell by .3 in the gap."""
    weeks = np.arange(26)
    days = 7 * (weeks + 26 * (weeks >= 13))
    theta = walked(300, days, Movement(), np.random.default_rng(2))
    theta[:, 13:] -= falls
    moving = answered(items(), theta, days, 6, np.random.default_rng(3))
    proposed = estimate_movement(moving).proposed
    assert replace(proposed, variance=0.0) == Movement()
    assert (proposed.variance > 0) == (falls > 0)
    scores = moving_eap(moving.responses, moving.day, Curves.from_items(items()), proposed, threads=1)
    covered = (np.abs(scores.theta - theta[:, -1]) < 1.96 * scores.se).mean()
    # 95 % less two standard errors
    assert covered > 0.925


def test_likelihood_of_constant_abilities_matches_an_integral_over_theta():
    """The probability of all answers is the integral of their likelihood on any days if q = 0 and s² = 0."""
    moving, found = simulate_moving(Movement()), constant_estimate()
    nodes = np.linspace(-8, 8, 801)
    log_right, log_wrong = items().log_tables(nodes)
    simulated = moving.responses
    logs = np.zeros((300, 801))
    np.add.at(
        logs,
        simulated.person,
        np.where(simulated.score[:, None] == 1, log_right[simulated.item], log_wrong[simulated.item]),
    )
    weights = np.exp(-0.5 * ((nodes - found.start.mean) / found.start.sd) ** 2)
    expected = np.log(np.exp(logs) @ (weights / weights.sum())).sum()
    # at the maximum the parts are about 0: a likelihood ratio of three parameters
    assert 0 <= found.log_likelihood - expected < 8


@pytest.mark.parametrize(
    ("design", "options", "reason"),
    [
        ({"learners": 299}, {}, "299 learners answered on 8 days or more; 300 are needed"),
        ({"weeks": 25}, {}, "span 25 weeks; 26 are needed"),
        ({"weeks": 7}, {}, "0 learners answered on 8 days or more"),
        ({}, {"order": 0.5, "growth_in_windows": True}, "growth is found"),
        ({}, {"order": 0.5, "growth_in_windows": None}, "cannot be judged"),
    ],
)
def test_movement_is_refused_if_data_are_few_or_ordered_items_hide_growth(design, options, reason):
    moving = simulate_moving(Movement(), **design)
    with pytest.raises(PsychometricsError, match=re.escape(reason)):
        MovementEstimate.from_answers(moving.responses, moving.day, Curves.from_items(items()), **options)


@pytest.mark.parametrize("growth", [0.0, 1.0])
def test_growth_is_unbiased_if_weak_learners_leave_early(growth):
    """Learners answer once per week. If all started with one mean, a constant θ would seem to grow by .6 a year."""
    rng, n, weeks = np.random.default_rng(5), 600, 40
    days = np.arange(weeks) * 7
    theta = walked(n, days, Movement(growth=growth / YEAR), rng)
    stay = 8 + (weeks - 8) / (1 + np.exp(-2.5 * theta[:, 0] - rng.normal(0, 0.3, n)))
    everybody = answered(items(), theta, days, 1, rng)
    found = estimate_movement(everybody.chosen((np.arange(weeks) < stay[:, None]).ravel()))
    assert abs(found.estimate.growth - growth / YEAR) < 3 * found.errors["growth"] < 0.5 / YEAR
    assert (found.proposed.growth != 0) == (growth != 0)


def test_walk_is_not_proposed_if_those_who_leave_early_are_alike():
    """Abilities are constant. Four in five learners leave after 8 of 30 weeks, with an SD of θ of .1; the others have
    an SD of 1.3. With a common SD at the start, p of "no walk" was .02; the answers are not evidence against it."""
    rng, n, weeks = np.random.default_rng([0, 5]), 800, 30
    leaves = np.arange(n) >= n // 5
    theta = np.where(leaves, rng.normal(-1, 0.1, n), rng.normal(0.5, 1.3, n))
    days = 7 * np.arange(weeks)
    everybody = answered(items(), np.repeat(theta[:, None], weeks, axis=1), days, 2, rng)
    end = 7 * np.where(leaves, 8, weeks)[everybody.responses.person]
    found = estimate_movement(everybody.chosen(everybody.day < end))
    assert found.p["variance"] > 0.05
    assert not found.proposed


def test_theta_at_the_last_answer_is_unbiased_if_growth_levels_off():
    """θ + .8(1 − e^(−t/120 days)): with the growth of the whole year, θ would be .12 too high at its end."""
    rng, days = np.random.default_rng(5), 7 * np.arange(52)
    theta = walked(300, days, Movement(), rng) + 0.8 * (1 - np.exp(-days / 120))
    moving = answered(items(), theta, days, 4, rng)
    found = estimate_movement(moving)
    halves = found.growth_by_half
    assert halves.differs
    assert (halves.first, halves.second) == pytest.approx((0.625 / 26, 0.137 / 26), abs=0.006)
    assert found.proposed.growth == halves.proposed
    assert found.proposed.variance > 0
    scores = moving_eap(moving.responses, moving.day, Curves.from_items(items()), found.proposed, threads=1)
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


def test_movement_is_refused_if_all_answers_are_right():
    moving = simulate_moving(Movement())
    right = replace(moving.responses, score=np.ones_like(moving.responses.score))
    with pytest.raises(PsychometricsError, match="mean at the start"):
        MovementEstimate.from_answers(right, moving.day, Curves.from_items(items()))


def test_learners_are_sampled_by_their_keys_if_they_are_many(monkeypatch):
    for limit in ("MAX_LEARNERS", "MIN_LEARNERS"):
        monkeypatch.setattr(f"irt_psychometrics.estimation.ability_growth.{limit}", 30)
    moving = simulate_moving(Movement(0.05**2), learners=40)
    key = np.random.default_rng(3).permutation(40).astype(np.uint32)
    keyed = replace(moving, responses=replace(moving.responses, key=key))
    alone = moving.chosen((key < 30)[moving.responses.person])
    assert (estimate_movement(keyed).estimate, estimate_movement(keyed).learners) == (
        estimate_movement(alone).estimate,
        30,
    )
