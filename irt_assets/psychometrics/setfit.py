"""Fit of the model to a whole form: M₂ and its RMSEA, from the proportions correct of items and pairs of items.

It needs complete answers; under planned missing forms it is computed form by form. Pairs one by one are in
`dependence`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import chdtrc, expit

from irt_assets.psychometrics.curves import probability
from irt_assets.psychometrics.design import seen_sets
from irt_assets.psychometrics.models import Calibration, Floats, Responses
from irt_assets.psychometrics.quadrature import Grid
from irt_assets.psychometrics.replicate import Fitted

MOST_ITEMS = 120
"""Of a form: the covariance of its 7260 margins takes 0.4 GB, and the work grows with the sixth power."""
SMALLEST_FORM = 200
"""Learners; with fewer the margins are too far from normal for their χ²."""


@dataclass(frozen=True)
class FormFit:
    """M₂ of one form.

    Attributes:
        items: places of the form's items in the calibration's `item_ids`.
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


def form_fit(responses: Responses, calibration: Calibration) -> list[FormFit]:
    """M₂ (Maydeu-Olivares & Joe 2005, 2006) of each form, the one with most learners first.

    A form is a set of items that `SMALLEST_FORM` or more learners saw, at most `MOST_ITEMS` large and with more
    margins than parameters; other forms are left out. With e = observed − expected proportions of items and pairs,
    Ξ their covariance and Δ their derivatives by the form's parameters,
    M₂ = n eᵀ(Ξ⁻¹ − Ξ⁻¹Δ(ΔᵀΞ⁻¹Δ)⁻¹ΔᵀΞ⁻¹)e, which does not depend on how the parameters were estimated as long as that
    was consistent: parameters calibrated on all forms together do.
    """
    whole = Fitted.of(responses, calibration)
    r = whole.responses
    sets = seen_sets(r)
    size = np.bincount(sets.of_person[sets.of_person >= 0], minlength=len(sets.start) - 1)
    found = []
    for form in np.flatnonzero(size >= SMALLEST_FORM):
        persons = np.flatnonzero(sets.of_person == form)
        length = int(sets.start[form + 1] - sets.start[form])
        if not 2 <= length <= MOST_ITEMS:
            continue
        rows = sets.row_start[persons][:, None] + np.arange(length)
        items = np.sort(sets.items[sets.start[form] : sets.start[form + 1]])
        x = np.take_along_axis(r.score[rows], np.argsort(r.item[rows], axis=1), axis=1).astype(float)
        result = _m2(x, whole.calibration.select(items))
        if result is not None:
            m2, df = result
            rmsea = float(np.sqrt(max(0.0, m2 - df) / (df * (len(persons) - 1))))
            places = tuple(int(j) for j in whole.place[items])
            found.append(FormFit(places, len(persons), m2, df, float(chdtrc(df, m2)), rmsea))
    return sorted(found, key=lambda f: -f.n)


def _m2(x: Floats, fit: Calibration) -> tuple[float, int] | None:
    """M₂ and its degrees of freedom for complete answers x (persons × items); None without degrees of freedom."""
    unit = Grid.spanning()
    theta, weights = fit.latent_mean + fit.latent_sd * unit.nodes, np.exp(unit.log_weights())
    p = probability(theta, fit.a, fit.d, fit.c)
    J = fit.n_items
    first, second = np.triu_indices(J, 1)
    derivatives = _derivatives(p, theta, weights, fit, first, second)
    df = J + len(first) - derivatives.shape[1]
    if df < 1:
        return None
    pairs = p[:, first] * p[:, second]
    expected = weights @ np.hstack([p, pairs])
    together = x.T @ x / len(x)
    error = np.concatenate([np.diag(together), together[first, second]]) - expected
    covariance = _margin_covariance(p, pairs, weights, expected, first, second)
    root = cholesky(covariance, lower=True, overwrite_a=True)
    e = solve_triangular(root, error, lower=True)
    delta = solve_triangular(root, derivatives, lower=True)
    q, _ = np.linalg.qr(delta)
    return float(len(x) * (e @ e - np.sum((q.T @ e) ** 2))), df


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
    p: Floats, theta: Floats, weights: Floats, fit: Calibration, first: np.ndarray, second: np.ndarray
) -> Floats:
    """Δ (margins, parameters) by the model's own parameters: intercepts, slopes (or the common one), c, latent SD."""
    J = fit.n_items
    logistic = expit(np.multiply.outer(theta, fit.a) + fit.d)
    by_logit = (1.0 - fit.c) * logistic * (1.0 - logistic)
    curves = [by_logit]
    if fit.model in ("2pl", "3pl"):
        curves.append(by_logit * theta[:, None])
    if fit.model == "3pl":
        curves.append(1.0 - logistic)
    rows = np.arange(len(first))
    blocks = []
    for curve in curves:
        block = np.zeros((J + len(first), J))
        block[np.arange(J), np.arange(J)] = weights @ curve
        cross = curve.T @ (weights[:, None] * p)
        block[J + rows, first] = cross[first, second]
        block[J + rows, second] = cross[second, first]
        blocks.append(block)
    if fit.model == "1pl":
        common = theta[:, None] * by_logit
    elif fit.model == "rasch":
        common = ((theta - fit.latent_mean) / fit.latent_sd)[:, None] * by_logit * fit.a
    else:
        return np.hstack(blocks)
    pair = common[:, first] * p[:, second] + common[:, second] * p[:, first]
    return np.hstack([*blocks, (weights @ np.hstack([common, pair]))[:, None]])
