"""The registry of invariants: names, severities and explanations."""

from __future__ import annotations

import pytest

from irt_assets.invariants.invariant import Invariant
from irt_assets.invariants.open_violations import SEVERITY
from irt_assets.invariants.registry import INVARIANTS


def test_names_of_invariants_equal_the_names_with_a_severity() -> None:
    assert [one.name for one in INVARIANTS] == [*SEVERITY]


@pytest.mark.parametrize("one", INVARIANTS, ids=lambda one: one.name)
def test_every_invariant_has_sentences_on_its_purpose_and_its_remedy(one: Invariant) -> None:
    assert one.protects.endswith(".")
    assert one.fix.endswith(".")
    assert one.kind
