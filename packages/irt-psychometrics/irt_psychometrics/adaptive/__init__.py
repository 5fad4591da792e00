"""Adaptive tests: choose the next item, simulate tests, and the posterior distribution of a bank's items."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.adaptive.declaration import AdaptiveTest, ItemLimit
    from irt_psychometrics.adaptive.item_posterior import ItemPosterior
    from irt_psychometrics.adaptive.plan import SelectionPlan, Step
    from irt_psychometrics.adaptive.simulation import SimulatedTests, simulate_tests
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["AdaptiveTest", "ItemLimit", "ItemPosterior", "SelectionPlan", "SimulatedTests", "Step", "simulate_tests"]
