"""Prior distributions of unpublished items, estimated from the published items of a bank (Mislevy 1986).

The true values y_j = (ln(a_j m_j), b_j) of the bank are N(μ, T), where m_j is an item's maximum score and b_j the mean
of the steps. For a graded item m_j is 1, because its a is comparable to the slope of a 0/1 item, and b_j is the mean of
the thresholds. Estimates have errors, so T is estimated by restricted maximum likelihood, as in
`adaptive.item_posterior`. The means of topics are N(μ, T_between) in turn, and each is shrunk to μ according to the
error of the topic's mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from irt_psychometrics.adaptive.item_posterior import fit_bank
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.logistic import logit
from irt_psychometrics.core.model_families import ItemModel, inner_scores
from irt_psychometrics.core.options import DEFAULT_MODEL, Model
from irt_psychometrics.core.priors import LogitNormal, LogNormal, Normal, Priors

MIN_ITEMS = 20
"""Least number of items from which means and SDs are estimated, of a bank and of a topic."""
MIN_SLOPE_SD, MIN_DIFFICULTY_SD, MIN_FURTHER_SD = 0.1, 0.3, 0.1
"""Least SDs of ln a, of b, and of steps and logit c: a bank of similar items must not decide for new ones."""
_SLOPE, _DIFFICULTY, _STEP_SD = Normal(0.0, 0.5), Normal(0.0, 1.0), 1.0
_DISTANCE = Normal(0.0, 1.0)
_GUESSING = LogitNormal(float(np.log(0.25)), 0.5)


@dataclass(frozen=True)
class BankPrior:
    """Prior distribution of items that are not published yet.

    Attributes
    ----------
    slope
        Distribution of ln(a·m), where m is an item's maximum score and a the slope of one point; of ln a for graded
        items.
    difficulty
        Distribution of b, the mean of an item's steps or thresholds.
    step_sd
        SD of the steps of partial credit items around b.
    guessing
        Distribution of logit c.
    distance
        Distribution of the logarithm of the distance in θ between neighbouring thresholds of graded items.
    by_topic
        Topic → (slope, difficulty), for topics with at least 20 items.

    Examples
    --------
    The prior of a bank with too few items to estimate one:

    >>> from irt_psychometrics.new_items import BankPrior
    >>> BankPrior().difficulty
    Normal(mean=0.0, sd=1.0)
    """

    slope: Normal = _SLOPE
    difficulty: Normal = _DIFFICULTY
    step_sd: float = _STEP_SD
    guessing: LogitNormal = _GUESSING
    distance: Normal = _DISTANCE
    by_topic: Mapping[str, tuple[Normal, Normal]] = field(default_factory=dict)

    @classmethod
    def from_items(cls, items: ItemSource, topics: Sequence[str | None] | None = None) -> BankPrior:
        """Estimate the prior from a bank's published items and their errors.

        Parameters
        ----------
        items
            Published items with their errors: a `Fit`, a `ScaleLink` or `ItemParameters`.
        topics
            Topic of each item, shape (J,), with None for items without a topic. By default no item has a topic.

        Returns
        -------
        BankPrior
            The prior. Numbers for which fewer than 20 items have finite errors are the defaults: ln(a·m) ~ N(0, .5²)
            and b ~ N(0, 1) as `Priors.weakly_informative`, steps with an SD of 1, logarithms of distances ~ N(0, 1),
            logit c as `GUESSING_PRIOR`.

        Raises
        ------
        PsychometricsError
            If there is not one topic for each item.

        Examples
        --------
        >>> import numpy as np
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.new_items import BankPrior
        >>> b = np.linspace(-1, 3, 40)
        >>> errors = {"a_se": np.full(40, 0.1), "b_se": np.full(40, 0.1)}
        >>> names = [f"q{k}" for k in range(40)]
        >>> bank = irt.ItemParameters.from_frame({"item": names, "a": np.ones(40), "b": b, **errors})
        >>> round(BankPrior.from_items(bank).difficulty.mean, 2)
        1.0
        """
        items = require_items(items, "BankPrior.from_items")
        J = len(items.item_ids)
        if topics is not None and len(topics) != J:
            raise PsychometricsError(f"topics must be one for each of the {J} items, got {len(topics)}")
        with np.errstate(invalid="ignore", divide="ignore"):
            by = np.stack([[1 / items.a, 0 * items.a], [0 * items.a, 0 * items.a + 1]]).transpose(2, 0, 1)
            points = np.ones(J)
            for some in items.others:
                points[some.at] = whole_slope(some.model, some.categories - 1)
            values = np.column_stack([np.log(items.a * points), items.b])
        errors = by @ items.cov_of_each @ by.swapaxes(1, 2)
        known = np.isfinite(values.sum(axis=1) + errors.sum(axis=(1, 2)))
        found = cls(step_sd=_step_sd(items), guessing=_guessing(items), distance=_distance(items))
        if known.sum() < MIN_ITEMS:
            return found
        values, errors = values[known], errors[known]
        of_items = np.array([None] * J if topics is None else topics, dtype=object)[known]
        means, cov, within = _estimate_groups(values, errors, np.zeros(len(values), dtype=np.int64))
        slope, difficulty = _normals(means[0], within + cov[0])
        return replace(found, slope=slope, difficulty=difficulty, by_topic=_by_topic(values, errors, of_items))

    def priors(self, model: Model = DEFAULT_MODEL, only: Sequence[str] | None = None, *, max_score: int = 1) -> Priors:
        """Build priors for a fit of one window, with the mode that `estimate_new_items` has.

        Parameters
        ----------
        model
            The model of the fit, which decides whether a, b and c have priors.
        only
            Items to which the priors on a and b apply, such as the items that are not published yet. None: all items.
        max_score
            Maximum score of these items.

        Returns
        -------
        Priors
            Priors with the bank's means and SDs.

        Examples
        --------
        >>> from irt_psychometrics.new_items import BankPrior
        >>> BankPrior().priors("rasch", only=["q7"]).as_dict()
        {'b': {'family': 'Normal', 'mean': 0.0, 'sd': 1.0}, 'only': ['q7']}
        """
        a = LogNormal(self.slope.mean - float(np.log(whole_slope(item_model(model), max_score))), self.slope.sd)
        found = {"a": a, "b": self.difficulty, "c": self.guessing}
        chosen = {name: found[name] for name in item_model(model).priors_on}
        return Priors(**chosen, only=None if only is None else tuple(only))  # type: ignore[arg-type]

    def of_topic(self, topic: str | None) -> tuple[Normal, Normal]:
        """Return the distributions of slopes and of b for items of a topic; by default the bank's."""
        return self.by_topic.get(topic or "", (self.slope, self.difficulty))


