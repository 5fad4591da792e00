"""Item response theory: calibration with planned missing data, errors, anchors, linking, drift and DIF.

What is public stands in `__all__` of this package and of its modules responses, items, estimation, scoring, alignment,
linking, itemfit, classical, drift, dif, information, simulation and plots. Nothing here knows a database or a file.
"""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.errors import (
        ItemWarning,
        NotConvergedWarning,
        PsychometricsError,
        PsychometricsWarning,
    )
    from irt_psychometrics.core.items import ItemParameters
    from irt_psychometrics.core.models import Calibration, Responses
    from irt_psychometrics.core.priors import Beta, LogitNormal, LogNormal, Normal, Priors
    from irt_psychometrics.fitting import Fit, FitStatistics, Information, ItemTable, PersonScores, fit
    from irt_psychometrics.simulation.from_items import simulate_responses

__all__ = [
    "Beta",
    "Calibration",
    "Fit",
    "FitStatistics",
    "Information",
    "ItemParameters",
    "ItemTable",
    "ItemWarning",
    "LogNormal",
    "LogitNormal",
    "Normal",
    "NotConvergedWarning",
    "PersonScores",
    "Priors",
    "PsychometricsError",
    "PsychometricsWarning",
    "Responses",
    "fit",
    "simulate_responses",
]

__getattr__ = names_when_used(__name__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
