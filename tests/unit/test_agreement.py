"""Comparison of two engines' fits: its numbers by hand, the items that are compared, and the reported differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from irt_assets.gates.agreement import Agreement, MonthAgreement, compare
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_psychometrics.estimation import Flag

RULES = Rules()
ENGINES = ("em", "pymc")


def item(a: float | None, b: float | None, *, flags: Sequence[str] = (), **errors: float | None) -> FittedItem:
    params = {"a": a, "b": b, "a_se": 0.1, "b_se": 0.1} | errors
    return FittedItem.from_row({"params": params, "n_responses": 1000, "flags": flags})


def of_b(first: list[float], second: list[float], se: tuple[float, float] = (0.1, 0.1)) -> Agreement:
    """Compare two fits of items i0, i1, … whose a are equal and whose difficulties are these."""
    fits = [
        {f"i{j}": item(1.0 + 0.1 * j, b, b_se=error) for j, b in enumerate(values)}
        for values, error in zip((first, second), se, strict=True)
    ]
    return compare(ENGINES, *fits, RULES)


def test_agreement_equals_a_calculation_by_hand() -> None:
    """b: −1, 0, 1, 2 against −0.9, 0.1, 0.8, 2. Differences 0.1, 0.1, −0.2, 0: mean square 0.06/4 = 0.015.
    Means 0.5 and 0.5; cross products 2.1 + 0.2 + 0.15 + 2.25 = 4.7, squares 5 and 1.96 + 0.16 + 0.09 + 2.25 = 4.46."""
    agreement = of_b([-1, 0, 1, 2], [-0.9, 0.1, 0.8, 2], se=(0.03, 0.04))
    assert (agreement.b.rmsd, agreement.b.correlation) == pytest.approx((np.sqrt(0.015), 4.7 / np.sqrt(5 * 4.46)))
    # SE of the pair: sqrt((0.03² + 0.04²)/2) = 0.03536
    assert agreement.b.standardized == pytest.approx(np.array([0.1, 0.1, 0.2, 0.0]) / np.sqrt(0.00125))
    assert agreement.b.rms_standardized == pytest.approx(np.sqrt(0.015 / 0.00125))
    # the intervals reach 1.96 · (0.03 + 0.04) = 0.137: three of four have a value in common
    assert (agreement.b.overlap, agreement.a.rmsd, agreement.a.overlap) == (0.75, 0.0, 1.0)


def test_only_an_item_whose_estimates_differ_is_reported_with_both_values() -> None:
    first = [0.1 * j for j in range(20)]
    second = [b + 0.3 * (j == 7) for j, b in enumerate(first)]
    agreement = of_b(first, second)
    assert [d.item_id for d in agreement.disagreements(RULES)] == ["i7"]
    assert agreement.problems(RULES) == [
        "over all items they differ in b by 0.67 standard errors (root mean square), at most 0.5 allowed",
        "more than 1.5 standard errors lie between them on i7 (b 0.70 and 1.00)",
    ]
    assert (len(agreement.largest_differences()), agreement.largest_differences()[0].item_id) == (10, "i7")


def test_shift_of_all_items_is_reported_if_no_single_item_differs_enough() -> None:
    agreement = of_b([-1, 0, 1], [-0.92, 0.08, 1.08])
    assert agreement.disagreements(RULES) == []
    (problem,) = agreement.problems(RULES)
    assert "differ in b by 0.80 standard errors" in problem


def test_item_is_not_compared_if_neither_engine_would_publish_its_estimate() -> None:
    """Correct engines differ in an item whose curve is too flat."""
    wild = {"wild": item(0.05, 9.0, b_se=4.0)}
    fits = [{"i0": item(1.0, 0.0)} | wild, {"i0": item(1.0, 0.0), "wild": item(0.01, -30.0, b_se=60.0)}]
    assert compare(ENGINES, *fits, RULES).item_ids == ("i0",)


def test_item_is_compared_if_an_engine_would_publish_its_estimate() -> None:
    """Otherwise an engine's wrong estimate would exclude its item from the comparison."""
    fits = [{"i0": item(1.0, 0.0)}, {"i0": item(0.05, 9.0, b_se=4.0)}]
    agreement = compare(ENGINES, *fits, RULES)
    assert agreement.item_ids == ("i0",)
    assert agreement.problems(RULES)


def test_items_that_a_single_engine_estimated_are_listed_and_not_compared() -> None:
    missing = item(None, None, flags=[Flag.NEGATIVE_DISCRIMINATION.value])
    fits = [{"i0": item(1.0, 0.0), "i1": item(1.0, 0.0)}, {"i0": item(1.0, 0.0), "i1": missing}]
    agreement = compare(ENGINES, *fits, RULES)
    assert (agreement.item_ids, agreement.only_one) == (("i0",), {"em": ("i1",)})


def test_engines_disagree_if_no_item_is_in_common() -> None:
    agreement = compare(ENGINES, {"i0": item(1.0, 0.0)}, {"i1": item(1.0, 0.0)}, RULES)
    assert agreement.problems(RULES) == ["they have no item in common"]


def test_engines_agree_without_a_correlation_if_the_model_fixes_discrimination() -> None:
    """In the Rasch model a is 1 with an error of 0 in both fits."""
    fits = [{f"i{j}": item(1.0, b, a_se=0.0) for j, b in enumerate((-1.0, 0.0, 1.0))} for _ in ENGINES]
    agreement = compare(ENGINES, *fits, RULES)
    assert np.isnan(agreement.a.correlation)
    assert (agreement.a.rms_standardized, agreement.problems(RULES)) == (0, [])


@pytest.mark.parametrize(
    ("engines", "left_out", "sentence"),
    [
        ((), {}, "no engine, nothing to compare"),
        (("em",), {}, "one engine, nothing to compare"),
        (("em",), {"mirt": "R stopped"}, "one engine, nothing to compare; mirt is left out: R stopped"),
    ],
)
def test_month_agrees_and_its_sentence_gives_the_reason_if_there_is_no_pair_of_engines(
    engines: tuple[str, ...], left_out: dict[str, str], sentence: str
) -> None:
    month = MonthAgreement(Scale("default"), engines, (), left_out)
    assert (month.sentence, month.agrees) == (sentence, True)
