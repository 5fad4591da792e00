"""Equate raw scores of two forms by the parameters of their items.

Equating by distributions of observed scores is in `score_equating`. Estimating items or a link does not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.delta import SMALL_STEP, delta_errors
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.equating.continuous_scores import Percentiles
from irt_psychometrics.equating.score_equating import Equating
from irt_psychometrics.scoring.form_scores import (
    FormsWithErrors,
    expected_scores,
    lowest_score,
    max_scores,
    require_curves,
    thetas_of_scores,
)
from irt_psychometrics.scoring.sum_scores import score_distributions

ItemMethod = Literal["true-score", "observed-score"]


def equate_by_items(
    new: ItemParameters,
    old: ItemParameters,
    *,
    method: ItemMethod = "true-score",
    slope: float = 1.0,
    intercept: float = 0.0,
    joint_cov: Floats | None = None,
    weight: float = 0.5,
    nodes: int = 61,
) -> Equating:
    """Find the old form's equivalent of each raw score of the new form from the items' curves.

    True scores (Lord 1980, chapter 13): the score of the old form's test curve at the θ where the new form's has the
    raw score. Scores up to the sum of the c and the highest score are equated by a line from 0 and to the highest score
    of the old form (Kolen & Brennan 2014, section 6.5). Observed scores: equal percentiles of the two forms' scores in
    a synthetic population, by Lord & Wingersky's recursion.

    Parameters
    ----------
    new, old
        The items of both forms, each on its own scale; an item of both forms is given in both.
    method
        "true-score" or "observed-score".
    slope, intercept
        θ on the old scale = slope·θ + intercept. Leave both out if the items are on one scale.
    joint_cov
        Covariance of a, b and the further parameters (as in `ItemParameters.further_cov`; M of them for every item) of
        the new form's items in turn, then of the old form's, then of slope and intercept; shape (S, S) with
        S = (2 + M)(J_new + J_old) + 2. None: from the items' own covariances, with a link without error.
    weight
        For "observed-score": the share of the new group, θ ~ N(0, 1) on the new form's scale, in the synthetic
        population. The rest is N(0, 1) on the old scale.
    nodes
        For "observed-score": the number of nodes of θ.

    Returns
    -------
    Equating
        The equivalents, with errors by the delta method from the errors of both forms' items and of the link; NaN if
        these are not known.

    Raises
    ------
    PsychometricsError
        For an unknown method, an item without parameters or without a positive slope, and a covariance of another
        shape.

    References
    ----------
    Lord, F. M. (1980). Applications of item response theory to practical testing problems. Hillsdale: Erlbaum.
    Lord, F. M. & Wingersky, M. S. (1984). Comparison of IRT true-score and equipercentile observed-score "equatings".
    Applied Psychological Measurement, 8, 453-461.
    Ogasawara, H. (2003). Asymptotic standard errors of IRT observed-score equating methods. Psychometrika, 68, 193-211.
    """
    if method not in get_args(ItemMethod):
        raise PsychometricsError(f"no such method: {method!r}; there are {', '.join(get_args(ItemMethod))}")
    if not slope > 0 or not 0 <= weight <= 1:
        raise PsychometricsError(f"slope {slope:g} must be above 0, and weight {weight:g} from 0 to 1")
    require_curves(new, "the new form")
    require_curves(old, "the old form")
    estimate = FormsWithErrors.from_forms((new, old), (slope, intercept), joint_cov)

    def equivalents(value: tuple[tuple[ItemParameters, ...], Floats]) -> Floats:
        (own, other), (stretch, shift) = value
        moved = other.rescaled(1 / stretch, -shift / stretch)  # on the new form's scale
        if method == "true-score":
            return _by_true_scores(own, moved)
        groups = ((weight, grid.nodes), (1 - weight, (grid.nodes - shift) / stretch))
        return _by_observed_scores(own, moved, groups, np.exp(grid.log_weights()))

    grid = Grid.symmetric(nodes)
    equated = equivalents(estimate.value)
    known = np.isfinite(estimate.root).all()
    se = delta_errors(equivalents, [estimate], [SMALL_STEP]) if known else np.full(equated.size, np.nan)
    return Equating("item parameters", method, np.arange(equated.size, dtype=float), equated, se, {})


def _by_true_scores(new: ItemParameters, old: ItemParameters) -> Floats:
    highest, old_highest = max_scores(new).sum(), max_scores(old).sum()
    lowest, old_lowest = lowest_score(new), lowest_score(old)
    x = np.arange(highest + 1)
    inside = (x > lowest) & (x < highest)
    equated = np.where(x < highest, x * (old_lowest / lowest if lowest > 0 else 0.0), old_highest)
    equated[inside] = expected_scores(old, thetas_of_scores(new, x[inside]))
    return equated


def _by_observed_scores(
    new: ItemParameters, old: ItemParameters, groups: Sequence[tuple[float, Floats]], node_weights: Floats
) -> Floats:
    """`groups` are the share in the synthetic population and the nodes of θ of each group."""
    new_shares, old_shares = (
        np.sum([share * score_distributions(form.curves, theta) @ node_weights for share, theta in groups], axis=0)
        for form in (new, old)
    )
    ranks = Percentiles(new_shares).cdf(np.arange(new_shares.size, dtype=float))
    return Percentiles(old_shares).quantile(ranks)
