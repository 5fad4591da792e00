"""Information of items and tests about θ, its loss through drift, and the cost of retiring items."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.information.functions import (
        Abilities,
        Information,
        InformationLoss,
        ItemLosses,
        LossOfTest,
    )
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["Abilities", "Information", "InformationLoss", "ItemLosses", "LossOfTest"]
