"""Fit of the model to a whole form: M₂, RMSEA, CFI, TLI and SRMSR, from proportions correct of items and item pairs.

M₂ needs complete answers, so it is computed form by form. It uses only a form's items scored 0 and 1; C₂ (Cai & Monroe
2014), for items with more scores, is not implemented. `dependence` tests single pairs of items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import chdtrc

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.curves import by_asymptote_at, slope_at
from irt_psychometrics.core.item_models import items_where
from irt_psychometrics.core.models import Calibration, Population
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_p, format_value
from irt_psychometrics.itemfit.measure import Measure
from irt_psychometrics.itemfit.model_replicates import FittedData, FormPersons, complete_forms

MAX_ITEMS = 100
"""Largest number of tested items of a form. The covariance of 5,050 margins takes 0.2 GB and 3 CPU seconds; computing
time grows with the sixth power of the number of items (0.6 s for 60 items)."""
MIN_FORM = 200
"""Minimum number of persons of a form. With fewer, the margins are too far from normal for the χ² distribution."""
RMSEA_TAIL = 0.95
"""One-sided confidence level of each limit of the RMSEA: together they are the usual 90 % interval."""

_COLLINEAR = 1e-9
"""Smallest singular value of Δ that counts as a parameter, relative to the largest. A latent mean that only moves free
items adds no parameter."""


@dataclass(frozen=True)
class FormFit:
    """M₂ of one form, and indices of fit that follow from it.

    Attributes:
        items: indices of the form's tested items in the calibration's `item_ids`.
        n: number of persons who took the form.
        m2, df, p: M₂, which is χ² with df degrees of freedom under the model, and its upper tail.
        rmsea: RMSEA₂, misfit per degree of freedom with its limits; its size does not depend on n. Below 0.05 the fit
            is close.
        cfi, tli: comparative fit index, 0 … 1, and Tucker-Lewis index: improvement over independent items, 1 if the
            model fits. NaN if independent items fit.
        srmsr: root mean square difference between observed and expected correlations of items.
    """

    items: tuple[int, ...]
    n: int
    m2: float
    df: int
    p: float
    rmsea: Measure
    cfi: float
    tli: float
    srmsr: float


@dataclass(frozen=True, eq=False, repr=False)
class FormFits(Result):
    """Fit of the model to each of F forms, one row per form, the form with the most persons first.

    Without missing responses there is one form. F is 0 if no form can be tested.

    Attributes
    ----------
    forms
        F tuples with the names of the tested items.
    n
        Shape (F,), number of persons, who answered all items of the form.
    m2, df, p
        Shape (F,), M₂ (Maydeu-Olivares & Joe 2006), its degrees of freedom, and the upper tail of χ².
    rmsea, rmsea_low, rmsea_high
        Shape (F,), RMSEA₂ = √(max(0, M₂ − df)/(df (n − 1))) with its 90 % interval (Maydeu-Olivares & Joe 2014); below
        .05 the fit is close.
    cfi, tli
        Shape (F,), comparative fit index, 0 … 1, and Tucker-Lewis index, about 1 if the model fits. Both compare M₂
        with M₂ of independent items; NaN if independent items fit.
    srmsr
        Shape (F,), standardised root mean square residual: the root mean square difference between observed and
        expected correlations of items, ≥ 0; below .05 it is small.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> x = irt.datasets.two_forms()[0].responses
    >>> m2 = irt.fit(x, "2pl").fit_statistics(x).m2
    >>> m2.df.tolist(), m2.rmsea.round(2).tolist(), m2.cfi.round(2).tolist()
    ([405], [0.01], [1.0])
    """

    forms: tuple[tuple[str, ...], ...]
    n: Ints
    m2: Floats
    df: Ints
    p: Floats
    rmsea: Floats
    rmsea_low: Floats
    rmsea_high: Floats
    cfi: Floats
    tli: Floats
    srmsr: Floats
    frame_kind: str | None = None

    @classmethod
    def from_forms(cls, forms: Sequence[FormFit], item_ids: Sequence[str], frame_kind: str | None = None) -> "FormFits":
        """Make the table of the given forms.

        Parameters
        ----------
        forms
            The F forms.
        item_ids
            The calibration's items.
        frame_kind
            The kind of data frame that `to_frame` returns.

        Returns
        -------
        FormFits
            One row per form.
        """

        def column(name: str) -> Floats:
            return np.array([getattr(form, name) for form in forms], dtype=float)

        rmsea = [form.rmsea for form in forms]
        return cls(
            tuple(tuple(item_ids[j] for j in form.items) for form in forms),
            np.array([form.n for form in forms], dtype=np.int64),
            column("m2"),
            np.array([form.df for form in forms], dtype=np.int64),
            column("p"),
            np.array([found.value for found in rmsea]),
            np.array([found.low for found in rmsea]),
            np.array([found.high for found in rmsea]),
            column("cfi"),
            column("tli"),
            column("srmsr"),
            frame_kind,
        )

    def _title(self) -> str:
        return f"fit of {len(self.forms):,} form{'s' if len(self.forms) != 1 else ''}"

    def _facts(self) -> dict[str, str]:
        if not self.forms:
            return {}
        numbers = {"M₂": format_value(float(self.m2[0]), 2), "df": format_value(self.df[0])}
        numbers["p"] = format_p(float(self.p[0]))
        limits = format_value(float(self.rmsea_low[0])), format_value(float(self.rmsea_high[0]))
        numbers["RMSEA₂"] = f"{format_value(float(self.rmsea[0]))} ({' … '.join(limits)})"
        indices = {"CFI": self.cfi[0], "TLI": self.tli[0], "SRMSR": self.srmsr[0]}
        return numbers | {name: format_value(float(value)) for name, value in indices.items()}

    def _columns(self) -> dict[str, Any]:
        names = ("n", "m2", "df", "p", "rmsea", "rmsea_low", "rmsea_high", "cfi", "tli", "srmsr")
        return {"items": [len(form) for form in self.forms]} | {name: getattr(self, name) for name in names}

    def _notes(self) -> list[str]:
        if self.forms:
            return []
        reason = (
            f"M₂ needs {MIN_FORM} or more persons with answers to the same items scored 0 and 1, more items and pairs "
            "of items than parameters, and no two items with equal answers"
        )
        return [f"No form can be tested: {reason}."]


def form_fit(
    responses: Responses,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    most_items: int = MAX_ITEMS,
    most_forms: int | None = None,
) -> list[FormFit]:
    """Compute M₂ (Maydeu-Olivares & Joe 2005, 2006) of each form, the form with the most persons first.

    A form is a set of items that `MIN_FORM` or more persons saw, with more margins than parameters; other forms
    are omitted.

    Args:
        groups: the group of each person, n_persons labels, if the fit has groups. A form is then tested group by group.
        most_items: number of evenly spaced items that are tested of a form with more items. If the model holds for all
            items, it holds for any subset.
        most_forms: largest number of forms; those with the most persons are tested. None: all forms.

    Let e be observed − expected proportions of items and pairs, Ξ their covariance, and Δ their derivatives with
    respect to the form's parameters. M₂ = n eᵀ(Ξ⁻¹ − Ξ⁻¹Δ(ΔᵀΞ⁻¹Δ)⁻¹ΔᵀΞ⁻¹)e is valid for any consistent estimate of the
    parameters, including a calibration on all forms together. Anchors have no derivatives; estimated latent means and
    SDs have derivatives. The weights of a histogram have none: their 5 to 8 effective parameters can only make M₂ too
    small, by at most that number.

    CFI and TLI compare M₂ with M₂ of independent items with free proportions correct. There Ξ is diagonal in the
    margins' orthogonal form (x_i − p_i)(x_j − p_j), so M₂ is n times the sum of the squared correlations of items.
    """
    whole = FittedData.from_responses(responses, calibration, groups).scored_0_and_1
    found = []
    forms = sorted(complete_forms(whole, MIN_FORM), key=lambda form: -len(form.answers))
    for form in (_part(form, most_items) for form in forms[:most_forms]):
        if len(form.items) >= 2:
            margins = _margins(form, whole)
            m2, df = _m2(margins, len(form.answers))
            if df > 0:
                n = len(form.answers)
                rmsea = Measure.rmsea([m2], [df], [n], confidence=RMSEA_TAIL)
                places = tuple(int(j) for j in whole.place[form.items])
                indices = _indices(margins, n, m2, df)
                found.append(FormFit(places, n, m2, df, float(chdtrc(df, m2)), rmsea, **indices))
    return found


def _part(form: FormPersons, most_items: int) -> FormPersons:
    if len(form.items) <= most_items:
        return form
    places = np.linspace(0, len(form.items) - 1, most_items).round().astype(int)
    return FormPersons(form.items[places], form.group, form.answers[:, places])


class _Margins(NamedTuple):
    """Proportions correct of J items and then of the pairs i < j, and their model.

    `observed` and `expected` have shape (margins,); `covariance` is Ξ, and `derivatives` are Δ.
    """

    n_items: int
    observed: Floats
    expected: Floats
    covariance: Floats
    derivatives: Floats

    def correlations(self, proportions: Floats) -> Floats:
        """Compute the correlations of the pairs, shape (pairs,); NaN if an item's proportion is 0 or 1."""
        first, second = np.triu_indices(self.n_items, 1)
        items, pairs = proportions[: self.n_items], proportions[self.n_items :]
        variance = items * (1 - items)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = (pairs - items[first] * items[second]) / np.sqrt(variance[first] * variance[second])
        return found


