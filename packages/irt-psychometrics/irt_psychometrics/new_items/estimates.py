"""Estimates of new items from few answers, with the published items and the persons' abilities by these held.

The estimate of an item is the mode of

    Σᵢ log ∫ P(xᵢ | θ; item) pᵢ(θ) dθ + log prior,

where pᵢ is the posterior of person i by published items. One EM cycle with these weights (OEM)
would be biased, because the new item's answers change the weights, so the search goes on to the mode (MEM; Ban, Hanson,
Wang, Yi & Harris 2001). Other new items do not change the weights.

As in `core.priors`, the prior is a density of a and b, so as a function of ln a the log prior is the normal one − ln a.
Errors of d = −ab are nearly normal, and −ln a is the Jacobian between (ln a, b) and (ln a, d), so the mode is nearly
the posterior mean. The mode of (ln a, b) would have slopes that are too large by about the variance of ln a.

Errors of published items move θ of person i by Eᵢ, so the mode moves by I⁻¹ Σᵢ (∂g/∂θ)ᵢ Eᵢ (implicit function theorem),
where g is the gradient and I the information with the prior. As P depends on θ − b, (∂g/∂θ)ᵢ is the answer's
information between b and each parameter.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import OtherItems, item_model
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.logistic import expit, logit
from irt_psychometrics.core.model_families import ItemModel
from irt_psychometrics.core.options import DEFAULT_MODEL, Model
from irt_psychometrics.new_items.bank_prior import BankPrior, whole_slope
from irt_psychometrics.new_items.kernels import add_answers
from irt_psychometrics.new_items.persons import PersonPosteriors

MAX_STEPS, TOLERANCE, LONGEST = 100, 1e-7, 1.0
"""Number of Newton steps, the change of a parameter at which they end, and the largest change in one step."""
ROUNDING, LEAST_EIGENVALUE, LEAST_RIDGE = 1e-12, 1e-9, 1e-3
"""Relative rounding error of the log posterior, the least eigenvalue of a matrix that has an inverse, and the least
increase of the diagonal of other matrices."""
NO_ERROR = 1e-10
"""Variance added to parameters that are held, so that their precision is finite."""
WIDEST = 1.0
"""Largest variance of ln a that widens the error of b. Above it an item's slope is not determined at all."""


@dataclass(frozen=True)
class NewItemEstimates:
    """Estimates of J new items.

    Attributes
    ----------
    items
        Posterior modes with errors: posterior SDs, to which the errors of the published items are added. An item
        without a mode has NaN.
    n
        Number of answers to each item, shape (J,).
    prior_share
        Share of the prior in the precision of the item's parameters, from 0 (flat) to 1 (no answers), shape (J,).
    converged
        Whether the mode was found, shape (J,). Without a prior, an item whose answers all have one score has no mode.
    one_score
        Whether all answers to the item have the lowest score, or all have the highest, shape (J,). False for items
        without answers.
    precision
        Inverse posterior covariance of (ln a, b) without the errors of the published items, shape (J, 2, 2), for
        `expected_gain` and `days_to_precision`.
    published_cov
        Covariance of (ln a, b) due to errors of the published items, shape (J, 2, 2). More answers hardly lower it.
    misfit
        Observed − expected score in SDs, in thirds of the item's persons from low to high ability, shape (J, 3). A
        wrong key raises the first and lowers the last. NaN for items with fewer than 3 answers.
    """

    items: ItemParameters
    n: Ints
    prior_share: Floats
    converged: Mask
    one_score: Mask
    precision: Floats
    published_cov: Floats
    misfit: Floats

    @property
    def ln_a_se(self) -> Floats:
        """Standard errors of ln a, shape (J,)."""
        return self.items.a_se / self.items.a


