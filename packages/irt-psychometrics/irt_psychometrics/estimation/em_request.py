"""Check the request of a fit before it starts: persons, priors, anchors, and the usable answers.

An invalid request raises `PsychometricsError` with the offending values. Nothing is estimated here.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import ItemCurves, items_where, model_of
from irt_psychometrics.core.model_families import THREE_PL, ItemModel
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.priors import RARE_SCORE, STEP_SD, Priors, RareSteps
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.estimation.response_layout import Counts

MIN_PERSONS = 10
"""Minimum number of learners who answered at least two items. With fewer, estimates depend on a handful of answers."""
FAR_ANCHORS = 2.0
"""Distance from 0 of the anchors' mean difficulty beyond which the default quadrature range would miss the learners."""
RULING_SHARE = 0.1
"""If an item with a slope at its bound divides more than this share of the learners, the item has become the ability
scale."""
EVERYONE = "all"
"""The name of the population of a fit without groups."""


class Items(Protocol):
    """The items of a request, with the attributes of `Responses`."""

    @property
    def item_ids(self) -> tuple[str, ...]:
        """J names."""

    @property
    def n_items(self) -> int:
        """J."""

    @property
    def n_categories(self) -> Ints:
        """Number of categories of each item, shape (J,)."""


@dataclass(frozen=True)
class Persons:
    """Group and weight of each person, shape (n_persons,). Groups are numbered as in `names`, the reference first."""

    names: tuple[str, ...]
    group: Ints
    weight: Floats

    @classmethod
    def from_responses(
        cls,
        responses: Responses,
        groups: Sequence[str] | None,
        reference: str | None,
        weights: npt.ArrayLike | None,
        sampling_weights: npt.ArrayLike | None = None,
    ) -> Self:
        N = responses.n_persons
        weight = _weight(responses, weights, sampling_weights)
        if groups is None:
            if reference is not None:
                raise PsychometricsError(f"reference group {reference!r} was named without groups")
            return cls((EVERYONE,), np.zeros(N, dtype=np.int64), weight)
        if len(groups) != N:
            raise PsychometricsError(f"groups must be {N} labels, one per person; got {len(groups)}")
        labels, group = np.unique(np.array([str(label) for label in groups], dtype=object), return_inverse=True)
        if reference is None and N:
            answered = np.bincount(responses.person, minlength=N) > 0
            reference = labels[np.bincount(group, weight * answered).argmax()]
        if reference is not None and reference not in labels:
            raise PsychometricsError(
                f"no person is in the reference group {reference!r}; groups: {some_of(list(labels))}"
            )
        order = np.argsort(labels != reference, kind="stable")
        return cls(tuple(labels[order]), np.argsort(order)[group].astype(np.int64), weight)


def _weight(responses: Responses, weights: npt.ArrayLike | None, sampling_weights: npt.ArrayLike | None) -> Floats:
    """Weight of each person, shape (n_persons,). Counts are unchanged; sampling weights are scaled to a mean of 1 over
    the persons with a response."""
    N = responses.n_persons
    if weights is not None and sampling_weights is not None:
        raise PsychometricsError(
            "weights are counts of persons with the same answers, and sampling_weights are numbers of members of the "
            "population that a person represents: a fit accepts only one of them. Repeat the rows of persons who "
            "represent several, each with its sampling weight"
        )
    if weights is not None:
        weight = _one_per_person("weights", weights, N)
        _require("weights", "finite and not negative", weight, np.isfinite(weight) & (weight >= 0))
        if N and not weight.any():
            raise PsychometricsError(
                f"the weights of all {N} persons are 0, so the fit has no data. Give each person the number of persons "
                "with these answers"
            )
        return weight
    if sampling_weights is None:
        return np.ones(N)
    weight = _one_per_person("sampling_weights", sampling_weights, N)
    _require("sampling_weights", "finite and above 0", weight, np.isfinite(weight) & (weight > 0))
    answered = np.bincount(responses.person, minlength=N) > 0
    return weight / weight[answered].mean() if answered.any() else weight


def _one_per_person(name: str, values: npt.ArrayLike, n_persons: int) -> Floats:
    weight = np.asarray(values, dtype=float)
    if weight.shape != (n_persons,):
        shorter = weight.ndim == 1 and len(weight) < n_persons
        first = f"; person {len(weight)} (counted from 0) is the first without a number" if shorter else ""
        raise PsychometricsError(f"{name} must be {n_persons} numbers, one per person; got shape {weight.shape}{first}")
    return weight


def _require(name: str, requirement: str, weight: Floats, sound: Mask) -> None:
    wrong = np.flatnonzero(~sound)
    if wrong.size:
        raise PsychometricsError(
            f"{name} must be {requirement}; {wrong.size} are not, the first is {weight[wrong[0]]} of person {wrong[0]} "
            "(counted from 0)"
        )


