"""The fitted part of a data set, and simulated answers of the fitted model to the same items.

All fit statistics are computed from these. The statistics themselves are in other modules.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.curves import log_probabilities_at, probability_at
from irt_psychometrics.core.design import row_starts, seen_sets
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import CountedScores, ItemCurves, items_where
from irt_psychometrics.core.models import Calibration, Population, spread
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.itemfit.fit_kernels import Rows

_STEP, _REACH, _MAX_NODES = 0.2, 6.0, 241
"""Nodes of θ: their distance in SDs of the narrowest group, their reach in SDs of each group, and their largest number.
Their distance is also at most one SD of the posterior of a person with an average number of answers."""


@dataclass(frozen=True)
class Abilities:
    """The ability distribution of each group of the fit.

    Attributes:
        nodes: shape (Q,), equally spaced, the same for all groups.
        log_weights: shape (G, Q), log weights of the nodes; the weights of a group sum to 1.
        group: shape (n_persons,), index of each person's group.
        population: the G groups, in this order.
    """

    nodes: Floats
    log_weights: Floats
    group: Ints
    population: tuple[Population, ...]

    @classmethod
    def from_calibration(cls, calibration: Calibration, groups: Sequence[str] | None, n_persons: int) -> Self:
        """Raises PsychometricsError if the fit has several groups and a person's label names none of them."""
        populations = calibration.latent
        names = [population.name for population in populations]
        if groups is None:
            if len(populations) > 1:
                raise PsychometricsError(
                    f"the fit has {len(names)} groups ({', '.join(names[:5])}): give the group of each person"
                )
            group = np.zeros(n_persons, dtype=np.int64)
        else:
            if len(groups) != n_persons:
                raise PsychometricsError(f"groups must be {n_persons} labels, one per person; got {len(groups)}")
            strange = sorted({str(g) for g in groups} - set(names))
            if strange:
                raise PsychometricsError(
                    f"no such group in the fit: {', '.join(strange[:5])}; it has {', '.join(names[:5])}"
                )
            group = np.array([names.index(str(g)) for g in groups], dtype=np.int64)
        nodes, log_weights = on_common_nodes(calibration)
        return cls(nodes, log_weights, group, populations)

    @property
    def weights(self) -> Floats:
        return np.exp(self.log_weights)

    def draw(self, rng: np.random.Generator) -> Ints:
        """Draw the index of a node for each person, with the weights of the person's group."""
        share = rng.random(len(self.group))
        place = np.zeros(len(self.group), dtype=np.int64)
        for g, weights in enumerate(self.weights):
            here = self.group == g
            place[here] = np.searchsorted(np.cumsum(weights)[:-1], share[here])
        return place


def on_common_nodes(calibration: Calibration) -> tuple[Floats, Floats]:
    """Choose the nodes of `Abilities`, shape (Q,), and compute the log weights there, shape (G, Q)."""
    populations = calibration.latent
    if populations[0].nodes:
        with np.errstate(divide="ignore"):
            return np.array(populations[0].nodes), np.log([population.weights for population in populations])
    low = min(p.mean - _REACH * p.sd for p in populations)
    high = max(p.mean + _REACH * p.sd for p in populations)
    narrowest = min(p.sd for p in populations)
    posterior_sd = 1 / np.sqrt(1 / narrowest**2 + _most_information(calibration, low, high))
    count = 1 + round((high - low) / min(_STEP * narrowest, posterior_sd))
    nodes = np.linspace(low, high, min(count, _MAX_NODES))
    return nodes, np.stack([Grid(nodes).log_weights(p.mean, p.sd) for p in populations])


def _most_information(calibration: Calibration, low: float, high: float) -> float:
    """Find the maximum over θ of the information about θ in the answers of an average person."""
    known = calibration.select(calibration.estimated)
    theta = np.linspace(low, high, _MAX_NODES)
    each = known.item_model.information(theta, known.parameters, known.n_categories)
    return float((known.n @ each).max() / max(calibration.n_persons, 1))


