"""Items: their parameters, their models, priors, and the forms in which programs write them."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.arrays import finite
    from irt_psychometrics.core.covariances import of_errors
    from irt_psychometrics.core.curves import probability
    from irt_psychometrics.core.item_models import (
        item_model,
        model_of,
    )
    from irt_psychometrics.core.items import WHOLE_SLOPE, ItemRow
    from irt_psychometrics.core.model_families import (
        GPCM,
        PCM,
        RASCH,
        TWO_PL,
    )
    from irt_psychometrics.core.options import DEFAULT_MODEL, MAX_SCORE, Model
    from irt_psychometrics.core.priors import (
        Beta,
        LogitNormal,
        LogNormal,
        Normal,
        Priors,
    )
    from irt_psychometrics.core.program_forms import (
        COLUMNS,
        OF_OTHER_MODELS,
        STEPS_OR_GRADED,
        Form,
        columns_of,
        form_of,
        in_metric,
        log_odds_of,
        may_be_graded,
        parameters_of,
        require_known_model,
    )
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "COLUMNS",
    "DEFAULT_MODEL",
    "GPCM",
    "MAX_SCORE",
    "OF_OTHER_MODELS",
    "PCM",
    "RASCH",
    "STEPS_OR_GRADED",
    "TWO_PL",
    "WHOLE_SLOPE",
    "Beta",
    "Form",
    "ItemRow",
    "LogNormal",
    "LogitNormal",
    "Model",
    "Normal",
    "Priors",
    "columns_of",
    "finite",
    "form_of",
    "in_metric",
    "item_model",
    "log_odds_of",
    "may_be_graded",
    "model_of",
    "of_errors",
    "parameters_of",
    "probability",
    "require_known_model",
]