def estimate_new_items(
    item_ids: Sequence[str],
    item: npt.ArrayLike,
    person: npt.ArrayLike,
    score: npt.ArrayLike,
    persons: PersonPosteriors,
    prior: BankPrior | None,
    *,
    models: Model | Sequence[Model] = DEFAULT_MODEL,
    max_scores: Sequence[int] | None = None,
    topics: Sequence[str | None] | None = None,
    theta_effects: Any = None,
) -> NewItemEstimates:
    """Estimate new items one by one from their answers and the persons' abilities by published items.

    The estimate is the mode of Σ log ∫ P(x | θ; item) p_i(θ) dθ + log prior over ln a, b and the item's further
    parameters: logit c, t/a of partial credit, or the logarithms of the distances between a graded item's thresholds.
    p_i is the posterior of the person by published items, which new
    items do not change.

    Parameters
    ----------
    item_ids
        Names of the J new items.
    item, person, score
        Index of the item, row of `persons`, and points of each answer, shape (N,).
    persons
        Posteriors of the P persons.
    prior
        Prior of the items. A flat prior is None.
    models
        Model of all items, or of each. An item with a maximum score above 1 has the partial credit model that belongs
        to it, such as "gpcm" for "2pl". The slope of a "1pl" is held at the mean of the prior, or at 1 if the prior is
        flat.
    max_scores
        Maximum score of each item, shape (J,). None: 1.
    topics
        Topic of each item, for the prior's `by_topic`. None: the prior of the bank.
    theta_effects
        Effects on the θ of each person of R independent errors of the published items with variance 1, an array or a
        sparse matrix of shape (P, R), as `new_items.theta_effects`. None: published items have no errors.

    Returns
    -------
    NewItemEstimates
        Estimates with errors, in the order of `item_ids`.

    Raises
    ------
    PsychometricsError
        If a score is not between 0 and the item's maximum score, if an index is out of range, or if arrays do not have
        the same length. The message names the item.

    Examples
    --------
    >>> from irt_psychometrics.new_items import BankPrior, PersonPosteriors, estimate_new_items
    >>> persons = PersonPosteriors.normal([-1.0, 0.0, 1.0], 0.4)
    >>> found = estimate_new_items(["new"], [0, 0, 0], [0, 1, 2], [0, 0, 1], persons, BankPrior())
    >>> round(float(found.items.b[0]), 2), found.n.tolist()
    (0.29, [3])
    """
    laid = _lay_out(item_ids, models, max_scores, topics, prior)
    answers = _sort_answers(laid, item, person, score, len(persons.nodes))
    x, information, moments, converged = _find_modes(laid, answers, persons)
    total = _among(laid.free & converged[:, None], information + laid.precision)
    cov = np.where(laid.free[:, :, None] & laid.free[:, None], np.linalg.inv(total), 0.0)
    cov[~converged] = np.nan
    shared = _published_cov(cov, answers, moments[:, 2:], theta_effects)
    return NewItemEstimates(
        items=_item_parameters(laid, x, _widen(cov + shared, x[:, 1]), converged),
        n=np.diff(answers.start),
        prior_share=np.einsum("jde,jed->j", cov, laid.precision) / laid.free.sum(axis=1),
        converged=converged,
        one_score=(answers.n > 0) & np.isin(answers.points / np.maximum(laid.max_score * answers.n, 1), (0.0, 1.0)),
        precision=np.asarray(np.linalg.inv(cov[:, :2, :2] + NO_ERROR * np.eye(2)), dtype=np.float64),
        published_cov=shared[:, :2, :2],
        misfit=_misfit(answers, persons.theta, *moments[:, :2].T),
    )


class _Layout(NamedTuple):
    """Items: names, models, maximum scores, free parameters (J, D), and means and precisions of the priors."""

    item_ids: tuple[str, ...]
    models: list[ItemModel]
    max_score: Ints
    free: Mask
    mean: Floats
    precision: Floats


