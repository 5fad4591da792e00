"""Equate raw scores of two forms by the parameters of their items.

Equating by distributions of observed scores is in `score_equating`. This module estimates no item parameters and no link.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy.special import expit, logit

from irt_psychometrics.core import covariances
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.equating.continuous_scores import Percentiles
from irt_psychometrics.equating.delta import SMALL_STEP, delta_errors
from irt_psychometrics.equating.score_equating import Equating
from irt_psychometrics.scoring.sum_scores import distribution_of_points

ItemMethod = Literal["true-score", "observed-score"]

_HALVINGS = 60
_WIDEST = 700.0
"""The largest |a·θ| at which a curve is evaluated."""


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
        The items of both forms, each on its own scale; an item in both forms stands in both.
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
        The equivalents, with errors by the delta method from the errors of both forms' items and of the link.

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
    for form, called in ((new, "new"), (old, "old")):
        wrong = [
            item
            for item, a, d, c in zip(form.item_ids, form.a, form.d, form.c, strict=True)
            if not (a > 0 and np.isfinite(d + c))
        ]
        if wrong or not form.item_ids:
            raise PsychometricsError(
                f"the {called} form has {some_of(wrong) if wrong else 'no items'}: equating by items needs parameters"
                " with a slope above 0 of every item"
            )
    forms = _Forms(new, old, slope, intercept, _root(new, old, joint_cov))
    if method == "true-score":
        equated = _by_true_scores(forms)
        se = delta_errors(_by_true_scores, [forms], [SMALL_STEP])
    else:
        grid = Grid.symmetric(nodes)

        def by_distributions(some: _Forms) -> Floats:
            return _by_observed_scores(some, grid, weight)

        equated = by_distributions(forms)
        se = delta_errors(by_distributions, [forms], [SMALL_STEP])
    return Equating("item parameters", method, np.arange(equated.size, dtype=float), equated, se, {})


@dataclass(frozen=True)
class _Forms:
    """Both forms' items and the link, with a root of their covariance."""

    new: ItemParameters
    old: ItemParameters
    slope: float
    intercept: float
    root: Floats

    @property
    def value(self) -> _Forms:
        return self

    @property
    def columns(self) -> int:
        return self.root.shape[1]

    def varied(self, column: int, steps: float) -> _Forms:
        *by_item, slope, intercept = steps * self.root[:, column]
        per_item = np.reshape(by_item, (len(self.new.a) + len(self.old.a), -1))
        return replace(
            self,
            new=_moved(self.new, per_item[: len(self.new.a)]),
            old=_moved(self.old, per_item[len(self.new.a) :]),
            slope=self.slope + slope,
            intercept=self.intercept + intercept,
        )


def _moved(items: ItemParameters, by: Floats) -> ItemParameters:
    """The items with a, b and the further parameters changed by `by`, shape (J, 2 + M)."""
    with np.errstate(divide="ignore"):
        c = expit(logit(items.c) + by[:, 2]) if by.shape[1] > 2 else items.c
    others = tuple(
        replace(some, further=some.further + by[some.at, 2 : 2 + len(some.further)].T) for some in items.others
    )
    return replace(items, a=items.a + by[:, 0], b=items.b + by[:, 1], c=c, others=others)


def _root(new: ItemParameters, old: ItemParameters, joint_cov: Floats | None) -> Floats:
    further = max(new.n_further, old.n_further)
    size = (2 + further) * (len(new.a) + len(old.a)) + 2
    if joint_cov is None:
        joint_cov = np.zeros((size, size))
        joint_cov[:-2, :-2] = covariances.block_diagonal(
            np.concatenate([_padded_cov(form, further) for form in (new, old)])
        )
        for form, start in ((new, 0), (old, len(new.a))):
            own = ((2 + further) * (start + np.arange(len(form.a)))[:, None] + np.arange(2)).ravel()
            joint_cov[np.ix_(own, own)] = form.joint_cov
    if joint_cov.shape != (size, size):
        raise PsychometricsError(
            f"joint_cov has shape {joint_cov.shape}; the two forms, with {further} further parameters an item, and the"
            f" link need ({size}, {size})"
        )
    values, vectors = np.linalg.eigh(joint_cov)
    kept = values > 1e-14 * values.max(initial=0.0)
    root: Floats = vectors[:, kept] * np.sqrt(values[kept])
    return root


def _padded_cov(items: ItemParameters, further: int) -> Floats:
    own = covariances.padded(items.further_cov, len(items.a), further)
    return covariances.with_further(items.cov_of_each, own)


def _max_scores(items: ItemParameters) -> Floats:
    return (items.curves.categories - 1).astype(float)


def _test_curve(items: ItemParameters, theta: Floats) -> Floats:
    """The expected raw score, shape (T,)."""
    return items.curve(theta) @ _max_scores(items)


def _by_true_scores(forms: _Forms) -> Floats:
    old = forms.old.rescaled(1 / forms.slope, -forms.intercept / forms.slope)  # on the new form's scale
    highest, old_highest = _max_scores(forms.new).sum(), _max_scores(old).sum()
    lowest, old_lowest = ((form.c * _max_scores(form)).sum() for form in (forms.new, old))
    x = np.arange(highest + 1)
    inside = (x > lowest) & (x < highest)
    equated = np.where(x < highest, x * (old_lowest / lowest if lowest > 0 else 0.0), old_highest)
    equated[inside] = _test_curve(old, _thetas(forms.new, x[inside]))
    return equated


def _thetas(items: ItemParameters, scores: Floats) -> Floats:
    """θ at which the test curve has each score, by halving an interval that contains all."""
    reach = _WIDEST / items.a.max()
    low, high = np.full(scores.shape, -reach), np.full(scores.shape, reach)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = _test_curve(items, middle) < scores
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _by_observed_scores(forms: _Forms, grid: Grid, weight: float) -> Floats:
    old = forms.old.rescaled(1 / forms.slope, -forms.intercept / forms.slope)
    log_weights = grid.log_weights()
    shares = []
    for form in (forms.new, old):
        by_group = [
            _score_shares(form, theta, np.exp(log_weights))
            for theta in (grid.nodes, (grid.nodes - forms.intercept) / forms.slope)
        ]
        shares.append(weight * by_group[0] + (1 - weight) * by_group[1])
    ranks = Percentiles(shares[0]).cdf(np.arange(shares[0].size, dtype=float))
    return Percentiles(shares[1]).quantile(ranks)


def _score_shares(items: ItemParameters, theta: Floats, weights: Floats) -> Floats:
    given, lowest = items.curves.score_tables(theta)
    by_score = distribution_of_points(np.exp(given), np.exp(lowest), items.curves.categories - 1)
    shares: Floats = by_score @ weights
    return shares
