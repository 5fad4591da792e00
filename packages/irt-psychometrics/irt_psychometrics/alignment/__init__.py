"""Alignment of items in two samples: the line between their scales, the items' variation, and the items that moved."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.alignment.common_line import Agreement, Alignment, Differences, align
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["Agreement", "Alignment", "Differences", "align"]
