"""Equate raw scores of two forms by the parameters of their items.

Equating by distributions of observed scores is in `score_equating`. Estimating items or a link does not belong here.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.delta import SMALL_STEP, delta_errors
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.equating.continuous_scores import Percentiles
from irt_psychometrics.equating.score_equating import Equating
from irt_psychometrics.scoring.form_scores import (
    FormsWithErrors,
    expected_by_parameters,
    expected_scores,
    lowest_score,
    max_scores,
    require_curves,
    row_width,
    thetas_of_scores,
    widest_theta,
)
from irt_psychometrics.scoring.sum_scores import grid_of_form, score_distributions

ItemMethod = Literal["true-score", "observed-score"]

_NO_ERRORS = (
    "Errors are not known: joint_cov must contain the errors of both forms' items and of the link together, as "
    "`ScaleLink.joint_cov` returns them."
)


def equate_by_items(
    new: ItemParameters,
    old: ItemParameters,
    *,
    method: ItemMethod = "true-score",
    slope: float = 1.0,
    intercept: float = 0.0,
    joint_cov: Floats | None = None,
    weight: float = 0.5,
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
        S = (2 + M)(J_new + J_old) + 2. `ScaleLink.joint_cov` builds it for linked fits. None: errors are not known,
        because errors of forms and link depend on each other.
    weight
        For "observed-score": the share of the new group, θ ~ N(0, 1) on the new form's scale, in the synthetic
        population. The rest is N(0, 1) on the old scale.

    Returns
    -------
    Equating
        The equivalents, with errors by the delta method from the errors of both forms' items and of the link. NaN, and
        a note, if these are not known.

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
    moved = old.rescaled(1 / slope, -intercept / slope)
    widest = max(1.0, 1 / slope)  # SD of the synthetic population's groups on the new form's scale
    grid = max((grid_of_form(form.curves, widest) for form in (new, moved)), key=lambda grid: grid.nodes.size)
    shares = np.outer([weight, 1 - weight], np.exp(grid.log_weights())).ravel()

    def by_observed_scores(value: tuple[tuple[ItemParameters, ...], Floats]) -> Floats:
        (own, other), (stretch, shift) = value
        theta = np.concatenate([grid.nodes, (grid.nodes - shift) / stretch])  # both groups, on the new form's scale
        return _by_observed_scores(own, other.rescaled(1 / stretch, -shift / stretch), theta, shares)

    by_curves = method == "true-score"
    if by_curves:
        equated = _by_true_scores(new, old, slope, intercept)
    else:
        equated = by_observed_scores(((new, old), np.array([slope, intercept])))
    se, notes = np.full(equated.size, np.nan), [_NO_ERRORS]
    estimate = None if joint_cov is None else FormsWithErrors.from_forms((new, old), (slope, intercept), joint_cov)
    if estimate is not None and np.isfinite(estimate.root).all():
        notes = []
        if by_curves:
            se = np.linalg.norm(_true_scores_by_parameters(new, old, slope, intercept) @ estimate.root, axis=1)
        else:
            se = delta_errors(by_observed_scores, [estimate], [SMALL_STEP])
    scores = np.arange(equated.size, dtype=float)
    return Equating("item parameters", method, scores, equated, se, {}, tuple(notes))


def _by_true_scores(new: ItemParameters, old: ItemParameters, slope: float, intercept: float) -> Floats:
    highest, old_highest = max_scores(new).sum(), max_scores(old).sum()
    lowest, old_lowest = lowest_score(new), lowest_score(old)
    x = np.arange(highest + 1)
    inside = (x > lowest) & (x < highest)
    equated = np.where(x < highest, x * (old_lowest / lowest if lowest > 0 else 0.0), old_highest)
    equated[inside] = expected_scores(old, slope * thetas_of_scores(new, x[inside]) + intercept)
    return equated


def _true_scores_by_parameters(new: ItemParameters, old: ItemParameters, slope: float, intercept: float) -> Floats:
    """Compute derivatives of the equivalents with respect to the rows of `FormsWithErrors`, shape (K + 1, S).

    With the test curves T of the new form and U of the old form, T(θ) = x and e = U(slope·θ + intercept), so
    de = dU + U' d(slope·θ + intercept) with dθ = −dT/T'. Below the sum of the c, e is x times the ratio of both sums.
    """
    highest, lowest, old_lowest = max_scores(new).sum(), lowest_score(new), lowest_score(old)
    x, width = np.arange(highest + 1), row_width((new, old))
    inside, below = (x > lowest) & (x < highest), (x <= lowest) & (lowest > 0)
    theta = thetas_of_scores(new, x[inside])
    by_new = expected_by_parameters(new, theta, width)
    by_old = expected_by_parameters(old, slope * theta + intercept, width)
    steepness, old_steepness = (-by[:, 1::width].sum(axis=1)[:, None] for by in (by_new, by_old))  # ∂P/∂θ = −∂P/∂b
    found = np.zeros((x.size, by_new.shape[1] + by_old.shape[1] + 2))
    by_constants = old_steepness * np.column_stack([theta, np.ones(theta.size)])
    found[inside] = np.hstack([-slope * old_steepness / steepness * by_new, by_old, by_constants])
    if below.any():
        by_new, by_old = (
            expected_by_parameters(form, np.array([-widest_theta(form)]), width)[0] for form in (new, old)
        )
        found[below, :-2] = x[below, None] / lowest * np.append(-old_lowest / lowest * by_new, by_old)
    return found


def _by_observed_scores(new: ItemParameters, old: ItemParameters, theta: Floats, weights: Floats) -> Floats:
    """Equate in the population with these nodes of θ and `weights`, both of shape (Q,)."""
    new_shares, old_shares = (score_distributions(form.curves, theta) @ weights for form in (new, old))
    ranks = Percentiles(new_shares).cdf(np.arange(new_shares.size, dtype=float))
    return Percentiles(old_shares).quantile(ranks)
