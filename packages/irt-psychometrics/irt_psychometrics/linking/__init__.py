"""One fit put on the scale of another through anchors, and what the anchors say of that."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.anchors import AnchorSet
    from irt_psychometrics.core.options import Method
    from irt_psychometrics.linking.criteria import Pairs, solve
    from irt_psychometrics.linking.jump import FEWEST_MONTHS, Constants, Jump, jumps
    from irt_psychometrics.linking.linking import (
        assumed_errors,
        link,
        match,
        transform,
        weighted_by_populations,
        why_unusable,
    )
    from irt_psychometrics.linking.placement import ALIGNED, AnchorLimits, Linking, LinkingError, Suspect

__all__ = [
    "ALIGNED",
    "FEWEST_MONTHS",
    "AnchorLimits",
    "AnchorSet",
    "Constants",
    "Jump",
    "Linking",
    "LinkingError",
    "Method",
    "Pairs",
    "Suspect",
    "assumed_errors",
    "jumps",
    "link",
    "match",
    "solve",
    "transform",
    "weighted_by_populations",
    "why_unusable",
]

__getattr__ = names_when_used(__name__)
