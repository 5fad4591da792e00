"""New items: estimate unpublished items from few answers, choose who sees them, and forecast when they are ready."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.new_items.bank_prior import BankPrior
    from irt_psychometrics.new_items.choice import Choice, answer_information, choose_item, expected_gain
    from irt_psychometrics.new_items.estimates import NewItemEstimates, estimate_new_items
    from irt_psychometrics.new_items.forecast import Targets, days_to_precision
    from irt_psychometrics.new_items.persons import PersonPosteriors, theta_effects
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "BankPrior",
    "Choice",
    "NewItemEstimates",
    "PersonPosteriors",
    "Targets",
    "answer_information",
    "choose_item",
    "days_to_precision",
    "estimate_new_items",
    "expected_gain",
    "theta_effects",
]
