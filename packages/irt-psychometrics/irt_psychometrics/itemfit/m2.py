"""Fit of the model to a whole form: M₂ or C₂, RMSEA, CFI, TLI and SRMSR, from low-order margins of the answers.

The margins of a form are the proportion of each score of an item above its lowest score, and the mean product of the
scores of each pair of items. With these, C₂ (Cai & Monroe 2014) tests forms with ordered scores; if all scores are 0
and 1, the margins are proportions correct, and C₂ is M₂. Both need complete answers, so they are computed form by form.
`dependence` tests single pairs of items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.special import chdtrc

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.models import Calibration
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
    """M₂ or C₂ of one form, and indices of fit that follow from it.

    Attributes:
        items: indices of the form's tested items in the calibration's `item_ids`.
        n: number of persons who took the form.
        m2, df, p: M₂, or C₂ if items have more scores than 0 and 1. It is χ² with df degrees of freedom under the
            model, and p is its upper tail.
        rmsea: RMSEA₂, misfit per degree of freedom with its limits; its size does not depend on n. Below 0.05 the fit
            is close.
        cfi, tli: comparative fit index, 0 … 1, and Tucker-Lewis index: improvement over independent items, 1 if the
            model fits. NaN if independent items fit.
        srmsr: root mean square difference between observed and expected correlations of items.
        scored: whether any item has more scores than 0 and 1.
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
    scored: bool


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
        Shape (F,), M₂ (Maydeu-Olivares & Joe 2006), its degrees of freedom, and the upper tail of χ². It is C₂ (Cai &
        Monroe 2014) if the form is `scored`.
    rmsea, rmsea_low, rmsea_high
        Shape (F,), RMSEA₂ = √(max(0, M₂ − df)/(df (n − 1))) with its 90 % interval (Maydeu-Olivares & Joe 2014); below
        .05 the fit is close.
    cfi, tli
        Shape (F,), comparative fit index, 0 … 1, and Tucker-Lewis index, about 1 if the model fits. Both compare M₂
        with M₂ of independent items; NaN if independent items fit.
    srmsr
        Shape (F,), standardised root mean square residual: the root mean square difference between observed and
        expected correlations of items, ≥ 0; below .05 it is small.
    scored
        Shape (F,), whether any item of the form has more scores than 0 and 1.

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
    scored: Mask
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
            np.array([form.scored for form in forms], dtype=bool),
            frame_kind,
        )

    def _title(self) -> str:
        return f"fit of {len(self.forms):,} form{'s' if len(self.forms) != 1 else ''}"

    def _facts(self) -> dict[str, str]:
        if not self.forms:
            return {}
        numbers = {"C₂" if self.scored[0] else "M₂": format_value(float(self.m2[0]), 2), "df": format_value(self.df[0])}
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
            f"M₂ and C₂ need {MIN_FORM} or more persons with answers to the same items, more scores above the lowest "
            "and pairs of items than parameters, and no two items with equal answers"
        )
        return [f"No form can be tested: {reason}."]


def have_mean_scores(model: ItemModel) -> bool:
    """Check whether mean scores of a model's items mean something, as C₂ and sums of scores need."""
    return model.ordered_scores


def forms_if_tested(
    responses: Responses,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    most_items: int,
    most_forms: int,
) -> list[FormFit] | None:
    """Test forms as `form_fit` does. Returns None if scores have no order, or if the equations cannot be solved."""
    if not have_mean_scores(calibration.item_model):
        return None
    try:
        return form_fit(responses, calibration, groups=groups, most_items=most_items, most_forms=most_forms)
    except LinAlgError:
        return None


def form_fit(
    responses: Responses,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    most_items: int = MAX_ITEMS,
    most_forms: int | None = None,
) -> list[FormFit]:
    """Compute M₂ (Maydeu-Olivares & Joe 2005, 2006) or C₂ of each form, the form with the most persons first.

    A form is a set of items that `MIN_FORM` or more persons saw, with more margins than parameters; other forms
    are omitted.

    Args:
        groups: the group of each person, n_persons labels, if the fit has groups. A form is then tested group by group.
        most_items: number of evenly spaced items that are tested of a form with more items. If the model holds for all
            items, it holds for any subset.
        most_forms: largest number of forms; those with the most persons are tested. None: all forms.

    Raises:
        PsychometricsError: the scores of an item have no order.

    Let e be observed − expected margins, Ξ their covariance, and Δ their derivatives with respect to the form's
    parameters. M₂ = n eᵀ(Ξ⁻¹ − Ξ⁻¹Δ(ΔᵀΞ⁻¹Δ)⁻¹ΔᵀΞ⁻¹)e is valid for any consistent estimate of the parameters, including
    a calibration on all forms together. Anchors have no derivatives; estimated latent means and SDs have derivatives.
    The weights of a histogram have none: their 5 to 8 effective parameters can only make M₂ too small, by at most that
    number.

    CFI and TLI compare M₂ with M₂ of independent items with free proportions of scores. There Ξ is diagonal in the
    margins' orthogonal form (x_i − m_i)(x_j − m_j), m being mean scores, so M₂ is n times the sum of the squared
    correlations of items.
    """
    calibration.item_model.require_ordered_scores("M₂")
    whole = FittedData.from_responses(responses, calibration, groups)
    found = []
    forms = sorted(
        complete_forms(whole.responses, whole.abilities.group, MIN_FORM), key=lambda form: -len(form.answers)
    )
    for form in (form.evenly_spaced(most_items) for form in forms[:most_forms]):
        if len(form.items) >= 2:
            fit = fit_of_margins(_margins(form, whole), whole.place[form.items], len(form.answers))
            found += [] if fit is None else [fit]
    return found


