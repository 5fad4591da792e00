"""Information of items and tests on θ, what drift took from it, and what retiring items would cost."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.information.functions import (
        Abilities,
        ItemLosses,
        LossOfTest,
        Retirement,
        conditional_se,
        greatest_information,
        information_of_test,
        item_information,
        loss_of_test,
        losses_of_items,
        retire,
    )

__all__ = [
    "Abilities",
    "ItemLosses",
    "LossOfTest",
    "Retirement",
    "conditional_se",
    "greatest_information",
    "information_of_test",
    "item_information",
    "loss_of_test",
    "losses_of_items",
    "retire",
]

__getattr__ = names_when_used(__name__)
