"""Families of item models: the probability of each score given θ, its derivatives, and an item's parameters.

This module contains everything that depends on an item's model alone. Items of several models together are in
`item_models`.

Parameters of J items are an array (P, J) on the scale on which they are estimated: the slope a, the intercept d, and
the parameters that a model adds (logit c, or a parameter of each score). θ (Q,) are abilities. `categories` (J,) are
the numbers of scores 0, 1, … up to the item's maximum score. C is the largest number of scores of an item.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import numpy as np

from irt_psychometrics.core import curves
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.logistic import expit, log_expit, logit
from irt_psychometrics.core.options import MAX_SCORE, Model
from irt_psychometrics.core.priors import GUESSING_PRIOR, Beta, LogitNormal, Priors

SLOPE_BOUND = 10.0
"""Bound of |a|: a steeper curve rises from 0.1 to 0.9 between two or three of 61 nodes, which cannot resolve it."""
GUESSING_BOUNDS = (1e-4, 0.95)
"""Bounds of c: one correct guess in ten thousand, and a curve that rises by only .05 in all."""
_START_GUESSING = 0.15
_LOGIT = "logit "
"""Prefix of the names of parameters that are estimated on the logit scale; they are shown without it."""
LOGIT_C = f"{_LOGIT}c"
"""The name of the parameter that is estimated for c."""
ComputationPath = Literal["logistic", "scores", "general"]
"""Ways to compute the curves of a model's items, from the fastest: see `ItemModel.path`."""
Loops = Literal["logistic", "partial credit", "graded", "nominal"]
"""Compiled loops over answers, by the curves that they have: see `ItemModel.loops`."""
_BY_AD = "a change of scale that moves a and d alone"
_FLATTER = 1.16  # a logistic curve with a = 1 over θ ~ N(0, 1) is flatter by about √(1 + 1/1.7²)


