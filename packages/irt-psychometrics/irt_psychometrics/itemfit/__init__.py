"""Fit of a calibration to the answers: of items, learners, forms, and of one window compared with another."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.itemfit.fit_summary import FitSummary
    from irt_psychometrics.itemfit.growth import Growth, WindowGrowth
    from irt_psychometrics.itemfit.item_statistics import ItemFit, item_fit
    from irt_psychometrics.itemfit.item_sums import ItemSums
    from irt_psychometrics.itemfit.measure import Measure
    from irt_psychometrics.itemfit.misfit import Window
    from irt_psychometrics.itemfit.observed import Observed
    from irt_psychometrics.itemfit.option_curves import OptionCurves, fit_options
    from irt_psychometrics.itemfit.person_patterns import person_fit
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "FitSummary",
    "Growth",
    "ItemFit",
    "ItemSums",
    "Measure",
    "Observed",
    "OptionCurves",
    "Window",
    "WindowGrowth",
    "fit_options",
    "item_fit",
    "person_fit",
]
