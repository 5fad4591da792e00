"""Drift: items that moved against their published values, and the kind and severity of each change."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.category_changes import CategoryChanges
    from irt_psychometrics.drift.change_types import Change, ChangeKind, TimedAnswers
    from irt_psychometrics.drift.curves import CurveDifferences
    from irt_psychometrics.drift.errors import Comparison, Published
    from irt_psychometrics.drift.group_shift import ShiftAgainstAnchors
    from irt_psychometrics.drift.item_trends import Trends
    from irt_psychometrics.drift.items import Drift
    from irt_psychometrics.drift.proportion_correct import ProportionsCorrect
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "CategoryChanges",
    "Change",
    "ChangeKind",
    "Comparison",
    "CurveDifferences",
    "Drift",
    "ProportionsCorrect",
    "Published",
    "ShiftAgainstAnchors",
    "TimedAnswers",
    "Trends",
]
