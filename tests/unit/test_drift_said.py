"""A month's drift in a sentence."""

from __future__ import annotations

import pytest

from irt_assets.drift.shown import drift_said
from tests.helpers.drift_facts import drift_row


@pytest.mark.parametrize(("tau", "found"), [(0.18, "τ = 0.18"), (None, "they have no line in common")])
def test_a_bank_whose_items_vary_too_much_says_so_first(tau: float | None, found: str) -> None:
    rows = [drift_row("i1", "2026-09", 0.6, "high", tau=tau), drift_row("i2", "2026-09", 0.1, "none", tau=tau)]
    said = drift_said(rows)
    assert said.startswith(f"b of all items varies by more than drift allows for ({found}, item_variation_max = 0.1)")
    assert said.endswith("; 1 high, 0 medium of two items compared: i1")


def test_a_bank_whose_items_vary_as_they_may_is_not_spoken_of() -> None:
    assert drift_said([drift_row("i1", "2026-09", 0.1, "none")]) == "0 high, 0 medium of one item compared"
