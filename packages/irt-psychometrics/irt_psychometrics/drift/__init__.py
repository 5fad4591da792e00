"""Which items moved against their published values, how, and how much it matters."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.drift.curves import CurveDifferences
    from irt_psychometrics.drift.errors import Comparison, Fitted, Published, compare, with_errors
    from irt_psychometrics.drift.group_shift import GroupShift
    from irt_psychometrics.drift.item_trends import Trends, trends
    from irt_psychometrics.drift.items import Drift, judge
    from irt_psychometrics.drift.kinds import Answers, Change, Kind, classify_changes
    from irt_psychometrics.drift.proportion_correct import ProportionsCorrect, proportions_correct

__all__ = [
    "Answers",
    "Change",
    "Comparison",
    "CurveDifferences",
    "Drift",
    "Fitted",
    "GroupShift",
    "Kind",
    "ProportionsCorrect",
    "Published",
    "Trends",
    "classify_changes",
    "compare",
    "judge",
    "proportions_correct",
    "trends",
    "with_errors",
]

__getattr__ = names_when_used(__name__)
