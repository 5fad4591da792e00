"""Tables of complete sittings of forms, for methods that compare learners with equal scores.

This module selects the sittings, computes the matching score, and counts by form, score and group for
mantel_haenszel.py, mantel.py and logistic.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.design import seen_sets
from irt_psychometrics.core.responses import Responses

PART_OF_FORM = 0.5
"""An item belongs to a form if at least this share of the form's sittings has an answer to it."""


@dataclass(frozen=True)
class Sittings:
    """S complete sittings of one form with K items.

    Attributes:
        group: shape (S,), index of the learner's group.
        items: shape (K,), indices into the items of the responses.
        score: shape (S, K), scores.
        most: shape (K,), maximum score of each item.
    """

    group: Ints
    items: Ints
    score: npt.NDArray[np.int8]
    most: Ints


@dataclass(frozen=True)
class Cells:
    """Counts of an item's sittings in C cells (form and matching score) by group.

    Attributes:
        form: shape (C,), number of the form.
        score: shape (C,), matching score divided by its maximum.
        n: shape (C, G), number of sittings.
        right: shape (C, G), sum of their scores on the item.
        squares: shape (C, G), sum of the squares of these scores.
    """

    form: Ints
    score: Floats
    n: Floats
    right: Floats
    squares: Floats


def sets_as_forms(responses: Responses, least: int) -> list[str | None]:
    """Return a form for each response: the set of items that the person saw.

    None if fewer than `least` persons saw the same set.
    """
    sets = seen_sets(responses)
    large = np.bincount(sets.of_person[sets.of_person >= 0]) >= least
    names = np.array([str(k) if is_large else None for k, is_large in enumerate(large.tolist())], dtype=object)
    found: list[str | None] = names[sets.of_person[responses.person]].tolist()
    return found


def sittings(responses: Responses, forms: Sequence[str | None], group: Ints) -> tuple[tuple[Sittings, ...], int]:
    """The groups' complete sittings by form, and the number of incomplete sittings.

    Args:
        responses: the responses. A learner's answers on a form are one sitting.
        forms: R form ids, one per response; None for a response outside forms.
        group: shape (n_persons,), index of each learner's group; below 0 for learners without a group, whose sittings
            are omitted.

    A sitting without an answer to an item of its form has no matching score. If unanswered items should count as wrong,
    include them in `responses` as wrong answers.
    """
    labels = sorted({form or "" for form in set(forms)})
    place: dict[str | None, int] = {label: k for k, label in enumerate(labels)}
    place[None] = place.get("", -1)
    number = np.fromiter(map(place.__getitem__, forms), np.int64, len(forms))
    out, incomplete = [], 0
    for k, label in enumerate(labels):
        rows = np.flatnonzero((number == k) & (group[responses.person] >= 0)) if label else np.empty(0, dtype=int)
        if not rows.size:
            continue
        persons, sitting = np.unique(responses.person[rows], return_inverse=True)
        answered = np.bincount(responses.item[rows], minlength=responses.n_items)
        items = np.flatnonzero(answered >= PART_OF_FORM * len(persons))
        table = np.full((len(persons), responses.n_items), -1, dtype=np.int8)
        table[sitting, responses.item[rows]] = responses.score[rows]
        table = table[:, items]
        complete = (table >= 0).all(axis=1)
        incomplete += int((~complete).sum())
        if complete.any():
            out.append(Sittings(group[persons[complete]], items, table[complete], responses.n_categories[items] - 1))
    return tuple(out), incomplete


def cells(taken: Sequence[Sittings], item: int, matching: Collection[int], n_groups: int) -> Cells:
    """Count the sittings of the forms with `item`, by the score on `matching` and the item itself.

    The item is part of its own matching score. Otherwise items without DIF would appear to have it if groups differ in
    ability (Holland & Thayer 1988).
    """
    forms, scores, sums = [np.empty(0, dtype=np.int64)], [np.empty(0)], [np.zeros((3, 0, n_groups))]
    for k, sat in enumerate(taken):
        if item not in sat.items:
            continue
        used = np.isin(sat.items, [*matching, item])
        total = sat.score[:, used].sum(axis=1, dtype=np.int64)
        points = sat.score[:, np.flatnonzero(sat.items == item)[0]].astype(float)
        shape = (int(sat.most[used].sum()) + 1, n_groups)
        place = np.ravel_multi_index((total, sat.group), shape)
        weights = (np.ones_like(points), points, points**2)
        sums.append(np.stack([np.bincount(place, of, shape[0] * n_groups).reshape(shape) for of in weights]))
        forms.append(np.full(shape[0], k))
        scores.append(np.arange(shape[0]) / (shape[0] - 1))
    n, right, squares = np.concatenate(sums, axis=1)
    return Cells(np.concatenate(forms), np.concatenate(scores), n, right, squares)
