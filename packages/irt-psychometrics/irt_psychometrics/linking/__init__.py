"""Link a fit to a scale through anchors, with errors and a test of the anchors' agreement."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.anchors import AnchorSet
    from irt_psychometrics.core.options import Method
    from irt_psychometrics.linking.constants_history import Jump, MonthConstants
    from irt_psychometrics.linking.linking import link_to_anchors
    from irt_psychometrics.linking.placement import AnchorLimits, Linking, LinkingError, Suspect
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "AnchorLimits",
    "AnchorSet",
    "Jump",
    "Linking",
    "LinkingError",
    "Method",
    "MonthConstants",
    "Suspect",
    "link_to_anchors",
]
