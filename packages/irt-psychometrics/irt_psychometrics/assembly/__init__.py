"""Assembly: choose the items of one or more forms so that rules hold and the information is best."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.assembly.design import FormDesign, SumLimit
    from irt_psychometrics.assembly.forms import AssembledForms, assemble
    from irt_psychometrics.core.linear_programs import InfeasibleError
else:
    __getattr__ = names_when_used(__name__)

__all__ = ["AssembledForms", "FormDesign", "InfeasibleError", "SumLimit", "assemble"]
