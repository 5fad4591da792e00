"""Equate raw scores of two forms by the parameters of their items.

Equating by distributions of observed scores is in `score_equating`. Estimating items or a link does not belong here.
"""

from __future__ import annotations

from typing import Protocol, get_args

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.delta import SMALL_STEP, delta_errors
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, find_calibration, require_items, require_population
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.options import ItemMethod
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
from irt_psychometrics.scoring.sum_scores import nodes_of_forms, score_distributions

_NO_ERRORS = (
    "Errors are not known: joint_cov must contain the errors of both forms' items and of the link together; for fits, "
    "link=irt.link(new, old) contains it."
)
_OBSERVED = "equate_by_items by observed scores"


class Link(Protocol):
    """A `ScaleLink`: the constants that put θ of the new form on the old scale, and errors of these."""

    @property
    def slope(self) -> float:
        """The slope of θ."""

    @property
    def intercept(self) -> float:
        """The intercept of θ."""

    def joint_cov(self, new: ItemParameters, old: ItemParameters) -> Floats:
        """Return the covariance of the items of both forms and the constants."""


def equate_by_items(
    new: ItemSource,
    old: ItemSource,
    *,
    method: ItemMethod = "true-score",
    link: Link | None = None,
    slope: float = 1.0,
    intercept: float = 0.0,
    joint_cov: Floats | None = None,
    weight: float = 0.5,
    mean: float | None = None,
    sd: float | None = None,
) -> Equating:
    """Find the old form's equivalent of each raw score of the new form from the items' curves.

    True scores (Lord 1980, chapter 13): the score of the old form's test curve at the θ where the new form's has the
    raw score. Scores up to the sum of the c and the highest score are equated by a line from 0 and to the highest score
    of the old form (Kolen & Brennan 2014, section 6.5). Observed scores: equal percentiles of the two forms' scores in
    a synthetic population, by Lord & Wingersky's recursion.

    Parameters
    ----------
    new, old
        The items of both forms, each on its own scale: a `Fit` of the form, a `ScaleLink` (the new fit on the old
        scale), or `ItemParameters`. An item of both forms is given in both.
    method
        "true-score" or "observed-score".
    link
        The link of the new fit to the old one, as `irt.link(new, old)` returns it. It contains the slope, the intercept
        and the joint covariance. None: they are given, or both forms are on one scale.
    slope, intercept
        θ on the old scale = slope·θ + intercept. Leave both out if the items are on one scale.
    joint_cov
        Covariance of a, b and the further parameters (as in `ItemParameters.further_cov`; M of them for every item) of
        the new form's items in turn, then of the old form's, then of slope and intercept; shape (S, S) with
        S = (2 + M)(J_new + J_old) + 2. `ScaleLink.joint_cov` builds it for linked fits. None: errors are not known,
        because errors of forms and link depend on each other.
    weight
        For "observed-score": the share of the new form's population in the synthetic population, from 0 to 1. The rest
        is the population of the old form.
    mean, sd
        For "observed-score": mean and SD of θ in the population of each form, on the form's own scale. None: the
        populations of the fits; parameters of items contain no population.

    Returns
    -------
    Equating
        The equivalents, with errors by the delta method from the errors of both forms' items and of the link. NaN, and
        a note, if these are not known. Populations count as known.

    Raises
    ------
    PsychometricsError
        For an unknown method, an item without parameters or without a positive slope, a covariance of another shape,
        constants beside a link, and observed scores without a population.

    References
    ----------
    Lord, F. M. (1980). Applications of item response theory to practical testing problems. Hillsdale: Erlbaum.
    Lord, F. M. & Wingersky, M. S. (1984). Comparison of IRT true-score and equipercentile observed-score "equatings".
    Applied Psychological Measurement, 8, 453-461.
    Ogasawara, H. (2003). Asymptotic standard errors of IRT observed-score equating methods. Psychometrika, 68, 193-211.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.equating import equate_by_items
    >>> old = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [1, 1], "b": [0, 0]})
    >>> new = irt.ItemParameters.from_frame({"item": ["q3", "q4"], "a": [1, 1], "b": [1, 1]})
    >>> equate_by_items(new, old).equated.round(2).tolist()  # the new form is harder
    [0.0, 1.46, 2.0]
    """
    if method not in get_args(ItemMethod):
        raise PsychometricsError(f"no such method: {method!r}; there are {', '.join(get_args(ItemMethod))}")
    if not slope > 0 or not 0 <= weight <= 1:
        raise PsychometricsError(f"slope {slope:g} must be above 0, and weight {weight:g} from 0 to 1")
    forms = require_items(new, "equate_by_items"), require_items(old, "equate_by_items")
    for form, name in zip(forms, ("the new form", "the old form"), strict=True):
        require_curves(form, name)
    if link is not None:
        if find_calibration(new) is find_calibration(link):
            raise PsychometricsError(
                "the link has put the new form on the old scale: give the new fit itself, or no link"
            )
        if (slope, intercept) != (1.0, 0.0) or joint_cov is not None:
            raise PsychometricsError("link contains slope, intercept and joint_cov: give link or these, got both")
        slope, intercept, joint_cov = link.slope, link.intercept, link.joint_cov(*forms)
    by_curves = method == "true-score"
    if by_curves:
        equated = _by_true_scores(*forms, slope, intercept)
    else:
        own, other = (require_population(source, _OBSERVED, mean=mean, sd=sd) for source in (new, old))
        on_new_scale = forms[0].curves, forms[1].rescaled(1 / slope, -intercept / slope).curves
        theta, own_shares = nodes_of_forms(on_new_scale, own)
        old_theta, old_shares = nodes_of_forms((forms[0].rescaled(slope, intercept).curves, forms[1].curves), other)
        shares = np.append(weight * own_shares, (1 - weight) * old_shares)

        def by_observed_scores(value: tuple[tuple[ItemParameters, ...], Floats]) -> Floats:
            (first, second), (stretch, shift) = value
            both = np.append(theta, (old_theta - shift) / stretch)  # both populations, on the new form's scale
            return _by_observed_scores(first, second.rescaled(1 / stretch, -shift / stretch), both, shares)

        equated = by_observed_scores((forms, np.array([slope, intercept])))
    se, notes = np.full(equated.size, np.nan), [_NO_ERRORS]
    estimate = None if joint_cov is None else FormsWithErrors.from_forms(forms, (slope, intercept), joint_cov)
    if estimate is not None and np.isfinite(estimate.root).all():
        notes = []
        if by_curves:
            se = np.linalg.norm(_true_scores_by_parameters(*forms, slope, intercept) @ estimate.root, axis=1)
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