def resolve_priors(model: ItemModel, priors: Priors | None) -> Priors:
    if priors is None:
        return model.default_priors
    for parameter, name, instead in (
        ("a", "slope", " or fit a 1pl or 2pl"),
        ("b", "difficulty", ""),
        ("c", "guessing", " or fit a 3pl"),
    ):
        if parameter not in model.priors_on and getattr(priors, parameter) is not None:
            raise PsychometricsError(
                f"a {model.name} model has no {name} for the prior on {parameter}; leave it out{instead}"
            )
    return priors


def resolve_model(models: Sequence[Model], items: Items, testlets: bool) -> ItemModel:
    """Return the model of the items.

    Raises PsychometricsError if it does not suit the categories of the items or the testlets.
    """
    if len(models) != items.n_items:
        raise PsychometricsError(f"models must be {items.n_items} names, one per item; got {len(models)}")
    found = model_of(models)
    found.require_categories(items.item_ids, items.n_categories)
    if testlets:
        found.require_logistic("an error that holds within testlets")
    return found


def given_parameters(items: Items, anchors: AnchorSet | None, model: ItemModel) -> ItemCurves:
    """Curves of the anchors at their positions among the items; NaN for all other items."""
    if anchors is None:
        unknown = np.full(items.n_items, np.nan)
        return ItemCurves(unknown, unknown, unknown)
    given = anchors.among(items.item_ids).curves
    if not given.known.any():
        raise PsychometricsError(
            f"the answers contain no item of the {len(anchors.item_ids)} anchors of scale {anchors.scale_id} "
            f"({some_of(list(anchors.item_ids))}), so the anchors cannot fix the scale. Fit without anchors and link"
        )
    guessed = given.known & (given.c > 0) & ~model.guessed(items.n_items)
    if guessed.any() and model.path != "logistic":
        raise PsychometricsError(
            f"anchors with guessing among scored items need the model 3pl "
            f"({some_of(list(np.array(items.item_ids, dtype=object)[guessed]))}). Fit these items as 3pl"
        )
    scores = np.full(items.n_items, 2)
    for others in given.others:
        scores[others.at] = others.categories
    wrong = np.flatnonzero(given.known & (scores != items.n_categories))
    if wrong.size:
        j = wrong[0]
        raise PsychometricsError(
            f"the anchor {items.item_ids[j]} has parameters for scores 0 … {scores[j] - 1}, and its answers are scored "
            f"0 … {items.n_categories[j] - 1}. Declare the same maximum score for both"
        )
    held = {j: others.model for others in given.others for j in others.at.tolist()}
    for of, at in model.places(items.n_items).items():
        for j in at[given.known[at]].tolist():
            if _further_names(of, scores[j]) != _further_names(own := held.get(j, THREE_PL), scores[j]):
                raise PsychometricsError(
                    f"the anchor {items.item_ids[j]} has the parameters of a {own.spoken}, and the item's model is "
                    f"{of.spoken}. Fit the item under the model of its anchor"
                )
    return given


def _further_names(model: ItemModel, n_scores: int) -> set[str]:
    """Return the parameters of an item with this number of scores that a, b and c do not determine."""
    is_logistic = model.path == "logistic" or (n_scores == 2 and model.highest_score > 1)
    return set() if is_logistic else {*model.stored_names(n_scores)}


def replace_lacking_scores(responses: Responses, anchors: AnchorSet | None) -> Responses:
    """The responses, with each score that an anchor's parameters lack replaced by the score that it counts as."""
    given = () if anchors is None else anchors.among(responses.item_ids).others
    score = responses.score.copy()
    for others in given:
        place = np.full(responses.n_items, -1)
        place[others.at] = np.arange(len(others.at))
        held = np.flatnonzero(place[responses.item] >= 0)
        as_scored, row = others.counted_as, place[responses.item[held]]
        score[held] = as_scored[row, np.minimum(score[held], as_scored.shape[1] - 1)]
    return replace(responses, score=score) if given else responses


def require_given_scores(items: Items, counts: Counts, given: ItemCurves) -> None:
    """Raise PsychometricsError if answers to anchors have scores without a parameter, which the model gives probability
    0."""
    for others in given.others:
        has = others.model.scores_with_parameters(others.further, others.categories)
        lacking = ~has & (counts.table[others.at, : has.shape[1]] > 0)
        if lacking.any():
            row, score = np.argwhere(lacking)[0]
            raise PsychometricsError(
                f"the anchor {items.item_ids[others.at[row]]} has no parameter for score {score}, which "
                f"{counts.table[others.at[row], score]:.0f} answers have. Replace it by the nearest score that has a "
                "parameter"
            )


