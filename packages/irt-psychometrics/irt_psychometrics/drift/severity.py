"""Severity of an item's change: none, medium or high."""

from typing import Literal

from irt_psychometrics.core.arrays import Floats

Severity = Literal["none", "medium", "high"]

FALSE_DISCOVERIES = 0.05


def grade_severity(size: Floats, medium: float, high: float) -> tuple[Severity, ...]:
    """Severity of J sizes: "high" above `high`, "medium" above `medium`, otherwise "none"."""
    return tuple("high" if x > high else "medium" if x > medium else "none" for x in size)