class Margins(NamedTuple):
    """The margins of J items, first the proportions of S scores and then the pairs i < j, and their model.

    `item` (S,) is the item of each proportion, and `points` (S,) is how far the score is above the item's lowest score.
    `observed` and `expected` have shape (margins,); `covariance` is Ξ, and `derivatives` are Δ.
    """

    n_items: int
    item: Ints
    points: Floats
    observed: Floats
    expected: Floats
    covariance: Floats
    derivatives: Floats

    def correlations(self, margins: Floats) -> Floats:
        """Compute the correlations of the pairs, shape (pairs,); NaN if an item has a single score."""
        first, second = np.triu_indices(self.n_items, 1)
        shares, pairs = margins[: len(self.item)], margins[len(self.item) :]
        mean, square = (np.bincount(self.item, x * shares, self.n_items) for x in (self.points, self.points**2))
        variance = square - mean**2
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = (pairs - mean[first] * mean[second]) / np.sqrt(variance[first] * variance[second])
        return found


class _Curves(NamedTuple):
    """Expectations of J items given θ: of each margin's score, of the item's points, and of their square.

    `share` has shape (Q, S), `mean` and `square` have shape (Q, J); `credit` (J, C) are the points of each score.
    `item` and `score` (S,) are the item and the score of each proportion.
    """

    item: Ints
    score: Ints
    credit: Floats
    share: Floats
    mean: Floats
    square: Floats

    @classmethod
    def from_probabilities(cls, p: Floats, has: Mask) -> "_Curves":
        """Compute the expectations from P(score | θ), shape (J, Q, C), and the mask of the items' scores, (J, C)."""
        credit = np.where(has, np.arange(has.shape[1]) - has.argmax(axis=1)[:, None], 0.0)
        item, score = np.nonzero(credit)
        square = np.einsum("jqc,jc->qj", p, credit**2)
        return cls(item, score, credit, p[item, :, score].T, np.einsum("jqc,jc->qj", p, credit), square)

    def change(self, by: Floats, weights: Floats) -> Floats:
        """Compute the change of all margins if P(score | θ) of one item changes by `by`, shape (margins, J)."""
        J, S = len(self.credit), len(self.item)
        first, second = np.triu_indices(J, 1)
        out = np.zeros((S + len(first), J))
        out[np.arange(S), self.item] = weights @ by[self.item, :, self.score].T
        cross = np.einsum("jqc,jc->jq", by, self.credit) @ (weights[:, None] * self.mean)
        rows = S + np.arange(len(first))
        out[rows, first], out[rows, second] = cross[first, second], cross[second, first]
        return out


def _margins(form: FormPersons, whole: FittedData) -> Margins:
    fit, theta = whole.calibration.select(form.items), whole.abilities.nodes
    weights, J = whole.abilities.weights[form.group], len(form.items)
    logs = fit.item_model.log_probabilities(theta, fit.parameters, fit.n_categories)
    has = np.isfinite(logs[:, 0])
    curves = _Curves.from_probabilities(np.exp(logs), has)
    first, second = np.triu_indices(J, 1)
    pairs = curves.mean[:, first] * curves.mean[:, second]
    expected = weights @ np.hstack([curves.share, pairs])
    return Margins(
        J,
        curves.item,
        curves.credit[curves.item, curves.score],
        observed_margins(form.answers, curves.item, curves.score, has),
        expected,
        _margin_covariance(curves, pairs, weights, expected),
        _derivatives(form, whole, fit, curves, np.exp(logs)),
    )


def observed_margins(answers: npt.NDArray[np.int8], item: Ints, score: Ints, has: Mask) -> Floats:
    """Compute the margins of `answers` (n, J): the proportion of each `score` (S,) of `item` (S,), and mean products.

    `has` (J, C) is the mask of the items' scores. Products are of points above the lowest score.
    """
    x = answers - has.argmax(axis=1).astype(float)
    joint = x.T @ x / len(x)
    return np.concatenate([(answers[:, item] == score).mean(axis=0), joint[np.triu_indices(len(has), 1)]])


