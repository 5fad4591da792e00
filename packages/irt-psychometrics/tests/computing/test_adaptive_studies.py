"""Simulated adaptive tests: exposure, limits of hard blueprints, stop rules and their error rates."""

import numpy as np
import pytest

from irt_psychometrics.adaptive import AdaptiveTest, ItemLimit, SelectionPlan, simulate_tests
from irt_psychometrics.items import ItemParameters


def bank(J: int, seed: int, sd: float = 0.2, c: float = 0.0) -> ItemParameters:
    rng = np.random.default_rng(seed)
    frame = {"item": [f"i{j}" for j in range(J)], "a": np.exp(rng.normal(0, sd, J)), "b": rng.normal(0, 1, J)}
    return ItemParameters.from_frame(frame | {"c": np.full(J, c)})


def highest_rates(item: np.ndarray, J: int) -> np.ndarray:
    """The largest share of tests with an item, among the first n tests for every n."""
    given = (item[:, :, None] == np.arange(J)).any(axis=1)
    return (np.cumsum(given, axis=0) / np.arange(1, len(item) + 1)[:, None]).max(axis=1)


def allowed(most: float, n: np.ndarray) -> np.ndarray:
    return most + 3 * np.sqrt(most * (1 - most) / n)


@pytest.mark.ci
@pytest.mark.parametrize("most", [0.2, 0.25])
def test_no_item_is_given_too_often_from_first_learner_on(most):
    """20 of 20 replications, after every number of learners from 20 on.

    The bank's slopes differ little (SD of ln a .1). The loss of precision increases with their SD.
    """
    losses = []
    for seed in range(20):
        items = bank(500, seed, 0.1)
        free = simulate_tests(items, AdaptiveTest(max_items=20), 5000, random_state=seed, mean=0, sd=1)
        held = simulate_tests(
            items, AdaptiveTest(max_items=20, max_exposure=most), 5000, random_state=seed, mean=0, sd=1
        )
        n = np.arange(20, 5001)
        assert (highest_rates(held.item, 500)[19:] <= allowed(most, n)).all()
        losses.append(held.rmse - free.rmse)
    assert np.mean(losses) < 0.015


def test_exposure_holds_within_each_interval_of_theta_and_within_limits():
    items, cuts = bank(500, 1), (-0.8, 0.0, 0.8)
    topics = [f"t{j % 4}" for j in range(500)]
    limits = ItemLimit.of_groups(topics, items.item_ids, {f"t{k}": (5, 5) for k in range(4)})
    declared = AdaptiveTest(max_items=20, max_exposure=0.25, exposure_cuts=cuts, limits=limits)
    tests = simulate_tests(items, declared, 5000, random_state=2, mean=0, sd=1)
    learners = np.bincount(np.digitize(tests.estimate, cuts))
    assert ((tests.times_given / learners[:, None]).max(axis=1) <= allowed(0.25, learners)).all()
    assert (tests.limits_met == 1).all()


def test_exposure_holds_if_the_bank_is_hardly_larger_than_required():
    tests = simulate_tests(
        bank(110, 1), AdaptiveTest(max_items=20, max_exposure=0.2), 5000, random_state=2, mean=0, sd=1
    )
    assert tests.exposure.max() <= allowed(0.2, np.array(5000))


@pytest.mark.ci
@pytest.mark.parametrize(
    ("blueprint", "selection"),
    [
        ("exact", {}),
        ("crossed", {"randomesque": 5}),
        ("crossed", {"max_exposure": 0.35}),
        ("testlets", {"method": "progressive"}),
        ("testlets", {"max_exposure": 0.35}),
    ],
)
def test_ten_thousand_tests_of_hard_blueprints_meet_every_limit(blueprint, selection):
    """Topics with equal minimum and maximum; crossed with formats, enemies and a common group; and with testlets."""
    items, rng = bank(200, 5, 0.3, 0.2), np.random.default_rng(6)
    ids = np.array(items.item_ids)
    topic, form = rng.integers(0, 5, 200), rng.integers(0, 3, 200)
    limits = [ItemLimit(f"topic {k}", tuple(ids[topic == k]), 4, 4) for k in range(5)]
    if blueprint != "exact":
        limits += [
            ItemLimit(f"format {k}", tuple(ids[form == k]), n, m) for k, n, m in ((0, 8, 8), (1, 5, 6), (2, 0, 7))
        ]
        limits += [ItemLimit(f"enemies {k}", tuple(rng.choice(ids, 6, replace=False)), 0, 1) for k in range(20)]
    testlets = tuple(map(tuple, ids[:60].reshape(20, 3))) if blueprint == "testlets" else ()
    declared = AdaptiveTest(min_items=20, max_items=20, limits=tuple(limits), testlets=testlets, **selection)
    tests = simulate_tests(items, declared, 10_000, random_state=7, mean=0, sd=1)
    assert (tests.limits_met == 1).all()
    assert (tests.length == 20).all()
    assert (np.diff(np.sort(tests.item, axis=1), axis=1) > 0).all()
    for own in testlets:
        given = np.isin(tests.item, [items.item_ids.index(item) for item in own]).sum(axis=1)
        assert set(given) <= {0, 3}


