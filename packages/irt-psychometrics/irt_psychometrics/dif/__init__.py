"""Differential item functioning (DIF): items that function differently for groups of learners of equal ability."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.dif.analysis import Dif, Group, WithinForms
    from irt_psychometrics.dif.wald import Wald
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["Dif", "Group", "Wald", "WithinForms"]
