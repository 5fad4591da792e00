"""Shadow tests choose the item that the best test of all possible tests contains, and meet every limit."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from irt_psychometrics import ItemParameters
from irt_psychometrics.adaptive import AdaptiveTest, ItemLimit, SelectionPlan, simulate_tests
from irt_psychometrics.core.arrays import Floats


def bank(n: int, seed: int) -> ItemParameters:
    rng = np.random.default_rng(seed)
    a, b, c = np.exp(rng.normal(0, 0.3, n)), rng.normal(0, 1, n), rng.choice([0.0, 0.2], n)
    return ItemParameters(tuple(f"q{j}" for j in range(n)), a, b, c, np.full((n, 2, 2), np.nan))


def information(items: ItemParameters, theta: float) -> Floats:
    """a²(P − c)²(1 − P)/(P(1 − c)²) of each item (Lord 1980, eq. 5-9)."""
    p = items.c + (1 - items.c) / (1 + np.exp(-items.a * (theta - items.b)))
    return items.a**2 * (p - items.c) ** 2 * (1 - p) / (p * (1 - items.c) ** 2)


ITEMS = bank(12, 1)
LIMITS = (
    ItemLimit("algebra", ITEMS.item_ids[::2], 3, 3),
    ItemLimit("enemies", ("q0", "q1"), 0, 1),
    ItemLimit("drawn", ("q2", "q3", "q7"), 2),
)


def meets(form: set[str]) -> bool:
    return (
        len(form & set(ITEMS.item_ids[::2])) == 3
        and len(form & {"q0", "q1"}) <= 1
        and len(form & {"q2", "q3", "q7"}) >= 2
        and len(form & {"q8", "q9"}) in (0, 2)
    )


FORMS = [set(form) for form in combinations(ITEMS.item_ids, 5) if meets(set(form))]


@pytest.mark.parametrize("seed", range(5))
def test_each_item_is_the_best_one_of_the_best_test_that_contains_the_given_items(seed: int) -> None:
    """Items q8 and q9 are a testlet, whose information per item counts."""
    test = AdaptiveTest(min_items=5, max_items=5, limits=LIMITS, testlets=(("q8", "q9"),), content="shadow")
    plan, rng = SelectionPlan(test, ITEMS, mean=0, sd=1), np.random.default_rng(seed)
    answered, scores, theta = list[str](), list[int](), 0.0
    for _ in range(5):
        value = dict(zip(ITEMS.item_ids, information(ITEMS, theta), strict=True))
        best = max(
            (form for form in FORMS if form >= set(answered)), key=lambda form: sum(map(value.__getitem__, form))
        )
        per_item = value | dict.fromkeys(("q8", "q9"), (value["q8"] + value["q9"]) / 2)
        expected = max(sorted(best - set(answered)), key=per_item.__getitem__)
        if answered and answered[-1] == "q8":
            expected = "q9"
        step = plan.next(answered, scores, random_state=seed)
        assert step.item == expected
        answered.append(expected)
        scores.append(int(rng.integers(2)))
        theta = plan.next(answered, scores, random_state=seed).theta
    assert plan.next(answered, scores, random_state=seed).stop == "max-items"


def exam(**rules: Any) -> tuple[ItemParameters, AdaptiveTest]:
    items = bank(120, 2)
    topics = [("algebra", "geometry", "numbers")[j % 3] for j in range(120)]
    limits = ItemLimit.of_groups(topics, items.item_ids, {"algebra": (3, 4), "geometry": (2, 3), "numbers": (4, 5)})
    enemies = tuple(ItemLimit(f"enemies {j}", (f"q{j}", f"q{j + 1}"), 0, 1) for j in range(0, 40, 2))
    testlets = tuple((f"q{j}", f"q{j + 5}", f"q{j + 9}") for j in (100, 101, 102, 103))
    basis: dict[str, Any] = {"min_items": 10, "max_items": 10, "content": "shadow", "testlets": testlets}
    return items, AdaptiveTest(limits=(*limits, *enemies), **basis | rules)


def test_every_simulated_test_meets_every_limit_and_keeps_testlets_together() -> None:
    items, test = exam()
    found = simulate_tests(items, test, 200, random_state=5, mean=0, sd=1)
    assert (found.limits_met == 1).all()
    assert (found.length == 10).all()
    for testlet in test.testlets:
        places = [items.item_ids.index(item) for item in testlet]
        assert set(np.isin(found.item, places).sum(axis=1).tolist()) <= {0, 3}


def test_next_item_of_a_replayed_session_is_the_simulated_one_with_any_number_of_threads() -> None:
    items, test = exam(randomesque=3)
    one, two = (simulate_tests(items, test, 20, random_state=5, threads=threads, mean=0, sd=1) for threads in (1, 2))
    np.testing.assert_array_equal(one.item, two.item)
    plan, seeds = SelectionPlan(test, items, mean=0, sd=1), np.random.default_rng(5)
    seeds.standard_normal(20)
    seed = int(seeds.integers(0, 2**63, 20, dtype=np.uint64)[0])
    for n in range(10):
        answered = [items.item_ids[j] for j in one.item[0, :n]]
        step = plan.next(answered, one.score[0, :n].tolist(), random_state=seed)
        assert step.item == items.item_ids[one.item[0, n]]


@pytest.mark.ci
def test_shadow_tests_measure_better_than_the_priority_index() -> None:
    items, test = exam()
    theta = np.random.default_rng(1).normal(size=1500)
    shadow = simulate_tests(items, test, theta, random_state=5, mean=0, sd=1)
    priority = simulate_tests(items, exam(content="priority")[1], theta, random_state=5, mean=0, sd=1)
    assert shadow.mean_se < priority.mean_se
    assert shadow.rmse < priority.rmse + 0.005


@pytest.mark.ci
def test_exposure_of_items_is_limited_and_limits_on_content_are_met() -> None:
    items, test = exam(max_exposure=0.3)
    found = simulate_tests(items, test, 600, random_state=5, mean=0, sd=1)
    assert (found.limits_met == 1).all()
    assert found.exposure.max() <= 0.3 + 3 * np.sqrt(0.3 * 0.7 / 600)
    assert simulate_tests(items, exam()[1], 600, random_state=5, mean=0, sd=1).exposure.max() > 0.4


def test_test_without_a_possible_completion_ends_without_an_item() -> None:
    items, test = exam()
    plan = SelectionPlan(test, items, mean=0, sd=1)
    excluded = [item for j, item in enumerate(items.item_ids) if j % 3 == 0]
    assert plan.next([], [], random_state=1, excluded=excluded).stop == "no-item"
    assert plan.next([], [], random_state=1, excluded=excluded[:-10]).item not in excluded[:-10]