def whole_slope(model: ItemModel, max_score: Ints | int) -> Ints | int:
    """Return the factor between a and the slope that is comparable with a 0/1 item's, by maximum scores."""
    return max_score if model.loops == "partial credit" else 1


class _Groups(NamedTuple):
    """Means of G groups (G, 2), covariances of these means (G, 2, 2), and T within groups (2, 2)."""

    means: Floats
    cov: Floats
    within: Floats


def _estimate_groups(values: Floats, errors: Floats, group: Ints) -> _Groups:
    """Estimate the distribution in the groups 0 … G − 1. `group`: each item's group, shape (J,)."""
    within, cov, weight, _ = fit_bank(values, errors, group)
    first = np.unique(group, return_index=True)[1]
    totals = np.zeros((len(first), 2, 1))
    np.add.at(totals, group, weight @ values[:, :, None])
    return _Groups((cov[first] @ totals)[:, :, 0], cov[first], within)


def _by_topic(values: Floats, errors: Floats, topics: np.ndarray) -> dict[str, tuple[Normal, Normal]]:
    """Estimate the distributions in the topics with at least 20 items; items of other topics are one group more."""
    counts = Counter(topics.tolist())
    large = sorted(str(topic) for topic, n in counts.items() if topic is not None and n >= MIN_ITEMS)
    place = {topic: k for k, topic in enumerate(large)}
    group = np.array([place.get(topic, len(large)) for topic in topics], dtype=np.int64)
    if len(np.unique(group)) < 2:
        return {}
    means, cov, within = _estimate_groups(values, errors, group)
    between, of_mean, weight, shrunk = fit_bank(means, cov, np.zeros(len(means), dtype=np.int64))
    rest = np.eye(2) - between @ weight
    spread = within + rest @ between + rest @ of_mean @ rest.swapaxes(1, 2)
    return {topic: _normals(shrunk[k], spread[k]) for topic, k in place.items()}


