"""The registry of invariants: names, severities and explanations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from irt_assets.gates.month_classification import MonthState, State
from irt_assets.invariants.invariant import Invariant, InvariantContext, NotTested, Violation
from irt_assets.invariants.months import every_month_is_green
from irt_assets.invariants.open_violations import SEVERITY
from irt_assets.invariants.registry import INVARIANTS


def test_names_of_invariants_equal_the_names_with_a_severity() -> None:
    assert [one.name for one in INVARIANTS] == [*SEVERITY]


@pytest.mark.parametrize("one", INVARIANTS, ids=lambda one: one.name)
def test_every_invariant_has_sentences_on_its_purpose_and_its_remedy(one: Invariant) -> None:
    assert one.protects.endswith(".")
    assert one.fix.endswith(".")
    assert one.kind


@pytest.mark.parametrize(
    ("states", "violations", "not_tested"),
    [
        ("empty empty empty", [], 1),
        ("empty empty green", [], 0),
        ("empty green empty", ["2026-08"], 0),
        ("empty missing green", ["2026-07"], 0),
    ],
)
def test_empty_months_before_the_first_answers_violate_nothing(
    states: str, violations: list[str], not_tested: int
) -> None:
    """Covers the months with which a new installation begins."""
    months = tuple(
        MonthState(month, "default", State(state), "so")
        for month, state in zip(("2026-06", "2026-07", "2026-08"), states.split(), strict=True)
    )
    nothing: Any = None
    found = list(every_month_is_green.find(InvariantContext(nothing, nothing, datetime.now(UTC), months)))
    assert [one.partition for one in found if isinstance(one, Violation)] == violations
    assert len([one for one in found if isinstance(one, NotTested)]) == not_tested
