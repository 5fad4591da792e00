"""Sittings of complete forms, tabled for methods that compare learners of equal score.

Belongs here: which sittings count, the matching score, and the counts by form, score and group that
mantel_haenszel.py, mantel.py and logistic.py read. No statistic here.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.responses import Responses

PART_OF_FORM = 0.5
"""An item belongs to a form when half of its sittings or more have an answer to it."""


@dataclass(frozen=True)
class Sittings:
    """Complete sittings of one form: `group` (S,); `items` (K,), indices into the
    items of the responses; `score` (S, K), and the most that each has, `most`
    (K,)."""

    form: str
    group: Ints
    items: Ints
    score: npt.NDArray[np.int8]
    most: Ints


@dataclass(frozen=True)
class Cells:
    """Sittings of an item by form, matching score and group: `n`, `right` and `squares` are (C, G), C cells: how many,
    and the sums of their scores and of the squares of these; `form` (C,) numbers the forms, `score` (C,) is the
    matching score as a share of the most that can be reached."""

    form: Ints
    score: Floats
    n: Floats
    right: Floats
    squares: Floats


def sittings(responses: Responses, forms: Sequence[str | None], group: Ints) -> tuple[tuple[Sittings, ...], int]:
    """The complete sittings form by form, and how many of the groups' sittings were incomplete.

    Args:
        responses: a learner's answers on a form are one sitting.
        forms: R form ids, one per response; None outside forms.
        group: shape (n_persons,), the group of each learner; below 0 for none, whose sittings are left out.

    A sitting without an answer to an item of its form has no score to be matched by. Whoever wants unanswered items
    to be wrong gives them as wrong.
    """
    labels = sorted({form or "" for form in forms})
    place = {label: k for k, label in enumerate(labels)}
    number = np.array([place[form or ""] for form in forms], dtype=np.int64)
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
            out.append(
                Sittings(label, group[persons[complete]], items, table[complete], responses.n_categories[items] - 1)
            )
    return tuple(out), incomplete


def cells(taken: Sequence[Sittings], item: int, matching: Collection[int], n_groups: int) -> Cells:
    """The sittings of the forms with `item`, matched on the score over `matching` and the item itself.

    The item counts in its own matching score: without it, items without DIF look as if they had it where groups differ
    in ability (Holland & Thayer 1988).
    """
    forms, scores, n = [], [], []
    right: list[Floats] = []
    squares: list[Floats] = []
    for k, sat in enumerate(taken):
        if item not in sat.items:
            continue
        used = np.isin(sat.items, [*matching, item])
        total = sat.score[:, used].sum(axis=1, dtype=np.int64)
        own = sat.score[:, np.flatnonzero(sat.items == item)[0]]
        shape = (int(sat.most[used].sum()) + 1, n_groups)
        place = np.ravel_multi_index((total, sat.group), shape)
        n.append(np.bincount(place, minlength=shape[0] * n_groups).reshape(shape))
        points = own.astype(float)
        for sums, power in ((right, points), (squares, points**2)):
            sums.append(np.bincount(place, power, minlength=shape[0] * n_groups).astype(float).reshape(shape))
        forms.append(np.full(shape[0], k))
        scores.append(np.arange(shape[0]) / (shape[0] - 1))
    if not n:
        none = np.zeros((0, n_groups))
        return Cells(np.empty(0, dtype=np.int64), np.empty(0), none, none, none)
    counts = np.concatenate(n).astype(float)
    return Cells(np.concatenate(forms), np.concatenate(scores), counts, np.concatenate(right), np.concatenate(squares))