class ItemModel(ABC):
    """A model of items.

    Attributes:
        name: the name in settings, tables and files.
        spoken: the name in a sentence.
        slopes: "own" if each item has a slope, "common" if all have the same, "fixed" if it is 1 and the SD of θ is
            free.
        min_items: with fewer items, the model has more parameters than there are response patterns, so the likelihood
            has no unique maximum.
        priors_on: the parameters that can have priors.
        further_priors: priors that belong to the model, each with the name of its logit parameter.
        highest_score: the highest maximum score of an item; 1 if all answers are either right or wrong.
        path: "logistic" if a, d and c determine the curve, c + (1 − c)/(1 + exp(−(aθ + d))); "scores" if the sum of the
            scores, each times its item's slope, is sufficient for θ; otherwise "general", which uses the methods of the
            class and is slower.
        loops: the compiled loops over answers that have its curves, or None.
        block_steps: whether items of one block have the parameters of their scores in common.
        ordered_scores: whether a higher score is evidence of more ability, so that mean scores can be compared.
        step_word: the name of one of the item's `steps`.
        step_meaning: a definition of `step_word` for readers of a table.
    """

    name: Model
    spoken: str
    slopes: Literal["own", "common", "fixed"] = "own"
    min_items: int = 3
    priors_on: tuple[str, ...] = ("a",)
    further_priors: tuple[tuple[str, LogitNormal | Beta], ...] = ()
    highest_score: int = MAX_SCORE
    path: ComputationPath = "general"
    loops: Loops | None = None
    block_steps: bool = False
    ordered_scores: bool = True
    step_word: ClassVar[str] = "step"
    step_meaning: ClassVar[str] = ""

    @property
    def own_slopes(self) -> bool:
        """Whether each item has a slope of its own."""
        return self.slopes == "own"

    @property
    def common_slope(self) -> bool:
        """Whether all items have one slope, which is estimated."""
        return self.slopes == "common"

    @property
    def fixed_slopes(self) -> bool:
        """Whether all slopes are 1."""
        return self.slopes == "fixed"

    @property
    def default_priors(self) -> Priors:
        """The priors of a fit without `priors=`."""
        return GUESSING_PRIOR if "c" in self.priors_on else Priors()

    @property
    def without_guessing(self) -> ItemModel:
        """The same model with lower asymptotes of 0."""
        return self

    @property
    def with_unit_sd(self) -> ItemModel:
        """The same model of the answers, but with an SD of 1 for θ."""
        return self

    @property
    def more_than_a_and_b(self) -> bool:
        """Whether items of two categories have a parameter besides slope and intercept, with errors correlated to
        theirs."""
        return len(self.parameter_names(2)) > 2

    @property
    def by_score(self) -> bool:
        """Whether the parameters besides a and d belong to the scores of an item."""
        return len(self.parameter_names(3)) > len(self.parameter_names(2))

    def has_parameter(self, name: str) -> bool:
        """Check whether items have the parameter shown under this name, such as "c" for the estimated `logit c`."""
        return name in self.stored_names(2)

    @property
    def estimated_alone(self) -> bool:
        """Whether an item can be estimated alone, from the abilities of its persons (`new_items`)."""
        return self.loops in ("logistic", "partial credit", "graded")

    def require_categories(self, item_ids: Sequence[str], categories: Ints) -> None:
        """Raise PsychometricsError, which names items, if items have more categories than the model allows."""
        if self.highest_score == 1 and (categories > 2).any():
            many = [f"{item} ({n})" for item, n in zip(item_ids, categories.tolist(), strict=True) if n > 2]
            raise PsychometricsError(
                f"a {self.spoken} is for items of two categories, and {len(many)} items have more: "
                f"{', '.join(many[:5])}{' …' if len(many) > 5 else ''}. Score them as right and wrong"
            )

    def require_two_categories(self, subject: str) -> None:
        """Raise PsychometricsError if items can have more categories; `subject` is the subject of the message."""
        if self.highest_score > 1:
            raise PsychometricsError(f"{subject} is defined for items of two categories, and a {self.spoken} has more")

    def require_logistic(self, subject: str) -> None:
        """Raise PsychometricsError unless a, b and c determine the curves of the items.

        `subject`, the subject of the message, is computed for these curves alone.
        """
        self.require_two_categories(subject)
        if self.path != "logistic":
            raise PsychometricsError(
                f"{subject} is computed from a, b and c, which do not determine the curves of a {self.spoken}"
            )

    def require_own_parameters(self, subject: str) -> None:
        """Raise PsychometricsError if items share steps, or have an asymptote that needs a prior.

        `subject` is the subject of the message.
        """
        if self.block_steps or self.has_parameter("c"):
            raise PsychometricsError(
                f"{subject} needs items with parameters of their own and without priors, which a {self.spoken} lacks; "
                "fit the items by irt.fit and give the fit as items"
            )

    def require_ordered_scores(self, subject: str) -> None:
        """Raise PsychometricsError if scores have no order; `subject` is the subject of the message."""
        if not self.ordered_scores:
            raise PsychometricsError(f"{subject} needs ordered scores, and the scores of a {self.spoken} have no order")

    @abstractmethod
    def parameter_names(self, categories: int) -> tuple[str, ...]:
        """Names of the parameters of an item with this many categories; the first two are a and d."""

    def stored_names(self, categories: int) -> dict[str, bool]:
        """Return the stored parameters besides a and d: name → whether the logit of the parameter is estimated."""
        names = self.parameter_names(categories)[2:]
        return {name.removeprefix(_LOGIT): name.startswith(_LOGIT) for name in names}

    def stored_values(self, further: Floats, errors: Floats, categories: int) -> dict[str, float]:
        """One item's M parameters besides a and d, and their standard errors, in the form in which they are stored.

        `logit u` and its error become `u` and `u_se`. Values that are not finite are omitted.
        """
        found: dict[str, float] = {}
        for name, value, se in zip(self.parameter_names(categories)[2:], further, errors, strict=False):
            share = float(expit(value))
            if name.startswith(_LOGIT):
                value, se = share, se * share * (1 - share)
            found |= {name.removeprefix(_LOGIT): float(value), f"{name.removeprefix(_LOGIT)}_se": float(se)}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def steps(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Compute the steps of one item with these parameters (P,), shape (S,), and the derivatives, shape (S, P).

        Empty for a model of two categories, for an item that lacks a score, and for a = 0.
        """
        return np.zeros(0), np.zeros((0, parameters.size))

    def step_errors(self, parameters: Floats, cov: Floats) -> dict[str, float]:
        """The standard errors of one item's steps, named b1_se, b2_se, …; empty if it has no steps.

        The errors follow by the delta method from the covariance `cov` (P, P) of the item's `parameters` (P,).
        """
        by = self.steps(parameters)[1]
        variance = np.einsum("kp,pq,kq->k", by, cov, by)
        if not (variance >= 0).all():
            return {}
        return {f"b{k}_se": float(np.sqrt(v)) for k, v in enumerate(variance, start=1)}

    def is_of(self, names: Sequence[str]) -> bool:
        """Whether these are the names (as in `stored_values`) of the parameters that the model adds to a and d."""
        return sorted(names) == sorted(self.stored_names(min(2 + len(names), 1 + self.highest_score)))

    def parse_stored(self, stored: Mapping[str, float]) -> tuple[Floats, int]:
        """The inverse of `stored_values`: the parameters, shape (M,), and the number of the item's categories."""
        values = {name: value for name, value in stored.items() if not name.endswith("_se")}
        categories = min(2 + len(values), 1 + self.highest_score)
        names = self.stored_names(categories).items()
        return np.array([logit(values[name]) if is_share else values[name] for name, is_share in names]), categories

    def places(self, n_items: int) -> dict[ItemModel, Ints]:
        """The places of each model's items among J items."""
        return {self: np.arange(n_items)}

    def of_max_score(self, max_score: int) -> ItemModel:
        """The model of an item with this maximum score on a scale whose default is this model."""
        return self if max_score == 1 else GPCM if self.own_slopes else PCM

    def common_slopes(self, n_items: int) -> Mask:
        """Mask of the items that have a slope in common, shape (J,)."""
        return np.full(n_items, self.common_slope)

    @abstractmethod
    def log_probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        """log P(category | θ), shape (J, Q, C); −∞ for categories that an item does not have."""

    @abstractmethod
    def by_parameters(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        """∂ log P/∂ parameter, shape (P, J, Q, C); 0 for categories and parameters that an item does not have."""

    @abstractmethod
    def by_theta(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        """∂ log P/∂θ, shape (J, Q, C); 0 for categories that an item does not have."""

    @abstractmethod
    def start(self, shares: Floats, categories: Ints, priors: Priors) -> Floats:
        """Starting values of a fit, shape (P, J).

        Slopes are 1, and with θ ~ N(0, 1) the expected shares of answers in each category are about `shares` (J, C).
        """

    def has(self, categories: Ints) -> Mask:
        """Mask of the parameters that an item has, estimated or not, shape (P, J)."""
        names = self.parameter_names(int(categories.max(initial=2)))
        has = np.zeros((len(names), len(categories)), dtype=bool)
        for n in np.unique(categories).tolist():
            has[:, categories == n] = np.isin(names, self.parameter_names(n))[:, None]
        return has

    def free(self, categories: Ints, given: Mask | None = None) -> Mask:  # noqa: ARG002
        """Mask of the parameters that are estimated, shape (P, J).

        `given` (J, C) marks the scores that somebody has; None means all scores.
        """
        free = self.has(categories)
        free[0] &= not self.fixed_slopes
        return free

    def fixed_values(self, categories: Ints, given: Mask | None = None) -> Floats:  # noqa: ARG002
        """Values of the parameters that are not estimated, shape (P, J): slopes of 1, no guessing, and 0 otherwise.

        `given` as in `free`.
        """
        names = self.parameter_names(int(categories.max(initial=2)))
        values = np.array([{"a": 1.0, LOGIT_C: -np.inf}.get(name, 0.0) for name in names])
        return np.repeat(values[:, None], len(categories), axis=1)

    def guessed(self, n_items: int) -> Mask:
        """Mask of the items whose third parameter is logit c, shape (J,)."""
        return np.full(n_items, self.has_parameter("c"))

    def bounds(self, parameter: str) -> tuple[float, float]:
        """The lower and upper bound of a parameter's estimate."""
        if parameter == "a":
            return -SLOPE_BOUND, SLOPE_BOUND
        return -np.inf, np.inf

    def estimable(self, counts: Floats, categories: Ints) -> Mask:
        """Mask of the items with an answer in each category, shape (J,); other items have no finite estimate."""
        return np.all((counts > 0) | (np.arange(counts.shape[1]) >= categories[:, None]), axis=1)

    def transform_parameters(self, parameters: Floats, slope: float, intercept: float) -> Floats:
        """The parameters on θ* = slope·θ + intercept, slope > 0.

        For two categories a* = a/slope, d* = d − a·intercept/slope, and the other parameters do not change. A model of
        more categories overrides this method and `jacobian`; otherwise both raise PsychometricsError.
        """
        self.require_two_categories(_BY_AD)
        return _move_line(parameters, slope, intercept)

    def jacobian(self, slope: float, intercept: float, size: int) -> Floats:
        """Derivatives of one item's transformed parameters with respect to its parameters, shape (size, size)."""
        self.require_two_categories(_BY_AD)
        return _line_jacobian(slope, intercept, size)

    def from_log_odds(self, log_odds: Floats) -> tuple[Floats, Floats]:  # noqa: ARG002
        """Convert one item's log odds at θ = 0 to d and the parameters of scores, shape (1 + C,), and derivatives.

        `log_odds` (C,) are mirt's d of each score, 0 of the lowest and NaN of absent scores. The derivatives have the
        shape (1 + C, C). `NominalModel` has 2C in place of C. Raises PsychometricsError for models without scores.
        """
        raise PsychometricsError(f"a {self.spoken} has no parameters of scores")

    def scores_with_parameters(self, further: Floats, categories: Ints) -> Mask:  # noqa: ARG002
        """Mask of the scores whose probability is above 0, shape (J, C)."""
        return np.arange(categories.max(initial=2)) < categories[:, None]

    def compared_scores(self, further: Floats, categories: Ints) -> Mask:
        """Select the scores k of scored items for which P(X ≥ k | θ) can be compared, shape (J, C)."""
        return self.scores_with_parameters(further, categories) & (categories > 2)[:, None] & self.ordered_scores

    def probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        """P(category | θ), shape (J, Q, C)."""
        return np.exp(self.log_probabilities(theta, parameters, categories))

    def expected_score(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        """The expected score Σ k·P(k | θ), shape (J, Q)."""
        p = self.probabilities(theta, parameters, categories)
        return p @ np.arange(p.shape[2])

    def information(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        """Fisher information of an answer about θ, shape (J, Q): Σ P·(∂ log P/∂θ)² (Samejima 1969)."""
        p = self.probabilities(theta, parameters, categories)
        return (p * self.by_theta(theta, parameters, categories) ** 2).sum(axis=2)


@dataclass(frozen=True)
class LogisticModel(ItemModel):
    """Items of two categories: P(1) = c + (1 − c)·L with L = 1/(1 + exp(−(aθ + d))) (Rasch 1960; Birnbaum 1968)."""

    name: Model
    spoken: str
    slopes: Literal["own", "common", "fixed"]
    guesses: bool = False
    min_items: int = 3
    priors_on: tuple[str, ...] = ("a", "b")
    highest_score = 1
    path = "logistic"
    loops = "logistic"

    @property
    def without_guessing(self) -> ItemModel:
        return TWO_PL if self.guesses else self

    @property
    def with_unit_sd(self) -> ItemModel:
        return ONE_PL if self.fixed_slopes else self

    def parameter_names(self, categories: int) -> tuple[str, ...]:  # noqa: ARG002
        return ("a", "d", LOGIT_C) if self.guesses else ("a", "d")

    def bounds(self, parameter: str) -> tuple[float, float]:
        if parameter == LOGIT_C:
            low, high = logit(GUESSING_BOUNDS)
            return float(low), float(high)
        return super().bounds(parameter)

    def start(self, shares: Floats, categories: Ints, priors: Priors) -> Floats:  # noqa: ARG002
        """Starting values: c at its prior's mode, and intercepts that give each item its proportion correct."""
        p = np.clip(shares[:, 1], 1e-6, 1 - 1e-6)
        mode = float(logit(_START_GUESSING)) if priors.c is None else priors.c.mode
        if self.guesses:
            c = 1 / (1 + np.exp(-mode))
            p = np.clip((p - c) / (1 - c), 0.05, 1 - 1e-6)
        return np.stack([np.ones_like(p), _FLATTER * logit(p), np.full_like(p, mode)][: 2 + self.guesses])

    def log_probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:  # noqa: ARG002
        log_right, log_wrong = curves.log_probabilities_at(*self._logits(theta, parameters))
        return np.stack([log_wrong, log_right], axis=2)

    def by_parameters(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:  # noqa: ARG002
        eta, c = self._logits(theta, parameters)
        by_eta = self._by_eta(eta, c)
        found = [by_eta * theta[:, None], by_eta]
        if self.guesses:
            right = c * (1 - c) * expit(-eta) / (c + (1 - c) * expit(eta))
            found.append(np.stack([np.broadcast_to(-c, eta.shape), right], axis=2))
        return np.stack(found)

    def by_theta(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:  # noqa: ARG002
        return parameters[0][:, None, None] * self._by_eta(*self._logits(theta, parameters))

    def _logits(self, theta: Floats, parameters: Floats) -> tuple[Floats, Floats]:
        """aθ + d (J, Q), and c (J, 1)."""
        c = expit(parameters[2]) if self.guesses else np.zeros(parameters.shape[1])
        return np.multiply.outer(parameters[0], theta) + parameters[1][:, None], c[:, None]

    def _by_eta(self, eta: Floats, c: Floats) -> Floats:
        """∂ log P/∂(aθ + d), shape (J, Q, 2)."""
        right = (1 - c) * expit(eta) * expit(-eta) / (c + (1 - c) * expit(eta))
        return np.stack([-expit(eta), right], axis=2)


class ComplementaryLogLog(ItemModel):
    """Items of two categories: P(1) = 1 − exp(−exp(aθ + d)), which leaves 0 more slowly than it approaches 1.

    Answers that follow such a curve look like guessed answers, although the curve has no asymptote. Fits are compared
    with this model (see `estimation.latent_shape`); no scale can have it.
    """

    name = cast("Model", "cloglog")  # not in `Model`, because no scale can have it
    spoken = "complementary log-log curve"
    priors_on = ("a", "b")
    highest_score = 1

    def parameter_names(self, categories: int) -> tuple[str, ...]:  # noqa: ARG002
        return "a", "d"

    def start(self, shares: Floats, categories: Ints, priors: Priors) -> Floats:  # noqa: ARG002
        p = np.clip(shares[:, 1], _RARE, 1 - _RARE)
        return np.stack([np.ones_like(p), _FLATTER * np.log(-np.log1p(-p))])

    def log_probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:  # noqa: ARG002
        hazard = self._hazard(theta, parameters)
        return np.stack([-hazard, np.log(-np.expm1(-hazard))], axis=2)

    def by_parameters(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:  # noqa: ARG002
        by_eta = self._by_eta(theta, parameters)
        return np.stack([by_eta * theta[:, None], by_eta])

    def by_theta(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:  # noqa: ARG002
        return parameters[0][:, None, None] * self._by_eta(theta, parameters)

    def _hazard(self, theta: Floats, parameters: Floats) -> Floats:
        """exp(aθ + d), shape (J, Q), with aθ + d clipped to the range in which P and 1 − P are at least 1e-26."""
        return np.exp(np.clip(np.multiply.outer(parameters[0], theta) + parameters[1][:, None], -60.0, 4.1))

    def _by_eta(self, theta: Floats, parameters: Floats) -> Floats:
        """∂ log P/∂(aθ + d), shape (J, Q, 2)."""
        hazard = self._hazard(theta, parameters)
        return np.stack([-hazard, hazard / np.expm1(hazard)], axis=2)


_T, _OF_SCORES = "t", "max_score"
"""Prefix of the parameters of scores, and the name under which an item's maximum score is stored."""
_RARE = 1e-3
"""Lower limit of a score's share of the answers, for the starting values of a fit."""


@dataclass(frozen=True)
class ScoredModel(ItemModel):
    """Items scored 0 … m whose curves follow from aθ + d and a parameter of each score.

    The parameters of the lowest and of the highest score that an item has are 0 and not estimated. Scores that it does
    not have get −∞, so an item scored 0 and 2 keeps its scores. A change of the scale changes only a and d. With m = 1,
    the model is the 2PL.

    Attributes:
        prefixes: prefixes of the names of each score's parameters, which are in the order of the scores.
    """

    name: Model
    spoken: str
    slopes: Literal["own", "common", "fixed"]
    block_steps: bool = False
    priors_on: tuple[str, ...] = ("a", "b")
    prefixes: ClassVar[tuple[str, ...]]

    def parameter_names(self, categories: int) -> tuple[str, ...]:
        return ("a", "d", *(f"{prefix}{k}" for k in range(categories) for prefix in self.prefixes))

    def of_max_score(self, max_score: int) -> ItemModel:
        return self if max_score > 1 else TWO_PL if self.own_slopes else RASCH

    def free(self, categories: Ints, given: Mask | None = None) -> Mask:
        free = super().free(categories)
        free[2:] = np.repeat(inner_scores(_possible(categories, given)).T, len(self.prefixes), axis=0)
        return free

    def fixed_values(self, categories: Ints, given: Mask | None = None) -> Floats:
        values = super().fixed_values(categories)
        possible = np.repeat(_possible(categories, given).T, len(self.prefixes), axis=0)
        absent = self.has(categories)[2:] & ~possible
        values[2:][absent] = -np.inf
        return values

    def estimable(self, counts: Floats, categories: Ints) -> Mask:  # noqa: ARG002
        """Mask of the items with answers of at least two different scores, shape (J,)."""
        return (counts > 0).sum(axis=1) > 1

    def stored_values(self, further: Floats, errors: Floats, categories: int) -> dict[str, float]:
        """One item's maximum score, and the parameters with standard errors of each score that the item has."""
        found: dict[str, float] = {_OF_SCORES: float(categories - 1)}
        for name, value, se in zip(self.parameter_names(categories)[2:], further, errors, strict=False):
            found |= {name: float(value), f"{name}_se": float(se)} if np.isfinite(value) else {}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def is_of(self, names: Sequence[str]) -> bool:
        return _OF_SCORES in names and {name[0] for name in names if name != _OF_SCORES} == {*self.prefixes}

    def parse_stored(self, stored: Mapping[str, float]) -> tuple[Floats, int]:
        categories = int(stored[_OF_SCORES]) + 1
        return np.array([stored.get(name, -np.inf) for name in self.parameter_names(categories)[2:]]), categories

    def score_rows(self, further: Floats, categories: Ints) -> Floats:  # noqa: ARG002
        """Return the rows of `scored_kernels.score_curve` of n items with these parameters (M, n), shape (M, n)."""
        return further

    def scores_with_parameters(self, further: Floats, categories: Ints) -> Mask:
        C, each = categories.max(initial=2), len(self.prefixes)
        return super().scores_with_parameters(further, categories) & np.isfinite(further[: C * each : each].T)

    def transform_parameters(self, parameters: Floats, slope: float, intercept: float) -> Floats:
        return _move_line(parameters, slope, intercept)

    def jacobian(self, slope: float, intercept: float, size: int) -> Floats:
        return _line_jacobian(slope, intercept, size)


class PartialCreditModel(ScoredModel):
    """Items scored 0 … m: log P(k) = k·(aθ + d) + t_k up to a constant, for the scores k that an item can have.

    This is Bock's (1972) nominal model with given scores (Thissen, Cai & Bock 2010). With own slopes it is the
    generalised partial credit model (Muraki 1992), otherwise the partial credit model (Masters 1982).

    t is 0 at the lowest and at the highest score, so d and b = −d/a locate the item: at θ = b these two scores are
    equally likely, and b is the mean of the steps, each weighted by its points. The log odds of score k against 0 are
    k·aθ + d_k with d_k = k·d + t_k (mirt's ak and d). a is the slope of one point.

    Attributes:
        block_steps: whether the items of a block have their t in common (rating scale model, Andrich 1978).
    """

    prefixes = (_T,)
    path = "scores"
    loops = "partial credit"
    step_meaning = "a step is where a score and the one below it are equally likely"

    def start(self, shares: Floats, categories: Ints, priors: Priors) -> Floats:  # noqa: ARG002
        C = shares.shape[1]
        given = (np.arange(C) < categories[:, None]) & (shares > 0)
        logs = np.log(np.maximum(shares, _RARE))
        low, high = given.argmax(axis=1), C - 1 - given[:, ::-1].argmax(axis=1)
        rows, points = np.arange(len(shares)), np.arange(C)
        logs = _FLATTER * logs
        d = (logs[rows, high] - logs[rows, low]) / np.maximum(high - low, 1)
        t = logs - logs[rows, low][:, None] - (points - low[:, None]) * d[:, None]
        t[rows, high] = 0.0
        t[~given] = -np.inf
        t[points >= categories[:, None]] = 0.0
        return np.vstack([np.ones(len(shares)), d, t.T])

    def from_log_odds(self, log_odds: Floats) -> tuple[Floats, Floats]:
        points, has = np.arange(log_odds.size), np.isfinite(log_odds)
        low, high = np.flatnonzero(has)[[0, -1]]
        by = np.vstack([np.zeros(points.size), np.eye(points.size)])
        by[0, high] = 1 / (high - low)
        by[1:, high] -= (points - low) / (high - low)
        by[1:] *= has[:, None]
        values = by @ np.where(has, log_odds, 0.0)
        values[1:][~has] = -np.inf
        return values, by

    def steps(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Compute the θ at which scores k − 1 and k are equally likely, for k = 1 … m, and the derivatives."""
        a, d, t = parameters[0], parameters[1], parameters[2:]
        if not np.isfinite(t).all() or a == 0:
            return super().steps(parameters)
        gained = np.diff(np.eye(t.size), axis=0)
        steps = -(d + gained @ t) / a
        return steps, np.column_stack([-steps / a, np.full(steps.size, -1 / a), -gained / a])

    def log_probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        points = np.arange(len(parameters) - 2)
        eta = np.multiply.outer(parameters[0], theta) + parameters[1][:, None]
        t = np.where(points[:, None] < categories, parameters[2:], -np.inf)
        logs = points[:, None, None] * eta + t[:, :, None]  # scores first, so that sums over them add whole rows
        logs -= logs.max(axis=0)
        logs -= np.log(np.exp(logs).sum(axis=0))
        return np.moveaxis(logs, 0, 2)

    def by_parameters(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        p = self.probabilities(theta, parameters, categories)
        points = np.arange(p.shape[2])
        by_eta = points - (p @ points)[:, :, None]
        by_t = [(points == k) - p[:, :, k : k + 1] for k in points]
        return np.where(p > 0, np.stack([by_eta * theta[:, None], by_eta, *by_t]), 0.0)

    def by_theta(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        p = self.probabilities(theta, parameters, categories)
        points = np.arange(p.shape[2])
        return np.where(p > 0, parameters[0][:, None, None] * (points - (p @ points)[:, :, None]), 0.0)


class _Differences(NamedTuple):
    """Differences between aθ + d and the thresholds of J graded items with up to C scores.

    Attributes:
        lower, upper: aθ + d minus the threshold below each score, and minus the threshold above it, shape (C, J, Q).
        width: distance of these thresholds, shape (C, J, 1).
        has: whether an item has the score, shape (C, J, 1).
    """

    lower: Floats
    upper: Floats
    width: Floats
    has: Mask


class GradedModel(ScoredModel):
    """Items scored 0 … m: P(X ≥ k) = 1/(1 + exp(−(aθ + d − u_k))) (Samejima 1969).

    u_k are the thresholds on the scale of aθ + d; their mean is 0, so b = −d/a is the mean of the thresholds
    b_k = (u_k − d)/a. w_k is the logarithm of the distance between the two thresholds of an inner score k, so the
    thresholds ascend whatever the values. The log odds of X ≥ k against X < k are aθ + d_k with d_k = d − u_k (mirt's
    d).
    """

    prefixes = ("w",)
    loops = "graded"
    step_word = "threshold"
    step_meaning = "a threshold is where the score or a higher one has probability 1/2"

    def start(self, shares: Floats, categories: Ints, priors: Priors) -> Floats:  # noqa: ARG002
        given = ((np.arange(shares.shape[1]) < categories[:, None]) & (shares > 0)).T
        at_least = np.cumsum(shares[:, ::-1], axis=1)[:, ::-1].T
        u = -_FLATTER * logit(np.clip(at_least, _RARE, 1 - _RARE))
        above = _above_lowest(given)
        mean = np.where(above, u, 0.0).sum(axis=0) / np.maximum(above.sum(axis=0), 1)
        w = self.fixed_values(categories, given.T)[2:]
        upper = np.minimum.accumulate(np.where(above, u, np.inf)[::-1])[::-1]  # of the score, or of the next one
        width = np.vstack([upper[1:], np.full(upper.shape[1], np.inf)]) - u
        inner = inner_scores(given.T).T
        w[inner] = np.log(np.maximum(width[inner], _RARE))
        return np.vstack([np.ones(len(shares)), -mean, w])

    def from_log_odds(self, log_odds: Floats) -> tuple[Floats, Floats]:
        size, has = log_odds.size, np.isfinite(log_odds)
        above, inner = np.flatnonzero(has)[1:], inner_scores(has[None])[0]
        values, by = np.concatenate([[log_odds[above].mean()], np.where(has, 0.0, -np.inf)]), np.zeros((1 + size, size))
        by[0, above] = 1 / above.size
        width = -np.diff(log_odds[above])
        values[1:][inner] = np.log(width)
        by[1 + above[:-1], above[:-1]], by[1 + above[:-1], above[1:]] = 1 / width, -1 / width
        return values, by

    def steps(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Compute the thresholds b_k, θ at which a score of at least k has probability 1/2, for k = 1 … m."""
        a, d, w = parameters[0], parameters[1], parameters[2:]
        if not np.isfinite(w).all() or a == 0:
            return super().steps(parameters)
        by_width = np.tri(w.size - 1, w.size)
        by_width = (by_width - by_width.mean(axis=0)) * np.exp(w)
        steps = (by_width.sum(axis=1) - d) / a
        return steps, np.column_stack([-steps / a, np.full(steps.size, -1 / a), by_width / a])

    def score_rows(self, further: Floats, categories: Ints) -> Floats:
        """Compute the thresholds u of n items on the scale of aθ + d, shape (M, n); ±∞ below and above the scores."""
        has = np.isfinite(further) & (np.arange(len(further))[:, None] < categories)
        width = np.where(inner_scores(has.T).T, np.exp(further), 0.0)
        u, above = np.cumsum(width, axis=0) - width, _above_lowest(has)
        u -= np.where(above, u, 0.0).sum(axis=0) / np.maximum(above.sum(axis=0), 1)
        u[np.cumsum(has, axis=0) <= has] = -np.inf
        u[np.cumsum(has[::-1], axis=0)[::-1] == 0] = np.inf
        return u

    def log_probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        lower, upper, width, has = self._differences(theta, parameters, categories)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = log_expit(lower) + log_expit(-upper) + np.log(-np.expm1(-width))
        return np.moveaxis(np.where(has, logs, -np.inf), 0, 2)

    def by_parameters(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        lower, upper, width, has = self._differences(theta, parameters, categories)
        from_below, from_above = expit(-lower), expit(upper)
        k, inner = np.arange(len(has))[:, None, None], has & np.isfinite(width)
        n = np.maximum(_above_lowest(has).sum(axis=0), 1)
        share = (np.cumsum(has[::-1], axis=0)[::-1] - has) / n  # of the item's thresholds, those above a score
        by_w = []
        for j, distance in enumerate(np.where(inner, width, 1.0)):
            moved = ((k >= j) - share[j]) * from_above - ((k > j) - share[j]) * from_below
            by_w.append(np.where(inner[j], distance * (moved + (k == j) / np.expm1(distance)), 0.0))
        by_eta = from_below - from_above
        return np.moveaxis(np.where(has, np.stack([by_eta * theta, by_eta, *by_w]), 0.0), 1, 3)

    def by_theta(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        lower, upper, _, has = self._differences(theta, parameters, categories)
        by_eta = np.where(has, expit(-lower) - expit(upper), 0.0)
        return parameters[0][:, None, None] * np.moveaxis(by_eta, 0, 2)

    def _differences(self, theta: Floats, parameters: Floats, categories: Ints) -> _Differences:
        u = self.score_rows(parameters[2:], categories)
        above = np.vstack([u[1:], np.full_like(u[:1], np.inf)])
        eta, has = np.multiply.outer(parameters[0], theta) + parameters[1][:, None], u < above
        width = np.subtract(above, u, out=np.zeros_like(u), where=has)
        return _Differences(eta - u[:, :, None], eta - above[:, :, None], width[:, :, None], has[:, :, None])


RASCH = LogisticModel("rasch", "Rasch", "fixed", False, 2, ("b",))
ONE_PL = LogisticModel("1pl", "1PL", "common", False, 2, ("a", "b"))
TWO_PL = LogisticModel("2pl", "2PL", "own", False, 3, ("a", "b"))
THREE_PL = LogisticModel("3pl", "3PL", "own", True, 4, ("a", "b", "c"))
PCM = PartialCreditModel("pcm", "PCM", "fixed", priors_on=("b",))
RSM = PartialCreditModel("rsm", "RSM", "fixed", block_steps=True, priors_on=("b",))
GPCM = PartialCreditModel("gpcm", "GPCM", "own")
GRM = GradedModel("grm", "graded response model", "own")
CLOGLOG = ComplementaryLogLog()


def inner_scores(scores: Mask) -> Mask:
    """Mask of an item's `scores` (J, C) that are neither its lowest nor its highest, shape (J, C)."""
    return scores & (np.cumsum(scores, axis=1) > 1) & (np.cumsum(scores[:, ::-1], axis=1)[:, ::-1] > 1)


def _above_lowest(scores: Mask) -> Mask:
    """Mask of the items' `scores` (C, J) that are not the lowest one."""
    return scores & (np.cumsum(scores, axis=0) > 1)


def _possible(categories: Ints, given: Mask | None) -> Mask:
    """Mask of the scores that an item has, shape (J, C)."""
    has: Mask = np.arange(int(categories.max(initial=2))) < categories[:, None]
    return has if given is None else has & given[:, : has.shape[1]]


def _move_line(parameters: Floats, slope: float, intercept: float) -> Floats:
    """The parameters with a* = a/slope and d* = d − a·intercept/slope, and the others unchanged."""
    out = parameters.copy()
    out[0] = parameters[0] / slope
    out[1] = parameters[1] - parameters[0] * intercept / slope
    return out


def _line_jacobian(slope: float, intercept: float, size: int) -> Floats:
    out = np.eye(size)
    out[0, 0], out[1, 0] = 1 / slope, -intercept / slope
    return out
