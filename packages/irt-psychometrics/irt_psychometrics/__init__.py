"""Item response theory: calibration with planned missing data, errors, anchors, linking, drift and DIF.

The public names are those in `__all__` of this package and of its modules adaptive, alignment, assembly, cells,
classical, datasets, dif, drift, equating, estimation, information, itemfit, items, linking, new_items, plots,
responses, scoring and simulation. A module is imported when it is used: `irt_psychometrics.classical`. No module needs
a database.
"""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_of, names_when_used

if TYPE_CHECKING:
    from irt_psychometrics import (
        adaptive,
        alignment,
        assembly,
        cells,
        classical,
        datasets,
        dif,
        drift,
        equating,
        estimation,
        information,
        itemfit,
        items,
        linking,
        new_items,
        plots,
        responses,
        scoring,
        simulation,
    )
    from irt_psychometrics.comparison import ItemDifferences, ModelComparison, compare
    from irt_psychometrics.core.errors import (
        BreakdownError,
        ComparisonWarning,
        ItemWarning,
        LinkWarning,
        NotConvergedWarning,
        PsychometricsError,
        PsychometricsWarning,
    )
    from irt_psychometrics.core.items import ItemParameters
    from irt_psychometrics.core.models import Calibration
    from irt_psychometrics.core.priors import Beta, LogitNormal, LogNormal, Normal, Priors
    from irt_psychometrics.core.responses import Responses
    from irt_psychometrics.core.summary import Summary
    from irt_psychometrics.core.version import __version__ as __version__
    from irt_psychometrics.dimension_fits import DimensionScores, DimensionsFit
    from irt_psychometrics.dimensions.indices import Dimensionality
    from irt_psychometrics.dimensions.structure import Dimensions
    from irt_psychometrics.fitting import Fit, FitStatistics, InformationTable, ItemTable, PersonScores, fit
    from irt_psychometrics.itemfit.dependence import ResidualCorrelations
    from irt_psychometrics.itemfit.m2 import FormFits
    from irt_psychometrics.itemfit.person_patterns import PersonFit
    from irt_psychometrics.links import ItemDif, ItemDrift, ScaleLink, find_dif, find_drift, link
    from irt_psychometrics.regression.analysis import latent_regression
    from irt_psychometrics.regression.plausible import PlausibleValues
    from irt_psychometrics.regression.result import LatentRegression
    from irt_psychometrics.simulation.from_items import simulate_responses
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "Beta",
    "BreakdownError",
    "Calibration",
    "ComparisonWarning",
    "DimensionScores",
    "Dimensionality",
    "Dimensions",
    "DimensionsFit",
    "Fit",
    "FitStatistics",
    "FormFits",
    "InformationTable",
    "ItemDif",
    "ItemDifferences",
    "ItemDrift",
    "ItemParameters",
    "ItemTable",
    "ItemWarning",
    "LatentRegression",
    "LinkWarning",
    "LogNormal",
    "LogitNormal",
    "ModelComparison",
    "Normal",
    "NotConvergedWarning",
    "PersonFit",
    "PersonScores",
    "PlausibleValues",
    "Priors",
    "PsychometricsError",
    "PsychometricsWarning",
    "ResidualCorrelations",
    "Responses",
    "ScaleLink",
    "Summary",
    "compare",
    "find_dif",
    "find_drift",
    "fit",
    "latent_regression",
    "link",
    "simulate_responses",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *names_of(__name__)})
