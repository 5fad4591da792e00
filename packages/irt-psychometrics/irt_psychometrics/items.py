"""Items: parameters, models, priors, and the forms in which other programs write item parameters."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.item_models import item_model
    from irt_psychometrics.core.items import ItemParameters, ItemRow
    from irt_psychometrics.core.model_families import ItemModel
    from irt_psychometrics.core.options import MAX_SCORE, Model, ScaleModel
    from irt_psychometrics.core.priors import Beta, LogitNormal, LogNormal, Normal, Priors
    from irt_psychometrics.core.program_forms import ProgramForm
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "MAX_SCORE",
    "Beta",
    "ItemModel",
    "ItemParameters",
    "ItemRow",
    "LogNormal",
    "LogitNormal",
    "Model",
    "Normal",
    "Priors",
    "ProgramForm",
    "ScaleModel",
    "item_model",
]
