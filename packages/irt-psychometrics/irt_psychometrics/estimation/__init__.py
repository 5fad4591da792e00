"""Estimate item parameters and the distribution of ability by marginal maximum likelihood, with standard errors."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.models import Convergence, Flag, Population
    from irt_psychometrics.core.options import Latent, LatentRule
    from irt_psychometrics.core.testlets import Effects
    from irt_psychometrics.estimation.ability_growth import MovementEstimate
    from irt_psychometrics.estimation.em import FitOptions, FitRequest, fit_em
    from irt_psychometrics.estimation.external import Estimates, ExternalFit
    from irt_psychometrics.estimation.integrated import MarginalLikelihood
    from irt_psychometrics.estimation.latent_shape import Shape
    from irt_psychometrics.estimation.levels import EarlierAnswers
    from irt_psychometrics.estimation.normality_test import Normality, normality
    from irt_psychometrics.estimation.occasions import LearnerWeeks
    from irt_psychometrics.estimation.remote import RemoteAnswers, ShardWork
    from irt_psychometrics.estimation.testlets import estimate_effect_sd
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "Convergence",
    "EarlierAnswers",
    "Effects",
    "Estimates",
    "ExternalFit",
    "FitOptions",
    "FitRequest",
    "Flag",
    "Latent",
    "LatentRule",
    "LearnerWeeks",
    "MarginalLikelihood",
    "MovementEstimate",
    "Normality",
    "Population",
    "RemoteAnswers",
    "Shape",
    "ShardWork",
    "estimate_effect_sd",
    "fit_em",
    "normality",
]
