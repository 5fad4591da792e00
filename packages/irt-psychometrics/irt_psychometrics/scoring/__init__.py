"""Scoring: θ, constant or moving, from answers and known item parameters, with its standard errors."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.movement import Movement
    from irt_psychometrics.scoring.abilities import Curves, Scores, estimate_abilities
    from irt_psychometrics.scoring.classification import Classification
    from irt_psychometrics.scoring.moving_ability import theta_now
    from irt_psychometrics.scoring.reliability import fitted_reliability
    from irt_psychometrics.scoring.rest_posterior import rest_abilities
    from irt_psychometrics.scoring.score_table import ScoreScale, ScoreTable, normal_deviates, percentile_ranks
    from irt_psychometrics.scoring.total_error import ParameterErrors
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "Classification",
    "Curves",
    "Movement",
    "ParameterErrors",
    "ScoreScale",
    "ScoreTable",
    "Scores",
    "estimate_abilities",
    "fitted_reliability",
    "normal_deviates",
    "percentile_ranks",
    "rest_abilities",
    "theta_now",
]
