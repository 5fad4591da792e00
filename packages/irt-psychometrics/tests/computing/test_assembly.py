"""Assembled forms equal the best ones of all that exist in small banks, and keep their promises in true banks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple, cast

import numpy as np
import pytest

from irt_psychometrics import ItemParameters, PsychometricsError
from irt_psychometrics.adaptive import ItemLimit, ItemPosterior
from irt_psychometrics.assembly import AssembledForms, FormDesign, InfeasibleError, SumLimit, assemble
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.linear_programs import Program

N = 14
POINTS = (-1.0, 0.5)
IDS = tuple(f"q{j}" for j in range(N))
WORDS = dict(zip(IDS, (40, 25, 90, 10, 55, 70, 35, 20, 65, 80, 15, 30, 45, 60), strict=True))
ALGEBRA = ItemLimit("algebra", IDS[::2], 2, 3)
ENEMIES = ItemLimit("enemies q0 and q1", IDS[:2], 0, 1)
LEAKED = ItemLimit("leaked q3", ("q3",), 0, 0)


def bank(n: int, seed: int = 1) -> ItemParameters:
    rng = np.random.default_rng(seed)
    return ItemParameters(
        tuple(f"q{j}" for j in range(n)),
        np.exp(rng.normal(0, 0.3, n)),
        rng.normal(0, 1, n),
        rng.choice([0.0, 0.2], n),
        np.full((n, 2, 2), np.nan),
    )


ITEMS = bank(N)


def information(items: ItemParameters, form: Sequence[str], theta: Sequence[float] = POINTS) -> Floats:
    """Test information at each θ; a²(P − c)²(1 − P)/(P(1 − c)²) for an item (Lord 1980, eq. 5-9)."""
    a, b, c = (x[items.places(list(form)), None] for x in (items.a, items.b, items.c))
    p = c + (1 - c) / (1 + np.exp(-a * (np.array(theta) - b)))
    return (a**2 * (p - c) ** 2 * (1 - p) / (p * (1 - c) ** 2)).sum(axis=0)


def best(
    value: Callable[[tuple[str, ...]], float], allowed: Callable[[tuple[str, ...]], bool], sizes: Sequence[int] = (5,)
) -> float:
    return max(value(form) for size in sizes for form in combinations(IDS, size) if allowed(form))


def meets(form: Sequence[str]) -> bool:
    chosen = set(form)
    return (
        2 <= len(chosen & set(ALGEBRA.items)) <= 3
        and len(chosen & {"q0", "q1"}) <= 1
        and sum(WORDS[item] for item in form) <= 230
        and len(chosen & {"q4", "q5", "q6"}) in (0, 3)
        and len(chosen & {"q8", "q9", "q10"}) in (0, 2)
        and "q3" not in chosen
    )


RULES: dict[str, Any] = {
    "min_items": 5,
    "max_items": 5,
    "theta": POINTS,
    "limits": (ALGEBRA, ENEMIES, LEAKED),
    "sums": (SumLimit("words", WORDS, most=230),),
    "testlets": (ItemLimit("A", IDS[4:7], 3), ItemLimit("B", IDS[8:11], 2, 2)),
}


def test_form_has_most_information_of_all_forms_that_meet_the_rules() -> None:
    found = assemble(ITEMS, FormDesign(**RULES))
    assert meets(found.forms[0])
    expected = best(lambda form: float(information(ITEMS, form).sum()), meets)
    assert found.objective == pytest.approx(expected, rel=1e-9)
    assert found.gap <= 1e-4
    np.testing.assert_allclose(found.information, [information(ITEMS, found.forms[0])])
    assert ("algebra: 2 to 3 items", (len(set(found.forms[0]) & set(ALGEBRA.items)),)) in found.rules
    assert ("sum of words: at most 230", (sum(WORDS[i] for i in found.forms[0]),)) in found.rules


def test_included_item_is_in_the_best_form_even_if_it_has_little_information() -> None:
    weakest = min(IDS, key=lambda item: information(ITEMS, [item], [0.0])[0])
    found = assemble(ITEMS, FormDesign(min_items=3, max_items=3, included=(weakest,)))
    expected = max(float(information(ITEMS, form, [0.0])[0]) for form in combinations(IDS, 3) if weakest in form)
    assert found.objective == pytest.approx(expected)


@pytest.mark.parametrize("target", [None, (2.0, 1.0)])
def test_maximin_form_has_the_greatest_smallest_information(target: tuple[float, float] | None) -> None:
    found = assemble(ITEMS, FormDesign(**RULES, objective="maximin", target=target), gap=1e-9)
    expected = best(lambda form: float((information(ITEMS, form) / np.array(target or (1.0, 1.0))).min()), meets)
    assert found.objective == pytest.approx(expected, rel=1e-7)


def test_form_for_a_target_has_the_smallest_distance_to_it() -> None:
    target = (1.1, 1.4)
    found = assemble(ITEMS, FormDesign(**RULES, objective="target", target=target))
    expected = -best(lambda form: -float(np.abs(information(ITEMS, form) - target).max()), meets)
    assert expected <= found.objective + 1e-9 <= expected + 0.005 * max(target) + 2e-9
    assert found.objective == pytest.approx(np.abs(found.information - target).max(), abs=1e-6)


def test_shortest_form_that_reaches_the_target_has_the_fewest_items() -> None:
    target = (1.0, 1.2)
    found = assemble(ITEMS, FormDesign(**RULES | {"min_items": 1, "max_items": N}, objective="shortest", target=target))
    reaching = [
        size
        for size in range(1, 8)
        if any(meets(form) and (information(ITEMS, form) >= target).all() for form in combinations(IDS, size))
    ]
    assert found.objective == len(found.forms[0]) == min(reaching)
    assert (found.information >= np.array(target) - 1e-9).all()


def test_worst_of_two_forms_without_common_items_has_most_information() -> None:
    items, design = bank(9, 3), FormDesign(forms=2, min_items=3, max_items=3)
    found = assemble(items, design, gap=1e-9)
    value = {form: float(information(items, form, [0.0])[0]) for form in combinations(items.item_ids, 3)}
    expected = max(min(value[one], value[two]) for one, two in combinations(value, 2) if not set(one) & set(two))
    assert found.objective == pytest.approx(expected, rel=1e-7)
    assert not {*found.forms[0]} & {*found.forms[1]}


def test_forms_share_at_most_the_allowed_number_of_items() -> None:
    items = bank(9, 3)
    found = assemble(items, FormDesign(forms=3, min_items=4, max_items=4, max_uses=3, max_overlap=1), gap=1e-9)
    value = {form: float(information(items, form, [0.0])[0]) for form in combinations(items.item_ids, 4)}
    expected = max(
        min(map(value.__getitem__, three))
        for three in combinations(value, 3)
        if all(len(set(one) & set(two)) <= 1 for one, two in combinations(three, 2))
    )
    assert found.objective == pytest.approx(expected, rel=1e-7)


def test_every_item_is_used_once_and_times_are_proven_the_most_even_possible() -> None:
    """The 14 items take 640 words, so that one of four blocks has at least 160; multiples of 5 are proven at once."""
    found = assemble(
        ITEMS,
        FormDesign(forms=4, min_items=3, max_items=4, min_uses=1, objective="target", values=WORDS, target=(155.0,)),
    )
    assert sorted(item for form in found.forms for item in form) == sorted(IDS)
    assert (found.objective, found.gap) == (5.0, 0.0)
    assert sorted(found.information[:, 0]) == [160, 160, 160, 160]


def test_leaked_item_is_in_none_of_the_forms_that_use_every_other_item() -> None:
    design = FormDesign(forms=2, min_items=6, max_items=7, min_uses=1, limits=(LEAKED,))
    assert sorted(item for form in assemble(ITEMS, design).forms for item in form) == sorted({*IDS} - {"q3"})


def test_shortest_form_is_found_if_half_a_percent_of_the_target_exceeds_one() -> None:
    items = bank(40)
    seconds = np.random.default_rng(0).integers(200, 1000, 40).astype(float)
    values = dict(zip(items.item_ids, seconds.tolist(), strict=True))
    design = FormDesign(min_items=1, max_items=40, objective="shortest", values=values, target=(8000.0,))
    found = assemble(items, design)
    n_longest = 1 + np.searchsorted(np.cumsum(np.sort(seconds)[::-1]), 8000.0)
    assert found.objective == len(found.forms[0]) == n_longest
    assert found.gap == 0


def test_anchors_are_in_several_forms_and_are_a_small_copy_of_the_form() -> None:
    items, topics = bank(60, 5), ["algebra", "geometry"] * 30
    limits = ItemLimit.of_groups(topics, items.item_ids, {"algebra": (12, 12), "geometry": (6, 6)})
    anchors = ItemLimit("anchors", items.item_ids[:20], 6, 6)
    found = assemble(items, FormDesign(forms=2, min_items=18, max_items=18, limits=limits, anchors=anchors), gap=0.01)
    edges = np.quantile(items.b, [1 / 3, 2 / 3])
    for form in found.forms:
        own = [item for item in form if item in anchors.items]
        assert len(own) == 6
        assert abs(sum(item in limits[0].items for item in own) - 4) <= 1
        in_form, in_anchors = (
            np.bincount(np.searchsorted(edges, items.select(ids).b), minlength=3) for ids in ([*form], own)
        )
        assert (np.abs(in_anchors - in_form / 3) <= 1 + 1e-9).all()
    assert not {*found.forms[0]} & {*found.forms[1]} - {*anchors.items}


def test_conflict_names_the_rules_without_any_of_which_a_form_exists() -> None:
    """The form must have three items of geometry. Only q1, q11 and q13 remain, and q1 excludes q13."""
    geometry, few = ItemLimit("geometry", IDS[1::2], 3), ItemLimit("q1 and q13", ("q1", "q13"), 0, 1)
    leaked = ItemLimit("leaked", ("q3", "q5", "q7", "q9"), 0, 0)
    with pytest.raises(InfeasibleError) as refused:
        assemble(ITEMS, FormDesign(**RULES | {"limits": (ALGEBRA, ENEMIES, geometry, few, leaked)}))
    assert str(refused.value) == (
        "no form meets these rules together: geometry: at least 3 items; q1 and q13: at most 1 item; leaked: 0 items. "
        "Relax one of them, or add items to the bank"
    )


def test_target_out_of_reach_is_the_only_rule_of_the_conflict() -> None:
    design = FormDesign(min_items=1, max_items=N, objective="shortest", target=(1000.0,))
    with pytest.raises(InfeasibleError, match="no form meets this rule: information at θ = 0 at least 1000"):
        assemble(ITEMS, design)


def test_wide_gap_ends_the_search_early_with_a_bound_that_holds() -> None:
    items = bank(200, 8)
    design = FormDesign(forms=3, min_items=15, max_items=15, objective="maximin", theta=(-1.0, 0.0, 1.0))
    early, best_known = assemble(items, design, gap=0.2), assemble(items, design, gap=0.01)
    assert early.gap <= 0.2
    assert early.bound >= best_known.objective - 1e-6
    assert best_known.gap <= 0.01


PRIOR, ERROR = np.array([0.3, 1.0]) ** 2, np.array([0.2, 0.25]) ** 2
"""Variances of ln a and b over the bank, and of the errors of their estimates."""
WEIGHT = PRIOR / (PRIOR + ERROR)
TESTED = (-1.0, 0.0, 1.0)


def estimated_bank(n: int, rng: np.random.Generator) -> ItemParameters:
    log_a, b = rng.normal(0, np.sqrt(PRIOR + ERROR), (n, 2)).T
    cov = np.zeros((n, 2, 2))
    cov[:, 0, 0], cov[:, 1, 1] = np.exp(2 * log_a) * ERROR[0], ERROR[1]
    return ItemParameters(tuple(f"q{j}" for j in range(n)), np.exp(log_a), b, np.zeros(n), cov)


def true_banks(items: ItemParameters, n: int, rng: np.random.Generator) -> list[ItemParameters]:
    """Draw true parameters from their normal distribution given the estimates."""
    mean = WEIGHT * np.column_stack([np.log(items.a), items.b])
    drawn = mean + rng.normal(0, np.sqrt(WEIGHT * ERROR), (n, *mean.shape))
    return [replace(items, a=np.exp(own[:, 0]), b=own[:, 1]) for own in drawn]


def share_reached(design: FormDesign, found: AssembledForms, form: Sequence[str], banks: list[ItemParameters]) -> float:
    reached = np.array([information(bank, form, TESTED) for bank in banks])
    reached = reached.sum(axis=1, keepdims=True) if design.objective == "maximum" else reached
    return float((reached >= np.array(design.target or [found.objective])).all(axis=1).mean())


class KnownPosterior(NamedTuple):
    items: ItemParameters

    def draw(self, n: int, rng: np.random.Generator, *, densities: int = 0) -> list[ItemParameters]:
        return true_banks(self.items, n, rng)


@pytest.mark.parametrize(
    "objective",
    [
        {"objective": "maximum"},
        {"objective": "maximin"},
        {"objective": "target", "target": (5.0, 6.0, 5.0)},
        {"objective": "shortest", "target": (4.0, 5.0, 4.0), "min_items": 1, "max_items": 40},
        {"objective": "maximin", "forms": 2},
    ],
)
def test_forms_with_certainty_reach_in_500_true_banks_what_forms_from_estimates_miss(objective: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    items = estimated_bank(150, rng)
    banks, posterior = true_banks(items, 500, rng), cast(ItemPosterior, KnownPosterior(items))
    shares = []
    for certainty in (0.95, None):
        rules: dict[str, Any] = {"min_items": 20, "max_items": 20, "theta": TESTED, "certainty": certainty}
        design = FormDesign(**rules | objective)
        found = assemble(items, design, posterior=posterior, gap=0.005)
        shares.append([share_reached(design, found, form, banks) for form in found.forms])
        if found.reached is not None:
            np.testing.assert_allclose(found.reached, shares[0], atol=0.03)
    assert min(shares[0]) >= 0.93
    assert max(shares[1]) < 0.3


def test_form_that_just_misses_its_target_is_not_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best 3 items lack 3 millionths of the target, and only the banks that judge the form show it."""
    items, solves, solve = estimated_bank(6, np.random.default_rng(5)), [], Program.solve
    posterior = cast(ItemPosterior, KnownPosterior(items))
    monkeypatch.setattr(Program, "solve", lambda *given, **options: solves.append(1) or solve(*given, **options))
    three = assemble(items, FormDesign(min_items=3, max_items=3, certainty=0.95), posterior=posterior)
    target = (three.objective * (1 + 3e-6),)
    design = FormDesign(min_items=1, max_items=6, objective="shortest", target=target, certainty=0.95)
    solves.clear()
    found = assemble(items, design, posterior=posterior)
    assert len(found.forms[0]) == 4
    assert len(solves) < 10


