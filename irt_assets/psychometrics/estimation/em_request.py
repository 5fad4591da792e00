"""The request of a fit, checked before it starts: persons, priors, anchors, and the answers that can be used.

Every refusal is a `PsychometricsError` that names what was seen. Nothing here estimates anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.design import row_starts
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Floats, Responses
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.core.priors import GUESSING_PRIOR, Priors
from irt_assets.psychometrics.estimation.parameter_layout import Fixed
from irt_assets.psychometrics.estimation.response_layout import Counts, Ints, Mask

MIN_PERSONS = 10
"""With fewer learners who answered at least two items, every estimate rests on a handful of answers."""
MIN_ITEMS: dict[Model, int] = {"rasch": 2, "1pl": 2, "2pl": 3, "3pl": 4}
"""With fewer items a model has more parameters than there are response patterns, so it has no unique maximum."""
FAR_ANCHORS = 2.0
"""If the anchors' mean difficulty is further than this from 0, the default quadrature range would miss the learners."""
EVERYONE = "all"
"""The name of the population of a fit without groups."""


@dataclass(frozen=True)
class Persons:
    """Group (numbered in the order of `names`, the reference first) and weight of each person, (n_persons,)."""

    names: tuple[str, ...]
    group: Ints
    weight: Floats

    @classmethod
    def of(
        cls, responses: Responses, groups: Sequence[str] | None, reference: str | None, weights: npt.ArrayLike | None
    ) -> Persons:
        N = responses.n_persons
        weight = np.ones(N) if weights is None else np.asarray(weights, dtype=float)
        if weight.shape != (N,):
            raise PsychometricsError(f"weights must be {N} numbers, one per person; got shape {weight.shape}")
        wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
        if wrong.size:
            raise PsychometricsError(
                f"weights must be finite and not negative; {wrong.size} are not, the first is {weight[wrong[0]]} of "
                f"person {wrong[0]} (counted from 0)"
            )
        if groups is None:
            if reference is not None:
                raise PsychometricsError(f"reference group {reference!r} was named without groups")
            return cls((EVERYONE,), np.zeros(N, dtype=np.int64), weight)
        if len(groups) != N:
            raise PsychometricsError(f"groups must be {N} labels, one per person; got {len(groups)}")
        labels, group = np.unique(np.array([str(label) for label in groups], dtype=object), return_inverse=True)
        if reference is None:
            return cls(tuple(labels), group.astype(np.int64), weight)
        if reference not in labels:
            raise PsychometricsError(f"no person is in the reference group {reference!r}; groups: {some(list(labels))}")
        order = np.argsort(labels != reference, kind="stable")
        return cls(tuple(labels[order]), np.argsort(order)[group].astype(np.int64), weight)


def checked_priors(model: Model, priors: Priors | None) -> Priors:
    if priors is None:
        return GUESSING_PRIOR if model == "3pl" else Priors()
    if model == "rasch" and priors.a is not None:
        raise PsychometricsError("a rasch model has no slope for the prior on a; leave it out or fit a 1pl or 2pl")
    if model != "3pl" and priors.c is not None:
        raise PsychometricsError(f"a {model} model has no guessing for the prior on c; leave it out or fit a 3pl")
    return priors


def given_parameters(responses: Responses, anchors: AnchorSet | None) -> Fixed:
    """The anchors' parameters at their places among the items of `responses`, NaN elsewhere."""
    a, d, c = (np.full(responses.n_items, np.nan) for _ in range(3))
    if anchors is not None:
        place = {item: j for j, item in enumerate(responses.item_ids)}
        rows = [k for k, item in enumerate(anchors.item_ids) if item in place]
        if not rows:
            raise PsychometricsError(
                f"none of the {len(anchors.item_ids)} anchors of scale {anchors.scale_id} is among the items answered "
                f"({some(list(anchors.item_ids))}), so they cannot hold its scale. Fit without anchors and link"
            )
        at = [place[anchors.item_ids[k]] for k in rows]
        a[at], d[at], c[at] = anchors.a[rows], -anchors.a[rows] * anchors.b[rows], anchors.c[rows]
    return Fixed(a, d, c)


def origin_of(given: Fixed) -> float:
    """The middle of the anchors where it is far from 0: the nodes are then laid around it."""
    sloped = given.items & (given.a != 0)
    middle = float(np.median(-given.d[sloped] / given.a[sloped])) if sloped.any() else 0.0
    return middle if abs(middle) > FAR_ANCHORS else 0.0


def usable(responses: Responses, counts: Counts, persons: Persons, keep: Mask, given: Fixed, model: Model) -> Responses:
    """Responses to anchors and to items that were answered both ways; raises where they are too few."""
    if counts.n.sum() == 0:
        raise PsychometricsError("a calibration needs learners who answered items, got no responses")
    if keep.sum() < MIN_ITEMS[model]:
        left_out = [f"{responses.item_ids[j]} ({counts.flags(j)[0].value})" for j in np.flatnonzero(~keep)]
        because = f"; left out: {some(left_out)}" if left_out else ""
        raise PsychometricsError(
            f"a {model} model needs at least {MIN_ITEMS[model]} items that were answered both correctly and wrongly, "
            f"found {keep.sum()}{because}. With fewer it has more parameters than the answers determine"
        )
    if given.items.any() and not (given.items & keep).any():
        raise PsychometricsError(
            f"no learner answered an anchor ({some(list(np.array(responses.item_ids, dtype=object)[given.items]))}), "
            f"so they cannot hold the scale. Fit without anchors and link"
        )
    kept = responses if keep.all() else responses.of_items(keep)
    several = np.diff(row_starts(kept)) >= 2
    informative = np.bincount(persons.group[several], persons.weight[several], minlength=len(persons.names))
    if 0 < informative.sum() < MIN_PERSONS:
        raise PsychometricsError(
            f"only {informative.sum():.0f} learners answered two or more items that can be estimated; at least "
            f"{MIN_PERSONS} are needed, and hundreds for errors worth having. Widen the window or collect more answers"
        )
    small = np.flatnonzero(informative < MIN_PERSONS)
    if small.size and len(persons.names) > 1:
        named = [f"{persons.names[g]} ({informative[g]:.0f})" for g in small]
        raise PsychometricsError(
            f"{small.size} groups have fewer than {MIN_PERSONS} learners who answered two or more items, too few for "
            f"an ability distribution of their own: {some(named)}. Join them to another group or leave them out"
        )
    return kept


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
