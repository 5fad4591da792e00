"""The sets of items that learners saw, and whether they connect all items. This module contains no item parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels, layout_kernels
from irt_psychometrics.core.arrays import Ints, Mask
from irt_psychometrics.core.errors import DisconnectedDesignError

MANY_ALIKE = 5
"""Minimum number of right and of wrong answers: two items with this many do not agree in all answers by chance."""


class SeenItems(Protocol):
    """The attributes of `Responses` that say which persons saw which items."""

    @property
    def person(self) -> npt.NDArray[np.int32]:
        """Index of each response's person, shape (R,), in ascending order."""

    @property
    def item(self) -> npt.NDArray[np.int32]:
        """Index of each response's item, shape (R,)."""

    @property
    def n_persons(self) -> int:
        """Number of persons, including persons without a response."""

    @property
    def item_ids(self) -> tuple[str, ...]:
        """J names."""

    @property
    def n_items(self) -> int:
        """J."""

    @property
    def n_responses(self) -> int:
        """R."""


@dataclass(frozen=True)
class SeenSets:
    """The S distinct sets of items that persons saw.

    Attributes:
        row_start: shape (n_persons + 1,), the first response of each person.
        of_person: shape (n_persons,), index of the person's set; −1 for a person without a response.
        person: shape (S,), the first person who saw the set.
    """

    row_start: Ints
    of_person: Ints
    person: Ints


def seen_sets(responses: SeenItems) -> SeenSets:
    """Find persons who saw the same items. Sets are distinguished by a 64-bit sum of random keys, one per item.

    The probability that any two different sets among 10⁶ agree by chance is 3e-8.
    """
    row_start = row_starts(responses)
    some = np.flatnonzero(np.diff(row_start))
    code = set_codes(row_start, responses.item, responses.n_items)
    _, representative, inverse = np.unique(code[some], return_index=True, return_inverse=True)
    of_person = np.full(responses.n_persons, -1, dtype=np.int64)
    of_person[some] = inverse
    return SeenSets(row_start, of_person, some[representative])


def set_codes(row_start: Ints, item: npt.NDArray[np.int32], n_items: int) -> npt.NDArray[np.uint64]:
    """A number for the set of items that each person saw, shape (n_persons,); equal sets have equal numbers."""
    code = np.empty(len(row_start) - 1, dtype=np.uint64)
    layout_kernels.hash_rows(row_start, item, set_keys(n_items), code)
    return code


def set_keys(n_items: int) -> npt.NDArray[np.uint64]:
    """Return the random numbers of items, shape (n_items,) or (1,), that are added up in the codes of sets."""
    return np.random.default_rng(61).integers(0, 2**64, size=max(n_items, 1), dtype=np.uint64)


def first_alike(code: npt.NDArray[np.uint64]) -> Ints:
    """The first item with the same `code` of its answers, shape (J,); often the item itself."""
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return first[inverse]


def alike(first: Ints, n: npt.ArrayLike, correct: npt.ArrayLike) -> Mask:
    """Mask of items with the same answers as another item, if these are too many to be alike by chance, shape (J,).

    `first` is the result of `first_alike`. `n` and `correct`, shape (J,), are the answers and correct answers of each
    item, as the fit counts them.
    """
    several = np.bincount(first, minlength=len(first))[first] > 1
    rarer: Mask = np.minimum(correct, np.subtract(n, correct)) >= MANY_ALIKE
    return several & rarer


def row_starts(responses: SeenItems) -> Ints:
    """First rows of the persons, shape (n_persons + 1,): person i has the rows start[i] … start[i + 1] − 1."""
    start = np.empty(responses.n_persons + 1, dtype=np.int64)
    layout_kernels.row_starts(responses.person, start)
    return start


