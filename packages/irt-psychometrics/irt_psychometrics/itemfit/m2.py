"""Fit of the model to a whole form: M₂ and its RMSEA, from the proportions correct of items and pairs of items.

It needs complete answers; under planned missing forms it is computed form by form. A form is judged by its items scored
0 and 1: for items with more scores there is C₂ (Cai & Monroe 2014), which is not here. Pairs one by one are in
`dependence`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import chdtrc

from irt_psychometrics.core.curves import by_asymptote_at, slope_at
from irt_psychometrics.core.item_models import which
from irt_psychometrics.core.models import Calibration, Floats, Population
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.itemfit.model_replicates import Fitted, Form, complete_forms

MOST_ITEMS = 120
"""Most items of a form: the covariance of its 7260 margins takes 0.4 GB, and the work grows with the sixth power."""
SMALLEST_FORM = 200
"""Fewest learners of a form; with fewer the margins are too far from normal for their χ²."""

_COLLINEAR = 1e-9
"""Relative to the largest singular value of Δ: a latent mean that only moves free items adds no parameter."""


@dataclass(frozen=True)
class FormFit:
    """M₂ of one form.

    Attributes:
        items: places of the judged items of the form in the calibration's `item_ids`.
        n: learners who took it.
        m2, df, p: χ² with df degrees of freedom under the model, and its upper tail.
        rmsea: RMSEA₂ = √(max(0, M₂ − df)/(df (n − 1))), misfit per degree of freedom whatever n; below 0.05 close fit.
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
    most_items: int = MOST_ITEMS,
    most_forms: int | None = None,
) -> list[FormFit]:
    """M₂ (Maydeu-Olivares & Joe 2005, 2006) of each form, the one with most learners first.

    A form is a set of items that `SMALLEST_FORM` or more learners saw, with more margins than parameters; other forms
    are left out. A form of more than `most_items` items is judged by that many of them, evenly spaced: the model of
    the whole is the model of any part. `most_forms`: at most this many, the largest by learners.

    With e = observed − expected proportions of items and pairs, Ξ their covariance and Δ their derivatives by the
    form's parameters, M₂ = n eᵀ(Ξ⁻¹ − Ξ⁻¹Δ(ΔᵀΞ⁻¹Δ)⁻¹ΔᵀΞ⁻¹)e, which does not depend on how the parameters were
    estimated as long as that was consistent: parameters calibrated on all forms together do. Anchors have no
    derivatives, estimated latent means and SDs have. The weights of a histogram have none: their 5 to 8 effective
    parameters can only make M₂ too small, by as much at the most. Where the fit has groups, a form is tested group by
    group (`groups`: n_persons labels).
    """
    whole = Fitted.of(responses, calibration, groups).scored_0_and_1
    found = []
    forms = sorted(complete_forms(whole, SMALLEST_FORM), key=lambda form: -len(form.answers))
    for form in (_part(form, most_items) for form in forms[:most_forms]):
        if len(form.items) >= 2:
            m2, df = _m2(form, whole)
            if df > 0:
                n = len(form.answers)
                rmsea = float(np.sqrt(max(0.0, m2 - df) / (df * (n - 1))))
                places = tuple(int(j) for j in whole.place[form.items])
                found.append(FormFit(places, n, m2, df, float(chdtrc(df, m2)), rmsea))
    return found


def _part(form: Form, most_items: int) -> Form:
    if len(form.items) <= most_items:
        return form
    places = np.linspace(0, len(form.items) - 1, most_items).round().astype(int)
    return Form(form.items[places], form.group, form.answers[:, places])


def _m2(form: Form, whole: Fitted) -> tuple[float, int]:
    """M₂ of one form and its degrees of freedom; (0, 0) where there are none."""
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
    """Ξ, covariance of one learner's 0/1 margins: E of the product over the union of the items, less the product."""
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
    """Δ (margins, parameters) by what was estimated: intercepts, slopes (or the common one), c, latent mean and SD."""
    J = fit.n_items
    eta = np.multiply.outer(theta, fit.a) + fit.d
    by_logit = slope_at(eta, fit.c)
    free = ~np.isin(fit.item_ids, fit.anchored)
    curves = [
        (by_logit, free),
        (by_logit * theta[:, None], free & which(fit.models, lambda model: model.own_slopes)),
        (by_asymptote_at(eta), free & which(fit.models, lambda model: model.guesses)),
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

    def of_all(curve: Floats) -> Floats:
        pair = curve[:, first] * p[:, second] + curve[:, second] * p[:, first]
        return (weights @ np.hstack([curve, pair]))[:, None]

    alike = free & fit.item_model.common_slopes(J)
    if alike.any():
        columns.append(of_all(by_logit * theta[:, None] * alike))
    if population.mean_se != 0:  # moving the latent mean moves θ of everybody
        columns.append(of_all(by_logit * fit.a))
    if population.sd_se != 0 or fit.item_model.fixed_slopes:
        columns.append(of_all(by_logit * fit.a * ((theta - population.mean) / population.sd)[:, None]))
    return np.hstack(columns)