def test_conflict_is_named_in_a_bank_of_thousands_of_items() -> None:
    items = bank(2000)
    limits = (ItemLimit("two", ("q1", "q2"), 2, 2), ItemLimit("leaked", ("q1",), 0, 0))
    with pytest.raises(InfeasibleError, match="two: 2 items; leaked: 0 items"):
        assemble(items, FormDesign(min_items=3, max_items=5, limits=limits))


@pytest.mark.parametrize("objective", ["maximum", "shortest"])
def test_forms_from_thousands_of_items_are_the_best(objective: Any) -> None:
    """The best form without a rule on the content has the items with the most information."""
    items = bank(2000)
    most = np.sort(items.curves.information((0.0,))[0])[::-1]
    design = FormDesign(min_items=1, max_items=30, objective=objective, target=(float(most[:20].sum()),))
    found = assemble(items, design)
    assert found.objective == pytest.approx(most[:30].sum() / most[:20].sum() if objective == "maximum" else 20, 1e-4)


def test_time_limit_begins_after_the_true_banks_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advances the clock by 1,000 s with each draw, and gives the whole search 60 s."""
    clock, limits, solve = [0.0], [], Program.solve

    class SlowPosterior(KnownPosterior):
        def draw(self, n: int, rng: np.random.Generator, *, densities: int = 0) -> list[ItemParameters]:
            clock[0] += 1000
            return super().draw(n, rng)

    def limited(program: Program, *, time_limit: float, **options: float) -> Any:
        limits.append(time_limit)
        return solve(program, time_limit=time_limit, **options)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Program, "solve", limited)
    design = FormDesign(min_items=4, max_items=4, certainty=0.9)
    assemble(ITEMS, design, posterior=cast(ItemPosterior, SlowPosterior(ITEMS)), time_limit=60.0)
    assert {*limits} == {30.0}


@pytest.mark.ci
def test_forms_with_certainty_hold_if_the_distribution_over_the_bank_is_estimated() -> None:
    """The posterior is estimated from each of 25 banks, and each has 20 true banks."""
    rng = np.random.default_rng(6)
    shares = []
    for _ in range(25):
        items = estimated_bank(300, rng)
        design = FormDesign(min_items=20, max_items=20, theta=TESTED, objective="maximin", certainty=0.95)
        found = assemble(items, design, posterior=ItemPosterior.from_items(items), gap=0.005)
        shares.append(share_reached(design, found, found.forms[0], true_banks(items, 20, rng)))
    assert np.mean(shares) >= 0.93


@pytest.mark.ci
def test_steepest_items_of_uniform_slopes_keep_the_certainty() -> None:
    """500 learners calibrate 200 items. With a normal density of ln a, fewer than 54 of 60 forms kept it."""
    rng, kept = np.random.default_rng(8), 0
    for _ in range(60):
        a, b = rng.uniform(0.6, 1.8, 200), rng.normal(0, 1, 200)
        true = replace(estimated_bank(200, rng), a=a, b=b).with_assumed_errors()
        errors = (np.linalg.cholesky(true.cov) @ rng.standard_normal((200, 2, 1)))[..., 0]
        items = replace(true, a=np.maximum(a + errors[:, 0], 0.1), b=b + errors[:, 1]).with_assumed_errors()
        design = FormDesign(min_items=15, max_items=15, certainty=0.95)
        found = assemble(items, design, posterior=ItemPosterior.from_items(items))
        kept += information(true, found.forms[0], design.theta).sum() >= found.objective
    assert kept >= 0.9 * 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "best"}, "objective must be one of maximum"),
        ({"min_items": 6}, "forms need 1 ≤ min_items ≤ max_items"),
        ({"objective": "target"}, "needs a target"),
        ({"target": (1.0,)}, "each of the 2 points"),
        ({"certainty": 1.5}, "certainty must be between 0 and 1"),
    ],
)
def test_design_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PsychometricsError, match=message):
        FormDesign(**RULES | changes)


def test_unknown_items_and_missing_posterior_are_named() -> None:
    with pytest.raises(PsychometricsError, match="included q99 names items that the bank does not have: q99"):
        assemble(ITEMS, FormDesign(min_items=1, max_items=2, included=("q99",)))
    with pytest.raises(PsychometricsError, match="certainty needs the posterior"):
        assemble(ITEMS, FormDesign(min_items=1, max_items=2, certainty=0.95))


def test_missing_solver_is_reported_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(PsychometricsError, match=r"pip install irt-psychometrics\[assembly\]"):
        assemble(ITEMS, FormDesign(min_items=1, max_items=2))
