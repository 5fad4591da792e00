"""Compare two fits of the same responses: information criteria, a test, and the items that differ most.

This module chooses the test for two fits and reports when its reference distribution does not hold.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import chdtrc, ndtr

from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.errors import ComparisonWarning, PsychometricsError
from irt_psychometrics.core.item_sources import require_items
from irt_psychometrics.core.model_families import GUESSING_BOUNDS
from irt_psychometrics.core.models import Calibration, Flag
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.results import Result, format_p, format_value
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.estimation.parameter_layout import LATENT_SD_BOUNDS
from irt_psychometrics.fitting import Fit

_RANK = {"rasch": 0, "1pl": 0, "2pl": 1, "3pl": 2, "rsm": 0, "pcm": 1, "gpcm": 2, "nominal": 3}
"""Order of models for items with the same number of scores: each model contains the models with a lower rank. A rasch
and a 1pl are the same model. Other models contain themselves alone."""
_OF_TWO_SCORES = {"rsm": "rasch", "pcm": "rasch", "gpcm": "2pl", "grm": "2pl", "nominal": "2pl"}
_AT_BOUND = 1e-3
"""An estimate is at its bound if it is closer than this, on the log scale (SD of θ) or in logits (c)."""


@dataclass(frozen=True, eq=False, repr=False)
class ItemDifferences(Result):
    """Differences between the curves of J items in two fits, largest first. θ is in SDs of each fit's population.

    Attributes
    ----------
    item_ids
        J names.
    wabc
        Shape (J,), mean distance between the two curves over θ ~ N(0, 1), 0 … 1. The curve of an item with more than
        two scores is its expected share of the maximum score.
    a_first, b_first, a_second, b_second
        Shape (J,), slopes and difficulties.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3", "q4"], "a": [1, 2, 1, 2], "b": [-1, 0, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> irt.compare(irt.fit(x, "1pl"), irt.fit(x, "2pl")).items.item_ids
    ('q2', 'q3', 'q4', 'q1')
    """

    item_ids: tuple[str, ...]
    wabc: Floats
    a_first: Floats
    b_first: Floats
    a_second: Floats
    b_second: Floats
    frame_kind: str | None = None

    def _title(self) -> str:
        return f"differences of {len(self.item_ids)} items"

    def _columns(self) -> dict[str, Any]:
        names = ("wabc", "a_first", "b_first", "a_second", "b_second")
        return {"item": self.item_ids, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison(Result):
    """Comparison of two fits of the same responses.

    Attributes
    ----------
    models
        Names of the models of the first and the second fit.
    log_likelihood, n_parameters, aic, bic
        Shape (2,), values of the first and the second fit.
    test
        "likelihood ratio" if one fit is nested in the other, "Vuong" if neither is, "" if both are the same model.
    statistic
        2Δ log L ≥ 0 for the likelihood ratio; Vuong's z, above 0 if the first fit is closer to the truth.
    df
        Degrees of freedom of the likelihood ratio; 0 for the other tests.
    p
        p-value of "the smaller model holds" (likelihood ratio), or two-sided p-value of "both are equally close to the
        truth" (Vuong). NaN if the statistic has no reference distribution, for example with priors or a histogram.
    notes
        Sentences that say whether and why the reference distribution of the test does not hold.
    items
        Differences between the curves of each item.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3", "q4"], "a": [1, 2, 1, 2], "b": [-1, 0, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> irt.compare(irt.fit(x, "1pl"), irt.fit(x, "2pl"))
    <ModelComparison: 1pl against 2pl: χ²(3) 22.88, p < .001, lower AIC 2pl, lower BIC 2pl>
    """

    models: tuple[str, str]
    log_likelihood: Floats
    n_parameters: Floats
    aic: Floats
    bic: Floats
    test: str
    statistic: float
    df: int
    p: float
    notes: tuple[str, ...]
    items: ItemDifferences
    frame_kind: str | None = None

    def _title(self) -> str:
        return f"{self.models[0]} against {self.models[1]}"

    def _facts(self) -> dict[str, str]:
        facts = {}
        if self.test == "likelihood ratio":
            facts = {
                f"χ²({self.df})" if self.p >= 0 else "2Δ log L": format_value(self.statistic, 2),
                "p": format_p(self.p),
            }
        elif self.test:
            facts = {"Vuong's z": format_value(self.statistic, 2), "p": format_p(self.p)}
        facts = {name: value for name, value in facts.items() if value}
        names = self.models if self.models[0] != self.models[1] else ("first", "second")
        lower = {name: names[int(np.argmin(x))] for name, x in (("AIC", self.aic), ("BIC", self.bic))}
        return facts | {f"lower {name}": model for name, model in lower.items()}

    def _columns(self) -> dict[str, Any]:
        return {
            "fit": ("first", "second"),
            "model": self.models,
            "log_likelihood": self.log_likelihood,
            "parameters": self.n_parameters,
            "aic": self.aic,
            "bic": self.bic,
        }

    def _notes(self) -> Sequence[str]:
        largest = [
            f"{item} ({format_value(float(size))})"
            for item, size in zip(self.items.item_ids, self.items.wabc, strict=True)
            if size >= 0.0005
        ]
        return [*self.notes, *([f"Items whose curves differ most: {', '.join(largest[:5])}."] if largest else [])]


def compare(first: Fit, second: Fit) -> ModelComparison:
    """Compare two fits of the same responses.

    Parameters
    ----------
    first, second
        Results of `fit` for the same responses.

    Returns
    -------
    ModelComparison
        The test is a likelihood-ratio test if one fit is nested in the other (χ², Wilks 1938). Otherwise it is Vuong's
        (1989) test of the persons' log-likelihoods.

    Warns
    -----
    ComparisonWarning
        If the reference distribution of the test does not hold, or a fit did not converge.

    Raises
    ------
    PsychometricsError
        If the fits are of different responses, or have parameters for different items.

    Notes
    -----
    A parameter at a bound under the smaller model, such as c = 0 of a 2PL within a 3PL, makes the statistic a mixture
    of χ² distributions (Self & Liang 1987): the p of a single χ² is then too large. Fits with priors or a histogram do
    not maximise the likelihood, so their statistic has no χ² reference either. Vuong's normal reference assumes that
    the two models can be distinguished, which means that the differences of the persons' log-likelihoods vary.

    References
    ----------
    Wilks, S. S. (1938). The large-sample distribution of the likelihood ratio for testing composite hypotheses.
    Vuong, Q. H. (1989). Likelihood ratio tests for model selection and non-nested hypotheses.
    Self, S. G. & Liang, K.-Y. (1987). Asymptotic properties of maximum likelihood estimators and likelihood ratio tests
    under nonstandard conditions.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = {"item": ["q1", "q2", "q3", "q4"], "a": [0.5, 1, 2, 2], "b": [-1, 0, 0, 1]}
    >>> truth = irt.ItemParameters.from_frame(items)
    >>> x = irt.simulate_responses(truth, [0.002 * k for k in range(-1000, 1001)], random_state=7)
    >>> found = irt.compare(irt.fit(x, "1pl"), irt.fit(x, "2pl"))
    >>> found.test, found.df, found.p < 0.001
    ('likelihood ratio', 3, True)
    """
    for given in (first, second):
        require_items(given, "compare")
    one, two = first.calibration, second.calibration
    _require_same_responses(first, second)
    fits = (one, two)
    test, statistic, df, p, notes = "", 0.0, 0, float("nan"), list[str]()
    nested = 0 if _is_nested(one, two) else 1 if _is_nested(two, one) else None
    for name, fit in zip(("first", "second"), fits, strict=True):
        if not fit.convergence.converged:
            notes.append(f"The {name} fit did not converge: its log L is not a maximum.")
    more = [fit.convergence.n_parameters for fit in fits]
    if nested is not None and more[0] != more[1]:
        small, large = (one, two) if nested == 0 else (two, one)
        test, df = "likelihood ratio", large.convergence.n_parameters - small.convergence.n_parameters
        statistic = 2 * (large.convergence.loglik - small.convergence.loglik)
        no_reference = [*_chi2_objections(small, large)]
        p = float("nan") if no_reference else float(chdtrc(df, max(statistic, 0.0)))
        notes += no_reference or _weaknesses(small, large)
        if statistic < 0:
            notes.append("The larger model has the lower log L: it is not at its maximum.")
    elif nested is not None:
        notes.append("Both are the same model: there is nothing to test.")
    else:
        test = "Vuong"
        difference = first.person_log_likelihood - second.person_log_likelihood
        statistic, p = _vuong(difference, np.ones(len(difference)) if first.weights is None else first.weights)
        if np.isnan(p):
            notes.append("The fits give every person the same likelihood: they cannot be distinguished.")
    if notes:
        warnings.warn(" ".join(notes), ComparisonWarning, stacklevel=2)
    return ModelComparison(
        models=(one.model, two.model),
        log_likelihood=np.array([fit.convergence.loglik for fit in fits]),
        n_parameters=np.array(more),
        aic=np.array([fit.aic for fit in fits]),
        bic=np.array([fit.bic for fit in fits]),
        test=test,
        statistic=float(statistic),
        df=int(df),
        p=p,
        notes=tuple(notes),
        items=_differences(one, two, first.frame_kind),
        frame_kind=first.frame_kind,
    )


def _require_same_responses(first: Fit, second: Fit) -> None:
    one, two = first.calibration, second.calibration
    if first.sampling_weights is not None or second.sampling_weights is not None:
        raise PsychometricsError(
            "fits with sampling_weights cannot be compared, because the weighted log-likelihood is not the likelihood "
            "of a sample. Compare fits without sampling_weights"
        )
    if one.data_hash != two.data_hash:
        raise PsychometricsError(
            f"the fits are of different responses or weights ({one.n_persons:,} persons and {one.n_items} items; "
            f"{two.n_persons:,} and {two.n_items}); their log-likelihoods cannot be compared. Fit both to the same "
            "Responses"
        )
    differ = one.estimated != two.estimated
    if differ.any():
        named = some_of(item for item, other in zip(one.item_ids, differ, strict=True) if other)
        raise PsychometricsError(
            f"only one of the fits has parameters for {named}, so their log-likelihoods are of different responses. "
            "Leave these items out of both"
        )


def _is_nested(small: Calibration, large: Calibration) -> bool:
    """Whether `small` is the same model as `large`, or `large` with constraints."""
    models = _models(small), _models(large)
    if not all(_contains(b, a) for a, b, keep in zip(*models, small.estimated, strict=True) if keep):
        return False
    groups = [[p.name for p in fit.populations] for fit in (small, large)]
    if len(groups[0]) > 1 and set(groups[0]) != set(groups[1]):
        return False
    if _histogram(small) and not _histogram(large):
        return False
    held = [set(fit.anchored) for fit in (small, large)]
    if not held[1] <= held[0]:
        return False
    at = np.isin(small.item_ids, [*held[1]])
    return bool(np.array_equal(small.a[at], large.a[at]) and np.array_equal(small.d[at], large.d[at]))


def _contains(large: str, small: str) -> bool:
    """Whether a model contains another model for items with the same number of scores."""
    return small == large or _RANK.get(small, math.inf) <= _RANK.get(large, -math.inf)


def _models(fit: Calibration) -> list[str]:
    """Model of each item; for items scored 0 and 1 the equivalent dichotomous model."""
    pairs = zip(fit.models, fit.n_categories, strict=True)
    return [_OF_TWO_SCORES.get(model, model) if n == 2 else model for model, n in pairs]


def _histogram(fit: Calibration) -> bool:
    return any(population.nodes for population in fit.populations)


def _chi2_objections(small: Calibration, large: Calibration) -> Iterator[str]:
    """Yield reasons why the likelihood ratio has no χ² reference, not even an approximate one."""
    if large.convergence.n_parameters < small.convergence.n_parameters:
        yield "The larger model has fewer effective parameters, because priors and penalties restrict some of them."
    if _histogram(large):
        yield "The weights of a histogram are penalised and some lie at 0: its 2Δ log L has no χ² reference."
    if small.priors != large.priors:
        yield (
            "The fits have different priors, so that log L is not at its maximum: 2Δ log L has no χ² reference. "
            "Fit both without priors (priors=Priors()), or compare AIC and BIC with care."
        )


def _weaknesses(small: Calibration, large: Calibration) -> Iterator[str]:
    """Yield reasons why the χ² reference of the likelihood ratio is only approximate."""
    pairs = zip(small.item_ids, small.models, large.models, strict=True)
    guessed = [item for item, less, more in pairs if more == "3pl" and less != "3pl"]
    if guessed:
        yield (
            f"c = 0 of {some_of(guessed, 3)} lies at its bound in the larger model, where the χ² reference does not "
            "hold: its p is too large. Trust AIC and BIC, or simulate under the smaller model."
        )
    for name, fit in (("smaller", small), ("larger", large)):
        if bounds := _bound_clause(fit):
            yield f"In the {name} model {bounds}, where the χ² reference does not hold."


def _bound_clause(fit: Calibration) -> str:
    """A clause that names the estimates at a bound. Returns "" if there are none."""
    found = []
    low, high = LATENT_SD_BOUNDS
    least, most = low * (1 + _AT_BOUND), high * (1 - _AT_BOUND)
    sds = [population.name for population in fit.populations if not least < population.sd < most]
    if sds:
        found.append(f"the SD of θ ({some_of(sds)}) lies at its bound")
    lowest, highest = (np.log(x / (1 - x)) for x in GUESSING_BOUNDS)
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(fit.c / (1 - fit.c))
    at: Mask = (np.array(fit.models) == "3pl") & ((logits <= lowest + _AT_BOUND) | (logits >= highest - _AT_BOUND))
    if at.any():
        found.append(f"c of {some_of(np.array(fit.item_ids, dtype=object)[at])} lies at its bound")
    slopes = [item for item, flags in zip(fit.item_ids, fit.flags, strict=True) if Flag.AT_BOUND in flags]
    if slopes:
        found.append(f"the slope of {some_of(slopes)} lies at its bound")
    return " and ".join(found)


def _vuong(difference: Floats, weights: Floats) -> tuple[float, float]:
    """Compute z = Σ d/(√n ω), with ω² the variance of the persons' differences d (Vuong 1989), and its two-sided p.

    `weights` are the numbers of persons with these differences. Returns z = 0 and p = NaN if ω = 0.
    """
    n = float(weights.sum())
    mean = float(weights @ difference) / n
    omega = float(np.sqrt(weights @ (difference - mean) ** 2 / n))
    if not omega > 1e-8:
        return 0.0, float("nan")
    z = mean * np.sqrt(n) / omega
    return z, float(2 * ndtr(-abs(z)))


def _differences(one: Calibration, two: Calibration, frame_kind: str | None) -> ItemDifferences:
    grid = Grid.symmetric()
    unit = [fit.rescaled(1 / fit.latent_sd, -fit.latent_mean / fit.latent_sd) for fit in (one, two)]
    curves = [fit.curves.probability(grid.nodes) for fit in unit]
    wabc: Any = np.exp(grid.log_weights()) @ np.abs(curves[0] - curves[1])
    order = np.argsort(-np.nan_to_num(wabc, nan=-1.0), kind="stable")
    ids = tuple(one.item_ids[j] for j in order.tolist())
    a_first, b_first, a_second, b_second = (x[order] for fit in unit for x in (fit.a, fit.b))
    return ItemDifferences(ids, wabc[order], a_first, b_first, a_second, b_second, frame_kind)