class _Answers(NamedTuple):
    """Answers sorted by item; answers to item j begin at `start[j]`. `n` and `points` (J,) are counts and sums."""

    start: Ints
    item: Ints
    person: Ints
    score: Ints
    n: Ints
    points: npt.NDArray[Any]


class _Modes(NamedTuple):
    """Modes (J, D), the answers' information (J, D, D), the kernel's moments (N, 2 + D), and which modes were found."""

    x: Floats
    information: Floats
    moments: Floats
    converged: Mask


def _lay_out(
    item_ids: Sequence[str],
    models: Model | Sequence[Model],
    max_scores: Sequence[int] | None,
    topics: Sequence[str | None] | None,
    prior: BankPrior | None,
) -> _Layout:
    J = len(item_ids)
    names = [models] * J if isinstance(models, str) else models
    maxima, of_items = [1] * J if max_scores is None else max_scores, [None] * J if topics is None else topics
    for what, given in (("models", names), ("max_scores", maxima), ("topics", of_items)):
        if len(given) != J:
            raise PsychometricsError(f"{what} must be one for each of the {J} items, got {len(given)}")
    most = np.array(maxima, dtype=np.int64)
    of = [item_model(name).of_max_score(m) for name, m in zip(names, most.tolist(), strict=True)]
    for model in of:
        if not model.estimated_alone:
            raise PsychometricsError(f"new items must be logistic, partial credit or graded, got {model.spoken}")
    sizes = most + 1 + np.array([model.has_parameter("c") for model in of], dtype=np.int64)
    D = int(sizes.max(initial=2))
    free = np.arange(D) < sizes[:, None]
    free[:, 0] = [model.own_slopes for model in of]
    mean, precision = np.zeros((J, D)), np.zeros((J, D, D))
    if prior is not None:
        for j, topic in enumerate(of_items):
            mean[j], precision[j] = _prior_terms(prior, topic, of[j], int(most[j]), D)
    return _Layout(tuple(item_ids), of, most, free, mean, precision)


def _prior_terms(prior: BankPrior, topic: str | None, model: ItemModel, m: int, size: int) -> tuple[Floats, Floats]:
    """Return the mean (D,) and precision (D, D) of one item's parameters. A fixed slope is 1.

    The density of ln a is multiplied by 1/a, which moves the mean by the variance.
    """
    slope, difficulty = prior.of_topic(topic)
    mean, precision = np.zeros(size), np.zeros((size, size))
    mean[1], precision[1, 1] = difficulty.mean, difficulty.sd**-2
    if model.own_slopes:
        mean[0], precision[0, 0] = slope.mean - slope.sd**2 - np.log(whole_slope(model, m)), slope.sd**-2
    elif model.common_slope:
        mean[0] = slope.mean
    if model.has_parameter("c"):
        mean[2], precision[2, 2] = prior.guessing.mean, prior.guessing.sd**-2
    if model.loops == "graded":
        mean[2 : m + 1] = prior.distance.mean
        precision[2 : m + 1, 2 : m + 1] = np.eye(m - 1) / prior.distance.sd**2
        return mean, precision
    steps = np.diff(np.eye(m + 1)[:, 1:-1], axis=0)  # b − step k = τ_k − τ_(k−1)
    precision[2 : m + 1, 2 : m + 1] += steps.T @ steps / prior.step_sd**2
    return mean, precision