def over_learners(work: Callable[[int, int], object], responses: SeenItems, start: Ints, threads: int | None) -> None:
    """Call `work(first, last)` for consecutive ranges that cover all learners, on `threads` threads.

    If `threads` is None, all processors are used. `start` is the result of `row_starts`. The ranges have about the same
    number of responses, and do not depend on `threads`.
    """
    with kernels.runner(threads) as run:
        if responses.n_persons:
            run(work, kernels.cut(np.diff(start) + 1, min(64, 1 + responses.n_responses // 50_000)))


@dataclass(frozen=True)
class Component:
    """Items linked to each other through learners, and the number of learners who saw any of them."""

    items: tuple[str, ...]
    n_persons: int


@dataclass(frozen=True)
class Links:
    """The connections between items through persons.

    Attributes:
        parent: shape (J,), the forest of a union-find; items with one root are connected.
        persons: shape (J,), the number of persons counted at each item; each person is counted at one item.
    """

    parent: Ints
    persons: Ints

    @classmethod
    def from_item_sets(
        cls, row_start: Ints, item: npt.NDArray[np.int32], n_items: int, person: Ints, alike: Ints
    ) -> Self:
        """Connections through sets of items; each set was seen by the person in `person`, and by `alike` in all."""
        parent = np.arange(n_items)
        layout_kernels.join_items(person, row_start, item, parent)
        return cls(parent, np.bincount(item[row_start[person]], alike, minlength=n_items).astype(np.int64))

    @classmethod
    def union(cls, parts: Sequence[Self]) -> Self:
        """Connections through the persons of all parts."""
        parent = parts[0].parent.copy()
        for part in parts[1:]:
            _join(np.stack([np.arange(len(parent)), part.parent], axis=1), parent)
        return cls(parent, np.sum([part.persons for part in parts], axis=0))

    def components(self, item_ids: Sequence[str], anchored: Mask | None = None) -> list[Component]:
        """See `components`; `anchored` as in `require_connected`."""
        parent = self.parent.copy()
        if anchored is not None and anchored.any():
            _join(np.flatnonzero(anchored)[None], parent)
        label = np.array([layout_kernels.root(parent, j) for j in range(len(parent))], dtype=np.int64)
        persons = np.bincount(label, self.persons, minlength=len(parent))
        names: dict[int, list[str]] = {int(k): [] for k in np.flatnonzero(persons)}
        for j, k in enumerate(label):
            if int(k) in names:
                names[int(k)].append(item_ids[j])
        parts = [Component(tuple(items), int(persons[k])) for k, items in names.items()]
        return sorted(parts, key=lambda part: (-len(part.items), part.items))


def _join(connected: Ints, parent: Ints) -> None:
    """Connect the items of each row."""
    rows, width = connected.shape
    start = np.arange(rows + 1) * width
    layout_kernels.join_items(np.arange(rows), start, connected.astype(np.int32).ravel(), parent)


def components(responses: SeenItems) -> list[Component]:
    """The connected components of the graph of persons and items; the component with most items comes first.

    Items without responses and persons without responses are in no component.
    """
    sets = seen_sets(responses)
    alike = np.bincount(sets.of_person[sets.of_person >= 0], minlength=len(sets.person))
    return Links.from_item_sets(sets.row_start, responses.item, responses.n_items, sets.person, alike).components(
        responses.item_ids
    )


def require_connected(linked: Links, item_ids: Sequence[str], anchored: Mask | None = None) -> None:
    """Raise DisconnectedDesignError, which names the components, if there are two or more.

    `anchored`, shape (J,), marks items with known parameters. They connect everybody who answered any of them.
    """
    parts = linked.components(item_ids, anchored)
    if len(parts) < 2:
        return
    named = "; ".join(
        f"{k + 1}: {len(part.items)} items, {part.n_persons} learners ({', '.join(part.items[:5])}"
        f"{', …' if len(part.items) > 5 else ''})"
        for k, part in enumerate(parts[:5])
    )
    more = f"; and {len(parts) - 5} more" if len(parts) > 5 else ""
    raise DisconnectedDesignError(
        f"the responses fall into {len(parts)} groups that share neither an item nor a learner, so their parameters "
        f"cannot be put on one scale. {named}{more}. Either collect common items or common learners that join them, "
        f"or calibrate each group separately and link it to the scale through anchors."
    )
