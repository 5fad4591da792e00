"""Person fit: whether a person's pattern of answers is plausible at the person's ability.

Item fit is in `item_fit` and `sum_score_fit`; scoring is in `scoring`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.design import over_learners, row_starts
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.item_sources import ItemSource, find_calibration, require_items
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.core.significance import normal_score
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.fit_kernels import Rows
from irt_psychometrics.itemfit.measure import Measure
from irt_psychometrics.itemfit.model_replicates import count_scores
from irt_psychometrics.scoring.abilities import estimate_abilities

UNLIKELY = 0.05
"""Patterns with a smaller p of lz* are unlikely."""


_STEP = 1e-3
"""Step of θ for derivatives by differences, whose errors are then about 1e-6 of the derivatives."""


@dataclass(frozen=True, eq=False, repr=False)
class PersonFit(Result):
    """Fit of each person's pattern of answers, shape (N,) each, one row per person.

    All statistics are computed at θ, Warm's WLE. They are NaN for persons with fewer than `Measure.MIN_ITEMS` usable
    answers; lz and p are also NaN if θ alone determines the pattern's likelihood, as when all items are alike.

    Attributes
    ----------
    person_ids
        N labels; row numbers if the responses had no labels.
    n
        Number of usable answers.
    theta, se
        WLE of ability and its standard error; NaN and ∞ for persons without a usable answer.
    lz
        lz* (Snijders 2001), standard normal under the model; far below 0 for a pattern that is unlikely at the person's
        ability.
    p
        Probability of an lz* at most this large under the model.
    infit, outfit
        Mean squares of the person's residuals, weighted by information and unweighted (Wright & Masters 1982); about 1
        under the model, above 1 for erratic answers, ≥ 0. They have no correction for the estimation of θ.
    frame_index
        The index of the pandas frame from which the responses were made, for `to_frame`. None: there was none.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> x = irt.datasets.two_forms()[0].responses
    >>> persons = irt.fit(x, "2pl").person_fit(x)
    >>> persons.to_frame("pandas").columns.tolist()
    ['person', 'n', 'theta', 'se', 'lz', 'p', 'infit', 'outfit']
    """

    person_ids: tuple[str | int, ...]
    n: Ints
    theta: Floats
    se: Floats
    lz: Floats
    p: Floats
    infit: Floats
    outfit: Floats
    frame_kind: str | None = None
    frame_index: Any = None

    @property
    def unlikely(self) -> tuple[str | int, ...]:
        """Persons with p below .05; 5 % of all tested persons under the model."""
        return tuple(self.person_ids[i] for i in np.flatnonzero(self.p < UNLIKELY).tolist())

    @property
    def reliability(self) -> float:
        """Reliability of the WLEs, 1 − mean SE²/variance of θ, as `WLErel` in R TAM; NaN for fewer than two persons.

        Below 0 if errors are larger than the spread of θ.
        """
        known = np.isfinite(self.theta) & np.isfinite(self.se)
        if known.sum() < 2 or not (spread := float(np.var(self.theta[known], ddof=1))):
            return float("nan")
        return 1 - float(np.mean(self.se[known] ** 2)) / spread

    def _index(self) -> Any:
        return self.frame_index

    def _title(self) -> str:
        return f"fit of {len(self.p):,} persons"

    def _facts(self) -> dict[str, str]:
        tested = int(np.isfinite(self.p).sum())
        return {"tested": format_value(tested), "unlikely (p < .05)": format_value(len(self.unlikely))}

    def _columns(self) -> dict[str, Any]:
        names = ("n", "theta", "se", "lz", "p", "infit", "outfit")
        return {"person": self.person_ids} | {name: getattr(self, name) for name in names}

    def _notes(self) -> list[str]:
        few = int((self.n < Measure.MIN_ITEMS).sum())
        if not few:
            return []
        return [f"{few:,} of {len(self.n):,} persons have fewer than {Measure.MIN_ITEMS} answers, too few for a test."]


def person_fit(responses: Responses, items: ItemSource, *, threads: int | None = None) -> PersonFit:
    """Compute lz*, infit and outfit of every person at the WLE.

    Use it to find guessing or copying by the published values of an item bank. Sources of lz* are Snijders (2001), for
    Warm's estimate Magis, Raîche & Béland (2012), and for items with several scores Sinharay (2016).

    The log-likelihood of a pattern minus its expectation is W = Σ (x − P) w with w = log(P/(1 − P)). Let the estimate
    of θ solve r₀ + Σ (x − P) r = 0 with r = P'/(P(1 − P)). Then W has the mean and variance of
    Σ (x − P)(w − κ r) − κ r₀ with κ = Σ P'w / Σ P'r, so lz* = (W + κ r₀)/√(Σ (w − κ r)² P(1 − P)). For the WLE,
    r₀ = J/(2I). For a scored item, the sums are over its scores: w = log P(x) minus its expectation, r = P'/P, and
    J = Σ P'P''/P.

    Parameters
    ----------
    responses
        Responses of N persons. Responses to items without parameters are left out.
    items
        A fit, or parameters of items.
    threads
        Number of threads. None: one for each core.

    Returns
    -------
    PersonFit
        One row per person.

    Raises
    ------
    PsychometricsError
        If no item of the responses has parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.itemfit import person_fit
    >>> names = [f"q{k}" for k in range(8)]
    >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.5] * 8, "b": np.linspace(-2, 1.5, 8)})
    >>> patterns = np.array([[1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1]])  # the second is right on hard items
    >>> x = irt.Responses.from_wide(patterns, item_ids=names)
    >>> (person_fit(x, bank).p < 0.05).tolist()
    [False, True]
    """
    whole, calibration = require_items(items, "person_fit").among(responses.item_ids), find_calibration(items)
    keep = whole.curves.known
    if not keep.any():
        raise PsychometricsError("person_fit needs parameters of the items in the responses, got none of them")
    curves = whole.select([item for item, has in zip(responses.item_ids, keep, strict=True) if has]).curves
    r, others = count_scores(responses.of_items(keep), curves), curves.others
    latent = (calibration.latent_mean, calibration.latent_sd) if calibration else (0.0, 1.0)  # where the search begins
    scores = estimate_abilities(
        r, curves.a, curves.d, curves.c, others=others, method="wle", mean=latent[0], sd=latent[1], threads=threads
    )
    rows = Rows(row_starts(r), r.item, r.score)
    n = np.diff(rows.start)
    theta = np.where(n < Measure.MIN_ITEMS, np.nan, scores.theta)
    if curves.have_compiled_scores:
        moments = np.full((r.n_persons, 3), np.nan)
        arrays = curves.a, curves.d, curves.c, curves.categories, *curves.score_rows

        def one(first: int, last: int) -> None:
            fit_kernels.likelihood_moments(first, last, rows, arrays, theta, moments)

        over_learners(one, r, rows.start, threads)
    else:
        moments = _likelihood_moments(r, curves, theta)
    with np.errstate(divide="ignore", invalid="ignore"):
        lz = moments[:, 0] / np.sqrt(moments[:, 1])
        skewness = moments[:, 2] / moments[:, 1] ** 1.5
    ids = responses.person_ids or tuple(range(responses.n_persons))
    mean_squares = person_mean_squares(r, curves, theta)
    p = ndtr(normal_score(lz, skewness))
    return PersonFit(ids, n, scores.theta, scores.se, lz, p, *mean_squares, responses.frame_kind)


def _likelihood_moments(responses: Responses, curves: ItemCurves, theta: Floats) -> Floats:
    """Compute the result of `fit_kernels.likelihood_moments` under any models, with derivatives by differences."""
    person, item, at = responses.person, responses.item, np.nan_to_num(theta)[responses.person]
    below, logs, above = (curves.log_probabilities_of(item, at + step) for step in (-_STEP, 0.0, _STEP))
    p, has = np.exp(logs), np.isfinite(logs)

    def per_person(values: Floats) -> Floats:
        return np.bincount(person, (p * values).sum(axis=1), len(theta)).astype(float)

    with np.errstate(invalid="ignore", divide="ignore"):
        found = logs, (above - below) / (2 * _STEP), (above - 2 * logs + below) / _STEP**2
        w, slope, bend = (np.where(has, x, 0.0) for x in found)
        off = np.where(has, w - (p * w).sum(axis=1)[:, None], 0.0)
        information = per_person(slope**2)
        k = per_person(slope * off) / information
        centred: Floats = np.bincount(person, off[np.arange(len(item)), responses.score], len(theta)).astype(float)
        centred += k * per_person(slope * (slope**2 + bend)) / (2 * information)
        rest = off - k[person][:, None] * slope
        moments = np.stack([centred, per_person(rest**2), per_person(rest**3)], axis=1)
    sound = np.isfinite(theta) & (moments[:, 1] >= fit_kernels.DEGENERATE * per_person(off**2))
    return np.where(sound[:, None], moments, np.nan)


def person_mean_squares(responses: Responses, curves: ItemCurves, theta: Floats) -> tuple[Floats, Floats]:
    """Compute infit and outfit of N persons at `theta` (N,), shape (N,) each; NaN if θ is not finite.

    With V the variance of a score x and E its expectation, infit is Σ (x − E)²/Σ V and outfit is the mean of
    (x − E)²/V (Wright & Masters 1982, ch. 5).
    """
    known = np.isfinite(theta)[responses.person] & (curves.a[responses.item] != 0)
    person, item = responses.person[known], responses.item[known]
    of = curves.moments_of(item, theta[person])
    square = (responses.score[known] - of.expected) ** 2

    def per_person(values: Floats) -> Floats:
        return np.bincount(person, values, minlength=responses.n_persons).astype(float)

    with np.errstate(divide="ignore", invalid="ignore"):
        return per_person(square) / per_person(of.variance), per_person(square / of.variance) / per_person(
            np.ones(person.size)
        )