def _normals(mean: Floats, cov: Floats) -> tuple[Normal, Normal]:
    slope_sd, difficulty_sd = np.sqrt(cov.diagonal()).tolist()
    return (
        Normal(float(mean[0]), max(slope_sd, MIN_SLOPE_SD)),
        Normal(float(mean[1]), max(difficulty_sd, MIN_DIFFICULTY_SD)),
    )


def _step_sd(items: ItemParameters) -> float:
    """Estimate the SD of steps around b by moments. Returns the default if fewer than 20 items have all steps."""
    squares, freedom = [], []
    for some in (one for one in items.others if one.model.path == "scores"):
        for j, t, n in zip(some.at, some.further.T, some.categories, strict=True):
            if np.isfinite(t[:n]).all():
                a, gained = items.a[j], np.diff(t[:n])
                by = np.zeros((n - 1, 2 + n))  # ∂(step − b)/∂(a, b, t)
                by[:, 0], by[:, 2:] = gained / a**2, -np.diff(np.eye(n), axis=0) / a
                error = np.trace(by @ items.cov_of_all[j, : 2 + n, : 2 + n] @ by.T)
                squares.append(((gained / a) ** 2).sum() - error)
                freedom.append(n - 2)
    known = np.isfinite(squares)
    if known.sum() < MIN_ITEMS:
        return _STEP_SD
    variance = np.array(squares)[known].sum() / np.array(freedom)[known].sum()
    return float(np.sqrt(max(variance, MIN_FURTHER_SD**2)))


def _distance(items: ItemParameters) -> Normal:
    """Estimate the distribution of w − ln a by moments. Returns the default if there are fewer than 20 distances."""
    values, errors = [], []
    for some in (one for one in items.others if one.model.loops == "graded"):
        inner = inner_scores(some.model.scores_with_parameters(some.further, some.categories))
        for j, w, scores in zip(some.at, some.further.T, inner, strict=True):
            own = items.cov_of_all[j]
            for k in np.flatnonzero(scores).tolist():
                by = np.zeros(len(own))
                by[0], by[2 + k] = -1 / items.a[j], 1.0
                values.append(w[k] - np.log(items.a[j]))
                errors.append(by @ own @ by)
    known = np.isfinite(np.add(values, errors))
    if known.sum() < MIN_ITEMS:
        return _DISTANCE
    found = np.array(values)[known]
    variance = found.var(ddof=1) - np.array(errors)[known].mean()
    return Normal(float(found.mean()), float(np.sqrt(max(variance, MIN_FURTHER_SD**2))))


def _guessing(items: ItemParameters) -> LogitNormal:
    """Estimate the distribution of logit c. Returns the default if fewer than 20 items guess.

    Published c are modes under a prior, so their spread and posterior variances add up to the variance (EM).
    """
    guessed = (items.c > 0) & (items.c < 1)
    if guessed.sum() < MIN_ITEMS:
        return _GUESSING
    found = logit(items.c[guessed])
    variance = found.var() + np.nan_to_num(items.cov_of_all[guessed, 2, 2]).mean()
    return LogitNormal(float(found.mean()), max(float(np.sqrt(variance)), MIN_FURTHER_SD))
