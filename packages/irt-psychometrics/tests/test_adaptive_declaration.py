"""Declarations of adaptive tests that contradict themselves are refused."""

from __future__ import annotations

from typing import Any

import pytest

from irt_psychometrics import PsychometricsError
from irt_psychometrics.adaptive import AdaptiveTest, ItemLimit


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"method": "hardest"}, "method must be one of maximum-information, .*"),
        ({"cut_rule": "guess"}, "cut_rule must be one of sprt, interval"),
        ({"false_pass": 0.0}, r"false_pass must be a share between 0 and 1, got 0\.0"),
        ({"max_exposure": 1.5}, r"max_exposure must be a share between 0 and 1, got 1\.5"),
        ({"false_pass": 0.5, "false_fail": 0.5}, "false_pass and false_fail must have a sum below 1"),
        ({"min_items": 11}, "a test needs 1 ≤ min_items ≤ max_items, got 11 and 10"),
        ({"randomesque": 0}, "randomesque, indifference and max_se must be positive.*"),
        ({"exposure_cuts": (1.0, 0.0)}, r"exposure_cuts must increase, got \(1\.0, 0\.0\)"),
    ],
)
def test_adaptive_test_is_refused_if_its_rules_contradict_each_other(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(PsychometricsError, match=f"^{message}$"):
        AdaptiveTest(max_items=10, **rules)


@pytest.mark.parametrize("limits", [(-1, None), (3, 2)])
def test_limits_of_a_group_are_refused_if_they_are_not_a_range(limits: tuple[int, int | None]) -> None:
    with pytest.raises(PsychometricsError, match=f"the limits of algebra must satisfy 0 ≤ {limits[0]} ≤ {limits[1]}"):
        ItemLimit("algebra", ("q1",), *limits)