def _margins(form: FormPersons, whole: FittedData) -> _Margins:
    fit, theta = whole.calibration.select(form.items), whole.abilities.nodes
    weights, population = whole.abilities.weights[form.group], whole.abilities.population[form.group]
    x, J = form.answers.astype(float), fit.n_items
    p = fit.curves.probability(theta)
    first, second = np.triu_indices(J, 1)
    pairs = p[:, first] * p[:, second]
    expected = weights @ np.hstack([p, pairs])
    joint = x.T @ x / len(x)
    return _Margins(
        J,
        np.concatenate([np.diag(joint), joint[first, second]]),
        expected,
        _margin_covariance(p, pairs, weights, expected, first, second),
        _derivatives(p, theta, weights, fit, population, first, second),
    )


def _m2(margins: _Margins, n: int) -> tuple[float, int]:
    """Compute M₂ of one form and its degrees of freedom; (0, 0) if there are no degrees of freedom."""
    root = cholesky(margins.covariance, lower=True, overwrite_a=True)
    e = solve_triangular(root, margins.observed - margins.expected, lower=True)
    left, size, _ = np.linalg.svd(solve_triangular(root, margins.derivatives, lower=True), full_matrices=False)
    span = left[:, size > _COLLINEAR * size.max(initial=1e-300)]
    df = len(e) - span.shape[1]
    if df < 1:
        return 0.0, 0
    return max(0.0, float(n * (e @ e - np.sum((span.T @ e) ** 2)))), df


