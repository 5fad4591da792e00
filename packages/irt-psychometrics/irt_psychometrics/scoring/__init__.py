"""θ from answers and known item parameters, what it says of learners, and how reliable it is."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.movement import STILL, Movement
    from irt_psychometrics.core.options import OCCASIONS, Occasions
    from irt_psychometrics.scoring.abilities import Curves, Scores, eap_by, score
    from irt_psychometrics.scoring.forecasts import by_decile, excess_of, forecast, growth_since
    from irt_psychometrics.scoring.moving_ability import MovingScores, moving_eap
    from irt_psychometrics.scoring.progress import goal_probability, improvement, topic_differences, variance_since
    from irt_psychometrics.scoring.reliability import empirical_reliability, fitted_reliability
    from irt_psychometrics.scoring.total_error import ParameterErrors, common_errors

__all__ = [
    "OCCASIONS",
    "STILL",
    "Curves",
    "Movement",
    "MovingScores",
    "Occasions",
    "ParameterErrors",
    "Scores",
    "by_decile",
    "common_errors",
    "eap_by",
    "empirical_reliability",
    "excess_of",
    "fitted_reliability",
    "forecast",
    "goal_probability",
    "growth_since",
    "improvement",
    "moving_eap",
    "score",
    "topic_differences",
    "variance_since",
]

__getattr__ = names_when_used(__name__)
