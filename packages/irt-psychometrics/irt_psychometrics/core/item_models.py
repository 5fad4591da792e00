"""Items of several models together: their curves, and the models by name.

The models themselves are in `model_families`. Parameters of J items are an array (P, J), as in that module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import curves, scored_kernels
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.model_families import (
    CLOGLOG,
    GPCM,
    GRM,
    ONE_PL,
    PCM,
    RASCH,
    RSM,
    THREE_PL,
    TWO_PL,
    ComputationPath,
    GradedModel,
    ItemModel,
    ScoredModel,
)
from irt_psychometrics.core.nominal_model import NOMINAL, NominalModel
from irt_psychometrics.core.options import DEFAULT_MODEL, Model
from irt_psychometrics.core.priors import Priors


@dataclass(frozen=True)
class MixedModel(ItemModel):
    """Items of several models together.

    The combination has a property if one of its models needs it. Items without a slope of their own have one slope in
    common. The parameter names are the names of the model with the most parameters.

    Attributes:
        of: the model of each of the J items.
    """

    of: tuple[ItemModel, ...]
    name: Model
    spoken: str
    slopes: Literal["own", "common", "fixed"]
    min_items: int
    priors_on: tuple[str, ...]
    highest_score: int
    path: ComputationPath
    ordered_scores: bool

    @classmethod
    def from_models(cls, of: Sequence[ItemModel]) -> MixedModel:
        kinds = [model for model in ITEM_MODELS.values() if model in of]
        name: Any = "+".join(model.name for model in kinds)
        return cls(
            of=tuple(of),
            name=name,
            spoken=" and ".join(model.spoken for model in kinds),
            slopes=_together(kinds),
            min_items=max(model.min_items for model in kinds),
            priors_on=tuple(dict.fromkeys(name for model in kinds for name in model.priors_on)),
            highest_score=max(model.highest_score for model in kinds),
            path=_common_path(kinds),
            ordered_scores=all(model.ordered_scores for model in kinds),
        )

    @property
    def by_score(self) -> bool:
        return any(model.by_score for model in self.of)

    def has_parameter(self, name: str) -> bool:
        return any(model.has_parameter(name) for model in self.of)

    def parameter_names(self, categories: int) -> tuple[str, ...]:
        return max((model.parameter_names(categories) for model in self.of), key=len)

    def of_max_score(self, max_score: int) -> ItemModel:
        """Return the one of the models that such an item can have, or the first one's model for it."""
        own = (model for model in self.of if model.of_max_score(max_score) is model)
        return next(own, self.of[0].of_max_score(max_score))

    def bounds(self, parameter: str) -> tuple[float, float]:
        low, high = zip(*(model.bounds(parameter) for model in self.of), strict=True)
        return max(low), min(high)

    def guessed(self, n_items: int) -> Mask:  # noqa: ARG002
        return np.array([model.has_parameter("c") for model in self.of])

    def places(self, n_items: int) -> dict[ItemModel, Ints]:  # noqa: ARG002
        return {model: np.flatnonzero([one is model for one in self.of]) for model in self.of}

    def common_slopes(self, n_items: int) -> Mask:
        if self.fixed_slopes:
            return np.zeros(n_items, dtype=bool)
        return np.array([not model.own_slopes for model in self.of])

    def has(self, categories: Ints) -> Mask:
        return self._per_item(categories, lambda some: some.model.has(some.categories)).astype(bool)

    def free(self, categories: Ints, given: Mask | None = None) -> Mask:
        def own(some: OtherItems) -> Mask:
            return some.model.free(some.categories, None if given is None else given[some.at])

        free = self._per_item(categories, own).astype(bool)
        free[0] = not self.fixed_slopes
        return free

    def fixed_values(self, categories: Ints, given: Mask | None = None) -> Floats:
        def own(some: OtherItems) -> Floats:
            return some.model.fixed_values(some.categories, None if given is None else given[some.at])

        return self._per_item(categories, own, super().fixed_values(categories))

    def _per_item(
        self, categories: Ints, compute: Callable[[OtherItems], npt.NDArray[Any]], blank: Floats | None = None
    ) -> Floats:
        """The results of `compute` for each model's items, shape (P, J); `blank` or 0 for parameters that an item does
        not have."""
        names = self.parameter_names(int(categories.max(initial=2)))
        out = np.zeros((len(names), len(categories))) if blank is None else blank
        for some in parts(self, out.copy(), categories):
            out[: 2 + len(some.further), some.at] = compute(some)
        return out

    def estimable(self, counts: Floats, categories: Ints) -> Mask:
        out = np.zeros(len(categories), dtype=bool)
        for model, at in self.places(len(categories)).items():
            out[at] = model.estimable(counts[at], categories[at])
        return out

    def start(self, shares: Floats, categories: Ints, priors: Priors) -> Floats:
        out = np.zeros(self.free(categories).shape)
        for some in parts(self, out, categories):
            own = shares[some.at, : some.categories.max(initial=2)]
            out[: 2 + len(some.further), some.at] = some.model.start(own, some.categories, priors)
        return out

    def log_probabilities(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        return self._per_category(lambda model: model.log_probabilities, theta, parameters, categories, blank=-np.inf)[
            0
        ]

    def by_parameters(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        return self._per_category(lambda model: model.by_parameters, theta, parameters, categories)

    def by_theta(self, theta: Floats, parameters: Floats, categories: Ints) -> Floats:
        return self._per_category(lambda model: model.by_theta, theta, parameters, categories)[0]

    def _per_category(
        self,
        compute: Callable[[ItemModel], Callable[[Floats, Floats, Ints], Floats]],
        theta: Floats,
        parameters: Floats,
        categories: Ints,
        blank: float = 0.0,
    ) -> Floats:
        """The results of `compute` for each model's items, shape (P, J, Q, C); `blank` for entries without a result."""
        out = np.full((len(parameters), len(categories), len(theta), categories.max(initial=2)), blank)
        for some in parts(self, parameters, categories):
            found = compute(some.model)(theta, some.parameters(*parameters[:2]), some.categories)
            found = found.reshape(-1, *found.shape[-3:])
            out[: len(found), some.at, :, : found.shape[3]] = found
        return out


_ORIGIN = np.zeros(1)
"""θ at which an item has the probabilities of an answer if its intercept is replaced by the answer's aθ + d."""


@dataclass(frozen=True)
class AnswerMoments:
    """Moments of R answers at their learners' θ.

    Attributes:
        expected, variance: shape (R,), mean and variance of the score.
        information: shape (R,), the Fisher information about θ.
    """

    expected: Floats
    variance: Floats
    information: Floats


@dataclass(frozen=True)
class OtherItems:
    """n items of one model whose curves are not determined by a, d and c.

    Attributes:
        at: shape (n,), the items' places among all J.
        further: shape (M, n), the parameters that the model adds to a and d, on the scale of estimation.
        categories: shape (n,), the number of scores of each item.
    """

    model: ItemModel
    at: npt.NDArray[np.intp]
    further: Floats
    categories: Ints

    @classmethod
    def from_parameters(
        cls, shown: Mapping[int, Mapping[str, float]], models: Mapping[int, str] | None = None
    ) -> tuple[OtherItems, ...]:
        """Make the items from the result of `ItemModel.stored_values` for each, by place.

        `models` are names of the items' models, by place; a model that is not named follows from the parameters.

        Raises PsychometricsError if no model has these parameter names.
        """
        by_model: dict[str, list[int]] = {}
        for j, further in shown.items():
            by_model.setdefault((models or {}).get(j) or model_with(further).name, []).append(j)
        found = []
        for name, places in by_model.items():
            values, categories = zip(*(ITEM_MODELS[name].parse_stored(shown[j]) for j in places), strict=True)
            padded = np.array([*zip_longest(*values, fillvalue=0.0)])
            found.append(cls(ITEM_MODELS[name], np.array(places), padded, np.array(categories)))
        return tuple(found)

    @classmethod
    def at_places(cls, model: ItemModel, at: npt.NDArray[np.intp], parameters: Floats, categories: Ints) -> OtherItems:
        """The items at the places `at`, from the parameters (P, J) and categories (J,) of all J items."""
        size = len(model.parameter_names(int(categories[at].max(initial=2))))
        return cls(model, at, parameters[2:size, at], categories[at])

    @property
    def sizes(self) -> Ints:
        """The number of further parameters of each item, shape (n,). They are the first of the M parameters."""
        return np.array([len(self.model.parameter_names(n)) - 2 for n in self.categories.tolist()], dtype=int)

    def parameters(self, a: Floats, d: Floats) -> Floats:
        """The parameters of the n items, shape (2 + M, n), from a and d of all J items."""
        return np.vstack([a[self.at], d[self.at], self.further])

    def rescaled(self, a: Floats, d: Floats, slope: float, intercept: float) -> OtherItems:
        """The same items in θ* = slope·θ + intercept."""
        return replace(self, further=self.model.transform_parameters(self.parameters(a, d), slope, intercept)[2:])

    @property
    def counted_as(self) -> npt.NDArray[np.int8]:
        """For each score, the score that an answer with this score counts as, shape (n, C).

        A score with parameters counts as itself. A score that nobody had in the calibration has no parameters, and with
        P = 0 the first learner with this score would have a likelihood of 0. It counts as the nearest lower score with
        parameters, or as the nearest higher one if no lower score has parameters.
        """
        found = np.zeros((len(self.at), int(self.categories.max(initial=2))), dtype=np.int8)
        for row, has in zip(found, self.model.scores_with_parameters(self.further, self.categories), strict=True):
            known = np.flatnonzero(has)
            row[:] = known[np.maximum(np.searchsorted(known, np.arange(row.size), side="right") - 1, 0)]
        return found

    def shift_places(self, by: int) -> OtherItems:
        """The same items, with their places increased by `by`."""
        return replace(self, at=self.at + by)

    def select(self, items: npt.NDArray[np.integer[Any]], n_items: int) -> OtherItems:
        """The items among those at the places `items`, as in `select_others`."""
        place = np.full(n_items + 1, -1)  # the last entry is for the place −1
        place[self.at] = np.arange(len(self.at))
        at = np.flatnonzero(place[items] >= 0)
        kept = place[items[at]]
        return OtherItems(self.model, at, self.further[:, kept], self.categories[kept])

    def curve_at(self, eta: Floats) -> Floats:
        """P(correct), or the expected share of the maximum score, and its derivatives, shape (2 + M, n, Q).

        The derivatives are with respect to aθ + d and to each further parameter. `eta` (n, Q) is aθ + d; the answer
        depends on it and on the further parameters alone.
        """
        flat = np.vstack([np.zeros(eta.size), eta.ravel(), np.repeat(self.further, eta.shape[1], 1)])
        categories = np.repeat(self.categories, eta.shape[1])
        p = self.model.probabilities(_ORIGIN, flat, categories)[:, 0]
        credit = p * np.arange(p.shape[1]) / (categories - 1)[:, None]
        by = self.model.by_parameters(_ORIGIN, flat, categories)[1:, :, 0]
        found = np.vstack([credit.sum(axis=1)[None], (by * credit).sum(axis=2)])
        return found.reshape(-1, *eta.shape)


def select_others(
    others: Iterable[OtherItems], items: npt.NDArray[np.integer[Any]], n_items: int
) -> tuple[OtherItems, ...]:
    """The items at the places `items` of J, with their new places; −1 stands for no item. Empty models are omitted."""
    found = (some.select(items, n_items) for some in others)
    return tuple(some for some in found if some.at.size)


def parts(model: ItemModel, parameters: Floats, categories: Ints) -> list[OtherItems]:
    """The items with `parameters` (P, J), one `OtherItems` for each model."""
    places = model.places(len(categories))
    return [OtherItems.at_places(one, at, parameters, categories) for one, at in places.items()]


def _together(kinds: Sequence[ItemModel]) -> Literal["own", "common", "fixed"]:
    """The kind of slopes of several models: "own" if one of them has own slopes, "fixed" if all are fixed."""
    if any(model.own_slopes for model in kinds):
        return "own"
    return "fixed" if all(model.fixed_slopes for model in kinds) else "common"


def _common_path(kinds: Sequence[ItemModel]) -> ComputationPath:
    """Return the fastest path for items of several models. Sums of scores do not suffice if items have guessing."""
    if {model.path for model in kinds} == {"logistic"}:
        return "logistic"
    return "general" if any(model.path == "general" or model.has_parameter("c") for model in kinds) else "scores"


@dataclass(frozen=True)
class ItemCurves:
    """The curves of J items.

    Attributes:
        a, d, c: shape (J,); an item with NaN in any of them has no curve.
        others: the items whose model is not a `LogisticModel`.
    """

    a: Floats
    d: Floats
    c: Floats
    others: tuple[OtherItems, ...] = ()

    @property
    def known(self) -> Mask:
        """Mask of the items that have a curve, shape (J,)."""
        return np.isfinite(self.a) & np.isfinite(self.d) & np.isfinite(self.c)

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

    def moments_of(self, item: npt.NDArray[np.integer[Any]], theta: Floats) -> AnswerMoments:
        """Compute the moments of R answers to the items `item` (R,) by learners at `theta` (R,)."""
        a, c = self.a[item], self.c[item]
        eta = a * theta + self.d[item]
        p = curves.probability_at(eta, c)
        found = AnswerMoments(p, p * curves.complement_at(eta, c), curves.information_at(eta, a, c))
        for own, at in self._other_answers(item, eta):
            p = own.model.probabilities(_ORIGIN, at, own.categories)[:, 0]
            points = np.arange(p.shape[1])
            found.expected[own.at] = p @ points
            found.variance[own.at] = (p * (points - found.expected[own.at][:, None]) ** 2).sum(axis=1)
            if own.model.path == "scores":
                found.information[own.at] = a[own.at] ** 2 * found.variance[own.at]
            else:
                found.information[own.at] = own.model.information(_ORIGIN, at, own.categories)[:, 0]
        return found

    def score_function_of(
        self,
        item: npt.NDArray[np.integer[Any]],
        score: npt.NDArray[np.int8],
        theta: Floats,
        *,
        categories: Ints | None = None,
    ) -> tuple[Floats, Floats]:
        """∂ log P/∂θ of R answers at `theta` and their information, shape (R,) each.

        `item`, `score` and `theta` have shape (R,). `categories` (J,) are the numbers of scores that answers to an item
        can have; None means 0 and 1.
        """
        a, c = self.a[item], self.c[item]
        eta = a * theta + self.d[item]
        counted = CountedScores.from_curves(self).of_answers(item, score, categories)
        slope = curves.weight_at(eta, a, c) * (counted - curves.probability_at(eta, c))
        information = curves.information_at(eta, a, c)
        for own, at in self._other_answers(item, eta):
            of_scores = own.model.by_theta(_ORIGIN, at, own.categories)[:, 0]
            slope[own.at] = np.take_along_axis(of_scores, counted[own.at, None].astype(np.int64), axis=1)[:, 0]
            information[own.at] = own.model.information(_ORIGIN, at, own.categories)[:, 0]
        return slope, information

    def log_probabilities_of(self, item: npt.NDArray[np.integer[Any]], theta: Floats) -> Floats:
        """Compute log P of each score of R answers to the items `item` (R,) by learners at `theta` (R,), shape (R, C).

        It is −∞ for scores that an item does not have.
        """
        eta = self.a[item] * theta + self.d[item]
        logs = np.full((len(item), int(self.categories.max(initial=2))), -np.inf)
        logs[:, 1], logs[:, 0] = curves.log_probabilities_at(eta, self.c[item])
        for own, at in self._other_answers(item, eta):
            of_model = own.model.log_probabilities(_ORIGIN, at, own.categories)[:, 0]
            logs[own.at, : of_model.shape[1]] = of_model
        return logs

    def _other_answers(self, item: npt.NDArray[np.integer[Any]], eta: Floats) -> Iterator[tuple[OtherItems, Floats]]:
        """Yield, for each model in `others`, the item of each of its answers, at the rows `at` among all R answers, and
        the parameters with which these items have the answers' aθ + d, `eta` (R,), at `_ORIGIN`."""
        for some in self.others:
            own = some.select(item, len(self.a))
            yield own, np.vstack([self.a[item[own.at]], eta[own.at], own.further])

    @property
    def have_compiled_scores(self) -> bool:
        """Whether compiled loops over answers have the curves of all items."""
        return all(some.model.loops is not None for some in self.others)

    @property
    def score_rows(self) -> tuple[Floats, Floats, Ints]:
        """Build the tables of `scored_kernels.score_curve`.

        The first two, shape (J, C), contain t of each score (u of a graded item), and the points that multiply aθ + d.
        The third one, shape (J,), contains the family of each item.
        """
        C = int(self.categories.max(initial=2))
        rows, points = np.zeros((len(self.a), C)), np.tile(np.arange(float(C)), (len(self.a), 1))
        family = np.full(len(self.a), scored_kernels.PARTIAL_CREDIT)
        for some in self.others:
            if isinstance(some.model, ScoredModel):
                own = some.model.score_rows(some.further, some.categories)[:C]
                rows[some.at, : len(own)] = own.T
            if isinstance(some.model, GradedModel):
                family[some.at] = scored_kernels.GRADED
            if isinstance(some.model, NominalModel):
                family[some.at] = scored_kernels.NOMINAL
                points[some.at, : len(own)] = some.model.points(some.further)[:C].T
        return rows, points, family

    @property
    def categories(self) -> Ints:
        """The number of scores of each item, shape (J,)."""
        found = np.full(len(self.a), 2)
        for some in self.others:
            found[some.at] = some.categories
        return found

    @property
    def scored(self) -> bool:
        """Whether any item has scores besides 0 and 1."""
        return bool((self.categories > 2).any())

    def score_tables(self, nodes: Floats) -> tuple[Floats, Floats]:
        """log P of each score above 0, and log P(0) of the same item, both of shape (M, Q).

        The rows of an item are consecutive. Items without a curve have rows of zeros. If all items have two categories,
        the result is the same as from `log_tables`.
        """
        more = [some for some in self.others if (some.categories > 2).any()]
        if not more:
            return self.log_tables(nodes)
        n = self.categories - 1
        first, plain = np.cumsum(n) - n, np.ones(len(n), dtype=bool)
        given, lowest = np.empty((n.sum(), len(nodes))), np.empty((n.sum(), len(nodes)))
        for some in more:
            logs = some.model.log_probabilities(nodes, some.parameters(self.a, self.d), some.categories)
            above = np.arange(logs.shape[2] - 1)
            has = above < n[some.at][:, None]
            rows = (first[some.at][:, None] + above)[has]
            given[rows], lowest[rows] = logs[:, :, 1:].swapaxes(1, 2)[has], np.repeat(logs[:, :, 0], n[some.at], axis=0)
            plain[some.at] = False
        given[first[plain]], lowest[first[plain]] = self.select(np.flatnonzero(plain)).log_tables(nodes)
        return given, lowest

    def score_probabilities(self, nodes: Floats) -> Floats:
        """Return P(score | θ), shape (J, C, Q); 0 for scores that an item does not have."""
        counted, (given, lowest) = CountedScores.from_curves(self), np.exp(self.score_tables(nodes))
        first, item = counted.first_row, counted.item_of_row
        found = np.zeros((len(first), int(self.categories.max(initial=2)), len(nodes)))
        found[:, 0] = lowest[first]
        found[item, np.arange(len(given)) - first[item] + 1] = given
        return found

    def log_tables(self, nodes: Floats) -> tuple[Floats, Floats]:
        """log P and log(1 − P) of items of two categories, both of shape (J, Q), without cancellation.

        Items without a curve have rows of zeros.
        """
        known = self.known
        a, d, c = (np.where(known, x, 0.0)[:, None] for x in (self.a, self.d, self.c))
        right, wrong = curves.log_probabilities_at(a * nodes + d, c)
        for some in self.others:
            if (some.categories > 2).any():
                some.model.require_two_categories("a table of right and wrong answers")
            logs = some.model.log_probabilities(nodes, some.parameters(self.a, self.d), some.categories)
            wrong[some.at], right[some.at] = logs[:, :, 0], logs[:, :, 1]
        return np.where(known[:, None], right, 0.0), np.where(known[:, None], wrong, 0.0)

    def scored_differently(
        self, item: npt.NDArray[np.integer[Any]], score: npt.NDArray[np.int8], categories: Ints | None
    ) -> Mask:
        """Mask of the answers that do not count as their own share of the maximum score, shape (R,).

        They have a score that nobody had when the item was calibrated. `categories` (J,) are the numbers of scores that
        the answers can have.
        """
        return CountedScores.from_curves(self).otherwise(item, score, categories)

    def select(self, items: npt.NDArray[np.integer[Any]]) -> ItemCurves:
        """The curves of the items at these places, in this order."""
        return ItemCurves(self.a[items], self.d[items], self.c[items], select_others(self.others, items, len(self.a)))


@dataclass(frozen=True)
class CountedScores:
    """The scores that answers to J items count as, given the parameters that score them.

    Attributes:
        table: shape (J, C); see `OtherItems.counted_as`; 0 and 1 for items of two categories.
        categories: shape (J,), the number of scores for which the parameters are.
    """

    table: npt.NDArray[np.int8]
    categories: Ints

    @classmethod
    def from_curves(cls, items: ItemCurves) -> CountedScores:
        table = np.tile(np.minimum(np.arange(int(items.categories.max(initial=2))), 1), (len(items.a), 1))
        for some in items.others:
            own = some.counted_as
            table[some.at, : own.shape[1]] = own
        return cls(table.astype(np.int8), items.categories)

    def of_answers(
        self, item: npt.NDArray[np.integer[Any]], score: npt.NDArray[np.int8], categories: Ints | None
    ) -> npt.NDArray[np.int8]:
        """The scores that R answers count as, shape (R,).

        `categories` (J,) are the numbers of scores that the answers can have; None means 0 and 1. If either the answers
        or the parameters have only 0 and 1, full credit counts as full credit and all else as 0. Scores above the
        highest score of the parameters count as the highest.
        """
        own = self.categories[item]
        given = np.full_like(own, 2) if categories is None else categories[item]
        in_full = (score >= given - 1) * (own - 1)
        known = np.where((own == 2) | (given == 2), in_full, np.minimum(score, own - 1))
        return self.table[item, known]

    def otherwise(
        self, item: npt.NDArray[np.integer[Any]], score: npt.NDArray[np.int8], categories: Ints | None
    ) -> Mask:
        """Mask of the answers that do not count as their own share of the maximum score, shape (R,)."""
        given = np.full_like(item, 2) if categories is None else categories[item]
        share = self.of_answers(item, score, categories) / (self.categories[item] - 1)
        return np.abs(share - score / (given - 1)) > 1e-9

    def rows(
        self, item: npt.NDArray[np.integer[Any]], score: npt.NDArray[np.int8]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
        """Answers as right and wrong answers to the rows of `ItemCurves.score_tables`, shape (R,) each.

        A score above 0 is a right answer to the row of this score. A score of 0 is a wrong answer to the item's first
        row. `score` are scores as they count.
        """
        row = self.first_row[item] + np.maximum(score, 1) - 1
        return row.astype(np.int32), (score > 0).astype(np.int8)

    @property
    def item_of_row(self) -> Ints:
        """The item of each row of `ItemCurves.score_tables`."""
        return np.repeat(np.arange(len(self.categories)), self.categories - 1)

    @property
    def first_row(self) -> Ints:
        """The first row of each item in `ItemCurves.score_tables`, shape (J,)."""
        return np.cumsum(self.categories - 1) - self.categories + 1


ITEM_MODELS: dict[str, ItemModel] = {
    model.name: model for model in (RASCH, ONE_PL, TWO_PL, THREE_PL, PCM, RSM, GPCM, GRM, NOMINAL)
}
"""The models by name, from the simplest."""
COMPARED_MODELS: dict[str, ItemModel] = {CLOGLOG.name: CLOGLOG}
"""Models, by name, with which fits are compared and which no scale can have."""


def model_with(shown: Mapping[str, float]) -> ItemModel:
    """The model that has these parameters besides a and d, named as in `ItemModel.stored_values`.

    If several models have them, the last one is returned, which contains the others as special cases. Raises
    PsychometricsError if no model has them.
    """
    names = [name for name in shown if not name.endswith("_se")]
    for model in reversed(ITEM_MODELS.values()):
        if model.is_of(names):
            return model
    raise PsychometricsError(f"no item model has the parameters {', '.join(names)} besides a and b")


def model_of(models: str | Sequence[str]) -> ItemModel:
    """The common model of items with these models, or a `MixedModel` if they differ.

    `models` are the names of the items' models, or the name of a mixed model. Raises PsychometricsError as `item_model`
    does.
    """
    names = models.split("+") if isinstance(models, str) else models
    of = [item_model(name) for name in names or (DEFAULT_MODEL,)]
    return of[0] if all(model is of[0] for model in of) else MixedModel.from_models(of)


def models_by_max_score(default: Model, max_scores: Ints) -> Model | tuple[Model, ...]:
    """Return the model of items with these maximum scores, shape (J,), on a scale whose default is this model.

    If the models differ, the result is one name per item.
    """
    of = [item_model(default).of_max_score(int(m)).name for m in max_scores]
    return of[0] if len(set(of)) == 1 else tuple(of)


def items_where(models: Sequence[Model], is_so: Callable[[ItemModel], bool]) -> Mask:
    """Mask of the items whose model meets the condition, shape (J,)."""
    return np.array([is_so(item_model(name)) for name in models], dtype=bool)


def item_model(name: str | Sequence[str]) -> ItemModel:
    """The item model with this name.

    Parameters
    ----------
    name
        The name of a model, such as "2pl", or of a mixed model, such as "2pl+gpcm", or the names of several items'
        models.

    Returns
    -------
    ItemModel
        The model; a mixed model if the names differ.

    Raises
    ------
    PsychometricsError
        For a name that no model has.

    Examples
    --------
    >>> from irt_psychometrics.items import item_model
    >>> item_model("3pl").has_parameter("c")
    True
    >>> item_model(["2pl", "gpcm"]).name
    '2pl+gpcm'
    """
    if not isinstance(name, str) or "+" in name:
        return model_of(name)
    try:
        return ITEM_MODELS.get(name) or COMPARED_MODELS[name]
    except KeyError:
        raise PsychometricsError(f"unknown model {name!r}; the models are {', '.join(ITEM_MODELS)}") from None
