"""Item statistics of classical test theory, which need no model."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.classical.form_statistics import FormStatistics
    from irt_psychometrics.classical.item_analysis import ItemAnalysis, analyse_items
    from irt_psychometrics.classical.key_evidence import KeyEvidence
    from irt_psychometrics.classical.option_statistics import OptionStatistics
    from irt_psychometrics.classical.subscore_values import Subscores, subscores
    from irt_psychometrics.core.choices import Choices
    from irt_psychometrics.core.classical import item_rest_correlation, proportion_correct
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "Choices",
    "FormStatistics",
    "ItemAnalysis",
    "KeyEvidence",
    "OptionStatistics",
    "Subscores",
    "analyse_items",
    "item_rest_correlation",
    "proportion_correct",
    "subscores",
]