def _indices(margins: _Margins, n: int, m2: float, df: int) -> dict[str, float]:
    """Compute CFI, TLI and SRMSR of one form, as R mirt does."""
    observed = margins.correlations(margins.observed)
    known = np.isfinite(observed)
    observed, expected = observed[known], margins.correlations(margins.expected)[known]
    alone, alone_df = n * float(observed @ observed), observed.size  # M₂ of independent items
    srmsr = float(np.sqrt(np.mean((observed - expected) ** 2))) if observed.size else float("nan")
    if alone <= alone_df:
        return {"cfi": float("nan"), "tli": float("nan"), "srmsr": srmsr}
    excess = max(m2 - df, 0.0)
    cfi = 1 - excess / max(alone - alone_df, excess)
    return {"cfi": cfi, "tli": (alone / alone_df - m2 / df) / (alone / alone_df - 1), "srmsr": srmsr}


def _margin_covariance(
    p: Floats, pairs: Floats, weights: Floats, expected: Floats, first: np.ndarray, second: np.ndarray
) -> Floats:
    """Compute Ξ, covariance of one person's 0/1 margins: P(all items of both are right) − product of expectations."""
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
    """Compute Δ, shape (margins, parameters): derivatives with respect to the estimated intercepts, slopes, c, latent
    mean and SD."""
    J = fit.n_items
    eta = np.multiply.outer(theta, fit.a) + fit.d
    by_logit = slope_at(eta, fit.c)
    free = ~np.isin(fit.item_ids, fit.anchored)
    curves = [
        (by_logit, free),
        (by_logit * theta[:, None], free & items_where(fit.models, lambda model: model.own_slopes)),
        (by_asymptote_at(eta), free & fit.item_model.guessed(J)),
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
    if population.mean_se != 0:  # a shift of the latent mean shifts every person's θ
        columns.append(weighted_sums(by_logit * fit.a))
    if population.sd_se != 0 or fit.item_model.fixed_slopes:
        columns.append(weighted_sums(by_logit * fit.a * ((theta - population.mean) / population.sd)[:, None]))
    return np.hstack(columns)
