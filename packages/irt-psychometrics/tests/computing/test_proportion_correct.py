"""Items without an estimate: proportion correct against the published curve, with the errors of both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from irt_psychometrics.core.assumed_errors import assumed_errors
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Floats
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.drift.proportion_correct import MIN_ANSWERS, ProportionsCorrect, proportions_correct
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

ITEMS, TESTED, LEARNERS, MEAN, SD = 20, 2, 600, 0.5, 1.2
IDS = tuple(f"item{j:02d}" for j in range(ITEMS))
EXACT = np.zeros((ITEMS, 2, 2))


def bank(rng: np.random.Generator) -> tuple[Floats, Floats]:
    return rng.lognormal(0, 0.3, ITEMS), rng.normal(0, 1, ITEMS)


def errors(a: Floats, b: Floats, learners: int) -> Floats:
    """Covariances of (a, b), shape (J, 2, 2), as after a calibration with this number of learners."""
    a_se, b_se, cov = assumed_errors(a, b, np.zeros(ITEMS))
    return np.stack([[a_se**2, cov], [cov, b_se**2]]).transpose(2, 0, 1) * 500 / learners


def simulate_answers(rng: np.random.Generator, a: Floats, b: Floats, n: int, learners: int = LEARNERS) -> Responses:
    """The first items are answered by n of the learners, θ ~ N(0.5, 1.2²); the rest by all."""
    theta = rng.normal(MEAN, SD, (learners, 1))
    scores = (rng.random((learners, ITEMS)) < 1 / (1 + np.exp(-a * (theta - b)))).astype(float)
    for j in range(TESTED):
        scores[rng.permutation(learners)[n:], j] = np.nan
    return Responses.from_wide(scores, IDS)


def compare_proportions(
    responses: Responses, a: Floats, b: Floats, cov: Floats = EXACT, *, c: float = 0.0, mean_se: float = 0.0
) -> ProportionsCorrect:
    tested = IDS[:TESTED]
    return proportions_correct(
        responses, tested, ItemParameters(IDS, a, b, np.full(ITEMS, c), cov), mean=MEAN, sd=SD, mean_se=mean_se
    )


def test_five_percent_of_sound_items_have_p_below_0_05() -> None:
    """300 months, 2 items of 300 answers in each, everything published from 500 learners. The share below 0.05 has a
    Monte Carlo error of √(0.05·0.95/600) = 0.0089, the share below 0.01 has 0.0041, and the SD of z has 1/√1200 =
    0.029; three of each are allowed. A third of the variance comes from the published values: without this part, 0.12
    of the items are below 0.05."""
    p, z = [], []
    for seed in range(300):
        rng = np.random.default_rng([4, seed])
        a, b = bank(rng)
        off = np.einsum("jkl,jl->jk", np.linalg.cholesky(errors(a, b, 500)), rng.standard_normal((ITEMS, 2)))
        published_a, published_b = np.maximum(a + off[:, 0], 0.2), b + off[:, 1]
        cov = errors(published_a, published_b, 500)
        found = compare_proportions(simulate_answers(rng, a, b, 300), published_a, published_b, cov)
        p.append(found.p)
        z.append(found.difference / found.se)
    p_all, z_all = np.concatenate(p), np.concatenate(z)
    assert p_all.size > 580, "an extreme item now and then is not tested"
    assert np.mean(p_all < 0.05) == pytest.approx(0.05, abs=0.027)
    assert np.mean(p_all < 0.01) == pytest.approx(0.01, abs=0.0125)
    assert z_all.std() == pytest.approx(1.0, abs=0.087)


def test_item_that_became_easier_by_0_8_is_flagged_from_150_answers() -> None:
    """If θ ~ N(0.5, 1.2²), its proportion correct grows by 0.14, or 3.6 standard errors; 75 % of 40 months show it."""
    found, severities = 0, []
    for seed in range(40):
        rng = np.random.default_rng([5, seed])
        a, b = bank(rng)
        a[0], b[0] = 1.0, 0.5
        changed = b - 0.8 * (np.arange(ITEMS) == 0)
        tested = compare_proportions(simulate_answers(rng, a, changed, 150), a, b, errors(a, b, 2000))
        index = tested.item_ids.index("item00")
        found += tested.severity[index] != "none"
        severities.append(tested.severity[index])
        assert tested.difference[index] > 0
    assert found >= 30
    assert severities.count("high") > severities.count("medium"), "0.14 lies above 0.10"


def test_standard_error_is_close_to_binomial_if_published_values_are_exact() -> None:
    rng = np.random.default_rng(6)
    a, b = bank(rng)
    a[0], b[0] = 1.0, 0.5
    found = compare_proportions(simulate_answers(rng, a, b, 400), a, b)
    assert found.n.tolist() == [400, 400]
    # Jensen: the spread of p over learners lowers p̄(1 − p̄), at most by its variance, here by less than a third
    whole = np.sqrt(found.expected * (1 - found.expected) / found.n)
    assert np.all((found.se < whole) & (found.se > 0.8 * whole))
    np.testing.assert_allclose(found.p, 2 * norm.sf(np.abs(found.difference / found.se)), rtol=1e-12)


@pytest.mark.parametrize(("item", "parameter"), [(0, 0), (0, 1), (7, 0), (7, 1)])
@pytest.mark.parametrize("c", [0.0, 0.2])
def test_errors_of_published_values_count_by_the_slope_of_the_expectation(item: int, parameter: int, c: float) -> None:
    """The value belongs to the tested item, or to a different item, which has an effect through the learners'
    posteriors. The central differences have an error of the order 1e-6 of the derivative at a step of 1e-3."""
    rng = np.random.default_rng(7)
    a, b = bank(rng)
    a[0], b[0] = 1.0, 0.5
    responses, h, variance = simulate_answers(rng, a, b, 200), 1e-3, 0.04
    expected = []
    for sign in (1, -1):
        moved = np.stack([a, b])
        moved[parameter, item] += sign * h
        expected.append(compare_proportions(responses, *moved, c=c).expected[0])
    cov = EXACT.copy()
    cov[item, parameter, parameter] = variance
    added = (
        compare_proportions(responses, a, b, cov, c=c).se[0] ** 2 - compare_proportions(responses, a, b, c=c).se[0] ** 2
    )
    assert added == pytest.approx(variance * ((expected[0] - expected[1]) / (2 * h)) ** 2, rel=1e-4)


def test_error_of_the_learners_mean_counts_by_the_slope_of_the_expectation() -> None:
    rng = np.random.default_rng(8)
    a, b = bank(rng)
    responses, h = simulate_answers(rng, a, b, 200), 1e-3
    published = ItemParameters(IDS, a, b, np.zeros(ITEMS), EXACT)
    up, down = (
        proportions_correct(responses, IDS[:TESTED], published, mean=MEAN + x, sd=SD).expected[0] for x in (h, -h)
    )
    added = (
        compare_proportions(responses, a, b, mean_se=0.3).se[0] ** 2 - compare_proportions(responses, a, b).se[0] ** 2
    )
    assert added == pytest.approx((0.3 * (up - down) / (2 * h)) ** 2, rel=1e-4)


def test_answers_to_tested_items_do_not_change_abilities() -> None:
    """Reversing all answers to the second tested item changes nothing for the first."""
    rng = np.random.default_rng(9)
    a, b = bank(rng)
    responses = simulate_answers(rng, a, b, 300)
    turned = replace(responses, score=np.where(responses.item == 1, 1 - responses.score, responses.score))
    before, after = compare_proportions(responses, a, b), compare_proportions(turned, a, b)
    assert before.expected[0] == after.expected[0]
    assert before.observed[1] != after.observed[1]


def test_items_with_too_few_or_nearly_equal_answers_are_not_tested() -> None:
    rng = np.random.default_rng(10)
    a, b = bank(rng)
    b[1] = -6.0
    assert compare_proportions(simulate_answers(rng, a, b, MIN_ANSWERS - 1), a, b).item_ids == ()
    assert compare_proportions(simulate_answers(rng, a, b, 100), a, b).item_ids == ("item00",)


def test_result_is_empty_if_no_item_can_be_tested() -> None:
    nothing = Responses.from_wide(np.full((3, ITEMS), np.nan), IDS)
    found = compare_proportions(nothing, np.ones(ITEMS), np.zeros(ITEMS))
    assert (found.item_ids, found.severity, found.q.tolist()) == ((), (), [])