@pytest.mark.parametrize("method", ["maximum-information", "kullback-leibler"])
def test_sequential_classification_has_the_declared_error_rates(method):
    """At the ends of the indifference region, in long tests, the rates are at most α/(1 − β) (Wald 1947)."""
    declared = AdaptiveTest(method=method, max_items=300, cut=0.3, indifference=0.3, false_pass=0.05, false_fail=0.1)
    items = bank(300, 3)
    fails = simulate_tests(items, declared, np.zeros(3000), random_state=4, mean=0, sd=1)
    passes = simulate_tests(items, declared, np.full(3000, 0.6), random_state=5, mean=0, sd=1)
    assert fails.stops["classified"] > 0.98
    for rate, most in ((fails.passes.mean(), 0.05 / 0.9), ((~passes.passes).mean(), 0.1 / 0.95)):
        assert 0.6 * most < rate < most + 3 * np.sqrt(most / 3000)


def test_sequential_test_decides_at_maximum_length_by_the_nearer_bound():
    tests = simulate_tests(bank(100, 3), AdaptiveTest(max_items=5, cut=0.0), 2000, random_state=4, mean=0, sd=1)
    assert tests.stops["max-items"] > 0.9
    assert tests.accuracy > 0.8


def test_interval_rule_ends_test_exactly_if_interval_excludes_cut():
    declared = AdaptiveTest(min_items=5, max_items=30, cut=0.5, cut_rule="interval", confidence=0.9)
    tests = simulate_tests(bank(200, 3), declared, 2000, random_state=4, mean=0, sd=1)
    away = np.abs(tests.estimate - 0.5) > 1.6448536 * tests.se
    classified = tests.stopped == tests.STOPS.index("classified")
    assert (classified == away).all()
    assert 0.3 < classified.mean() < 1
    assert (tests.passes == (tests.estimate >= 0.5)).all()
    assert (tests.passes == (tests.theta >= 0.5))[classified].mean() > 0.9


@pytest.mark.parametrize("estimator", ["eap", "wle"])
def test_test_ends_at_first_answer_with_the_declared_error_but_not_before_minimum(estimator):
    declared = AdaptiveTest(estimator=estimator, min_items=8, max_items=40, max_se=0.4)
    items = bank(200, 3)
    tests = simulate_tests(items, declared, 500, random_state=4, mean=0, sd=1)
    plan = SelectionPlan(declared, items, mean=0, sd=1)
    precise = tests.stopped == tests.STOPS.index("max-se")
    assert (precise == (tests.se <= 0.4)).all()
    assert precise.mean() > 0.95
    assert tests.length.min() >= 8
    for i in np.flatnonzero(precise)[:20]:
        names = [items.item_ids[j] for j in tests.item[i, : tests.length[i] - 1]]
        step = plan.next(names, tests.score[i, : len(names)].tolist(), random_state=int(tests.seed[i]))
        assert step.item is not None
        assert step.se > 0.4 or len(names) < 8


def test_weighted_likelihood_estimates_have_less_bias_than_posterior_means():
    items = bank(300, 3)
    bias = {
        own: simulate_tests(
            items, AdaptiveTest(max_items=15, estimator=own), np.full(4000, 1.8), random_state=4, mean=0, sd=1
        ).bias
        for own in ("eap", "wle")
    }
    assert abs(bias["wle"]) < 0.05 < -bias["eap"]


def test_knowledge_from_before_the_test_chooses_items_and_leaves_estimates_alone():
    items, theta = bank(300, 3), np.full(1000, 1.5)
    known, unknown = (
        simulate_tests(items, AdaptiveTest(max_items=5), theta, random_state=4, known_se=se, mean=0, sd=1)
        for se in (0.3, None)
    )
    assert np.abs(items.b[known.item[:, 0]] - 1.5).mean() < np.abs(items.b[unknown.item[:, 0]] - 1.5).mean() - 0.5
    assert len(np.unique(unknown.item[:, 0])) == 1
    plan = SelectionPlan(AdaptiveTest(max_items=5), items, mean=0, sd=1)
    names, scores = [items.item_ids[j] for j in known.item[0]], known.score[0].tolist()
    steps = [plan.next(names, scores, random_state=1, start=start) for start in (None, (1.5, 0.3))]
    assert steps[0] == steps[1]
    assert steps[0].theta == pytest.approx(known.estimate[0], abs=1e-12)


def test_score_uses_the_start_only_if_the_policy_says_so():
    plan = SelectionPlan(AdaptiveTest(max_items=5), bank(30, 1), mean=0, sd=1)
    first, sure = plan.next([], [], random_state=1, start=(2.0, 0.5)), plan.next([], [], random_state=1)
    own = plan.next([], [], random_state=1, start=(2.0, 0.5), score_from_start=True)
    assert (first.item, first.theta, first.se) == (own.item, sure.theta, sure.se)
    assert own.theta == pytest.approx(2.0, abs=1e-9)
    assert own.se == pytest.approx(0.5, abs=1e-9)
