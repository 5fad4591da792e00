"""Item parameters and the distribution of ability from answers: marginal maximum likelihood and its errors."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.design import Links
    from irt_psychometrics.core.models import Convergence, Flag, Population
    from irt_psychometrics.core.options import Latent, LatentRule
    from irt_psychometrics.core.testlets import Effects, number_testlets, share_testlets
    from irt_psychometrics.estimation.em import FitOptions, fit_em, fit_source
    from irt_psychometrics.estimation.em_request import (
        EVERYONE,
        Persons,
    )
    from irt_psychometrics.estimation.external import Estimates, ExternalFit
    from irt_psychometrics.estimation.integrated import MarginalLikelihood
    from irt_psychometrics.estimation.latent_shape import fit_with_shape
    from irt_psychometrics.estimation.levels import Earlier, assignment_correlation, fit_by_level
    from irt_psychometrics.estimation.movement import MovementEstimate
    from irt_psychometrics.estimation.normality_test import normality
    from irt_psychometrics.estimation.occasions import LearnerWeeks
    from irt_psychometrics.estimation.response_layout import (
        Answers,
        Counts,
        Facts,
        Listing,
        ResponseLayout,
        listed_answers,
        thinned_shard,
    )
    from irt_psychometrics.estimation.shape import Normality, Shape
    from irt_psychometrics.estimation.source import InMemory, LaidOut
    from irt_psychometrics.estimation.testlets import estimate_effect_sd

__all__ = [
    "EVERYONE",
    "Answers",
    "Convergence",
    "Counts",
    "Earlier",
    "Effects",
    "Estimates",
    "ExternalFit",
    "Facts",
    "FitOptions",
    "Flag",
    "InMemory",
    "LaidOut",
    "Latent",
    "LatentRule",
    "LearnerWeeks",
    "Links",
    "Listing",
    "MarginalLikelihood",
    "MovementEstimate",
    "Normality",
    "Persons",
    "Population",
    "ResponseLayout",
    "Shape",
    "assignment_correlation",
    "estimate_effect_sd",
    "fit_by_level",
    "fit_em",
    "fit_source",
    "fit_with_shape",
    "listed_answers",
    "normality",
    "number_testlets",
    "share_testlets",
    "thinned_shard",
]

__getattr__ = names_when_used(__name__)
