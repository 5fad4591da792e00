"""Item response theory: calibration with planned missing data, errors, anchors, linking, drift and DIF.

What is public stands in `__all__` of this package and of its modules responses, items, estimation, scoring, alignment,
linking, itemfit, classical, drift, dif, information, simulation and plots. Nothing here knows a database or a file.
"""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.errors import PsychometricsError
    from irt_psychometrics.core.items import ItemParameters
    from irt_psychometrics.core.models import Calibration, Responses

__all__ = ["Calibration", "ItemParameters", "PsychometricsError", "Responses"]

__getattr__ = names_when_used(__name__)
