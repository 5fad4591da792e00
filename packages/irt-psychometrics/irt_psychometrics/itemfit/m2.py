"""Fit of the model to a whole form: M₂ and its RMSEA, from the proportions correct of items and pairs of items.

M₂ needs complete answers, so it is computed form by form. It uses only a form's items scored 0 and 1; C₂ (Cai & Monroe
2014), for items with more scores, is not implemented. `dependence` tests single pairs of items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import chdtrc

from irt_psychometrics.core.curves import by_asymptote_at, slope_at
from irt_psychometrics.core.item_models import items_where
from irt_psychometrics.core.models import Calibration, Floats, Population
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.itemfit.model_replicates import FittedData, FormPersons, complete_forms

MAX_ITEMS = 120
"""Largest number of items of a form. The covariance of its 7260 margins needs 0.4 GB, and computing time grows with the
sixth power of the number of items."""
MIN_FORM = 200
"""Minimum number of learners of a form. With fewer, the margins are too far from normal for the χ² distribution."""

_COLLINEAR = 1e-9
"""Smallest singular value of Δ that counts as a parameter, relative to the largest. A latent mean that only moves free
items adds no parameter."""


@dataclass(frozen=True)
class FormFit:
    """M₂ of one form.

    Attributes:
        items: indices of the tested items of the form in the calibration's `item_ids`.
        n: number of learners who took the form.
        m2, df, p: M₂, which is χ² with df degrees of freedom under the model, and its upper tail.
        rmsea: RMSEA₂ = √(max(0, M₂ − df)/(df (n − 1))), misfit per degree of freedom, whose size does not depend on n;
            below 0.05 the fit is close.
    """

    items: tuple[int, ...]
    n: int
    m2: float
    df: int
    p: float
    rmsea: float


def form_fit(
    responses: Responses,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    most_items: int = MAX_ITEMS,
    most_forms: int | None = None,
) -> list[FormFit]:
    """M₂ (Maydeu-Olivares & Joe 2005, 2006) of each form, the form with the most learners first.

    A form is a set of items that `MIN_FORM` or more learners saw, with more margins than parameters; other forms
    are omitted.

    Args:
        groups: the group of each person, n_persons labels, if the fit has groups. A form is then tested group by group.
        most_items: number of evenly spaced items that are tested of a form with more items. If the model holds for all
            items, it holds for any subset.
        most_forms: largest number of forms; those with the most learners are tested. None: all forms.

    Let e be observed − expected proportions of items and pairs, Ξ their covariance, and Δ their derivatives with
    respect to the form's parameters. M₂ = n eᵀ(Ξ⁻¹ − Ξ⁻¹Δ(ΔᵀΞ⁻¹Δ)⁻¹ΔᵀΞ⁻¹)e is valid for any consistent estimate of the
    parameters, including a calibration on all forms together. Anchors have no derivatives; estimated latent means and
    SDs have derivatives. The weights of a histogram have none: their 5 to 8 effective parameters can only make M₂ too
    small, by at most that number.
    """
    whole = FittedData.from_responses(responses, calibration, groups).scored_0_and_1
    found = []
    forms = sorted(complete_forms(whole, MIN_FORM), key=lambda form: -len(form.answers))
    for form in (_part(form, most_items) for form in forms[:most_forms]):
        if len(form.items) >= 2:
            m2, df = _m2(form, whole)
            if df > 0:
                n = len(form.answers)
                rmsea = float(np.sqrt(max(0.0, m2 - df) / (df * (n - 1))))
                places = tuple(int(j) for j in whole.place[form.items])
                found.append(FormFit(places, n, m2, df, float(chdtrc(df, m2)), rmsea))
    return found


def _part(form: FormPersons, most_items: int) -> FormPersons:
    if len(form.items) <= most_items:
        return form
    places = np.linspace(0, len(form.items) - 1, most_items).round().astype(int)
    return FormPersons(form.items[places], form.group, form.answers[:, places])


def _m2(form: FormPersons, whole: FittedData) -> tuple[float, int]:
    """M₂ of one form and its degrees of freedom. Returns (0, 0) if there are no degrees of freedom."""
    fit, theta = whole.calibration.select(form.items), whole.abilities.nodes
    weights, population = whole.abilities.weights[form.group], whole.abilities.population[form.group]
    x, J = form.answers.astype(float), fit.n_items
    p = fit.curves.probability(theta)
    first, second = np.triu_indices(J, 1)
    derivatives = _derivatives(p, theta, weights, fit, population, first, second)
    pairs = p[:, first] * p[:, second]
    expected = weights @ np.hstack([p, pairs])
    joint = x.T @ x / len(x)
    error = np.concatenate([np.diag(joint), joint[first, second]]) - expected
    root = cholesky(_margin_covariance(p, pairs, weights, expected, first, second), lower=True, overwrite_a=True)
    e = solve_triangular(root, error, lower=True)
    left, size, _ = np.linalg.svd(solve_triangular(root, derivatives, lower=True), full_matrices=False)
    span = left[:, size > _COLLINEAR * size.max(initial=1e-300)]
    df = len(e) - span.shape[1]
    if df < 1:
        return 0.0, 0
    return float(len(x) * (e @ e - np.sum((span.T @ e) ** 2))), df


def _margin_covariance(
    p: Floats, pairs: Floats, weights: Floats, expected: Floats, first: np.ndarray, second: np.ndarray
) -> Floats:
    """Ξ, covariance of one learner's 0/1 margins: P(all items of both margins are right) − product of expectations."""
    J, M = p.shape[1], len(first)
    margins = np.hstack([p, pairs])
    out = margins.T @ (weights[:, None] * margins)
    place = np.zeros((J, J), dtype=np.int64)
    place[first, second] = place[second, first] = J + np.arange(M)
    one, two = expected[:J], np.zeros((J, J))
    two[first, second] = two[second, first] = expected[J:]
    np.fill_diagonal(two, one)
    np.fill_diagonal(out[:J, :J], one)
    for j in range(J):
        others = np.delete(np.arange(J), j)
        with_j = place[j, others]
        three = (p[:, others] * (weights * p[:, j])[:, None]).T @ p[:, others]
        np.fill_diagonal(three, two[j, others])
        out[np.ix_(with_j, with_j)] = three
        out[j, with_j] = out[with_j, j] = two[j, others]
    out -= np.multiply.outer(expected, expected)
    return out