def fit_of_margins(margins: Margins, places: Ints, n: int) -> FormFit | None:
    """Compute M₂ and its indices from the margins of n persons. Returns None without degrees of freedom.

    `places` (J,) are the places of the items in the calibration.
    """
    m2, df = _m2(margins, n)
    if df < 1:
        return None
    rmsea = Measure.rmsea([m2], [df], [n], confidence=RMSEA_TAIL)
    indices, scored = _indices(margins, n, m2, df), bool((margins.points > 1).any())
    return FormFit(tuple(places.tolist()), n, m2, df, float(chdtrc(df, m2)), rmsea, scored=scored, **indices)


def _m2(margins: Margins, n: int) -> tuple[float, int]:
    """Compute M₂ of one form and its degrees of freedom; (0, 0) if there are no degrees of freedom."""
    root = cholesky(margins.covariance, lower=True, overwrite_a=True)
    e = solve_triangular(root, margins.observed - margins.expected, lower=True)
    left, size, _ = np.linalg.svd(solve_triangular(root, margins.derivatives, lower=True), full_matrices=False)
    span = left[:, size > _COLLINEAR * size.max(initial=1e-300)]
    df = len(e) - span.shape[1]
    if df < 1:
        return 0.0, 0
    return max(0.0, float(n * (e @ e - np.sum((span.T @ e) ** 2)))), df


def _indices(margins: Margins, n: int, m2: float, df: int) -> dict[str, float]:
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


def _margin_covariance(curves: _Curves, pairs: Floats, weights: Floats, expected: Floats) -> Floats:
    """Compute Ξ, the covariance of one person's margins. For margins of different items it follows from their product
    given θ; margins of one item are products of two scores of the same answer."""
    S, J = curves.share.shape[1], curves.mean.shape[1]
    first, second = np.triu_indices(J, 1)
    margins = np.hstack([curves.share, pairs])
    out = margins.T @ (weights[:, None] * margins)
    place = np.zeros((J, J), dtype=np.int64)
    place[first, second] = place[second, first] = S + np.arange(len(first))
    points = curves.credit[curves.item, curves.score]
    squares = curves.square.T @ (weights[:, None] * curves.square)
    for j in range(J):
        others, own = np.delete(np.arange(J), j), np.flatnonzero(curves.item == j)
        with_j = place[j, others]
        three = (curves.mean[:, others] * (weights * curves.square[:, j])[:, None]).T @ curves.mean[:, others]
        np.fill_diagonal(three, squares[j, others])
        out[np.ix_(with_j, with_j)] = three
        shared = points[own, None] * ((curves.share[:, own] * weights[:, None]).T @ curves.mean[:, others])
        out[np.ix_(own, with_j)], out[np.ix_(with_j, own)] = shared, shared.T
        out[np.ix_(own, own)] = np.diag(expected[own])
    out -= np.multiply.outer(expected, expected)
    return out


def _derivatives(form: FormPersons, whole: FittedData, fit: Calibration, curves: _Curves, p: Floats) -> Floats:
    """Compute Δ, shape (margins, parameters): derivatives with respect to the estimated parameters of items, latent
    mean and SD."""
    theta, weights = whole.abilities.nodes, whole.abilities.weights[form.group]
    population, model = whole.abilities.population[form.group], fit.item_model
    own, free = whole.own_parameters[:, form.items], whole.free_parameters[:, form.items]
    columns = []
    # rows of `by_parameters` that no fitted item has are left out
    each = zip(model.by_parameters(theta, fit.parameters, fit.n_categories), own, free, strict=False)
    for k, (by, own_here, free_here) in enumerate(each):
        change, shared = curves.change(p * by, weights), free_here & ~own_here
        columns.append(change[:, own_here])
        # the slope is shared by all items, and the steps by the items of a block, which have equal parameters
        group = np.unique(fit.parameters[2:], axis=1, return_inverse=True)[1] if k > 1 else np.zeros(fit.n_items)
        columns += [change[:, shared & (group == g)].sum(axis=1, keepdims=True) for g in np.unique(group[shared])]
    by_theta = p * model.by_theta(theta, fit.parameters, fit.n_categories)
    if population.mean_se != 0:  # a shift of the latent mean shifts every person's θ
        columns.append(curves.change(by_theta, weights).sum(axis=1, keepdims=True))
    if population.sd_se != 0 or model.fixed_slopes:
        spread = ((theta - population.mean) / population.sd)[:, None]
        columns.append(curves.change(by_theta * spread, weights).sum(axis=1, keepdims=True))
    return np.hstack(columns)
