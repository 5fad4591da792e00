"""Which items function differently for groups of learners of equal ability."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.dif.analysis import ENOUGH, TESTABLE, Dif, Group, analyse_dif, with_common_q
    from irt_psychometrics.dif.mantel import Mantel
    from irt_psychometrics.dif.mantel_haenszel import MantelHaenszel
    from irt_psychometrics.dif.wald import Wald, severity_of

__all__ = [
    "ENOUGH",
    "TESTABLE",
    "Dif",
    "Group",
    "Mantel",
    "MantelHaenszel",
    "Wald",
    "analyse_dif",
    "severity_of",
    "with_common_q",
]

__getattr__ = names_when_used(__name__)