def blocks_of_steps(
    item_ids: Sequence[str], models: Sequence[Model], counts: Counts, given: ItemCurves, blocks: Mapping[str, str]
) -> Ints | None:
    """The number of each item's block, shape (J,). The items of a block have their steps in common.

    Items without a block have −1. Returns None if no item has a block. `blocks` maps items to blocks; items of an RSM
    that it does not name form one block.

    Raises PsychometricsError if the items of a block have different scores.
    """
    shares = items_where(models, lambda model: model.block_steps)
    if not shares.any():
        return None
    scores = counts.table > 0
    for others in given.others:
        has = others.model.scores_with_parameters(others.further, others.categories)
        scores[others.at, : has.shape[1]] = has
    labels = np.array([blocks.get(item, "") for item in item_ids], dtype=object)
    numbers = np.full(len(models), -1)
    _, numbers[shares] = np.unique(labels[shares].astype(str), return_inverse=True)
    for block in range(numbers.max() + 1):
        first, *rest = np.flatnonzero(numbers == block).tolist()
        for other in rest:
            if counts.categories[other] != counts.categories[first] or (scores[other] != scores[first]).any():
                first_has, other_has = (", ".join(map(str, np.flatnonzero(scores[j]))) for j in (first, other))
                raise PsychometricsError(
                    f"the items of a block share their steps, but in the block {labels[first] or 'all'!r} "
                    f"{item_ids[first]} has the scores {first_has} of 0 … {counts.categories[first] - 1} and "
                    f"{item_ids[other]} has {other_has} of 0 … {counts.categories[other] - 1}. Give them different "
                    "blocks in the bank, or fit a pcm or gpcm, which has steps for each item"
                )
    return numbers


def rare_steps(item_ids: Sequence[str], own_steps: Mask, counts: Counts) -> RareSteps | None:
    """The prior on steps next to a rare score, for items with `own_steps` (J,). Returns None if there are no such
    items."""
    rare = ((counts.table > 0) & (counts.table < RARE_SCORE)).any(axis=1) & (counts.categories > 2) & own_steps
    return RareSteps(STEP_SD, tuple(itertools.compress(item_ids, rare))) if rare.any() else None


def origin_of(given: ItemCurves) -> float:
    """The median b of the anchors if it is far from 0, else 0. The nodes are centred there."""
    sloped = given.known & (given.a != 0)
    middle = float(np.median(-given.d[sloped] / given.a[sloped])) if sloped.any() else 0.0
    return middle if abs(middle) > FAR_ANCHORS else 0.0


def require_items(items: Items, counts: Counts, keep: Mask, given: ItemCurves, model: ItemModel) -> None:
    """Raise PsychometricsError if too few items can be estimated, or no anchor was answered."""
    if counts.n.sum() == 0:
        raise PsychometricsError("a calibration needs learners who answered items; there are no responses")
    least = model.min_items
    ways = "both correctly and wrongly" if model.highest_score == 1 else "in each of their categories"
    if keep.sum() < least:
        flags = counts.flags(keep, {})
        left_out = [f"{items.item_ids[j]} ({flags[j][0].value})" for j in np.flatnonzero(~keep)]
        because = f"; left out: {some_of(left_out)}" if left_out else ""
        raise PsychometricsError(
            f"a {model.name} model needs at least {least} items that were answered {ways}, "
            f"found {keep.sum()}{because}. With fewer it has more parameters than the answers determine"
        )
    if given.known.any() and not (given.known & keep).any():
        raise PsychometricsError(
            f"no learner answered an anchor ({some_of(list(np.array(items.item_ids, dtype=object)[given.known]))}), "
            f"so the anchors cannot fix the scale. Fit without anchors and link"
        )


def require_persons(informative: Floats, names: Sequence[str]) -> None:
    """Raise PsychometricsError if too few persons of a group answered two or more items. `informative` (G,) is their
    number."""
    if 0 < informative.sum() < MIN_PERSONS:
        raise PsychometricsError(
            f"only {informative.sum():.0f} learners answered two or more items that can be estimated; at least "
            f"{MIN_PERSONS} are needed, and hundreds for errors worth having. Widen the window or collect more answers"
        )
    small = np.flatnonzero(informative < MIN_PERSONS)
    if small.size and len(names) > 1:
        named = [f"{names[g]} ({informative[g]:.0f})" for g in small.tolist()]
        raise PsychometricsError(
            f"{small.size} groups have fewer than {MIN_PERSONS} learners who answered two or more items, too few for "
            f"an ability distribution of their own: {some_of(named)}. Join them to another group or leave them out"
        )


def no_common_scale(slopes: str, names: Iterable[str]) -> str:
    """The reason why a fit is invalid if items with such slopes have become the ability scale."""
    return (
        f"the items do not share an ability scale: {slopes} belong to items that separate more than {RULING_SHARE:.0%} "
        f"of the learners ({some_of(list(names))}), so these answers alone determine θ. Check these items for "
        f"duplicates and dependence"
    )


def same_answers(alike: Sequence[str]) -> str:
    """The reason why a fit is invalid if the items `alike` have the same answers as other items."""
    return (
        f"{len(alike)} items have the same answers by the same learners as another item ({some_of(alike)}): "
        f"they are not independent evidence. Leave out one item of each pair"
    )
