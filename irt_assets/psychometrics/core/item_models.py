"""Item models: the probability of each category of an answer given θ, and which parameters an item has.

Belongs here: whatever depends on the model of an item alone. Does not belong here: data, fits, distributions of θ.
Code elsewhere asks a model what it needs to know and compares no names.

Parameters of J items are an array (P, J) on the scale on which they are estimated: the slope a, the intercept d, and
what a model adds to them (logit c, or intercepts of further categories). θ (Q,) are abilities. `categories` (J,) are
the numbers of categories, which are scored 0, 1, …; arrays over C categories are as long as the most of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from irt_assets.psychometrics.core import curves
from irt_assets.psychometrics.core.arrays import Floats, Ints, Mask
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.options import DEFAULT_MODEL, Model
from irt_assets.psychometrics.core.priors import GUESSING_PRIOR, Priors

SLOPE_BOUND = 10.0
"""|a| stops here: a steeper curve rises from 0.1 to 0.9 between two or three of 61 nodes, which cannot resolve it."""
GUESSING_BOUNDS = (1e-4, 0.95)
"""c stops here: one correct guess in ten thousand, and a curve that rises by a twentieth."""
_START_GUESSING = 0.15
_LOGIT = "logit "
"""What the name of a parameter begins with that is estimated on this scale, and shown without."""
LOGIT_C = f"{_LOGIT}c"
"""The name of the parameter that is estimated for c."""
_BY_AD = "a change of scale that moves a and d alone"
_FLATTER = 1.16  # a logistic curve with a = 1 over θ ~ N(0, 1) is flatter by about √(1 + 1/1.7²)


class ItemModel(ABC):
    """A model of items.

    Attributes:
        name: as settings, tables and files have it.
        spoken: its name in a sentence.
        slopes: "own" of each item, one "common" to all, or "fixed" at 1, where the SD of θ is free.
        guesses: whether items have a lower asymptote c.
        min_items: with fewer, the model has more parameters than there are response patterns, so no unique maximum.
        priors_on: the parameters that priors may be on.
        anchors: whether items with given a, b and c can be held.
        two_categories: whether answers are right or wrong, and nothing between.
        logistic: whether a, d and c make up its curve, c + (1 − c)/(1 + exp(−(aθ + d))), for which there are compiled
            loops. Of other models, θ is scored, fits are linked and items compared by what a subclass defines, and
            slower.
    """

    name: Model
    spoken: str
    slopes: Literal["own", "common", "fixed"] = "own"
    guesses: bool = False
    min_items: int = 3
    priors_on: tuple[str, ...] = ("a",)
    anchors: bool = False
    two_categories: bool = False
    logistic: bool = False

    @property
    def own_slopes(self) -> bool:
        return self.slopes == "own"

    @property
    def common_slope(self) -> bool:
        return self.slopes == "common"

    @property
    def fixed_slopes(self) -> bool:
        return self.slopes == "fixed"

    @property
    def default_priors(self) -> Priors:
        return GUESSING_PRIOR if self.guesses else Priors()

    @property
    def without_guessing(self) -> ItemModel:
        return self

    @property
    def with_unit_sd(self) -> ItemModel:
        """The model of the same answers whose θ has an SD of 1."""
        return self

    @property
    def more_than_a_and_b(self) -> bool:
        """Whether items of two categories have a parameter besides slope and intercept, for which these are traded."""
        return len(self.parameter_names(2)) > 2

    @property
    def n_own(self) -> int:
        """How many parameters an item of two categories has for itself."""
        return 1 + self.own_slopes + self.guesses

    def require_categories(self, item_ids: Sequence[str], categories: Ints) -> None:
        """Raises PsychometricsError, naming items, where the model is not for so many categories."""
        if self.two_categories and (categories > 2).any():
            many = [f"{item} ({n})" for item, n in zip(item_ids, categories.tolist(), strict=True) if n > 2]
            raise PsychometricsError(
                f"a {self.spoken} is for items of two categories, and {len(many)} items have more: "
                f"{', '.join(many[:5])}{' …' if len(many) > 5 else ''}. Score them as right and wrong"
            )

    def require_two_categories(self, what: str) -> None:
        """Raises PsychometricsError where items may have more; `what` is the subject of the sentence."""
        if not self.two_categories:
            raise PsychometricsError(f"{what} is defined for items of two categories, and a {self.spoken} has more")

    def require_logistic(self, what: str) -> None:
        """Raises PsychometricsError where items have other curves than those of a, b and c, the only ones that there is
        code for in `what`, the subject of the sentence."""
        self.require_two_categories(what)
        if not self.logistic:
            raise PsychometricsError(
                f"{what} is computed from a, b and c, which do not make up the curves of a {self.spoken}"
            )

    @abstractmethod
    def parameter_names(self, categories: int) -> tuple[str, ...]:
        """Names of the parameters of an item with this many categories; the first two are a and d."""

    def shown(self, further: Floats, errors: Floats, categories: int) -> dict[str, float]:
        """One item's M parameters besides a and d, and their standard errors, as they are shown and stored: `logit u`
        and its error become `u` and `u_se`. What is not a number is left out."""
        found: dict[str, float] = {}
        for name, value, se in zip(self.parameter_names(categories)[2:], further, errors, strict=False):
            share = float(expit(value))
            if name.startswith(_LOGIT):
                value, se = share, se * share * (1 - share)
            found |= {name.removeprefix(_LOGIT): float(value), f"{name.removeprefix(_LOGIT)}_se": float(se)}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def estimated(self, shown: Mapping[str, float]) -> tuple[Floats, int]:
        """The reverse of `shown`: the parameters, shape (M,), and the item's categories."""
        values = {name: value for name, value in shown.items() if not name.endswith("_se")}
        categories = 2 if self.two_categories else 2 + len(values)
        names = self.parameter_names(categories)[2:]
        found = [(name.startswith(_LOGIT), values[name.removeprefix(_LOGIT)]) for name in names]
        return np.array([logit(value) if is_share else value for is_share, value in found]), categories

    def parts(self, parameters: Floats, categories: Ints) -> list[OtherItems]:
        """The items (P, J) of each model."""
        return [OtherItems.at_places(self, np.arange(len(categories)), parameters, categories)]

    def common_slopes(self, n_items: int) -> Mask:
        """Shape (J,): the items that have a slope in common."""
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
        """Where a fit begins, shape (P, J): slopes of 1, and θ ~ N(0, 1) gives about these `shares` (J, C) of
        answers in each category."""

    def free(self, categories: Ints) -> Mask:
        """Shape (P, J): the parameters that are estimated."""
        names = self.parameter_names(int(categories.max(initial=2)))
        has = np.zeros((len(names), len(categories)), dtype=bool)
        for n in np.unique(categories).tolist():
            has[:, categories == n] = np.isin(names, self.parameter_names(n))[:, None]
        has[0] &= not self.fixed_slopes
        return has

    def fixed_at(self, categories: Ints) -> Floats:
        """Shape (P,): the values of parameters that are not estimated: slopes of 1, no guessing, else 0."""
        names = self.parameter_names(int(categories.max(initial=2)))
        return np.array([{"a": 1.0, LOGIT_C: -np.inf}.get(name, 0.0) for name in names])

    def bounds(self, parameter: str) -> tuple[float, float]:
        """Where the estimate of a parameter stops."""
        if parameter == "a":
            return -SLOPE_BOUND, SLOPE_BOUND
        return -np.inf, np.inf

    def estimable(self, counts: Floats, categories: Ints) -> Mask:
        """Shape (J,): items with an answer in each category; without, an intercept has no finite maximum."""
        return np.all((counts > 0) | (np.arange(counts.shape[1]) >= categories[:, None]), axis=1)

    def transformed(self, parameters: Floats, slope: float, intercept: float) -> Floats:
        """The parameters in θ* = slope·θ + intercept, slope > 0: of two categories a* = a/slope, d* = d −
        a·intercept/slope, and the others as they are. A model of more has its own, with an intercept for each, and its
        own `jacobian`; PsychometricsError where it lacks them."""
        self.require_two_categories(_BY_AD)
        out = parameters.copy()
        out[0] = parameters[0] / slope
        out[1] = parameters[1] - parameters[0] * intercept / slope
        return out

    def jacobian(self, slope: float, intercept: float, size: int) -> Floats:
        """Derivatives (size, size) of one item's `transformed` parameters by the parameters."""
        self.require_two_categories(_BY_AD)
        out = np.eye(size)
        out[0, 0], out[1, 0] = 1 / slope, -intercept / slope
        return out

    def probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        """P(category | θ), shape (J, Q, C)."""
        return np.exp(self.log_probabilities(theta, parameters, categories))

    def expected_score(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        """Shape (J, Q): Σ k·P(k | θ)."""
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
    guesses: bool
    min_items: int
    priors_on: tuple[str, ...]
    anchors: bool = True
    two_categories = True
    logistic = True

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
        """c at its prior's mode, and intercepts that give each item its proportion correct in the population."""
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


@dataclass(frozen=True)
class MixedModel(ItemModel):
    """Items of several models, `of` each (J,): together they need what any of them needs. Slopes that are not an item's
    own are one slope, common to the items that have none of their own; their names are those of the most parameters."""

    of: tuple[ItemModel, ...]
    name: Model
    spoken: str
    slopes: Literal["own", "common", "fixed"]
    guesses: bool
    min_items: int
    priors_on: tuple[str, ...]
    anchors: bool
    two_categories: bool
    logistic: bool

    @classmethod
    def combining(cls, of: Sequence[ItemModel]) -> MixedModel:
        kinds = [model for model in ITEM_MODELS.values() if model in of]
        name: Any = "+".join(model.name for model in kinds)
        return cls(
            of=tuple(of),
            name=name,
            spoken=" and ".join(model.spoken for model in kinds),
            slopes="own" if any(model.own_slopes for model in kinds) else "common",
            guesses=any(model.guesses for model in kinds),
            min_items=max(model.min_items for model in kinds),
            priors_on=tuple(dict.fromkeys(name for model in kinds for name in model.priors_on)),
            anchors=all(model.anchors for model in kinds),
            two_categories=all(model.two_categories for model in kinds),
            logistic=all(model.logistic for model in kinds),
        )

    def parameter_names(self, categories: int) -> tuple[str, ...]:
        return max((model.parameter_names(categories) for model in self.of), key=len)

    def bounds(self, parameter: str) -> tuple[float, float]:
        low, high = zip(*(model.bounds(parameter) for model in self.of), strict=True)
        return max(low), min(high)

    def parts(self, parameters: Floats, categories: Ints) -> list[OtherItems]:
        places = {model: np.flatnonzero([one is model for one in self.of]) for model in self.of}
        return [OtherItems.at_places(model, at, parameters, categories) for model, at in places.items()]

    def common_slopes(self, n_items: int) -> Mask:  # noqa: ARG002
        return np.array([not model.own_slopes for model in self.of])

    def free(self, categories: Ints) -> Mask:
        names = self.parameter_names(int(categories.max(initial=2)))
        has = np.zeros((len(names), len(categories)), dtype=bool)
        for some in self.parts(np.zeros(has.shape), categories):
            has[: 2 + len(some.further), some.at] = some.model.free(some.categories)
        has[0] = True
        return has

    def start(self, shares: Floats, categories: Ints, priors: Priors) -> Floats:
        out = np.zeros(self.free(categories).shape)
        for some in self.parts(out, categories):
            out[: 2 + len(some.further), some.at] = some.model.start(shares[some.at], some.categories, priors)
        return out

    def log_probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        return self._of_parts(lambda model: model.log_probabilities, theta, parameters, categories, blank=-np.inf)[0]

    def by_parameters(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        return self._of_parts(lambda model: model.by_parameters, theta, parameters, categories)

    def by_theta(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        return self._of_parts(lambda model: model.by_theta, theta, parameters, categories)[0]

    def _of_parts(
        self,
        asked: Callable[[ItemModel], Callable[[Floats, Floats, Ints], Floats]],
        theta: Floats,
        parameters: Floats,
        categories: Ints,
        blank: float = 0.0,
    ) -> Floats:
        """Shape (P, J, Q, C): what each model is asked of its own items, `blank` where they have nothing."""
        out = np.full((len(parameters), len(categories), len(theta), categories.max(initial=2)), blank)
        for some in self.parts(parameters, categories):
            found = asked(some.model)(theta, some.parameters(*parameters[:2]), some.categories)
            found = found.reshape(-1, *found.shape[-3:])
            out[: len(found), some.at, :, : found.shape[3]] = found
        return out


@dataclass(frozen=True)
class OtherItems:
    """Items whose curves a, d and c do not make up: n of one model, at the places `at` (n,) among J. `further` (M, n)
    are the parameters that it adds to a and d, as they are estimated; `categories` (n,)."""

    model: ItemModel
    at: npt.NDArray[np.intp]
    further: Floats
    categories: Ints

    @classmethod
    def of(cls, shown: Mapping[int, Mapping[str, float]]) -> tuple[OtherItems, ...]:
        """By place, from what `ItemModel.shown` gives of each. Raises PsychometricsError for names no model has."""
        by_model: dict[str, list[int]] = {}
        for j, further in shown.items():
            by_model.setdefault(model_with(further).name, []).append(j)
        found = []
        for name, places in by_model.items():
            values, categories = zip(*(ITEM_MODELS[name].estimated(shown[j]) for j in places), strict=True)
            widest = max(map(len, values))
            padded = np.stack([np.pad(x, (0, widest - len(x))) for x in values], axis=1)
            found.append(cls(ITEM_MODELS[name], np.array(places), padded, np.array(categories)))
        return tuple(found)

    @classmethod
    def at_places(cls, model: ItemModel, at: npt.NDArray[np.intp], parameters: Floats, categories: Ints) -> OtherItems:
        """Those of J items, from the parameters (P, J) and categories (J,) of all."""
        size = len(model.parameter_names(int(categories[at].max(initial=2))))
        return cls(model, at, parameters[2:size, at], categories[at])

    def parameters(self, a: Floats, d: Floats) -> Floats:
        """Shape (2 + M, n), from a and d of all J."""
        return np.vstack([a[self.at], d[self.at], self.further])

    def rescaled(self, a: Floats, d: Floats, slope: float, intercept: float) -> OtherItems:
        """The same items in θ* = slope·θ + intercept."""
        return replace(self, further=self.model.transformed(self.parameters(a, d), slope, intercept)[2:])

    def moved(self, by: int) -> OtherItems:
        """The same items, so many places on."""
        return replace(self, at=self.at + by)

    def select(self, items: npt.NDArray[np.integer[Any]], n_items: int) -> OtherItems:
        """As `chosen`, of these."""
        place = np.full(n_items + 1, -1)  # −1 is none of them
        place[self.at] = np.arange(len(self.at))
        at = np.flatnonzero(place[items] >= 0)
        kept = place[items[at]]
        return OtherItems(self.model, at, self.further[:, kept], self.categories[kept])

    def curve_at(self, eta: Floats) -> Floats:
        """P(correct) and its derivatives by aθ + d and by each further parameter, shape (2 + M, n, Q), where aθ + d is
        `eta` (n, Q): on it alone and on the further parameters the answer depends."""
        self.model.require_two_categories("a curve of right answers")
        found = []
        for own, further in zip(eta, self.further.T, strict=True):
            unit, two = np.array([1.0, 0.0, *further])[:, None], np.array([2])
            p = self.model.probabilities(own, unit, two)[0, :, 1]
            found.append(np.vstack([p, p * self.model.by_parameters(own, unit, two)[1:, 0, :, 1]]))
        return np.stack(found, axis=1)


def chosen(others: Iterable[OtherItems], items: npt.NDArray[np.integer[Any]], n_items: int) -> tuple[OtherItems, ...]:
    """Those of J items at the places `items`, −1 for none, by their new places; no model without an item."""
    found = (some.select(items, n_items) for some in others)
    return tuple(some for some in found if some.at.size)


@dataclass(frozen=True)
class ItemCurves:
    """The curves of J items, of which those named in `others` follow their own model.

    Attributes:
        a, d, c: shape (J,); NaN in any of them: the item has no curve.
        others: not the items of a `LogisticModel`.
    """

    a: Floats
    d: Floats
    c: Floats
    others: tuple[OtherItems, ...] = ()

    @property
    def known(self) -> Mask:
        """Shape (J,): the items that have a curve."""
        return np.isfinite(self.a) & np.isfinite(self.d) & np.isfinite(self.c)

    def logistic(self, what: str) -> ItemCurves:
        """The same, of which a, d and c are all there is to know. Raises PsychometricsError as
        `ItemModel.require_logistic` where this is not so."""
        for some in self.others:
            some.model.require_logistic(what)
        return self

    def probability(self, theta: npt.ArrayLike) -> Floats:
        """P(correct), or the expected share of the highest score, shape (T, J)."""
        p = curves.probability(np.asarray(theta, dtype=float), self.a, self.d, self.c)
        for some in self.others:
            own = some.parameters(self.a, self.d)
            score = some.model.expected_score(np.asarray(theta, dtype=float), own, some.categories)
            p[:, some.at] = (score / (some.categories - 1)[:, None]).T
        return p

    def information(self, theta: npt.ArrayLike) -> Floats:
        """Fisher information of an answer about θ, shape (T, J)."""
        found = curves.information(np.asarray(theta, dtype=float), self.a, self.d, self.c)
        for some in self.others:
            own = some.parameters(self.a, self.d)
            found[:, some.at] = some.model.information(np.asarray(theta, dtype=float), own, some.categories).T
        return found

    def log_tables(self, nodes: Floats) -> tuple[Floats, Floats]:
        """log P and log(1 − P) of items of two categories, both (J, Q), without cancellation; zero rows for items
        without a curve."""
        known = self.known
        a, d, c = (np.where(known, x, 0.0)[:, None] for x in (self.a, self.d, self.c))
        right, wrong = curves.log_probabilities_at(a * nodes + d, c)
        for some in self.others:
            some.model.require_two_categories("a table of right and wrong answers")
            logs = some.model.log_probabilities(nodes, some.parameters(self.a, self.d), some.categories)
            wrong[some.at], right[some.at] = logs[:, :, 0], logs[:, :, 1]
        return np.where(known[:, None], right, 0.0), np.where(known[:, None], wrong, 0.0)

    def select(self, items: npt.NDArray[np.integer[Any]]) -> ItemCurves:
        """Those at these places, in this order."""
        return ItemCurves(self.a[items], self.d[items], self.c[items], chosen(self.others, items, len(self.a)))


RASCH = LogisticModel("rasch", "Rasch", "fixed", False, 2, ("b",))
ONE_PL = LogisticModel("1pl", "1PL", "common", False, 2, ("a", "b"))
TWO_PL = LogisticModel("2pl", "2PL", "own", False, 3, ("a", "b"))
THREE_PL = LogisticModel("3pl", "3PL", "own", True, 4, ("a", "b", "c"))

ITEM_MODELS: dict[str, ItemModel] = {model.name: model for model in (RASCH, ONE_PL, TWO_PL, THREE_PL)}
"""By name, from the simplest."""


def model_with(shown: Mapping[str, float]) -> ItemModel:
    """The model whose parameters besides a and d are called so, as in `ItemModel.shown`. Raises PsychometricsError."""
    names = [name for name in shown if not name.endswith("_se")]
    for model in ITEM_MODELS.values():
        own = model.parameter_names(2 if model.two_categories else 2 + len(names))[2:]
        if sorted(names) == sorted(name.removeprefix(_LOGIT) for name in own):
            return model
    raise PsychometricsError(f"no item model has the parameters {', '.join(names)} besides a and b")


def model_of(models: str | Sequence[str]) -> ItemModel:
    """The model of these items, or of several models a `MixedModel`, also by its name. Raises PsychometricsError as
    `item_model`."""
    names = models.split("+") if isinstance(models, str) else models
    of = [item_model(name) for name in names or (DEFAULT_MODEL,)]
    return of[0] if all(model is of[0] for model in of) else MixedModel.combining(of)


def which(models: Sequence[Model], is_so: Callable[[ItemModel], bool]) -> Mask:
    """Shape (J,): the items of which this is so by their model."""
    return np.array([is_so(item_model(name)) for name in models], dtype=bool)


def item_model(name: str) -> ItemModel:
    """Raises PsychometricsError for a name that no model has."""
    try:
        return ITEM_MODELS[name]
    except KeyError:
        raise PsychometricsError(f"there are the models {', '.join(ITEM_MODELS)}; got model {name!r}") from None