def require_same_items(responses: Responses, item_ids: Sequence[str]) -> None:
    """Raise PsychometricsError if the responses do not have the items of the calibration, `item_ids`, in this order."""
    if responses.item_ids != item_ids:
        odd = sorted(set(responses.item_ids) ^ set(item_ids))
        named = f"not in both: {', '.join(odd[:5])}" if odd else "the same items in another order"
        raise PsychometricsError(
            f"responses ({responses.n_items} items) and calibration ({len(item_ids)} items) must list the "
            f"same items in one order; {named}"
        )


def count_scores(responses: Responses, curves: ItemCurves) -> Responses:
    """Return the responses with scores that the curves have; a score that they lack counts as in `CountedScores`."""
    if not (curves.categories > 2).any():
        return replace(responses, categories=None)
    score = CountedScores.from_curves(curves).of_answers(responses.item, responses.score, responses.categories)
    return replace(responses, score=score, categories=curves.categories)


@dataclass(frozen=True)
class FittedData:
    """Responses to the J items that have parameters, and the calibration of these items.

    Attributes:
        abilities: the distribution of θ in each group, the prior of its persons.
        place: shape (J,), indices of these items among the `n_all` items of the whole calibration.
        n_all: number of items of the whole calibration.
    """

    responses: Responses
    calibration: Calibration
    abilities: Abilities
    place: Ints
    n_all: int

    @classmethod
    def from_responses(
        cls, responses: Responses, calibration: Calibration, groups: Sequence[str] | None = None
    ) -> Self:
        """Select the items that have parameters. Scores that the calibration lacks count as `CountedScores` defines.

        Raises PsychometricsError if responses and calibration do not have the same items in the same order, or if
        `groups` does not match the groups of the fit.
        """
        require_same_items(responses, calibration.item_ids)
        keep = calibration.estimated
        fit = calibration.select(keep)
        kept = count_scores(responses.of_items(keep), fit.curves)
        abilities = Abilities.from_calibration(calibration, groups, responses.n_persons)
        return cls(kept, fit, abilities, np.flatnonzero(keep), responses.n_items)

    @property
    def rows(self) -> Rows:
        r = self.responses
        return Rows(row_starts(r), r.item, r.score)

    @property
    def scored(self) -> Ints:
        """Indices of the items whose statistics are sums over scores.

        These are items with more scores than 0 and 1, and items under a general model.
        """
        fit = self.calibration
        return np.flatnonzero((fit.n_categories > 2) | items_where(fit.models, lambda model: model.path == "general"))

    @cached_property
    def log_probabilities(self) -> Floats:
        """log P of each score at the nodes, shape (C, J, Q); −∞ for scores that an item cannot have."""
        fit, nodes = self.calibration, self.abilities.nodes
        found = np.full((fit.n_categories.max(initial=2), fit.n_items, nodes.size), -np.inf)
        found[1], found[0] = log_probabilities_at(np.multiply.outer(fit.a, nodes) + fit.d[:, None], fit.c[:, None])
        for some in fit.curves.others:
            logs = some.model.log_probabilities(nodes, some.parameters(fit.a, fit.d), some.categories)
            found[: logs.shape[2], some.at] = logs.transpose(2, 0, 1)
        return found

    @property
    def credit(self) -> Floats:
        """All scores as shares of the item's maximum score, shape (C, J)."""
        most = self.calibration.n_categories - 1
        return np.arange(most.max(initial=1) + 1)[:, None] / most

    @property
    def free_parameters(self) -> Mask:
        """Whether a parameter was estimated from these responses, for the item alone or for several; shape (P, J)."""
        fit, given = self.calibration, np.isfinite(self.log_probabilities[:, :, 0]).T
        return fit.item_model.free(fit.n_categories, given) & self.estimated_here

    @property
    def own_parameters(self) -> Mask:
        """Whether a parameter was estimated from these responses, for the item alone; shape (P, J)."""
        own, models = self.free_parameters, self.calibration.models
        own[0] &= items_where(models, lambda model: model.own_slopes)
        own[2:] &= ~items_where(models, lambda model: model.block_steps)
        return own

    @property
    def estimated_here(self) -> Mask:
        """Whether an item's parameters were estimated from these responses, shape (J,). False for anchors."""
        return ~np.isin(self.calibration.item_ids, self.calibration.anchored)

    def among_all(self, values: Floats) -> Floats:
        """Extend `values`, shape (J,), to all items, shape (n_all,), with NaN for items without parameters."""
        return spread(values, self.place, self.n_all)

    def subsample(self, most: int, rng: np.random.Generator) -> Self:
        """Return a random sample of `most` persons, or the data itself if it has no more persons."""
        r = self.responses
        if r.n_persons <= most:
            return self
        chosen = np.sort(rng.choice(r.n_persons, most, replace=False))
        abilities = replace(self.abilities, group=self.abilities.group[chosen])
        return replace(self, responses=r.of_persons(chosen), abilities=abilities)

    def on(self, keep: Mask) -> Self:
        """Restrict the data to some of the items; `keep` has shape (J,)."""
        return replace(
            self,
            responses=self.responses.of_items(keep),
            calibration=self.calibration.select(keep),
            place=self.place[keep],
        )

    @property
    def scored_0_and_1(self) -> Self:
        """The data restricted to the items scored 0 and 1, with curves of a, d and c."""
        others = np.isin(np.arange(self.calibration.n_items), self.scored)
        return self.on(~others) if others.any() else self

    def new_answers(self, rng: np.random.Generator) -> Self:
        """Simulate other persons of the same groups, who see the same items and answer by the model."""
        r, fit = self.responses, self.calibration
        place = self.abilities.draw(rng)
        uniform = rng.random(r.n_responses)
        probabilities = probability_at(np.multiply.outer(fit.a, self.abilities.nodes) + fit.d[:, None], fit.c[:, None])
        score = (uniform < probabilities[r.item, place[r.person]]).astype(np.int8)
        if self.scored.size:
            rows = np.flatnonzero(np.isin(r.item, self.scored))
            p = np.exp(self.log_probabilities[:, r.item[rows], place[r.person[rows]]])
            score[rows] = (uniform[rows] < 1 - np.cumsum(p[:-1], axis=0)).sum(axis=0)
        return replace(self, responses=replace(r, score=score))


