"""Lines of a proposal of movement on growth that is not linear."""

from __future__ import annotations

import pytest

from irt_assets.decisions.movement_proposal import proposal_lines
from irt_assets.ledger.movement_proposals import MovementProposal

PARTS = {"variance": 0.002, "growth": 0.006, "occasion_variance": 0.0}
DETAILS = {
    "learners": 300,
    "occasions": 15_600,
    "weeks": 52,
    "estimate": PARTS,
    "errors": PARTS,
    "p": PARTS,
    "log_likelihood": -100.0,
    "without_walk": -120.0,
    "intercepts": {},
    "effect": "Nobody gets another θ.",
}


def lines(**further) -> str:
    return "\n".join(proposal_lines(MovementProposal("s", "2026-06", **PARTS, details=DETAILS | further)))


@pytest.mark.parametrize(("p_second", "sentence"), [(1e-3, "the second is proposed"), (0.3, "neither is proposed")])
def test_proposal_states_both_halves_if_growth_is_not_linear(p_second, sentence):
    halves = {"first": 0.025, "second": 0.006, "p": 1e-9, "p_second": p_second}
    found = lines(growth_by_half=halves)
    assert "growth is not linear: 0.025 a week in the first half of learners' days, 0.006 in the second" in found
    assert f"(p = 1e-09 that they are equal); {sentence}, and the walk follows the difference" in found


@pytest.mark.parametrize(
    "further",
    [
        {"growth_by_half": {"first": 0.006, "second": 0.006, "p": 0.9, "p_second": 1e-9}},
        {"growth_by_half": None},
        {},
    ],
    ids=["linear growth", "no growth", "stored by an older release"],
)
def test_proposal_does_not_mention_halves_if_growth_is_linear(further):
    assert "not linear" not in lines(**further)
