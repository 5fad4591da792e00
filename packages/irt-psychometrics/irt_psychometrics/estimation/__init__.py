"""Item parameters and the distribution of ability from answers: marginal maximum likelihood and its errors."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.core.design import Component, Links, alike, components, require_connected
    from irt_psychometrics.core.errors import BreakdownError, DisconnectedDesignError, Refused, breakdowns_explained
    from irt_psychometrics.core.models import Convergence, Flag, Population, spread
    from irt_psychometrics.core.options import Latent, LatentRule
    from irt_psychometrics.core.quadrature import Grid
    from irt_psychometrics.core.testlets import Effects, number_testlets, share_testlets
    from irt_psychometrics.estimation.em import FitOptions, engine_version, fit_em, fit_source
    from irt_psychometrics.estimation.em_request import (
        EVERYONE,
        RULING_SHARE,
        Persons,
        checked_priors,
        given_parameters,
        no_common_scale,
        origin_of,
        require_items,
        require_persons,
        same_answers,
        some,
    )
    from irt_psychometrics.estimation.latent_shape import fit_with_shape
    from irt_psychometrics.estimation.levels import Earlier, assignment_correlation, fit_by_level
    from irt_psychometrics.estimation.marginal import largest_scaled_gradient
    from irt_psychometrics.estimation.movement import FEWEST_OCCASIONS, MOST_LEARNERS, GrowthByHalf, estimate_movement
    from irt_psychometrics.estimation.normality_test import normality
    from irt_psychometrics.estimation.occasions import LearnerWeeks
    from irt_psychometrics.estimation.parameter_layout import COMMON_SLOPE_FLOOR, LATENT_SD_BOUNDS
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
    from irt_psychometrics.estimation.standard_errors import VARIANCE_INFLATION_LIMIT, weakly_identified
    from irt_psychometrics.estimation.testlets import estimate_effect_sd

__all__ = [
    "COMMON_SLOPE_FLOOR",
    "EVERYONE",
    "FEWEST_OCCASIONS",
    "LATENT_SD_BOUNDS",
    "MOST_LEARNERS",
    "RULING_SHARE",
    "VARIANCE_INFLATION_LIMIT",
    "Answers",
    "BreakdownError",
    "Component",
    "Convergence",
    "Counts",
    "DisconnectedDesignError",
    "Earlier",
    "Effects",
    "Facts",
    "FitOptions",
    "Flag",
    "Grid",
    "GrowthByHalf",
    "InMemory",
    "LaidOut",
    "Latent",
    "LatentRule",
    "LearnerWeeks",
    "Links",
    "Listing",
    "Normality",
    "Persons",
    "Population",
    "Refused",
    "ResponseLayout",
    "Shape",
    "alike",
    "assignment_correlation",
    "breakdowns_explained",
    "checked_priors",
    "components",
    "engine_version",
    "estimate_effect_sd",
    "estimate_movement",
    "fit_by_level",
    "fit_em",
    "fit_source",
    "fit_with_shape",
    "given_parameters",
    "largest_scaled_gradient",
    "listed_answers",
    "no_common_scale",
    "normality",
    "number_testlets",
    "origin_of",
    "require_connected",
    "require_items",
    "require_persons",
    "same_answers",
    "share_testlets",
    "some",
    "spread",
    "thinned_shard",
    "weakly_identified",
]

__getattr__ = names_when_used(__name__)
