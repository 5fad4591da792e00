"""Simulated logs with known truth and planted faults."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.simulation.from_items import simulate_responses
    from irt_psychometrics.simulation.response_log import simulate
    from irt_psychometrics.simulation.scenario import OPTIONS, Bank, demo_scenario
    from irt_psychometrics.simulation.scored_items import ScoredItems
    from irt_psychometrics.simulation.truth import Learners, SimulatedLog, Truth

__all__ = [
    "OPTIONS",
    "Bank",
    "Learners",
    "ScoredItems",
    "SimulatedLog",
    "Truth",
    "demo_scenario",
    "simulate",
    "simulate_responses",
]

__getattr__ = names_when_used(__name__)
