"""Comparison of rows and records of two engines: numbers approximately, other values exactly."""

from __future__ import annotations

from typing import Any

import pytest

EQUAL = 1e-9
"""Tolerance for numbers of two engines. Both return doubles, and only sums and logarithms differ in their last bits."""


def flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a record's leaves by path."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def parted(leaves: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Split leaves into other values and numbers."""
    numbers = {path: value for path, value in leaves.items() if isinstance(value, float)}
    return {path: value for path, value in leaves.items() if path not in numbers}, numbers


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Assert that two sets of records by learner are equal."""
    assert list(one) == list(other)
    for user in one:
        (words, numbers), (other_words, other_numbers) = (parted(flat(record[user])) for record in (one, other))
        assert words == other_words, user
        assert numbers == pytest.approx(other_numbers, abs=EQUAL, rel=0), user