@dataclass(frozen=True)
class FormPersons:
    """Persons of one group who saw the same items.

    Attributes:
        items: indices of the items, ascending.
        group: index of the group.
        answers: scores, shape (persons, items).
    """

    items: Ints
    group: int
    answers: npt.NDArray[np.int8]

    def evenly_spaced(self, most_items: int) -> Self:
        """Return the form with `most_items` evenly spaced items, or the form itself if it has no more items."""
        if len(self.items) <= most_items:
            return self
        places = np.linspace(0, len(self.items) - 1, most_items).round().astype(int)
        return replace(self, items=self.items[places], answers=self.answers[:, places])


def complete_forms(r: Responses, group: Ints, smallest: int) -> Iterator[FormPersons]:
    """Yield the forms that `smallest` or more persons of one group saw; `group` (N,) is the index of each person's."""
    sets = seen_sets(r)
    n_groups = int(group.max(initial=0)) + 1
    kind = np.where(sets.of_person >= 0, sets.of_person * n_groups + group, -1)
    order = np.argsort(kind, kind="stable")
    kinds, first, count = np.unique(kind[order], return_index=True, return_counts=True)
    for k, begin, n in zip(kinds, first, count, strict=True):
        if k < 0 or n < smallest:
            continue
        persons = order[begin : begin + n]
        length = int(np.diff(sets.row_start)[sets.person[k // n_groups]])
        rows = sets.row_start[persons][:, None] + np.arange(length)
        by_item = np.argsort(r.item[rows], axis=1)
        items = r.item[rows[0]][by_item[0]].astype(np.int64)
        yield FormPersons(items, int(k % n_groups), np.take_along_axis(r.score[rows], by_item, axis=1))