def _derivatives(
    p: Floats,
    theta: Floats,
    weights: Floats,
    fit: Calibration,
    population: Population,
    first: np.ndarray,
    second: np.ndarray,
) -> Floats:
    """Δ, shape (margins, parameters): derivatives with respect to the estimated intercepts, slopes, c, latent mean and
    SD."""
    J = fit.n_items
    eta = np.multiply.outer(theta, fit.a) + fit.d
    by_logit = slope_at(eta, fit.c)
    free = ~np.isin(fit.item_ids, fit.anchored)
    curves = [
        (by_logit, free),
        (by_logit * theta[:, None], free & items_where(fit.models, lambda model: model.own_slopes)),
        (by_asymptote_at(eta), free & items_where(fit.models, lambda model: model.guesses)),
    ]
    rows = np.arange(len(first))
    columns = []
    for curve, has in curves:
        block = np.zeros((J + len(first), J))
        block[np.arange(J), np.arange(J)] = weights @ curve
        cross = curve.T @ (weights[:, None] * p)
        block[J + rows, first] = cross[first, second]
        block[J + rows, second] = cross[second, first]
        columns.append(block[:, has])

    def weighted_sums(curve: Floats) -> Floats:
        pair = curve[:, first] * p[:, second] + curve[:, second] * p[:, first]
        return (weights @ np.hstack([curve, pair]))[:, None]

    alike = free & fit.item_model.common_slopes(J)
    if alike.any():
        columns.append(weighted_sums(by_logit * theta[:, None] * alike))
    if population.mean_se != 0:  # a shift of the latent mean shifts every learner's θ
        columns.append(weighted_sums(by_logit * fit.a))
    if population.sd_se != 0 or fit.item_model.fixed_slopes:
        columns.append(weighted_sums(by_logit * fit.a * ((theta - population.mean) / population.sd)[:, None]))
    return np.hstack(columns)