def _sort_answers(
    laid: _Layout, items: npt.ArrayLike, persons: npt.ArrayLike, scores: npt.ArrayLike, n_persons: int
) -> _Answers:
    J = len(laid.item_ids)
    item, person, score = (np.asarray(x, dtype=np.int64) for x in (items, persons, scores))
    if not item.shape == person.shape == score.shape == (item.size,):
        raise PsychometricsError(
            f"item, person and score must have one length, got {item.shape}, {person.shape} and {score.shape}"
        )
    for what, index, end in (("item", item, J), ("person", person, n_persons)):
        for wrong in index[(index < 0) | (index >= end)]:
            raise PsychometricsError(f"{what} must be indices from 0 to {end - 1}, got {wrong}")
    for r in np.flatnonzero((score < 0) | (score > laid.max_score[item])):
        raise PsychometricsError(
            f"item {laid.item_ids[item[r]]}: scores must be from 0 to the maximum score {laid.max_score[item[r]]}, "
            f"got {score[r]}"
        )
    order = np.argsort(item, kind="stable")
    n = np.bincount(item, minlength=J)
    start = np.concatenate([[0], np.cumsum(n)])
    return _Answers(start, item[order], person[order], score[order], n, np.bincount(item, score, J))


def _find_modes(laid: _Layout, answers: _Answers, persons: PersonPosteriors) -> _Modes:
    """Search for the mode of each item by Newton's method, from the prior and the share of points.

    Steps are halved until the posterior grows.
    """
    x, m, n = laid.mean.copy(), laid.max_score, answers.n
    ability = np.bincount(answers.item, persons.theta[answers.person], len(n))
    share = (answers.points + m / 2) / (m * (n + 1))
    begin = ability / np.maximum(n, 1) - logit(share) / m
    x[:, 1] = np.where(n > 0, begin, x[:, 1])
    by_answer = answers.start, answers.person, answers.score
    by_item = m, np.array([model.has_parameter("c") for model in laid.models], dtype=np.int64), _graded(laid)
    by_person = np.ascontiguousarray(persons.nodes), np.ascontiguousarray(persons.weights)
    value, gradient, information = np.zeros(len(n)), np.zeros(x.shape), np.zeros(laid.precision.shape)
    moments = np.zeros((len(answers.item), 2 + x.shape[1]))
    tried, step, best = x.copy(), np.zeros(x.shape), np.full(len(n), -np.inf)
    searched, converged = np.arange(len(n)), np.zeros(len(n), dtype=bool)
    for _ in range(MAX_STEPS):
        add_answers(searched, by_answer, by_person, by_item, tried, value, gradient, information, moments)
        off = tried - laid.mean
        pull = (laid.precision @ off[:, :, None])[:, :, 0]
        reached = value - (off * pull).sum(axis=1) / 2
        higher = reached > best - ROUNDING * (1 + np.abs(best))
        x[higher], best[higher] = tried[higher], reached[higher]
        total = _among(laid.free & higher[:, None], information + laid.precision)
        lowest = np.linalg.eigvalsh(total)[:, 0]
        ridge = np.where(lowest > LEAST_EIGENVALUE, 0.0, LEAST_RIDGE - 2 * lowest)
        total += ridge[:, None, None] * np.eye(x.shape[1])
        newton = np.linalg.solve(total, (laid.free * (gradient - pull))[:, :, None])[:, :, 0]
        longest = np.abs(newton).max(axis=1)[:, None]
        ended = higher & (longest[:, 0] < TOLERANCE)
        converged |= ended & (ridge == 0)
        step = np.where(higher[:, None], newton * LONGEST / np.maximum(longest, LONGEST), step / 2)
        searched = searched[~ended[searched]]
        tried[searched] = x[searched] + step[searched]
        if not searched.size:
            break
    return _Modes(x, information, moments, converged)


def _graded(laid: _Layout) -> Mask:
    return np.array([model.loops == "graded" for model in laid.models], dtype=bool)


def _among(free: Mask, matrices: Floats) -> Floats:
    """Take rows and columns of parameters that are not `free` (J, D) from the identity matrix."""
    return np.where(free[:, :, None] & free[:, None], matrices, np.eye(free.shape[1]))


