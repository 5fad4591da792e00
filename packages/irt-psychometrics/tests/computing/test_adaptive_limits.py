"""Limits on the content of adaptive tests, against enumeration of all tests, and tests from bad banks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from irt_psychometrics import PsychometricsError
from irt_psychometrics.adaptive import AdaptiveTest, ItemLimit, SelectionPlan, simulate_tests
from irt_psychometrics.items import ItemParameters
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import estimate_abilities


def bank(J: int, seed: int = 1, b: float = 0.0) -> ItemParameters:
    rng = np.random.default_rng(seed)
    frame = {"item": [f"i{j}" for j in range(J)], "a": np.exp(rng.normal(0, 0.3, J)), "b": rng.normal(b, 1, J)}
    return ItemParameters.from_frame(frame)


def within(test: AdaptiveTest, items: list[str]) -> bool:
    counts = [(len(set(items) & set(limit.items)), limit) for limit in test.limits]
    meets = all(limit.least <= n <= (len(items) if limit.most is None else limit.most) for n, limit in counts)
    return meets and test.min_items <= len(items) <= test.max_items and len(set(items)) == len(items)


def exists(test: AdaptiveTest, items: ItemParameters, excluded: set[str]) -> bool:
    """Enumerate all sets of items and testlets."""
    together = {item for own in test.testlets for item in own}
    units = [(item,) for item in items.item_ids if item not in together] + list(test.testlets)
    units = [unit for unit in units if not excluded & set(unit)]
    chosen = (some for n in range(len(units) + 1) for some in itertools.combinations(units, n))
    return any(within(test, [item for unit in some for item in unit]) for some in chosen)


@st.composite
def declarations(draw: st.DrawFn) -> tuple[ItemParameters, AdaptiveTest, set[str]]:
    items = bank(draw(st.integers(3, 8)))
    ids = list(items.item_ids)
    groups = draw(st.lists(st.tuples(st.sets(st.sampled_from(ids)), st.integers(0, 2), st.integers(0, 2)), max_size=4))
    limits = [
        ItemLimit(f"g{k}", tuple(own), n, None if more == 2 else n + more) for k, (own, n, more) in enumerate(groups)
    ]
    order = draw(st.permutations(ids))
    testlets = draw(st.sampled_from([(), (tuple(order[:2]),), (tuple(order[:2]), tuple(order[2:4]))]))
    most = draw(st.integers(1, len(ids)))
    test = AdaptiveTest(
        min_items=draw(st.integers(1, most)),
        max_items=most,
        limits=tuple(limits),
        testlets=tuple(own for own in testlets if len(own) == 2),
        randomesque=draw(st.integers(1, 2)),
    )
    return items, test, draw(st.sets(st.sampled_from(ids), max_size=2))


@settings(max_examples=60, deadline=None)
@given(declarations())
def test_plan_builds_and_every_test_meets_limits_exactly_if_such_a_test_exists(declared):
    items, test, excluded = declared
    if not exists(test, items, set()):
        with pytest.raises(PsychometricsError, match="no test of"):
            SelectionPlan(test, items, mean=0, sd=1)
        return
    tests = simulate_tests(items, test, 20, random_state=3, threads=1, mean=0, sd=1)
    for row, length in zip(tests.item, tests.length, strict=True):
        assert within(test, [items.item_ids[j] for j in row[:length]])
    plan, answered = SelectionPlan(test, items, mean=0, sd=1), list[str]()
    while (step := plan.next(answered, [1] * len(answered), random_state=4, excluded=excluded)).item:
        answered.append(step.item)
    assert not excluded & set(answered)
    assert within(test, answered) == exists(test, items, excluded)


def test_replayed_answers_lead_to_the_items_of_the_simulated_test():
    items = bank(40)
    topics = [f"t{j % 4}" for j in range(40)]
    limits = ItemLimit.of_groups(topics, items.item_ids, {f"t{k}": (2, 3) for k in range(4)})
    declared = AdaptiveTest(max_items=10, limits=limits, testlets=(("i1", "i2"),), randomesque=3, method="progressive")
    tests = simulate_tests(items, declared, 5, random_state=8, mean=0, sd=1)
    plan = SelectionPlan(declared, items, mean=0, sd=1)
    for row, scores, seed in zip(tests.item, tests.score, tests.seed, strict=True):
        names = [items.item_ids[j] for j in row]
        steps = [plan.next(names[:n], scores[:n].tolist(), random_state=int(seed)) for n in range(11)]
        assert [step.item for step in steps] == [*names, None]


def test_bank_of_five_items_ends_test_before_maximum_length():
    tests = simulate_tests(bank(5), AdaptiveTest(max_items=20), 50, random_state=1, mean=0, sd=1)
    assert tests.stops == {"no-item": 1.0}
    assert (np.sort(tests.item[:, :5], axis=1) == np.arange(5)).all()


@pytest.mark.parametrize("estimator", ["eap", "wle"])
def test_test_goes_on_if_all_items_are_far_too_hard(estimator):
    declared = AdaptiveTest(max_items=10, estimator=estimator, max_se=0.2)
    tests = simulate_tests(bank(30, b=9), declared, 50, random_state=1, mean=0, sd=1)
    assert tests.stops == {"max-items": 1.0}
    assert np.isfinite(tests.estimate).all()
    assert all(len(set(row)) == 10 for row in tests.item.tolist())


def test_weighted_likelihood_of_full_marks_is_the_librarys_far_outside_the_population():
    items = ItemParameters.from_frame({"item": ["a", "b", "c"], "a": [0.7, 0.8, 0.9], "b": [5.0, 5.5, 6.0]})
    step = SelectionPlan(AdaptiveTest(max_items=3, estimator="wle"), items, mean=0, sd=1).next(
        ["a", "b", "c"], [1, 1, 1], random_state=1
    )
    answers = Responses.from_wide({item: [1] for item in items.item_ids})
    expected = estimate_abilities(answers, items.a, items.d, items.c, method="wle")
    assert expected.theta[0] > 6
    assert (step.theta, step.se) == pytest.approx((expected.theta[0], expected.se[0]), abs=1e-4)


def test_items_that_are_not_eligible_are_given_only_if_limits_require_them():
    items = bank(12)
    declared = AdaptiveTest(max_items=4, limits=(ItemLimit("topic", ("i0", "i1"), 1, 1),))
    plan = SelectionPlan(declared, items, mean=0, sd=1)
    for seed in range(20):
        answered: list[str] = []
        never = {f"i{j}": [0.0] for j in (0, 1, 5, 6, 7, 8)}
        while (step := plan.next(answered, [1] * len(answered), random_state=seed, eligible=never)).item:
            answered.append(step.item)
        assert len(set(answered) & {"i0", "i1"}) == 1
        assert not set(answered) & {"i5", "i6", "i7", "i8"}
    nothing = {item: [0.0] for item in items.item_ids}
    assert plan.next([], [], random_state=1, eligible=nothing).item is not None


def test_test_ends_if_every_item_is_excluded():
    step = SelectionPlan(AdaptiveTest(max_items=3), bank(4), mean=0, sd=1).next(
        [], [], random_state=1, excluded=["i0", "i1", "i2", "i3"]
    )
    assert (step.item, step.stop, step.position) == (None, "no-item", 1)


def test_limit_of_a_topic_without_items_is_refused_by_name():
    declared = AdaptiveTest(max_items=3, limits=(ItemLimit("algebra", (), 1),))
    with pytest.raises(PsychometricsError, match="algebra needs 1 items and the bank has 0"):
        SelectionPlan(declared, bank(5), mean=0, sd=1)


def test_exposure_below_length_over_bank_or_topic_is_refused_with_the_share():
    with pytest.raises(PsychometricsError, match=r"the test needs 10 items and the bank has 40.* at least 0.25 of"):
        SelectionPlan(AdaptiveTest(max_items=10, max_exposure=0.2), bank(40), mean=0, sd=1)
    topic = ItemLimit("algebra", ("i0", "i1", "i2"), 1)
    with pytest.raises(PsychometricsError, match=r"algebra needs 1 items and the bank has 3.* at least 0.333 of"):
        SelectionPlan(AdaptiveTest(max_items=10, max_exposure=0.3, limits=(topic,)), bank(40), mean=0, sd=1)
    shared = tuple(ItemLimit(name, (*own, "i0", "i1"), 1, 1) for name, own in (("x", ()), ("y", ())))
    no_other = ItemLimit("z", ("i0", "i1", *(f"i{j}" for j in range(2, 10))), 9)
    with pytest.raises(PsychometricsError, match="the limits together need some items more often"):
        SelectionPlan(AdaptiveTest(max_items=10, max_exposure=0.95, limits=(*shared, no_other)), bank(40), mean=0, sd=1)
    SelectionPlan(AdaptiveTest(max_items=10, max_exposure=0.25), bank(40), mean=0, sd=1)
