"""Simulated responses to items with known parameters."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.simulation.from_items import simulate_responses
    from irt_psychometrics.simulation.scored_items import ScoredItems
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["ScoredItems", "simulate_responses"]
