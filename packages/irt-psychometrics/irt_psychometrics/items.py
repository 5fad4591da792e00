"""Items: their parameters, their models, priors, and the forms in which programs write them."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.arrays import finite
    from irt_psychometrics.core.confidence import Z95
    from irt_psychometrics.core.covariances import block_diagonal, mirrored, of_errors, widened, with_further
    from irt_psychometrics.core.curves import MEDIUM_WABC, probability
    from irt_psychometrics.core.item_models import (
        ITEM_MODELS,
        CountedScores,
        ItemCurves,
        OtherItems,
        item_model,
        model_of,
    )
    from irt_psychometrics.core.items import WHOLE_SLOPE, ItemRow, wabc
    from irt_psychometrics.core.meanings import Meaning, NameWithMeaning
    from irt_psychometrics.core.model_families import (
        GPCM,
        GUESSING_BOUNDS,
        PCM,
        RASCH,
        RSM,
        SLOPE_BOUND,
        THREE_PL,
        TWO_PL,
        ItemModel,
    )
    from irt_psychometrics.core.options import DEFAULT_MODEL, MAX_SCORE, MODELS, Model
    from irt_psychometrics.core.priors import (
        GUESSING_PRIOR,
        NO_PRIOR,
        Beta,
        LogitNormal,
        LogNormal,
        Normal,
        Priors,
        prior_as_text,
        prior_from_text,
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

__all__ = [
    "COLUMNS",
    "DEFAULT_MODEL",
    "GPCM",
    "GUESSING_BOUNDS",
    "GUESSING_PRIOR",
    "ITEM_MODELS",
    "MAX_SCORE",
    "MEDIUM_WABC",
    "MODELS",
    "NO_PRIOR",
    "OF_OTHER_MODELS",
    "PCM",
    "RASCH",
    "RSM",
    "SLOPE_BOUND",
    "STEPS_OR_GRADED",
    "THREE_PL",
    "TWO_PL",
    "WHOLE_SLOPE",
    "Z95",
    "Beta",
    "CountedScores",
    "Form",
    "ItemCurves",
    "ItemModel",
    "ItemRow",
    "LogNormal",
    "LogitNormal",
    "Meaning",
    "Model",
    "NameWithMeaning",
    "Normal",
    "OtherItems",
    "Priors",
    "block_diagonal",
    "columns_of",
    "finite",
    "form_of",
    "in_metric",
    "item_model",
    "log_odds_of",
    "may_be_graded",
    "mirrored",
    "model_of",
    "of_errors",
    "parameters_of",
    "prior_as_text",
    "prior_from_text",
    "probability",
    "require_known_model",
    "wabc",
    "widened",
    "with_further",
]

__getattr__ = names_when_used(__name__)
