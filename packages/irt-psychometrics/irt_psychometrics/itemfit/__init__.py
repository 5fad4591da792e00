"""How well a calibration describes the answers: of an item, a learner, a form, and of two windows compared."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.significance import p_of_skewness, q_values
    from irt_psychometrics.itemfit.dependence import FLAG_ABOVE_MEAN
    from irt_psychometrics.itemfit.fit_summary import FitSummary, summarise
    from irt_psychometrics.itemfit.growth import (
        PERIOD_DAYS,
        STRICT_ORDER,
        Growth,
        PlaceInOrder,
        WindowGrowth,
        days_since_first_answer,
        gone_into_difficulty,
        growth_by_place,
        growth_within,
        share_explained,
        without_growth,
    )
    from irt_psychometrics.itemfit.item_statistics import ItemFit, item_fit
    from irt_psychometrics.itemfit.item_sums import ItemSums
    from irt_psychometrics.itemfit.measure import Measure
    from irt_psychometrics.itemfit.misfit import Window
    from irt_psychometrics.itemfit.observed import Observed, observed_by_ability

__all__ = [
    "FLAG_ABOVE_MEAN",
    "PERIOD_DAYS",
    "STRICT_ORDER",
    "FitSummary",
    "Growth",
    "ItemFit",
    "ItemSums",
    "Measure",
    "Observed",
    "PlaceInOrder",
    "Window",
    "WindowGrowth",
    "days_since_first_answer",
    "gone_into_difficulty",
    "growth_by_place",
    "growth_within",
    "item_fit",
    "observed_by_ability",
    "p_of_skewness",
    "q_values",
    "share_explained",
    "summarise",
    "without_growth",
]

__getattr__ = names_when_used(__name__)