def _published_cov(cov: Floats, answers: _Answers, by_theta: Floats, theta_effects: Any) -> Floats:
    """Return the covariances (J, D, D) due to errors of published items: C B Bᵀ C, B = Σ by_theta · effects."""
    found = np.zeros_like(cov)
    if theta_effects is None:
        return found
    for j, (first, last) in enumerate(itertools.pairwise(answers.start.tolist())):
        moved = cov[j] @ (theta_effects[answers.person[first:last]].T @ by_theta[first:last]).T
        found[j] = moved @ moved.T
    return found


def _widen(cov: Floats, b: Floats) -> Floats:
    """Replace the error of b by the SD of b = −d/a if (ln a, d) are normal, which is wider than by the delta method."""
    by_a, between = np.minimum(cov[:, 0, 0], WIDEST), cov[:, 0, 1]
    with_d = -(between + b * by_a)  # covariance of ln a and d/a
    of_d = cov[:, 1, 1] + 2 * b * between + b**2 * by_a
    square = np.exp(2 * by_a) * ((b + 2 * with_d) ** 2 + of_d)
    variance = square - np.exp(by_a) * (b + with_d) ** 2
    scale = np.ones(cov.shape[:2])
    scale[:, 1] = np.sqrt(np.maximum(variance / cov[:, 1, 1], 1.0))
    return scale[:, :, None] * cov * scale[:, None]


def _item_parameters(laid: _Layout, x: Floats, cov: Floats, converged: Mask) -> ItemParameters:
    """Return the items with covariances of (a, b) and of logit c or the parameters of scores.

    `x` (J, D) are the modes, `cov` their covariances.
    """
    scored = np.flatnonzero(converged & (laid.max_score > 1))
    guesses = np.array([model.has_parameter("c") for model in laid.models], dtype=bool)
    C, D = int(laid.max_score.max(initial=1)) + 1, x.shape[1]
    a, by = np.exp(x[:, 0]), np.zeros((len(x), 2 + C * (C > 2) + (C == 2) * guesses.any(), D))
    by[:, 0, 0], by[:, 1, 1] = a, 1.0
    further = np.zeros((C, len(x)))
    if C > 2:
        inner = np.arange(1, C - 1)
        has, graded = inner < laid.max_score[:, None], _graded(laid)[:, None]
        further[1:-1] = np.where(has, np.where(graded, x[:, :1] + x[:, 2:], a[:, None] * x[:, 2:]), 0.0).T
        by[:, 2 + inner, 0] = np.where(graded, has, further[1:-1].T)
        by[:, 2 + inner, 1 + inner] = np.where(has, np.where(graded, 1.0, a[:, None]), 0.0)
    if guesses.any():
        by[guesses, 2, 2] = 1.0
    all_cov = by @ cov @ by.swapaxes(1, 2)
    parameters = np.vstack([a, -a * x[:, 1], further])
    others = tuple(
        OtherItems.at_places(model, at, parameters, laid.max_score + 1)
        for model in dict.fromkeys(laid.models[j] for j in scored)
        for at in [np.array([j for j in scored if laid.models[j] is model])]
    )
    lost = np.where(converged, 0.0, np.nan)
    c = np.where(guesses, expit(x[:, min(2, D - 1)]), 0.0)
    more = all_cov[:, 2:] if by.shape[1] > 2 else None
    return ItemParameters(laid.item_ids, a + lost, x[:, 1] + lost, c + lost, all_cov[:, :2, :2], more, others)


def _misfit(answers: _Answers, theta: Floats, expected: Floats, variance: Floats) -> Floats:
    """Return (observed − expected)/SD in thirds of each item's persons by ability, shape (J, 3)."""
    order = np.lexsort((theta[answers.person], answers.item))
    of, J = answers.item[order], len(answers.n)
    third = 3 * (np.arange(of.size) - answers.start[of]) // np.maximum(answers.n[of], 1)
    off, spread = (
        np.bincount(3 * of + third, values[order], 3 * J).reshape(J, 3)
        for values in (answers.score - expected, variance)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(answers.n[:, None] >= 3, off / np.sqrt(spread), np.nan)
