"""Equating: scores of a new form on the scale of an old form's raw scores, with their standard errors."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.equating.irt_equating import equate_by_items
    from irt_psychometrics.equating.score_counts import ScoreCounts
    from irt_psychometrics.equating.score_equating import Equating, equate
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["Equating", "ScoreCounts", "equate", "equate_by_items"]
