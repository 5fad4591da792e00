"""The registry of invariants explains itself, and its page is made from it."""

from __future__ import annotations

import pytest

from irt_assets.invariants.invariant import Invariant
from irt_assets.invariants.open_violations import SEVERITY
from irt_assets.invariants.registry import INVARIANTS


def test_every_invariant_has_a_name_of_its_own_and_every_severity_an_invariant() -> None:
    assert [one.name for one in INVARIANTS] == [*SEVERITY]


@pytest.mark.parametrize("one", INVARIANTS, ids=lambda one: one.name)
def test_every_invariant_says_what_it_protects_and_how_to_fix_it(one: Invariant) -> None:
    assert one.protects.endswith(".")
    assert one.fix.endswith(".")
    assert one.kind
