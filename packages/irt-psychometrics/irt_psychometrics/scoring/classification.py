"""How often a form decides as the true scores would, and how often two forms would decide alike.

The cuts are given; raw cuts come from a score scale. This module judges a form in a population, not a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, betaln, ndtr

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.delta import SMALL_STEP, delta_errors
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, require_items, require_population
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.results import Result
from irt_psychometrics.scoring.form_scores import (
    FormsWithErrors,
    lowest_score,
    max_scores,
    require_curves,
    thetas_of_scores,
)
from irt_psychometrics.scoring.sum_scores import score_distributions

_NODES = 40
"""Gauss-Legendre nodes between two cuts, where the true category does not change."""
_HISTOGRAM_NODES = 4
"""Gauss-Legendre nodes between two nodes of a histogram, between which the log density is linear."""
_WIDEST = 8.0
"""The part of a normal population that is integrated, in SD."""


@dataclass(frozen=True, eq=False, repr=False)
class Classification(Result):
    """Accuracy and consistency of the decisions at each cut; with several cuts also at all cuts together.

    Attributes
    ----------
    method
        "Rudner", "Lee" or "Livingston-Lewis".
    cuts
        Shape (C,), the cuts; NaN for all together.
    accuracy
        Shape (C,), the share of persons in the category of the true score.
    accuracy_se
        Shape (C,), the standard error of `accuracy`; NaN if it is not known.
    false_pass, false_fail
        Shape (C,), the shares of persons above and below the true category.
    consistency
        Shape (C,), the share who would be in one category in two independent administrations.
    kappa
        Shape (C,), Cohen's κ of two administrations.

    Examples
    --------
    >>> from irt_psychometrics.scoring import Classification
    >>> found = Classification.from_abilities(theta=[-1.0, 0.1, 1.0], se=[0.3, 0.3, 0.3], cuts=[0.0])
    >>> found.accuracy.round(3).tolist()
    [0.877]
    """

    method: str
    cuts: Floats
    accuracy: Floats
    accuracy_se: Floats
    false_pass: Floats
    false_fail: Floats
    consistency: Floats
    kappa: Floats
    frame_kind: str | None = None

    @classmethod
    def from_abilities(cls, theta: npt.ArrayLike, se: npt.ArrayLike, cuts: npt.ArrayLike) -> Classification:
        """Classify persons by θ, for adaptive and planned forms (Rudner 2001, 2005).

        Parameters
        ----------
        theta, se
            Shape (n,), the estimate of each person, taken as true, and the standard error.
        cuts
            The cuts on the scale of θ, ascending.

        Returns
        -------
        Classification
            The decisions at each cut, with the method "Rudner".

        Raises
        ------
        PsychometricsError
            For cuts that do not ascend, and for an error that is not above 0.

        References
        ----------
        Rudner, L. M. (2005). Expected classification accuracy. Practical Assessment, Research & Evaluation, 10(13).
        """
        at, error, limits = np.asarray(theta, float), np.asarray(se, float), _ascending(cuts)
        if at.shape != error.shape or at.ndim != 1 or not at.size or not (error > 0).all() or not np.isfinite(at).all():
            raise PsychometricsError(
                "theta and se must be one finite number a person, with se above 0; got shapes"
                f" {at.shape} and {error.shape}"
            )
        below = ndtr((limits - at[:, None]) / error[:, None])
        own = (at[:, None] >= limits).sum(axis=1)
        weights = np.full(at.size, 1 / at.size)
        decisions = _Decisions(below, own, weights)
        found, correct = decisions.statistics(), decisions.correct()
        spread = correct.std(axis=0, ddof=1) / np.sqrt(at.size) if at.size > 1 else np.full(correct.shape[1], np.nan)
        return cls._from("Rudner", limits, found, spread)

    @classmethod
    def from_items(
        cls,
        items: ItemSource,
        cuts: npt.ArrayLike,
        *,
        mean: float | None = None,
        sd: float | None = None,
        group: str | None = None,
    ) -> Classification:
        """Classify persons of a population by raw scores of a form with known items (Lee 2010).

        Parameters
        ----------
        items
            The form's items: a `Fit` of the form, a `ScaleLink` (the new fit on the old scale), or `ItemParameters`,
            with covariances if errors are wanted.
        cuts
            The lowest raw score of each higher category, ascending. A true score passes from the same value on.
        mean, sd
            Mean and SD of a normal population. None: the population of the fit; parameters of items contain no
            population.
        group
            The group whose population is meant, for a fit with groups.

        Returns
        -------
        Classification
            The decisions at each cut, with the method "Lee".

        Raises
        ------
        PsychometricsError
            For cuts that do not ascend or no score reaches, for items without parameters, and if there is no
            population.

        References
        ----------
        Lee, W.-C. (2010). Classification consistency and accuracy for complex assessments using item response theory.
        Journal of Educational Measurement, 47, 1-17.
        """
        limits, known = _ascending(cuts), require_items(items, "Classification.from_items")
        population = require_population(items, "Classification.from_items", mean=mean, sd=sd, group=group)
        require_curves(known, "the form")
        lowest, highest = lowest_score(known), max_scores(known).sum()
        if not ((limits > lowest) & (limits < highest)).all():
            raise PsychometricsError(
                f"cuts {limits.tolist()} must be between the expected scores {lowest:g} and {highest:g} of the form"
            )
        reach = _WIDEST * population.sd
        ends = np.array(population.nodes or (population.mean - reach, population.mean + reach))
        nodes = _HISTOGRAM_NODES if population.nodes else _NODES

        def statistics(value: tuple[tuple[ItemParameters, ...], Floats]) -> Floats:
            (form,), _ = value
            at = thetas_of_scores(form, limits)
            bounds = np.sort(np.append(ends, np.clip(at, ends[0], ends[-1])))
            theta, lengths = _nodes_between(bounds, nodes)
            weights = lengths * np.exp(population.log_density(theta))
            shares = score_distributions(form.curves, theta).cumsum(axis=0)
            below = shares[np.ceil(limits).astype(int) - 1].T
            return _Decisions(below, (theta[:, None] >= at).sum(axis=1), weights / weights.sum()).statistics()

        estimate = FormsWithErrors.from_forms((known,))
        found = statistics(estimate.value)
        se = delta_errors(lambda value: statistics(value)[0], [estimate], [SMALL_STEP])
        return cls._from("Lee", limits, found, se)

    @classmethod
    def from_reliability(
        cls, scores: npt.ArrayLike, reliability: float, cuts: npt.ArrayLike, *, max_score: float
    ) -> Classification:
        """Classify persons by raw scores of one administration, from moments of the scores (Livingston & Lewis 1995).

        The true scores have a beta distribution between two limits with the moments that the observed scores imply;
        given the true score, the score on a form of the effective length is binomial. If no such distribution has the
        four moments, its limits are 0 and 1.

        Parameters
        ----------
        scores
            Shape (n,), raw scores.
        reliability
            Their reliability, above 0 and below 1.
        cuts
            The lowest raw score of each higher category, ascending.
        max_score
            The highest possible score.

        Returns
        -------
        Classification
            The decisions at each cut, with the method "Livingston-Lewis".

        Raises
        ------
        PsychometricsError
            For scores that do not vary or are outside 0 … `max_score`, for another reliability, and other cuts.

        References
        ----------
        Livingston, S. A. & Lewis, C. (1995). Estimating the consistency and accuracy of classifications based on test
        scores. Journal of Educational Measurement, 32, 179-197.
        Hanson, B. A. (1991). Method of moments estimates for the four-parameter beta compound binomial model. ACT
        Research Report 91-5.
        """
        x, limits = np.asarray(scores, float), _ascending(cuts)
        if x.ndim != 1 or not ((x >= 0) & (x <= max_score)).all() or not x.var() > 0 or not 0 < reliability < 1:
            raise PsychometricsError(
                f"scores must vary within 0 … {max_score:g}, and reliability {reliability:g} must be between 0 and 1"
            )
        if not ((limits > 0) & (limits < max_score)).all():
            raise PsychometricsError(f"cuts {limits.tolist()} must be above 0 and below {max_score:g}")
        mean, variance = x.mean(), x.var(ddof=1)
        effective = (mean * (max_score - mean) - reliability * variance) / (variance * (1 - reliability))
        low, high, alpha, beta = _true_score_beta(x / max_score, effective)
        cut, length = limits / max_score, round(effective)
        bounds = np.clip([low, *cut, high], low, high)
        t, lengths = _nodes_between(bounds, 4 * _NODES)
        part = (t - low) / (high - low)
        with np.errstate(divide="ignore"):
            log_density = (alpha - 1) * np.log(part) + (beta - 1) * np.log1p(-part) - betaln(alpha, beta)
        weights = lengths * np.exp(log_density) / (high - low)
        below = bdtr(np.round(cut * length) - 1, length, t[:, None])
        own = np.repeat(np.arange(limits.size + 1), 4 * _NODES)
        found = _Decisions(below, own, weights / weights.sum()).statistics()
        return cls._from("Livingston-Lewis", limits, found, np.full(found.shape[1], np.nan))

    @classmethod
    def _from(cls, method: str, cuts: Floats, statistics: Floats, se: Floats) -> Classification:
        names = cuts if statistics.shape[1] == cuts.size else np.append(cuts, np.nan)
        accuracy, *others = statistics
        return cls(method, names, accuracy, se, *others)

    def _title(self) -> str:
        n = int(np.isfinite(self.cuts).sum())
        return f"{self.method} classification at {n} cut{'s' if n != 1 else ''}"

    def _columns(self) -> dict[str, Any]:
        names = ("cut", "accuracy", "accuracy_se", "false_pass", "false_fail", "consistency", "kappa")
        return {name: getattr(self, "cuts" if name == "cut" else name) for name in names}


@dataclass(frozen=True)
class _Decisions:
    """Decisions at Q points of a population.

    Attributes:
        below: shape (Q, C), the probability of an observed score below each cut.
        own: shape (Q,), the true category, 0 … C.
        weights: shape (Q,), with the sum 1.
    """

    below: Floats
    own: npt.NDArray[np.intp]
    weights: Floats

    def _views(self) -> list[tuple[Floats, npt.NDArray[np.intp]]]:
        """The probability of each category and the true one, for each cut alone and for all together."""
        views = [(self.below[:, [k]], (self.own > k).astype(int)) for k in range(self.below.shape[1])]
        if len(views) > 1:
            views.append((self.below, self.own))
        edges = [np.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))) for below, _ in views]
        return [(np.diff(edge, axis=1), own) for edge, (_, own) in zip(edges, views, strict=True)]

    def correct(self) -> Floats:
        """The probability of the true category at each point, shape (Q, number of views)."""
        return np.column_stack([np.take_along_axis(p, own[:, None], axis=1)[:, 0] for p, own in self._views()])

    def statistics(self) -> Floats:
        """Accuracy, false pass, false fail, consistency and κ, shape (5, number of views)."""
        columns = []
        for p, own in self._views():
            category = np.arange(p.shape[1])
            by_side = [(p * side(category, own[:, None])).sum(axis=1) for side in (np.equal, np.greater, np.less)]
            consistency = self.weights @ (p * p).sum(axis=1)
            chance = ((self.weights @ p) ** 2).sum()
            columns.append([*(self.weights @ s for s in by_side), consistency, (consistency - chance) / (1 - chance)])
        return np.array(columns).T


def _nodes_between(bounds: Floats, nodes: int) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes and weights between each two neighbours of `bounds`, in their order."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    halves = np.diff(bounds)[:, None] / 2
    return (bounds[:-1, None] + halves * (x + 1)).ravel(), (halves * weights).ravel()


def _ascending(cuts: npt.ArrayLike) -> Floats:
    found = np.atleast_1d(np.asarray(cuts, float))
    if found.ndim != 1 or not found.size or not np.isfinite(found).all() or not (np.diff(found) > 0).all():
        raise PsychometricsError(f"cuts {np.asarray(cuts).tolist()} must be numbers that ascend")
    return found


class _TrueScores(NamedTuple):
    """A beta distribution of true scores between two limits."""

    low: float
    high: float
    alpha: float
    beta: float


def _true_score_beta(proportions: Floats, length: float) -> _TrueScores:
    """Limits and parameters of the beta distribution of the true scores, from proportions of points.

    Its raw moments are the factorial moments of the binomial scores on a form of `length` items (Hanson 1991).
    """
    x = proportions * length
    falling = np.cumprod([x - k for k in range(4)], axis=0).mean(axis=1)
    raw = falling / np.cumprod([length - k for k in range(4)])
    mean = raw[0]
    m2 = raw[1] - mean**2
    m3 = raw[2] - 3 * mean * raw[1] + 2 * mean**3
    m4 = raw[3] - 4 * mean * raw[2] + 6 * mean**2 * raw[1] - 3 * mean**4
    skew, kurtosis = m3 / m2**1.5, m4 / m2**2
    with np.errstate(divide="ignore", invalid="ignore"):
        r = 6 * (kurtosis - skew**2 - 1) / (6 + 3 * skew**2 - 2 * kurtosis)
        split = np.sqrt(1 - 24 * (r + 1) / ((r + 2) * (r + 3) * kurtosis - 3 * (r + 1) * (r - 6)))
    smaller, larger = r / 2 * (1 - split), r / 2 * (1 + split)
    alpha, beta = (larger, smaller) if skew < 0 else (smaller, larger)
    width = np.sqrt(m2 * (alpha + beta) ** 2 * (alpha + beta + 1) / (alpha * beta)) if smaller > 0 else np.nan
    low = mean - width * alpha / (alpha + beta)
    if np.isfinite(low) and low >= 0 and low + width <= 1:
        return _TrueScores(float(low), float(low + width), float(alpha), float(beta))
    common = mean * (1 - mean) / m2 - 1
    return _TrueScores(0.0, 1.0, float(mean * common), float((1 - mean) * common))
